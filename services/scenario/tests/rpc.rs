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

/// A list of ten accounts and a thousand posts, in a file that is removed when it is dropped.
struct World(std::path::PathBuf);

impl World {
    fn write(name: &str) -> World {
        let actors = (0..10).map(|number| format!("actor\tdid:plc:{number}\tuser{number}.test\n"));
        let posts = (0..1_000)
            .map(|number| format!("post\tat://did:plc:1/app.bsky.feed.post/3k{number:04}\tcid{number}\n"));
        let path = std::env::temp_dir().join(format!("weir-scenario-{}-{name}.tsv", std::process::id()));
        std::fs::write(&path, actors.chain(posts).collect::<String>()).expect("written");
        World(path)
    }

    /// The report of a scenario that asks for it, and its exit status.
    fn asked(&self, scenario: &str, server: SocketAddr, more: &[&str]) -> (serde_json::Value, Option<i32>) {
        let done = Command::new(TOOL)
            .args([scenario, "--server", &server.to_string(), "--world"])
            .arg(&self.0)
            .args(more)
            .output()
            .expect("it runs");
        let report = serde_json::from_slice(&done.stdout);
        (report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr))), done.status.code())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may be gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn records_that_are_not_those_of_the_world_are_missing() {
    let (service, world) = (service(&[]), World::write("backfill"));
    let few = ["--keys-from", "200", "--keys-to", "300", "--seconds", "0.9", "--rate", "5"];
    let (report, status) = world.asked("rpc-backfill", service.address, &few);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["answered"], report["due"], "{report}");
    assert_eq!(report["failed"], 0, "{report}");
    // rpc-service has a record for each key, but none of this world.
    assert!(report["missing"].as_u64() > Some(100), "{report}");
    assert!(report["missing"].as_u64() <= report["keys_asked"].as_u64(), "{report}");
}

#[test]
fn the_mix_tells_calls_that_fail_from_answers() {
    let (service, world) = (service(&[]), World::write("mix"));
    let short = ["--seconds", "1", "--warmup", "0", "--rate", "20", "--timeout", "2"];
    let (report, status) = world.asked("rpc-mix", service.address, &short);
    assert_eq!(status, Some(0), "{report}");
    // It has one method of the two dozen.
    assert!(
        report["failed"].as_u64() > Some(0) && report["errors"].to_string().contains("status"),
        "{report}"
    );
    assert!(report["pages"]["failed"].as_u64() > Some(0), "{report}");
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let (report, status) = world.asked("rpc-mix", nobody, &short);
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["operations"], 0, "{report}");
    assert_eq!(report["pages"]["failed"], report["pages"]["due"], "{report}");
    assert!(report["retries"].as_u64() >= report["failed"].as_u64(), "three tries each: {report}");
}
