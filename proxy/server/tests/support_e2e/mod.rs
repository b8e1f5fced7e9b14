//! What the end-to-end tests share: real servers as children, weir itself, and ways to ask them.
//!
//! Every child is ended by its own id when its owner is dropped, also when a test fails. Everything listens on loopback
//! ports that were free a moment ago, and is waited for before it is used. What a machine lacks is skipped aloud: a line
//! `SKIPPED: what: why`, which `cargo xtask test` collects.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod http;
pub mod namespace;
pub mod process;
pub mod wire;

use process::{Finished, Process, run};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use wire::Wire;

/// The longest wait for a server to serve.
const START: Duration = Duration::from_secs(20);
/// The longest wait for a server to end.
const END: Duration = Duration::from_secs(10);
/// Where ports for servers are looked for: below every range from which clients draw theirs.
const PORTS: std::ops::Range<u16> = 10_000..19_900;

/// Says aloud that something was not tested, and why.
pub fn skip(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
}

/// The first program of that name on the search path, system folders included.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A port on which nobody listens.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Test binaries that run side by side begin apart from each other.
    let begin = (std::process::id() % 199) as u16 * 49;
    for _ in 0..count {
        let port = PORTS.start + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {} to {}", PORTS.start, PORTS.end);
}

/// Asks until there is an answer; fails after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The name that others see of this process.
pub fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("its own name");
    name.trim_end().to_owned()
}

/// The real memcached on a port of its own.
pub struct Memcached {
    /// Where it listens.
    pub port: u16,
    process: Process,
}

impl Memcached {
    /// Starts one; `None`, said aloud, where the system has none.
    pub fn start() -> Option<Memcached> {
        let Some(program) = which("memcached") else {
            println!("SKIPPED: memcached not found");
            return None;
        };
        let port = free_port();
        let mut command = Command::new(program);
        command.args([
            "-l",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "0",
            "-m",
            "256",
            "-c",
            "18000",
            "-t",
            "2",
        ]);
        if rustix::process::geteuid().is_root() {
            // In a user namespace there is nobody else to become.
            command.args(["-u", if namespace::is_user() { "root" } else { "nobody" }]);
        }
        let process = Process::start("memcached", command.stdout(Stdio::null()).stderr(Stdio::null()));
        let server = Memcached { port, process };
        eventually("memcached answers", START, || {
            let mut wire = Wire::try_tcp(port)?;
            wire.ask("version").starts_with("VERSION").then_some(())
        });
        Some(server)
    }

    /// Its address as `--memcached` takes it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops (or continues) it: connected, and silent.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// A connection of one's own, past weir.
    pub fn wire(&self) -> Wire {
        Wire::tcp(self.port)
    }
}

/// A running weir, with its folder, control socket and metrics.
pub struct Weir {
    /// The port of `/metrics`.
    pub metrics: u16,
    /// A private folder: sockets, the file, the log.
    pub folder: tempfile::TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
}

/// The program under test.
pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

impl Weir {
    /// `weir run` with these flags besides `--metrics` and `--admin`. `{dir}` in a flag stands for the private folder.
    pub fn start(flags: &[&str]) -> Weir {
        Weir::with_file(flags, None)
    }

    /// The same with a file; `{dir}` in it stands for the private folder.
    pub fn with_config(text: &str, flags: &[&str]) -> Weir {
        Weir::with_file(flags, Some(text))
    }

    fn with_file(flags: &[&str], text: Option<&str>) -> Weir {
        let folder = tempfile::Builder::new().prefix("weir-e2e-").tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("its own");
        let dir = folder.path().to_str().expect("a plain path").to_owned();
        let metrics = free_port();
        let mut arguments: Vec<String> = vec!["run".into()];
        if let Some(text) = text {
            let path = folder.path().join("weir.toml");
            std::fs::write(&path, text.replace("{dir}", &dir)).expect("written");
            arguments.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
        }
        arguments.extend(["--metrics".to_owned(), format!("127.0.0.1:{metrics}")]);
        arguments.extend(["--admin".to_owned(), format!("unix:{dir}/admin.sock")]);
        arguments.extend(flags.iter().map(|flag| flag.replace("{dir}", &dir)));
        let mut weir = Weir { metrics, folder, arguments, process: None };
        weir.launch();
        weir
    }

    fn launch(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.path("weir.log")).expect("a log");
        let mut command = Command::new(WEIR);
        command.args(&self.arguments).env_remove("NOTIFY_SOCKET").env_remove("STATE_DIRECTORY");
        let mut process = Process::start("weir", command.stdout(Stdio::piped()).stderr(log));
        let out = process.child.stdout.take().expect("piped");
        self.process = Some(process);
        // Lines that nobody waits for any more are read and dropped, so that weir never waits for this program.
        let (sender, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let deadline = Instant::now() + START;
        loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.trim_end().ends_with("ready") => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("weir ended before it was ready:\n{}", self.log())
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    panic!("weir was not ready within {START:?}:\n{}", self.log())
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// A file of its private folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").child.id()
    }

    /// Reads the file again, as an operator has it done.
    pub fn hang_up(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::HUP);
    }

    /// Ends it with SIGTERM; how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        process.wait(END).expect("it ends in time")
    }

    /// Ends it with SIGTERM and starts it again with the same flags.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
        self.launch();
    }

    /// A command of weir's own, asked of this weir.
    pub fn command(&self, words: &[&str]) -> Finished {
        let mut command = Command::new(WEIR);
        command.args(words).env("WEIR_ADMIN", format!("unix:{}/admin.sock", self.folder.path().display()));
        run(&mut command, None, START)
    }

    /// A page of the control socket.
    pub fn page(&self, path: &str) -> serde_json::Value {
        let page = http::get_unix(&self.path("admin.sock"), path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        serde_json::from_str(&page.body)
            .unwrap_or_else(|error| panic!("{path} is no JSON ({error}): {}", page.body))
    }

    /// Its metrics as Prometheus gets them in the text format.
    pub fn metrics(&self) -> String {
        let page = http::get(self.metrics, "/metrics", "");
        assert_eq!(page.status, 200, "{}", page.body);
        page.body
    }

    /// The sum of the series of this name that carry all these labels; `None` when there is none.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum_of_series(&self.metrics(), name, labels)
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        self.process.take();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the last lines of weir's log:");
            last.iter().rev().for_each(|line| eprintln!("    {line}"));
        }
    }
}

/// Adds up series in an exposition.
pub fn sum_of_series(exposition: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut sum = None;
    for line in exposition.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (found, value) = match rest.strip_prefix('{') {
            Some(rest) => match rest.split_once("} ") {
                Some(split) => split,
                None => continue,
            },
            None => match rest.strip_prefix(' ') {
                Some(value) => ("", value),
                None => continue,
            },
        };
        let found = format!(",{found},");
        if labels.iter().all(|(label, value)| found.contains(&format!(",{label}=\"{value}\","))) {
            let value: f64 = value.split(' ').next().and_then(|value| value.parse().ok()).expect("a number");
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    sum
}

/// The root of the tree.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Cargo's target folder: weir lies in `debug` or `release` below it.
pub fn target() -> PathBuf {
    let folder = Path::new(WEIR).parent().and_then(Path::parent);
    folder.expect("cargo's layout").to_owned()
}
