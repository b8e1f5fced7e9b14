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

/// Fails in ways that say nothing about ports or servers: what it asks for is not there, is under way, or is done already.
/// Then once over each family to a port that nobody listens on, and once for a port that is taken.
const NOISE: &str = "
import errno, socket, sys
to, nobody = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
def fails(wanted, call):
    try:
        call()
    except OSError as error:
        assert error.errno == wanted, error
    else:
        raise AssertionError(wanted)
for _ in range(300):
    fails(errno.ENOENT, lambda: socket.socket(socket.AF_UNIX).connect('/nonexistent/socket'))
    s = socket.create_connection(to)
    fails(errno.EISCONN, lambda: s.connect(to))
    fails(errno.EINVAL, lambda: s.bind(('127.0.0.1', 0)))
    s.close()
    u = socket.socket()
    u.setblocking(False)
    assert u.connect_ex(to) in (0, errno.EINPROGRESS)
    u.close()
six = lambda: socket.socket(socket.AF_INET6)
fails(errno.ECONNREFUSED, lambda: socket.socket().connect((to[0], nobody)))
fails(errno.ECONNREFUSED, lambda: six().connect(('::ffff:' + to[0], nobody)))
fails(errno.ECONNREFUSED, lambda: six().connect(('::1', nobody)))
fails(errno.EADDRINUSE, lambda: six().bind(('::1', to[1])))
";

#[test]
fn a_noisy_process_counts_for_what_matters_and_each_family_for_itself() {
    const TEST: &str = "exhaustion::a_noisy_process_counts_for_what_matters_and_each_family_for_itself";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let (server_at, nobody) = (SocketAddr::from((own_address(), 11_211)), 11_999);
    let listener = TcpListener::bind(server_at).unwrap();
    let v6 = TcpListener::bind("[::1]:11211").unwrap();
    let nobody_v4 = SocketAddr::new(server_at.ip(), nobody);
    let nobody_v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, nobody));
    let destinations = vec![server_at, v6.local_addr().unwrap(), nobody_v4, nobody_v6];
    let Some(kernel) = load(TEST, &Options { destinations, ..options(&["errors"]) }) else { return };
    // nobody waits for these
    std::thread::spawn(move || listener.incoming().flatten().for_each(drop));
    let mut command = std::process::Command::new("python3");
    command.args(["-c", NOISE, &server_at.ip().to_string(), "11211", &nobody.to_string()]);
    let mut child = command.spawn().unwrap();
    // at the same time a quiet one
    for _ in 0..40 {
        TcpStream::connect(nobody_v4).expect_err("nobody listens");
    }
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    let all = look(&kernel).errors.expect("the probe is attached");
    let of = |pid: u32| {
        let of = all.iter().filter(|one| one.process.pid == pid);
        let mut rows: Vec<_> =
            of.map(|one| (one.call, one.errno, one.destination.label().to_owned(), one.failures)).collect();
        rows.sort_unstable();
        rows
    };
    let row = |call, errno, place: SocketAddr, failures| (call, errno, place.to_string(), failures);
    let refused = |place, failures| row(Call::Connect, libc::ECONNREFUSED, place, failures);
    let mut wanted = vec![
        row(Call::Bind, libc::EADDRINUSE, v6.local_addr().unwrap(), 1),
        refused(nobody_v4, 2),
        refused(nobody_v6, 1),
    ];
    wanted.sort_unstable();
    assert_eq!(of(pid), wanted);
    assert_eq!(of(std::process::id()), [refused(nobody_v4, 40)]);
}
