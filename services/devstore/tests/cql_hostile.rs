//! Bytes that nobody should send: the store answers or closes, and serves the next client.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::raw::{Cql, With, int};
use support::{Devstore, Folder};
use weir_cql::response::ErrorCode;
use weir_cql::{Opcode, Version, write};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time limit");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn frames_out_of_step() {
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x84\0\0\0\x07\0\0\0\0",
        b"\x04\0\0\0\x07\xff\xff\xff\xff",
        b"\x04\0\0\0\x07\x7f\xff\xff\xff",
        b"\x04\0\0\0\x99\0\0\0\0",
        b"\x04\x01\0\0\x01\0\0\0\x04abcd",
        b"\x05\0\0\0\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.0.0garbage that is no segment at all",
        b"\x00",
        b"",
    ] {
        let answer = raw(store.address, bytes);
        assert!(answer.is_empty() || answer[0] & 0x80 != 0, "{bytes:?}: {answer:?}");
    }
    let newer = raw(store.address, b"\x06\0\0\x01\x05\0\0\0\0");
    assert!(
        String::from_utf8_lossy(&newer).contains("supported versions are (3/v3, 4/v4, 5/v5)"),
        "{newer:?}"
    );
    assert_eq!(Cql::open(store.address, Version::V5).query("SELECT key FROM system.local").rows().len(), 1);
}

#[test]
fn bodies_and_texts_that_are_broken() {
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    let mut random = Random(11);
    let mut cql = Cql::open(store.address, Version::V4);
    cql.query("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .expect_result();
    cql.query("CREATE TABLE k.t (a int, b text, c timeuuid, m map<text, int>, PRIMARY KEY (a, b, c))")
        .expect_result();
    let statement = "SELECT * FROM k.t WHERE a IN ? AND b = ? AND c > ? ORDER BY b DESC, c DESC LIMIT ?";
    let prepared = cql.prepare(statement).prepared();
    let with = With {
        values: vec![[int(1), int(4), int(7)].concat(), b"x".to_vec(), vec![0x10; 16], int(3)],
        page_size: Some(2),
        page_state: Some(vec![1, 2, 3]),
        ..With::default()
    };
    let execute = cql.execute_body(&prepared, &with);
    let mut query = Vec::new();
    write::bytes(&mut query, b"UPDATE k.t SET m = m + {'a': 1}, m['b'] = 2 WHERE a = 1 AND b = 'x' AND c = 50554d6e-29bb-11e5-b345-feff819cdc9f IF EXISTS");
    write::short(&mut query, 1);
    write::byte(&mut query, 0);
    let mut batch = vec![0, 0, 1, 0];
    write::bytes(&mut batch, b"INSERT INTO k.t (a, b, c) VALUES (1, 'x', now())");
    batch.extend_from_slice(&[0, 0, 0, 1, 0]);
    for round in 0..4_000 {
        let (opcode, body) = match round % 3 {
            0 => (Opcode::Execute, &execute),
            1 => (Opcode::Query, &query),
            _ => (Opcode::Batch, &batch),
        };
        let mut body = body.clone();
        for _ in 0..1 + random.next() % 3 {
            let at = random.next() as usize % body.len();
            match random.next() % 3 {
                0 => body[at] = random.next() as u8,
                1 => body.truncate(at.max(1)),
                _ => body.insert(at, random.next() as u8),
            }
        }
        // an answer or an error, on the same connection: a broken body is no broken frame
        cql.try_ask(opcode, &body).unwrap_or_else(|error| panic!("round {round}: {error}: {body:?}"));
    }
    assert_eq!(cql.query("SELECT key FROM system.local").rows().len(), 1);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    let mut cql = Cql::open(store.address, Version::V5);
    cql.query("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .expect_result();
    cql.query("CREATE TABLE k.t (a int PRIMARY KEY, b text)").expect_result();
    for (text, name) in [
        ("CREATE INDEX i ON k.t (b)", "CREATE INDEX"),
        ("CREATE MATERIALIZED VIEW k.v AS SELECT a FROM k.t", "CREATE MATERIALIZED"),
        ("CREATE TYPE k.u (a int)", "CREATE TYPE"),
        ("CREATE FUNCTION k.f (a int) RETURNS NULL ON NULL INPUT", "CREATE FUNCTION"),
        ("CREATE ROLE r", "CREATE ROLE"),
        ("GRANT ALL ON k.t TO r", "GRANT"),
        ("CREATE TABLE k.u (a int PRIMARY KEY, s int static)", "static"),
        ("CREATE TABLE k.u (a int PRIMARY KEY, d decimal)", "decimal"),
        ("CREATE TABLE k.u (a int PRIMARY KEY, d duration)", "duration"),
        ("SELECT JSON * FROM k.t", "JSON"),
        ("INSERT INTO k.t JSON '{}'", "JSON"),
        ("SELECT a FROM k.t WHERE b CONTAINS 'x'", "CONTAINS"),
        ("SELECT max(a) FROM k.t", "max"),
        ("SELECT a FROM k.t GROUP BY a", "GROUP BY"),
        ("SELECT a FROM k.t WHERE b = 'x' ALLOW FILTERING", "filter"),
    ] {
        let (code, message) = cql.query(text).expect_error();
        assert_eq!(code, ErrorCode::INVALID, "{text}: {message}");
        assert!(message.contains(name), "{text}: {message}");
    }
    let deep = format!("SELECT a FROM k.t WHERE a = {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(cql.query(&deep).expect_error().0, ErrorCode::INVALID);
    let long = format!("SELECT a FROM k.t WHERE a IN ({}1)", "1,".repeat(600_000));
    assert_eq!(cql.query(&long).expect_error().0, ErrorCode::INVALID);
    let mut other = Cql::open(store.address, Version::V5);
    other.register(&["SCHEMA_CHANGE", "STATUS_CHANGE"]);
    cql.query("DROP TABLE k.t").expect_result();
    assert_eq!(other.answer().header.opcode, Opcode::Event, "a schema change is told");
}
