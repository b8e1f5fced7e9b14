//! Which statement is slow: the counters that the alert StatementSlowed divides, with weir before a real node.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use support::Weir;
use support_cql::{Cql, cassandra, create_keyspace, file, keyspace};
use weir_cql::Version;

/// Rows of the wide partition.
const ROWS: u32 = 20_000;
/// Rows of one batch.
const BATCH: u32 = 200;
/// Requests for one statement, at most, until its time is worth a series.
const PATIENCE: u32 = 30_000;

const SLOW: &str = "SELECT count(*) FROM wide WHERE k = 1";
const FAST: &str = "SELECT c FROM wide WHERE k = 2";

/// What `weir fingerprint` calls it.
fn fingerprint(weir: &Weir, statement: &str, keyspace: &str) -> String {
    let said =
        weir.command(&["fingerprint", statement, "--keyspace", keyspace]).expect_success("fingerprint");
    said.stdout.split_whitespace().next().expect("a fingerprint").to_owned()
}

fn figure(weir: &Weir, what: &str, fingerprint: &str) -> Option<f64> {
    weir.series(
        &format!("weir_cql_statement_{what}_total"),
        &[("cluster", "main"), ("fingerprint", fingerprint)],
    )
}

/// Asks until the statement has a series; how often, and its seconds and operations then.
fn ask(weir: &Weir, cql: &mut Cql, statement: &str, fingerprint: &str) -> (u32, f64, f64) {
    for asked in 1..=PATIENCE {
        cql.query(statement).expect_result();
        if asked % 20 == 0
            && let (Some(seconds), Some(operations)) =
                (figure(weir, "seconds", fingerprint), figure(weir, "operations", fingerprint))
        {
            return (asked, seconds, operations);
        }
    }
    panic!("{statement} has no series after {PATIENCE} requests");
}

#[test]
fn the_counters_name_the_statement_that_is_slow() {
    let Some(node) = cassandra("time at the node by statement") else { return };
    let keyspace = keyspace("statement_times");
    let mut direct = Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4);
    direct.query(&create_keyspace(&keyspace)).expect_result();
    let table = format!("CREATE TABLE {keyspace}.wide (k int, c int, PRIMARY KEY (k, c))");
    direct.query(&table).expect_result();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let rows = (first..first + BATCH)
            .map(|c| format!("INSERT INTO {keyspace}.wide (k, c) VALUES (1, {c});"))
            .collect::<String>();
        direct.query(&format!("BEGIN UNLOGGED BATCH {rows} APPLY BATCH")).expect_result();
    }

    let weir = Weir::with_config(&file(&node, "", ""), &[]);
    let mut cql = Cql::open(SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port)), Version::V5);
    cql.query(&format!("USE {keyspace}")).expect_result();
    let [slow, fast] = [SLOW, FAST].map(|statement| fingerprint(&weir, statement, &keyspace));
    assert_ne!(slow, fast);
    cql.query(FAST).expect_result();
    assert_eq!(figure(&weir, "operations", &fast), None, "a millisecond is worth no series");

    let (asked, seconds, operations) = ask(&weir, &mut cql, SLOW, &slow);
    assert!(seconds >= 1.0, "shown with all it had: {seconds}");
    assert_eq!(operations, f64::from(asked), "one partition each");
    let per_slow = seconds / operations;
    let (asked, seconds, operations) = ask(&weir, &mut cql, FAST, &fast);
    assert_eq!(operations, f64::from(asked + 1));
    let per_fast = seconds / operations;
    eprintln!("per operation: slow {:.2} ms, fast {:.2} ms", 1e3 * per_slow, 1e3 * per_fast);
    assert!(per_slow > 5.0 * per_fast, "{per_slow} s and {per_fast} s per operation");

    // the way from the alert's label to the text and who asks it
    let rows = weir.control("/statements");
    let row = rows.as_array().expect("rows").iter().find(|row| row["fingerprint"] == *slow);
    let row = row.unwrap_or_else(|| panic!("{rows:#}"));
    assert_eq!(row["statement"], "select count(*) from wide where k = ?", "{row:#}");
    assert_eq!(row["table"], format!("{keyspace}.wide"), "{row:#}");
    direct.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}
