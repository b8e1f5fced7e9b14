//! Faults between services, end to end: a real `weir` between clients and a scripted bsky.Service while something goes
//! wrong. Each test asserts what the one at fault gets, that a neighbour's calls go on without an error, that memory stays
//! bounded, that nothing is left over, and that an operator finds a counted cause.
//!
//! Every test ends within half a minute, starts what it needs on free loopback ports, and ends it.

mod bodies;
mod crowds;
mod frames;
mod life;
mod raw;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support_rpc/mod.rs"]
mod support_rpc;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{Weir, eventually};
use support_rpc::keyed::{fields, request};
use support_rpc::scripted::Scripted;
use support_rpc::{Grpc, POSTS};

/// A neighbour's slowest call, on a busy machine, while others misbehave.
const SLOWEST: Duration = Duration::from_secs(3);

/// A client that calls all the while, on a connection of its own.
struct Neighbour {
    stop: Arc<AtomicBool>,
    calls: JoinHandle<(usize, Duration)>,
}

impl Neighbour {
    fn start(port: u16) -> Neighbour {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut client = Grpc::over_tcp(port);
        let calls = std::thread::spawn(move || {
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                let reply = client.call(POSTS, one("at://neighbour"), &[]).expect("a neighbour is served");
                assert_eq!(fields(&reply, 1).len(), 1);
                (calls, slowest) = (calls + 1, slowest.max(began.elapsed()));
                std::thread::sleep(Duration::from_millis(5));
            }
            (calls, slowest)
        });
        Neighbour { stop, calls }
    }

    /// It was served all the while, and in time.
    fn unharmed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, slowest) = self.calls.join().expect("a neighbour is unharmed");
        assert!(calls > 0 && slowest < SLOWEST, "{calls} calls, the slowest took {slowest:?}");
    }
}

/// weir in front of a scripted service, with a neighbour.
struct Scene {
    service: Scripted,
    weir: Weir,
    neighbour: Neighbour,
    /// The most memory weir had before anything went wrong, in bytes.
    memory: u64,
}

impl Scene {
    /// `own` are lines of the service, `rest` follows the listener.
    fn new(own: &str, rest: &str) -> Scene {
        Scene::with(own, rest, None)
    }

    fn with(own: &str, rest: &str, open_files: Option<u64>) -> Scene {
        let service = Scripted::start();
        let text = file(service.port, own, rest);
        let weir = Weir::with(&[("weir.toml", &text)], &[], open_files);
        let neighbour = Neighbour::start(weir.port);
        eventually("the neighbour is served", || service.told.calls() > 20);
        let memory = peak(&weir);
        Scene { service, weir, neighbour, memory }
    }

    fn client(&self) -> Grpc {
        Grpc::over_tcp(self.weir.port)
    }

    /// Connections of clients that ended like this.
    fn closed(&self, how: &str) -> f64 {
        self.weir.series("weir_client_closes_total", &[("listener", "edge"), ("how", how)]).unwrap_or(0.0)
    }

    /// Requests refused for what they are.
    fn invalid(&self, cause: &str) -> f64 {
        let labels = [("listener", "edge"), ("cause", cause)];
        self.weir.series("weir_invalid_requests_total", &labels).unwrap_or(0.0)
    }

    fn outcome(&self, outcome: &str) -> f64 {
        self.weir.series("weir_requests_total", &[("outcome", outcome)]).unwrap_or(0.0)
    }

    /// The neighbour was served, memory did not grow by more than so many MiB, and nothing is left.
    #[track_caller]
    fn unharmed(self, mib: u64) {
        self.neighbour.unharmed();
        let grown = peak(&self.weir).saturating_sub(self.memory) >> 20;
        assert!(grown <= mib, "{grown} MiB more than before, at most {mib} are allowed");
        eventually("nothing is left in weir", || {
            self.weir.series("weir_rpc_calls", &[("service", "dataplane")]) == Some(0.0)
        });
        eventually("nothing is left at the service", || self.service.told.now() == 0);
        assert_eq!(self.weir.series("weir_panics_total", &[]).unwrap_or(0.0), 0.0);
    }
}

fn file(port: u16, own: &str, rest: &str) -> String {
    format!(
        "workers = 1\n[service.dataplane]\nservers = [\"127.0.0.1:{port}\"]\npreset = \"bsky\"\n{own}\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{rest}"
    )
}

fn one(key: &str) -> bytes::Bytes {
    request(&[key.to_owned()])
}

/// The most memory a weir has had, in bytes.
fn peak(weir: &Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.process.pid())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
