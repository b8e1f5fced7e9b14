//! The Cassandra that this tree starts for itself: it speaks CQL, keeps its data through a crash, ends when it is told to and
//! when whoever started it dies, and forms a ring. Raw bytes, no driver. Where no Cassandra can be had a test prints
//! `SKIPPED: what: why` and passes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Enough for these tests, and ready sooner than the default of 512m.
const HEAP: &str = "256m";

/// The longest wait for an answer; a schema change on a busy machine takes seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// The longest wait for a node to be gone.
const END: Duration = Duration::from_secs(30);

/// The commit log is written out every second; what is younger goes with the process.
const SYNCED: Duration = Duration::from_millis(2_500);

const QUERY: u8 = 7;
const READY: u8 = 2;
const SUPPORTED: u8 = 6;
const RESULT: u8 = 8;

/// Two cores are for one virtual machine at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("cassandra").args(arguments);
    command
}

/// Whether a node can be started here; says why not.
fn can_be_had(what: &str) -> bool {
    let looked = xtask(&["fetch", "--no-install"]).output().expect("xtask runs");
    if !looked.status.success() {
        println!("SKIPPED: {what}: {}", String::from_utf8_lossy(&looked.stderr).trim());
    }
    looked.status.success()
}

/// The value of `key=value` on a line.
fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in: {line}"))
}

/// A name that no other run of these tests has.
fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// Whether the process is there and is no zombie.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + END;
    while runs(pid) {
        assert!(Instant::now() < deadline, "pid {pid} is still there after {END:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nodes that end when this value is dropped, by the close of the command's stdin.
struct Attached {
    command: Child,
    lines: BufReader<std::process::ChildStdout>,
    nodes: Vec<String>,
}

impl Attached {
    fn start(arguments: &[&str]) -> Self {
        let mut command = xtask(&["start", "--attached", "--no-install"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut command = command.spawn().expect("xtask runs");
        let lines = BufReader::new(command.stdout.take().expect("stdout is a pipe"));
        let mut attached = Attached { command, lines, nodes: Vec::new() };
        loop {
            let line = attached.line();
            match line.trim() {
                "ready" => return attached,
                node if node.starts_with("address=") => attached.nodes.push(line),
                _ => {}
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).expect("its output"), 0, "it ended: its words are above");
        print!("{line}");
        line
    }

    /// Sends one of its commands and returns its answer.
    fn tell(&mut self, words: &str) -> String {
        let stdin = self.command.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{words}").expect("it listens");
        self.line()
    }

    fn cql(&self, node: usize) -> Cql {
        Cql::connect(field(&self.nodes[node - 1], "address"))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        drop(self.command.stdin.take());
        let _ended = self.command.wait();
    }
}

/// A connection of protocol version 4, one request at a time.
struct Cql(TcpStream);

impl Cql {
    fn connect(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address");
        let stream = TcpStream::connect_timeout(&address, ANSWER).expect("a connection");
        stream.set_read_timeout(Some(ANSWER)).expect("a time limit");
        let mut cql = Cql(stream);
        let (opcode, body) = cql.ask(5, &[]);
        assert_eq!(opcode, SUPPORTED);
        assert!(contains(&body, b"PROTOCOL_VERSIONS") && contains(&body, b"5/v5"), "{}", text(&body));
        let startup = [&[0, 1][..], &string("CQL_VERSION"), &string("3.0.0")].concat();
        let (opcode, body) = cql.ask(1, &startup);
        assert_eq!(opcode, READY, "{}", text(&body));
        cql
    }

    fn ask(&mut self, opcode: u8, body: &[u8]) -> (u8, Vec<u8>) {
        let length = u32::try_from(body.len()).expect("a short body").to_be_bytes();
        self.0.write_all(&[&[4, 0, 0, 0, opcode], &length[..], body].concat()).expect("it is sent");
        let mut head = [0; 9];
        self.0.read_exact(&mut head).expect("an answer");
        assert_eq!(head[0], 0x84, "a response of version 4");
        let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        assert!(length < 1 << 20, "{length} bytes");
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).expect("the body");
        (head[4], body)
    }

    /// A statement at consistency ONE; the body of its RESULT.
    fn query(&mut self, statement: &str) -> Vec<u8> {
        let length = u32::try_from(statement.len()).expect("a short statement").to_be_bytes();
        let (opcode, body) = self.ask(QUERY, &[&length[..], statement.as_bytes(), &[0, 1, 0]].concat());
        assert_eq!(opcode, RESULT, "{statement}: {}", text(&body));
        body
    }
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short string").to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

#[test]
fn a_node_is_started_speaks_cql_and_is_stopped() {
    let _alone = alone();
    if !can_be_had("a node that is left running") {
        return;
    }
    let name = name("smoke");
    let start = ["start", "--no-install", "--heap", HEAP, "--name", &name];
    let started = xtask(&start).output().expect("xtask runs");
    let said = text(&started.stdout);
    print!("{said}{}", text(&started.stderr));
    assert!(started.status.success());
    let line = said.lines().find(|line| line.starts_with("address=")).expect("a line with the address");
    let (address, pid, folder) = (field(line, "address"), field(line, "pid"), field(line, "folder"));
    assert!(runs(pid), "it outlives the command");
    let tell = std::panic::catch_unwind(|| {
        let mut cql = Cql::connect(address);
        let row = cql.query("SELECT cluster_name, release_version FROM system.local");
        assert!(contains(&row, b"5.0.9") && contains(&row, b"weir"), "{}", text(&row));
        let again = xtask(&start).output().expect("xtask runs");
        assert!(!again.status.success() && text(&again.stderr).contains(pid), "{}", text(&again.stderr));
        assert!(runs(pid), "a second start leaves it alone");
    });
    let stopped = xtask(&["stop", "--name", &name]).output().expect("xtask runs");
    tell.expect("what it told");
    assert!(text(&stopped.stdout).contains(&format!("stopped pid={pid}")), "{}", text(&stopped.stdout));
    assert!(!runs(pid));
    let stopped = xtask(&["stop", "--name", &name]).output().expect("xtask runs");
    assert_eq!(text(&stopped.stdout), "nothing runs\n");
    let of_this_run = Path::new(folder).parent().expect("the folder of the name");
    std::fs::remove_dir_all(of_this_run).expect("the data goes");
}

#[test]
fn a_killed_node_has_its_data_when_it_is_back_and_ends_with_its_owner() {
    let _alone = alone();
    if !can_be_had("kill -9 and restart") {
        return;
    }
    let mut node = Attached::start(&["--heap", HEAP, "--name", &name("crash")]);
    let pid = field(&node.nodes[0], "pid").to_owned();
    let mut cql = node.cql(1);
    cql.query("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
    cql.query("CREATE TABLE k.t (k text PRIMARY KEY, v text)");
    cql.query("INSERT INTO k.t (k, v) VALUES ('a', 'written before the crash')");
    std::thread::sleep(SYNCED);
    assert_eq!(node.tell("kill 1"), "killed 1\n");
    assert!(!runs(&pid));
    assert_eq!(cql.0.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is lost");
    let line = node.tell("start 1");
    assert_eq!(field(&line, "address"), field(&node.nodes[0], "address"), "where it was");
    let row = node.cql(1).query("SELECT v FROM k.t WHERE k = 'a'");
    assert!(contains(&row, b"written before the crash"), "{}", text(&row));

    // The command dies without a word to its node, as when its own owner was killed.
    let (again, folder) = (field(&line, "pid").to_owned(), field(&line, "folder").to_owned());
    drop(node);
    wait_until_gone(&again);
    assert!(!Path::new(&folder).exists(), "the data goes with it");
}

#[test]
#[ignore = "a ring of three takes half a minute to two minutes and 2 GB (--full)"]
fn a_ring_loses_a_node_and_gets_it_back() {
    let _alone = alone();
    if !can_be_had("a ring of three") {
        return;
    }
    let mut ring = Attached::start(&["--nodes", "3", "--name", &name("ring")]);
    assert_eq!(ring.nodes.len(), 3);
    let mut cql = ring.cql(1);
    let peers = cql.query("SELECT rpc_address FROM system.peers");
    for node in &ring.nodes[1..] {
        let SocketAddr::V4(address) = field(node, "address").parse().expect("an address") else { panic!() };
        assert!(contains(&peers, &address.ip().octets()), "{address} is a peer: {peers:?}");
    }
    cql.query("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}");
    cql.query("CREATE TABLE k.t (k int PRIMARY KEY, v text)");
    // A replica that has not heard of the table yet answers a read with INCOMPATIBLE_SCHEMA; drivers wait for this too.
    let deadline = Instant::now() + ANSWER;
    let versions = || [1, 2, 3].map(|node| ring.cql(node).query("SELECT schema_version FROM system.local"));
    while let [first, second, third] = versions()
        && !(first == second && second == third)
    {
        assert!(Instant::now() < deadline, "no agreement on the schema after {ANSWER:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    for key in 0..50 {
        cql.query(&format!("INSERT INTO k.t (k, v) VALUES ({key}, 'row {key}.')"));
    }
    assert_eq!(ring.tell("kill 3"), "killed 3\n");
    for key in 0..50 {
        let row = cql.query(&format!("SELECT v FROM k.t WHERE k = {key}"));
        assert!(contains(&row, format!("row {key}.").as_bytes()), "{key}: {}", text(&row));
    }
    ring.tell("start 3");
    let row = ring.cql(3).query("SELECT v FROM k.t WHERE k = 7");
    assert!(contains(&row, b"row 7."), "{}", text(&row));
}
