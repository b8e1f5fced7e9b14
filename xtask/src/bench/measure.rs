//! One measurement: a load through one contender, and the numbers it gives. The servers run for the whole benchmark;
//! contenders take turns on them, so that what disturbs the machine disturbs all.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cases::{Case, ClientSide, Contender, Load, Measure};
use crate::scenario::{Scenario, number};
use crate::servers::{self, Door, PrivateFolder, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// Keys in a huge request.
pub const HUGE: u32 = 15_000;

/// The servers and the load generator.
pub struct Rig {
    pub scenario: PathBuf,
    pub memcached: Server,
    /// `None` when it is not installed.
    pub twemproxy: Option<Server>,
    pub weir: Weir,
    /// A weir of its own: a second listener would mean a second upstream connection.
    pub weir_unix: Weir,
    /// Holds the Unix sockets that clients connect to.
    _doors: PrivateFolder,
}

/// The numbers of one contender.
pub type Numbers = BTreeMap<Measure, f64>;

impl Rig {
    /// Starts everything and stores the keys.
    pub fn start(workspace: &Workspace) -> Result<Self> {
        let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
        let memcached = servers::memcached(workspace, Door::free_port()?)?.context(
            "memcached is not installed (Debian: memcached): a benchmark against anything else says nothing",
        )?;
        let twemproxy = servers::nutcracker(workspace, &memcached.door)?;
        let weir = Weir::start(workspace, "tcp", Door::free_port()?, &memcached.door)?;
        let doors = PrivateFolder::new("doors")?;
        let socket = doors.file("weir.sock");
        let weir_unix = Weir::start(workspace, "unix", Door::Unix(socket), &memcached.door)?;
        let fill = Scenario::new("fill", &memcached.door.to_string()).flag("--verify").run(&scenario)?;
        anyhow::ensure!(fill["missing"] == 0 && fill["failed"] == 0, "the keys could not be stored: {fill}");
        Ok(Self { scenario, memcached, twemproxy, weir, weir_unix, _doors: doors })
    }

    /// Where clients of a contender connect, and which process is its proxy. `None` when the contender is not there.
    pub fn route(&self, contender: Contender, side: ClientSide) -> Option<(Door, Option<u32>)> {
        let of = |server: &Server| (server.door.clone(), Some(server.pid()));
        match (contender, side) {
            // What Unix sockets towards weir are compared with is TCP without a proxy.
            (Contender::Direct, _) => Some((self.memcached.door.clone(), None)),
            (Contender::Twemproxy, ClientSide::Tcp) => self.twemproxy.as_ref().map(of),
            (Contender::Twemproxy, ClientSide::Unix) => None,
            (Contender::Weir, ClientSide::Tcp) => Some(of(&self.weir.server)),
            (Contender::Weir, ClientSide::Unix) => Some(of(&self.weir_unix.server)),
        }
    }

    /// Measures once; `None` when the contender is not there.
    pub fn measure(&self, case: &Case, contender: Contender, seconds: f64) -> Result<Option<Numbers>> {
        let Some((door, proxy)) = self.route(contender, case.door) else { return Ok(None) };
        let door = door.to_string();
        let numbers = match case.load {
            Load::Closed { connections, depth, keys_per_get, set } => {
                let load = Scenario::new("load", &door)
                    .with("--connections", connections)
                    .with("--depth", depth)
                    .with("--keys-per-get", keys_per_get)
                    .with("--op", if set { "set" } else { "get" })
                    .with("--watch", format!("memcached={}", self.memcached.pid()));
                let load = match proxy {
                    Some(pid) => load.with("--watch", format!("proxy={pid}")),
                    None => load,
                };
                closed(&load.seconds(seconds).run(&self.scenario)?, proxy.is_some())?
            }
            Load::QuietBeside { clients, rate } => self.quiet(&door, clients, rate, seconds)?,
        };
        Ok(Some(numbers))
    }

    /// The neighbour: p50 and p99 of quiet gets while somebody asks for very much.
    fn quiet(&self, door: &str, clients: u32, rate: Option<f64>, seconds: f64) -> Result<Numbers> {
        // A p99 of 400 gets per second needs some seconds to mean something.
        let seconds = (seconds * 2.5).max(2.0);
        let noise = Scenario::new("noise", door)
            .with("--clients", clients)
            .with("--keys-min", HUGE)
            .with("--keys-max", HUGE)
            .seconds(seconds + 2.0);
        let noise = match rate {
            Some(rate) => noise.with("--rate", rate),
            None => noise,
        };
        let noise = noise.start(&self.scenario)?;
        std::thread::sleep(Duration::from_millis(700));
        let quiet = Scenario::new("quiet", door).seconds(seconds).run(&self.scenario)?;
        noise.finish().context("the noise")?;
        failures(&quiet)?;
        Ok(Numbers::from([
            (Measure::P50, number(&quiet, "latency_us.p50")?),
            (Measure::P99, number(&quiet, "latency_us.p99")?),
        ]))
    }
}

/// The numbers of a closed loop's report.
fn closed(report: &serde_json::Value, proxied: bool) -> Result<Numbers> {
    failures(report)?;
    let mut cpu = number(report, "client_cpu.us_per_operation")?
        + number(report, "watched.memcached.us_per_operation")?;
    let mut numbers = Numbers::from([
        (Measure::P50, number(report, "latency_us.p50")?),
        (Measure::P99, number(report, "latency_us.p99")?),
        (Measure::Throughput, number(report, "operations_per_second")?),
    ]);
    if proxied {
        cpu += number(report, "watched.proxy.us_per_operation")?;
        numbers.insert(Measure::ProxyCpuPerKey, number(report, "watched.proxy.us_per_key")?);
    }
    numbers.insert(Measure::TotalCpu, cpu);
    Ok(numbers)
}

/// A fast wrong answer is no answer.
fn failures(report: &serde_json::Value) -> Result<()> {
    for count in ["failed", "missing", "wrong", "out_of_step"] {
        let found = number(report, count)?;
        anyhow::ensure!(found == 0.0, "{found} requests were {count}: {}", report["errors"]);
    }
    Ok(())
}

/// Keeps the best of what was measured so far.
pub fn keep_best(best: &mut Numbers, new: &Numbers) {
    for (measure, value) in new {
        best.entry(*measure).and_modify(|old| *old = measure.better(*old, *value)).or_insert(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_numbers() {
        let report = serde_json::json!({
            "failed": 0, "missing": 0, "wrong": 0, "out_of_step": 0, "operations_per_second": 1000.0,
            "latency_us": {"p50": 10.0, "p99": 20.0}, "client_cpu": {"us_per_operation": 5.0},
            "watched": {"memcached": {"us_per_operation": 3.0}, "proxy": {"us_per_operation": 4.0, "us_per_key": 0.4}},
        });
        let numbers = closed(&report, true).unwrap();
        assert_eq!((numbers[&Measure::TotalCpu], numbers[&Measure::ProxyCpuPerKey]), (12.0, 0.4));
        let direct = closed(&report, false).unwrap();
        assert_eq!((direct[&Measure::TotalCpu], direct.get(&Measure::ProxyCpuPerKey)), (8.0, None));
    }

    #[test]
    fn failed_requests_spoil_a_run() {
        let report =
            serde_json::json!({"failed": 1, "missing": 0, "wrong": 0, "out_of_step": 0, "errors": {"x": 1}});
        assert!(failures(&report).is_err());
    }

    #[test]
    fn the_best_of_each_measure_is_kept() {
        let mut best = Numbers::from([(Measure::Throughput, 5.0), (Measure::P50, 5.0)]);
        keep_best(&mut best, &Numbers::from([(Measure::Throughput, 6.0), (Measure::P50, 6.0)]));
        assert_eq!((best[&Measure::Throughput], best[&Measure::P50]), (6.0, 5.0));
    }
}
