//! Whether an UNLOGGED BATCH in chunks leaves what the whole one leaves in the real Cassandra, without a weir between:
//! the same batch goes whole to the tables of one keyspace and in chunks to those of another.

mod support;
mod support_cql;

use std::num::NonZeroU32;
use support_cql::answer::{Cells, Statement};
use support_cql::raw::{Cql, int};
use support_cql::{cassandra, create_keyspace, keyspace};
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::request::{Batch, BatchStatement, QueryFlags, Request};
use weir_cql::response::{Prefix, ResultBody};
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
