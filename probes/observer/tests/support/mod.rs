//! What the tests share: children, private network namespaces, sockets that wait.

#![allow(dead_code, reason = "no test uses all of it")]

#[path = "../../../../proxy/server/tests/support/gomemcache.rs"]
pub mod gomemcache;
#[path = "../../../../proxy/server/tests/support/namespace.rs"]
pub mod namespace;
#[path = "../../../../proxy/server/tests/support/process.rs"]
pub mod process;

use socket2::{Domain, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Local ports inside, 100 of them, and a kernel that never takes a waiting one again, as between two hosts.
pub const HUNDRED_PORTS: &[(&str, &str)] =
    &[("net/ipv4/ip_local_port_range", "20000 20099"), ("net/ipv4/tcp_tw_reuse", "0")];

/// Says that something was not tested, past the harness, which keeps what a passing test prints to itself.
pub fn skip(what: &str, why: &str) {
    // nobody to tell is no reason to fail
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}

/// The first program of that name on the search path, system folders included.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_weir-probes")).parent().and_then(Path::parent);
    folder.expect("cargo's layout").to_owned()
}

/// A program of another package, built beside the one under test.
pub fn beside(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_weir-probes")).with_file_name(name);
    path.is_file().then_some(path)
}

/// The program under test.
pub fn weir_probes(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-probes"));
    command.args(arguments);
    command
}

/// A server that reads to the end of each connection and then closes it. It ends with the test's process.
pub fn serve(at: &str) -> SocketAddr {
    let listener = TcpListener::bind(at).expect("a port of a namespace of our own");
    rustix::net::listen(&listener, 1_024).expect("a longer backlog");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = { stream }.read_to_end(&mut Vec::new());
        }
    });
    address
}

/// Connects, from a chosen source or by an IPv6 socket where that is asked for.
pub fn dial(to: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if to.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Makes so many connections that end on this side first, one after the other: each leaves its port in TIME_WAIT.
pub fn leave_waiting(to: SocketAddr, count: usize) {
    for done in 0..count {
        let stream = dial(to, None).unwrap_or_else(|error| panic!("connection {done} of {count}: {error}"));
        end_first(stream);
    }
}

/// Closes a connection to [`serve`] so that it is in TIME_WAIT when this returns.
pub fn end_first(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).expect("the first FIN");
    assert_eq!(stream.read(&mut [0; 1]).expect("the other FIN"), 0);
}
