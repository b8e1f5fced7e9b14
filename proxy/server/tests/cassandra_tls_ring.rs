//! A ring of three that is reached over TLS only: weir follows it from one contact, sends each key to its owner, and loses
//! no idempotent request when a node is killed and comes back. The nodes speak plain CQL on a port of its own, on which
//! the test looks at them; what they say about weir's connections (`system_views.clients`) is the proof.

mod support;
mod support_cql;
mod support_tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::own::Nodes;
use support_cql::{Cql, SOON, With, int, sockets_to};
use support_tls::Authority;
use weir_cql::{Consistency, Version};

/// The port on which the nodes speak TLS and nothing else.
const TLS_PORT: u16 = 9142;
/// The name that all nodes' certificates bear.
const NAME: &str = "node.weir.test";
/// Keys of each table.
const KEYS: i32 = 200;
/// Clients that read without a pause.
const READERS: i32 = 4;

#[test]
fn a_ring_over_tls_is_followed_routed_to_and_survives_a_node() {
    let folder = tempfile::tempdir().expect("a directory");
    let ca = Authority::new("ring");
    let Some(mut ring) = start(&ca, folder.path()) else { return };
    make_tables(&ring.addresses[0]);
    let contact = over_tls(&ring.addresses[0]);
    let cluster = format!(
        "tls = true\ntls_ca = \"{{dir}}/ca.pem\"\ntls_server_name = \"{NAME}\"\n\
         request_timeout = \"5s\"\nstall_timeout = \"6s\"\n"
    );
    let text = "workers = 1\n".to_owned() + &support_cql::file(&contact, &cluster, "");
    let weir = Weir::with(&[("ca.pem", &ca.pem), ("weir.toml", &text)], &[], None);
    wait_for("the cluster tells of three nodes", SOON, || {
        (weir.metric("weir_cql_placement_nodes", &["cluster=\"main\""]) == 3.0).then_some(())
    });
    encrypted(&weir, &ring);
    owners(&weir, &ring);
    killed(&weir, &mut ring);
}

/// The ring; `None`, said aloud, where there is none to be had.
fn start(ca: &Authority, folder: &std::path::Path) -> Option<Nodes> {
    let pair = ca.vouch(&[NAME]);
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("node.pem"), format!("{}{}", pair.key, pair.cert)).expect("written");
    let settings = format!(
        "native_transport_port_ssl: {TLS_PORT}\n\
         client_encryption_options:\n\
         \x20 enabled: true\n\
         \x20 optional: false\n\
         \x20 ssl_context_factory:\n\
         \x20   class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n\
         \x20 keystore: {}\n",
        path("node.pem")
    );
    let file = path("more.yaml");
    std::fs::write(&file, settings).expect("written");
    Nodes::start("a ring with TLS", "tlsring", &["--nodes", "3", "--heap", "256m", "--settings", &file])
}

fn over_tls(address: &str) -> String {
    let (host, _) = address.rsplit_once(':').expect("a port");
    format!("{host}:{TLS_PORT}")
}

fn direct(address: &str) -> Cql {
    Cql::open(address.parse::<SocketAddr>().expect("an address"), Version::V4)
}

fn door(weir: &Weir) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port))
}

/// `tls_one.t` has each row on one node, `tls_all.t` on all; `v` is ten times `k`.
fn make_tables(node: &str) {
    let mut cql = direct(node);
    for (keyspace, copies) in [("tls_one", 1), ("tls_all", 3)] {
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}");
        cql.query(&format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}")).expect_result();
        cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
        wait_for("the nodes agree on the schema", SOON, || {
            let mut versions = cql.query("SELECT schema_version FROM system.local").rows();
            versions.extend(cql.query("SELECT schema_version FROM system.peers").rows());
            versions.dedup();
            (versions.len() == 1).then_some(())
        });
        let insert = cql.prepare(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")).prepared();
        for key in 0..KEYS {
            let values = [int(key), int(key * 10)];
            let with = With { consistency: Some(Consistency::ALL), ..With::values(&values) };
            cql.execute(&insert, &with).expect_result();
        }
    }
}

/// All of weir's connections are encrypted, the control connection's among them, and there is one to each node.
fn encrypted(weir: &Weir, ring: &Nodes) {
    let mut clients: Vec<Cql> = (0..10).map(|_| Cql::open(door(weir), Version::V4)).collect();
    for (key, client) in clients.iter_mut().enumerate() {
        let key = key as i32;
        let rows = client.query(&format!("SELECT v FROM tls_all.t WHERE k = {key}")).rows();
        assert_eq!(rows, [[Some(int(key * 10))]]);
    }
    wait_for("one connection to each node, and the control connection", SOON, || {
        (sockets(weir, ring) == [2, 1, 1]).then_some(())
    });
    // a socket counts from its handshake of TCP on; what a node knows of its client comes with the STARTUP after TLS
    wait_for(
        "every connection is encrypted: the driver's for control, and weir's to each node",
        SOON,
        || (encrypted_drivers(ring) == ["ScyllaDB Rust Driver", "weir", "weir", "weir"]).then_some(()),
    );
}

/// What the clients of all nodes that speak TLS call themselves, sorted.
fn encrypted_drivers(ring: &Nodes) -> Vec<String> {
    let mut drivers = Vec::new();
    for address in &ring.addresses {
        let rows = direct(address).query("SELECT ssl_enabled, driver_name FROM system_views.clients").rows();
        for row in rows.iter().filter(|row| row[0] == Some(vec![1])) {
            drivers.extend(row[1].clone().map(|name| String::from_utf8(name).expect("text")));
        }
    }
    drivers.sort();
    drivers
}

fn sockets(weir: &Weir, ring: &Nodes) -> Vec<usize> {
    ring.addresses.iter().map(|address| sockets_to(weir.process.pid(), &over_tls(address))).collect()
}

/// Requests that each node has had on weir's data connections since they were opened, as the nodes count them.
fn requests(ring: &Nodes) -> Vec<i64> {
    let of = |address: &String| {
        let rows =
            direct(address).query("SELECT driver_name, request_count FROM system_views.clients").rows();
        let weirs = rows.iter().filter(|row| row[0].as_deref() == Some(b"weir"));
        let count = |cell: &Option<Vec<u8>>| {
            i64::from_be_bytes(cell.as_deref().expect("a count").try_into().expect("a bigint"))
        };
        weirs.map(|row| count(&row[1])).sum()
    };
    ring.addresses.iter().map(of).collect()
}

/// Each key is asked for at its one replica: no node has to ask another. That these are the right ones `cassandra_ring`
/// shows key by key, without TLS.
fn owners(weir: &Weir, ring: &Nodes) {
    // in the version of the others, which have their connections: each version has its own
    let mut cql = Cql::open(door(weir), Version::V4);
    let select = cql.prepare("SELECT v FROM tls_one.t WHERE k = ?").prepared();
    let mut read = |key: i32| {
        assert_eq!(cql.execute(&select, &With::values(&[int(key)])).rows(), [[Some(int(key * 10))]]);
    };
    (0..KEYS).for_each(&mut read); // each node has prepared it, and its tables are known
    let labels = [("result", "replica")];
    let routed = || weir.series("weir_cql_routed_requests_total", &labels).unwrap_or(0.0);
    let (before, at_replicas) = (requests(ring), routed());
    (0..KEYS).for_each(&mut read);
    let asked: Vec<i64> = requests(ring).iter().zip(&before).map(|(after, before)| after - before).collect();
    println!("over TLS the nodes were asked {asked:?}");
    assert_eq!(asked.iter().sum::<i64>(), i64::from(KEYS));
    assert!(asked.iter().all(|keys| *keys > 0), "each node owns some: {asked:?}");
    wait_for("all of them went to a replica", SOON, || {
        (routed() - at_replicas >= f64::from(KEYS)).then_some(())
    });
}

/// Reads from `tls_all` at LOCAL_ONE without a pause; rows that came, errors, and when the last row came.
fn reader(door: SocketAddr, stop: &AtomicBool) -> (usize, Vec<String>, Instant) {
    let mut cql = Cql::open(door, Version::V4);
    let select = cql.prepare("SELECT v FROM tls_all.t WHERE k = ?").prepared();
    let (mut good, mut errors, mut last, mut key) = (0, Vec::new(), Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        key = (key + 1) % KEYS;
        let with = With { consistency: Some(Consistency::LOCAL_ONE), ..With::values(&[int(key)]) };
        let answer = cql.execute(&select, &with);
        match answer.error() {
            None => {
                assert_eq!(answer.rows(), [[Some(int(key * 10))]], "the answer to this question");
                (good, last) = (good + 1, Instant::now());
            }
            Some((_, words)) => errors.push(words),
        }
    }
    (good, errors, last)
}

/// Ends the readers also when a wait fails, so that the test does.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The first node, weir's only contact, is killed: no reader sees an error, the control connection finds another node over
/// TLS, and all is as before when the node is back.
fn killed(weir: &Weir, ring: &mut Nodes) {
    let stop = AtomicBool::new(false);
    let (readers, back) = std::thread::scope(|scope| {
        let stop = &stop;
        let _ends = Ends(stop);
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(move || reader(door(weir), stop))).collect();
        std::thread::sleep(Duration::from_millis(500));
        ring.tell("kill 1");
        wait_for("the control connection is at another node", Duration::from_secs(30), || {
            let sockets = sockets(weir, ring);
            (sockets[0] == 0 && sockets[1] + sockets[2] == 3).then_some(())
        });
        ring.tell("start 1");
        wait_for("a connection to the node that came back", Duration::from_secs(30), || {
            (sockets(weir, ring)[0] >= 1).then_some(())
        });
        let back = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        // a reader that lost its connection, or got the rows of another, has panicked
        (readers.into_iter().map(|reader| reader.join().expect("a reader")).collect::<Vec<_>>(), back)
    });
    let good: usize = readers.iter().map(|(good, ..)| good).sum();
    let errors: Vec<&String> = readers.iter().flat_map(|(_, errors, _)| errors).collect();
    println!("{good} rows over TLS while a node was killed and restarted, {} errors", errors.len());
    assert!(errors.is_empty(), "{} of {good}: {:?}", errors.len(), errors.first());
    assert!(readers.iter().all(|(_, _, last)| *last > back), "rows until the end");
    wait_for("three connections and the control connection, as before", SOON, || {
        let up = weir.metric("weir_cql_control_up", &["cluster=\"main\""]) == 1.0;
        (up && sockets(weir, ring).iter().sum::<usize>() == 4).then_some(())
    });
}
