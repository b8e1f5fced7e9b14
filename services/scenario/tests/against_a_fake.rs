//! The tool against a server that is honest, or lies, stalls, hangs up or stays silent: does the report say so?

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does at every so many gets (counted over all connections).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vice {
    None,
    FlipsAByte,
    AnswersANeighbourKey,
    HangsUp,
    LeavesAValueOut,
    RefusesWithAnError,
    SaysEndTwice,
    Stalls(Duration),
    IsSilent,
}

type Item = (String, Vec<u8>);

struct Shared {
    store: Mutex<HashMap<String, Item>>,
    gets: AtomicU64,
    vice: Vice,
    every: u64,
}

/// Starts a server; it lives as long as the test process.
fn server(vice: Vice, every: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shared = Arc::new(Shared { store: Mutex::default(), gets: AtomicU64::new(0), vice, every });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            // A client that hangs up ends its thread.
            std::thread::spawn(move || drop(serve(stream, &shared)));
        }
    });
    address
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["set", key, flags, _, bytes] => {
                let mut body = vec![0; bytes.parse::<usize>().expect("a length") + 2];
                input.read_exact(&mut body)?;
                body.truncate(body.len() - 2);
                shared.store.lock().expect("no panic").insert(key.into(), (flags.into(), body));
                out.write_all(b"STORED\r\n")?;
            }
            ["get", ref keys @ ..] => get(keys, shared, &mut out)?,
            _ => out.write_all(b"ERROR\r\n")?,
        }
        line.clear();
    }
    Ok(())
}

fn get(keys: &[&str], shared: &Shared, out: &mut TcpStream) -> std::io::Result<()> {
    let vicious = (shared.gets.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(shared.every);
    let vice = if vicious { shared.vice } else { Vice::None };
    let mut reply = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let Some((flags, mut body)) = shared.store.lock().expect("no panic").get(*key).cloned() else {
            continue;
        };
        let mut name = (*key).to_owned();
        match vice {
            _ if number > 0 => {}
            Vice::FlipsAByte => body[0] ^= 0x20,
            Vice::AnswersANeighbourKey => name.push('x'),
            Vice::LeavesAValueOut => continue,
            _ => {}
        }
        reply.extend_from_slice(format!("VALUE {name} {flags} {}\r\n", body.len()).as_bytes());
        reply.extend_from_slice(&body);
        reply.extend_from_slice(b"\r\n");
    }
    match vice {
        Vice::HangsUp => {
            out.write_all(&reply[..reply.len() / 2])?;
            return out.shutdown(std::net::Shutdown::Both);
        }
        Vice::RefusesWithAnError => {
            reply.extend_from_slice(b"SERVER_ERROR 20000 operations asked, 2000 allowed\r\n")
        }
        Vice::SaysEndTwice => reply.extend_from_slice(b"END\r\nEND\r\n"),
        Vice::IsSilent => reply.clear(),
        Vice::Stalls(pause) => {
            std::thread::sleep(pause);
            reply.extend_from_slice(b"END\r\n");
        }
        _ => reply.extend_from_slice(b"END\r\n"),
    }
    out.write_all(&reply)
}

/// Runs the tool; gives its exit status and its report.
fn tool(server: SocketAddr, scenario: &str, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-scenario"))
        .args([scenario, "--server", &server.to_string(), "--keys", "500"])
        .args(more)
        .output()
        .expect("the tool runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let last = text.lines().last().unwrap_or_default();
    let report = serde_json::from_str(last)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

/// A server filled with the key set, and a short load on it.
fn load(vice: Vice, every: u64, more: &[&str]) -> (Option<i32>, serde_json::Value) {
    let address = server(vice, every);
    let (status, filled) = tool(address, "fill", &[]);
    assert_eq!((status, &filled["stored"], &filled["failed"]), (Some(0), &500.into(), &0.into()));
    let shape =
        ["--connections", "4", "--depth", "3", "--keys-per-get", "5", "--seconds", "0.3", "--warmup", "0"];
    tool(address, "load", &[&shape, more].concat())
}

fn number(report: &serde_json::Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("no number `{field}` in {report}"))
}

#[test]
fn an_honest_server_has_only_hits() {
    let (status, report) = load(Vice::None, 1, &[]);
    assert_eq!(status, Some(0), "{report}");
    assert!(number(&report, "operations") > 50, "{report}");
    assert_eq!(number(&report, "keys"), number(&report, "operations") * 5);
    for field in ["wrong", "missing", "failed", "unfinished", "out_of_step", "connections_lost"] {
        assert_eq!(number(&report, field), 0, "{field}: {report}");
    }
}

#[test]
fn lies_are_seen_and_change_the_exit_status() {
    for (vice, text) in [(Vice::FlipsAByte, "wrong value"), (Vice::AnswersANeighbourKey, "wrong key")] {
        let (status, report) = load(vice, 10, &[]);
        assert_eq!(status, Some(1), "{report}");
        assert!(number(&report, "wrong") > 0 && report["errors"][text].as_u64() > Some(0), "{report}");
    }
    let (status, report) = load(Vice::SaysEndTwice, 10, &["--depth", "1"]);
    assert_eq!(status, Some(1), "{report}");
    assert!(number(&report, "out_of_step") > 0, "{report}");
}

#[test]
fn omissions_refusals_and_hang_ups_are_counted_apart() {
    let (status, report) = load(Vice::LeavesAValueOut, 10, &[]);
    assert_eq!((status, number(&report, "wrong")), (Some(0), 0), "{report}");
    assert!(number(&report, "missing") > 0 && number(&report, "failed") == 0, "{report}");
    let (status, report) = load(Vice::RefusesWithAnError, 10, &[]);
    assert_eq!((status, number(&report, "connections_lost")), (Some(0), 0), "{report}");
    let refused = &report["errors"]["SERVER_ERROR N operations asked, N allowed"];
    assert_eq!(refused.as_u64(), Some(number(&report, "failed")), "{report}");
    assert!(number(&report, "failed") > 0);
    let (status, report) = load(Vice::HangsUp, 50, &["--seconds", "0.5"]);
    assert_eq!((status, number(&report, "wrong")), (Some(0), 0), "{report}");
    assert!(number(&report, "connections_lost") > 0 && number(&report, "failed") > 0, "{report}");
    assert!(number(&report, "operations") > 50, "it dials again and goes on: {report}");
}

#[test]
fn silence_ends_in_a_time_out() {
    let (status, report) =
        load(Vice::IsSilent, 20, &["--timeout", "0.2", "--seconds", "0.6", "--depth", "1"]);
    assert_eq!((status, number(&report, "wrong")), (Some(0), 0), "{report}");
    assert!(report["errors"]["timed out"].as_u64() > Some(0), "{report}");
}

#[test]
fn an_open_loop_counts_waiting_from_the_due_time() {
    let address = server(Vice::Stalls(Duration::from_millis(400)), 50);
    tool(address, "fill", &[]);
    let shape = ["--connections", "1", "--rate", "100", "--seconds", "1", "--warmup", "0"];
    let (status, report) = tool(address, "quiet", &shape);
    assert_eq!(status, Some(0), "{report}");
    // One stall of 400 ms delays the 40 requests that fell due in it, by 200 ms on average.
    assert!(number(&report, "waited_for_connection") >= 20, "{report}");
    assert!(report["latency_us"]["p90"].as_f64() > Some(100_000.0), "{report}");
    assert!(number(&report, "operations") >= 95, "{report}");
}

#[test]
fn a_burst_of_fresh_connections_answers_every_call() {
    let address = server(Vice::None, 1);
    tool(address, "fill", &[]);
    let some = ["--connections", "300", "--max-open", "10"];
    for more in [&some[..2], &some[..], &["--connections", "300", "--hold"]] {
        let (status, report) = tool(address, "burst", more);
        assert_eq!(
            (status, number(&report, "calls_failed"), number(&report, "hits")),
            (Some(0), 0, 300),
            "{report}"
        );
        assert_eq!(number(&report, "connected"), 300);
        assert!(!more.contains(&"--max-open") || number(&report, "open_peak") <= 10, "{report}");
    }
    let storm = ["--rate", "20", "--keys-min", "30", "--keys-max", "50", "--seconds", "0.5"];
    let (status, report) = tool(address, "storm", &storm);
    assert_eq!(
        (status, number(&report, "calls_failed"), number(&report, "requests_due")),
        (Some(0), 0, 10),
        "{report}"
    );
    assert_eq!(number(&report, "calls"), number(&report, "calls_ok"), "{report}");
    assert_eq!(number(&report, "dialled"), number(&report, "calls"), "{report}");
    let multiget = [&storm[..], &["--mode", "multiget"]].concat();
    let (status, report) = tool(address, "storm", &multiget);
    assert_eq!(
        (status, number(&report, "failed"), number(&report, "operations")),
        (Some(0), 0, 10),
        "{report}"
    );
}

#[test]
fn normal_idle_and_slow_readers_run_clean() {
    let address = server(Vice::None, 1);
    tool(address, "fill", &[]);
    let (status, report) =
        tool(address, "normal", &["--rate", "300", "--seconds", "0.5", "--connections", "4"]);
    assert_eq!((status, number(&report, "failed"), number(&report, "missing")), (Some(0), 0, 0), "{report}");
    assert!(number(&report, "misses_expected") > 0, "{report}");
    let (status, report) = tool(address, "idle", &["--connections", "100", "--seconds", "0.2"]);
    assert_eq!(
        (status, number(&report, "answered"), number(&report, "closed_while_idle")),
        (Some(0), 100, 0),
        "{report}"
    );
    let slow = ["--connections", "5", "--large-value", "300000", "--hold", "0.3"];
    let (status, report) = tool(address, "slow-readers", &slow);
    assert_eq!(
        (status, number(&report, "readers_complete"), number(&report, "hits")),
        (Some(0), 5, 20),
        "{report}"
    );
}

#[test]
fn a_dead_server_is_one_clear_message() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let output = Command::new(env!("CARGO_BIN_EXE_weir-scenario"))
        .args(["load", "--server", &closed.to_string(), "--keys", "10"])
        .output()
        .expect("the tool runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.lines().count() == 1 && text.contains("ECONNREFUSED"), "{text}");
}
