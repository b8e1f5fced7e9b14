//! weir in front of a ring of three that it knows one node of: it finds the others, sends each key to its owner, and loses
//! no request when a node is killed and none of the others when one stands still. One ring for all of it, which the test
//! starts through `cargo xtask cassandra`.

mod support;
mod support_cql;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Weir, wait_for};
use support_cql::answer::Statement;
use support_cql::own::Nodes;
use support_cql::{Cql, SOON, With, int, sockets_to};
use weir_cql::{Consistency, Version};

/// Enough for a few small tables.
const HEAP: &str = "256m";
/// Keys of each table.
const KEYS: i32 = 500;
/// Clients that read without a pause.
const READERS: i32 = 6;
/// How long a node stands still: longer than weir waits for one request.
const STALL: Duration = Duration::from_secs(6);
/// `request_timeout` of the cluster.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Time-outs below the length of the stall, so that it is met by them.
const CLUSTER: &str = "request_timeout = \"2500ms\"\nstall_timeout = \"4s\"\n";

#[test]
fn a_ring_is_found_routed_to_and_survives_its_nodes() {
    let begun = Instant::now();
    let Some(mut ring) = Nodes::start("a ring of three", "ring", &["--nodes", "3", "--heap", HEAP]) else {
        return;
    };
    println!("the ring is there after {:?}", begun.elapsed());
    let stage = |name: &str, run: &mut dyn FnMut()| {
        let begun = Instant::now();
        run();
        println!("{name}: {:?}", begun.elapsed());
    };
    let tables = Tables::make(&ring.addresses[0]);
    let weir = one_contact(&ring, CLUSTER);
    stage("discovery from one contact", &mut || discovery(&weir, &ring));
    stage("keys go to their owners", &mut || owners(&weir, &ring, &tables));
    stage("a node stands still", &mut || stalled(&weir, &ring));
    drop(weir);
    // with the time-outs of the file: an answer that is late on a busy machine is no error
    let weir = one_contact(&ring, "");
    stage("the contact is killed and comes back", &mut || killed(&weir, &mut ring));
    stage("a type that the driver does not know", &mut || unknown_type(&ring, &tables));
    println!("in all {:?}", begun.elapsed());
}

/// weir with the first node as its contact, when it knows the others.
fn one_contact(ring: &Nodes, cluster: &str) -> Weir {
    let text = "workers = 1\n".to_owned() + &support_cql::file(&ring.addresses[0], cluster, "");
    let weir = Weir::with_config(&text, &[]);
    wait_for("the cluster tells of three nodes", SOON, || {
        (weir.metric("weir_cql_placement_nodes", &["cluster=\"main\""]) == 3.0).then_some(())
    });
    weir
}

fn door(weir: &Weir) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port))
}

fn direct(address: &str) -> Cql {
    let address: SocketAddr = address.parse().expect("an address");
    Cql::open(address, Version::V4)
}

/// `ring_one.t` has each row on one node, `ring_all.t` on all three; `v` is ten times `k`.
struct Tables {
    /// The node that owns each key of `ring_one.t`: its address.
    owners: BTreeMap<i32, String>,
}

impl Tables {
    fn make(node: &str) -> Tables {
        let mut cql = direct(node);
        for (keyspace, copies) in [("ring_one", 1), ("ring_all", 3)] {
            let replication =
                format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}");
            cql.query(&format!("CREATE KEYSPACE {keyspace} WITH replication = {replication}"))
                .expect_result();
            cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
            agree(&mut cql);
            let insert = cql.prepare(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")).prepared();
            for key in 0..KEYS {
                let values = [int(key), int(key * 10)];
                let with = With { consistency: Some(Consistency::ALL), ..With::values(&values) };
                cql.execute(&insert, &with).expect_result();
            }
        }
        let ring = tokens(&mut cql, node);
        let rows = cql.query("SELECT k, token(k) FROM ring_one.t").rows();
        let owners = rows.iter().map(|row| {
            let key = i32::from_be_bytes(bytes(&row[0]));
            let token = i64::from_be_bytes(bytes(&row[1]));
            // the first node at or after the token, around the ring
            let owner = ring.range(token..).next().or_else(|| ring.iter().next()).expect("a ring").1;
            (key, owner.clone())
        });
        Tables { owners: owners.collect() }
    }
}

/// Waits until every node has the schema: each takes rows of a table only once it knows it.
fn agree(cql: &mut Cql) {
    wait_for("the nodes agree on the schema", SOON, || {
        let mut versions = cql.query("SELECT schema_version FROM system.local").rows();
        versions.extend(cql.query("SELECT schema_version FROM system.peers").rows());
        versions.dedup();
        (versions.len() == 1).then_some(())
    });
}

fn bytes<const N: usize>(cell: &Option<Vec<u8>>) -> [u8; N] {
    cell.as_deref().expect("a value").try_into().expect("its length")
}

/// The tokens of every node, as one of them tells.
fn tokens(cql: &mut Cql, node: &str) -> BTreeMap<i64, String> {
    let port = node.rsplit(':').next().expect("a port");
    let mut all = BTreeMap::new();
    for table in ["local", "peers"] {
        for row in cql.query(&format!("SELECT rpc_address, tokens FROM system.{table}")).rows() {
            let address = format!("{}:{port}", Ipv4Addr::from(bytes::<4>(&row[0])));
            let set = row[1].as_deref().expect("tokens");
            let mut rest = &set[4..];
            for _ in 0..u32::from_be_bytes(set[..4].try_into().expect("a count")) {
                let (length, tail) = rest.split_at(4);
                let length = u32::from_be_bytes(length.try_into().expect("a length")) as usize;
                let token = std::str::from_utf8(&tail[..length]).expect("text").parse().expect("a number");
                all.insert(token, address.clone());
                rest = &tail[length..];
            }
        }
    }
    all
}

/// Waits until weir has a connection to each node, which it makes once there are clients.
fn discovery(weir: &Weir, ring: &Nodes) {
    assert_eq!(sockets(weir, ring), [1, 0, 0], "only the control connection");
    let mut clients: Vec<Cql> = (0..50).map(|_| Cql::open(door(weir), Version::V4)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let key = index as i32;
        let rows = client.query(&format!("SELECT v FROM ring_all.t WHERE k = {key}")).rows();
        assert_eq!(rows, [[Some(int(key * 10))]]);
    }
    wait_for("one connection to each node, and the control connection", SOON, || {
        (sockets(weir, ring) == [2, 1, 1]).then_some(())
    });
    let pools = weir.control("/pools");
    let places: Vec<_> = pools[0]["servers"].as_array().expect("nodes").iter().collect();
    assert_eq!(places.len(), 3);
    for node in places {
        assert_eq!((&node["data_center"], &node["rack"]), (&"datacenter1".into(), &"rack1".into()), "{node}");
        assert!(node["shards"].is_null(), "Cassandra has none: {node}");
    }
    let control = &pools[0]["control"];
    assert_eq!((&control["up"], &control["nodes"]), (&true.into(), &3.into()), "{control}");
}

fn sockets(weir: &Weir, ring: &Nodes) -> Vec<usize> {
    ring.addresses.iter().map(|address| sockets_to(weir.process.pid(), address)).collect()
}

/// Requests that each node has had on weir's data connections since they were opened, as the nodes count them.
fn requests(ring: &Nodes) -> Vec<i64> {
    let of = |address: &String| {
        let mut cql = direct(address);
        let rows = cql.query("SELECT driver_name, request_count FROM system_views.clients").rows();
        let weirs = rows.iter().filter(|row| row[0].as_deref() == Some(b"weir"));
        weirs.map(|row| i64::from_be_bytes(bytes(&row[1]))).sum()
    };
    ring.addresses.iter().map(of).collect()
}

/// Each key is asked for at the node that owns it, by EXECUTE and by QUERY.
fn owners(weir: &Weir, ring: &Nodes, tables: &Tables) {
    let mut cql = Cql::open(door(weir), Version::V4);
    let select = cql.prepare("SELECT v FROM ring_one.t WHERE k = ?").prepared();
    // a statement is prepared at each node on demand: not what is counted here
    (0..KEYS).for_each(|key| read(&mut cql, &select, key));
    let expected: Vec<i64> = ring
        .addresses
        .iter()
        .map(|address| tables.owners.values().filter(|owner| *owner == address).count() as i64)
        .collect();
    assert!(expected.iter().all(|keys| *keys > 0), "each node owns some: {expected:?}");
    for how in ["EXECUTE", "QUERY"] {
        let before = requests(ring);
        for key in 0..KEYS {
            match how {
                "EXECUTE" => read(&mut cql, &select, key),
                _ => {
                    let text = format!("SELECT v FROM ring_one.t WHERE k = {key}");
                    assert_eq!(cql.query(&text).rows(), [[Some(int(key * 10))]]);
                }
            }
        }
        let after = requests(ring);
        let got: Vec<i64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        println!("{how}: owned {expected:?}, asked {got:?}");
        assert_eq!(got, expected, "{how}: each node was asked for what it owns");
    }
}

fn read(cql: &mut Cql, select: &Statement, key: i32) {
    assert_eq!(cql.execute(select, &With::values(&[int(key)])).rows(), [[Some(int(key * 10))]]);
}

/// What one client saw.
#[derive(Default)]
struct Seen {
    good: Vec<Instant>,
    errors: Vec<(Instant, String)>,
    longest: Duration,
}

/// Reads from `ring_all` at LOCAL_ONE without a pause, on one connection.
fn reader(door: SocketAddr, first: i32, stop: &AtomicBool) -> Seen {
    let mut cql = Cql::open(door, Version::V4);
    let select = cql.prepare("SELECT v FROM ring_all.t WHERE k = ?").prepared();
    let (mut seen, mut key) = (Seen::default(), first);
    while !stop.load(Ordering::Relaxed) {
        key = (key + 1) % KEYS;
        let with = With { consistency: Some(Consistency::LOCAL_ONE), ..With::values(&[int(key)]) };
        let asked = Instant::now();
        let answer = cql.execute(&select, &with);
        seen.longest = seen.longest.max(asked.elapsed());
        match answer.error() {
            None => {
                assert_eq!(answer.rows(), [[Some(int(key * 10))]], "the answer to this question");
                seen.good.push(Instant::now());
            }
            Some((_, words)) => seen.errors.push((Instant::now(), words)),
        }
    }
    seen
}

/// Readers that run while `happens` does.
fn under_load(door: SocketAddr, happens: impl FnOnce()) -> Vec<Seen> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> =
            (0..READERS).map(|n| scope.spawn(move || reader(door, n * KEYS / READERS, stop))).collect();
        happens();
        stop.store(true, Ordering::Relaxed);
        // a reader that lost its connection, or got the rows of another, has panicked
        readers.into_iter().map(|reader| reader.join().expect("a reader")).collect()
    })
}

/// The second node is stopped: what it was sent ends in time, everything else goes on at the others.
fn stalled(weir: &Weir, ring: &Nodes) {
    let node = Frozen(ring.pids[1]);
    let (mut stopped, mut resumed) = (Instant::now(), Instant::now());
    let seen = under_load(door(weir), || {
        std::thread::sleep(Duration::from_millis(500));
        stopped = Instant::now();
        node.signal(libc::SIGSTOP);
        std::thread::sleep(STALL);
        node.signal(libc::SIGCONT);
        resumed = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
    });
    let during = |at: &Instant| (stopped..resumed).contains(at);
    let good: usize = seen.iter().map(|seen| seen.good.iter().filter(|at| during(at)).count()).sum();
    let errors: Vec<&String> = seen.iter().flat_map(|seen| &seen.errors).map(|(_, words)| words).collect();
    let longest = seen.iter().map(|seen| seen.longest).max().unwrap_or_default();
    println!("{good} rows while it stood still, {} errors, longest answer {longest:?}", errors.len());
    assert!(good > 300, "others go on: {good}");
    assert!(longest < REQUEST_TIMEOUT + Duration::from_secs(1), "every request ends in time: {longest:?}");
    // each reader has one request at a time: it may wait for the node once, and again after that was given up
    assert!(errors.len() <= 3 * READERS as usize, "{errors:?}");
    assert!(errors.iter().all(|words| words.starts_with("weir: ")), "{errors:?}");
    for seen in &seen {
        assert!(seen.good.last().is_some_and(|at| *at > resumed), "rows came again for every reader");
    }
}

/// A node of ours that is let go on in the end, whatever the test finds.
struct Frozen(i32);

impl Frozen {
    fn signal(&self, signal: i32) {
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        let pid = rustix::process::Pid::from_raw(self.0).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("it is ours and runs");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.signal(libc::SIGCONT);
        }
    }
}

/// The first node, weir's only contact, is killed: no reader sees an error, the control connection finds another node, and
/// all is as before when the node is back.
fn killed(weir: &Weir, ring: &mut Nodes) {
    let (mut dead, mut back) = (Instant::now(), Instant::now());
    let seen = under_load(door(weir), || {
        std::thread::sleep(Duration::from_millis(500));
        dead = Instant::now();
        ring.tell("kill 1");
        wait_for("the control connection is at another node", Duration::from_secs(30), || {
            let sockets = sockets(weir, ring);
            (sockets[0] == 0 && sockets[1] + sockets[2] == 3).then_some(())
        });
        println!("the control connection moved after {:?}", dead.elapsed());
        ring.tell("start 1");
        wait_for("a connection to the node that came back", SOON, || {
            (sockets(weir, ring)[0] >= 1).then_some(())
        });
        back = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
    });
    let errors: Vec<&String> = seen.iter().flat_map(|seen| &seen.errors).map(|(_, words)| words).collect();
    let good: usize = seen.iter().map(|seen| seen.good.len()).sum();
    println!("{good} rows, away {:?}, {} errors", back - dead, errors.len());
    assert!(errors.is_empty(), "{} of {good}: {:?}", errors.len(), errors.first());
    assert!(seen.iter().all(|seen| seen.good.iter().any(|at| *at > back)), "rows until the end");
    assert_eq!(weir.series("weir_upstream_desync_total", &[]), Some(0.0));
    wait_for("three connections and the control connection, as before", SOON, || {
        let up = weir.metric("weir_cql_control_up", &["cluster=\"main\""]) == 1.0;
        (up && sockets(weir, ring).iter().sum::<usize>() == 4).then_some(())
    });
    let failures =
        weir.metric("weir_cql_placement_failures_total", &["cluster=\"main\"", "cause=\"connect\""]);
    assert!(failures >= 1.0, "it was noticed");
    assert!(weir.logs("control_down").contains("main"), "{}", weir.log());
}

/// A schema the driver gives up on: weir still knows nodes and replicas, and says what it lacks.
fn unknown_type(ring: &Nodes, tables: &Tables) {
    let odd = "'org.apache.cassandra.db.marshal.DynamicCompositeType(b=>org.apache.cassandra.db.marshal.BytesType)'";
    let text = format!("CREATE TABLE ring_all.odd (k int PRIMARY KEY, v {odd})");
    let mut cql = direct(&ring.addresses[0]);
    cql.query(&text).expect_result();
    agree(&mut cql);
    let weir = one_contact(ring, "");
    let lacks = weir.control("/pools")[0]["control"]["lacks"].clone();
    assert!(lacks.as_str().is_some_and(|lacks| lacks.contains("partition keys")), "{lacks}");
    let mut cql = Cql::open(door(&weir), Version::V4);
    let select = cql.prepare("SELECT v FROM ring_one.t WHERE k = ?").prepared();
    (0..KEYS).for_each(|key| read(&mut cql, &select, key));
    let owned = tables.owners.values().filter(|owner| **owner == ring.addresses[1]).count() as i64;
    let before = requests(ring)[1];
    (0..KEYS).for_each(|key| read(&mut cql, &select, key));
    assert_eq!(requests(ring)[1] - before, owned, "keys still go to their owners");
}
