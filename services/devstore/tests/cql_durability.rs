//! kill -9 loses no write that was answered: the store is killed while many connections write, again and again, and every
//! write that was answered is there afterwards, batches whole.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::raw::{Cql, With, int};
use support::{Devstore, Folder, PROGRAM};
use weir_cql::{Opcode, Version, write};

/// Connections that write.
const WRITERS: i32 = 6;
/// Times the store is killed.
const KILLS: i32 = 5;
/// How long they write before that.
const WHILE: Duration = Duration::from_millis(700);

/// What was answered: for each writer, how often (rows, and batches of two rows).
type Answered = Arc<Mutex<BTreeMap<i32, i32>>>;

fn write_until_it_is_gone(
    address: std::net::SocketAddr,
    writer: i32,
    answered: &Answered,
    stop: &AtomicBool,
) {
    let version = if writer % 2 == 0 { Version::V4 } else { Version::V5 };
    let mut cql = Cql::open(address, version);
    let insert = cql.prepare("INSERT INTO k.t (w, n, v) VALUES (?, ?, ?)").prepared();
    let mut next = answered.lock().expect("no writer panics").get(&writer).copied().unwrap_or(0);
    while !stop.load(Ordering::Relaxed) {
        let done = if next % 5 == 0 {
            let text = format!(
                "BEGIN BATCH INSERT INTO k.t (w, n, v) VALUES ({writer}, {next}, {next}); \
                 INSERT INTO k.pair (w, n) VALUES ({writer}, {next}); UPDATE k.t SET v = {next} WHERE w = {writer} AND n = {next}; APPLY BATCH"
            );
            let mut body = Vec::new();
            write::bytes(&mut body, text.as_bytes());
            write::short(&mut body, 1);
            match version {
                Version::V5 => write::int(&mut body, 0),
                _ => write::byte(&mut body, 0),
            }
            cql.try_ask(Opcode::Query, &body)
        } else {
            let with = With::values(&[int(writer), int(next), int(next)]);
            let body = cql.execute_body(&insert, &with);
            cql.try_ask(Opcode::Execute, &body)
        };
        match done {
            Ok(answer) => {
                assert_eq!(answer.error(), None);
                next += 1;
                answered.lock().expect("no writer panics").insert(writer, next);
            }
            Err(_) => return,
        }
    }
}

#[test]
fn what_was_answered_survives_kill_9() {
    let folder = Folder::new();
    let mut store = Devstore::start(&folder.0);
    let mut cql = Cql::open(store.address, Version::V4);
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.t (w int, n int, v int, PRIMARY KEY (w, n))",
        "CREATE TABLE k.pair (w int, n int, PRIMARY KEY (w, n))",
    ] {
        cql.query(text).expect_result();
    }
    let answered: Answered = Arc::default();
    for kill in 0..KILLS {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (answered, stop, address) = (Arc::clone(&answered), Arc::clone(&stop), store.address);
                std::thread::spawn(move || write_until_it_is_gone(address, writer, &answered, &stop))
            })
            .collect();
        std::thread::sleep(WHILE);
        store.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        store = Devstore::start(&folder.0);
        let mut cql = Cql::open(store.address, Version::V5);
        let mut rows = 0;
        for (writer, count) in answered.lock().expect("no writer panics").iter() {
            let found = cql.query(&format!("SELECT n, v FROM k.t WHERE w = {writer}")).rows();
            let pairs = cql.query(&format!("SELECT n FROM k.pair WHERE w = {writer}")).rows();
            // one more may be there: it was on disk and its answer on the way
            let there = found.len() as i32;
            assert!(
                there == *count || there == count + 1,
                "kill {kill}: writer {writer} has {there} of {count} rows"
            );
            for (nth, row) in (0..).zip(&found) {
                assert_eq!(row[..], [Some(int(nth)), Some(int(nth))], "writer {writer}");
            }
            assert_eq!(pairs.len() as i32, (there + 4) / 5, "kill {kill}: half a batch of writer {writer}");
            rows += there;
        }
        println!("kill {}: {rows} rows, all there", kill + 1);
        assert!(rows > 0, "nothing was written before the kill");
    }
}

#[test]
fn the_schema_survives_and_a_second_process_is_told() {
    let folder = Folder::new();
    let mut store = Devstore::start(&folder.0);
    let mut cql = Cql::open(store.address, Version::V4);
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.t (a int PRIMARY KEY, b set<text>)",
        "INSERT INTO k.t (a, b) VALUES (1, {'x'})",
        "ALTER TABLE k.t ADD c text",
        "TRUNCATE k.t",
        "INSERT INTO k.t (a, c) VALUES (2, 'y')",
    ] {
        cql.query(text).expect_result();
    }
    let before = cql.query("SELECT host_id FROM system.local").rows();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_weir-devstore"))
        .args(["--listen", "127.0.0.1:0", "--cql", "127.0.0.1:0", "--data"])
        .arg(&folder.0)
        .output()
        .expect("it runs");
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot open"));
    store.kill();
    let store = Devstore::start(&folder.0);
    let mut cql = Cql::open(store.address, Version::V4);
    assert_eq!(cql.query("SELECT a, c FROM k.t").rows(), [[Some(int(2)), Some(b"y".to_vec())]]);
    assert_eq!(cql.query("SELECT host_id FROM system.local").rows(), before);
    let figures = cql.query("SELECT name FROM system_views.embedded_development_store").rows();
    assert_eq!(figures.len(), 5, "its metrics");
}

/// No byte can be written beyond a limit, as on a disk that is full: writes are refused with the reason, what was answered
/// is there, and when there is room again the store goes on by itself.
#[test]
fn a_full_disk_is_an_error_until_there_is_room() {
    let folder = Folder::new();
    // A signal would end it where a disk that is full does not.
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=6000000:unlimited", "sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM]);
    let mut store = Devstore::start_by(limited, &folder.0, SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut cql = Cql::open(store.address, Version::V4);
    for text in [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.t (n int PRIMARY KEY, v text)",
    ] {
        cql.query(text).expect_result();
    }
    let value = "x".repeat(20_000);
    let insert =
        |cql: &mut Cql, n: i32| cql.query(&format!("INSERT INTO k.t (n, v) VALUES ({n}, '{value}')"));
    let mut answered = 0;
    let refused = loop {
        match insert(&mut cql, answered).error() {
            None => answered += 1,
            Some(refused) => break refused,
        }
        assert!(answered < 1_000, "the limit is not met");
    };
    assert!(refused.1.contains("storage:"), "{refused:?}");
    println!("{answered} rows, then: {}", refused.1);
    // As long as there is no room, whatever is asked is answered.
    for n in 0..3 {
        assert!(insert(&mut cql, answered + n).error().is_some());
    }
    let pid = store.child.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]).status();
    assert!(raised.expect("prlimit runs").success());
    let begun = Instant::now();
    while insert(&mut cql, answered).error().is_some() {
        assert!(begun.elapsed() < support::PATIENCE, "it does not go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("goes on {:?} after there was room", begun.elapsed());
    for round in ["as it is", "after kill -9"] {
        for n in 0..=answered {
            let found = cql.query(&format!("SELECT v FROM k.t WHERE n = {n}")).rows();
            assert_eq!(found, [[Some(value.clone().into_bytes())]], "row {n} of {answered}, {round}");
        }
        store.kill();
        store = Devstore::start(&folder.0);
        cql = Cql::open(store.address, Version::V5);
    }
}
