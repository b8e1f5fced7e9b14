//! Whether an UNLOGGED BATCH in chunks leaves what the whole one leaves in the real Cassandra: without a weir between, where
//! the same batch goes whole to the tables of one keyspace and in chunks to those of another; and through a weir whose rules
//! let it be split.

mod support;
mod support_cql;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Weir, wait_for};
use support_cql::answer::{Answer, Cells, Statement};
use support_cql::raw::{Cql, int};
use support_cql::{SOON, cassandra, counted, create_keyspace, file, keyspace};
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::request::{Batch, BatchStatement, QueryFlags, Request};
use weir_cql::response::{ErrorCode, Prefix, ResultBody};
use weir_cql::{Cursor, Dialect, StreamId, Version, statement, write};
use weir_engine::cql::split::{BatchGather, BatchPlan, BatchWhole, Place, Status, WriteKey};

/// The writes, on tables `t` (one key column) and `u` (two).
const WRITES: [&str; 6] = [
    "INSERT INTO KS.t (v, k, c) VALUES (?, ?, ?)",
    "UPDATE KS.t SET v = ? WHERE k = ? AND c = ?",
    "UPDATE KS.t USING TTL 86400 SET s = ? WHERE k = ?",
    "DELETE FROM KS.t WHERE k = ? AND c = ?",
    "INSERT INTO KS.u (b, a, v) VALUES (?, ?, ?)",
    "DELETE v FROM KS.u WHERE b = ? AND a = ?",
];

/// The same draw of numbers in every run.
fn draw(seed: &mut u32, end: u32) -> i32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    ((*seed >> 16) % end) as i32
}

fn open(node: &str, version: Version) -> Cql {
    Cql::open(node.parse::<std::net::SocketAddr>().expect("an address"), version)
}

/// Prepares a write and finds its key.
fn prepare(cql: &mut Cql, text: &str) -> (Statement, Result<WriteKey, BatchWhole>) {
    let answer = cql.prepare(text).expect_result();
    let prefix = Prefix::locate(cql.version, answer.header.flags, &answer.body).expect("a prefix");
    let mut cursor = Cursor::within(&answer.body, prefix.message);
    let Ok(ResultBody::Prepared(located)) = ResultBody::locate(&mut cursor, Dialect::of(cql.version)) else {
        panic!("not prepared: {text}")
    };
    let key: &[&str] = if text.contains(".u ") { &["a", "b"] } else { &["k"] };
    // v3 does not tell the key: there it must be known
    let known = (cql.version == Version::V3).then_some(key);
    let read = statement::read(text.as_bytes());
    let found = WriteKey::of(text.as_bytes(), &read, &answer.body, &located, known);
    (answer.prepared(), found)
}

/// A batch of prepared statements, each an id and its values.
fn batch(version: Version, kind: u8, parts: &[(&[u8], Vec<Vec<u8>>)], timestamp: Option<i64>) -> Vec<u8> {
    let mut body = vec![kind];
    write::short(&mut body, parts.len() as u16);
    for (id, values) in parts {
        write::byte(&mut body, 1);
        write::short_bytes(&mut body, id);
        write::short(&mut body, values.len() as u16);
        values.iter().for_each(|value| write::bytes(&mut body, value));
    }
    write::short(&mut body, 1);
    let flags = if timestamp.is_some() { QueryFlags::TIMESTAMP } else { 0 };
    match version {
        Version::V5 => write::bits(&mut body, flags),
        _ => write::byte(&mut body, flags as u8),
    }
    timestamp.into_iter().for_each(|micros| write::long(&mut body, micros));
    body
}

fn header(version: Version, body: &[u8]) -> Header {
    Header {
        version,
        flags: Flags::default(),
        stream: StreamId(0),
        opcode: Opcode::Batch,
        body_len: body.len() as u32,
    }
}

fn located(version: Version, body: &[u8]) -> Batch {
    match Request::locate(&header(version, body), body, Dialect::of(version)) {
        Ok(Request::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// Everything in the tables, with when it was written, in an order that does not depend on where it came from.
fn everything(cql: &mut Cql, keyspace: &str) -> Cells {
    let mut cells = cql.query(&format!("SELECT k, c, s, v, writetime(v) FROM {keyspace}.t")).rows();
    cells.extend(cql.query(&format!("SELECT a, b, v, writetime(v) FROM {keyspace}.u")).rows());
    cells.sort();
    cells
}

#[test]
fn a_batch_in_chunks_leaves_what_the_whole_leaves() {
    let Some(node) = cassandra("batches in chunks") else { return };
    let names = [keyspace("batch_whole"), keyspace("batch_chunks")];
    let mut cql = open(&node, Version::V4);
    for name in &names {
        cql.query(&create_keyspace(name)).expect_result();
        let table = "(k int, c int, s int static, v int, PRIMARY KEY (k, c))";
        cql.query(&format!("CREATE TABLE {name}.t {table}")).expect_result();
        cql.query(&format!("CREATE TABLE {name}.u (a int, b int, v int, PRIMARY KEY ((a, b)))"))
            .expect_result();
    }
    let mut seed = 7;
    let mut timestamp = 1_700_000_000_000_000;
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut cql = open(&node, version);
        let prepared =
            names.each_ref().map(|name| WRITES.map(|text| prepare(&mut cql, &text.replace("KS", name))));
        for round in 0..5 {
            let writes: Vec<(usize, Vec<Vec<u8>>)> = (0..80)
                .map(|_| {
                    let which = draw(&mut seed, 6) as usize;
                    let values = WRITES[which].matches('?').map(|_| int(draw(&mut seed, 9)));
                    (which, values.collect())
                })
                .collect();
            let parts = |keyspace: usize| -> Vec<(&[u8], Vec<Vec<u8>>)> {
                let id = |which: usize| &*prepared[keyspace][which].0.id;
                writes.iter().map(|(which, values)| (id(*which), values.clone())).collect()
            };
            timestamp += 1;
            let whole = batch(version, 1, &parts(0), Some(timestamp));
            cql.ask(Opcode::Batch, &whole).expect_result();
            // every other time the client gives no timestamp, and weir would
            let body = batch(version, 1, &parts(1), (round % 2 == 0).then_some(timestamp));
            let place = |statement: &BatchStatement| {
                let id = statement.source.of(&body);
                let known = prepared[1].iter().find(|(statement, _)| statement.id == id);
                let key = known.ok_or(BatchWhole::Unknown)?.1.as_ref().map_err(|whole| *whole)?;
                let (keyspace, key) = (key.keyspace().clone(), key.partition(&body, statement)?);
                Ok(Place { keyspace, key, near: 0, timed: false })
            };
            let size = NonZeroU32::new(7).expect("above 0");
            let dialect = Dialect::of(version);
            let found = located(version, &body);
            let plan =
                BatchPlan::cut(&header(version, &body), &body, &found, dialect, size, Some(timestamp), place);
            let plan = plan.expect("a plan");
            assert!(plan.chunks() > 5, "{}", plan.chunks());
            let mut gather = BatchGather::new(&plan);
            for index in (0..plan.chunks()).rev() {
                let mut chunk = Vec::new();
                plan.write_chunk(&body, index, &mut chunk);
                let answer = cql.ask(Opcode::Batch, &chunk).expect_result();
                gather.take(index, &answer.header, &answer.body).expect("void");
            }
            assert_eq!(gather.status(), Status::Done);
            let left = everything(&mut cql, &names[0]);
            assert!(left.len() > 30, "{} rows", left.len());
            assert_eq!(everything(&mut cql, &names[1]), left, "{} round {round}", version.name());
        }
    }
    names.iter().for_each(|name| drop(cql.query(&format!("DROP KEYSPACE {name}")).expect_result()));
}

/// Writes whose partition is not one that is bound, and those that must not be carried out twice: with what the node says
/// to their PREPARE.
#[test]
fn writes_that_keep_a_batch_whole() {
    let Some(node) = cassandra("batches that stay whole") else { return };
    let name = keyspace("batch_kinds");
    let mut cql = open(&node, Version::V4);
    cql.query(&create_keyspace(&name)).expect_result();
    cql.query(&format!("CREATE TABLE {name}.n (k int PRIMARY KEY, n counter)")).expect_result();
    cql.query(&format!("CREATE TABLE {name}.t (k int PRIMARY KEY, v int)")).expect_result();
    let (_, key) = prepare(&mut cql, &format!("UPDATE {name}.n SET n = n + ? WHERE k = ?"));
    assert_eq!(key, Err(BatchWhole::Counter));
    for (text, expected) in [
        ("INSERT INTO KS.t (k, v) VALUES (?, ?) IF NOT EXISTS", BatchWhole::Conditional),
        ("INSERT INTO KS.t (k, v) VALUES (3, ?)", BatchWhole::NoKey),
        ("UPDATE KS.t SET v = ? WHERE k IN ?", BatchWhole::NoKey),
        ("UPDATE KS.t SET v = ? WHERE k IN (?, ?)", BatchWhole::NoKey),
        ("SELECT v FROM KS.t WHERE k = ?", BatchWhole::NotWrite),
    ] {
        let (_, key) = prepare(&mut cql, &text.replace("KS", &name));
        assert_eq!(key, Err(expected), "{text}");
    }
    cql.query(&format!("DROP KEYSPACE {name}")).expect_result();
}

/// Rows of a big batch, and the partitions they are in.
const ROWS: i32 = 5_000;
const PARTITIONS: i32 = 4_000;
const SPLITS: &str = "weir_cql_splits_total";
const UNSPLIT: &str = "weir_cql_unsplit_total";

/// weir in front of the node, where batches on the table `t` of this keyspace are split, those on `other` not.
fn weir_with_rule(node: &str, name: &str, rule: &str) -> Weir {
    let mut direct = open(node, Version::V4);
    direct.query(&create_keyspace(name)).expect_result();
    for table in ["t", "other"] {
        let columns = "(k int, c int, v int, PRIMARY KEY (k, c))";
        direct.query(&format!("CREATE TABLE {name}.{table} {columns}")).expect_result();
    }
    let rule = format!("[cluster.main.rule.batches]\ntable = \"{name}.t\"\nsplit_batches = true\n{rule}");
    Weir::with_config(&file(node, "", &rule), &[])
}

fn through(weir: &Weir, version: Version) -> Cql {
    Cql::open(([127, 0, 0, 1], weir.port), version)
}

/// A batch of that many rows, each a partition key, a clustering key and a value; bytes of the value of one row may be odd.
fn rows_of(version: Version, id: &[u8], timestamp: Option<i64>, odd: Option<i32>) -> Vec<u8> {
    let row = |n: i32| {
        let value = if odd == Some(n) { vec![1, 2, 3] } else { int(n) };
        (id, vec![int(n % PARTITIONS), int(n), value])
    };
    let parts: Vec<(&[u8], Vec<Vec<u8>>)> = (0..ROWS).map(row).collect();
    batch(version, 1, &parts, timestamp)
}

fn warnings(answer: &Answer) -> Vec<String> {
    let prefix = Prefix::locate(answer.header.version, answer.header.flags, &answer.body).expect("a prefix");
    prefix.warnings(&answer.body).map(|words| String::from_utf8_lossy(words).into_owned()).collect()
}

/// How many rows there are, and when they were written.
fn written(node: &str, table: &str) -> (usize, BTreeSet<i64>) {
    let rows = open(node, Version::V4).query(&format!("SELECT k, c, v, writetime(v) FROM {table}")).rows();
    let times = rows.iter().map(|row| {
        let [k, c, v] = [0, 1, 2].map(|at| row[at].clone().expect("a value"));
        let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
        assert_eq!((number(&c) % PARTITIONS, &c), (number(&k), &v), "what was asked");
        i64::from_be_bytes(row[3].as_deref().expect("a time").try_into().expect("eight bytes"))
    });
    (rows.len(), times.collect())
}

fn drop_keyspace(node: &str, name: &str) {
    open(node, Version::V4).query(&format!("DROP KEYSPACE {name}")).expect_result();
}

#[test]
fn five_thousand_rows_go_in_parts_at_one_time_and_without_a_warning() {
    let Some(node) = cassandra("a batch of 5,000 rows through weir") else { return };
    let name = keyspace("batch_split");
    let weir = weir_with_rule(&node, &name, "");
    let insert = |table: &str| format!("INSERT INTO {name}.{table} (k, c, v) VALUES (?, ?, ?)");
    // what the node says to it whole
    let mut direct = open(&node, Version::V4);
    let whole = direct.prepare(&insert("other")).prepared();
    let told = direct.ask(Opcode::Batch, &rows_of(Version::V4, &whole.id, Some(1), None));
    assert!(told.expect_error().1.contains("Batch too large"), "there is something to be rid of: {told:?}");

    for (round, version) in (1..).zip([Version::V4, Version::V5, Version::V3]) {
        let timestamp = 1_700_000_000_000_000 + i64::from(round);
        let mut cql = through(&weir, version);
        let id = cql.prepare(&insert("t")).prepared().id;
        let answer = cql.ask(Opcode::Batch, &rows_of(version, &id, Some(timestamp), None)).expect_result();
        assert_eq!(warnings(&answer), [""; 0], "{}", version.name());
        let (rows, times) = written(&node, &format!("{name}.t"));
        assert_eq!((rows, times), (ROWS as usize, BTreeSet::from([timestamp])), "{}", version.name());
        counted(&weir, SPLITS, &[("cluster", "main"), ("outcome", "ok")], f64::from(round));
    }
    // a table without a rule, in the same batch: as the client sent it
    let mut cql = through(&weir, Version::V4);
    let (t, other) = (cql.prepare(&insert("t")).prepared(), cql.prepare(&insert("other")).prepared());
    let parts: Vec<(&[u8], Vec<Vec<u8>>)> = (0..40)
        .map(|n| (if n % 2 == 0 { &*t.id } else { &*other.id }, vec![int(n), int(n), int(n)]))
        .collect();
    let answer = cql.ask(Opcode::Batch, &batch(Version::V4, 1, &parts, Some(9))).expect_result();
    assert!(warnings(&answer)[0].contains("Unlogged batch covering"), "{:?}", warnings(&answer));
    counted(&weir, UNSPLIT, &[("cause", "batch_no_rule")], 1.0);
    drop_keyspace(&node, &name);
}

#[test]
fn a_batch_without_timestamps_is_split_where_weir_may_stamp_it() {
    let Some(node) = cassandra("batches that weir stamps") else { return };
    for (rule, stamps) in [("", false), ("stamp_timestamps = true\n", true)] {
        let name = keyspace(if stamps { "batch_stamped" } else { "batch_unstamped" });
        let weir = weir_with_rule(&node, &name, rule);
        let mut cql = through(&weir, Version::V5);
        let insert = format!("INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)");
        let id = cql.prepare(&insert).prepared().id;
        let micros = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            i64::try_from(since.as_micros()).expect("small")
        };
        let before = micros();
        let answer = cql.ask(Opcode::Batch, &rows_of(Version::V5, &id, None, None));
        let (rows, times) = written(&node, &format!("{name}.t"));
        if stamps {
            answer.expect_result();
            assert_eq!((rows, times.len()), (ROWS as usize, 1), "{times:?}");
            let time = *times.first().expect("one");
            assert!((before - 1_000..=micros() + 1_000).contains(&time), "{before} {time} {}", micros());
            counted(&weir, SPLITS, &[("cluster", "main"), ("outcome", "ok")], 1.0);
        } else {
            counted(&weir, UNSPLIT, &[("cause", "batch_no_timestamp")], 1.0);
            assert!(weir.series(SPLITS, &[("cluster", "main"), ("outcome", "ok")]).unwrap_or(0.0) == 0.0);
        }
        drop_keyspace(&node, &name);
    }
}

/// A value that is no int: the node refuses the statement, and with it what is in the same message.
#[test]
fn an_error_of_one_part_is_told_and_the_others_stay_carried_out() {
    let Some(node) = cassandra("a part of a batch that the node refuses") else { return };
    let name = keyspace("batch_error");
    let weir = weir_with_rule(&node, &name, "");
    let mut cql = through(&weir, Version::V4);
    let id = cql.prepare(&format!("INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)")).prepared().id;
    let answer = cql.ask(Opcode::Batch, &rows_of(Version::V4, &id, Some(5), Some(2_000)));
    let (code, words) = answer.expect_error();
    assert_eq!(code, ErrorCode::INVALID, "{words}");
    assert!(words.contains("byte int"), "the node's own words: {words}");
    counted(&weir, SPLITS, &[("cluster", "main"), ("outcome", "error")], 1.0);
    let (rows, times) = written(&node, &format!("{name}.t"));
    assert!(rows > 1_000 && rows < ROWS as usize, "{rows} rows, in the order of the parts");
    assert_eq!(times, BTreeSet::from([5]));
    // the connection goes on, and the batch without it is done
    cql.ask(Opcode::Batch, &rows_of(Version::V4, &id, Some(6), None)).expect_result();
    assert_eq!(written(&node, &format!("{name}.t")), (ROWS as usize, BTreeSet::from([6])));
    drop_keyspace(&node, &name);
}

#[test]
fn a_batch_above_the_ceiling_is_refused_by_name() {
    let Some(node) = cassandra("a batch above the ceiling") else { return };
    let name = keyspace("batch_ceiling");
    let rule = "[callers.loader]\nlistener = \"cql\"\noperations_per_request = 2_000\nmode = \"refuse\"\n";
    let weir = weir_with_rule(&node, &name, rule);
    let mut cql = through(&weir, Version::V4);
    let id = cql.prepare(&format!("INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)")).prepared().id;
    let answer = cql.ask(Opcode::Batch, &rows_of(Version::V4, &id, Some(5), None));
    let (code, words) = answer.expect_error();
    assert_eq!(code, ErrorCode::INVALID, "{words}");
    for part in ["operations_per_request", "loader", "5000", "2000"] {
        assert!(words.contains(part), "no {part} in: {words}");
    }
    assert_eq!(written(&node, &format!("{name}.t")).0, 0);
    drop_keyspace(&node, &name);
}

/// Which partition a text is about is told by the columns that weir read from the cluster, and by the literal.
#[test]
fn texts_are_split_by_their_literals() {
    let Some(node) = cassandra("a batch of texts through weir") else { return };
    let name = keyspace("batch_texts");
    let weir = weir_with_rule(&node, &name, "");
    let mut cql = through(&weir, Version::V5);
    let insert = cql.prepare(&format!("INSERT INTO {name}.t (k, c, v) VALUES (?, ?, ?)")).prepared();
    let mut body = vec![1];
    write::short(&mut body, 200);
    for n in 0..100 {
        write::byte(&mut body, 0);
        write::bytes(&mut body, format!("UPDATE {name}.t SET v = {n} WHERE k = {n} AND c = {n}").as_bytes());
        write::short(&mut body, 0);
        // the same partition, bound
        write::byte(&mut body, 1);
        write::short_bytes(&mut body, &insert.id);
        write::short(&mut body, 3);
        [n, n + PARTITIONS, n + PARTITIONS].iter().for_each(|value| write::bytes(&mut body, &int(*value)));
    }
    write::short(&mut body, 1);
    write::bits(&mut body, QueryFlags::TIMESTAMP);
    write::long(&mut body, 77);
    // the control connection may still be reading the schema
    wait_for("it is split", SOON, || {
        let answer = cql.ask(Opcode::Batch, &body).expect_result();
        let split = weir.series(SPLITS, &[("cluster", "main"), ("outcome", "ok")]);
        split.filter(|count| *count >= 1.0).map(|_| assert_eq!(warnings(&answer), [""; 0]))
    });
    assert_eq!(written(&node, &format!("{name}.t")), (200, BTreeSet::from([77])));
    drop_keyspace(&node, &name);
}
