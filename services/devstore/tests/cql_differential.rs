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
