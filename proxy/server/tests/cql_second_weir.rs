//! Two weirs in front of one real Cassandra that name each other (`second_weir`): what each shows of both agrees, and a
//! driver goes on while one of the two is gone. `WEIR_TEST_CASSANDRA` names the node.

mod support;
mod support_cql;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::prepared::PreparedStatement;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{PATIENCE, Process, Weir, free_port, skip, target, wait_for};
use support_cql::{Cql, With, cassandra, create_keyspace, keyspace, sockets_to};
use tokio::sync::Mutex;
use weir_cql::Version;

/// How long a weir is asked while its neighbour is away, and after it is back.
const WHILE: Duration = Duration::from_secs(2);
/// A driver's own pauses before it connects again.
const BACK: Duration = Duration::from_secs(30);

/// Whoever makes tables changes the node's schema version, which the other test compares over many questions.
static SCHEMA: Mutex<()> = Mutex::const_new(());

/// Two weirs, at one port of two addresses.
struct Pair {
    weirs: [Weir; 2],
    doors: [SocketAddr; 2],
}

impl Pair {
    fn before(node: &str) -> Pair {
        let port = free_port();
        let doors = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| SocketAddr::from((ip, port)));
        let weir = |own: SocketAddr, other: SocketAddr| {
            Weir::with_file(&format!(
                "workers = 1\n[cluster.main]\ncontacts = [\"{node}\"]\n\
                 [listener.cql]\naddress = \"{own}\"\nsecond_weir = \"{other}\"\n"
            ))
        };
        Pair { weirs: [weir(doors[0], doors[1]), weir(doors[1], doors[0])], doors }
    }
}

#[test]
fn what_each_shows_of_both_agrees() {
    let Some(node) = cassandra("two weirs that name each other") else { return };
    let _alone = SCHEMA.blocking_lock();
    let pair = Pair::before(&node);
    let direct: SocketAddr = node.parse().expect("an address");
    let real = Cql::open(direct, Version::V4).query("SELECT * FROM system.local");
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut both = pair.doors.map(|door| Cql::open(door, version));
        let own = both.each_mut().map(|cql| cql.query("SELECT * FROM system.local"));
        for (here, there) in [(0, 1), (1, 0)] {
            let cql = &mut both[here];
            let address = Some(vec![127, 0, 0, there as u8 + 1]);
            let port = Some(i32::from(pair.doors[there].port()).to_be_bytes().to_vec());
            for table in ["system.peers", "system.peers_v2"] {
                let text = format!("SELECT * FROM {table}");
                let asked = cql.query(&text);
                let statement = cql.prepare(&text).prepared();
                let executed = cql.execute(&statement, &With::default());
                let skipped = cql.execute(&statement, &With { skip_metadata: true, ..With::default() });
                assert_eq!((asked.rows(), asked.columns()), (executed.rows(), executed.columns()));
                assert_eq!((asked.rows().len(), asked.rows()), (1, skipped.rows()), "{table}");
                let same = ["host_id", "tokens", "data_center", "rack", "release_version", "schema_version"];
                for column in same {
                    assert_eq!(asked.cell(column), own[there].cell(column), "{column} of {table}");
                    assert!(asked.cell(column).is_some(), "{column} of {table}");
                }
                for column in ["data_center", "rack", "release_version", "schema_version"] {
                    assert_eq!(asked.cell(column), real.cell(column), "{column} of {table}");
                }
                assert_eq!(asked.cell("peer"), address);
                let second = if table == "system.peers" { "rpc_address" } else { "native_address" };
                assert_eq!(asked.cell(second), address);
                if table == "system.peers_v2" {
                    assert_eq!(asked.cell("native_port"), port);
                    assert_eq!(asked.cell("peer_port"), own[there].cell("broadcast_port"));
                }
            }
            assert_ne!(own[here].cell("host_id"), own[there].cell("host_id"));
            assert_ne!(own[here].cell("tokens"), own[there].cell("tokens"));
            let mut found = |text: &str| cql.query(text).rows().len();
            assert_eq!(
                found(&format!("SELECT rack FROM system.peers WHERE peer = '{}'", pair.doors[there].ip())),
                1
            );
            assert_eq!(
                found(&format!("SELECT rack FROM system.peers WHERE peer = '{}'", pair.doors[here].ip())),
                0
            );
            let statement =
                cql.prepare("SELECT schema_version FROM system.peers_v2 WHERE peer = ? AND peer_port = ?");
            let statement = statement.prepared();
            for (wanted, rows) in
                [(own[there].cell("broadcast_port").expect("a port"), 1), (vec![0, 0, 0, 1], 0)]
            {
                let with = With::values(&[address.clone().expect("an address"), wanted]);
                assert_eq!(cql.execute(&statement, &with).rows().len(), rows);
            }
            let (_, words) = cql.query("SELECT count(*) FROM system.peers").expect_error();
            assert!(words.contains("plain columns of system.peers"), "{words}");
        }
    }
}

/// Asks without a pause until it is told to stop; counts answers and errors.
async fn ask(session: &Session, read: &PreparedStatement, counts: &[AtomicU64; 2], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // each weir is shown as the replica of half of the keys, and drivers ask replicas
        let key = counts.iter().map(|count| count.load(Ordering::Relaxed) as i32).sum::<i32>() % 100;
        let asked = session.execute_unpaged(read, (key,)).await;
        if let Err(error) = &asked {
            println!("# {error}");
        }
        counts[usize::from(asked.is_err())].fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_rust_driver_goes_on_while_one_is_gone() {
    let Some(node) = cassandra("the Rust driver and two weirs") else { return };
    let _alone = SCHEMA.lock().await;
    let mut pair = Pair::before(&node);
    let keyspace = keyspace("pair");
    let known = pair.doors[0].to_string();
    let session = SessionBuilder::new().known_node(known).build().await.expect("a session");
    let session = Arc::new(session);
    let run =
        async |text: String| session.query_unpaged(text.as_str(), ()).await.map(drop).expect("carried out");
    run(create_keyspace(&keyspace)).await;
    run(format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).await;
    run(format!("INSERT INTO {keyspace}.t (k, v) VALUES (7, 70)")).await;
    let state = session.get_cluster_state();
    let mut known: Vec<SocketAddr> = state
        .get_nodes_info()
        .iter()
        .map(|node| SocketAddr::new(node.address.ip(), node.address.port()))
        .collect();
    known.sort();
    assert_eq!(known, pair.doors, "both weirs and nothing else");
    let mut read =
        session.prepare(format!("SELECT v FROM {keyspace}.t WHERE k = ?")).await.expect("prepared");
    read.set_is_idempotent(true);

    let (counts, stop) = (Arc::new([AtomicU64::new(0), AtomicU64::new(0)]), Arc::new(AtomicBool::new(false)));
    let asking = tokio::spawn({
        let (session, read, counts, stop) = (session.clone(), read.clone(), counts.clone(), stop.clone());
        async move { ask(&session, &read, &counts, &stop).await }
    });
    // on a thread of its own: the driver's tasks must not wait for it
    let count = |counts: &[AtomicU64; 2], which: usize| counts[which].load(Ordering::Relaxed);
    let seen = counts.clone();
    let restarts = tokio::task::spawn_blocking(move || {
        let own = std::process::id();
        // the second one; then the one the session began with, and its control connection
        for gone in [1, 0] {
            let door = pair.doors[gone].to_string();
            wait_for("the driver is connected to it", BACK, || (sockets_to(own, &door) > 0).then_some(()));
            pair.weirs[gone].process.kill();
            let before = count(&seen, 0);
            std::thread::sleep(WHILE);
            let answers = count(&seen, 0) - before;
            assert!(answers > 100, "{answers} answers while {door} was away");
            pair.weirs[gone].start_again();
            std::thread::sleep(WHILE);
        }
        pair
    });
    let pair = restarts.await.expect("both were restarted");
    stop.store(true, Ordering::Relaxed);
    asking.await.expect("it ended");
    println!("Rust driver: {} answers, {} errors", count(&counts, 0), count(&counts, 1));
    assert_eq!(count(&counts, 1), 0, "no error reached the client");
    for weir in &pair.weirs {
        assert_eq!(weir.metric("weir_panics_total", &[]), 0.0);
    }
    run(format!("DROP KEYSPACE {keyspace}")).await;
}

#[test]
fn the_python_driver_goes_on_while_one_is_gone() {
    let Some(node) = cassandra("the Python driver and two weirs") else { return };
    let _alone = SCHEMA.blocking_lock();
    let named = std::env::var_os("WEIR_TEST_CQL_PYTHON").map(PathBuf::from);
    let installed = target().join("xtask/cql-python/bin/python3");
    let python = [named, Some(installed)].into_iter().flatten().find(|python| python.is_file());
    let Some(program) = python else {
        return skip(
            "two weirs and cassandra-driver (Python)",
            "not installed (cargo xtask test installs it)",
        );
    };
    let mut pair = Pair::before(&node);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql_drivers/python/second.py");
    let mut command = Command::new(program);
    command.arg(script).args([
        pair.doors[0].ip().to_string(),
        pair.doors[0].port().to_string(),
        keyspace("pair_py"),
    ]);
    let mut process = Process::start("python", command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(process.child.stdout.take().expect("piped")).lines();
    let mut said = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        let gone = match line.as_str() {
            "ready 127.0.0.2" => Some(1),
            "ready 127.0.0.1" => Some(0),
            _ => None,
        };
        said.push(line);
        if let Some(gone) = gone {
            pair.weirs[gone].process.kill();
            std::thread::sleep(WHILE);
            pair.weirs[gone].start_again();
        }
    }
    let status = process.wait_within(PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "it ended with {status:?}:\n{}", said.join("\n"));
    let last = said.last().expect("what it counted");
    println!("Python driver: {last}");
    assert!(last.ends_with(" answers, 0 errors"), "{}", said.join("\n"));
}
