//! What end-to-end tests share: a real memcached, a weir of this build, and a client that speaks plain text.
//!
//! Processes listen on free loopback ports and end by their own pid. Without memcached a test prints `SKIPPED` and
//! passes.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port nobody listens at.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// Tries until it holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that ends with its test.
pub struct Running(pub Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < until, "the process does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real memcached.
pub struct Memcached {
    pub port: u16,
    process: Option<Running>,
}

impl Memcached {
    /// Starts one; `None`, said aloud, where it is not installed.
    pub fn start() -> Option<Memcached> {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join("memcached").is_file())
        });
        if !found {
            println!("SKIPPED: memcached not found");
            return None;
        }
        let mut server = Memcached { port: free_port(), process: None };
        server.restart();
        Some(server)
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.stop();
        let port = self.port.to_string();
        let mut command = Command::new("memcached");
        command.args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-t", "2", "-m", "256"]);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("memcached starts");
        self.process = Some(Running(child));
        eventually("memcached listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Stops it from running, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let process = self.process.as_ref().expect("it runs");
        process.signal(if frozen { libc::SIGSTOP } else { libc::SIGCONT });
        // A thread stops when it is next scheduled: until then it may still answer.
        let tasks = format!("/proc/{}/task", process.pid());
        eventually("every thread has heard", || {
            std::fs::read_dir(&tasks).expect("threads").flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')) == frozen
            })
        });
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

/// A weir of this build.
pub struct Weir {
    pub port: u16,
    pub metrics_port: u16,
    /// Holds the control socket and whatever files a test makes.
    pub directory: tempfile::TempDir,
    pub process: Running,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Weir {
    /// In front of one server, with no file.
    pub fn before(server: &Memcached) -> Weir {
        Weir::with_flags(&server.address(), &[])
    }

    /// In front of these servers, with no file and more flags.
    pub fn with_flags(servers: &str, flags: &[&str]) -> Weir {
        let port = free_port();
        let route = format!("127.0.0.1:{port}={servers}");
        let mut arguments = vec!["--memcached", &route];
        arguments.extend(flags);
        Weir::start(port, &arguments, tempfile::tempdir().expect("a directory"))
    }

    /// With a file. `{port}` in the text becomes the port it listens at, `{directory}` the test's own directory.
    pub fn with_file(text: &str) -> Weir {
        let (port, directory) = (free_port(), tempfile::tempdir().expect("a directory"));
        let file = directory.path().join("weir.toml");
        write_config(&file, text, port, directory.path());
        let file = file.to_string_lossy().into_owned();
        Weir::start(port, &["--config", &file], directory)
    }

    /// Writes the file anew; `reload` is SIGHUP.
    pub fn rewrite(&self, text: &str) {
        write_config(&self.directory.path().join("weir.toml"), text, self.port, self.directory.path());
    }

    fn start(port: u16, arguments: &[&str], directory: tempfile::TempDir) -> Weir {
        let metrics_port = free_port();
        let admin = format!("unix:{}", directory.path().join("admin.sock").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("run")
            .args(arguments)
            .args(["--metrics", &format!("127.0.0.1:{metrics_port}"), "--admin", &admin])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weir starts");
        // weir writes at most one line per cause and second: a test never fills this
        let (lines, log) = mpsc::sync_channel(10_000);
        let stderr = child.stderr.take().expect("stderr");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                println!("{line}");
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let process = Running(child);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert!(line.trim_end().ends_with("ready"), "{line:?}");
        Weir { port, metrics_port, directory, process, log, seen: Vec::new() }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub fn admin(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// The page of a path of the metrics listener.
    pub fn page(&self, path: &str) -> String {
        http_get(TcpStream::connect(("127.0.0.1", self.metrics_port)).expect("metrics listener"), path)
    }

    /// The page of a path of the control socket.
    pub fn control(&self, path: &str) -> serde_json::Value {
        let page = http_get(UnixStream::connect(self.admin()).expect("control socket"), path);
        let (_, body) = page.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// Runs `weir ARGUMENTS... --admin ...` against it.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let admin = format!("unix:{}", self.admin().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).args(["--admin", &admin]).output().expect("weir runs")
    }

    /// The sum of the series whose line starts with the name and holds all of the parts.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let page = self.page("/metrics");
        page.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && parts.iter().all(|part| line.contains(part))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits for a log line that holds this text.
    #[track_caller]
    pub fn logs(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("weir never said {text:?}; it said {:#?}", self.seen),
            }
        }
    }

    /// SIGTERM, and its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.wait()
    }
}

fn write_config(file: &Path, text: &str, port: u16, directory: &Path) {
    let text = text.replace("{port}", &port.to_string()).replace("{directory}", &directory.to_string_lossy());
    std::fs::write(file, text).expect("written");
}

fn http_get(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    page
}

/// A client that speaks plain bytes.
pub struct Client {
    stream: Box<dyn Stream>,
    pub buffered: Vec<u8>,
}

trait Stream: Read + Write + Send {
    fn half_close(&self);
    fn local_port(&self) -> u16;
}

impl Stream for TcpStream {
    fn half_close(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("half closed");
    }
    fn local_port(&self) -> u16 {
        self.local_addr().expect("address").port()
    }
}

impl Stream for UnixStream {
    fn half_close(&self) {
        self.shutdown(std::net::Shutdown::Write).expect("half closed");
    }
    fn local_port(&self) -> u16 {
        0
    }
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("time-out");
        Client { stream: Box::new(stream), buffered: Vec::new() }
    }

    pub fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Client { stream: Box::new(stream), buffered: Vec::new() }
    }

    pub fn local_port(&self) -> u16 {
        self.stream.local_port()
    }

    pub fn half_close(&self) {
        self.stream.half_close();
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends and compares the answer, byte for byte.
    #[track_caller]
    pub fn ask(&mut self, request: &str, answer: &str) {
        self.send(request);
        self.expect(answer);
    }

    #[track_caller]
    pub fn expect(&mut self, answer: &str) {
        let got = self.take(answer.len());
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }

    /// Exactly so many bytes, or what came before the end.
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffered.len() < length {
            if !self.more() {
                break;
            }
        }
        self.buffered.drain(..length.min(self.buffered.len())).collect()
    }

    /// One line without its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffered.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffered.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.more(), "the connection ended in the middle of a line: {:?}", self.buffered);
        }
    }

    /// Lines up to and with one that satisfies `last`.
    #[track_caller]
    pub fn lines_until(&mut self, last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let done = last(&line);
            lines.push(line);
            if done {
                return lines;
            }
        }
    }

    /// Whether the connection ends (or was reset) without another byte.
    #[track_caller]
    pub fn is_over(&mut self) -> bool {
        let over = !self.more();
        over && self.buffered.is_empty()
    }

    fn more(&mut self) -> bool {
        let mut scratch = [0; 64 << 10];
        match self.stream.read(&mut scratch) {
            Ok(0) => false,
            Ok(length) => {
                self.buffered.extend_from_slice(&scratch[..length]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            // a machine that was paused
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => self.more(),
            Err(error) => panic!("reading: {error}"),
        }
    }
}
