//! Socket states and local ports over sock_diag, with exact counts: in private network namespaces with 100 local ports.

mod support;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use support::namespace::{Place, enter};
use support::process::Process;
use support::{HUNDRED_PORTS, PATIENCE, dial, end_first, leave_waiting, serve};
use weir_probes::namespaces::inside;
use weir_probes::picture::{Direction, Picture, SocketCount, State};
use weir_probes::settings::NamedNamespace;
use weir_probes::sockets::Sockets;

fn look(sockets: &mut Sockets, at_seconds: u64) -> Picture {
    let mut picture = Picture::default();
    sockets.look(Duration::from_secs(at_seconds), &mut picture);
    picture
}

/// `(state, sockets)` of the connections towards a destination in a namespace.
fn states(picture: &Picture, namespace: &str, destination: &str, direction: Direction) -> Vec<(State, u64)> {
    let of = |row: &&SocketCount| {
        row.namespace == namespace && row.destination.label() == destination && row.direction == direction
    };
    picture.sockets.iter().flatten().filter(of).map(|row| (row.state, row.sockets)).collect()
}

fn ports(picture: &Picture) -> Vec<(String, &str, u64, u64, Option<u64>)> {
    let all = picture.ports.as_deref().expect("known").iter();
    all.map(|row| (row.source.label(), row.destination.label(), row.used, row.time_wait, row.capacity))
        .collect()
}

#[test]
fn a_hundred_ports_in_time_wait_are_a_hundred() {
    if enter("a_hundred_ports_in_time_wait_are_a_hundred", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let server = serve("127.0.0.1:11211");
    let mut sockets = Sockets::new(&[], &[]);
    assert_eq!(ports(&look(&mut sockets, 0)), [], "known, and none");
    let mut refused = Vec::new();
    for _ in 0..130 {
        match dial(server, None) {
            Ok(stream) => end_first(stream),
            Err(error) => refused.push(error.kind()),
        }
    }
    assert_eq!(refused, [ErrorKind::AddrNotAvailable; 30]);

    let picture = look(&mut sockets, 5);
    let destination = "127.0.0.1:11211";
    assert_eq!(states(&picture, "host", destination, Direction::Outgoing), [(State::TimeWait, 100)]);
    assert_eq!(states(&picture, "host", destination, Direction::Incoming), []);
    assert_eq!(ports(&picture), [("127.0.0.1".to_owned(), destination, 100, 100, Some(100))]);
    let rows = picture.ports.as_deref().expect("known");
    assert_eq!(rows[0].exhausted_in, Some(Duration::ZERO), "none is left now");
    assert_eq!(picture.listeners.as_deref().map(|all| all[0].listener.as_str()), Some(destination));

    // Reserved ports are nobody's: ten of those that wait are not of the range any more.
    std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "20000-20004,20090-20094,30000")
        .expect("a namespace of our own");
    let picture = look(&mut sockets, 10);
    assert_eq!(ports(&picture), [("127.0.0.1".to_owned(), destination, 90, 90, Some(90))]);
    assert_eq!(states(&picture, "host", destination, Direction::Outgoing), [(State::TimeWait, 100)]);
}

#[test]
fn growing_use_has_a_forecast_and_steady_use_has_none() {
    if enter("growing_use_has_a_forecast_and_steady_use_has_none", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let server = serve("127.0.0.1:11211");
    let mut sockets = Sockets::new(&[], &[]);
    let mut told = Vec::new();
    for step in 0..12 {
        if step < 8 {
            leave_waiting(server, 10);
        }
        let picture = look(&mut sockets, 5 * step);
        told.push(
            picture.ports.as_deref().expect("known")[0].exhausted_in.map(|left| left.as_secs_f64().round()),
        );
    }
    // Ten in five seconds: 60 ports are 30 seconds.
    assert_eq!(told[..8], [None, None, None, Some(30.0), Some(25.0), Some(20.0), Some(15.0), Some(10.0)]);
    let picture = look(&mut sockets, 100);
    assert_eq!(picture.ports.as_deref().expect("known")[0].exhausted_in, None, "{told:?}");
}

#[test]
fn ipv6_and_mapped_connections_are_counted_with_their_destination() {
    if enter("ipv6_and_mapped_connections_are_counted_with_their_destination", HUNDRED_PORTS) != Place::Inside
    {
        return;
    }
    let v4 = serve("127.0.0.1:11211");
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), v4.port());
    leave_waiting(v4, 20);
    leave_waiting(mapped, 30);
    let v6 = has_ipv6().then(|| serve("[::1]:11211"));
    if let Some(v6) = v6 {
        leave_waiting(v6, 40);
    }
    let picture = look(&mut Sockets::new(&[], &[]), 0);
    assert_eq!(states(&picture, "host", "127.0.0.1:11211", Direction::Outgoing), [(State::TimeWait, 50)]);
    let mut expected = vec![("127.0.0.1".to_owned(), "127.0.0.1:11211", 50, 50, Some(100))];
    if v6.is_some() {
        assert_eq!(states(&picture, "host", "[::1]:11211", Direction::Outgoing), [(State::TimeWait, 40)]);
        expected.push(("::1".to_owned(), "[::1]:11211", 40, 40, Some(100)));
    }
    assert_eq!(ports(&picture), expected);
}

fn has_ipv6() -> bool {
    let there = TcpListener::bind("[::1]:0");
    there.as_ref().err().inspect(|error| support::skip("IPv6", &error.to_string()));
    there.is_ok()
}

#[test]
fn random_loopback_sources_fold_beyond_the_bound() {
    if enter("random_loopback_sources_fold_beyond_the_bound", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let server = serve("0.0.0.0:11211");
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.port());
    let held: Vec<TcpStream> = (1..=40_u8)
        .map(|host| dial(to, Some(Ipv4Addr::new(127, 8, host, 1).into())).expect("connected"))
        .collect();
    let picture = look(&mut Sockets::new(&[], &[]), 0);
    let rows = ports(&picture);
    assert_eq!(rows.len(), 17, "16 by themselves and the fold: {rows:?}");
    assert_eq!(rows[16], ("127.0.0.0/8".to_owned(), "127.0.0.1:11211", 1, 0, Some(100)));
    let destination = "127.0.0.1:11211";
    for direction in [Direction::Outgoing, Direction::Incoming] {
        assert_eq!(
            states(&picture, "host", destination, direction),
            [(State::Established, 40)],
            "{direction:?}"
        );
    }
    drop(held);
}

/// A network namespace that lives as long as a process of ours.
struct Blue(Process, PathBuf);

impl Blue {
    fn start() -> Blue {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", "ip link set lo up && exec sleep 600"]);
        let process = Process::start("unshare", &mut command);
        let path = PathBuf::from(format!("/proc/{}/ns/net", process.pid()));
        let deadline = Instant::now() + PATIENCE;
        let up =
            |_| TcpListener::bind("127.0.0.1:11211").and_then(|listener| dial(listener.local_addr()?, None));
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        while std::fs::read_link(&path).is_ok_and(|link| link == own)
            || !inside(Some(&path), up).is_ok_and(|up| up.is_ok())
        {
            assert!(Instant::now() < deadline, "no second namespace");
            std::thread::sleep(Duration::from_millis(10));
        }
        Blue(process, path)
    }
}

#[test]
fn namespaces_come_and_go_and_each_has_its_own_ports() {
    if enter("namespaces_come_and_go_and_each_has_its_own_ports", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let own = serve("127.0.0.1:11211");
    leave_waiting(own, 3);
    let mut blue = Blue::start();
    let held = inside(Some(&blue.1), |_| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "30000 30009").expect("its own setting");
        let listener = TcpListener::bind("127.0.0.1:11212").expect("a port");
        let to = listener.local_addr().expect("an address");
        let clients: Vec<_> = (0..5).map(|_| dial(to, None).expect("connected")).collect();
        (listener, clients)
    });
    let held = held.expect("entered");
    let namespace = NamedNamespace { name: "blue".to_owned(), path: blue.1.clone() };
    let mut sockets = Sockets::new(&[namespace], &[]);
    let picture = look(&mut sockets, 0);
    let seen = |picture: &Picture| {
        let statuses = picture.namespaces.iter();
        statuses.map(|one| (one.namespace.clone(), one.ports, one.problem.clone())).collect::<Vec<_>>()
    };
    let host = ("host".to_owned(), Some(100), None);
    assert_eq!(seen(&picture), [host.clone(), ("blue".to_owned(), Some(10), None)]);
    assert_eq!(states(&picture, "host", "127.0.0.1:11211", Direction::Outgoing), [(State::TimeWait, 3)]);
    let there = states(&picture, "blue", "127.0.0.1:11212", Direction::Outgoing);
    assert_eq!(there, [(State::Established, 5)]);
    assert_eq!(states(&picture, "host", "127.0.0.1:11212", Direction::Outgoing), []);
    let used: Vec<_> =
        picture.ports.iter().flatten().map(|row| (row.namespace.as_str(), row.used, row.capacity)).collect();
    assert_eq!(used, [("host", 3, Some(100)), ("blue", 5, Some(10))]);

    drop(held);
    blue.0.kill();
    let picture = look(&mut sockets, 5);
    let gone = format!("{} is not there (any more)", blue.1.display());
    assert_eq!(seen(&picture), [host, ("blue".to_owned(), None, Some(gone))]);
    assert_eq!(states(&picture, "host", "127.0.0.1:11211", Direction::Outgoing), [(State::TimeWait, 3)]);
    assert!(picture.sockets.iter().flatten().all(|row| row.namespace == "host"));
}
