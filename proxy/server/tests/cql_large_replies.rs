//! A client that reads 20 MB slowly, on the one upstream connection that 200 quick ones share: they notice nothing, weir
//! holds no more than its bounds say, and nobody else is closed.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, int, keyspace};
use weir_cql::envelope::Opcode;
use weir_cql::{Version, write};

/// The large reply: so many rows of so many bytes.
const ROWS: i32 = 20;
const ROW: usize = 1 << 20;
/// Quick clients, each asking this often, one question at a time; the first, beside so many new connections, does not count.
const QUICK: usize = 200;
const ASKS: usize = 25;
/// What a pass of the quick clients waits between two questions: the machine is not to be full by them alone.
const PAUSE: Duration = Duration::from_millis(40);
/// Slow clients one after the other.
const SLOW: usize = 3;

fn fill(door: SocketAddr, keyspace: &str) {
    let mut cql = Cql::open(door, Version::V4);
    cql.query(&create_keyspace(keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (p int, c int, v blob, PRIMARY KEY (p, c))"))
        .expect_result();
    let insert = cql.prepare(&format!("INSERT INTO {keyspace}.t (p, c, v) VALUES (?, ?, ?)")).prepared();
    for row in 0..ROWS {
        let values = With::values(&[int(1), int(row), vec![row as u8; ROW]]);
        cql.execute(&insert, &values).expect_result();
    }
    cql.execute(&insert, &With::values(&[int(2), int(0), b"small".to_vec()])).expect_result();
}

/// Every question of every quick client: how long each took, sorted.
fn quick(door: SocketAddr, keyspace: &str) -> Vec<Duration> {
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let one = || {
            let mut cql = Cql::open(door, Version::V4);
            let select = cql.prepare(&format!("SELECT v FROM {keyspace}.t WHERE p = ?")).prepared();
            let mut took = Vec::new();
            for _ in 0..ASKS {
                let begun = Instant::now();
                let rows = cql.execute(&select, &With::values(&[int(2)])).rows();
                took.push(begun.elapsed());
                assert_eq!(rows, [[Some(b"small".to_vec())]]);
                std::thread::sleep(PAUSE);
            }
            took.split_off(1)
        };
        let clients: Vec<_> = (0..QUICK).map(|_| scope.spawn(one)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("not closed")).collect()
    });
    took.sort();
    took
}

fn at(took: &[Duration], percent: usize) -> Duration {
    took[(took.len() - 1) * percent / 100]
}

fn ask_for_all(cql: &mut Cql, keyspace: &str) {
    let mut body = Vec::new();
    write::bytes(&mut body, format!("SELECT c, v FROM {keyspace}.t WHERE p = 1").as_bytes());
    write::consistency(&mut body, weir_cql::Consistency::ONE);
    write::byte(&mut body, 0);
    cql.send(77, Opcode::Query, &body).expect("sent");
}

fn resident(weir: &Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.process.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

#[test]
fn a_slow_reader_of_20_mb_costs_200_quick_ones_nothing() {
    let Some(node) = cassandra("a slow reader of 20 MB") else { return };
    let keyspace = keyspace("large");
    let text = file(&node, "", "reply_buffer_max = \"32MiB\"\nslow_reader_timeout = \"20s\"");
    let weir = Weir::with_file(&format!("workers = 1\n{text}"));
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port));
    fill(door, &keyspace);
    let _warm = quick(door, &keyspace);
    let alone = quick(door, &keyspace);
    let before = resident(&weir);

    let done = AtomicBool::new(false);
    let (beside, peak, slow) = std::thread::scope(|scope| {
        let (done, keyspace) = (&done, &keyspace);
        let slow = scope.spawn(move || {
            let mut whole = 0;
            for _ in 0..SLOW {
                let mut cql = Cql::open(door, Version::V4);
                ask_for_all(&mut cql, keyspace);
                // it takes nothing for a while, then all
                std::thread::sleep(Duration::from_millis(800));
                let rows = cql.answer().rows();
                assert_eq!(rows.len(), ROWS as usize);
                for (row, cells) in rows.iter().enumerate() {
                    assert_eq!(cells[1].as_deref(), Some(&vec![row as u8; ROW][..]), "row {row}");
                }
                whole += 1;
            }
            done.store(true, Ordering::Relaxed);
            whole
        });
        let memory = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(resident(&weir));
                std::thread::sleep(Duration::from_millis(10));
            }
            peak
        });
        let mut beside = Vec::new();
        while !done.load(Ordering::Relaxed) {
            beside.extend(quick(door, keyspace));
        }
        beside.sort();
        (beside, memory.join().expect("looked"), slow.join().expect("the slow reader"))
    });
    println!(
        "{QUICK} quick clients alone: p50 {:?} p99 {:?}; beside a slow reader of {ROWS} MB: p50 {:?} p99 {:?}",
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99)
    );
    println!("weir's memory: {before} MiB before, {peak} MiB at most");
    assert_eq!(slow, SLOW);
    // a debug build on a machine that also runs the node and all clients: a blocked lane would show as 800 ms
    assert!(at(&beside, 99) < at(&alone, 99) * 4 + Duration::from_millis(250), "{:?}", at(&beside, 99));
    // one reply as unread bytes, and what the buffer grows by
    assert!(peak < before + 90, "{peak} MiB");
    counted(&weir, "weir_cql_streamed_replies_total", &[], SLOW as f64);
    assert_eq!(weir.metric("weir_client_closes_total", &["how=\"slow_reader\""]), 0.0);
    assert_eq!(weir.metric("weir_client_closes_total", &["how=\"broken\""]), 0.0);
}

#[test]
fn one_that_reads_nothing_is_closed_and_the_rest_is_read_over() {
    let Some(node) = cassandra("a client that reads nothing") else { return };
    let keyspace = keyspace("unread");
    let text = file(&node, "", "reply_buffer_max = \"4MiB\"\nvalue_max = \"1MiB\"");
    let weir = Weir::with_file(&format!("workers = 1\nreply_bytes_max = \"8MiB\"\n{text}"));
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port));
    fill(door, &keyspace);
    let mut silent = Cql::open(door, Version::V4);
    let mut neighbour = Cql::open(door, Version::V4);
    ask_for_all(&mut silent, &keyspace);
    let begun = Instant::now();
    while weir.metric("weir_client_closes_total", &["how=\"slow_reader\""]) < 1.0 {
        assert!(begun.elapsed() < SOON, "not closed");
        let rows = neighbour.query(&format!("SELECT v FROM {keyspace}.t WHERE p = 2")).rows();
        assert_eq!(rows, [[Some(b"small".to_vec())]]);
    }
    println!("closed after {:?}, {} MiB then", begun.elapsed(), resident(&weir));
    wait_for("the rest is read over", SOON, || {
        let held =
            weir.metric("weir_cql_gathered_reply_bytes", &[]) + weir.metric("weir_cql_orphaned_streams", &[]);
        (held == 0.0).then_some(())
    });
    assert_eq!(
        weir.metric("weir_backend_connection_opens_total", &["result=\"ok\""]),
        1.0,
        "the same connection"
    );
}
