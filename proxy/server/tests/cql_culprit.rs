//! Who asks too much of a cluster, and with which statement: real processes over TCP, weir, the real node. The first
//! request of a process nobody has seen bears that process's name; one that says its name in STARTUP is known by it.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use support::process::Process;
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, int, keyspace, list};
use weir_cql::Version;

/// What the process is called.
const CULPRIT: &str = "feed-backfill";
/// Keys of its first SELECT.
const KEYS: i32 = 15_000;
/// Set for the child: weir's port and the keyspace.
const ROLE: &str = "WEIR_TEST_ROLE";

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn node_at(node: &str) -> Cql {
    Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4)
}

fn make_table(node: &str, keyspace: &str) {
    let mut cql = node_at(node);
    cql.query(&create_keyspace(keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.posts (uri int PRIMARY KEY, v int)")).expect_result();
    cql.query(&format!("INSERT INTO {keyspace}.posts (uri, v) VALUES (7, 42)")).expect_result();
}

/// Asks for everything at once before anything else; the table is named by `USE` alone.
fn burst(mut cql: Cql, keyspace: &str) -> Cql {
    cql.query(&format!("USE {keyspace}")).expect_result();
    let select = cql.prepare("SELECT v FROM posts WHERE uri IN ?").prepared();
    assert_eq!(cql.execute(&select, &With::values(&[list(0..KEYS)])).rows(), [[Some(int(42))]]);
    cql
}

/// Everything that names a caller names this one, and its statement where there is room for one.
fn assert_named(weir: &Weir, caller: &str, keyspace: &str) {
    let largest = [("caller", caller), ("method", "select")];
    let asked = counted(weir, "weir_request_operations_max", &largest, f64::from(KEYS));
    assert_eq!(asked, f64::from(KEYS), "what the alert CallerBatchExtreme looks at");
    let statement = "select v from posts where uri in ?";
    let table = format!("{keyspace}.posts");
    let expensive = wait_for("/expensive has it", SOON, || {
        let rows = weir.control("/expensive");
        rows.as_array()?.iter().find(|row| row["operations"] == KEYS).cloned()
    });
    assert_eq!(
        (&expensive["caller"], &expensive["statement"], &expensive["table"]),
        (&caller.into(), &statement.into(), &table.clone().into()),
        "{expensive:#}"
    );
    let rows = weir.control("/statements");
    let mine = |row: &&serde_json::Value| row["method"] == "select" && row["caller"] == caller;
    let row = rows.as_array().expect("rows").iter().find(mine).unwrap_or_else(|| panic!("{rows:#}"));
    assert_eq!((&row["statement"], &row["table"]), (&statement.into(), &table.clone().into()), "{row:#}");
    let numbers =
        ["requests", "operations", "rows", "largest", "request_operations_p50"].map(|key| &row[key]);
    assert_eq!(numbers.map(|number| number.as_i64()), [1, 15_000, 1, 15_000, 15_000].map(Some), "{row:#}");
    assert!(row["backend_us"].as_u64() > Some(0) && row["bytes_out"].as_u64() > Some(0), "{row:#}");

    let explained = weir.command(&["explain", caller]).expect_success("explain").stdout;
    let sentence =
        format!("{caller} asks for 15,000 keys in one {statement} on {table}: 7.5 times its ceiling");
    assert!(explained.contains(&sentence), "{explained}");
    let top = weir.command(&["top", "--statements", "--once"]).expect_success("top").stdout;
    assert!(top.contains(caller) && top.contains(&format!("{statement} on {table}")), "{top}");
    assert!(!weir.metrics().contains("where uri"), "no metric has a statement as a label");
}

/// Nobody is told that the listener asked for so much.
fn assert_not_blamed(weir: &Weir, listener: &str) {
    for method in ["select", "prepare", "use", "control"] {
        let requests: f64 = ["ok", "error"]
            .iter()
            .filter_map(|outcome| {
                let labels = [("caller", listener), ("method", method), ("outcome", outcome)];
                weir.series("weir_requests_total", &labels)
            })
            .sum();
        assert_eq!(requests, 0.0, "{method}: {}", weir.metrics());
    }
    assert!(
        weir.series("weir_backend_operations_total", &[("caller", listener)]).is_none_or(|n| n == 0.0),
        "{}",
        weir.metrics()
    );
}

fn child(folder: &Path, port: u16, keyspace: &str) -> Process {
    let program = folder.join(CULPRIT);
    // The kernel calls a process after the file that was executed.
    std::os::unix::fs::symlink(std::env::current_exe().expect("this program"), &program).expect("linked");
    let mut command = Command::new(program);
    command.args(["--exact", "the_first_request_of_a_new_process_bears_its_name", "--nocapture"]);
    command.env(ROLE, format!("{port} {keyspace}")).stdout(Stdio::null());
    Process::start(CULPRIT, &mut command)
}

#[test]
fn the_first_request_of_a_new_process_bears_its_name() {
    if let Ok(role) = std::env::var(ROLE) {
        let (port, keyspace) = role.split_once(' ').expect("a port and a keyspace");
        let _open = burst(Cql::open(at(port.parse().expect("a port")), Version::V4), keyspace);
        std::thread::sleep(std::time::Duration::from_secs(600)); // the parent ends it
        return;
    }
    let Some(node) = cassandra("the culprit's process and statement") else { return };
    let keyspace = keyspace("culprit");
    make_table(&node, &keyspace);
    let weir = Weir::with_config(&file(&node, "", ""), &[]);
    let _child = child(weir.directory.path(), weir.port, &keyspace);
    assert_named(&weir, CULPRIT, &keyspace);
    assert_not_blamed(&weir, "cql");
    assert_eq!(weir.series("weir_namings_total", &[("result", "named")]), Some(1.0));
    assert_eq!(weir.series("weir_held_accounts", &[]), Some(0.0));
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("caller_over_ceiling"));
    let line = line.unwrap_or_else(|| panic!("no line about it: {log}"));
    assert!(line.contains(&format!("caller=\"{CULPRIT}\"")), "{line}");
    let of_listener = weir.command(&["explain", "cql"]).stdout;
    assert!(of_listener.is_empty() || !of_listener.contains("limits set"), "nobody is capped: {of_listener}");
    node_at(&node).query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn a_name_said_in_startup_is_the_callers_from_the_first_request_on() {
    let Some(node) = cassandra("the culprit's declared name and statement") else { return };
    let keyspace = keyspace("declared");
    make_table(&node, &keyspace);
    let weir = Weir::with_config(&file(&node, "", ""), &[]);
    let options = [("CQL_VERSION", "3.0.0"), ("APPLICATION_NAME", "hydrator")];
    let _open = burst(Cql::open_with(at(weir.port), Version::V5, &options), &keyspace);
    assert_named(&weir, "hydrator", &keyspace);
    assert_not_blamed(&weir, "cql");
    assert_eq!(weir.series("weir_held_accounts", &[]), Some(0.0));
    node_at(&node).query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}
