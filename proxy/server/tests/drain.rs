//! SIGTERM: what is under way is answered, what is idle goes, and the exit code is 0.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Memcached, Process, Weir, eventually};

/// A server that answers every line with `END` once it may; its address, and the leave to answer.
fn held_server() -> (String, Arc<AtomicBool>) {
    let may_answer = Arc::new(AtomicBool::new(false));
    let told = may_answer.clone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, told) = (stream.expect("accepted"), told.clone());
            std::thread::spawn(move || {
                let mut scratch = [0; 4096];
                while let Ok(length) = stream.read(&mut scratch) {
                    if length == 0 {
                        return;
                    }
                    while !told.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    for _ in scratch[..length].iter().filter(|byte| **byte == b'\n') {
                        let _ = stream.write_all(b"END\r\n");
                    }
                }
            });
        }
    });
    (address, may_answer)
}

/// Waits until weir has sent a request on: a signal before that would find nothing under way.
fn until_under_way(weir: &Weir) {
    eventually("the request is under way", || weir.metric("weir_backend_inflight_operations", &[]) == 1.0);
}

#[test]
fn what_is_under_way_is_answered() {
    let (server, may_answer) = held_server();
    let mut weir = Weir::with_flags(&server, &[]);
    let (mut busy, mut idle) = (weir.client(), weir.client());
    busy.send("get a\r\n");
    idle.send("mn\r\n");
    idle.expect("MN\r\n");
    until_under_way(&weir);
    weir.process.signal(libc::SIGTERM);
    assert!(idle.is_over(), "idle clients do not wait for busy ones");
    assert!(TcpStream::connect(("127.0.0.1", weir.port)).is_err(), "the door is closed");
    let page = weir.page("/readyz");
    assert!(page.starts_with("HTTP/1.0 503 "), "{page}");
    may_answer.store(true, Ordering::Release);
    busy.expect("END\r\n");
    assert!(busy.is_over());
    assert!(weir.process.wait().success());
    weir.logs("cause=\"drained\"");
}

#[test]
fn a_connection_just_made_is_read_once() {
    let Some(server) = Memcached::start() else { return };
    let mut weir = Weir::before(&server);
    let mut clients: Vec<Client> = (0..20).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send("get a\r\n");
    }
    weir.process.signal(libc::SIGTERM);
    for client in &mut clients {
        client.expect("END\r\n");
        assert!(client.is_over());
    }
    assert!(weir.process.wait().success());
}

#[test]
fn the_deadline_holds() {
    let (server, _) = held_server();
    let mut weir = Weir::with_file(&format!(
        "drain_timeout = \"1s\"\n[pool.main]\nservers = [\"{server}\"]\nrequest_timeout = \"60s\"\n\
         stall_timeout = \"60s\"\n[listener.cache]\naddress = \"127.0.0.1:{{port}}\"\n"
    ));
    let mut client = weir.client();
    client.send("get a\r\n");
    until_under_way(&weir);
    let started = Instant::now();
    assert!(weir.terminate().success());
    let took = started.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{took:?}");
    weir.logs("1 connections were cut");
}

#[test]
fn a_second_signal_ends_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut weir = Weir::with_flags(&held_server().0, &[]);
        let mut client = weir.client();
        client.send("get a\r\n");
        until_under_way(&weir);
        weir.process.signal(libc::SIGTERM);
        weir.logs("cause=\"drain\"");
        let started = Instant::now();
        weir.process.signal(signal);
        assert_eq!(weir.process.wait().code(), Some(128 + signal));
        assert!(started.elapsed() < Duration::from_secs(5), "the request alone would hold it for longer");
    }
}

#[test]
fn several_workers_drain_together() {
    let Some(server) = Memcached::start() else { return };
    let mut weir = Weir::with_flags(&server.address(), &["--workers", "2"]);
    let mut clients: Vec<Client> = (0..8).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.ask("get a\r\n", "END\r\n");
    }
    assert!(weir.terminate().success());
    for client in &mut clients {
        assert!(client.is_over());
    }
}

/// A weir at a listening socket that somebody else holds.
fn weir_at(listener: &TcpListener, directory: &std::path::Path) -> (Process, String) {
    let address = listener.local_addr().expect("address");
    let listener = std::os::fd::OwnedFd::from(listener.try_clone().expect("a copy"));
    let mut child = std::process::Command::new("sh")
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0", env!("CARGO_BIN_EXE_weir"), "run"])
        .args(["--memcached", &format!("{address}=127.0.0.1:{}", support::free_port())])
        .args(["--admin", &format!("unix:{}", directory.join("admin.sock").display())])
        .stdin(listener)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("weir starts");
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    (Process::of(child), line)
}

#[test]
fn an_inherited_socket_keeps_the_port_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    let (mut first, line) = weir_at(&listener, directory.path());
    assert!(line.trim_end().ends_with("ready"), "{line:?}");
    Client::connect(port).ask("mn\r\n", "MN\r\n");
    first.signal(libc::SIGTERM);
    assert!(first.wait().success());
    let mut waiting = Client::connect(port);
    waiting.send("mn\r\n");
    let (_second, _) = weir_at(&listener, directory.path());
    waiting.expect("MN\r\n");
}

#[test]
fn the_socket_file_goes_and_the_manager_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, manager) = (directory.path().join("cache.sock"), directory.path().join("notify"));
    let manager_socket = std::os::unix::net::UnixDatagram::bind(&manager).expect("bound");
    manager_socket.set_read_timeout(Some(support::PATIENCE)).expect("time-out");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args([
            "run",
            "--memcached",
            &format!("unix:{}=127.0.0.1:{}", socket.display(), support::free_port()),
        ])
        .args(["--admin", &format!("unix:{}", directory.path().join("admin.sock").display())])
        .env("NOTIFY_SOCKET", &manager)
        .env("WATCHDOG_USEC", "300000")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("weir starts");
    let mut weir = Process::of(child);
    let message = || {
        let mut text = [0; 64];
        let length = manager_socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(message(), "READY=1");
    assert_eq!(message(), "WATCHDOG=1");
    assert!(socket.exists());
    weir.signal(libc::SIGTERM);
    eventually("it says that it stops", || message() == "STOPPING=1");
    assert!(weir.wait().success());
    assert!(!socket.exists() && !directory.path().join("admin.sock").exists());
}
