//! Listeners, where a test needs the whole process for itself: descriptors run out, the umask is hostile, sockets are
//! inherited. A binary of its own; its tests take turns.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use weir::listen::{
    self, Accepted, Door, Next, PAUSE, Peer, Reserve, SHED_MAX, Shortage, accept_all, adopt, inherited,
    raise_nofile, take_matching,
};
use weir_engine::settings::Address;

static TURN: Mutex<()> = Mutex::new(());
const FAREWELL: &[u8] = b"SERVER_ERROR out of descriptors\r\n";

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn door_on_a_free_port() -> Door {
    Door::new(Address::Tcp { host: "127.0.0.1".into(), port: 0 })
}

/// The process may open exactly this many descriptors more. Returns the limit it had.
fn leave_descriptors(count: usize) -> rustix::process::Rlimit {
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let open: BTreeSet<u64> = std::fs::read_dir("/proc/self/fd")
        .expect("own descriptors")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // Reading the directory took the lowest free number, which is free again now.
    let reader = (0..).find(|number| !Path::new(&format!("/proc/self/fd/{number}")).exists());
    let is_free = |number: &u64| !open.contains(number) || Some(*number) == reader;
    // The limit is on the number, and numbers in use may lie apart.
    let last = (0..).filter(is_free).nth(count - 1).expect("as many as there are numbers");
    let limit = rustix::process::Rlimit { current: Some(last + 1), ..before };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lower is allowed");
    before
}

#[test]
fn without_descriptors_clients_are_turned_away_and_accepting_rests() {
    let _turn = turn();
    let (_, limit) = raise_nofile();
    assert!(limit > 400, "this test opens 200 connections");
    let listener = listen::bind(&door_on_a_free_port()).expect("a port");
    let address = listener.socket.tcp_address().expect("an address");
    let mut reserve = Reserve::new().expect("a descriptor");
    let mut clients: Vec<_> = (0..200).map(|_| TcpStream::connect(address).expect("connected")).collect();

    let before = leave_descriptors(10);
    let mut served: Vec<OwnedFd> = Vec::new();
    let mut accept = |served: &mut Vec<OwnedFd>| {
        accept_all(&listener.socket, 1_000, &mut reserve, FAREWELL, |stream, _| served.push(stream))
            .expect("a sound listener")
    };
    let pause = Next::Pause(PAUSE, Shortage::Descriptors);
    let first = accept(&mut served);
    assert_eq!(first, Accepted { accepted: 10, shed: SHED_MAX, aborted: 0, next: pause });
    assert_eq!(served.len(), 10);
    // The reserve is back: the next time goes the same way, until the backlog is empty.
    assert_eq!(accept(&mut served), Accepted { accepted: 0, shed: SHED_MAX, aborted: 0, next: pause });
    assert_eq!(accept(&mut served).shed, 200 - 10 - 2 * SHED_MAX);
    // With an empty backlog the kernel still says EMFILE first; nobody is turned away.
    assert_eq!(accept(&mut served).shed, 0);

    // Room again: service again.
    served.truncate(5);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, before).expect("as it was");
    let late = TcpStream::connect(address).expect("connected");
    let after = accept(&mut served);
    assert_eq!((after.accepted, after.shed, after.next), (1, 0, Next::Readiness));
    drop(late);

    let mut turned_away = 0;
    for client in &mut clients[10..] {
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        let mut told = Vec::new();
        client.read_to_end(&mut told).expect("closed, not left hanging");
        assert_eq!(told, FAREWELL);
        turned_away += 1;
    }
    assert_eq!(turned_away, 190);
}

#[test]
fn the_umask_changes_nothing() {
    let _turn = turn();
    let scratch = std::env::temp_dir().join(format!("weir-umask-{}", std::process::id()));
    for umask in [0o000, 0o022, 0o077, 0o777] {
        let path = scratch.join("door/m.sock");
        let door = Door::new(Address::Unix { path: path.to_str().expect("UTF-8").into() });
        std::fs::create_dir_all(&scratch).expect("a directory");
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        let listener = listen::bind(&door);
        rustix::process::umask(before);
        let _listener = listener.expect("a socket");
        let mode = |path: &Path| std::fs::metadata(path).expect("a file").mode() & 0o7777;
        assert_eq!((mode(&path), mode(&scratch.join("door"))), (0o660, 0o750), "umask {umask:03o}");
        std::fs::remove_dir_all(&scratch).expect("own directory");
    }
}

#[test]
fn an_inherited_socket_is_served() {
    let _turn = turn();
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    // What a service manager does: the socket becomes descriptor 3, and LISTEN_PID is the pid that exec keeps.
    let script =
        "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=cache; exec \"$0\" \"$@\"";
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", "heir_process", "--ignored", "--nocapture"])
        .env("WEIR_TEST_HEIR", address.to_string())
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .spawn()
        .expect("a child process");
    let mut client = TcpStream::connect(address).expect("it listens, whoever serves");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "hello from the heir");
    assert!(child.wait().expect("the child ends").success());
}

#[test]
#[ignore = "not a test: the body of the child process that another test starts"]
fn heir_process() {
    let Ok(address) = std::env::var("WEIR_TEST_HEIR") else { return };
    let address: std::net::SocketAddr = address.parse().expect("an address");
    let mut sockets = inherited().expect("a sound environment");
    assert_eq!(sockets.len(), 1);
    assert_eq!(sockets[0].name, "cache");
    assert!(inherited().expect("a sound environment").is_empty(), "given away once");

    let here = Address::Tcp { host: address.ip().to_string().into(), port: address.port() };
    let elsewhere = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
    assert!(take_matching(&mut sockets, "other", &elsewhere).is_none());
    let by_name = take_matching(&mut sockets, "cache", &elsewhere).expect("by name");
    sockets.push(listen::Inherited { name: "unknown".into(), fd: by_name });
    let fd = take_matching(&mut sockets, "other", &here).expect("by address");
    let listener = adopt(&Door::new(here), fd).expect("a listening socket");

    let mut reserve = Reserve::new().expect("a descriptor");
    let mut served = false;
    while !served {
        let outcome = accept_all(&listener.socket, 1, &mut reserve, b"", |stream, peer| {
            assert!(matches!(peer, Peer::Tcp(_)));
            let mut stream = TcpStream::from(stream);
            assert!(stream.nodelay().expect("an option"));
            stream.write_all(b"hello from the heir").expect("sent");
            served = true;
        });
        outcome.expect("non-blocking");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_no_listener_is_not_adopted() {
    let door = door_on_a_free_port();
    let problem = |fd: OwnedFd| adopt(&door, fd).expect_err("no listener").problem;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    assert_eq!(problem(client.into()), "the inherited socket does not listen");
    let file = std::fs::File::open("/dev/null").expect("a file");
    assert_eq!(problem(file.into()), "the inherited socket is not a socket");
}
