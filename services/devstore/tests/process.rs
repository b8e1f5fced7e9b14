//! The process: it says where it listens, serves TCP and Unix sockets, refuses what it must, and ends on SIGTERM.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Running {
    child: Child,
    ready: String,
}

impl Running {
    fn start(more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir-devstore"))
            .args(["--listen", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut ready).expect("a line");
        Self { child, ready }
    }

    fn port(&self) -> u16 {
        let after = self.ready.split("127.0.0.1:").nth(1).expect("an address");
        after.split_ascii_whitespace().next().and_then(|port| port.parse().ok()).expect("a port")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends and reads until the other side closes.
fn talk(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("written");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("read");
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn it_says_what_it_is_and_serves_both_kinds_of_socket() {
    let path = std::env::temp_dir().join(format!("weir-devstore-process-{}.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut running = Running::start(&["--listen", &unix]);
    assert!(running.ready.trim_end().ends_with("ready"), "{}", running.ready);
    assert!(running.ready.contains("embedded development store") && running.ready.contains(&unix));
    assert_eq!(talk(running.connect(), b"set k 5 0 2\r\nhi\r\nquit\r\n"), "STORED\r\n");
    let stream = UnixStream::connect(&path).expect("connected");
    assert_eq!(talk(stream, b"get k\r\nquit\r\n"), "VALUE k 5 2\r\nhi\r\nEND\r\n");
    let about = talk(running.connect(), b"version\r\nstats\r\nquit\r\n");
    assert!(about.starts_with("VERSION 1.6.18 (weir-devstore embedded development store"), "{about}");
    assert!(about.contains("STAT get_hits 1\r\n") && about.contains("STAT curr_items 1\r\n"), "{about}");
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert!(running.child.wait().expect("it ends").success());
    assert!(!path.exists(), "it removes its socket");
}

#[test]
fn binary_is_refused_and_closed_and_errors_keep_the_connection() {
    let running = Running::start(&[]);
    let mut binary = vec![0x80, 0x0b];
    binary.resize(24, 0);
    let reply = talk(running.connect(), &binary);
    assert!(reply.ends_with("Not supported"), "{reply:?}");
    let mixed = b"nonsense\r\nset k 0 0 3\r\ntoo long\r\nget\r\nmn\r\nquit\r\n";
    let reply = talk(running.connect(), mixed);
    assert!(
        reply.starts_with("ERROR\r\nCLIENT_ERROR bad data chunk\r\n") && reply.ends_with("ERROR\r\nMN\r\n")
    );
}

#[test]
fn a_huge_multiget_and_a_pipeline_arrive_whole() {
    let running = Running::start(&[]);
    let mut bytes = Vec::new();
    let value = "v".repeat(10_000);
    for n in 0..100 {
        bytes.extend_from_slice(format!("set key{n} 0 0 {} noreply\r\n{value}\r\n", value.len()).as_bytes());
    }
    bytes.extend_from_slice(b"get");
    for n in 0..2_000 {
        bytes.extend_from_slice(format!(" key{}", n % 150).as_bytes());
    }
    bytes.extend_from_slice(b"\r\nquit\r\n");
    let mut writer = running.connect();
    let reader = writer.try_clone().expect("cloned");
    let sender = std::thread::spawn(move || writer.write_all(&bytes));
    let mut reply = Vec::new();
    BufReader::new(reader).read_to_end(&mut reply).expect("read");
    sender.join().expect("no panic").expect("written");
    let asked_and_there = (0..2_000).filter(|n| n % 150 < 100).count();
    assert_eq!(String::from_utf8_lossy(&reply).matches("VALUE key").count(), asked_and_there);
    assert!(reply.ends_with(b"\r\nEND\r\n"));
}

#[test]
fn connections_are_capped_with_a_word() {
    let running = Running::start(&["--connections", "2"]);
    let held: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"mn\r\n").expect("written");
            let mut reply = [0; 4];
            stream.read_exact(&mut reply).expect("answered");
            stream
        })
        .collect();
    let mut reply = String::new();
    running.connect().read_to_string(&mut reply).expect("closed");
    assert_eq!(reply, "ERROR Too many open connections\r\n");
    drop(held);
}

/// libmemcached's own protocol checks; without them the test says `SKIPPED`.
#[test]
fn memccapable_passes() {
    let running = Running::start(&[]);
    let port = running.port().to_string();
    let Ok(output) = Command::new("memccapable").args(["-h", "127.0.0.1", "-p", &port, "-a"]).output() else {
        // Not `println!`: the test harness would keep it to itself.
        let _ = writeln!(std::io::stdout(), "SKIPPED: memccapable not found");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("[pass]").count(), 27, "{text}");
}
