//! The servers, and one measurement: a load through one contender, and the numbers it gives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cases::{Case, Contender, Load, Measure};
use crate::bench::frame::failures;
use crate::scenario::{KEYS, Scenario, number};
use crate::servers::{Door, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// Work per key at the service that works: about what a key of a long IN costs Cassandra on this benchmark's machine
/// (docs/benchmarks-cql.md).
pub const KEY_MICROS: u32 = 15;

/// Calls that this service works on at once.
pub const WORKERS: u32 = 4;

/// Keys of a neighbour's call.
const NEIGHBOUR_KEYS: u32 = 20;

/// A service with a proxy of each kind in front of it.
pub struct Stage {
    pub service: Server,
    proxies: BTreeMap<Contender, Proxy>,
}

/// A proxy that runs.
pub enum Proxy {
    Pingora(Server),
    Weir(Weir),
}

impl Proxy {
    /// Starts one in front of a service; none for [`Contender::Direct`].
    pub fn start(
        workspace: &Workspace,
        name: &str,
        contender: Contender,
        service: &Door,
    ) -> Result<Option<Self>> {
        let door = Door::free_port()?;
        Ok(Some(match contender {
            Contender::Direct => return Ok(None),
            Contender::Pingora => {
                let mut command = Command::new(workspace.binary(Profile::Release, "weir-passthrough")?);
                command.args(["--listen", &door.to_string(), "--server", &service.to_string()]);
                Self::Pingora(Server::start_foreign(workspace, "weir-passthrough", &mut command, door)?)
            }
            Contender::Whole | Contender::Weir => {
                let split = contender == Contender::Weir;
                let name = format!("rpc-{name}-{}", if split { "split" } else { "whole" });
                let config = format!(
                    "[service.dataplane]\nservers = [\"{service}\"]\npreset = \"bsky\"\nsplit = {split}\n\
                     [listener.edge]\naddress = \"{door}\"\nservice = \"dataplane\"\n"
                );
                Self::Weir(Weir::start_with_file(workspace, &name, door, &config)?)
            }
        }))
    }

    pub fn server(&self) -> &Server {
        match self {
            Self::Pingora(server) => server,
            Self::Weir(weir) => &weir.server,
        }
    }
}

impl Stage {
    fn start(workspace: &Workspace, name: &str, key_micros: u32, contenders: &[Contender]) -> Result<Self> {
        let door = Door::free_port()?;
        let mut command = Command::new(workspace.binary(Profile::Release, "weir-scenario")?);
        command.args(["rpc-service", "--listen", &door.to_string()]);
        command.args(["--key-micros", &key_micros.to_string(), "--workers", &WORKERS.to_string()]);
        let service = Server::start_foreign(workspace, "rpc-service", &mut command, door)?;
        let mut proxies = BTreeMap::new();
        for contender in contenders {
            if let Some(proxy) = Proxy::start(workspace, name, *contender, &service.door)? {
                proxies.insert(*contender, proxy);
            }
        }
        Ok(Self { service, proxies })
    }

    /// The proxy of a contender.
    pub fn proxy(&self, contender: Contender) -> Option<&Server> {
        self.proxies.get(&contender).map(Proxy::server)
    }

    /// A load through a contender, which watches what it costs.
    pub fn load(&self, contender: Contender) -> Scenario {
        let proxy = self.proxy(contender);
        let door = proxy.map_or(&self.service.door, |proxy| &proxy.door);
        let load = Scenario::of("rpc-load", &door.to_string(), KEYS)
            .with("--watch", format!("service={}", self.service.pid()));
        match proxy {
            Some(proxy) => load.with("--watch", format!("proxy={}", proxy.pid())),
            None => load,
        }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.proxies.values().map(|proxy| proxy.server().pid()).chain([self.service.pid()])
    }
}

/// The servers and the load generator.
pub struct Rig {
    pub scenario: PathBuf,
    /// A service that answers at once.
    pub quick: Stage,
    /// A service that works per key.
    works: Stage,
}

/// The numbers of one contender.
pub type Numbers = BTreeMap<Measure, f64>;

impl Rig {
    /// Starts everything, and lets each serve for a moment.
    pub fn start(workspace: &Workspace) -> Result<Self> {
        let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
        let quick = Stage::start(workspace, "quick", 0, &Contender::EVERYWHERE)?;
        let works = Stage::start(workspace, "works", KEY_MICROS, &Contender::ALL)?;
        let rig = Self { scenario, quick, works };
        for stage in [&rig.quick, &rig.works] {
            for contender in Contender::ALL {
                if contender == Contender::Direct || stage.proxy(contender).is_some() {
                    let load = stage.load(contender).with("--depth", 4).with("--warmup", 0);
                    failures(&load.seconds(0.3).run(&rig.scenario)?)?;
                }
            }
        }
        Ok(rig)
    }

    /// Every process of the run that is no load.
    pub fn pids(&self) -> Vec<u32> {
        self.quick.pids().chain(self.works.pids()).collect()
    }

    /// Measures once.
    pub fn measure(&self, case: &Case, contender: Contender, seconds: f64) -> Result<Numbers> {
        match case.load {
            Load::Small { connect, keys, connections, depth } => {
                let load = self.quick.load(contender).with("--keys-per-call", keys);
                let load = load.with("--connections", connections).with("--depth", depth);
                let load = if connect { load.flag("--connect") } else { load };
                numbers(&load.seconds(seconds).run(&self.scenario)?)
            }
            Load::Large { keys } => {
                // Some calls of a third of a second each must fit.
                let load = self.works.load(contender).with("--keys-per-call", keys);
                numbers(&load.seconds(seconds * 2.0).run(&self.scenario)?)
            }
            Load::NeighbourOf { clients, keys } => {
                let load = self.works.load(contender).with("--keys-per-call", keys);
                let load = load.with("--connections", clients).seconds(seconds * 2.0 + 1.5);
                let load = load.start(&self.scenario)?;
                std::thread::sleep(Duration::from_millis(700));
                let quiet = self.works.load(contender).with("--keys-per-call", NEIGHBOUR_KEYS);
                let quiet = quiet.with("--connections", 4).with("--pause-ms", 5).seconds(seconds * 2.0);
                let quiet = quiet.run(&self.scenario)?;
                let load = load.finish().context("the load beside")?;
                let mut numbers = numbers(&quiet)?;
                // Their CPU would be that of the load beside.
                numbers.retain(|measure, _| matches!(measure, Measure::P50 | Measure::P99));
                failures(&load)?;
                numbers.insert(Measure::LoadKeys, number(&load, "keys_per_second")?);
                Ok(numbers)
            }
        }
    }
}

/// The numbers of a report.
fn numbers(report: &Value) -> Result<Numbers> {
    failures(report)?;
    ensure!(number(report, "operations")? > 0.0, "no call ended in the measured time");
    let mut numbers = Numbers::from([
        (Measure::P50, number(report, "latency_us.p50")?),
        (Measure::P99, number(report, "latency_us.p99")?),
        (Measure::Throughput, number(report, "operations_per_second")?),
        (Measure::ServiceCpu, number(report, "watched.service.us_per_operation")?),
    ]);
    if let Ok(cpu) = number(report, "watched.proxy.us_per_operation") {
        numbers.insert(Measure::ProxyCpu, cpu);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_numbers_unless_an_answer_was_bad() {
        let report = |missing: u32| {
            serde_json::json!({
                "failed": 0, "missing": missing, "wrong": 0, "errors": {}, "operations": 10,
                "operations_per_second": 5.0, "latency_us": {"p50": 1.0, "p99": 2.0},
                "watched": {"service": {"us_per_operation": 30.0}},
            })
        };
        let good = numbers(&report(0)).unwrap();
        assert_eq!((good[&Measure::ServiceCpu], good.get(&Measure::ProxyCpu)), (30.0, None));
        assert!(numbers(&report(1)).is_err());
    }
}
