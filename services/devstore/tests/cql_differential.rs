//! The store and a real Cassandra answer the same: random tables and statements from a seed, on both.
//!
//! Compared are the kind of answer, the code of an error, the columns' names and types, every row in order, whether there
//! are more pages, and what PREPARE tells. `cargo xtask test` names the node in WEIR_TEST_CASSANDRA; by hand, the address
//! that `cargo xtask cassandra start` prints. WEIR_TEST_SEED and WEIR_TEST_ROUNDS choose another run.

mod differential;
mod support;

use differential::{Pair, Random, Schema};
use std::net::SocketAddr;
use support::{Devstore, Folder};
use weir_cql::Version;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|given| given.parse().ok()).unwrap_or(default)
}

fn node() -> Option<SocketAddr> {
    let named = std::env::var("WEIR_TEST_CASSANDRA").ok();
    if named.is_none() {
        println!("SKIPPED: WEIR_TEST_CASSANDRA names no node (cargo xtask test starts one)");
    }
    named.map(|named| named.parse().expect("WEIR_TEST_CASSANDRA is an address"))
}

#[test]
fn random_tables_and_statements() {
    let Some(cassandra) = node() else { return };
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    let (seed, rounds) = (number("WEIR_TEST_SEED", 7), number("WEIR_TEST_ROUNDS", 6));
    let mut compared = 0;
    for round in 0..rounds {
        let mut random = Random::new(seed.wrapping_mul(1_000).wrapping_add(round));
        let version = if round % 2 == 0 { Version::V4 } else { Version::V5 };
        let mut pair = Pair::open(store.address, cassandra, version, &format!("seed {seed} round {round}"));
        let keyspace = format!("diff_{}_{round}", std::process::id());
        pair.both(&format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ));
        pair.both(&format!("USE {keyspace}"));
        let schema = Schema::draw(&mut random);
        pair.both(&schema.create());
        for _ in 0..150 {
            let statement = schema.write(&mut random);
            pair.both(&statement);
            if random.below(10) == 0 {
                let writes = 1 + random.below(4);
                let writes = schema.writes(&mut random, writes);
                let kinds: &[u8] = if schema.counts() { &[2] } else { &[0, 1] };
                let kind = kinds[random.below(kinds.len())];
                pair.batch(kind, &writes);
            }
            // what differs once differs for ever after
            pair.finish();
            if random.below(3) == 0 {
                let (statement, page) = schema.read(&mut random);
                pair.pages(&statement, page);
            }
        }
        for _ in 0..60 {
            let (statement, page) = schema.read(&mut random);
            pair.pages(&statement, page);
            pair.prepared(&statement);
        }
        let all = schema.all();
        pair.pages(&all, Some(3));
        pair.pages(&all, None);
        for statement in schema.wrong() {
            pair.both(&statement);
        }
        pair.both("TRUNCATE t");
        pair.both(&all);
        pair.both(&format!("DROP KEYSPACE {keyspace}"));
        pair.finish();
        compared += pair.compared;
    }
    println!("{compared} answers were the same, seed {seed}, {rounds} rounds");
    assert!(compared > rounds * 300);
}

/// What has a time to live goes on both, cell by cell: rows, columns, elements, and what a table's default says.
#[test]
fn what_has_a_time_to_live_goes() {
    let Some(cassandra) = node() else { return };
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    let mut pair = Pair::open(store.address, cassandra, Version::V4, "time to live");
    let keyspace = format!("ttl_{}", std::process::id());
    pair.both(&format!(
        "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    ));
    for statement in [
        format!("USE {keyspace}").as_str(),
        "CREATE TABLE t (a int, b int, v int, w int, s set<int>, m map<int, int>, l list<int>, PRIMARY KEY (a, b))",
        "CREATE TABLE d (a int PRIMARY KEY, v int) WITH default_time_to_live = 6",
        "INSERT INTO t (a, b, v) VALUES (1, 1, 1) USING TTL 6",
        "INSERT INTO t (a, b, v, w) VALUES (1, 2, 2, 2) USING TTL 6",
        "UPDATE t SET w = 3 WHERE a = 1 AND b = 2",
        "INSERT INTO t (a, b, v) VALUES (1, 3, 3)",
        "UPDATE t USING TTL 6 SET v = 4, s = {1, 2}, m = {1: 1} WHERE a = 1 AND b = 3",
        "UPDATE t SET s = s + {3}, m[2] = 2 WHERE a = 1 AND b = 3",
        "UPDATE t USING TTL 6 SET l = [1, 2] WHERE a = 1 AND b = 4",
        "UPDATE t SET l = l + [3] WHERE a = 1 AND b = 4",
        "UPDATE t USING TTL 6 SET v = 5 WHERE a = 1 AND b = 5",
        "INSERT INTO t (a, b) VALUES (1, 6) USING TTL 6",
        "INSERT INTO t (a, b, v) VALUES (1, 7, 7) IF NOT EXISTS USING TTL 6",
        "INSERT INTO d (a, v) VALUES (1, 1)",
        "INSERT INTO d (a, v) VALUES (2, 2) USING TTL 0",
        "INSERT INTO d (a, v) VALUES (3, 3) USING TTL 1000",
        "UPDATE d SET v = 4 WHERE a = 4",
    ] {
        pair.both(statement);
    }
    let reads = [
        "SELECT * FROM t",
        "SELECT * FROM d",
        "SELECT count(*) FROM t",
        "SELECT DISTINCT a FROM t",
        "SELECT b, v FROM t WHERE a = 1 ORDER BY b DESC LIMIT 4",
    ];
    for wait in [0, 8] {
        std::thread::sleep(std::time::Duration::from_secs(wait));
        reads.iter().for_each(|read| pair.both(read));
        pair.pages("SELECT * FROM t", Some(2));
    }
    // and may be written again
    pair.both("INSERT INTO t (a, b, v) VALUES (1, 7, 8) IF NOT EXISTS");
    pair.both("SELECT * FROM t");
    pair.both(&format!("DROP KEYSPACE {keyspace}"));
    pair.finish();
    println!("{} answers were the same", pair.compared);
}

/// Statements in which the two could differ without a random one ever showing it.
#[test]
fn chosen_statements() {
    let Some(cassandra) = node() else { return };
    let folder = Folder::new();
    let store = Devstore::start(&folder.0);
    for version in [Version::V4, Version::V5] {
        let mut pair = Pair::open(store.address, cassandra, version, "chosen");
        let keyspace = format!("chosen_{}_{}", std::process::id(), version.number());
        pair.both(&format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ));
        pair.both(&format!("USE {keyspace}"));
        for statement in include_str!("differential/chosen.cql").split(";\n") {
            let statement: Vec<&str> = statement
                .lines()
                .filter(|line| !line.trim_start().starts_with("--") && !line.is_empty())
                .collect();
            let statement = statement.join("\n");
            if let Some(text) = statement.strip_prefix("PREPARE ") {
                pair.prepared(text);
            } else if !statement.is_empty() {
                pair.both(&statement);
            }
        }
        pair.both(&format!("DROP KEYSPACE {keyspace}"));
        pair.finish();
        println!("{} answers were the same, {}", pair.compared, version.name());
    }
}
