//! TLS and passwords against a real Cassandra that asks for both: a node of this program's own, started once
//! (`cargo xtask cassandra`), with TLS beside plain CQL on one port, clients' certificates where TLS is spoken, and
//! PasswordAuthenticator and CassandraAuthorizer. What the node says about its connections (`system_views.clients`) is the proof.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support_cql/mod.rs"]
mod support_cql;
#[path = "../support_tls/mod.rs"]
mod support_tls;

mod auth;
mod own;
mod tls;

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};
use support::eventually;
use support_cql::Cql;
use support_cql::own::Nodes;
use support_tls::{Authority, Pair};
use tempfile::TempDir;
use weir_cql::Version;
use weir_cql::envelope::Opcode;

/// The node, and what it trusts.
pub struct Secure {
    /// Its address.
    pub address: String,
    /// The CA of the node's certificate and of those it asks clients for.
    pub ca: Authority,
    /// A certificate that the node takes.
    pub own: Pair,
    _folder: TempDir,
    // ends with the standard input that this program gives it
    _node: Mutex<Nodes>,
}

/// The node of this program; `None`, said aloud, where there is none to be had.
pub fn node() -> Option<&'static Secure> {
    static NODE: OnceLock<Option<Secure>> = OnceLock::new();
    NODE.get_or_init(start).as_ref()
}

fn start() -> Option<Secure> {
    let folder = tempfile::tempdir().expect("a directory");
    let ca = Authority::new("cluster");
    let pair = ca.vouch(&["node.weir.test"]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("node.pem"), format!("{}{}", pair.key, pair.cert)).expect("written");
    std::fs::write(path("ca.pem"), &ca.pem).expect("written");
    let settings = format!(
        "authenticator: PasswordAuthenticator\n\
         authorizer: CassandraAuthorizer\n\
         credentials_validity: 100ms\n\
         permissions_validity: 100ms\n\
         client_encryption_options:\n\
         \x20 enabled: true\n\
         \x20 optional: true\n\
         \x20 require_client_auth: true\n\
         \x20 ssl_context_factory:\n\
         \x20   class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n\
         \x20 keystore: {}\n\
         \x20 truststore: {}\n",
        path("node.pem"),
        path("ca.pem")
    );
    let file = folder.path().join("more.yaml");
    std::fs::write(&file, settings).expect("written");
    let file = file.display().to_string();
    let more = ["--heap", "256m", "--settings", &file];
    let node = Nodes::start("TLS and passwords of a cluster", "secure", &more)?;
    let address = node.addresses[0].clone();
    // the first user is there a moment after the node
    eventually("the node has its user", || {
        let mut cql = Cql::connect(address.parse::<SocketAddr>().expect("an address"), Version::V4);
        cql.startup_asks(&[]);
        cql.credentials("cassandra", "cassandra").header.opcode == Opcode::AuthSuccess
    });
    let own = ca.vouch(&["weir"]);
    let _node = Mutex::new(node);
    Some(Secure { address, ca, own, _folder: folder, _node })
}
