//! Whether a split `IN` is what the node itself answers, asked of the real Cassandra without a weir between: chunks are
//! cut, sent and joined here with the engine's own functions and compared with the answer to the whole, for each type of
//! key. And what the server accepts at PREPARE, which the choice of statements rests on.

mod support;
mod support_cql;

use std::num::NonZeroU32;
use support_cql::answer::Statement;
use support_cql::raw::{Cql, With, int};
use support_cql::{cassandra, create_keyspace, keyspace};
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::key::KeyType;
use weir_cql::request::{Change, Execute, ExecuteEdit, ParameterEdit, Request};
use weir_cql::response::{Prefix, ResultBody};
use weir_cql::{Consistency, Cursor, Dialect, StreamId, Version, statement, write};
use weir_engine::cql::split::{
    BoundedForm, Bounds, Chunk, Gather, InSplit, ListForm, PageKey, Pages, Plan, Status, Uncut, Whole,
};

const TYPES: [(&str, KeyType); 18] = [
    ("ascii", KeyType::Ascii),
    ("text", KeyType::Text),
    ("blob", KeyType::Blob),
    ("boolean", KeyType::Boolean),
    ("tinyint", KeyType::Tinyint),
    ("smallint", KeyType::Smallint),
    ("int", KeyType::Int),
    ("bigint", KeyType::Bigint),
    ("varint", KeyType::Varint),
    ("decimal", KeyType::Decimal),
    ("float", KeyType::Float),
    ("double", KeyType::Double),
    ("timestamp", KeyType::Timestamp),
    ("date", KeyType::Date),
    ("time", KeyType::Time),
    ("uuid", KeyType::Uuid),
    ("timeuuid", KeyType::Timeuuid),
    ("inet", KeyType::Inet),
];

/// Numbers that look drawn, the same in every run.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A value of the type, in its only form.
    fn key(&mut self, kind: KeyType) -> Vec<u8> {
        match kind {
            KeyType::Ascii => {
                self.bytes(1 + self.0 as usize % 4).iter().map(|byte| b'A' + byte % 60).collect()
            }
            KeyType::Text => {
                let letters = ['a', 'Z', 'é', '\u{7ff}', '\u{ffee}', '\u{10348}', ' '];
                (0..=self.below(3)).map(|_| letters[self.below(7)]).collect::<String>().into_bytes()
            }
            KeyType::Blob => {
                let length = 1 + self.below(4);
                self.bytes(length)
            }
            KeyType::Boolean => vec![self.next() as u8 & 1],
            KeyType::Tinyint => self.bytes(1),
            KeyType::Smallint => self.bytes(2),
            KeyType::Int | KeyType::Date => self.bytes(4),
            KeyType::Bigint | KeyType::Timestamp => self.bytes(8),
            KeyType::Time => (self.next() % 86_400_000_000_000).to_be_bytes().to_vec(),
            KeyType::Varint => {
                let length = 1 + self.below(12);
                minimal(self.bytes(length))
            }
            KeyType::Decimal => {
                // an odd last digit: no two of these are the same number with different scales
                let unscaled = (self.next() as i32 / 10 * 10 + 1).to_be_bytes().to_vec();
                [int(self.below(9) as i32 - 4), minimal(unscaled)].concat()
            }
            KeyType::Float => {
                let special = [0.0_f32, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE];
                let drawn = f32::from_bits(self.next() as u32);
                let drawn = if drawn.is_nan() { 1.5 } else { drawn };
                special.get(self.below(20)).copied().unwrap_or(drawn).to_be_bytes().to_vec()
            }
            KeyType::Double => {
                let special = [0.0_f64, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE];
                let drawn = f64::from_bits(self.next());
                let drawn = if drawn.is_nan() { 1.5 } else { drawn };
                special.get(self.below(20)).copied().unwrap_or(drawn).to_be_bytes().to_vec()
            }
            KeyType::Uuid => self.bytes(16),
            KeyType::Timeuuid => {
                let mut bytes = self.bytes(16);
                bytes[6] = bytes[6] & 0x0f | 0x10;
                bytes
            }
            KeyType::Inet => {
                let length = if self.below(2) == 0 { 4 } else { 16 };
                self.bytes(length)
            }
        }
    }
}

/// A number without bytes it does not need.
fn minimal(bytes: Vec<u8>) -> Vec<u8> {
    let spare =
        |pair: &[u8]| matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xff, 0x80..=0xff]);
    let skipped = bytes.windows(2).take_while(|pair| spare(pair)).count();
    bytes[skipped..].to_vec()
}

fn list(keys: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = int(keys.len() as i32);
    keys.iter().for_each(|key| write::bytes(&mut bytes, key));
    bytes
}

/// A statement and the decision about it.
struct Prepared {
    statement: Statement,
    split: Result<InSplit, Whole>,
}

/// Prepares a text; `Err` is what the server says against it.
fn prepare(cql: &mut Cql, text: &str, key: Option<&[&str]>) -> Result<Prepared, String> {
    let answer = cql.prepare(text);
    if let Some((_, words)) = answer.error() {
        return Err(words);
    }
    let prefix = Prefix::locate(cql.version, answer.header.flags, &answer.body).expect("a prefix");
    let mut cursor = Cursor::within(&answer.body, prefix.message);
    let Ok(ResultBody::Prepared(located)) = ResultBody::locate(&mut cursor, Dialect::of(cql.version)) else {
        panic!("not prepared: {text}")
    };
    let read = statement::read(text.as_bytes());
    let split = InSplit::of(text.as_bytes(), &read, &answer.body, &located, cql.version, key);
    Ok(Prepared { statement: answer.prepared(), split })
}

/// An answer as a client sees it.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    rows: Vec<Vec<Option<Vec<u8>>>>,
    columns: Vec<u8>,
    state: Option<Vec<u8>>,
}

fn page(version: Version, flags: Flags, body: &[u8]) -> Page {
    let prefix = Prefix::locate(version, flags, body).expect("a prefix");
    let result = ResultBody::locate(&mut Cursor::within(body, prefix.message), Dialect::of(version));
    let Ok(ResultBody::Rows(rows)) = result else { panic!("no rows: {result:?}") };
    let cells = |row: weir_cql::response::rows::Row| {
        row.values(body).map(|value| value.of(body).map(<[u8]>::to_vec)).collect()
    };
    let found: Vec<Vec<Option<Vec<u8>>>> = rows.iter(body).map(cells).collect();
    assert_eq!(found.len(), rows.count as usize);
    Page {
        rows: found,
        columns: rows.metadata.columns.span.of(body).to_vec(),
        state: rows.metadata.paging_state.map(|state| state.of(body).expect("a state").to_vec()),
    }
}

fn execute_header(version: Version, body: &[u8]) -> Header {
    Header {
        version,
        flags: Flags::default(),
        stream: StreamId(0),
        opcode: Opcode::Execute,
        body_len: body.len() as u32,
    }
}

fn located(version: Version, body: &[u8]) -> Execute {
    match Request::locate(&execute_header(version, body), body, Dialect::of(version)) {
        Ok(Request::Execute(execute)) => execute,
        other => panic!("{other:?}"),
    }
}

/// The body with another page state.
fn with_state(version: Version, body: &[u8], state: Option<&[u8]>) -> Vec<u8> {
    let parameters =
        ParameterEdit { paging_state: state.map_or(Change::Remove, Change::Set), ..ParameterEdit::default() };
    let mut out = Vec::new();
    let edit = ExecuteEdit { parameters, ..ExecuteEdit::default() };
    located(version, body).rewrite(body, &edit, &mut out);
    out
}

/// Every page of the request sent whole.
fn whole(cql: &mut Cql, body: &[u8]) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let state = pages.last().and_then(|page| page.state.clone());
        let body = with_state(cql.version, body, state.as_deref());
        let answer = cql.ask(Opcode::Execute, &body).expect_result();
        pages.push(page(cql.version, answer.header.flags, &answer.body));
        if pages.last().is_some_and(|page| page.state.is_none()) {
            return pages;
        }
    }
}

/// Every page of the request in chunks; answers are joined from the last of each four to the first. Where the statement
/// binds its limit, chunks of a client that pages are asked for one row more than a page first, without pages.
fn split(cql: &mut Cql, split: &InSplit, body: &[u8], chunk_keys: u32) -> Vec<Page> {
    let (version, key) = (cql.version, PageKey::of_cluster("test"));
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let state = pages.last().and_then(|page| page.state.clone());
        let body = with_state(version, body, state.as_deref());
        let (header, execute) = (execute_header(version, &body), located(version, &body));
        let chunk_keys = NonZeroU32::new(chunk_keys).expect("above 0");
        let states = Pages { key: &key, statement: execute.id.of(&body) };
        let plan = Plan::cut(split, &header, &body, &execute, Dialect::of(version), chunk_keys, &states);
        let plan = plan.expect("a plan");
        let mut gather = Gather::new(&plan, Bounds::default());
        let mut next = 0;
        while gather.status() == Status::Open {
            let mut answers = Vec::new();
            for index in next..plan.chunks().min(next + 4) {
                let mut body = Vec::new();
                let (page_size, left) = (plan.page_size().map(|size| size as i32), gather.limit_left());
                let paged = Chunk { page_size, limit_left: left, state: plan.state_of(index) };
                let bound = page_size.filter(|_| plan.can_limit() && paged.state.is_none());
                let bound = bound.map(|size| (size as u64 + 1).min(left.unwrap_or(u64::MAX)));
                let bounded = Chunk { limit_left: bound, ..Chunk::default() };
                plan.write_chunk(index, if bound.is_some() { &bounded } else { &paged }, &mut body);
                answers.push((index, bound, cql.ask(Opcode::Execute, &body)));
            }
            next += answers.len() as u32;
            for (index, bound, answer) in answers.into_iter().rev() {
                let short = |bound| gather.is_cut_short(&answer.header, &answer.body, bound);
                let answer = if bound.is_some_and(short) {
                    let page_size = plan.page_size().map(|size| size as i32);
                    let mut body = Vec::new();
                    plan.write_chunk(index, &Chunk { page_size, ..Chunk::default() }, &mut body);
                    cql.ask(Opcode::Execute, &body)
                } else {
                    answer
                };
                gather.take(index, &answer.header, &answer.body).expect("agreed");
            }
        }
        assert_eq!(gather.status(), Status::Done, "{:?}", gather.error());
        let joined = gather.finish(&plan, &key).expect("done");
        pages.push(page(version, joined.flags(), joined.body()));
        if pages.last().is_some_and(|page| page.state.is_none()) {
            return pages;
        }
    }
}

/// Compares, with and without pages; how many rows there were.
#[track_caller]
fn same(cql: &mut Cql, prepared: &Prepared, values: &[Vec<u8>], chunk_keys: u32, what: &str) -> usize {
    let decided = prepared.split.unwrap_or_else(|whole| panic!("{what}: {whole:?}"));
    let form = BoundedForm::of(what.as_bytes(), &statement::read(what.as_bytes())).ok();
    let form = form.map(|form| {
        let own = prepare(cql, std::str::from_utf8(&form.text).expect("text"), None).expect("prepared");
        assert_eq!(own.statement.result_id, prepared.statement.result_id, "the same columns");
        (form, own)
    });
    let mut count = 0;
    for page_size in [None, Some(3), Some(50)] {
        let body = cql.execute_body(
            &prepared.statement,
            &With { values: values.to_vec(), page_size, ..With::default() },
        );
        let whole = whole(cql, &body);
        let split = split(cql, &decided, &body, chunk_keys);
        let rows = |pages: &[Page]| pages.iter().flat_map(|page| page.rows.clone()).collect::<Vec<_>>();
        let version = cql.version.name();
        assert_eq!(rows(&split), rows(&whole), "{what}, pages of {page_size:?}, {version}");
        assert!(split.iter().all(|page| page.columns == whole[0].columns), "{what}");
        assert!(split.len() <= whole.len(), "{what}: no more pages than of the whole");
        count = rows(&whole).len();
        // the same with a limit of weir's; in v3 the key of some is not known
        let Some((form, own)) = &form else { continue };
        let Ok(decided) = own.split else {
            assert_eq!(cql.version, Version::V3, "{what}");
            continue;
        };
        let body =
            form.execute(&body, &located(cql.version, &body), Dialect::of(cql.version), &own.statement.id);
        let bounded = self::split(cql, &decided, &body.expect("written"), chunk_keys);
        assert_eq!(rows(&bounded), rows(&whole), "{what} with a limit, pages of {page_size:?}, {version}");
    }
    count
}

fn open(node: &str, version: Version) -> Cql {
    Cql::open(node.parse::<std::net::SocketAddr>().expect("an address"), version)
}

#[test]
fn split_rows_are_the_nodes_for_every_type_of_key() {
    let Some(node) = cassandra("the order of every type of key") else { return };
    let keyspace = keyspace("split_order");
    let mut cql = open(&node, Version::V5);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    let mut draw = Draw(1);
    for (name, kind) in TYPES {
        let table = format!("{keyspace}.t_{name}");
        cql.query(&format!(
            "CREATE TABLE {table} (k {name}, c int, s int static, v text, PRIMARY KEY (k, c))"
        ))
        .expect_result();
        let insert = cql.prepare(&format!("INSERT INTO {table} (k, c, s, v) VALUES (?, ?, ?, ?)")).prepared();
        let mut keys: Vec<Vec<u8>> = (0..60).map(|_| draw.key(kind)).collect();
        for (at, key) in keys.iter().enumerate().skip(8) {
            for c in 0..=(at % 3) as i32 {
                let values = [key.clone(), int(c), int(at as i32), format!("row {at}.{c}").into_bytes()];
                cql.execute(&insert, &With::values(&values)).expect_result();
            }
        }
        // eight that are mostly in no row, and repeated ones, in any order
        for _ in 0..20 {
            let again = keys[draw.below(60)].clone();
            let place = draw.below(keys.len());
            keys.insert(place, again);
        }
        let chunk_keys = if kind == KeyType::Boolean { 1 } else { 7 };
        for version in [Version::V3, Version::V4, Version::V5] {
            let mut cql = open(&node, version);
            for (selection, more) in [
                ("k, c, v, s, token(k)", ""),
                ("*", " LIMIT 2"),
                ("*", " LIMIT 61"),
                ("k, c", " PER PARTITION LIMIT 2 LIMIT 33"),
            ] {
                let text = format!("SELECT {selection} FROM {table} WHERE k IN ?{more}");
                let prepared = prepare(&mut cql, &text, None).expect("prepared");
                // types that v3 does not have are told by the name of a Java class
                let newer = matches!(name, "date" | "time" | "smallint" | "tinyint");
                if version == Version::V3 && newer {
                    assert_eq!(prepared.split, Err(Whole::KeyType), "{text}");
                    continue;
                }
                let rows = same(&mut cql, &prepared, &[list(&keys)], chunk_keys, &text);
                assert!(rows >= 2, "{text}: {rows} rows");
            }
        }
    }
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn split_rows_are_the_nodes_for_every_form_of_statement() {
    let Some(node) = cassandra("forms of split statements") else { return };
    let keyspace = keyspace("split_forms");
    let mut cql = open(&node, Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    let table = format!("{keyspace}.t");
    cql.query(&format!(
        "CREATE TABLE {table} (p1 int, p2 text, c int, d int, s int static, v text, \
         PRIMARY KEY ((p1, p2), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC)"
    ))
    .expect_result();
    let insert = cql
        .prepare(&format!("INSERT INTO {table} (p1, p2, c, d, s, v) VALUES (?, ?, ?, ?, ?, ?)"))
        .prepared();
    let (mut numbers, mut words) = (Vec::new(), Vec::new());
    for at in 0..40_i32 {
        let p1 = int(if at % 2 == 0 { at - 20 } else { 7 });
        let p2 = if at % 2 == 0 { b"same".to_vec() } else { format!("{:b}", at).into_bytes() };
        for (c, d) in [(1, 1), (1, 2), (2, 1)] {
            let values = [p1.clone(), p2.clone(), int(c), int(d), int(at), b"text".to_vec()];
            cql.execute(&insert, &With::values(&values)).expect_result();
        }
        if at % 2 == 0 {
            numbers.push(p1);
        } else {
            words.push(p2);
        }
    }
    numbers.reverse();
    words.rotate_left(7);
    let (numbers, words) = (list(&numbers), list(&words));
    let (same_word, seven) = (b"same".to_vec(), int(7));
    for (text, values) in [
        ("SELECT * FROM t WHERE p1 IN ? AND p2 = ?", vec![&numbers, &same_word]),
        ("SELECT * FROM t WHERE p2 = ? AND p1 IN ? LIMIT 31", vec![&same_word, &numbers]),
        ("SELECT p2, v FROM t WHERE p1 = ? AND p2 IN ?", vec![&seven, &words]),
        ("SELECT * FROM t WHERE p1 = ? AND p2 IN ? AND c = ?", vec![&seven, &words, &int(1)]),
        (
            "SELECT * FROM t WHERE p1 = ? AND p2 IN ? AND c < ? LIMIT ?",
            vec![&seven, &words, &int(2), &int(17)],
        ),
        (
            "SELECT * FROM t WHERE p1 = ? AND p2 IN :words PER PARTITION LIMIT ?",
            vec![&seven, &words, &int(2)],
        ),
        ("SELECT JSON * FROM t WHERE p1 = ? AND p2 IN ?", vec![&seven, &words]),
        ("SELECT DISTINCT p1, p2, s FROM t WHERE p1 = ? AND p2 IN ?", vec![&seven, &words]),
        (
            "SELECT v, writetime(v), ttl(v), token(p1, p2) FROM t WHERE p1 = ? AND p2 IN ?",
            vec![&seven, &words],
        ),
        ("SELECT CAST(c AS text) AS x FROM t WHERE p1 = ? AND p2 IN ?", vec![&seven, &words]),
    ] {
        let values: Vec<Vec<u8>> = values.into_iter().cloned().collect();
        let text = text.replace(" t ", &format!(" {table} "));
        for version in [Version::V4, Version::V5] {
            let mut cql = open(&node, version);
            let prepared = prepare(&mut cql, &text, None).expect("prepared");
            let rows = same(&mut cql, &prepared, &values, 3, &text);
            assert!(rows >= 17, "{text}: {rows} rows");
        }
        // v3 tells no key of the partition: it must be known
        let mut cql = open(&node, Version::V3);
        assert_eq!(prepare(&mut cql, &text, None).expect("prepared").split, Err(Whole::NotTheKey));
        let prepared = prepare(&mut cql, &text, Some(&["p1", "p2"])).expect("prepared");
        same(&mut cql, &prepared, &values, 3, &text);
    }
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

/// `IN (?, ?, ...)` sent whole, and its list form in chunks.
#[test]
fn a_marker_for_each_key_is_as_good_as_a_list() {
    let Some(node) = cassandra("IN of markers as a list") else { return };
    let keyspace = keyspace("split_markers");
    let mut cql = open(&node, Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    let table = format!("{keyspace}.t");
    cql.query(&format!("CREATE TABLE {table} (k varint, c int, v text, PRIMARY KEY (k, c))")).expect_result();
    let insert = cql.prepare(&format!("INSERT INTO {table} (k, c, v) VALUES (?, ?, 'v')")).prepared();
    let mut draw = Draw(2);
    let mut keys: Vec<Vec<u8>> = (0..40).map(|_| draw.key(KeyType::Varint)).collect();
    for (key, c) in keys.iter().flat_map(|key| [(key, 1), (key, 2)]) {
        cql.execute(&insert, &With::values(&[key.clone(), int(c)])).expect_result();
    }
    keys.extend_from_within(3..9);
    let markers = vec!["?"; keys.len()].join(",");
    for (text, before, after) in [
        (format!("SELECT * FROM {table} WHERE k IN ({markers})"), vec![], vec![]),
        (
            format!("SELECT * FROM {table} WHERE c = ? AND k IN({markers})LIMIT ?"),
            vec![int(2)],
            vec![int(23)],
        ),
    ] {
        for version in [Version::V4, Version::V5] {
            let mut cql = open(&node, version);
            let client = prepare(&mut cql, &text, None).expect("prepared");
            assert_eq!(client.split, Err(Whole::NotOneList));
            let form = ListForm::of(text.as_bytes(), &statement::read(text.as_bytes())).expect("a list form");
            let listed = std::str::from_utf8(&form.text).expect("text");
            let own = prepare(&mut cql, listed, None).expect("prepared");
            assert_eq!(own.statement.result_id, client.statement.result_id, "the same columns");
            for page_size in [None, Some(7)] {
                let values = [&before[..], &keys, &after].concat();
                let body =
                    cql.execute_body(&client.statement, &With { values, page_size, ..With::default() });
                let execute = located(version, &body);
                let own_body = form.execute(&body, &execute, Dialect::of(version), &own.statement.id);
                let decided = own.split.expect("cut");
                let split = split(&mut cql, &decided, &own_body.expect("written"), 9);
                let whole = whole(&mut cql, &body);
                let rows =
                    |pages: &[Page]| pages.iter().flat_map(|page| page.rows.clone()).collect::<Vec<_>>();
                assert_eq!(rows(&split), rows(&whole), "{text}");
                assert_eq!(rows(&whole).len(), if after.is_empty() { 80 } else { 23 });
                assert!(split.iter().all(|page| page.columns == whole[0].columns));
            }
        }
    }
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

/// What the choice of statements rests on, see the head of `split/shape.rs`: where the server accepts an `IN ?` of
/// another column than the partition key's, the statement must be found whole.
#[test]
fn no_other_column_is_taken_for_the_partition_key() {
    let Some(node) = cassandra("which IN a node accepts") else { return };
    let keyspace = keyspace("split_shapes");
    let mut cql = open(&node, Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    let index = |column: &str, table: &str| format!("CREATE INDEX ON {keyspace}.{table} ({column})");
    let attached = |column: &str, table: &str| format!("{} USING 'sai'", index(column, table));
    let plain = "v int, w int, s int static, PRIMARY KEY";
    for (table, key, indexes) in [
        ("single", "pk int, c1 int, c2 int, X (pk, c1, c2)", vec![]),
        ("double", "pk int, p2 int, c1 int, c2 int, X ((pk, p2), c1, c2)", vec![]),
        (
            "indexed",
            "pk int, c1 int, c2 int, X (pk, c1, c2)",
            vec![index("v", "indexed"), index("c2", "indexed"), index("s", "indexed")],
        ),
        (
            "attached",
            "pk int, c1 int, c2 int, X (pk, c1, c2)",
            vec![attached("v", "attached"), attached("c1", "attached"), attached("s", "attached")],
        ),
        (
            "parts",
            "pk int, p2 int, c1 int, c2 int, X ((pk, p2), c1, c2)",
            vec![index("p2", "parts"), attached("pk", "parts"), index("v", "parts")],
        ),
    ] {
        let create = format!("CREATE TABLE {keyspace}.{table} ({})", key.replace('X', plain));
        cql.query(&create).expect_result();
        indexes.iter().for_each(|index| drop(cql.query(index).expect_result()));
    }
    // an IN of each column, alone and beside each other relation of one or two other columns
    let columns = ["pk", "p2", "c1", "c2", "v", "w", "s"];
    let forms = ["{} = ?", "{} = 3", "{} > ?", "{} > 3"];
    let (mut accepted, mut cut) = (0, 0);
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut cql = open(&node, version);
        for table in ["single", "double", "indexed", "attached", "parts"] {
            let two = matches!(table, "double" | "parts");
            let key: &[&str] = if two { &["pk", "p2"] } else { &["pk"] };
            for listed in columns {
                let mut wheres = vec![format!("{listed} IN ?")];
                for (at, one) in columns.iter().enumerate().filter(|(_, one)| **one != listed) {
                    for form in forms {
                        let first = format!("{} AND {listed} IN ?", form.replace("{}", one));
                        for other in columns[at + 1..].iter().filter(|other| **other != listed) {
                            for form in forms {
                                wheres.push(format!("{first} AND {}", form.replace("{}", other)));
                            }
                        }
                        wheres.push(first);
                    }
                }
                for filter in wheres {
                    let text = format!("SELECT * FROM {keyspace}.{table} WHERE {filter}");
                    let Ok(prepared) = prepare(&mut cql, &text, None) else { continue };
                    accepted += 1;
                    let known = prepare(&mut cql, &text, Some(key)).expect("prepared").split;
                    assert_eq!(known.is_ok(), key.contains(&listed), "{text}");
                    if let Ok(split) = prepared.split {
                        cut += 1;
                        assert_eq!(known, Ok(split), "{text} in {}: taken for the key", version.name());
                    }
                }
            }
        }
    }
    assert!(accepted > 100 && cut > 50, "{accepted} accepted, {cut} cut");
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn what_a_node_refuses_is_left_to_it() {
    let Some(node) = cassandra("refusals of IN") else { return };
    let keyspace = keyspace("split_refusals");
    let mut cql = open(&node, Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    let text = format!("SELECT * FROM {keyspace}.t WHERE k IN ? LIMIT ?");
    let prepared = prepare(&mut cql, &text, None).expect("prepared");
    let split = prepared.split.expect("cut");
    let keys = |odd: Vec<u8>| list(&(0..9).map(int).chain([odd]).collect::<Vec<_>>());
    let mut null = keys(int(9));
    let end = null.len() - 8;
    null.truncate(end);
    null.extend_from_slice(&int(-1));
    for (values, expected) in [
        ([keys(vec![1]), int(5)], Whole::Keys),
        ([null, int(5)], Whole::Keys),
        ([keys(int(1)), int(0)], Whole::Limit),
        ([keys(int(1)), int(-1)], Whole::Limit),
        ([vec![0, 0, 0, 9], int(5)], Whole::Values),
    ] {
        let body = cql.execute_body(&prepared.statement, &With::values(&values));
        cql.ask(Opcode::Execute, &body).expect_error();
        let (header, execute) = (execute_header(cql.version, &body), located(cql.version, &body));
        assert_eq!(execute.parameters.consistency.value, Consistency::ONE);
        let dialect = Dialect::of(cql.version);
        let key = PageKey::of_cluster("test");
        let pages = Pages { key: &key, statement: execute.id.of(&body) };
        let plan = Plan::cut(&split, &header, &body, &execute, dialect, NonZeroU32::MIN, &pages);
        assert_eq!(plan.err(), Some(Uncut::Whole(expected)));
    }
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}
