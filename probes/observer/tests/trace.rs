//! `weir-probes trace` as a child process, with the real kernel.

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-probes");

#[test]
fn it_must_be_told_what_to_trace() {
    let output = Command::new(PROGRAM).arg("trace").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(said.contains("weir-probes trace --errors"), "{said}");
}

#[test]
fn a_failed_connect_is_a_line() {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let free = SocketAddr::try_from(getsockname(&bound).expect("its address")).expect("IPv4");
    let watch = format!("{free}=memcached");
    let tracing = std::thread::spawn(move || {
        Command::new(PROGRAM)
            .args(["trace", "--errors", "--json", "--seconds", "4", "--watch", &watch])
            .output()
    });
    // It takes a moment to load; failures go on until it has ended.
    let mut failed = 0_u64;
    while !tracing.is_finished() {
        assert!(TcpStream::connect(free).is_err(), "nobody listens");
        failed += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = tracing.join().expect("no panic").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && (said.contains("errno 1)") || said.contains("os error 1")) {
        println!("SKIPPED: a_failed_connect_is_a_line: no right to load programs: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let (text, free) = (String::from_utf8_lossy(&output.stdout), free.to_string());
    let mine = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["process"]["pid"] == std::process::id() && line["destination"] == free.as_str());
    let mut told = 0;
    for line in mine {
        assert_eq!(
            (&line["call"], &line["errno_name"]),
            (&"connect".into(), &"ECONNREFUSED".into()),
            "{line}"
        );
        told += line["failures"].as_u64().expect("a number");
    }
    assert!((1..=failed).contains(&told), "{told} of {failed} failures were told:\n{text}");
}
