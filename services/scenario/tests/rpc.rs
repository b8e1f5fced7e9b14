//! `rpc-load` against `rpc-service`, and against a service that answers something else: does the report say so?

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOOL: &str = env!("CARGO_BIN_EXE_weir-scenario");

/// Ended by its process id when it is dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service(more: &[&str]) -> Service {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let child = Command::new(TOOL)
        .args(["rpc-service", "--listen", &address.to_string()])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let service = Service { child, address };
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    service
}

/// The report of a load, and its exit status.
fn load(server: SocketAddr, more: &[&str]) -> (serde_json::Value, Option<i32>) {
    let done = Command::new(TOOL)
        .args(["rpc-load", "--server", &server.to_string(), "--seconds", "0.4", "--warmup", "0.1"])
        .args(more)
        .output()
        .expect("it runs");
    let report = serde_json::from_slice(&done.stdout);
    (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr))), done.status.code())
}

#[test]
fn every_record_is_right_in_both_protocols() {
    let service = service(&[]);
    for more in [
        &["--depth", "8", "--keys-per-call", "20"][..],
        &["--connect", "--connections", "3", "--keys-per-call", "20"],
        &["--keys-per-call", "50000"],
    ] {
        let (report, status) = load(service.address, more);
        assert_eq!(status, Some(0), "{report}");
        assert!(report["operations"].as_u64() > Some(0) || report["keys_per_call"] == 50_000, "{report}");
        assert!(report["hits"].as_u64() > Some(0), "{report}");
        for none in ["missing", "wrong", "failed"] {
            assert_eq!(report[none], 0, "{report}");
        }
    }
}

#[test]
fn a_service_that_works_takes_its_time_per_key() {
    let service = service(&["--key-micros", "100", "--workers", "2"]);
    let (report, _) = load(service.address, &["--keys-per-call", "200"]);
    assert!(report["latency_us"]["p50"].as_f64() >= Some(20_000.0), "{report}");
}

#[test]
fn an_answer_without_its_records_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut from = [0; 4_096];
                // Head and body of a small call come in one piece, or the answer is a little early.
                while stream.read(&mut from).is_ok_and(|read| read > 0) {
                    let reply =
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(reply).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let (report, _) = load(address, &["--connect", "--keys-per-call", "2"]);
    assert!(report["missing"].as_u64() > Some(0), "{report}");
    assert_eq!(report["hits"], 0, "{report}");
}
