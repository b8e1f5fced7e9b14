//! April 2026 again, in private network namespaces: a Go service that gives each of 15,000 keys a goroutine and a connection
//! of its own, with a chosen source address, and asks for all of them at once as well. On a host without weir one scrape of
//! weir-probes names process, destination, keys, connections and the ports left; with weir in between nothing fails and no
//! port waits.

#[allow(dead_code, reason = "shared with the tests of single probes")]
#[path = "kernel/namespace.rs"]
mod network;
mod support;

use network::{Place, enter, is_inside};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::process::Process;
use support::{PATIENCE, beside, gomemcache, skip, weir_probes, which};

/// A service's keys for one request, and goroutines at once.
const KEYS: u64 = 15_000;
/// Local ports without weir: few, because the kernel looks at every one of them before it says that none is left.
const PORTS: u64 = 2_000;
const FEW: &str = "20000 21999";
/// With weir as many as half of them hold one request: the kernel gives out even ones first. Four requests take more.
const MANY: &str = "20000 51999";
/// Requests of the storm.
const ROUNDS: u64 = 4;
/// Calls of the storm: in each request a multiget and one call for each key.
const CALLS: u64 = ROUNDS * (1 + KEYS);
/// What the program is called.
const CULPRIT: &str = "gomemcache";
/// How often Prometheus scrapes as a rule.
const SCRAPE: Duration = Duration::from_secs(15);
/// Where weir-probes serves its metrics.
const METRICS: &str = "127.0.0.1:9467";

/// Where the client, memcached and weir are. The programs see every network namespace of the machine, in which the same test
/// may be under way: addresses tell them apart.
fn at(port: u16) -> String {
    SocketAddr::from((network::own_address(), port)).to_string()
}

fn memcached() -> String {
    at(11_211)
}

fn weir() -> String {
    at(11_311)
}

/// weir's defaults; only that nobody waits in vain for a debug build on a busy machine.
fn file() -> String {
    format!(
        "metrics = \"127.0.0.1:9150\"\n[pool.cache]\nservers = [\"{}\"]\nrequest_timeout = \"25s\"\nstall_timeout = \"28s\"\n\
         queue_timeout = \"60s\"\n[listener.appview]\naddress = \"{}\"\npool = \"cache\"\n",
        memcached(),
        weir()
    )
}

/// One storm at a time: two together take a busy machine minutes.
static ALONE: Mutex<()> = Mutex::new(());

/// A kernel that never takes a waiting port again, as between two hosts, and queues that take the whole storm.
fn settings(ports: &str) -> [(&'static str, &str); 5] {
    [
        ("net/ipv4/ip_local_port_range", ports),
        ("net/ipv4/tcp_tw_reuse", "0"),
        ("net/ipv4/tcp_max_tw_buckets", "65536"),
        ("net/ipv4/tcp_max_syn_backlog", "16384"),
        ("net/core/somaxconn", "16384"),
    ]
}

/// What both sides have: a memcached, and weir-probes that watches it.
struct Host {
    probes: Probes,
    _memcached: Process,
}

/// `None`, said aloud, where a part is missing.
fn host(test: &str, own: Option<&PathBuf>) -> Option<Host> {
    let Some(program) = which("memcached") else {
        skip(test, "memcached is not installed");
        return None;
    };
    let mut command = Command::new(program);
    command.args([
        "-l",
        &network::own_address().to_string(),
        "-p",
        "11211",
        "-U",
        "0",
        "-t",
        "2",
        "-m",
        "256",
        "-c",
        "18000",
    ]);
    command.args(["-b", "16384", "-u", "root"]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Process::start("memcached", &mut command);
    listens(&memcached());
    let mut probes = Probes::start(own);
    let page = probes.scrape();
    for probe in ["errors", "bypass", "work"] {
        if number(&page, "weir_probe_attached", &[("probe", probe), ("state", "attached")]) != Some(1.0) {
            let why: Vec<&str> =
                page.lines().filter(|line| line.starts_with("weir_probe_refused_info")).collect();
            skip(test, &format!("the probe {probe} is not to be had: {why:?}"));
            return None;
        }
    }
    Some(Host { probes, _memcached: server })
}

/// Connects from outside of the range of local ports, so that the storm has all of these.
fn from_outside(to: &str, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((network::own_address(), port)).into())?;
    socket.connect(&to.parse::<SocketAddr>().expect("an address").into())?;
    Ok(socket.into())
}

/// Waits until somebody listens, and leaves no socket behind.
fn listens(address: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match from_outside(address, 19_001) {
            // Dropped it resets: there is no TIME_WAIT.
            Ok(stream) => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option"),
            Err(_) => assert!(Instant::now() < deadline, "nobody listens at {address}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running `weir-probes run`, and a connection to its metrics: one that was made while there were ports.
struct Probes {
    stream: BufReader<TcpStream>,
    _process: Process,
}

impl Probes {
    fn start(own: Option<&PathBuf>) -> Probes {
        let mut command = weir_probes(&["run", "--listen", METRICS, "--interval", "1s", "--work"]);
        command.args(["--watch", &format!("{}=memcached", memcached())]);
        if let Some(own) = own {
            command.arg("--own").arg(own);
        }
        let (process, _) = saying(&mut command, |line| line.ends_with("; ready"));
        let stream = from_outside(METRICS, 19_002).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Probes { stream: BufReader::new(stream), _process: process }
    }

    /// One scrape.
    fn scrape(&mut self) -> String {
        let request = "GET /metrics HTTP/1.1\r\nhost: probes\r\n\r\n";
        self.stream.get_mut().write_all(request.as_bytes()).expect("it reads");
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line).expect("a head");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut page = vec![0; length];
        self.stream.read_exact(&mut page).expect("a whole page");
        String::from_utf8(page).expect("UTF-8")
    }

    /// The page once nothing changes any more.
    fn settled(&mut self) -> String {
        // Two looks begin after what is asked about: the first may have been under way.
        std::thread::sleep(Duration::from_millis(2_500));
        self.scrape()
    }
}

/// Starts a child and waits for a line; gives the rest of what it says.
fn saying(command: &mut Command, wanted: impl Fn(&str) -> bool) -> (Process, BufReader<ChildStdout>) {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = Process::of(child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}")));
    let mut lines = BufReader::new(process.child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !wanted(line.trim_end()) {
        line.clear();
        assert!(lines.read_line(&mut line).expect("UTF-8") > 0, "{name} ended: {:?}", process.wait());
    }
    (process, lines)
}

/// The sum of the samples that have these labels; `None` when there is none.
fn number(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let fits = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let values = page.lines().filter(fits).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value)
}

/// The storm against a server; gives it once it has begun.
fn storm(server: &str) -> (Process, BufReader<ChildStdout>) {
    let mut command = Command::new(gomemcache::program());
    command.args([
        "-server",
        server,
        "-source",
        &network::own_address().to_string(),
        "-storm",
        &ROUNDS.to_string(),
    ]);
    command.args(["-keys", &KEYS.to_string(), "-goroutines", &KEYS.to_string()]);
    saying(&mut command, |line| line == "ok storm")
}

/// Waits for the storm's end; gives what failed, by message.
fn ended((mut process, lines): (Process, BufReader<ChildStdout>)) -> Vec<(u64, String)> {
    let lines: Vec<String> = lines.lines().map(|line| line.expect("UTF-8")).collect();
    assert!(process.wait().success(), "{lines:?}");
    assert!(lines.contains(&format!("ok calls: {CALLS}")) && lines.last().is_some_and(|last| last == "done"));
    let errors = lines.iter().filter_map(|line| line.strip_prefix("error ")?.split_once(": "));
    errors.map(|(count, text)| (count.parse().expect("a count"), text.to_owned())).collect()
}

#[test]
fn without_weir_one_scrape_names_who_where_how_much_and_what_is_left() {
    const TEST: &str = "without_weir_one_scrape_names_who_where_how_much_and_what_is_left";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_inside() && !gomemcache::build() || enter(TEST, &settings(FEW)) == Place::Done {
        return;
    }
    let Some(mut host) = host(TEST, None) else { return };
    let storm = storm(&memcached());
    let begun = Instant::now();
    let (server, source, bound) = (memcached(), network::own_address().to_string(), at(0));
    let of = [("destination", server.as_str()), ("process", CULPRIT)];
    let failed_to_bind = [("call", "bind"), ("errno", "EADDRINUSE"), ("destination", bound.as_str()), of[1]];
    let towards = [("namespace", "host"), ("source", source.as_str()), of[0]];
    // What on-call asks: who, to where, how many connections, how many keys at once, which error, how many ports are left.
    let named = |page: &str| {
        let errors = number(page, "weir_socket_errors_total", &failed_to_bind)?;
        let connections = number(page, "weir_bypass_connections_total", &of)?;
        let largest = number(page, "weir_bypass_request_operations_max", &of)?;
        let used = number(page, "weir_socket_ports_used", &towards)?;
        let capacity = number(page, "weir_socket_ports_capacity", &towards[..1])?;
        let left = number(page, "weir_socket_ports_seconds_left", &towards)?;
        (used == capacity).then_some((errors, connections, largest, capacity, left))
    };
    let seen = loop {
        if let Some(seen) = named(&host.probes.scrape()) {
            break seen;
        }
        assert!(begun.elapsed() < SCRAPE, "not named within one scrape:\n{}", host.probes.scrape());
        std::thread::sleep(Duration::from_millis(100));
    };
    let took = begun.elapsed();
    let (errors, connections, largest, capacity, left) = seen;
    println!(
        "measured: {CULPRIT} named after {:.1} s: {connections} connections, {largest} keys in one get, {errors} binds \
         failed, {capacity} of {capacity} ports used",
        took.as_secs_f64()
    );
    assert_eq!((capacity, left), (PORTS as f64, 0.0), "no port, no second");
    assert!((largest - KEYS as f64).abs() <= KEYS as f64 / 100.0, "{largest} keys in one get");
    assert!(connections >= PORTS as f64 * 0.9, "{connections}");

    // And the counts are true: what the service was told is what the kernel's side counted.
    let failed = ended(storm);
    let page = host.probes.settled();
    let text = "address already in use";
    let told: u64 = failed.iter().filter(|(_, error)| error.contains(text)).map(|(count, _)| count).sum();
    let counted = number(&page, "weir_socket_errors_total", &failed_to_bind);
    println!("measured: {told} of {CALLS} calls were told \"{text}\"");
    assert_eq!(counted, Some(told as f64), "{failed:?}");
    assert!(told > CALLS / 2, "most of the storm finds no port: {failed:?}");
    let waiting = [of[0], ("direction", "outgoing"), ("state", "time_wait")];
    let waiting = number(&page, "weir_socket_states", &waiting).expect("known");
    assert!(waiting > PORTS as f64 * 0.95, "{waiting} ports wait");
}

#[test]
fn with_weir_in_between_nothing_fails_and_no_port_waits() {
    const TEST: &str = "with_weir_in_between_nothing_fails_and_no_port_waits";
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_inside() && !gomemcache::build() || enter(TEST, &settings(MANY)) == Place::Done {
        return;
    }
    let Some(program) = beside("weir") else {
        skip(TEST, "weir is not built (cargo build -p weir)");
        return;
    };
    let Some(mut host) = host(TEST, Some(&program)) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, self::file()).expect("a file");
    let mut command = Command::new(&program);
    command.args(["run", "--config"]).arg(&file);
    let (_weir, _lines) = saying(command.stderr(Stdio::null()), |line| line.ends_with("ready"));
    let failed = ended(storm(&weir()));
    assert_eq!(failed, [], "of {CALLS} calls");
    let (page, server, door, bound) = (host.probes.settled(), memcached(), weir(), at(0));
    for (state, most) in [("time_wait", 0.0), ("established", 4.0)] {
        let towards = [("destination", server.as_str()), ("direction", "outgoing"), ("state", state)];
        let sockets =
            number(&page, "weir_socket_states", &towards).expect("a watched destination has its zero");
        println!("measured: with weir {sockets} sockets towards memcached in {state} after {CALLS} calls");
        assert!(sockets <= most, "{sockets} in {state}");
    }
    let waiting =
        number(&page, "weir_socket_states", &[("destination", door.as_str()), ("state", "time_wait")]);
    assert_eq!(waiting.unwrap_or(0.0), 0.0, "towards weir");
    for place in [&server, &door, &bound] {
        let failures = number(&page, "weir_socket_errors_total", &[("destination", place)]);
        assert_eq!(failures, None, "no call failed at {place}");
    }
    let past = number(&page, "weir_bypass_connections_total", &[("destination", &server)]);
    assert_eq!(past, None, "nobody goes past weir");
}
