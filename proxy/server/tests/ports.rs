//! Ports come back: in a private network namespace with a range of 100 ports, a client that dials per call makes 300
//! calls through weir. With `on_client_close = "reset"` all succeed and nothing stays in TIME_WAIT; with `"fin"`, as with
//! any other server, the ports are gone after 100. A client that closes only its writing side still gets its answer, even
//! one that looks for an error before it reads, and one that leaves without its answer leaves no port behind.

mod support;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};
use support::namespace::{self, Place};
use support::wire::{Wire, keys};
use support::{Memcached, Weir, free_port};

/// Local ports inside.
const RANGE: &str = "20000 20099";
/// Calls, each on a connection of its own.
const CALLS: usize = 300;
/// Source address of a dialer that chooses one, as the client of April 2026 did.
const CHOSEN: Ipv4Addr = Ipv4Addr::new(127, 32, 0, 1);

/// A kernel that never takes a waiting port again, as between two hosts. On loopback the default hides the fault.
const SETTINGS: &[(&str, &str)] = &[
    ("net/ipv4/ip_local_port_range", RANGE),
    ("net/ipv4/tcp_tw_reuse", "0"),
    ("net/core/somaxconn", "16384"),
];

/// Connects to a loopback port, from a chosen source address or from whichever the kernel takes.
fn dial(port: u16, source: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
    }
    socket.connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket.into())
}

/// Sockets of this namespace by state that have to do with a port, the listening one left out.
fn sockets(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table");
    let end = format!(":{port:04X}");
    let state = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        let concerns = words.len() == 4 && (words[1].ends_with(&end) || words[2].ends_with(&end));
        concerns.then(|| words[3].to_owned()).filter(|state| state != LISTEN)
    };
    table.lines().skip(1).filter_map(state).collect()
}

const TIME_WAIT: &str = "06";
const LISTEN: &str = "0A";

/// What became of the calls.
struct Churn {
    succeeded: usize,
    refusal: Option<std::io::Error>,
    waiting: usize,
}

/// One call after the other: connect, get, close.
fn churn(port: u16, source: Option<Ipv4Addr>) -> Churn {
    let (mut succeeded, mut refusal) = (0, None);
    for _ in 0..CALLS {
        match dial(port, source) {
            Ok(stream) => {
                let mut wire = Wire::of(stream);
                assert_eq!(wire.get(&["key".to_owned()]).found, [("key".to_owned(), b"value".to_vec())]);
                succeeded += 1;
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    // The last close is under way; what is left after it stays for a minute.
    let deadline = Instant::now() + Duration::from_secs(5);
    while sockets(port).iter().any(|state| state != TIME_WAIT) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let waiting = sockets(port).iter().filter(|state| *state == TIME_WAIT).count();
    Churn { succeeded, refusal, waiting }
}

/// A weir in front of a memcached that holds one key; its port.
fn weir(memcached: &Memcached, on_client_close: Option<&str>) -> (Weir, u16) {
    memcached.wire().set("key", b"value");
    let port = free_port();
    let weir = match on_client_close {
        // Without a file: reset is the default on loopback.
        None => Weir::start(&["--memcached", &format!("127.0.0.1:{port}={}", memcached.address())]),
        Some(how) => Weir::with_config(
            &format!(
                "[pool.cache]\nservers = [\"{}\"]\n[listener.cache]\naddress = \"127.0.0.1:{port}\"\n\
                 on_client_close = \"{how}\"\n",
                memcached.address()
            ),
            &[],
        ),
    };
    (weir, port)
}

fn ports_come_back(test: &str, source: Option<Ipv4Addr>) {
    if namespace::enter(test, SETTINGS) != Place::Inside {
        return;
    }
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir(&memcached, None);
    let churn = churn(port, source);
    println!(
        "reset, source {source:?}: {} of {CALLS} calls, {} in TIME_WAIT",
        churn.succeeded, churn.waiting
    );
    assert_eq!(churn.succeeded, CALLS, "{:?}", churn.refusal);
    assert_eq!(churn.waiting, 0);
    // The last of them may not be folded yet.
    let counted = support::wait_for("every reset is counted", Duration::from_secs(5), || {
        weir.series("weir_client_closes_total", &[("how", "reset")]).filter(|resets| *resets >= CALLS as f64)
    });
    assert_eq!(counted, CALLS as f64);
    let short = weir.series("weir_client_short_connections_total", &[]);
    assert!(short.is_some_and(|short| short >= CALLS as f64), "the churn shows: {short:?}");
}

/// The same calls without the reset: the test above can fail.
fn ports_run_out(test: &str, source: Option<Ipv4Addr>) {
    if namespace::enter(test, SETTINGS) != Place::Inside {
        return;
    }
    let Some(memcached) = Memcached::start() else { return };
    let (_weir, port) = weir(&memcached, Some("fin"));
    let churn = churn(port, source);
    println!("fin, source {source:?}: {} of {CALLS} calls, {} in TIME_WAIT", churn.succeeded, churn.waiting);
    assert!((80..=110).contains(&churn.succeeded), "{} of {CALLS}", churn.succeeded);
    assert!(churn.waiting >= 80, "{}", churn.waiting);
    let kind = churn.refusal.expect("some calls failed").kind();
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable};
    assert_eq!(kind, if source.is_some() { AddrInUse } else { AddrNotAvailable });
}

#[test]
fn with_reset_ports_come_back() {
    ports_come_back("with_reset_ports_come_back", None);
}

#[test]
fn with_reset_ports_of_a_chosen_source_come_back() {
    ports_come_back("with_reset_ports_of_a_chosen_source_come_back", Some(CHOSEN));
}

#[test]
fn with_fin_ports_run_out() {
    ports_run_out("with_fin_ports_run_out", None);
}

#[test]
fn with_fin_ports_of_a_chosen_source_run_out() {
    ports_run_out("with_fin_ports_of_a_chosen_source_run_out", Some(CHOSEN));
}

/// A client like `nc -N`: it asks, closes its writing side, and reads to the end. How the connection ended.
fn half_close(port: u16, keys: &[String], value: &[u8]) -> std::io::Result<()> {
    let mut wire = Wire::tcp(port);
    wire.send(format!("get {}\r\n", keys.join(" ")));
    wire.half_close();
    // Whoever reads late must find all of it too.
    std::thread::sleep(Duration::from_millis(100));
    let answer = wire.values();
    assert_eq!(answer.end, "END");
    assert_eq!(answer.found.len(), keys.len());
    assert!(answer.found.iter().zip(keys).all(|((key, found), asked)| key == asked && found == value));
    let (more, ended) = wire.read_to_end();
    assert!(more.is_empty(), "nothing follows the answer");
    ended
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let Some(memcached) = Memcached::start() else { return };
    let value = [b'v'; 200];
    let many = keys("half", 15_000);
    memcached.wire().fill(&many, &value);
    let (_reset, port) = weir(&memcached, None);
    for count in [1, 100, many.len()] {
        half_close(port, &many[..count], &value).expect("an ordinary end, not a reset");
    }
    let (_fin, port) = weir(&memcached, Some("fin"));
    for count in [1, 100, many.len()] {
        half_close(port, &many[..count], &value).expect("an ordinary end");
    }
}

/// A client that does what `nc -N` does: it sends, closes its writing side, and then looks for an error before each read;
/// an error is its end. What it has read by then.
fn like_nc(wire: &mut Wire, request: &str, answered: impl FnOnce()) -> Vec<u8> {
    wire.send(request);
    wire.half_close();
    answered();
    let mut read = Vec::new();
    let mut piece = [0; 64 << 10];
    loop {
        let mut fds = [PollFd::new(&wire.stream, PollFlags::IN)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&patience)).expect("polled"), 1, "neither answer nor end");
        if fds[0].revents().contains(PollFlags::ERR) {
            return read;
        }
        match (&wire.stream).read(&mut piece).expect("no error was there") {
            0 => return read,
            length => read.extend_from_slice(&piece[..length]),
        }
    }
}

#[test]
fn a_half_closed_client_that_looks_for_errors_first_gets_its_answer() {
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir(&memcached, None);
    let value = [b'v'; 200];
    let many = keys("half", 5_000);
    memcached.wire().fill(&many, &value);
    for count in [1, 100, many.len()] {
        let request = format!("get {}\r\n", many[..count].join(" "));
        let item = |key: &String| format!("VALUE {key} 0 200\r\n").len() + 200 + 2;
        let whole = many[..count].iter().map(item).sum::<usize>() + "END\r\n".len();
        // The answer waits until weir has seen the end of the requests, and the client until it has the answer.
        memcached.freeze(true);
        let answer = like_nc(&mut Wire::tcp(port), &request, || {
            std::thread::sleep(Duration::from_millis(100));
            memcached.freeze(false);
            std::thread::sleep(Duration::from_millis(200));
        });
        assert_eq!(answer.len(), whole, "{count} keys");
    }
    // Held up between its request and its end, it has the answer before it closes, and has not looked yet.
    let mut late = Wire::tcp(port);
    late.send("get key\r\n");
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&late.stream, PollFlags::IN)], Some(&patience)), Ok(1), "the answer");
    let answer = like_nc(&mut late, "", || std::thread::sleep(Duration::from_millis(200)));
    assert_eq!(answer, b"VALUE key 0 5\r\nvalue\r\nEND\r\n");
    // Those were ended with FIN, and the reset is still there for everybody else.
    let closes = |how| weir.series("weir_client_closes_total", &[("how", how)]);
    support::wait_for("they are closed", Duration::from_secs(5), || closes("client").filter(|n| *n == 4.0));
    assert_eq!(closes("reset"), Some(0.0));
    assert_eq!(Wire::tcp(port).get(&["key".to_owned()]).end, "END");
    support::wait_for("a client that left", Duration::from_secs(5), || closes("reset").filter(|n| *n == 1.0));
}

#[test]
fn a_client_that_leaves_without_its_answer_leaves_no_port_behind() {
    let test = "a_client_that_leaves_without_its_answer_leaves_no_port_behind";
    if namespace::enter(test, SETTINGS) != Place::Inside {
        return;
    }
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir(&memcached, None);
    for call in 0..CALLS {
        // Clients that wait for nothing are faster than weir; a port in TIME_WAIT would be away for a minute.
        let stream = support::wait_for("a free port", Duration::from_secs(5), || dial(port, None).ok());
        let request = if call % 2 == 0 { "set key 0 0 1 noreply\r\nx\r\n" } else { "get key\r\n" };
        Wire::of(stream).send(request);
    }
    support::wait_for("all have gone", Duration::from_secs(5), || {
        sockets(port).iter().all(|state| state == TIME_WAIT).then_some(())
    });
    assert_eq!(sockets(port).len(), 0, "ports in TIME_WAIT");
    drop(weir);
}
