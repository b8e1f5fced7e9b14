//! Single flight and the cache of results through a running weir against the real Cassandra: identical reads of many
//! connections and drivers are asked once although each sends a timestamp of its own, and no answer is older than a write
//! that was acknowledged.

mod support;
mod support_cql;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::timestamp_generator::MonotonicTimestampGenerator;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, cassandra, counted, create_keyspace, file, int, keyspace};
use weir_cql::Version;

/// Connections that ask at the same time.
const CLIENTS: usize = 12;
/// How often they do.
const ROUNDS: i64 = 40;

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

/// weir with so many workers, with a table of ten rows behind it.
fn weir_before(node: &str, workers: u32, keyspace: &str, cluster: &str) -> Weir {
    let mut direct = Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4);
    direct.query(&create_keyspace(keyspace)).expect_result();
    direct.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    for k in 0..10 {
        direct.query(&format!("INSERT INTO {keyspace}.t (k, v) VALUES ({k}, 0)")).expect_result();
    }
    Weir::with_config(&format!("workers = {workers}\n{}", file(node, cluster, "")), &[])
}

fn drop_keyspace(node: &str, keyspace: &str) {
    let mut direct = Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4);
    direct.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

fn stamped(key: i32, timestamp: i64) -> With {
    With { timestamp: Some(timestamp), ..With::values(&[int(key)]) }
}

#[test]
fn connections_in_every_version_join_although_each_sends_its_timestamp() {
    let Some(node) = cassandra("single flight of raw connections") else { return };
    let keyspace = keyspace("flight");
    let weir = weir_before(&node, 1, &keyspace, "requests_in_flight = 1\n");
    let mut before = 0.0;
    for (version, options) in [
        (Version::V3, &[][..]),
        (Version::V4, &[("COMPRESSION", "lz4")][..]),
        (Version::V4, &[][..]),
        (Version::V5, &[][..]),
        (Version::V5, &[("COMPRESSION", "lz4")][..]),
    ] {
        let together = Arc::new(Barrier::new(CLIENTS));
        let threads: Vec<_> = (0..CLIENTS as i64)
            .map(|client| {
                let (together, address, keyspace) = (together.clone(), door(&weir), keyspace.clone());
                let options: Vec<(&str, &str)> = options.to_vec();
                std::thread::spawn(move || {
                    let mut cql = Cql::open_with(address, version, &options);
                    let select =
                        cql.prepare(&format!("SELECT v, k FROM {keyspace}.t WHERE k = ?")).prepared();
                    for round in 0..ROUNDS {
                        together.wait();
                        let key = (round % 10) as i32;
                        let rows = cql.execute(&select, &stamped(key, round * 100 + client)).rows();
                        assert_eq!(rows, [[Some(int(0)), Some(int(key))]]);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("every answer is right"));
        let joined = counted(&weir, "weir_cql_joined_requests_total", &[("cluster", "main")], before + 1.0);
        assert!(joined > before, "some waited together in {version:?} {options:?}");
        before = joined;
    }
    let flights = weir.series("weir_cql_flights_total", &[("cluster", "main")]).expect("counted");
    assert!(flights > 0.0 && flights <= before, "{flights} answers were shared by {before}");
    drop_keyspace(&node, &keyspace);
}

async fn session(address: String) -> Session {
    let stamps = Arc::new(MonotonicTimestampGenerator::new());
    let builder = SessionBuilder::new().known_node(address).timestamp_generator(stamps);
    builder.build().await.expect("a session")
}

#[tokio::test]
async fn the_rust_driver_joins_although_it_sends_timestamps() {
    let Some(node) = cassandra("single flight of the Rust driver") else { return };
    let keyspace = keyspace("flight_rust");
    let weir = weir_before(&node, 1, &keyspace, "requests_in_flight = 1\n");
    let session = Arc::new(session(door(&weir).to_string()).await);
    let select = session.prepare(format!("SELECT v FROM {keyspace}.t WHERE k = ?")).await.expect("prepared");
    for key in 0..10 {
        let tasks: Vec<_> = (0..32)
            .map(|_| {
                let (session, select) = (session.clone(), select.clone());
                tokio::spawn(async move {
                    let rows = session.execute_unpaged(&select, (key,)).await.expect("rows");
                    rows.into_rows_result().expect("rows").single_row::<(i32,)>().expect("a row")
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.expect("done"), (0,));
        }
    }
    let joined = counted(&weir, "weir_cql_joined_requests_total", &[("cluster", "main")], 10.0);
    assert!(joined <= 320.0, "{joined}");
    drop_keyspace(&node, &keyspace);
}

fn rule(keyspace: &str, more: &str) -> String {
    format!("[cluster.main.rule.hot]\ntable = \"{keyspace}.t\"\n{more}\n")
}

#[test]
fn a_kept_answer_ends_with_a_write_through_any_worker_or_with_its_time() {
    let Some(node) = cassandra("the cache of results") else { return };
    let keyspace = keyspace("kept");
    let weir = weir_before(&node, 2, &keyspace, &rule(&keyspace, "cache_ttl = \"2s\""));
    let mut readers: Vec<Cql> = (0..8).map(|_| Cql::open(door(&weir), Version::V4)).collect();
    let mut writers: Vec<Cql> = (0..4).map(|_| Cql::open(door(&weir), Version::V5)).collect();
    let text = format!("SELECT v FROM {keyspace}.t WHERE k = ?");
    let selects: Vec<_> = readers.iter_mut().map(|cql| cql.prepare(&text).prepared()).collect();
    let text = format!("UPDATE {keyspace}.t SET v = ? WHERE k = ?");
    let updates: Vec<_> = writers.iter_mut().map(|cql| cql.prepare(&text).prepared()).collect();
    let mut read = |reader: usize, key: i32| {
        let rows = readers[reader].execute(&selects[reader], &stamped(key, reader as i64)).rows();
        rows[0][0].clone().expect("a value")
    };
    for value in 1..200 {
        let writer = value as usize % writers.len();
        let with = With::values(&[int(value), int(3)]);
        writers[writer].execute(&updates[writer], &with).expect_result();
        for reader in 0..8 {
            assert_eq!(read(reader, 3), int(value), "what was acknowledged before is read");
        }
        assert_eq!(read(0, 4), int(0), "another partition");
    }
    let hits = counted(&weir, "weir_cql_cache_reads_total", &[("result", "hit")], 1_000.0);
    assert!(hits >= 1_000.0, "of 1,791 reads, two workers ask once after each write: {hits}");
    let outdated = counted(&weir, "weir_cql_cache_outdated_total", &[("cluster", "main")], 1.0);
    assert!(outdated >= 100.0, "{outdated}");

    // what goes past weir is not seen until the time is over
    let mut direct = Cql::open(node.parse::<SocketAddr>().expect("an address"), Version::V4);
    let asked = Instant::now();
    let kept = read(0, 3);
    direct.query(&format!("UPDATE {keyspace}.t SET v = 1000 WHERE k = 3")).expect_result();
    let still = read(0, 3);
    if asked.elapsed() < Duration::from_secs(1) {
        assert_eq!((kept, still), (int(199), int(199)));
    }
    wait_for("the time is over", SOON, || (read(0, 3) == int(1000)).then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    drop_keyspace(&node, &keyspace);
}

#[test]
fn reads_in_flight_are_joined_under_a_rule_and_see_their_own_writes() {
    let Some(node) = cassandra("joining in flight") else { return };
    let keyspace = keyspace("joined");
    let weir = weir_before(&node, 2, &keyspace, &rule(&keyspace, "join_in_flight = true"));
    // all ask for the rows of all, and each writes its own
    let threads: Vec<_> = (0..8)
        .map(|client| {
            let (address, keyspace) = (door(&weir), keyspace.clone());
            std::thread::spawn(move || {
                let mut cql = Cql::open(address, Version::V5);
                let text = format!("SELECT k, v FROM {keyspace}.t WHERE k IN (0, 1, 2, 3, 4, 5, 6, 7)");
                let select = cql.prepare(&text).prepared();
                let update = cql.prepare(&format!("UPDATE {keyspace}.t SET v = ? WHERE k = ?")).prepared();
                let mut written = 0;
                for round in 0..300 {
                    if round % 8 == client {
                        written = round;
                        cql.execute(&update, &With::values(&[int(written), int(client)])).expect_result();
                    }
                    let with = With { timestamp: Some(i64::from(round)), ..With::default() };
                    let rows = cql.execute(&select, &with).rows();
                    assert_eq!(rows.len(), 8);
                    let own = rows.iter().find(|row| row[0] == Some(int(client))).expect("its row");
                    assert_eq!(own[1], Some(int(written)), "what it wrote itself");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("every answer is right"));
    counted(&weir, "weir_cql_joined_requests_total", &[("cluster", "main")], 1.0);
    drop_keyspace(&node, &keyspace);
}
