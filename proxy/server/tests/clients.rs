//! Clients that services use, against the real memcached through weir: what they do directly they do here. Each test
//! has a memcached and a weir of its own; clients in other languages are skipped aloud where their language is missing.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::namespace::Place;
use support::process::{Finished, run};
use support::wire::keys;
use support::{Memcached, Weir, free_port, gomemcache, namespace, skip, target, which};

/// Keys of a large batch: what the importer of April 2026 asked for.
const MANY: usize = 15_000;
/// The longest run of a client.
const LIMIT: Duration = Duration::from_secs(55);

/// weir in front of memcached, with a TCP door and no file: the only listener, so `flush_all` is allowed.
fn weir_on_tcp(memcached: &Memcached) -> (Weir, u16) {
    let port = free_port();
    let weir = Weir::start(&["--memcached", &format!("127.0.0.1:{port}={}", memcached.address())]);
    (weir, port)
}

/// The same with a Unix socket.
fn weir_on_unix(memcached: &Memcached) -> (Weir, PathBuf) {
    let weir = Weir::start(&["--memcached", &format!("unix:{{dir}}/cache.sock={}", memcached.address())]);
    let socket = weir.path("cache.sock");
    (weir, socket)
}

/// How many lines of memccapable's report say `pass`, and the others.
fn capabilities(program: &Path, port: u16) -> (usize, Vec<String>) {
    let port = port.to_string();
    let done = run(Command::new(program).args(["-h", "127.0.0.1", "-p", &port, "-a"]), None, LIMIT);
    let text = format!("{}\n{}", done.stdout, done.stderr);
    let (passed, other): (Vec<_>, Vec<_>) = text
        .lines()
        .filter(|line| line.starts_with("ascii "))
        .map(str::to_owned)
        .partition(|line| line.contains("[pass]"));
    (passed.len(), other)
}

#[test]
fn memccapable_passes_as_directly() {
    let Some(program) = which("memccapable") else {
        return skip("memccapable", "not installed (Debian: libmemcached-tools)");
    };
    let Some(memcached) = Memcached::start() else { return };
    assert_eq!(capabilities(&program, memcached.port), (27, vec![]), "directly");
    let (weir, port) = weir_on_tcp(&memcached);
    assert_eq!(capabilities(&program, port), (27, vec![]), "through weir");
    let flushed = weir.series("weir_flushes_total", &[("result", "sent")]);
    assert!(flushed.is_some_and(|flushed| flushed >= 2.0), "each flush_all is counted: {flushed:?}");
    let refused = weir.series("weir_invalid_requests_total", &[]);
    assert!(refused.is_some_and(|refused| refused >= 5.0), "malformed lines are counted: {refused:?}");
}

/// What a client program said: lines `ok NAME`, the last one `done`.
fn checked(name: &str, done: Finished, wanted: &[&str]) {
    let done = done.expect_success(name);
    for check in wanted {
        let line = format!("ok {check}");
        let found = done.stdout.lines().any(|said| said == line || said.starts_with(&format!("{line}: ")));
        assert!(found, "{name} did not say \"{line}\":\n{}", done.stdout);
    }
    assert_eq!(done.stdout.lines().last(), Some("done"), "{name}:\n{}", done.stdout);
    done.stdout.lines().filter(|line| line.contains(": ")).for_each(|line| println!("{name} {line}"));
}

/// The interpreter that has pymemcache: the one `cargo xtask test` installed, or the system's own.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("WEIR_TEST_PYTHON").map(PathBuf::from);
    let installed = target().join("xtask/python/bin/python3");
    let candidates = [named, Some(installed), which("python3")];
    candidates.into_iter().flatten().filter(|python| python.is_file()).find(|python| {
        run(Command::new(python).args(["-c", "import pymemcache"]), None, LIMIT).status.success()
    })
}

#[test]
fn pymemcache_does_everything_it_does_directly() {
    let Some(python) = python() else {
        return skip("pymemcache", "no python3 here can import it (cargo xtask test installs it)");
    };
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir_on_tcp(&memcached);
    let (_unix, socket) = weir_on_unix(&memcached);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pymemcache_client.py");
    let checks = [
        "set and get",
        "misses",
        "cas",
        "add and replace",
        "append and prepend",
        "incr and decr",
        "touch",
        "delete",
        "noreply",
        "binary value",
        "large value",
        "too large value",
        "set_many",
        "get_many",
        "gets_many",
        "wrong key",
        "stats",
        "version",
        "flush",
    ];
    for server in [format!("127.0.0.1:{port}"), socket.to_string_lossy().into_owned()] {
        let done = run(Command::new(&python).arg(&script).args([&server, &MANY.to_string()]), None, LIMIT);
        checked("pymemcache", done, &checks);
    }
    let metrics = weir.metrics();
    let mut largest = metrics.lines().filter(|line| line.starts_with("weir_request_operations_max{"));
    let whole = format!(" {MANY}");
    assert!(largest.any(|line| line.ends_with(&whole)), "weir saw the batch whole:\n{metrics}");
}

/// What the kernel holds of connections that weir has not accepted yet.
fn backlog_max() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    text.trim().parse().unwrap_or(128)
}

#[test]
fn gomemcache_with_a_goroutine_per_key() {
    // The private namespace has no way to Go's modules: the program is built before it is entered.
    if !namespace::is_inside() && !gomemcache::build() {
        return;
    }
    // 15,000 dials at once need a backlog of that length, which is a setting of the network namespace.
    let settings = [("net/core/somaxconn", "16384")];
    if namespace::enter("gomemcache_with_a_goroutine_per_key", &settings) == Place::Done {
        return;
    }
    let Some(memcached) = Memcached::start() else { return };
    let (weir, socket) = weir_on_unix(&memcached);
    let at_once = if backlog_max() >= 16_384 { MANY } else { MANY.min(backlog_max() * 3 / 4) };
    if at_once < MANY {
        skip(
            "15,000 goroutines at once",
            &format!("the kernel's backlog holds {} connections", backlog_max()),
        );
    }
    let mut command = Command::new(gomemcache::program());
    command.args(["-server", &socket.to_string_lossy()]);
    command.args(["-keys", &MANY.to_string(), "-goroutines", &at_once.to_string()]);
    let done = run(&mut command, None, LIMIT);
    let checks = [
        "ping",
        "set",
        "get",
        "miss",
        "add",
        "replace",
        "append and prepend",
        "increment and decrement",
        "cas",
        "touch",
        "delete",
        "large value",
        "GetMulti",
        "goroutines",
        "flush",
    ];
    checked("gomemcache", done, &checks);
    let opened = weir.series("weir_backend_connection_opens_total", &[]);
    assert!(opened.is_some_and(|opened| opened <= 2.0), "few connections whatever clients do: {opened:?}");
}

/// The id that the clients below say, and how it stands in a key.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ID_KEY: &str = "__weir:S_kvNXezTaajzpKdDg5HNg";

/// Each of these clients reads as a part of one request, as docs/amplification.md says how; what weir notes of it.
fn reads_as_a_part(what: &str, reads: impl FnOnce(u16)) {
    let Some(memcached) = Memcached::start() else { return };
    memcached.wire().fill(&keys("key", MANY), b"x");
    let weir = Weir::with_file(&support::file(&memcached, "", "trusted_request_ids = [\"cache\"]\n"));
    reads(weir.port);
    let page = weir.control(&format!("/request?id={TRACE}"));
    let number = |key: &str| page["cache"][key].as_u64().expect("a number");
    assert_eq!((number("operations"), number("hits")), (20_000, MANY as u64), "{what}: {page}");
    assert_eq!(number("requests"), 1, "{what}: {page}");
    // and it is a harmless miss where there is no weir
    assert_eq!(memcached.wire().get(&[ID_KEY.to_owned(), "key:1".to_owned()]).found.len(), 1);
}

#[test]
fn gomemcache_reads_as_a_part_of_a_request() {
    let program = target().join("e2e/gomemcache-requestid");
    if !gomemcache::build_as(&program, "./requestid") {
        return;
    }
    reads_as_a_part("gomemcache", |port| {
        let at = format!("127.0.0.1:{port}");
        let done = run(Command::new(&program).args([&at, TRACE]), None, LIMIT).expect_success("requestid");
        assert_eq!(done.stdout, format!("found {MANY}\n"));
    });
}

#[test]
fn the_memcache_crate_reads_as_a_part_of_a_request() {
    reads_as_a_part("memcache crate", |port| {
        let url = format!("memcache://127.0.0.1:{port}?timeout=20&tcp_nodelay=true&protocol=ascii");
        let client = memcache::connect(url).expect("connected");
        let names = keys("key", 20_000);
        let mut asked = vec![ID_KEY];
        asked.extend(names.iter().map(String::as_str));
        assert_eq!(client.gets::<String>(&asked).expect("gets").len(), MANY);
    });
}

#[test]
fn pymemcache_reads_as_a_part_of_a_request() {
    let Some(python) = python() else {
        return skip("pymemcache with an id", "no python3 here can import it (cargo xtask test installs it)");
    };
    let script = "\
import base64, sys
from pymemcache.client.base import Client
trace_id = sys.argv[2]
client = Client(('127.0.0.1', int(sys.argv[1])), timeout=30)
first = '__weir:' + base64.urlsafe_b64encode(bytes.fromhex(trace_id)).decode().rstrip('=')
print('found', len(client.get_many([first] + [f'key:{n}' for n in range(20000)])))
";
    reads_as_a_part("pymemcache", |port| {
        let mut command = Command::new(&python);
        command.args(["-c", script, &port.to_string(), TRACE]);
        let done = run(&mut command, None, LIMIT).expect_success("pymemcache");
        assert_eq!(done.stdout, format!("found {MANY}\n"));
    });
}

#[test]
fn the_memcache_crate() {
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir_on_tcp(&memcached);
    let url = format!("memcache://127.0.0.1:{port}?timeout=20&tcp_nodelay=true");
    let client = memcache::connect(format!("{url}&protocol=ascii")).expect("connected");

    client.flush().expect("flush_all is allowed here");
    assert!(client.version().expect("a version")[0].1.starts_with("1."));
    client.set("name", "value", 0).expect("set");
    assert_eq!(client.get::<String>("name").expect("get"), Some("value".to_owned()));
    assert_eq!(client.get::<String>("nobody").expect("get"), None);
    client.add("name", "other", 0).expect("add");
    assert_eq!(client.get::<String>("name").expect("get"), Some("value".to_owned()), "it was there already");
    client.replace("name", "b", 0).expect("replace");
    client.append("name", "c").expect("append");
    client.prepend("name", "a").expect("prepend");
    assert_eq!(client.get::<String>("name").expect("get"), Some("abc".to_owned()));

    client.set("number", 40u64, 0).expect("set");
    assert_eq!(client.increment("number", 5).expect("incr"), 45);
    assert_eq!(client.decrement("number", 3).expect("decr"), 42);

    let (_, _, token) = client
        .gets::<(Vec<u8>, u32, Option<u64>)>(&["name"])
        .expect("gets")
        .remove("name")
        .expect("it is there");
    let token = token.expect("a token");
    assert!(client.cas("name", "won", 0, token).expect("cas"));
    assert!(!client.cas("name", "lost", 0, token).expect("cas"), "the token is used up");
    assert_eq!(client.get::<String>("name").expect("get"), Some("won".to_owned()));

    assert!(client.touch("name", 100).expect("touch"));
    assert!(!client.touch("nobody", 100).expect("touch"));
    assert!(client.delete("name").expect("delete"));
    assert!(!client.delete("name").expect("delete"));

    let large: Vec<u8> = (0..900_000u32).map(|n| (n % 251) as u8).collect();
    client.set("large", &large[..], 0).expect("set");
    assert_eq!(client.get::<Vec<u8>>("large").expect("get"), Some(large));
    assert!(client.set("larger", &vec![0u8; 2 << 20][..], 0).is_err(), "memcached takes 1 MiB");
    assert_eq!(client.get::<u64>("number").expect("get"), Some(42), "and the connection is still in step");

    let many = keys("crate", MANY);
    memcached.wire().fill(&many, b"x");
    let asked: Vec<&str> = many.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let found = client.gets::<String>(&asked).expect("gets of many");
    println!("memcache crate: {MANY} keys in {} ms", begun.elapsed().as_millis());
    assert_eq!(found.len(), MANY);
    assert!(found.values().all(|value| value == "x"));
    client.flush().expect("flush");
    assert_eq!(client.get::<u64>("number").expect("get"), None);
    assert_eq!(weir.series("weir_upstream_desync_total", &[]).unwrap_or(0.0), 0.0);
}

/// The crate speaks the binary protocol unless told otherwise. weir does not, and says so in that protocol: the client
/// fails with a status (131: not supported), not with a time-out or a broken frame.
#[test]
fn the_binary_protocol_is_refused_in_its_own_words() {
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir_on_tcp(&memcached);
    let url = format!("memcache://127.0.0.1:{port}?timeout=20&connect_timeout=2");
    let begun = Instant::now();
    let refusal = match memcache::Client::with_pool_size(url, 1) {
        Ok(client) => client.version().map(|_| ()).expect_err("refused").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(refusal.contains("131"), "{refusal}");
    let counted = weir.series("weir_invalid_requests_total", &[("cause", "binary_protocol")]);
    assert!(counted.is_some_and(|counted| counted >= 1.0), "{counted:?}");
}
