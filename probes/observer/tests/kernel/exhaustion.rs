//! The incident in small: a hundred local ports, clients that open a connection for each request, with and without an
//! explicit source address; beside them a process whose calls fail in ways that are nobody's business.

use crate::namespace::{Place, enter, own_address};
use crate::traffic::{bind_and_connect, request, serve};
use crate::{load, look, options};
use rustix::io::Errno;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use weir_probes::kernel::Options;
use weir_probes::picture::{Call, ErrorCount};

const TEST: &str = "exhaustion::failures_have_their_errno_process_and_destination";

#[test]
fn failures_have_their_errno_process_and_destination() {
    // The kernel would use waiting ports of loopback again after a second.
    let few = [("net/ipv4/ip_local_port_range", "40000 40099"), ("net/ipv4/tcp_tw_reuse", "0")];
    if enter(TEST, &few) == Place::Done {
        return;
    }
    let server_at = SocketAddr::from((own_address(), 11_211));
    let nobody_at = SocketAddr::from((own_address(), 11_999));
    let listener = TcpListener::bind(server_at).unwrap();
    let watch = Options { destinations: vec![server_at, nobody_at], ..options(&["transitions", "errors"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, 100);
    let mut refused = 0;
    for _ in 0..130 {
        match TcpStream::connect(server_at) {
            Ok(stream) => request(stream),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
                refused += 1;
            }
        }
    }
    server.join().unwrap();
    assert_eq!(refused, 30, "a hundred ports are a hundred connections");
    let source = SocketAddr::from(([127, 0, 0, 1], 0));
    for _ in 0..30 {
        assert_eq!(bind_and_connect(source, server_at).map(drop), Err(Errno::ADDRINUSE));
    }
    let error = TcpStream::connect(nobody_at).expect_err("nobody listens");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    for _ in 0..1000 {
        assert!(UnixStream::connect("/nonexistent/socket").is_err(), "ENOENT, many a host's noise");
    }

    let all = look(&kernel).errors.expect("the probe is attached");
    let mine: Vec<&ErrorCount> = all.iter().filter(|one| one.process.pid == std::process::id()).collect();
    let mut shown: Vec<(Call, i32, &str, u64)> =
        mine.iter().map(|one| (one.call, one.errno, one.destination.label(), one.failures)).collect();
    shown.sort_unstable();
    let (server_at, nobody_at) = (server_at.to_string(), nobody_at.to_string());
    assert_eq!(
        shown,
        [
            (Call::Bind, libc::EADDRINUSE, "127.0.0.1:0", 30),
            (Call::Connect, libc::EADDRNOTAVAIL, server_at.as_str(), 30),
            (Call::Connect, libc::ECONNREFUSED, nobody_at.as_str(), 1),
        ]
    );
    assert!(mine.iter().all(|one| one.process.uid == Some(0)));
    assert!(mine.iter().all(|one| !one.process.comm.is_empty()), "{mine:?}");
    for status in kernel.statuses() {
        let wanted = matches!(status.probe, "transitions" | "errors").then_some(0);
        assert_eq!(status.lost, wanted, "{}", status.probe);
    }
}
