//! One measurement: a load through one contender, and the numbers it gives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::HUGE;
use super::cases::{Case, Contender, Load, Measure};
use super::peers::{Peer, Peers};
use crate::cassandra::Shared;
use crate::scenario::{Scenario, number};
use crate::servers::{self, Door, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// Rows of the table.
pub const ROWS: u32 = 50_000;

/// Keyspaces for clients that say USE.
pub const KEYSPACES: u32 = 20;

/// Cassandra runs compiled only after some ten thousand requests of a kind.
const WARM_UP: f64 = 6.0;

/// The servers and the load generator.
pub struct Rig {
    pub scenario: PathBuf,
    pub cassandra: Shared,
    pub raw: Server,
    pub weir: Weir,
    pub peers: Peers,
}

/// The numbers of one contender.
pub type Numbers = BTreeMap<Measure, f64>;

impl Rig {
    /// Starts everything, stores the rows and warms the node up.
    pub fn start(workspace: &Workspace, peers: &[Peer]) -> Result<Self> {
        let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
        let cassandra = Shared::start().context("Cassandra (try: cargo xtask cassandra fetch)")?;
        println!("{}", cassandra.line());
        let node = cassandra.address();
        let raw = servers::raw_proxy(workspace, Door::free_port()?, node)?;
        let weir = Weir::start_cql(workspace, "cql", Door::free_port()?, node)?;
        let peers = Peers::start(workspace, peers, node);
        let rig = Self { scenario, cassandra, raw, weir, peers };
        let fill = Scenario::of("cql-fill", &node.to_string(), ROWS).with("--keyspaces", KEYSPACES);
        fill.seconds_of_patience(60.0).run(&rig.scenario)?;
        for contender in [Contender::Direct, Contender::Weir] {
            rig.load(contender, 1, 64).seconds(WARM_UP).run(&rig.scenario)?;
            rig.load(contender, 1, 1)
                .with("--keys-per-get", HUGE)
                .seconds(WARM_UP / 2.0)
                .run(&rig.scenario)?;
        }
        Ok(rig)
    }

    /// Who takes part, in the order of their turns.
    pub fn contenders(&self) -> Vec<Contender> {
        let takes_part = |contender: &Contender| !contender.is_peer() || self.peers.get(*contender).is_some();
        Contender::ALL.into_iter().filter(takes_part).collect()
    }

    /// Where clients of a contender connect.
    pub fn address(&self, contender: Contender) -> String {
        match self.proxy(contender) {
            Some(proxy) => proxy.door.to_string(),
            None => self.cassandra.address().to_string(),
        }
    }

    /// The proxy of a contender.
    pub fn proxy(&self, contender: Contender) -> Option<&Server> {
        match contender {
            Contender::Direct => None,
            Contender::Raw => Some(&self.raw),
            Contender::CqlProxy | Contender::Shotover => self.peers.get(contender),
            Contender::Weir => Some(&self.weir.server),
        }
    }

    /// Every process of the run that is no load.
    pub fn pids(&self) -> Vec<u32> {
        let proxies = Contender::ALL.iter().filter_map(|contender| self.proxy(*contender));
        proxies.map(Server::pid).chain([self.cassandra.pid()]).collect()
    }

    /// A load through a contender that watches what it costs.
    fn load(&self, contender: Contender, connections: u32, depth: u32) -> Scenario {
        let load = Scenario::of("cql-load", &self.address(contender), ROWS)
            .with("--connections", connections)
            .with("--depth", depth)
            .with("--watch", format!("cassandra={}", self.cassandra.pid()));
        match self.proxy(contender) {
            Some(proxy) => load.with("--watch", format!("proxy={}", proxy.pid())),
            None => load,
        }
    }

    /// Measures once.
    pub fn measure(&self, case: &Case, contender: Contender, seconds: f64) -> Result<Numbers> {
        match case.load {
            Load::Select { connections, depth } => {
                numbers(&self.load(contender, connections, depth).seconds(seconds).run(&self.scenario)?)
            }
            Load::In { page } => {
                // Some requests of a second each must fit.
                let load = self.load(contender, 1, 1).with("--keys-per-get", HUGE).with("--page", page);
                numbers(&load.seconds(seconds * 2.0).run(&self.scenario)?)
            }
            Load::NeighbourOf { clients } => {
                let load = self.load(contender, clients, 1).with("--keys-per-get", HUGE);
                let load = load.seconds(seconds * 2.0 + 1.5).start(&self.scenario)?;
                std::thread::sleep(Duration::from_millis(700));
                let quiet = self.load(contender, 1, 1).with("--pause-ms", 5).seconds(seconds * 2.0);
                let quiet = quiet.run(&self.scenario)?;
                let load = load.finish().context("the load beside")?;
                let mut numbers = numbers(&quiet)?;
                // Its CPU would be that of the load beside.
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
    ensure!(number(report, "operations")? > 0.0, "no request ended in the measured time");
    let mut numbers = Numbers::from([
        (Measure::P50, number(report, "latency_us.p50")?),
        (Measure::P99, number(report, "latency_us.p99")?),
        (Measure::Mean, number(report, "latency_us.mean")?),
        (Measure::Throughput, number(report, "operations_per_second")?),
        (Measure::ServerCpu, number(report, "watched.cassandra.us_per_operation")?),
    ]);
    if let Ok(cpu) = number(report, "watched.proxy.us_per_operation") {
        numbers.insert(Measure::ProxyCpu, cpu);
    }
    Ok(numbers)
}

/// A fast wrong answer is no answer.
pub fn failures(report: &Value) -> Result<()> {
    for count in ["failed", "missing", "wrong", "out_of_step"] {
        let found = number(report, count)?;
        ensure!(found == 0.0, "{found} requests were {count}: {}", report["errors"]);
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
    fn a_report_becomes_numbers_unless_an_answer_was_bad() {
        let report = |missing: u32| {
            serde_json::json!({
                "failed": 0, "missing": missing, "wrong": 0, "out_of_step": 0, "errors": {}, "operations": 10,
                "operations_per_second": 5.0, "latency_us": {"p50": 1.0, "p99": 2.0, "mean": 1.5},
                "watched": {"cassandra": {"us_per_operation": 30.0}},
            })
        };
        let good = numbers(&report(0)).unwrap();
        assert_eq!((good[&Measure::ServerCpu], good.get(&Measure::ProxyCpu)), (30.0, None));
        assert!(numbers(&report(1)).is_err());
    }

    #[test]
    fn the_best_of_each_measure_is_kept() {
        let mut best = Numbers::from([(Measure::Throughput, 5.0), (Measure::P50, 5.0)]);
        keep_best(&mut best, &Numbers::from([(Measure::Throughput, 6.0), (Measure::P50, 6.0)]));
        assert_eq!((best[&Measure::Throughput], best[&Measure::P50]), (6.0, 5.0));
    }
}
