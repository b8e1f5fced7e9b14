//! `weir-probes trace` as a child process, with the real kernel.

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use std::io::ErrorKind;
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
    // Bound, so that it is nobody else's, and not listening.
    let bound = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&bound, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let free = SocketAddr::try_from(getsockname(&bound).expect("its address")).expect("IPv4");
    // A machine that stands still for a while may see nothing in the first time.
    for seconds in ["2", "10", "40"] {
        let (told, failed, text) = match traced(free, seconds) {
            Ok(seen) => seen,
            Err(refusal) => {
                println!("SKIPPED: a_failed_connect_is_a_line: no right to load programs: {refusal}");
                return;
            }
        };
        assert!(told <= failed, "{told} of {failed} failures were told:\n{text}");
        if told > 0 {
            return;
        }
        println!("none of {failed} failures was told within {seconds} s:\n{text}");
    }
    panic!("no failure was told");
}

/// Traces for so long while calls to this place fail: how many were told, how many failed, and what was printed. `Err` where
/// programs may not be loaded.
fn traced(free: SocketAddr, seconds: &'static str) -> Result<(u64, u64, String), String> {
    let watch = format!("{free}=memcached");
    let tracing = std::thread::spawn(move || {
        Command::new(PROGRAM)
            .args(["trace", "--errors", "--json", "--seconds", seconds, "--watch", &watch])
            .output()
    });
    // It takes a moment to load; failures go on until it has ended.
    let mut failed = 0_u64;
    while !tracing.is_finished() {
        let refused = TcpStream::connect(free).map(|_| ()).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "nobody listens");
        failed += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = tracing.join().expect("no panic").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && (said.contains("errno 1)") || said.contains("os error 1")) {
        return Err(said.into_owned());
    }
    assert!(output.status.success(), "{said}");
    let (text, free) = (String::from_utf8_lossy(&output.stdout).into_owned(), free.to_string());
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
    Ok((told, failed, format!("{text}{said}")))
}
