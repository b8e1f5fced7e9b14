//! Drivers that services use, against a real Cassandra through weir: what they do directly they do here, with the same
//! rows in the same order. `cargo xtask test` names the node in `WEIR_TEST_CASSANDRA` and prepares the environments;
//! a driver that cannot be had is skipped aloud. Bounds: [`LIMIT`] for a run, [`BUILD_LIMIT`] for a build.

#[path = "cql_drivers/flight.rs"]
mod flight;
#[path = "cql_drivers/go.rs"]
mod go;
#[path = "cql_drivers/java.rs"]
mod java;
mod support;
mod support_cql;
mod support_tls;
#[path = "cql_drivers/tls.rs"]
mod tls;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{PATIENCE, Process, Weir, skip, target, which};

/// The longest run of a driver: DDL on a busy machine, and its own pauses before it connects again.
const LIMIT: Duration = Duration::from_secs(150);
/// Lines of a driver that wait to be looked at.
const LINES: usize = 1_024;
/// Lines that a failed test shows of what a driver said, and of what it complained about.
const SHOWN: usize = 12;
/// Between two looks at the sockets of a driver.
const LOOK: Duration = Duration::from_millis(100);
/// What each driver does; it says `ok NAME` after each.
const CHECKS: [&str; 10] =
    ["connect", "ddl", "inserts", "in", "burst", "paging", "batch", "keyspaces", "schema change", "errors"];

/// The node of these tests; `None`, said aloud, without one.
fn node(what: &str) -> Option<SocketAddr> {
    let named = std::env::var("WEIR_TEST_CASSANDRA").ok();
    if named.is_none() {
        skip(what, "WEIR_TEST_CASSANDRA names no node (cargo xtask test starts one)");
    }
    named.map(|named| named.parse().expect("WEIR_TEST_CASSANDRA is an address"))
}

/// A file of a driver's folder.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql_drivers").join(path)
}

/// A driver's program and how it is told what to do.
struct Driver {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

impl Driver {
    /// Runs it to its end; weir, if it is one that stands in between, ends when the driver says `ready` and starts again
    /// once the driver has noticed (it says `# ` and an error). Comes back with what it said and every address it was
    /// connected to.
    fn run(&self, at: SocketAddr, setting: &str, weir: Option<&mut Weir>) -> (Vec<String>, BTreeSet<String>) {
        let keyspace = format!("drivers_{}", self.name.replace(|c: char| !c.is_alphanumeric(), "_"));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([at.ip().to_string(), at.port().to_string(), keyspace]);
        command.args(setting.split(' ')).args(weir.is_some().then_some("reconnect"));
        let mut process = Process::start(self.name, command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let lines = lines_of(process.child.stdout.take().expect("piped"));
        let complaints = Complaints::of(process.child.stderr.take().expect("piped"));
        let told = |said: &[String]| {
            format!("{} {setting} said:\n{}\nand complained:\n{}", self.name, last(said), complaints.last())
        };
        let (mut said, mut peers, mut weir, mut away) = (Vec::new(), BTreeSet::new(), weir, false);
        let deadline = Instant::now() + LIMIT;
        loop {
            peers.extend(peers_of(process.pid()));
            match lines.recv_timeout(LOOK) {
                Ok(line) => {
                    if let Some(weir) = weir.as_mut().filter(|_| line == "ready") {
                        assert!(weir.terminate().success(), "{}", weir.log());
                        away = true;
                    } else if let Some(weir) = weir.as_mut().filter(|_| away && line.starts_with("# ")) {
                        weir.start_again();
                        away = false;
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            assert!(Instant::now() < deadline, "no end within {LIMIT:?}: {}", told(&said));
        }
        let status = process.wait_within(PATIENCE);
        assert!(status.is_some_and(|status| status.success()), "it ended with {status:?}: {}", told(&said));
        assert_eq!(said.last().map(String::as_str), Some("done"), "{}", told(&said));
        (said, peers)
    }

    /// Every check was done, directly and through weir, and every row was the same.
    fn agree(&self, setting: &str, direct: &[String], through: &[String]) {
        for check in CHECKS {
            let of = |said: &[String]| {
                let line = said.iter().find(|line| {
                    **line == format!("ok {check}") || line.starts_with(&format!("ok {check}:"))
                });
                line.unwrap_or_else(|| panic!("no {check}: {}", last(said))).clone()
            };
            let (directly, here) = (of(direct), of(through));
            if directly.contains("rows=") {
                assert_eq!(here, directly, "{} {setting}", self.name);
            }
        }
    }

    /// Everything directly and through weir, in each setting (version and compression).
    fn check(&self, node: SocketAddr, settings: &[&str]) {
        for (nth, setting) in settings.iter().enumerate() {
            let (direct, _) = self.run(node, setting, None);
            let mut weir = Weir::start(&["--cql", &format!("127.0.0.1:{{port}}={node}")]);
            let at = SocketAddr::from(([127, 0, 0, 1], weir.port));
            // the pauses before a driver connects again do not depend on the protocol
            let restarted = nth == 0;
            let (through, peers) = match restarted {
                true => self.run(at, setting, Some(&mut weir)),
                false => self.run(at, setting, None),
            };
            self.agree(setting, &direct, &through);
            if nth == 0 {
                flight::check(self, node, setting, &direct);
            }
            assert_eq!(peers, BTreeSet::from([at.to_string()]), "{} {setting} went past weir", self.name);
            let counted = |name, labels: &[_]| weir.series(name, labels).unwrap_or(0.0);
            assert_eq!(counted("weir_upstream_desync_total", &[]), 0.0, "{} {setting}", self.name);
            assert_eq!(counted("weir_panics_total", &[]), 0.0, "{} {setting}", self.name);
            // a worker opens one lane, and one more for another version of the protocol
            let opened = counted("weir_backend_connection_opens_total", &[("result", "ok")]);
            assert!((1.0..=6.0).contains(&opened), "{} {setting}: {opened} connections upstream", self.name);
            let gap = through.iter().find_map(|line| line.strip_prefix("ok reconnect: "));
            assert_eq!(gap.is_some(), restarted, "{} {setting}", self.name);
            println!(
                "{} {setting}: {opened} connections upstream, restart {}",
                self.name,
                gap.unwrap_or("-")
            );
        }
    }
}

/// Its lines as they come; at most [`LINES`] wait to be looked at.
fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = sync_channel(LINES);
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// The last lines, as many as a reader of a failed run sees; equal ones in a row once.
fn last(lines: &[String]) -> String {
    let mut shown: Vec<&str> = lines.iter().map(String::as_str).collect();
    shown.dedup();
    shown.split_off(shown.len().saturating_sub(SHOWN)).join("\n")
}

/// What a driver writes to its standard error: read all the time, so that it never waits for a reader.
struct Complaints(Arc<Mutex<Vec<String>>>);

impl Complaints {
    fn of(from: impl Read + Send + 'static) -> Complaints {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) = (lines_of(from), kept.clone());
        std::thread::spawn(move || {
            for line in lines {
                let mut kept = into.lock().expect("no reader panics");
                kept.push(line);
                let old = kept.len().saturating_sub(SHOWN);
                kept.drain(..old);
            }
        });
        Complaints(kept)
    }

    /// The end of it, once it has stopped growing for a moment.
    fn last(&self) -> String {
        std::thread::sleep(LOOK);
        last(&self.0.lock().expect("no writer panics"))
    }
}

/// Where the sockets of a process lead: `ip:port` of each established TCP connection.
fn peers_of(pid: u32) -> BTreeSet<String> {
    let held = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let held: BTreeSet<String> = held
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut peers = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, _, remote, "01", _, _, _, _, _, inode, ..] = fields[..] else { continue };
            let Some((address, port)) = remote.split_once(':').filter(|_| held.contains(inode)) else {
                continue;
            };
            // the last word of an IPv6 address that holds an IPv4 one, in the machine's own order
            let v4 = u32::from_str_radix(&address[address.len() - 8..], 16).expect("hexadecimal");
            let port = u16::from_str_radix(port, 16).expect("hexadecimal");
            peers.insert(SocketAddr::from((v4.to_ne_bytes(), port)).to_string());
        }
    }
    peers
}

/// A program that reads 1,000 keys as a part of one request, in each of these versions: what weir notes of it.
fn reads_as_a_part(name: &str, program: &Path, arguments: &[PathBuf], node: SocketAddr, versions: &[&str]) {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let keyspace = format!("parts_{}", name.replace(|c: char| !c.is_alphanumeric(), "_"));
    let file = format!(
        "[cluster.main]\ncontacts = [\"{node}\"]\n\
         [listener.cql]\naddress = \"127.0.0.1:{{port}}\"\ncluster = \"main\"\ntrusted_request_ids = [\"cql\"]\n"
    );
    for version in versions {
        let weir = Weir::with_config(&file, &[]);
        let mut cql =
            support_cql::Cql::open(SocketAddr::from(([127, 0, 0, 1], weir.port)), weir_cql::Version::V4);
        cql.query(&format!("DROP KEYSPACE IF EXISTS {keyspace}")).expect_result();
        cql.query(&support_cql::create_keyspace(&keyspace)).expect_result();
        cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")).expect_result();
        for k in 0..20 {
            cql.query(&format!("INSERT INTO {keyspace}.t (k) VALUES ({k})")).expect_result();
        }
        let port = weir.port.to_string();
        let mut command = Command::new(program);
        command.args(arguments).args(["127.0.0.1", &port, &keyspace, version, trace]);
        let done = support::process::run(&mut command, None, LIMIT).expect_success(name);
        assert_eq!(done.stdout, "found 20\n", "{name} {version}");
        let page = weir.control(&format!("/request?id={trace}"));
        let number = |key: &str| page["database"][key].as_u64().expect("a number");
        assert_eq!((number("operations"), number("hits")), (1_000, 20), "{name} {version}: {page}");
        assert!(number("chunks") > 1, "it was split all the same: {name} {version}: {page}");
    }
}

#[test]
fn drivers_read_as_a_part_of_a_request() {
    let Some(node) = node("drivers with an id") else { return };
    for (version, module, spoken) in [
        ("v1", "github.com/gocql/gocql", ["4"].as_slice()),
        ("v2", "github.com/apache/cassandra-gocql-driver/v2", &["5", "4"]),
    ] {
        if let Some(program) = go::build("request_id.go", version, module) {
            reads_as_a_part(&format!("go_{version}"), &program, &[], node, spoken);
        }
    }
    let installed = target().join("xtask/cql-python/bin/python3");
    let named = std::env::var_os("WEIR_TEST_CQL_PYTHON").map(PathBuf::from);
    match [named, Some(installed)].into_iter().flatten().find(|python| python.is_file()) {
        Some(python) => {
            reads_as_a_part("python", &python, &[source("python/request_id.py")], node, &["5", "4"]);
        }
        None => skip("cassandra-driver (Python) with an id", "not installed (cargo xtask test installs it)"),
    }
    match (which("node"), std::env::var_os("WEIR_TEST_NODE")) {
        (Some(program), Some(_)) => {
            reads_as_a_part("node", &program, &[source("node/request_id.js")], node, &["4"]);
        }
        _ => skip("cassandra-driver (Node) with an id", "node or its package is missing"),
    }
}

#[test]
fn the_python_driver() {
    let Some(node) = node("cassandra-driver (Python)") else { return };
    let named = std::env::var_os("WEIR_TEST_CQL_PYTHON").map(PathBuf::from);
    let installed = target().join("xtask/cql-python/bin/python3");
    let python = [named, Some(installed)].into_iter().flatten().find(|python| python.is_file());
    let Some(program) = python else {
        return skip("cassandra-driver (Python)", "not installed (cargo xtask test installs it)");
    };
    let driver = Driver { name: "python", program, arguments: vec![source("python/driver.py")] };
    driver.check(node, &["5 none", "3 none", "4 none", "4 lz4", "5 lz4"]);
    tls::check(&driver, node, "5 none");
}

#[test]
fn the_node_driver() {
    let Some(node) = node("cassandra-driver (Node)") else { return };
    let (Some(program), Some(_)) = (which("node"), std::env::var_os("WEIR_TEST_NODE")) else {
        return skip(
            "cassandra-driver (Node)",
            "node or its package is missing (cargo xtask test installs it)",
        );
    };
    let driver = Driver { name: "node", program, arguments: vec![source("node/driver.js")] };
    driver.check(node, &["4 none", "3 none"]);
    tls::check(&driver, node, "4 none");
}

#[test]
fn gocql_1() {
    let Some(node) = node("gocql 1 (Go)") else { return };
    let Some(program) = go::build("main.go", "v1", "github.com/gocql/gocql") else { return };
    let driver = Driver { name: "go1", program, arguments: vec![] };
    driver.check(node, &["4 none", "3 none", "4 snappy"]);
    tls::check(&driver, node, "4 none");
}

#[test]
fn gocql_2() {
    let Some(node) = node("cassandra-gocql-driver 2 (Go)") else { return };
    let Some(program) = go::build("main.go", "v2", "github.com/apache/cassandra-gocql-driver/v2") else {
        return;
    };
    let driver = Driver { name: "go2", program, arguments: vec![] };
    driver.check(node, &["5 none", "3 none", "4 none", "4 snappy"]);
    tls::check(&driver, node, "5 none");
}

#[test]
fn the_java_driver() {
    let Some(node) = node("java-driver-core (Java)") else { return };
    let Some((program, arguments)) = java::build("Driver") else { return };
    let driver = Driver { name: "java", program, arguments };
    driver.check(node, &["5 none", "4 none", "4 lz4", "5 lz4"]);
}
