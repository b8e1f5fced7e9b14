//! A node that is killed (`kill -9`) and comes back under load, behind a running weir: clients keep their connections, every
//! request is answered, with its own rows or an error that says what happened, and rows come again soon after the node is
//! back. The test starts its own node, through `cargo xtask cassandra`.

mod support;
mod support_cql;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::answer::Statement;
use support_cql::own::Nodes;
use support_cql::{CONTROL, Cql, SOON, With, before, counted, create_keyspace, int, sockets_to};
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::response::ErrorCode;

/// Enough for one small table, and ready sooner than the default.
const HEAP: &str = "256m";
/// The node writes its commit log out every second; what is younger goes with the process.
const SYNCED: Duration = Duration::from_millis(2_500);
/// Rows of the table.
const ROWS: i32 = 100;
/// How soon rows come again once the node takes connections. weir tries every second at the latest.
const BACK: Duration = Duration::from_millis(1_500);

/// What a client saw, in order: when, and the rows' verdict or the error.
#[derive(Default)]
struct Seen {
    good: Vec<Instant>,
    errors: Vec<(Instant, ErrorCode, String)>,
}

/// Asks without a pause for rows one by one and holds each answer to its question, on one connection.
fn reader(
    address: SocketAddr,
    version: Version,
    statement: &Statement,
    offset: i32,
    stop: &AtomicBool,
) -> Seen {
    let mut cql = Cql::open(address, version);
    let statement = match version {
        Version::V5 => cql.prepare("SELECT v FROM faults.t WHERE k = ?").prepared(),
        _ => statement.clone(),
    };
    let (mut seen, mut key) = (Seen::default(), offset);
    while !stop.load(Ordering::Relaxed) {
        key = (key + 1) % ROWS;
        let answer = cql.execute(&statement, &With::values(&[int(key)]));
        match answer.error() {
            None => {
                assert_eq!(answer.rows(), [[Some(int(key * 10))]], "the answer to this question");
                seen.good.push(Instant::now());
            }
            Some((code, words)) => {
                seen.errors.push((Instant::now(), code, words));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    seen
}

/// Adds to a counter, which may not be sent twice; how often it was told that it was done.
fn adder(address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<(ErrorCode, String)>) {
    let mut cql = Cql::open(address, Version::V4);
    let (mut done, mut errors) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let answer = cql.query("UPDATE faults.c SET n = n + 1 WHERE k = 1");
        match answer.error() {
            None => done += 1,
            Some(error) => {
                errors.push(error);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    (done, errors)
}

fn prepare_tables(weir: &Weir) -> Statement {
    let mut cql = Cql::open(SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port)), Version::V4);
    cql.query(&create_keyspace("faults")).expect_result();
    cql.query("CREATE TABLE faults.t (k int PRIMARY KEY, v int)").expect_result();
    cql.query("CREATE TABLE faults.c (k int PRIMARY KEY, n counter)").expect_result();
    let insert = cql.prepare("INSERT INTO faults.t (k, v) VALUES (?, ?)").prepared();
    for key in 0..ROWS {
        cql.execute(&insert, &With::values(&[int(key), int(key * 10)])).expect_result();
    }
    cql.prepare("SELECT v FROM faults.t WHERE k = ?").prepared()
}

#[test]
fn a_node_killed_and_restarted_under_load_costs_no_client_its_connection() {
    let what = "a node killed and restarted under load";
    let Some(mut node) = Nodes::start(what, "faults", &["--heap", HEAP]) else { return };
    let address = node.addresses[0].clone();
    let weir = before(&address);
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port));
    let statement = prepare_tables(&weir);
    std::thread::sleep(SYNCED);
    let stop = AtomicBool::new(false);
    let versions = [Version::V3, Version::V4, Version::V4, Version::V4, Version::V5, Version::V5];
    let (killed, ready, seen, (done, refused)) = std::thread::scope(|scope| {
        let (stop, statement) = (&stop, &statement);
        let readers: Vec<_> = (0..)
            .zip(versions)
            .map(|(n, version)| scope.spawn(move || reader(door, version, statement, n * 16, stop)))
            .collect();
        let adder = scope.spawn(move || adder(door, stop));
        std::thread::sleep(Duration::from_secs(1));
        let killed = Instant::now();
        node.tell("kill 1");
        while_down(door);
        node.tell("start 1");
        let ready = Instant::now();
        std::thread::sleep(BACK + Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        // a reader that lost its connection, or got the rows of another, has panicked
        let seen: Vec<Seen> = readers.into_iter().map(|it| it.join().expect("a reader")).collect();
        (killed, ready, seen, adder.join().expect("the adder"))
    });
    for (index, seen) in seen.iter().enumerate() {
        assert!(seen.good.iter().any(|at| *at < killed), "client {index} had rows before");
        let mut kinds = BTreeMap::new();
        for (at, code, words) in &seen.errors {
            assert!(*at >= killed, "client {index}: an error while all was well: {words}");
            assert_eq!(*code, ErrorCode::SERVER_ERROR, "{words}");
            assert!(words.starts_with("weir: "), "{words}");
            assert!(words.contains(&address) || words.contains("no node of cql"), "{words}");
            assert!(!words.contains("outcome unknown"), "a read in flight is asked again: {words}");
            *kinds.entry(words.as_str()).or_insert(0) += 1;
        }
        let last = seen.errors.last().map_or(killed, |(at, ..)| *at);
        let back = seen.good.iter().find(|at| **at > last).expect("rows came again");
        let after = back.saturating_duration_since(ready);
        println!("client {index}: rows again {after:?} after the node was ready; {kinds:?}");
        assert!(after < BACK, "client {index}: rows came again {after:?} after the node was ready");
    }
    for (code, words) in &refused {
        assert_eq!(*code, ErrorCode::SERVER_ERROR, "{words}");
    }
    // What was in flight may have been carried out or not, and what the node had not written out went with it; nothing
    // was carried out twice.
    let unknown = refused.iter().filter(|(_, words)| words.contains("outcome unknown")).count() as u64;
    let mut cql = Cql::open(door, Version::V4);
    let count = cql.query("SELECT n FROM faults.c WHERE k = 1").cell("n").expect("a count");
    let count = u64::from_be_bytes(count.try_into().expect("a counter"));
    println!("adder: {done} done, {unknown} unknown of {} errors, counted {count}", refused.len());
    assert!(count <= done + unknown, "{count} counted of {done} done and {unknown} unknown");
    assert!(unknown <= 1, "one was in flight: {unknown}");

    assert_eq!(weir.series("weir_upstream_desync_total", &[]), Some(0.0));
    assert_eq!(weir.metric("weir_client_closes_total", &["how=\"protocol\""]), 0.0);
    counted(&weir, "weir_backend_connection_opens_total", &[("result", "refused")], 1.0);
    // one connection per version in use, as before, and the control connection
    wait_for("the sockets are those of before", SOON, || {
        (sockets_to(weir.process.pid(), &address) == 3 * workers(&weir) + CONTROL).then_some(())
    });
}

/// Nobody is there: weir still takes clients in, and says of each request that nothing was sent.
fn while_down(door: SocketAddr) {
    let mut cql = Cql::connect(door, Version::V4);
    assert_eq!(cql.options().header.opcode, Opcode::Supported);
    cql.startup(&[]);
    let begun = Instant::now();
    let (code, words) = cql.query("SELECT v FROM faults.t WHERE k = 1").expect_error();
    assert_eq!(code, ErrorCode::SERVER_ERROR);
    assert!(words.contains("nothing was sent"), "{words}");
    assert!(begun.elapsed() < Duration::from_secs(6), "told after {:?}", begun.elapsed());
}

fn workers(weir: &Weir) -> usize {
    weir.control("/snapshot")["instance"]["workers"].as_u64().expect("their number") as usize
}
