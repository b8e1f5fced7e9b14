//! weir between checked clients and whatever a test puts behind it.

use crate::client::{Client, Place};
use crate::e2e;
pub use crate::e2e::series::sum;
use crate::support::free_port;
use std::path::PathBuf;
use std::process::ExitStatus;
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
        let sockets = tempfile::tempdir().expect("a directory");
        let place = |(number, route): (usize, &Route)| match route.tcp {
            true => Place::local(free_port()),
            false => Place::Unix(sockets.path().join(format!("{number}.sock"))),
        };
        let places: Vec<Place> = self.routes.iter().enumerate().map(place).collect();
        let mut config = format!("workers = {}\n{}\n", self.workers.unwrap_or(1), self.top);
        for (number, (route, place)) in self.routes.iter().zip(&places).enumerate() {
            config.push_str(&format!(
                "[pool.p{number}]\nservers = {:?}\n{}\n[listener.l{number}]\naddress = \"{place}\"\npool = \
                 \"p{number}\"\n{}\n",
                route.servers, route.pool, route.listener
            ));
        }
        let child = e2e::Weir::with(&[("weir.toml", &config)], &[], self.open_files);
        let file = child.path("weir.toml");
        Weir { child, places, config, file, _sockets: sockets }
    }
}

/// A running weir. When a test fails, the end of its log is shown.
pub struct Weir {
    child: e2e::Weir,
    places: Vec<Place>,
    pub config: String,
    pub file: PathBuf,
    _sockets: tempfile::TempDir,
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
        self.child.metrics()
    }

    /// A page of the control socket.
    pub fn control(&self, path: &str) -> String {
        self.child.control(path).to_string()
    }

    /// The sum of all series of a metric whose labels hold every one of `labels` (as `name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.child.metric(name, labels)
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
        let path = format!("/proc/{}/{file}", self.child.process.pid());
        std::fs::read_to_string(path).expect("weir is alive")
    }

    pub fn terminate(&self) {
        self.child.process.signal(libc::SIGTERM);
    }

    pub fn reload(&self) {
        self.child.hang_up();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.process.ended().is_none()
    }

    #[track_caller]
    pub fn wait_for_exit(&mut self, within: Duration) -> ExitStatus {
        let status = self.child.process.wait_within(within);
        status.unwrap_or_else(|| panic!("weir is still there after {within:?}"))
    }

    pub fn log(&self) -> String {
        self.child.log()
    }
}
