//! weir as a child: its file written, started, asked for its numbers, ended.

use crate::client::{Client, PATIENCE, Place};
use crate::support::{free_port, signal};
use rustix::process::Signal;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Ticks per second in /proc, the same on every Linux weir runs on.
const USER_HZ: u64 = 100;

/// One listener with its pool; what is not said is the default.
pub struct Route {
    pub servers: Vec<String>,
    /// Lines of `[pool.NAME]`.
    pub pool: String,
    /// Lines of `[listener.NAME]`.
    pub listener: String,
    pub tcp: bool,
}

impl Route {
    pub fn to(server: impl ToString) -> Route {
        Route { servers: vec![server.to_string()], pool: String::new(), listener: String::new(), tcp: false }
    }

    pub fn pool(mut self, lines: &str) -> Route {
        self.pool.push_str(lines);
        self.pool.push('\n');
        self
    }

    pub fn listener(mut self, lines: &str) -> Route {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// TCP in place of a Unix socket.
    pub fn over_tcp(mut self) -> Route {
        self.tcp = true;
        self
    }

    pub fn start(self) -> Weir {
        Setup { routes: vec![self], ..Setup::default() }.start()
    }
}

/// A weir to be started.
#[derive(Default)]
pub struct Setup {
    pub routes: Vec<Route>,
    /// Lines at the top of the file.
    pub top: String,
    /// RLIMIT_NOFILE, soft and hard.
    pub open_files: Option<u64>,
    /// Data-path threads; one when nothing is said.
    pub workers: Option<u32>,
}

impl Setup {
    pub fn start(self) -> Weir {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let places: Vec<Place> = (0..self.routes.len())
            .map(|number| match self.routes[number].tcp {
                true => Place::Tcp(([127, 0, 0, 1], free_port()).into()),
                false => Place::Unix(at(&format!("{number}.sock"))),
            })
            .collect();
        let mut config = format!(
            "metrics = \"unix:{}\"\nadmin = \"unix:{}\"\nworkers = {}\n{}\n",
            at("metrics.sock").display(),
            at("admin.sock").display(),
            self.workers.unwrap_or(1),
            self.top
        );
        for (number, (route, place)) in self.routes.iter().zip(&places).enumerate() {
            config.push_str(&format!(
                "[pool.p{number}]\nservers = {:?}\n{}\n[listener.l{number}]\naddress = \"{place}\"\npool = \
                 \"p{number}\"\n{}\n",
                route.servers, route.pool, route.listener
            ));
        }
        let file = at("weir.toml");
        std::fs::write(&file, &config).expect("written");
        let program = env!("CARGO_BIN_EXE_weir");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(count) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        let log = at("weir.log");
        let child = command
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("weir starts");
        let mut weir =
            Weir { child, places, config, file, log, metrics: at("metrics.sock"), _directory: directory };
        let stdout = weir.child.stdout.take().expect("piped");
        let ready = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.trim_end().ends_with("ready"));
        assert!(ready, "weir did not come up");
        weir
    }
}

/// A running weir. When a test fails, the end of its log is shown.
pub struct Weir {
    child: Child,
    places: Vec<Place>,
    pub config: String,
    pub file: PathBuf,
    log: PathBuf,
    metrics: PathBuf,
    _directory: tempfile::TempDir,
}

impl Weir {
    pub fn place(&self, route: usize) -> &Place {
        &self.places[route]
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.places[0])
    }

    pub fn client_of(&self, route: usize) -> Client {
        Client::connect(&self.places[route])
    }

    /// The metrics page.
    pub fn page(&self) -> String {
        let mut stream = UnixStream::connect(&self.metrics).expect("metrics are served");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("answered");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        page
    }

    /// The sum of all series of a metric whose labels hold every one of `labels` (as `name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.page(), name, labels)
    }

    pub fn count(&self, name: &str, labels: &[&str]) -> u64 {
        self.metric(name, labels) as u64
    }

    /// Connections to backends that were made.
    pub fn opens(&self) -> u64 {
        self.count("weir_backend_connection_opens_total", &["result=\"ok\""])
    }

    /// Waits until weir holds nothing for anybody: no operation under way, no byte unread.
    pub fn wait_until_at_rest(&self, within: Duration) {
        let mut page = String::new();
        let names = [
            "weir_backend_inflight_operations",
            "weir_backend_inflight_bytes",
            "weir_queue_depth",
            "weir_client_input_bytes",
            "weir_client_reply_bytes",
        ];
        let start = Instant::now();
        loop {
            page.clone_from(&self.page());
            let held: Vec<_> =
                names.iter().map(|name| (name, sum(&page, name, &[]))).filter(|held| held.1 != 0.0).collect();
            if held.is_empty() {
                return;
            }
            assert!(start.elapsed() < within, "still held after {within:?}: {held:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Processor time used.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let after_name = stat.rsplit(") ").next().expect("fields");
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks: u64 =
            [11, 12].map(|field: usize| fields[field].parse::<u64>().expect("a number")).iter().sum();
        Duration::from_millis(ticks * 1_000 / USER_HZ)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("weir is alive")
    }

    pub fn terminate(&self) {
        signal(&self.child, Signal::TERM);
    }

    pub fn reload(&self) {
        signal(&self.child, Signal::HUP);
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    pub fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(start.elapsed() < within, "weir is still there after {within:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        log_of(&self.log)
    }
}

fn log_of(path: &Path) -> String {
    let log = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("--- weir ({status:?}) wrote, at the end:\n{}\n---", lines[from..].join("\n"));
        }
    }
}

fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let series = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (held, value) = rest.rsplit_once(' ')?;
        let of_this_name = held.is_empty() || held.starts_with('{');
        (of_this_name && labels.iter().all(|label| held.contains(label)))
            .then(|| value.parse::<f64>().ok())?
    });
    series.sum()
}
