//! Limits at the CQL door: one list of 15,000 keys is one request, and its work is what is limited, told and shown.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, int, keyspace, list};
use weir_cql::Version;
use weir_cql::response::ErrorCode;

const MANY: i32 = 15_000;

fn limited(node: &str, mode: &str) -> Weir {
    let limit =
        format!("[callers.search]\nlistener = \"cql\"\noperations_per_request = 2_000\nmode = \"{mode}\"\n");
    Weir::with_config(&file(node, "", &limit), &[])
}

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

#[test]
fn a_list_above_the_ceiling_is_invalid_and_names_limit_ask_and_ceiling() {
    let Some(node) = cassandra("operations_per_request in refuse mode") else { return };
    let weir = limited(&node, "refuse");
    let keyspace = keyspace("refused");
    let mut cql = Cql::open(door(&weir), Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    cql.query(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (1, 2)")).expect_result();
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut cql = Cql::open(door(&weir), version);
        let select = cql.prepare(&format!("SELECT v FROM {keyspace}.t WHERE k IN ?")).prepared();
        for _ in 0..2 {
            let answer = cql.execute(&select, &With::values(&[list(0..MANY)]));
            let (code, words) = answer.expect_error();
            assert_eq!(code, ErrorCode::INVALID, "{words}");
            for part in ["operations_per_request", "search", "15000", "2000"] {
                assert!(words.contains(part), "no {part} in: {words}");
            }
            // the connection goes on, and the ceiling itself may be asked
            let rows = cql.execute(&select, &With::values(&[list(0..2_000)])).rows();
            assert_eq!(rows, [[Some(int(2))]]);
        }
        // the same in the text
        let keys: Vec<String> = (0..2_001).map(|key| key.to_string()).collect();
        let text = format!("SELECT v FROM {keyspace}.t WHERE k IN ({})", keys.join(","));
        assert_eq!(cql.query(&text).expect_error().0, ErrorCode::INVALID);
    }
    let labels = [("caller", "search"), ("reason", "operations_per_request"), ("mode", "refuse")];
    assert_eq!(counted(&weir, "weir_rejected_total", &labels, 9.0), 9.0);
    let labels = [("caller", "search"), ("method", "select")];
    let largest = counted(&weir, "weir_request_operations_max", &labels, f64::from(MANY));
    assert_eq!(largest, f64::from(MANY), "as asked, refused or not: what the alert looks at");
    let explained = weir.command(&["explain", "search"]).expect_success("weir explain");
    assert!(explained.stdout.contains("15,000"), "{}", explained.stdout);
    Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4)
        .query(&format!("DROP KEYSPACE {keyspace}"))
        .expect_result();
}

#[test]
fn observe_answers_and_counts_and_weir_limits_set_refuses() {
    let Some(node) = cassandra("operations_per_request in observe mode") else { return };
    let weir = limited(&node, "observe");
    let keyspace = keyspace("observed");
    let mut cql = Cql::open(door(&weir), Version::V5);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    cql.query(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (14999, 2)")).expect_result();
    let select = cql.prepare(&format!("SELECT v FROM {keyspace}.t WHERE k IN ?")).prepared();
    let asked = With::values(&[list(0..MANY)]);
    assert_eq!(cql.execute(&select, &asked).rows(), [[Some(int(2))]]);
    let labels = [("caller", "search"), ("reason", "operations_per_request"), ("mode", "observe")];
    assert_eq!(counted(&weir, "weir_rejected_total", &labels, 1.0), 1.0);
    let set =
        ["limits", "set", "search", "--operations-per-request", "100", "--mode", "refuse", "--for", "60s"];
    weir.command(&set).expect_success("weir limits set");
    let (code, words) = wait_for("the override is in force", SOON, || cql.execute(&select, &asked).error());
    assert_eq!(code, ErrorCode::INVALID);
    assert!(words.contains("15000") && words.contains("100"), "{words}");
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}
