//! One phase of a side: the neighbours' load, perhaps the storm beside it, and what is seen meanwhile. A line per second
//! says what happens and how long it still takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::witness::{Testimony, Witness};
use crate::proc::{self, Memory};
use crate::report::thousands;
use crate::scenario::{Load, Scenario, number};

/// The culprit's process name, as weir will report it.
pub const CULPRIT: &str = "feed-backfill";

/// Connections that a service opens when it starts again in the middle of the storm.
const RESTART_CONNECTIONS: u32 = 50;

/// How often sockets and memory are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Seconds of ordinary load before the storm breaks.
const CALM: f64 = 1.0;

/// How the culprit asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storm {
    /// A connection per key, each bound to a source address first.
    Connections,
    /// All keys of a request in one `get`.
    Multiget,
}

/// A phase to run.
pub struct Stage<'a> {
    /// `weir-scenario`.
    pub program: &'a Path,
    /// What the progress lines begin with.
    pub label: String,
    /// Where clients connect.
    pub server: String,
    /// The port of the backend, whose connections are counted.
    pub backend_port: u16,
    /// The port that clients connect to: weir's, or the backend's.
    pub front_port: u16,
    /// Processes whose memory is watched: weir (when there is one), the backend.
    pub processes: (Option<u32>, u32),
    /// How long.
    pub seconds: f64,
    /// What happens beside the ordinary load.
    pub storm: Option<Storm>,
    /// Who looks on in the kernel.
    pub witness: Option<&'a Witness>,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StageReport {
    /// Median of the neighbours' gets, microseconds.
    pub p50_us: f64,
    /// Their 99th percentile.
    pub p99_us: f64,
    /// Neighbours' requests that failed, and all of them.
    pub neighbours_failed: u64,
    pub neighbours_all: u64,
    /// The culprit's calls (a key on its own connection, or one multiget) that failed or never ended, and all of them.
    pub storm_failed: u64,
    pub storm_all: u64,
    /// The most frequent error the culprit got.
    pub storm_error: Option<String>,
    /// Connections that a restarting service could not open, of [`RESTART_CONNECTIONS`].
    pub restart_failed: Option<u64>,
    pub restart_all: u64,
    /// Highest numbers seen.
    pub time_wait: usize,
    pub backend_connections: usize,
    /// Ports still waiting when the phase was over.
    pub time_wait_after: usize,
    /// Memory in KiB, now and highest so far.
    pub weir_memory: Option<(u64, u64)>,
    pub backend_memory: (u64, u64),
    /// What weir-probes saw, where it was asked to look.
    pub testimony: Option<Testimony>,
}

impl Stage<'_> {
    /// Runs the phase.
    pub fn run(&self) -> Result<StageReport> {
        let begun = Instant::now();
        let mut appview = Scenario::new("quiet", &self.server)
            .with("--name", "appview")
            .with("--interval", 1)
            .seconds(self.seconds - 0.5)
            .start(self.program)?;
        let timeline = Scenario::new("normal", &self.server)
            .with("--name", "timeline")
            .seconds(self.seconds - 0.5)
            .start(self.program)?;
        let mut seen = Seen::default();
        let mut culprit: Option<Load> = None;
        let mut restart: Option<Load> = None;
        let mut said = 0;
        let mut broke = None;
        let mut testimony = self.witness.map(Witness::phase);
        while begun.elapsed().as_secs_f64() < self.seconds {
            let passed = begun.elapsed().as_secs_f64();
            if let Some(storm) = self.storm {
                if culprit.is_none() && passed >= CALM {
                    culprit = Some(self.storm(storm).start(self.program)?);
                    broke = Some((storm, Instant::now()));
                }
                if storm == Storm::Connections && restart.is_none() && passed >= self.seconds * 0.6 {
                    restart = Some(self.restart().start(self.program)?);
                }
            }
            self.look(&mut seen);
            if let (Some(witness), Some(testimony)) = (self.witness, &mut testimony) {
                let storming =
                    broke.map(|(storm, at): (_, Instant)| (storm, CULPRIT, at.elapsed().as_secs_f64()));
                witness.look(testimony, storming);
            }
            for news in appview.news() {
                seen.p99_us = number(&news, "latency_us.p99").ok();
            }
            if passed as u64 > said {
                said = passed as u64;
                println!("{}", self.progress(passed, &seen, culprit.is_some()));
            }
            std::thread::sleep(LOOK);
        }
        let mut report = StageReport::default();
        neighbours(&mut report, &appview.finish().context("appview")?)?;
        let mixed = timeline.finish().context("timeline")?;
        report.neighbours_failed += failures(&mixed)?;
        report.neighbours_all += number(&mixed, "operations")? as u64;
        if let Some(load) = restart {
            let restarted = load.finish().context("the restarting service")?;
            report.restart_failed = Some(number(&restarted, "calls_failed")? as u64);
            report.restart_all = u64::from(RESTART_CONNECTIONS);
        }
        if let Some(load) = culprit {
            storm_numbers(&mut report, &load.finish().context(CULPRIT)?)?;
        }
        self.look(&mut seen);
        if let (Some(witness), Some(testimony)) = (self.witness, &mut testimony) {
            witness.settle();
            witness.look(testimony, None);
        }
        report.testimony = testimony;
        report.time_wait = seen.time_wait;
        report.backend_connections = seen.backend_connections;
        report.time_wait_after = seen.time_wait_now;
        let pair = |memory: Memory| (memory.resident, memory.peak);
        report.weir_memory = self.processes.0.map(proc::memory).transpose()?.map(pair);
        report.backend_memory = pair(proc::memory(self.processes.1)?);
        Ok(report)
    }

    /// Fewer than three requests a second. With a connection per key one every two seconds is already more than two
    /// cores dial in that time.
    fn storm(&self, storm: Storm) -> Scenario {
        let seconds = (self.seconds - CALM - 1.0).max(1.0);
        let scenario = Scenario::new("storm", &self.server).with("--name", CULPRIT).with("--timeout", 2);
        match storm {
            Storm::Connections => scenario
                .with("--mode", "connections")
                .with("--rate", 0.5)
                .with("--source-bind", "127.0.0.1")
                .seconds(seconds),
            Storm::Multiget => scenario
                .with("--mode", "multiget")
                .with("--rate", 2.5)
                .with("--concurrent", 2)
                .seconds(seconds),
        }
    }

    fn restart(&self) -> Scenario {
        Scenario::new("burst", &self.server)
            .with("--name", "notifier")
            .with("--connections", RESTART_CONNECTIONS)
            .with("--timeout", 2)
    }

    fn look(&self, seen: &mut Seen) {
        let [backend, front] = proc::sockets([self.backend_port, self.front_port]);
        let apart = self.front_port != self.backend_port;
        seen.time_wait_now = backend.time_wait + if apart { front.time_wait } else { 0 };
        seen.time_wait = seen.time_wait.max(seen.time_wait_now);
        seen.backend_connections_now = backend.established;
        seen.backend_connections = seen.backend_connections.max(backend.established);
    }

    fn progress(&self, passed: f64, seen: &Seen, storming: bool) -> String {
        let left = (self.seconds - passed).ceil() as u64;
        let what = match (self.storm, storming) {
            (None, _) => "ordinary load",
            (Some(_), false) => "calm before the storm",
            (Some(Storm::Connections), true) => "storm: a connection per key",
            (Some(Storm::Multiget), true) => "storm: 15-20 thousand keys per get",
        };
        let p99 = seen.p99_us.map_or("-".to_owned(), milliseconds);
        format!(
            "  {} {what:34} {left:>3} s left | neighbours p99 {p99:>9} | connections to backend {:>5} | TIME_WAIT {:>5}",
            self.label,
            thousands(seen.backend_connections_now as u64),
            thousands(seen.time_wait_now as u64),
        )
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    time_wait: usize,
    time_wait_now: usize,
    backend_connections: usize,
    backend_connections_now: usize,
    p99_us: Option<f64>,
}

/// Microseconds as milliseconds.
pub fn milliseconds(us: f64) -> String {
    if us < 10_000.0 { format!("{:.2} ms", us / 1_000.0) } else { format!("{:.0} ms", us / 1_000.0) }
}

fn neighbours(report: &mut StageReport, quiet: &Value) -> Result<()> {
    report.p50_us = number(quiet, "latency_us.p50")?;
    report.p99_us = number(quiet, "latency_us.p99")?;
    report.neighbours_failed = failures(quiet)?;
    report.neighbours_all = number(quiet, "operations")? as u64;
    Ok(())
}

fn failures(report: &Value) -> Result<u64> {
    Ok((number(report, "failed")? + number(report, "unfinished")?) as u64)
}

/// `connections` counts calls, `multiget` requests.
fn storm_numbers(report: &mut StageReport, storm: &Value) -> Result<()> {
    if storm.get("calls").is_some() {
        report.storm_all = number(storm, "calls")? as u64;
        report.storm_failed = (number(storm, "calls_failed")? + number(storm, "calls_unfinished")?) as u64;
    } else {
        report.storm_failed = failures(storm)?;
        report.storm_all = number(storm, "due")? as u64;
    }
    let errors = storm["errors"].as_object().into_iter().flatten();
    let most = errors.max_by_key(|(_, count)| count.as_u64().unwrap_or(0));
    report.storm_error = most.map(|(text, _)| text.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_multigets_are_counted_by_their_own_unit() {
        let mut report = StageReport::default();
        let storm = serde_json::json!({"calls": 100, "calls_failed": 60, "calls_unfinished": 5,
            "errors": {"bind: EADDRINUSE": 59, "timed out": 1}});
        storm_numbers(&mut report, &storm).unwrap();
        assert_eq!((report.storm_failed, report.storm_all), (65, 100));
        assert_eq!(report.storm_error.as_deref(), Some("bind: EADDRINUSE"));
        let storm = serde_json::json!({"due": 20, "failed": 20, "unfinished": 0, "errors": {}});
        storm_numbers(&mut report, &storm).unwrap();
        assert_eq!((report.storm_failed, report.storm_all, report.storm_error), (20, 20, None));
    }

    #[test]
    fn times_read_well() {
        assert_eq!(milliseconds(340.0), "0.34 ms");
        assert_eq!(milliseconds(43_210.0), "43 ms");
    }
}
