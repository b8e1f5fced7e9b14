//! The native protocol byte by byte through a running weir against the real Cassandra, in every version: the handshake,
//! what a driver is shown of the cluster, statements shared between clients, and how many sockets it takes.

mod support;
mod support_cql;

use std::net::{Ipv4Addr, SocketAddr};
use support::{Weir, wait_for};
use support_cql::{
    CONTROL, Cql, SOON, With, before, cassandra, counted, create_keyspace, int, keyspace, list, sockets_to,
};
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::response::{ErrorCode, Response, supported};

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

fn direct(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

/// A version and the compression to agree on.
const OPENINGS: [(Version, &[(&str, &str)]); 6] = [
    (Version::V3, &[]),
    (Version::V4, &[]),
    (Version::V5, &[]),
    (Version::V4, &[("COMPRESSION", "lz4")]),
    (Version::V4, &[("COMPRESSION", "snappy")]),
    (Version::V5, &[("COMPRESSION", "lz4")]),
];

#[test]
fn options_tell_weirs_own_and_nothing_of_shards() {
    let Some(node) = cassandra("OPTIONS") else { return };
    let weir = before(&node);
    for version in VERSIONS {
        let mut cql = Cql::connect(door(&weir), version);
        let answer = cql.options();
        let Response::Supported(options) = answer.read() else { panic!("{answer:?}") };
        let mut names = Vec::new();
        for (name, values) in supported(&answer.body, options) {
            let values: Vec<String> =
                values.map(|value| String::from_utf8_lossy(value).into_owned()).collect();
            if name == b"PROTOCOL_VERSIONS" {
                assert_eq!(values, ["3/v3", "4/v4", "5/v5"]);
            }
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        assert_eq!(names, ["COMPRESSION", "CQL_VERSION", "PROTOCOL_VERSIONS"]);
        cql.startup(&[]);
        assert_eq!(cql.query("SELECT key FROM system.local").rows().len(), 1);
    }
}

#[test]
fn a_version_nobody_speaks_is_refused_and_the_socket_stays_open() {
    let Some(node) = cassandra("unknown protocol versions") else { return };
    let weir = before(&node);
    let mut cql = Cql::connect(door(&weir), Version::V4);
    for unknown in [0x42, 0x41, 0x06] {
        // OPTIONS on stream 0
        cql.send_bytes(&[unknown, 0, 0, 0, 5, 0, 0, 0, 0]).expect("sent");
        let (code, words) = cql.answer().expect_error();
        assert_eq!(code, ErrorCode::PROTOCOL_ERROR);
        assert!(words.contains("unsupported protocol version") && words.contains("5/v5"), "{words}");
    }
    cql.version = Version::V4;
    cql.startup(&[]);
    assert_eq!(cql.query("SELECT key FROM system.local").rows().len(), 1);
    counted(&weir, "weir_invalid_requests_total", &[("cause", "version")], 3.0);
}

#[test]
fn one_node_at_the_dialled_address_is_all_a_driver_sees() {
    let Some(node) = cassandra("system.local and system.peers") else { return };
    let weir = before(&node);
    let real = Cql::open(direct(&node), Version::V4).query("SELECT * FROM system.local");
    for (version, options) in OPENINGS {
        let mut cql = Cql::open_with(door(&weir), version, options);
        let statement = cql.prepare("SELECT * FROM system.local WHERE key = 'local'").prepared();
        let shown = [
            cql.query("SELECT * FROM system.local"),
            cql.query("SELECT * FROM system.local WHERE key='local'"),
            cql.execute(&statement, &With::default()),
        ];
        for shown in &shown {
            assert_eq!(shown.columns(), real.columns());
            for address in ["rpc_address", "broadcast_address", "listen_address"] {
                assert_eq!(shown.cell(address), Some(vec![127, 0, 0, 1]), "{address} in {}", version.name());
            }
            assert_eq!(shown.cell("rpc_port"), Some(int(i32::from(weir.port))));
            let tokens = shown.cell("tokens").expect("tokens");
            assert_eq!(tokens[..4], [0, 0, 0, 1], "one token: {tokens:?}");
            assert_ne!(shown.cell("host_id"), real.cell("host_id"), "weir's own");
            for same in ["data_center", "rack", "release_version", "partitioner", "cluster_name"] {
                assert_eq!(shown.cell(same), real.cell(same), "{same} in {}", version.name());
            }
        }
        let named = cql.query("SELECT rack, rpc_address AS a FROM system.local").rows();
        assert_eq!(named[0][1], Some(vec![127, 0, 0, 1]));
        for peers in ["system.peers", "system.peers_v2"] {
            let text = format!("SELECT * FROM {peers}");
            assert_eq!(cql.query(&text).rows().len(), 0);
            let statement = cql.prepare(&text).prepared();
            assert_eq!(cql.execute(&statement, &With::default()).rows().len(), 0);
        }
        assert!(cql.query("SELECT table_name FROM system_schema.tables").rows().len() > 10);
    }
}

#[test]
fn every_version_and_compression_writes_and_reads_the_same() {
    let Some(node) = cassandra("transcripts of every version") else { return };
    let weir = before(&node);
    let keyspace = keyspace("transcripts");
    let mut first = Cql::open(door(&weir), Version::V4);
    first.query(&create_keyspace(&keyspace)).expect_result();
    first.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")).expect_result();
    for (round, (version, options)) in (0..).zip(OPENINGS) {
        let at = format!("{} {options:?}", version.name());
        let round: i32 = round;
        let mut cql = Cql::open_with(door(&weir), version, options);
        cql.query(&format!("USE {keyspace}")).expect_result();
        // longer than one segment
        let long = "x".repeat(200_000 + round as usize);
        let insert = cql.prepare("INSERT INTO t (k, v) VALUES (?, ?)").prepared();
        cql.execute(&insert, &With::values(&[int(round), long.clone().into_bytes()])).expect_result();
        let select = cql.prepare("SELECT k, v FROM t WHERE k = ?").prepared();
        let through = cql.execute(&select, &With::values(&[int(round)]));
        assert_eq!(through.rows(), [[Some(int(round)), Some(long.into_bytes())]], "{at}");
        let mut straight = Cql::open_with(direct(&node), version, options);
        let text = format!("SELECT k, v FROM {keyspace}.t WHERE k = {round}");
        let same = straight.query(&text);
        let again = cql.query(&text);
        assert_eq!((again.body, again.header.opcode), (same.body, same.header.opcode), "byte for byte: {at}");
        let bad = ["SELEC", "SELECT * FROM nowhere.t", "SELECT nothing FROM system.local"];
        for bad in bad {
            let (through, same) = (cql.query(bad), straight.query(bad));
            assert_eq!(through.expect_error(), same.expect_error(), "{at}");
        }
    }
    first.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn what_one_client_prepared_another_executes() {
    let Some(node) = cassandra("PREPARE by one client, EXECUTE by another") else { return };
    let weir = before(&node);
    let keyspace = keyspace("shared");
    let mut first = Cql::open(door(&weir), Version::V4);
    first.query(&create_keyspace(&keyspace)).expect_result();
    first.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    first.query(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (7, 70)")).expect_result();
    let text = format!("SELECT v FROM {keyspace}.t WHERE k IN ?");
    let statement = first.prepare(&text).prepared();
    for version in [Version::V3, Version::V4] {
        let mut other = Cql::open(door(&weir), version);
        let rows = other.execute(&statement, &With::values(&[list([7, 8])])).rows();
        assert_eq!(rows, [[Some(int(70))]], "{}", version.name());
    }
    assert_eq!(first.prepare(&text).prepared().id, statement.id);
    counted(&weir, "weir_cql_prepares_total", &[("result", "cached")], 1.0);
    // an id that nobody prepared
    let mut unknown = statement.clone();
    unknown.id = vec![9; 16];
    let answer = first.execute(&unknown, &With::default());
    assert_eq!(answer.unprepared(), Some(vec![9; 16]), "{answer:?}");

    // The node forgets every statement on a table when the table goes.
    first.query(&format!("DROP TABLE {keyspace}.t")).expect_result();
    first.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v int)")).expect_result();
    first.query(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (7, 71)")).expect_result();
    let mut straight = Cql::open(direct(&node), Version::V4);
    let forgotten = straight.execute(&statement, &With::values(&[list([7])]));
    assert_eq!(
        forgotten.unprepared(),
        Some(statement.id.clone()),
        "the node has forgotten it: {forgotten:?}"
    );
    let rows = first.execute(&statement, &With::values(&[list([7, 8])])).rows();
    assert_eq!(rows, [[Some(int(71))]], "weir prepares it again");
    assert_eq!(counted(&weir, "weir_cql_reprepares_total", &[], 1.0), 1.0);
    first.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn schema_changes_reach_clients_that_registered() {
    let Some(node) = cassandra("SCHEMA_CHANGE events") else { return };
    let weir = before(&node);
    let mut listening = Cql::open(door(&weir), Version::V4);
    listening.register(&["SCHEMA_CHANGE", "STATUS_CHANGE", "TOPOLOGY_CHANGE"]);
    let keyspace = keyspace("events");
    let mut straight = Cql::open(direct(&node), Version::V4);
    straight.query(&create_keyspace(&keyspace)).expect_result();
    loop {
        // tests beside this one change the schema as well
        let event = listening.answer();
        assert_eq!(event.header.opcode, Opcode::Event);
        if event.body.windows(keyspace.len()).any(|window| window == keyspace.as_bytes()) {
            break;
        }
    }
    straight.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

#[test]
fn two_hundred_clients_in_twenty_keyspaces_share_the_sockets_of_one() {
    let Some(node) = cassandra("200 clients x 20 keyspaces") else { return };
    let weir = Weir::with_config(&support_cql::file(&node, "connections_per_node = 2", ""), &[]);
    let base = keyspace("crowd");
    let mut straight = Cql::open(direct(&node), Version::V4);
    for number in 0..20 {
        straight.query(&create_keyspace(&format!("{base}_{number}"))).expect_result();
        let table = format!("CREATE TABLE {base}_{number}.t (k int PRIMARY KEY, v int)");
        straight.query(&table).expect_result();
        straight.query(&format!("INSERT INTO {base}_{number}.t (k, v) VALUES (1, {number})")).expect_result();
    }
    let mut clients: Vec<Cql> = (0..200).map(|_| Cql::open(door(&weir), Version::V4)).collect();
    let rows = |number: usize| [[Some(int(number as i32))]];
    for round in 0..2 {
        for (index, client) in clients.iter_mut().enumerate() {
            let number = (index + round) % 20;
            client.query(&format!("USE {base}_{number}")).expect_result();
            assert_eq!(client.query("SELECT v FROM t WHERE k = 1").rows(), rows(number));
            let statement = client.prepare("SELECT v FROM t WHERE k = ?").prepared();
            assert_eq!(client.execute(&statement, &With::values(&[int(1)])).rows(), rows(number));
        }
    }
    assert_eq!(counted(&weir, "weir_client_connections", &[("listener", "cql")], 200.0), 200.0);
    wait_for("sockets to the node: those with data and the control connection", SOON, || {
        (sockets_to(weir.process.pid(), &node) == workers(&weir) * 2 + CONTROL).then_some(())
    });
    let ready = weir.metric("weir_backend_connections", &["state=\"ready\""]);
    let all = weir.metrics();
    let states: Vec<&str> =
        all.lines().filter(|line| line.starts_with("weir_backend_connections{")).collect();
    assert_eq!(ready as usize, workers(&weir) * 2, "{states:#?}");
    for number in 0..20 {
        straight.query(&format!("DROP KEYSPACE {base}_{number}")).expect_result();
    }
}

fn workers(weir: &Weir) -> usize {
    weir.control("/snapshot")["instance"]["workers"].as_u64().expect("their number") as usize
}
