//! Real sockets on loopback and in a directory of their own. What needs a process of its own (umask, descriptors that
//! run out, inherited sockets) is in `tests/listen_process.rs`.

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weir-listen-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn door(&self, path: &str) -> Door {
        Door::new(Address::Unix { path: self.0.join(path).to_str().expect("UTF-8").into() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tcp(host: &str, port: u16) -> Door {
    Door::new(Address::Tcp { host: host.into(), port })
}

fn path(listener: &Listener) -> &Path {
    listener.file.as_ref().expect("a file").path()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("a file").mode() & 0o7777
}

fn accept_up_to(listener: &Listener, max: usize) -> (Vec<(OwnedFd, Peer)>, Accepted) {
    let mut taken = Vec::new();
    let mut reserve = Reserve::new().expect("a descriptor");
    let outcome =
        accept_all(&listener.socket, max, &mut reserve, b"", |stream, peer| taken.push((stream, peer)));
    (taken, outcome.expect("a sound listener"))
}

#[test]
fn tcp_connections_are_taken_until_none_waits() {
    let listener = bind(&tcp("127.0.0.1", 0)).expect("a port");
    let address = listener.socket.tcp_address().expect("an address");
    assert_eq!(accept_up_to(&listener, 10).1.next, Next::Readiness, "non-blocking");

    let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).expect("connected")).collect();
    let (taken, outcome) = accept_up_to(&listener, 3);
    assert_eq!(outcome, Accepted { accepted: 3, shed: 0, aborted: 0, next: Next::Soon });
    let (rest, outcome) = accept_up_to(&listener, 10);
    assert_eq!(outcome, Accepted { accepted: 2, shed: 0, aborted: 0, next: Next::Readiness });

    for ((stream, peer), client) in taken.into_iter().chain(rest).zip(&clients) {
        assert_eq!(peer, Peer::Tcp(client.local_addr().expect("an address")));
        let flags = rustix::fs::fcntl_getfl(&stream).expect("flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(&stream).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        assert!(TcpStream::from(stream).nodelay().expect("an option"));
    }
}

#[test]
fn a_client_that_left_the_queue_does_no_harm() {
    let listener = bind(&tcp("127.0.0.1", 0)).expect("a port");
    let address = listener.socket.tcp_address().expect("an address");
    close_with_reset(TcpStream::connect(address).expect("connected")).expect("reset");
    let _client = TcpStream::connect(address).expect("connected");
    let (_taken, outcome) = accept_up_to(&listener, 10);
    assert_eq!(outcome.next, Next::Readiness);
    assert!(outcome.accepted >= 1);
}

#[test]
fn names_and_both_families_work() {
    let listener = bind(&tcp("localhost", 0)).expect("a port");
    assert!(listener.socket.tcp_address().expect("an address").is_ipv4(), "IPv4 goes first");
    let Ok(both) = bind(&tcp("::", 0)) else { return };
    let port = both.socket.tcp_address().expect("an address").port();
    let _client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    assert_eq!(accept_up_to(&both, 10).1.accepted, 1);
}

#[test]
fn a_taken_port_is_named() {
    let first = bind(&tcp("127.0.0.1", 0)).expect("a port");
    let port = first.socket.tcp_address().expect("an address").port();
    let error = bind(&tcp("127.0.0.1", port)).expect_err("taken").to_string();
    let start = format!("cannot listen on 127.0.0.1:{port}: the port is taken");
    assert!(error.starts_with(&start), "{error}");
    let error = bind(&tcp("192.0.2.1", 0)).expect_err("elsewhere").to_string();
    assert!(error.contains("192.0.2.1 is not an address of this machine"), "{error}");
    let error = bind(&tcp("no such host", 1)).expect_err("nonsense").to_string();
    assert!(error.contains("does not resolve"), "{error}");
}

#[test]
fn a_unix_door_has_a_private_directory_and_the_mode_asked_for() {
    let scratch = Scratch::new();
    for (socket_mode, directory_mode) in [(0o660, 0o750), (0o600, 0o700), (0o666, 0o755)] {
        let mut door = scratch.door(&format!("made{socket_mode:o}/deep/m.sock"));
        door.mode = socket_mode;
        let listener = bind(&door).expect("a socket");
        let path = path(&listener);
        assert_eq!(mode(path), socket_mode);
        assert_eq!(mode(path.parent().expect("a directory")), directory_mode);
        let _client = UnixStream::connect(path).expect("connected");
        let (taken, outcome) = accept_up_to(&listener, 10);
        assert_eq!((outcome.accepted, outcome.next), (1, Next::Readiness));
        assert_eq!(taken[0].1, Peer::Unix);
    }
}

#[test]
fn a_directory_that_is_there_keeps_its_mode() {
    let scratch = Scratch::new();
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o770)).expect("own directory");
    let listener = bind(&scratch.door("m.sock")).expect("a socket");
    assert_eq!(mode(&scratch.0), 0o770);
    assert!(directory_warning(path(&listener)).is_some_and(|text| text.contains("0770")));
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o1777)).expect("own directory");
    assert_eq!(directory_warning(path(&listener)), None, "sticky");
    std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o755)).expect("own directory");
    assert_eq!(directory_warning(path(&listener)), None);
}

#[test]
fn the_group_is_set() {
    let scratch = Scratch::new();
    // Root may name any group; others only one of their own.
    let root = rustix::process::geteuid().is_root();
    let group = if root { 65_534 } else { rustix::process::getegid().as_raw() };
    let mut door = scratch.door("made/m.sock");
    door.group = Some(group.to_string().into());
    let listener = bind(&door).expect("a socket");
    let file = std::fs::symlink_metadata(path(&listener)).expect("a file");
    assert_eq!(file.gid(), group);
    assert_eq!(std::fs::metadata(scratch.0.join("made")).expect("a directory").gid(), group);

    if root {
        let mut door = scratch.door("named.sock");
        door.group = Some("root".into());
        let listener = bind(&door).expect("a socket");
        assert_eq!(std::fs::symlink_metadata(path(&listener)).expect("a file").gid(), 0);
    }
    let mut door = scratch.door("x.sock");
    door.group = Some("no-such-group".into());
    let error = bind(&door).expect_err("no group").to_string();
    assert!(error.contains("no group `no-such-group`"), "{error}");
    assert!(!scratch.0.join("x.sock").exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let scratch = Scratch::new();
    let door = scratch.door("m.sock");
    // std leaves the file behind, as a process that was killed does.
    drop(UnixListener::bind(scratch.0.join("m.sock")).expect("a socket"));
    assert!(scratch.0.join("m.sock").exists());
    let listener = bind(&door).expect("the stale file is replaced");
    UnixStream::connect(path(&listener)).expect("connected");
}

#[test]
fn a_living_socket_or_another_file_is_left_alone() {
    let scratch = Scratch::new();
    let door = scratch.door("m.sock");
    let first = bind(&door).expect("a socket");
    let error = bind(&door).expect_err("in use").to_string();
    assert!(error.ends_with("another process listens there (`ss -lxp` names it)"), "{error}");
    UnixStream::connect(path(&first)).expect("still there");

    std::fs::write(scratch.0.join("notes"), "precious").expect("a file");
    let error = bind(&scratch.door("notes")).expect_err("in the way").to_string();
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(scratch.0.join("notes")).expect("a file"), "precious");

    let error = bind(&scratch.door(&"long".repeat(30))).expect_err("too long").to_string();
    assert!(error.contains("longer than 107 bytes"), "{error}");
}

#[test]
fn a_full_backlog_is_a_living_socket() {
    let scratch = Scratch::new();
    let mut door = scratch.door("m.sock");
    door.backlog = 0;
    let _listener = bind(&door).expect("a socket");
    let address = socket2::SockAddr::unix(scratch.0.join("m.sock")).expect("a path");
    let mut clients = Vec::new();
    for _ in 0..10 {
        let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("a socket");
        let full = client.connect(&address).is_err();
        clients.push(client);
        if full {
            break;
        }
    }
    let error = bind(&door).expect_err("in use").to_string();
    assert!(error.contains("another process listens there"), "{error}");
}

#[test]
fn closing_the_door_removes_its_own_file_only() {
    let scratch = Scratch::new();
    let door = scratch.door("m.sock");
    let file = scratch.0.join("m.sock");
    drop(bind(&door).expect("a socket"));
    assert!(!file.exists());

    let old = bind(&door).expect("a socket");
    std::fs::remove_file(&file).expect("own file");
    let new = bind(&door).expect("a socket");
    drop(old);
    assert!(file.exists(), "that is the other one's");
    drop(new);
    assert!(!file.exists());
}

#[test]
fn two_workers_share_one_door() {
    let listener = bind(&tcp("127.0.0.1", 0)).expect("a port");
    let second = Listener { socket: listener.socket.try_clone().expect("a descriptor"), file: None };
    let address = listener.socket.tcp_address().expect("an address");
    let _clients: Vec<_> = (0..2).map(|_| TcpStream::connect(address).expect("connected")).collect();
    assert_eq!(accept_up_to(&listener, 1).1.accepted, 1);
    assert_eq!(accept_up_to(&second, 10).1.accepted, 1);
}

/// TIME_WAIT sockets with this port at either end.
fn time_wait(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of TCP sockets");
    let port = format!(":{port:04X}");
    let waiting = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(3) == Some(&"06") && (fields[1].ends_with(&port) || fields[2].ends_with(&port))
    };
    table.lines().filter(waiting).count()
}

#[test]
fn a_reset_leaves_no_time_wait() {
    let listener = bind(&tcp("127.0.0.1", 0)).expect("a port");
    let address = listener.socket.tcp_address().expect("an address");
    let exchange = |finish: &dyn Fn(TcpStream)| {
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).expect("connected");
            client.write_all(b"version\r\n").expect("sent");
            let stream = loop {
                if let Some((stream, _)) = accept_up_to(&listener, 1).0.pop() {
                    break stream;
                }
            };
            let mut stream = TcpStream::from(stream);
            stream.set_nonblocking(false).expect("an option");
            stream.read_exact(&mut [0; 9]).expect("received");
            stream.write_all(b"VERSION\r\n").expect("sent");
            client.read_exact(&mut [0; 9]).expect("received");
            drop(client);
            assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0, "the client closed first");
            finish(stream);
        }
        time_wait(address.port())
    };
    assert_eq!(exchange(&|stream| close_with_reset(stream).expect("reset")), 0);
    assert!(exchange(&drop) > 0, "the same count sees what an ordinary close leaves behind");
}
