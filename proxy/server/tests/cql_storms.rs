//! Much of everything at once at the CQL door, and connections that break in the middle of a message: a node that forgets
//! 500 statements under 50 clients, 10,000 statements, 2,000 clients, an upstream connection cut between any two bytes.
//! Each test says how long it took; weir runs with one worker, so that counts are those of one upstream connection.

mod support;
mod support_cql;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::answer::Statement;
use support_cql::{Cql, SOON, With, cassandra, create_keyspace, file, int, keyspace, sockets_to};
use weir_cql::Version;
use weir_cql::response::ErrorCode;

const V4: Version = Version::V4;

fn one_worker(node: &str, cluster: &str) -> Weir {
    Weir::with_file(&format!("workers = 1\n{}", file(node, cluster, "")))
}

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

fn resident_kib(weir: &Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.process.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A table `t` with rows `0..rows`, each with ten times its key.
fn fill(weir: &Weir, keyspace: &str, rows: i32) {
    let mut cql = Cql::open(door(weir), V4);
    cql.query(&create_keyspace(keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    let insert = cql.prepare(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")).prepared();
    for key in 0..rows {
        cql.execute(&insert, &With::values(&[int(key), int(key * 10)])).expect_result();
    }
}

/// A statement that differs from all others of another number and asks for the same.
fn numbered(keyspace: &str, number: usize) -> String {
    format!("SELECT v AS c{number} FROM {keyspace}.t WHERE k = ?")
}

#[test]
fn a_node_that_forgets_500_statements_under_50_clients() {
    const STATEMENTS: usize = 500;
    const CLIENTS: usize = 50;
    let Some(node) = cassandra("an UNPREPARED storm") else { return };
    let begun = Instant::now();
    let weir = one_worker(&node, "");
    let keyspace = keyspace("storm");
    fill(&weir, &keyspace, 10);
    let mut cql = Cql::open(door(&weir), V4);
    let statements: Vec<Statement> =
        (0..STATEMENTS).map(|number| cql.prepare(&numbered(&keyspace, number)).prepared()).collect();
    // a table that changes takes the statements prepared on it along
    cql.query(&format!("ALTER TABLE {keyspace}.t ADD more int")).expect_result();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut cql = Cql::open(door(&weir), V4);
                for (number, statement) in statements.iter().enumerate() {
                    let key = (number % 10) as i32;
                    let rows = cql.execute(statement, &With::values(&[int(key)])).rows();
                    assert_eq!(rows, [[Some(int(key * 10))]]);
                }
            });
        }
    });
    let repaired = wait_for("they are counted", SOON, || {
        Some(weir.metric("weir_cql_reprepares_total", &[])).filter(|count| *count >= STATEMENTS as f64)
    });
    println!(
        "{STATEMENTS} forgotten statements, {CLIENTS} clients: {repaired} repairs, {:?}",
        begun.elapsed()
    );
    assert!(
        repaired < 1.1 * STATEMENTS as f64,
        "each is prepared once more, not by every client: {repaired}"
    );
    assert_eq!(weir.metric("weir_upstream_desync_total", &[]), 0.0);
}

#[test]
fn ten_thousand_prepared_statements_are_the_most() {
    const MOST: usize = 10_000;
    const MORE: usize = 500;
    const CLIENTS: usize = 8;
    let Some(node) = cassandra("10,000 prepared statements") else { return };
    let begun = Instant::now();
    let weir = one_worker(&node, "");
    let keyspace = keyspace("many");
    fill(&weir, &keyspace, 10);
    let before = resident_kib(&weir);
    let next = AtomicUsize::new(0);
    let kept = Mutex::new(vec![None; MOST + MORE]);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut cql = Cql::open(door(&weir), V4);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MOST + MORE {
                        return;
                    }
                    let prepared = cql.prepare(&numbered(&keyspace, number)).prepared();
                    kept.lock().expect("nobody panics")[number] = Some(prepared);
                }
            });
        }
    });
    let known = wait_for("the bound is reached", SOON, || {
        Some(weir.metric("weir_cql_prepared_statements", &[])).filter(|known| *known >= MOST as f64)
    });
    assert_eq!(known, MOST as f64, "prepared_max");
    wait_for("what left is counted", SOON, || {
        (weir.metric("weir_cql_prepared_evicted_total", &[]) >= MORE as f64).then_some(())
    });
    let grown = resident_kib(&weir) - before;
    println!("{known} statements: {} bytes each, {:?}", grown * 1024 / MOST as u64, begun.elapsed());
    assert!(grown < 60 << 10, "{grown} KiB");
    // the last ones are known, whatever the node remembers
    let mut cql = Cql::open(door(&weir), V4);
    let kept = kept.into_inner().expect("nobody panics");
    for statement in kept.iter().rev().take(200).flatten() {
        assert_eq!(cql.execute(statement, &With::values(&[int(3)])).rows(), [[Some(int(30))]]);
    }
}

#[test]
fn two_thousand_clients_on_one_upstream_connection() {
    const CLIENTS: usize = 2_000;
    const ROUNDS: i32 = 3;
    let Some(node) = cassandra("2,000 clients") else { return };
    let begun = Instant::now();
    let weir = one_worker(&node, "");
    let keyspace = keyspace("clients");
    fill(&weir, &keyspace, 100);
    let upstream = sockets_to(weir.process.pid(), &node);
    let before = resident_kib(&weir);
    let mut clients: Vec<Cql> = (0..CLIENTS).map(|_| Cql::open(door(&weir), V4)).collect();
    let idle = resident_kib(&weir) - before;
    let statement = clients[0].prepare(&format!("SELECT v FROM {keyspace}.t WHERE k = ?")).prepared();
    for round in 0..ROUNDS {
        // all ask, then all read: every request is under way at once
        for (key, cql) in clients.iter_mut().enumerate() {
            let key = (key as i32 + round) % 100;
            let body = cql.execute_body(&statement, &With::values(&[int(key)]));
            cql.send(5, weir_cql::envelope::Opcode::Execute, &body).expect("sent");
        }
        for (key, cql) in clients.iter_mut().enumerate() {
            let key = (key as i32 + round) % 100;
            assert_eq!(cql.answer().rows(), [[Some(int(key * 10))]]);
        }
    }
    let used = resident_kib(&weir) - before;
    println!(
        "{CLIENTS} clients: {} bytes each idle, {} after {ROUNDS} requests of all at once, {:?}",
        idle * 1024 / CLIENTS as u64,
        used * 1024 / CLIENTS as u64,
        begun.elapsed()
    );
    assert_eq!(weir.metric("weir_client_connections", &[]), CLIENTS as f64);
    assert_eq!(sockets_to(weir.process.pid(), &node), upstream, "clients add no connection");
    assert!(used < 16 * CLIENTS as u64, "{used} KiB");
}

/// Passes bytes between weir and a node, and cuts every connection of weir's after so many bytes of the node's.
struct Relay {
    address: SocketAddr,
    /// Bytes the next connection may carry from the node.
    allowed: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    fn before(node: &str) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (allowed, cuts) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let (node, shared) = (node.to_owned(), (allowed.clone(), cuts.clone()));
        std::thread::spawn(move || {
            for weir in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&node) else { continue };
                let (allowed, cuts) = shared.clone();
                let (mut from, mut to) =
                    (weir.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || pass(server, weir, &allowed, &cuts));
            }
        });
        Relay { address, allowed, cuts }
    }
}

/// From the node to weir, until the bytes allowed are used up: what they end in the middle of is half delivered.
fn pass(mut server: TcpStream, mut weir: TcpStream, allowed: &AtomicUsize, cuts: &AtomicUsize) {
    let mut chunk = [0; 16 << 10];
    while let Ok(length @ 1..) = server.read(&mut chunk) {
        let left = allowed.load(Ordering::Relaxed);
        if weir.write_all(&chunk[..length.min(left)]).is_err() {
            break;
        }
        if left < length {
            allowed.store(usize::MAX, Ordering::Relaxed);
            cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if left < usize::MAX {
            allowed.store(left - length, Ordering::Relaxed);
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = weir.shutdown(Shutdown::Both);
}

#[test]
fn an_upstream_connection_cut_between_any_two_bytes_loses_no_read() {
    const CLIENTS: i32 = 8;
    const CUTS: usize = 25;
    let Some(node) = cassandra("an upstream connection cut in a message") else { return };
    let begun = Instant::now();
    let relay = Relay::before(&node);
    let weir = one_worker(&relay.address.to_string(), "discover = false\nretry_percent = 100");
    let keyspace = keyspace("cut");
    fill(&weir, &keyspace, 100);
    let stop = AtomicBool::new(false);
    let (read, told) = std::thread::scope(|scope| {
        let one = |offset: i32| {
            let (stop, keyspace, weir) = (&stop, &keyspace, &weir);
            scope.spawn(move || {
                let mut cql = Cql::open(door(weir), if offset % 2 == 0 { V4 } else { Version::V5 });
                let select = cql.prepare(&format!("SELECT v FROM {keyspace}.t WHERE k = ?"));
                let select = select.prepared();
                let (mut read, mut told, mut key) = (0_u64, 0_u64, offset);
                while !stop.load(Ordering::Relaxed) {
                    key = (key + 1) % 100;
                    let answer = cql.execute(&select, &With::values(&[int(key)]));
                    match answer.error() {
                        None => {
                            assert_eq!(answer.rows(), [[Some(int(key * 10))]], "the answer to this question");
                            read += 1;
                        }
                        Some((code, words)) => {
                            assert_eq!(code, ErrorCode::SERVER_ERROR, "{words}");
                            assert!(words.starts_with("weir: "), "{words}");
                            told += 1;
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
                (read, told)
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|n| one(n * 12)).collect();
        for cut in 0..CUTS {
            std::thread::sleep(Duration::from_millis(60));
            // anywhere in a message: answers are about 80 bytes
            relay.allowed.store(2_000 + cut * 37, Ordering::Relaxed);
            wait_for("it is cut", SOON, || (relay.cuts.load(Ordering::Relaxed) > cut).then_some(()));
        }
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let sums = clients.into_iter().map(|client| client.join().expect("it kept its connection"));
        sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    println!("{CUTS} cuts: {read} reads right, {told} told of an error, {:?}", begun.elapsed());
    assert!(read > 200, "{read}");
    // an error is told where the budget of retries or of attempts is used up, never otherwise
    assert!(told <= CUTS as u64 * 2, "{told}");
    assert_eq!(weir.metric("weir_upstream_desync_total", &[]), 0.0);
    assert_eq!(weir.metric("weir_client_closes_total", &["how=\"protocol\""]), 0.0);
}
