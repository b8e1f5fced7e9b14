//! What the end-to-end tests of weir's CQL door share: the node of this test run, a weir in front of it, and a client that
//! speaks the native protocol with the project's own codec, one message at a time.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test program is compiled with all of this and uses a part of it"
)]

pub mod answer;
pub mod own;
pub mod raw;

pub use raw::{Cql, With, int, list};

use crate::support::{Weir, skip, wait_for};
use std::time::Duration;

/// How long something that is "at once" may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// The control connection: one per weir and cluster, to one of the nodes.
pub const CONTROL: usize = 1;

/// Where the node of this test run listens; `None`, said aloud with the reason, where there is none.
pub fn cassandra(what: &str) -> Option<String> {
    let address = std::env::var("WEIR_TEST_CASSANDRA").ok();
    if address.is_none() {
        let why = "WEIR_TEST_CASSANDRA is not set; `cargo xtask test` sets it, by hand: the address that \
                   `cargo xtask cassandra start` prints";
        skip(what, why);
    }
    address
}

/// weir in front of one node, with no file.
pub fn before(node: &str) -> Weir {
    Weir::start(&["--cql", &format!("127.0.0.1:{{port}}={node}")])
}

/// A file with the cluster `main` in front of one node and the listener `cql`: more lines of the cluster, then whatever
/// follows the listener.
pub fn file(node: &str, cluster: &str, more: &str) -> String {
    format!(
        "[cluster.main]\ncontacts = [\"{node}\"]\n{cluster}\n\
         [listener.cql]\naddress = \"127.0.0.1:{{port}}\"\ncluster = \"main\"\n{more}"
    )
}

/// A name for a keyspace that no other test and no other run uses.
pub fn keyspace(test: &str) -> String {
    format!("{test}_{}", std::process::id())
}

/// The statement that makes it.
pub fn create_keyspace(name: &str) -> String {
    format!(
        "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
}

/// Waits until weir has counted at least `count`: workers fold what they count with a small delay.
#[track_caller]
pub fn counted(weir: &Weir, name: &str, labels: &[(&str, &str)], count: f64) -> f64 {
    let what = format!("{name}{labels:?} reaches {count}");
    wait_for(&what, SOON, || weir.series(name, labels).filter(|found| *found >= count))
}

/// Established TCP connections that a process has to this address: what the kernel says, not what weir does.
pub fn sockets_to(pid: u32, address: &str) -> usize {
    let address: std::net::SocketAddrV4 = address.parse().expect("an IPv4 address");
    let [a, b, c, d] = address.ip().octets();
    let remote = format!("{d:02X}{c:02X}{b:02X}{a:02X}:{:04X}", address.port());
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("its sockets");
    let inodes: Vec<&str> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(2) == Some(&remote.as_str()) && fields.get(3) == Some(&"01")).then(|| fields[9])
        })
        .collect();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");
    let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    let owned = links.filter(|link| {
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(&inode))
    });
    owned.count()
}
