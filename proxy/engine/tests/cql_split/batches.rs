//! A batch in chunks leaves what the whole one leaves, whatever the order of its chunks, and no partition is in two.

use crate::model::{header, located_prepared, prepared, prepared_in};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::request::{Batch, BatchStatement, QueryFlags, Request};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{Dialect, Version, write};
use weir_engine::cql::split::{BatchGather, BatchPlan, BatchWhole, Fault, Place, Status, WriteKey};

const INT: &[u16] = &[0x09];

fn key_of(keyspace: &str, text: &str, indices: &[u16], markers: usize) -> Result<WriteKey, BatchWhole> {
    let dialect = Dialect::of(Version::V4);
    let markers = vec![("m", INT.to_vec()); markers];
    let body = prepared_in(keyspace, dialect, indices, &markers);
    let prepared = located_prepared(&body, Version::V4);
    WriteKey::of(text.as_bytes(), &weir_cql::statement::read(text.as_bytes()), &body, &prepared, None)
}

/// A table: keyspace, text of its only statement, and where the two values of its key are bound.
const TABLES: [(&str, &str, [u16; 2]); 3] = [
    ("ks", "INSERT INTO t (v, a, b) VALUES (?, ?, ?)", [1, 2]),
    // another table of the same keyspace: the same key is the same partition to a node
    ("ks", "UPDATE u SET v = ? WHERE b = ? AND a = ?", [2, 1]),
    ("other", "INSERT INTO t (v, a, b) VALUES (?, ?, ?)", [1, 2]),
];

fn keys() -> Vec<WriteKey> {
    TABLES.map(|(keyspace, text, indices)| key_of(keyspace, text, &indices, 3).expect("a key")).to_vec()
}

/// A write: table, value, the two parts of its key.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Write {
    table: usize,
    value: u8,
    a: u8,
    b: u8,
}

fn write_strategy() -> impl Strategy<Value = Write> {
    (0..3_usize, any::<u8>(), 0..4_u8, 0..3_u8).prop_map(|(table, value, a, b)| Write { table, value, a, b })
}

fn batch_body(version: Version, kind: u8, writes: &[Write], timestamp: Option<i64>) -> Vec<u8> {
    let mut body = vec![kind];
    write::short(&mut body, writes.len() as u16);
    for one in writes {
        write::byte(&mut body, 1);
        write::short_bytes(&mut body, &[b'0' + one.table as u8]);
        write::short(&mut body, 3);
        let [first, second] = if TABLES[one.table].2 == [1, 2] { [one.a, one.b] } else { [one.b, one.a] };
        for value in [one.value, first, second] {
            write::bytes(&mut body, &i32::from(value).to_be_bytes());
        }
    }
    write::short(&mut body, 4);
    let flags = QueryFlags::SERIAL_CONSISTENCY | if timestamp.is_some() { QueryFlags::TIMESTAMP } else { 0 };
    match version {
        Version::V5 => write::bits(&mut body, flags | QueryFlags::NOW_IN_SECONDS),
        _ => write::byte(&mut body, flags as u8),
    }
    write::short(&mut body, 9);
    timestamp.into_iter().for_each(|micros| write::long(&mut body, micros));
    if version >= Version::V5 {
        write::int(&mut body, 77);
    }
    body
}

fn located(version: Version, body: &[u8]) -> Batch {
    match Request::locate(&header(version, Opcode::Batch, body), body, Dialect::of(version)) {
        Ok(Request::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

fn writes_of(version: Version, body: &[u8]) -> Vec<Write> {
    let statements = located(version, body).statements(body).map(|statement| {
        let table = usize::from(statement.source.of(body)[0] - b'0');
        let value = |at| statement.values.get(body, at).and_then(|value| value.of(body)).expect("a value")[3];
        let [a, b] = TABLES[table].2.map(value);
        Write { table, value: value(0), a, b }
    });
    statements.collect()
}

fn cut(
    version: Version,
    body: &[u8],
    size: u32,
    stamp: Option<i64>,
    flags: Flags,
) -> Result<BatchPlan, BatchWhole> {
    let keys = keys();
    let known = |id: &[u8]| match id {
        [digit @ b'0'..=b'2'] => Some(Ok(&keys[usize::from(digit - b'0')])),
        b"if" => Some(Err(BatchWhole::Conditional)),
        _ => None,
    };
    let header = Header { flags, ..header(version, Opcode::Batch, body) };
    let size = NonZeroU32::new(size).expect("above 0");
    let place = |statement: &BatchStatement| {
        let source = statement.source.of(body);
        let key = known(source).filter(|_| statement.prepared).ok_or(BatchWhole::Unknown)??;
        let (keyspace, key) = (key.keyspace().clone(), key.partition(body, statement)?);
        // a partition has its nodes, whatever the table
        let near = u32::from(key.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))) % NODES;
        Ok(Place { keyspace, key, near, timed: false })
    };
    BatchPlan::cut(&header, body, &located(version, body), Dialect::of(version), size, stamp, place)
}

/// Nodes that partitions lie on.
const NODES: u32 = 3;

/// What a node keeps: of two values with one timestamp the larger one.
#[derive(Default, PartialEq, Debug)]
struct Node {
    cells: BTreeMap<(usize, u8, u8), (i64, u8)>,
}

impl Node {
    fn apply(&mut self, version: Version, body: &[u8]) {
        let timestamp = located(version, body).timestamp.expect("a timestamp").value;
        for one in writes_of(version, body) {
            let cell = self.cells.entry((one.table, one.a, one.b)).or_default();
            *cell = (*cell).max((timestamp, one.value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn in_chunks_is_whole(
        version in prop::sample::select(vec![Version::V3, Version::V4, Version::V5]),
        writes in prop::collection::vec(write_strategy(), 2..60),
        size in 1..12_u32,
        stamped in any::<bool>(),
        order in prop::collection::vec(any::<Index>(), 60),
    ) {
        let timestamp = 1_700_000_000_000_000;
        let given = (!stamped).then_some(timestamp);
        let body = batch_body(version, 1, &writes, given);
        let plan = match cut(version, &body, size, Some(timestamp), Flags::default()) {
            Ok(plan) => plan,
            Err(whole) => {
                prop_assert_eq!(whole, BatchWhole::Small);
                let partition = |one: &Write| (TABLES[one.table].0, one.a, one.b);
                let one = writes.iter().all(|other| partition(other) == partition(&writes[0]));
                prop_assert!(writes.len() <= size as usize || one);
                return Ok(());
            }
        };
        let (mut whole, mut chunked) = (Node::default(), Node::default());
        whole.apply(version, &batch_body(version, 1, &writes, Some(timestamp)));
        let mut chunks: Vec<u32> = (0..plan.chunks()).collect();
        let mut seen: BTreeMap<(&str, u8, u8), u32> = BTreeMap::new();
        let mut gather = BatchGather::new(&plan);
        let mut sent = 0;
        for at in &order {
            if chunks.is_empty() {
                break;
            }
            prop_assert_eq!(gather.status(), Status::Open);
            let index = chunks.swap_remove(at.index(chunks.len()));
            let mut chunk = Vec::new();
            plan.write_chunk(&body, index, &mut chunk);
            let (was, is) = (located(version, &body), located(version, &chunk));
            prop_assert_eq!(is.timestamp.map(|place| place.value), Some(timestamp));
            prop_assert_eq!(is.consistency.value, was.consistency.value);
            prop_assert_eq!(is.serial_consistency.map(|place| place.value), was.serial_consistency.map(|place| place.value));
            prop_assert_eq!(is.now_in_seconds.map(|place| place.value), was.now_in_seconds.map(|place| place.value));
            let written = writes_of(version, &chunk);
            prop_assert_eq!(written.len() as u32, plan.statements_in(index));
            sent += written.len();
            let mut partitions = Vec::new();
            for one in &written {
                let partition = (TABLES[one.table].0, one.a, one.b);
                prop_assert_eq!(*seen.entry(partition).or_insert(index), index, "a partition in two chunks");
                partitions.push(partition);
                // in their order
                let of = |writes: &[Write]| -> Vec<Write> {
                    let same = |other: &&Write| (TABLES[other.table].0, other.a, other.b) == partition;
                    writes.iter().filter(same).copied().collect()
                };
                prop_assert_eq!(of(&written), of(&writes));
            }
            partitions.dedup();
            prop_assert!(written.len() <= size as usize || partitions.len() == 1);
            chunked.apply(version, &chunk);
            let void = [0, 0, 0, 1];
            gather.take(index, &header(version, Opcode::Result, &void), &void).expect("void");
        }
        prop_assert_eq!(sent, writes.len());
        prop_assert_eq!(seen.len() as u32, plan.partitions());
        prop_assert_eq!(gather.status(), Status::Done);
        prop_assert_eq!(gather.finish(), Some((Flags::default(), vec![0, 0, 0, 1])));
        prop_assert_eq!(chunked, whole);
    }

    #[test]
    fn no_bytes_panic(
        writes in prop::collection::vec(write_strategy(), 2..9),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..5),
        flags in any::<u8>(),
    ) {
        let mut body = batch_body(Version::V4, 1, &writes, Some(1));
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let header = header(Version::V4, Opcode::Batch, &body);
        if !matches!(Request::locate(&header, &body, Dialect::of(Version::V4)), Ok(Request::Batch(_))) {
            return Ok(());
        }
        if let Ok(plan) = cut(Version::V4, &body, 1, None, Flags(flags)) {
            let sum: u32 = (0..plan.chunks()).map(|index| plan.statements_in(index)).sum();
            prop_assert_eq!(sum, plan.statements());
            let mut chunk = Vec::new();
            plan.write_chunk(&body, plan.chunks(), &mut chunk);
            prop_assert!(plan.lead_of(0).is_some() && plan.lead_of(plan.chunks()).is_none());
            let mut gather = BatchGather::new(&plan);
            let header = Header { flags: Flags(flags), ..header };
            let header = Header { opcode: if flags & 1 == 0 { Opcode::Result } else { Opcode::Error }, ..header };
            let _ = gather.take(u32::from(flags) % 3, &header, &body);
        }
    }
}

#[test]
fn batches_that_stay_whole() {
    let version = Version::V4;
    let writes: Vec<Write> = (0..9).map(|a| Write { table: 0, value: 1, a, b: 1 }).collect();
    let body = |kind, timestamp| batch_body(version, kind, &writes, timestamp);
    let plain = Flags::default();
    let whole = |body: &[u8], size, stamp, flags| cut(version, body, size, stamp, flags).err();
    assert_eq!(whole(&body(1, Some(5)), 4, None, plain), None);
    assert_eq!(whole(&body(1, None), 4, Some(5), plain), None);
    assert_eq!(whole(&body(1, None), 4, None, plain), Some(BatchWhole::NoTimestamp));
    assert_eq!(whole(&body(0, Some(5)), 4, None, plain), Some(BatchWhole::Logged));
    assert_eq!(whole(&body(2, Some(5)), 4, None, plain), Some(BatchWhole::Counter));
    assert_eq!(whole(&body(1, Some(5)), 9, None, plain), Some(BatchWhole::Small));
    assert_eq!(whole(&body(1, Some(5)), 4, None, Flags(Flags::TRACING)), Some(BatchWhole::Traced));
    assert_eq!(whole(&body(1, Some(5)), 4, None, Flags(Flags::CUSTOM_PAYLOAD)), Some(BatchWhole::Payload));
    let same: Vec<Write> = vec![writes[0]; 9];
    assert_eq!(whole(&batch_body(version, 1, &same, Some(5)), 4, None, plain), Some(BatchWhole::Small));
    // one statement more: a text, an unknown id, one with an IF, one value too many, a key that is null
    let mut statements: Vec<(Vec<u8>, BatchWhole)> = Vec::new();
    for (id, expected) in [(&b"9"[..], BatchWhole::Unknown), (b"if", BatchWhole::Conditional)] {
        let mut out = vec![1];
        write::short_bytes(&mut out, id);
        write::short(&mut out, 0);
        statements.push((out, expected));
    }
    let mut text = vec![0];
    write::bytes(&mut text, b"INSERT INTO t (a) VALUES (1)");
    write::short(&mut text, 0);
    statements.push((text, BatchWhole::Unknown));
    for (count, length) in [(4, 4), (2, 4), (3, -1), (3, -2)] {
        let mut out = vec![1];
        write::short_bytes(&mut out, b"0");
        write::short(&mut out, count);
        for _ in 0..count {
            write::int(&mut out, length);
            out.extend_from_slice(&[0; 4][..usize::try_from(length).unwrap_or(0)]);
        }
        statements.push((out, BatchWhole::Values));
    }
    for (statement, expected) in statements {
        let good = body(1, Some(5));
        let end = located(version, &good).statements.end as usize;
        let mut odd = [&good[..end], &statement, &good[end..]].concat();
        odd[2] = 10;
        assert_eq!(whole(&odd, 4, None, plain), Some(expected));
    }
}

#[test]
fn which_writes_have_a_key() {
    assert!(key_of("ks", "DELETE FROM t WHERE a = ?", &[0], 1).is_ok());
    assert!(key_of("ks", "DELETE FROM t WHERE c IN (?, ?) AND a = ?", &[2], 3).is_ok());
    assert!(key_of("ks", "INSERT INTO t (a, v) VALUES (?, ?) USING TTL ? AND TIMESTAMP ?", &[0], 4).is_ok());
    for (text, indices, markers, expected) in [
        ("INSERT INTO t (a, v) VALUES (?, ?) IF NOT EXISTS", vec![0], 2, BatchWhole::Conditional),
        ("UPDATE t SET v = ? WHERE a = ? IF v = 3", vec![1], 2, BatchWhole::Conditional),
        ("UPDATE t SET c = c + ? WHERE a = ?", vec![1], 2, BatchWhole::Counter),
        ("INSERT INTO t (a, v) VALUES (3, ?)", vec![], 1, BatchWhole::NoKey),
        ("INSERT INTO t (a, v) VALUES (3, 4)", vec![], 0, BatchWhole::NoKey),
        ("DELETE FROM t WHERE a IN ?", vec![], 1, BatchWhole::NoKey),
        // as Cassandra 5.0.9 answers to it
        ("DELETE FROM t WHERE a IN (?, ?)", vec![1], 2, BatchWhole::NoKey),
        ("DELETE FROM t WHERE a = ?", vec![1], 1, BatchWhole::NoKey),
        ("DELETE FROM t WHERE a = ?", vec![0], 2, BatchWhole::NoKey),
        ("SELECT * FROM t WHERE a = ?", vec![0], 1, BatchWhole::NotWrite),
        ("no statement", vec![0], 1, BatchWhole::NotWrite),
    ] {
        assert_eq!(key_of("ks", text, &indices, markers).err(), Some(expected), "{text}");
    }
    // v3 does not tell: the key must be known
    let text = b"UPDATE t SET v = ? WHERE \"B\" = ? AND a = ?";
    let body = prepared(Dialect::of(Version::V3), &[], &vec![("m", INT.to_vec()); 3]);
    let located = located_prepared(&body, Version::V3);
    let statement = weir_cql::statement::read(text);
    let of = |key: Option<&[&str]>| WriteKey::of(text, &statement, &body, &located, key);
    assert_eq!(of(None), Err(BatchWhole::NoKey));
    assert_eq!(of(Some(&["a", "c"])), Err(BatchWhole::NoKey));
    assert_eq!(of(Some(&["a", "B"])).ok(), key_of("ks", TABLES[1].1, &[2, 1], 3).ok());
    let mut labels: Vec<&str> = BatchWhole::ALL.iter().map(|whole| whole.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), BatchWhole::ALL.len());
}

#[test]
fn the_first_error_that_comes_is_the_answer() {
    let version = Version::V4;
    let writes: Vec<Write> = (0..9).map(|a| Write { table: 0, value: 1, a, b: 1 }).collect();
    let body = batch_body(version, 1, &writes, Some(5));
    let plan = cut(version, &body, 3, None, Flags::default()).expect("a plan");
    assert_eq!((plan.chunks(), plan.statements(), plan.partitions()), (3, 9, 9));
    assert!(plan.bytes() < 9 * 32 + 64, "{}", plan.bytes());
    let void = [0, 0, 0, 1];
    let mut warned = Vec::new();
    write::string_list(&mut warned, ["careful"]);
    warned.extend_from_slice(&void);
    let mut error = Vec::new();
    ErrorBody::plain(ErrorCode::OVERLOADED, "no").write(version, &mut error);
    let result = header(version, Opcode::Result, &void);
    let warning = Header { flags: Flags(Flags::WARNING), ..result };
    let mut gather = BatchGather::new(&plan);
    assert_eq!(gather.take(2, &result, &void), Ok(Status::Open));
    assert_eq!(gather.take(2, &result, &void), Ok(Status::Open), "a second answer");
    assert_eq!(gather.take(7, &result, &void), Ok(Status::Open), "a chunk that is not there");
    assert_eq!(gather.take(0, &warning, &warned), Ok(Status::Open));
    assert!(gather.finish().is_none());
    let failed = gather.take(1, &header(version, Opcode::Error, &error), &error);
    assert_eq!(failed, Ok(Status::Failed));
    assert_eq!(gather.error(), Some((Flags::default(), &error[..])));
    let mut gather = BatchGather::new(&plan);
    for index in [2, 0, 1] {
        gather.take(index, &warning, &warned).expect("void");
    }
    assert_eq!(gather.finish(), Some((Flags(Flags::WARNING), warned)), "the warning once");
    let mut gather = BatchGather::new(&plan);
    assert_eq!(gather.take(0, &result, &[0, 0, 0, 3, 0, 1, b'k']), Err(Fault::NotVoid));
    assert_eq!(gather.take(0, &result, &[0, 0]), Err(Fault::Malformed));
    assert_eq!(gather.take(0, &header(version, Opcode::Ready, &[]), &[]), Err(Fault::NotVoid));
}
