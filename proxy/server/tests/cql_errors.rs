//! What drivers do on each error that weir can answer with: two hosts stand in front of one real Cassandra and answer
//! the statements of interest with errors; everything else they pass on. Measured, not asserted, and printed as the table
//! of docs/cql.md:
//!
//! `cargo test -p weir --test cql_errors -- --ignored --nocapture`, with the variables of `cargo xtask test`.

#[path = "cql_drivers/go.rs"]
mod go;
#[path = "cql_drivers/java.rs"]
mod java;
#[path = "cql_errors/rust.rs"]
mod rust;
mod support;

use md5::{Digest as _, Md5};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use support::process::run;
use support::{free_port, skip, which};
use weir_cql::envelope::{EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::request::Request;
use weir_cql::response::{Acks, ErrorBody, ErrorCode, ErrorDetail};
use weir_cql::{Consistency, CqlType, Dialect, HEADER_LEN, Native, StreamId, Version, write};

/// The codes, in the order of the table. The key a driver asks for is twice the place, plus one if it calls the statement
/// idempotent.
const CODES: [(&str, ErrorCode); 9] = [
    ("Invalid", ErrorCode::INVALID),
    ("OVERLOADED", ErrorCode::OVERLOADED),
    ("SERVER_ERROR", ErrorCode::SERVER_ERROR),
    ("UNAVAILABLE", ErrorCode::UNAVAILABLE),
    ("READ_TIMEOUT", ErrorCode::READ_TIMEOUT),
    ("IS_BOOTSTRAPPING", ErrorCode::IS_BOOTSTRAPPING),
    ("UNPREPARED", ErrorCode::UNPREPARED),
    ("BAD_CREDENTIALS", ErrorCode::BAD_CREDENTIALS),
    ("PROTOCOL_ERROR", ErrorCode::PROTOCOL_ERROR),
];
/// The two hosts.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
/// The longest run of a driver.
const LIMIT: Duration = Duration::from_secs(120);

/// What happened to one key.
#[derive(Default, Debug, Clone)]
struct Seen {
    /// The host and connection of each attempt.
    attempts: Vec<(usize, usize)>,
    /// A connection that was answered so was closed by the driver before its next key.
    closed: bool,
}

type Log = Arc<Mutex<Asked>>;

#[derive(Default)]
struct Asked {
    /// Prepared statements about the system's tables, by their ids.
    system: BTreeMap<Vec<u8>, String>,
    keys: BTreeMap<usize, Seen>,
    /// The key asked for last.
    last: Option<usize>,
    connections: usize,
}

fn lock(log: &Log) -> MutexGuard<'_, Asked> {
    log.lock().expect("nobody panics")
}

/// A body of ERROR.
fn error_body(code: ErrorCode, id: &[u8]) -> Vec<u8> {
    let acks = Acks { consistency: Consistency::ONE, received: 0, required: 1 };
    let detail = match code {
        ErrorCode::UNAVAILABLE => {
            ErrorDetail::Unavailable { consistency: Consistency::ONE, required: 1, alive: 0 }
        }
        ErrorCode::READ_TIMEOUT => ErrorDetail::ReadTimeout { acks, data_present: false },
        ErrorCode::UNPREPARED => ErrorDetail::Unprepared(id),
        _ => ErrorDetail::Plain(&[]),
    };
    let mut body = Vec::new();
    ErrorBody { code, message: b"scripted", detail }.write(Version::V4, &mut body);
    body
}

/// `system.local` and `system.peers` of a host: both hosts, the columns asked for.
fn system_rows(text: &str, host: usize) -> Option<Vec<u8>> {
    let lower = text.to_ascii_lowercase();
    let local = lower.contains("from system.local");
    if !local && !lower.contains("from system.peers") {
        return None;
    }
    let shown = if local { HOSTS[host] } else { HOSTS[1 - host] };
    let varchar = |text: &str| (CqlType::Native(Native::Varchar), text.as_bytes().to_vec());
    let inet = || (CqlType::Native(Native::Inet), shown.octets().to_vec());
    let uuid = |last: u8| (CqlType::Native(Native::Uuid), [&[7; 15][..], &[last]].concat());
    let token = if shown == HOSTS[0] { "-100" } else { "4000000000000000000" };
    let mut tokens = 1i32.to_be_bytes().to_vec();
    write::bytes(&mut tokens, token.as_bytes());
    let columns = [
        ("key", varchar("local")),
        ("peer", inet()),
        ("rpc_address", inet()),
        ("broadcast_address", inet()),
        ("listen_address", inet()),
        ("data_center", varchar("datacenter1")),
        ("rack", varchar("rack1")),
        ("host_id", uuid(shown.octets()[3])),
        ("release_version", varchar("3.11.9")),
        ("cql_version", varchar("3.4.4")),
        ("cluster_name", varchar("two")),
        ("partitioner", varchar("org.apache.cassandra.dht.Murmur3Partitioner")),
        ("schema_version", uuid(99)),
        ("tokens", (CqlType::Set(Box::new(CqlType::Native(Native::Varchar))), tokens)),
    ];
    let selected = lower.trim_start().strip_prefix("select ")?.split(" from ").next()?.trim().to_owned();
    let wanted = |name: &str| selected == "*" || selected.split(',').any(|one| one.trim() == name);
    let own = |name: &str| !(name == "peer" && local || name == "key" && !local);
    let columns: Vec<_> = columns.into_iter().filter(|(name, _)| wanted(name) && own(name)).collect();
    let mut out = 2i32.to_be_bytes().to_vec();
    write::bits(&mut out, 1);
    write::int(&mut out, columns.len() as i32);
    write::string(&mut out, "system");
    write::string(&mut out, if local { "local" } else { "peers" });
    for (name, (kind, _)) in &columns {
        write::string(&mut out, name);
        kind.write(&mut out);
    }
    write::int(&mut out, 1);
    columns.iter().for_each(|(_, (_, cell))| write::bytes(&mut out, cell));
    Some(out)
}

/// The answer of a host's own to a request; `None`: the node answers.
fn scripted(
    header: &Header,
    body: &[u8],
    host: usize,
    connection: usize,
    log: &Log,
) -> Option<(Opcode, Vec<u8>)> {
    match Request::locate(header, body, Dialect::of(header.version)).ok()? {
        Request::Query(query) => {
            let text = String::from_utf8_lossy(query.text.of(body)).into_owned();
            if text.to_ascii_lowercase().contains("system.peers_v2") {
                return Some((Opcode::Error, error_body(ErrorCode::INVALID, &[])));
            }
            system_rows(&text, host).map(|body| (Opcode::Result, body))
        }
        // the node knows it too; its id is the MD5 of its text there
        Request::Prepare(prepare) => {
            let text = prepare.text.of(body);
            let id = Md5::digest(text).to_vec();
            lock(log).system.insert(id, String::from_utf8_lossy(text).into_owned());
            None
        }
        Request::Execute(execute) => {
            let system = lock(log).system.get(execute.id.of(body)).and_then(|text| system_rows(text, host));
            if let Some(body) = system {
                return Some((Opcode::Result, body));
            }
            let key = execute.parameters.values.get(body, 0)?.of(body)?;
            let key = usize::try_from(i32::from_be_bytes(key.try_into().ok()?)).ok()?;
            let mut log = lock(log);
            log.last = Some(key);
            let (_, code) = *CODES.get(key / 2)?;
            let seen = log.keys.entry(key).or_default();
            seen.attempts.push((host, connection));
            if code == ErrorCode::UNPREPARED && seen.attempts.len() > 1 {
                return None; // a driver that prepares it again is to find it
            }
            Some((Opcode::Error, error_body(code, execute.id.of(body))))
        }
        _ => None,
    }
}

/// Whole envelopes from one side, until its end.
fn envelopes(mut from: TcpStream, side: Side, mut each: impl FnMut(&Header, &[u8])) {
    let (mut input, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        match read_header(&input, side, EnvelopeLimits::default()) {
            Step::Envelope { header } if input.len() >= header.envelope_len() => {
                let envelope: Vec<u8> = input.drain(..header.envelope_len()).collect();
                each(&header, &envelope);
                continue;
            }
            Step::Envelope { .. } | Step::Incomplete { .. } => {}
            _ => return,
        }
        match from.read(&mut chunk) {
            Ok(length @ 1..) => input.extend_from_slice(&chunk[..length]),
            _ => return,
        }
    }
}

fn serve(client: TcpStream, node: SocketAddr, host: usize, log: &Log) {
    let connection = {
        let mut log = lock(log);
        log.connections += 1;
        log.connections
    };
    let Ok(mut upstream) = TcpStream::connect(node) else { return };
    let out = Arc::new(Mutex::new(client.try_clone().expect("a handle")));
    let (back, answers) = (out.clone(), upstream.try_clone().expect("a handle"));
    std::thread::spawn(move || {
        envelopes(answers, Side::Server, |_, envelope| {
            let _ = back.lock().expect("nobody panics").write_all(envelope);
        });
    });
    envelopes(client, Side::Client, |header, envelope| {
        let Some((opcode, body)) = scripted(header, &envelope[HEADER_LEN..], host, connection, log) else {
            let _ = upstream.write_all(envelope);
            return;
        };
        let mut answer = Vec::new();
        let flags = Flags::default();
        let (version, stream) = (header.version, StreamId(header.stream.0));
        Header { version, flags, stream, opcode, body_len: body.len() as u32 }.write(&mut answer);
        answer.extend_from_slice(&body);
        let _ = out.lock().expect("nobody panics").write_all(&answer);
    });
    let _ = upstream.shutdown(std::net::Shutdown::Both);
    let mut log = lock(log);
    if let Some(last) = log.last
        && let Some(seen) = log.keys.get_mut(&last)
        && seen.attempts.iter().any(|(_, its)| *its == connection)
    {
        seen.closed = true;
    }
}

/// Both hosts, on one port.
fn hosts(node: SocketAddr) -> (u16, Log) {
    let (port, log) = (free_port(), Log::default());
    for (host, address) in HOSTS.into_iter().enumerate() {
        let listener = TcpListener::bind((IpAddr::from(address), port)).expect("a loopback address");
        let log = log.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let log = log.clone();
                std::thread::spawn(move || serve(client, node, host, &log));
            }
        });
    }
    (port, log)
}

/// What the hosts saw of a key, in a few words.
fn retried(seen: &Seen) -> String {
    let hosts: Vec<usize> = seen.attempts.iter().map(|(host, _)| *host).collect();
    let mut words = match hosts.len() {
        0 => "not sent".to_owned(),
        1 => "not retried".to_owned(),
        more => {
            let same = hosts.windows(2).filter(|pair| pair[0] == pair[1]).count();
            match (same, more - 1 - same) {
                (same, 0) => format!("same host x{same}"),
                (0, next) => format!("next host x{next}"),
                (same, next) => format!("same host x{same}, next host x{next}"),
            }
        }
    };
    if seen.closed {
        words.push_str(", connection closed");
    }
    words
}

/// Runs one driver; a row per code: with a statement that is not called idempotent, and with one that is.
fn measure(name: &str, node: SocketAddr, command: &mut Command) {
    measure_by(name, node, |port, keys| {
        command.args([HOSTS[0].to_string(), port.to_string(), keys.to_string()]);
        run(command, None, LIMIT).expect_success(name).stdout
    });
}

/// The same for whatever asks the hosts at this port for so many keys and says what became of them.
fn measure_by(name: &str, node: SocketAddr, ask: impl FnOnce(u16, usize) -> String) {
    let (port, log) = hosts(node);
    let said = ask(port, CODES.len() * 2);
    std::thread::sleep(Duration::from_millis(200));
    said.lines().filter(|line| line.starts_with("afterwards")).for_each(|line| println!("{name}: {line}"));
    let outcomes: BTreeMap<usize, String> = said
        .lines()
        .filter_map(|line| line.strip_prefix("key ")?.split_once(' '))
        .filter_map(|(key, outcome)| Some((key.parse().ok()?, outcome.to_owned())))
        .collect();
    let log = lock(&log);
    for (place, (code, _)) in CODES.into_iter().enumerate() {
        let of = |key: usize| {
            let seen = log.keys.get(&key).cloned().unwrap_or_default();
            let outcome = outcomes.get(&key).unwrap_or_else(|| panic!("{name}: nothing said of {key}"));
            format!("{}: {outcome}", retried(&seen))
        };
        let (plain, idempotent) = (of(place * 2), of(place * 2 + 1));
        let idempotent = if idempotent == plain { "the same".to_owned() } else { idempotent };
        println!("| {code} | {name} | {plain} | {idempotent} |");
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cql_drivers").join(path)
}

#[test]
#[ignore = "prints a table of docs/cql.md; nothing of weir's is tested"]
fn table_of_what_drivers_do_on_errors() {
    let what = "the table of errors";
    let Ok(node) = std::env::var("WEIR_TEST_CASSANDRA") else {
        return skip(what, "WEIR_TEST_CASSANDRA names no node");
    };
    let node: SocketAddr = node.parse().expect("an address");
    println!("| error | driver | statement not called idempotent | called idempotent |\n|---|---|---|---|");
    if let Some(python) = std::env::var_os("WEIR_TEST_CQL_PYTHON") {
        measure("Python 3.30", node, Command::new(python).arg(source("python/errors.py")));
    }
    if let (Some(program), Some(_)) = (which("node"), std::env::var_os("WEIR_TEST_NODE")) {
        measure("Node 4.10", node, Command::new(program).arg(source("node/errors.js")));
    }
    for (name, version, module) in [
        ("gocql 1.7", "v1", "github.com/gocql/gocql"),
        ("gocql 2.1", "v2", "github.com/apache/cassandra-gocql-driver/v2"),
    ] {
        if let Some(program) = go::build("errors.go", version, module) {
            measure(name, node, &mut Command::new(program));
        }
    }
    measure_by("Rust scylla 1.9", node, |port, keys| rust::ask(SocketAddr::from((HOSTS[0], port)), keys));
    if let Some((java, arguments)) = java::build("Errors") {
        measure("Java 4.19", node, Command::new(java).args(arguments));
    }
}
