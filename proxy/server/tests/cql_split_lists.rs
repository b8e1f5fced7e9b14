//! `IN (?, ?, ...)` for many keys through weir, against the real Cassandra: asked in parts of a statement of weir's own,
//! and answered with the bytes of the direct answer; what a node refuses, it refuses in its own words; nodes may forget.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use support::Weir;
use support_cql::answer::{Answer, Statement};
use support_cql::{Cql, With, cassandra, counted, create_keyspace, file, int, keyspace};
use weir_cql::response::{ErrorCode, ResultBody};
use weir_cql::{Opcode, Response, Version};

/// Partitions of the table; every seventh is not there.
const POSTS: i32 = 400;

fn direct(node: &str, version: Version) -> Cql {
    Cql::open(node.parse::<SocketAddr>().expect("an address"), version)
}

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

/// weir in front of one node, and a keyspace with rows of several keys.
fn filled(node: &str, name: &str) -> (Weir, String) {
    let mut cql = direct(node, Version::V4);
    let keyspace = keyspace(name);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    for table in [
        "likes (post int, liker int, at int, PRIMARY KEY (post, liker))",
        "follows (shard int, who int, whom int, at int, PRIMARY KEY ((shard, who), whom))",
    ] {
        cql.query(&format!("CREATE TABLE {keyspace}.{table}")).expect_result();
    }
    let like = cql.prepare(&format!("INSERT INTO {keyspace}.likes (post, liker, at) VALUES (?, ?, ?)"));
    let follow =
        cql.prepare(&format!("INSERT INTO {keyspace}.follows (shard, who, whom, at) VALUES (?, ?, ?, ?)"));
    let (like, follow) = (like.prepared(), follow.prepared());
    for post in (0..POSTS).filter(|post| post % 7 != 0) {
        for by in 0..post % 4 + 1 {
            cql.execute(&like, &With::values(&[int(post), int(by), int(post * by)])).expect_result();
        }
        cql.execute(&follow, &With::values(&[int(3), int(post), int(1), int(post)])).expect_result();
    }
    (Weir::with_config(&file(node, "discover = false", ""), &[]), keyspace)
}

fn markers(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn ints(keys: impl IntoIterator<Item = i32>) -> Vec<Vec<u8>> {
    keys.into_iter().map(int).collect()
}

/// The rows of every page, as bytes, and how many pages there were.
fn pages(cql: &mut Cql, statement: &Statement, with: &With) -> (usize, Vec<Vec<Option<Vec<u8>>>>) {
    let (mut rows, mut state, mut pages) = (Vec::new(), None, 0);
    loop {
        let with = With { page_state: state, ..with.clone() };
        let answer = cql.execute(statement, &with).expect_result();
        rows.extend(answer.rows());
        pages += 1;
        state = state_of(&answer);
        if state.is_none() {
            return (pages, rows);
        }
        assert!(pages < 1_000, "the pages do not end");
    }
}

fn state_of(answer: &Answer) -> Option<Vec<u8>> {
    let Response::Result(ResultBody::Rows(rows)) = answer.read() else { panic!("no rows") };
    rows.metadata.paging_state.and_then(|state| state.of(&answer.body)).map(<[u8]>::to_vec)
}

fn splits(weir: &Weir, count: f64) {
    counted(weir, "weir_cql_splits_total", &[("cluster", "main"), ("outcome", "ok")], count);
}

#[test]
fn rows_order_metadata_and_pages_are_those_of_the_direct_answer() {
    let Some(node) = cassandra("IN of many markers in parts") else { return };
    let (weir, keyspace) = filled(&node, "lists");
    let mut requests = 0.0;
    for version in [Version::V3, Version::V4, Version::V5] {
        let (mut through, mut direct) = (Cql::open(door(&weir), version), direct(&node, version));
        // in any order, some twice, some that are not there
        let keys: Vec<i32> = (-20..POSTS + 20).rev().chain(30..60).collect();
        let listed = ints(keys.iter().copied());
        let likes = format!("SELECT * FROM {keyspace}.likes WHERE post IN ({})", markers(keys.len()));
        let mut cases = vec![
            (likes.clone(), listed.clone()),
            (format!("{likes} LIMIT 250"), listed.clone()),
            (format!("{likes} PER PARTITION LIMIT ? LIMIT ?"), [&listed[..], &[int(2), int(333)]].concat()),
        ];
        if version > Version::V3 {
            // in v3 a node does not tell enough to be sure that these are about the partition key
            let of = |more: &str| {
                format!(
                    "SELECT who, at FROM {keyspace}.follows WHERE shard = ? AND who IN({})AND {more}",
                    markers(150)
                )
            };
            cases.push((of("whom < ?"), [&[int(3)][..], &ints((100..250).rev()), &[int(5)]].concat()));
            cases.push((of("whom = :whom"), [&[int(3)][..], &ints(300..450), &[int(1)]].concat()));
        }
        for (text, values) in cases {
            let (statement, of_node) = (through.prepare(&text).prepared(), direct.prepare(&text).prepared());
            assert_eq!(statement.id, of_node.id, "the client is told of its own statement");
            for skip_metadata in [false, true] {
                let with = With { skip_metadata, ..With::values(&values) };
                let (ours, theirs) = (through.execute(&statement, &with), direct.execute(&of_node, &with));
                assert_eq!(ours.header.opcode, Opcode::Result, "{:?}", ours.error());
                assert!(ours.body == theirs.body, "{version:?} skip {skip_metadata} {}", &text[..60]);
            }
            requests += 2.0;
            let with = With { page_size: Some(40), skip_metadata: true, ..With::values(&values) };
            let (ours, theirs) =
                (pages(&mut through, &statement, &with), pages(&mut direct, &of_node, &with));
            assert!(!theirs.1.is_empty() && ours.1 == theirs.1, "{version:?} in pages: {}", &text[..60]);
            assert!(ours.0 <= theirs.0, "no more pages than of the whole");
            requests += ours.0 as f64;
        }
        splits(&weir, requests);
    }
    for cause in ["not_one_list", "list_refused", "list_unprepared", "not_the_key"] {
        assert_eq!(weir.series("weir_cql_unsplit_total", &[("cause", cause)]), None, "{cause}");
    }
    // what is booked is the client's statement
    let top = weir.command(&["top", "--statements", "--once"]).expect_success("top").stdout;
    assert!(top.contains("likes where post in (?)\n") && !top.contains("likes where post in ?"), "{top}");
    direct(&node, Version::V4).query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn a_node_refuses_in_its_own_words() {
    let Some(node) = cassandra("refusals of IN of many markers") else { return };
    let (weir, keyspace) = filled(&node, "list_errors");
    for version in [Version::V4, Version::V5] {
        let (mut through, mut direct) = (Cql::open(door(&weir), version), direct(&node, version));
        let text = format!("SELECT * FROM {keyspace}.likes WHERE post IN ({})", markers(200));
        let (statement, of_node) = (through.prepare(&text).prepared(), direct.prepare(&text).prepared());
        let mut ask = |values: &[Vec<u8>], last: Option<i32>| {
            let mut bodies = Vec::new();
            for statement in [&statement, &of_node] {
                let mut body = through.execute_body(statement, &With::values(values));
                if let Some(length) = last {
                    // the last value is an int: null or not set instead
                    body.truncate(body.len() - 8);
                    body.extend_from_slice(&int(length));
                }
                bodies.push(body);
            }
            let ours = through.ask(Opcode::Execute, &bodies[0]).expect_error();
            let theirs = direct.ask(Opcode::Execute, &bodies[1]).expect_error();
            assert_eq!(ours, theirs);
            theirs.1
        };
        let null = ask(&ints(0..200), Some(-1));
        let unset = ask(&ints(0..200), Some(-2));
        assert_ne!(null, unset, "each in its own words");
        let mut odd = ints(0..200);
        odd[77] = vec![1, 2];
        ask(&odd, None);
        ask(&ints(0..199), None);
    }
    counted(&weir, "weir_cql_unsplit_total", &[("cause", "keys")], 4.0);
    direct(&node, Version::V4).query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn what_a_node_forgot_is_prepared_again() {
    let Some(node) = cassandra("IN of many markers after ALTER TABLE") else { return };
    let (weir, keyspace) = filled(&node, "list_alter");
    for (version, column) in [(Version::V3, "a"), (Version::V4, "b"), (Version::V5, "c")] {
        let (mut through, mut direct) = (Cql::open(door(&weir), version), direct(&node, version));
        let text = format!("SELECT * FROM {keyspace}.likes WHERE post IN ({})", markers(200));
        let with = With::values(&ints((0..200).rev()));
        let statement = through.prepare(&text).prepared();
        let first = through.execute(&statement, &with).expect_result();
        // past weir: the node forgets what was prepared of this table
        direct.query(&format!("ALTER TABLE {keyspace}.likes ADD {column} int")).expect_result();
        let again = through.execute(&statement, &with).expect_result();
        assert_eq!(again.columns().len(), first.columns().len() + 1, "{version:?}");
        let of_node = direct.prepare(&text).prepared();
        assert_eq!(again.rows(), direct.execute(&of_node, &with).expect_result().rows());
        // a table that is gone is told in the node's words
        if version == Version::V5 {
            direct.query(&format!("DROP TABLE {keyspace}.likes")).expect_result();
            let (code, words) = through.execute(&statement, &with).expect_error();
            assert_eq!(code, ErrorCode::INVALID);
            assert!(words.contains("likes"), "{words}");
        }
    }
    splits(&weir, 6.0);
    assert_eq!(weir.series("weir_cql_unsplit_total", &[("cause", "list_unprepared")]), None);
    direct(&node, Version::V4).query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}
