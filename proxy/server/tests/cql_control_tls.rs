//! Why a cluster with TLS cannot be followed is named: in the log, at the control socket, and as a cause that is counted.
//! The nodes are scripts that speak TLS with certificates of the tests' own CAs, and say nothing else. What a real node
//! says is in `cassandra_secure` and `cassandra_tls_ring`.

mod support;
mod support_cql;
mod support_tls;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use support::{Weir, wait_for};
use support_cql::file;
use support_tls::{Authority, server};

/// A node that is asked once, and given up soon.
const CLUSTER: &str = "connect_timeout = \"1s\"\nrequest_timeout = \"500ms\"\nstall_timeout = \"1s\"\ntls = true\n\
                       tls_ca = \"{dir}/ca.pem\"\n";

/// A node that speaks TLS and goes once it was asked something; without a side of TLS it speaks CQL in the open. Its
/// address.
fn node(tls: Option<Arc<ServerConfig>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, tls) = (client.expect("accepted"), tls.clone());
            std::thread::spawn(move || match tls {
                Some(tls) => drop(said(client, tls)),
                // what a node answers to bytes that are no envelope
                None => drop(client.write_all(&[0x84, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 10, 0, 0])),
            });
        }
    });
    address
}

fn said(client: TcpStream, tls: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls).expect("a session"), client);
    stream.read_exact(&mut [0; 9]).map(drop)
}

/// A weir whose cluster is this node.
fn weir(node: &str, ca: &Authority, more: &str) -> Weir {
    let text = file(node, &format!("{CLUSTER}{more}"), "");
    Weir::with(&[("ca.pem", &ca.pem), ("weir.toml", &text)], &[], None)
}

/// The one line that says why, once the cause was counted.
fn told(weir: &Weir, cause: &str) -> String {
    let labels = [("cluster", "main"), ("cause", cause)];
    wait_for(&format!("a failure for {cause}"), Duration::from_secs(20), || {
        weir.series("weir_cql_placement_failures_total", &labels).filter(|failures| *failures >= 1.0)
    });
    let line = weir.logs("control_down");
    assert!(line.contains("no TLS connection: ") && line.contains(&format!("cause=\"{cause}\"")), "{line}");
    let control = &weir.control("/pools")[0]["control"];
    assert!(control["last_error"].to_string().contains("no TLS connection: "), "{control}");
    line
}

#[test]
fn a_certificate_that_is_not_believed_is_named_with_the_reason() {
    let ca = Authority::new("cluster");
    let own = node(Some(server(&ca.vouch(&["127.0.0.1"]), None)));
    let stranger = weir(&own, &Authority::new("another"), "");
    assert!(told(&stranger, "tls_issuer").contains("UnknownIssuer"));

    // the same certificate, asked for another name than the address
    let named = weir(&own, &ca, "tls_server_name = \"node.weir.test\"\n");
    let line = told(&named, "tls_name");
    assert!(
        line.contains("not valid for name \\\"node.weir.test\\\"") && line.contains("tls_server_name"),
        "{line}"
    );
    // one that bears a name only, asked for the address
    let other = node(Some(server(&ca.vouch(&["node.weir.test"]), None)));
    assert!(told(&weir(&other, &ca, ""), "tls_name").contains("not valid for name \\\"127.0.0.1\\\""));

    let old = node(Some(server(&ca.vouch_expired(&["127.0.0.1"]), None)));
    assert!(told(&weir(&old, &ca, ""), "tls_expired").contains("expired"));
    let early = ca.vouch_for(&["127.0.0.1"], |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    assert!(told(&weir(&node(Some(server(&early, None))), &ca, ""), "tls_expired").contains("not valid yet"));
    // whatever its name: a date is not forgiven
    told(&weir(&old, &ca, "tls_verify = \"ca\"\n"), "tls_expired");
}

#[test]
fn a_node_without_tls_and_one_that_asks_for_a_certificate_are_named_as_such() {
    let ca = Authority::new("cluster");
    let line = told(&weir(&node(None), &ca, ""), "tls");
    assert!(line.contains("InvalidContentType") || line.contains("corrupt message"), "{line}");
    let asks = node(Some(server(&ca.vouch(&["127.0.0.1"]), Some(&ca))));
    assert!(told(&weir(&asks, &ca, ""), "tls").contains("CertificateRequired"));
}
