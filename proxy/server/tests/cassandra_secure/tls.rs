//! TLS to the node, and with clients.

use super::support::{Weir, wait_for};
use super::support_cql::{Cql, SOON, With, counted, create_keyspace, file, int};
use super::support_tls::{Authority, client, connect};
use super::{Secure, node};
use std::net::SocketAddr;
use weir_cql::Version;

/// The user of these tests' connections, so that the node can tell them from those of the others.
const USER: &str = "encrypted";
const UPSTREAM: &str = "auth_file = \"{dir}/auth\"\ntls = true\ntls_ca = \"{dir}/ca.pem\"\n";
const OWN: &str = "tls_client_cert = \"{dir}/own.crt\"\ntls_client_key = \"{dir}/own.key\"\n";
const DOOR: &str = "tls_cert = \"{dir}/weir.crt\"\ntls_key = \"{dir}/weir.key\"\n";

/// A weir before the node, with these lines of the cluster and of the listener.
fn weir(node: &Secure, cluster: &str, listener: &str) -> Weir {
    super::auth::role(node, USER, "secret");
    // it reads what the node says of its connections
    super::auth::superuser(node).query(&format!("ALTER ROLE {USER} WITH SUPERUSER = true")).expect_result();
    let door = node.ca.vouch(&["127.0.0.1"]);
    let text = file(&node.address, cluster, listener);
    let files = [
        ("ca.pem", node.ca.pem.as_str()),
        ("other.pem", &Authority::new("other").pem),
        ("own.crt", &node.own.cert),
        ("own.key", &node.own.key),
        ("weir.crt", &door.cert),
        ("weir.key", &door.key),
        ("auth", "encrypted secret\n"),
        ("weir.toml", &text),
    ];
    Weir::with(&files, &[], None)
}

fn door(weir: &Weir) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], weir.port))
}

/// What the node says of weir's connections: driver, and TLS.
fn seen(cql: &mut Cql) -> Vec<(String, bool)> {
    let answer = cql.query("SELECT username, ssl_enabled, driver_name FROM system_views.clients");
    let text = |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap_or_default()).expect("text");
    let rows = answer.rows();
    let own = rows.iter().filter(|row| text(&row[0]) == USER);
    own.map(|row| (text(&row[2]), row[1] == Some(vec![1]))).collect()
}

#[test]
fn requests_go_encrypted_from_the_client_to_the_node() {
    let Some(node) = node() else { return };
    let named = format!("{UPSTREAM}{OWN}tls_server_name = \"node.weir.test\"\n");
    let weir = weir(node, &named, DOOR);
    let config = client(&node.ca, None);
    for version in [Version::V4, Version::V5] {
        let stream = connect(&config, weir.port);
        let port = stream.sock.local_addr().expect("an address").port();
        let mut cql = Cql::over(Box::new(stream), port, version);
        cql.startup(&[]);
        let seen = seen(&mut cql);
        assert!(seen.iter().any(|(driver, _)| driver == "weir"), "{seen:?}");
        assert!(seen.iter().all(|(_, tls)| *tls), "{seen:?}");
    }
    assert_eq!(weir.metric("weir_tls_handshakes_total", &["result=\"ok\""]), 2.0);
}

#[test]
fn a_node_is_believed_by_its_name_or_by_its_ca_alone() {
    let Some(node) = node() else { return };
    // the certificate names no address, and the contact is one
    let strict = weir(node, &format!("{UPSTREAM}{OWN}"), "");
    let mut cql = Cql::open(door(&strict), Version::V4);
    let line = strict.logs("no TLS connection");
    assert!(line.contains("not valid for name"), "{line}");
    let (_, words) = cql.query("SELECT * FROM system_views.clients").expect_error();
    assert!(words.starts_with("weir: "), "{words}");

    let by_ca = weir(node, &format!("{UPSTREAM}{OWN}tls_verify = \"ca\"\n"), "");
    let seen = seen(&mut Cql::open(door(&by_ca), Version::V4));
    assert!(!seen.is_empty() && seen.iter().all(|(_, tls)| *tls), "{seen:?}");

    // another CA is never enough
    let other = UPSTREAM.replace("ca.pem", "other.pem");
    let stranger = weir(node, &format!("{other}{OWN}tls_verify = \"ca\"\n"), "");
    Cql::open(door(&stranger), Version::V4);
    let line = stranger.logs("no TLS connection");
    assert!(line.contains("UnknownIssuer"), "{line}");
}

#[test]
fn a_node_that_asks_for_a_certificate_is_shown_one() {
    let Some(node) = node() else { return };
    let without = weir(node, &format!("{UPSTREAM}tls_verify = \"ca\"\n"), "");
    Cql::open(door(&without), Version::V4);
    let line = without.logs("cannot connect");
    assert!(line.contains("result=\"tls\""), "{line}");
}

#[test]
fn a_cluster_that_asks_for_certificates_and_a_password_is_followed() {
    let Some(node) = node() else { return };
    let named = format!("{UPSTREAM}{OWN}tls_server_name = \"node.weir.test\"\n");
    let weir = weir(node, &named, "");
    let up = || (weir.metric("weir_cql_control_up", &["cluster=\"main\""]) == 1.0).then_some(());
    wait_for("the cluster tells", SOON, up);
    assert_eq!(weir.metric("weir_cql_placement_nodes", &["cluster=\"main\""]), 1.0);
    let mut cql = Cql::open(door(&weir), Version::V4);
    let keyspace = super::support_cql::keyspace("followed");
    cql.query(&create_keyspace(&keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")).expect_result();
    // the table is known within two seconds or so
    let select = cql.prepare(&format!("SELECT k FROM {keyspace}.t WHERE k = ?")).prepared();
    wait_for("the key is asked for at its replica", SOON, || {
        cql.execute(&select, &With::values(&[int(1)])).expect_result();
        let routed = weir.series("weir_cql_routed_requests_total", &[("result", "replica")]);
        routed.filter(|routed| *routed >= 1.0)
    });
    let seen = seen(&mut cql);
    assert!(seen.iter().all(|(_, tls)| *tls), "{seen:?}");
    // the control connection is the driver's own
    assert!(seen.iter().any(|(driver, _)| driver != "weir"), "{seen:?}");

    // without the certificate the node does not take weir
    let without = self::weir(node, &named.replace(OWN, ""), "");
    counted(&without, "weir_cql_placement_failures_total", &[("cluster", "main"), ("cause", "tls")], 1.0);
    let line = without.logs("control_down");
    assert!(line.contains("no TLS connection"), "{line}");
}
