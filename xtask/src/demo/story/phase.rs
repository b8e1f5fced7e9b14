//! One phase of an act: the AppView's ordinary day, perhaps `feed-backfill` beside it, and what is seen meanwhile. A line per
//! second says what happens and how long it still takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cast::{Cast, NEIGHBOUR};
use crate::demo::stage::{CULPRIT, milliseconds};
use crate::proc;
use crate::report::thousands;
use crate::scenario::{Load, Scenario, number};

/// Pages of the AppView in a second: about 50 calls and 1,500 keys, and as many connections of the data plane of April as the
/// ports of the namespace suffice for.
const PAGES: f64 = 4.0;
/// Requests of `feed-backfill` in a second: fewer than three.
const REQUESTS: f64 = 2.5;
/// Its requests under way at once: as many as fall due until the first is given up.
const WORKERS: u32 = 32;
/// Seconds after which either gives a call up.
const PATIENCE: u32 = 10;
/// Seconds of ordinary load before the storm breaks.
const CALM: f64 = 1.0;
/// The longest that calls may take to end after the phase, seconds.
const DRAIN: f64 = 30.0;
/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A phase to run.
pub struct Phase<'a> {
    /// `weir-scenario`.
    pub program: &'a Path,
    /// The list of what is in the world.
    pub world: &'a Path,
    /// What the progress lines begin with.
    pub label: &'a str,
    pub seconds: f64,
    /// Whether `feed-backfill` comes.
    pub storm: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseReport {
    /// How long the AppView waited for answers or errors, microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    pub calls: u64,
    pub calls_failed: u64,
    /// Pages of users that fell due, and those that were not answered.
    pub pages: u64,
    pub pages_failed: u64,
    pub storm: Option<StormReport>,
    /// Highest numbers seen.
    pub time_wait: usize,
    pub cache_connections: usize,
    /// What the data plane went through in this phase.
    pub failed_dials: u64,
    pub log_lines: u64,
    pub ended: u64,
    pub failed_starts: u64,
    /// KiB at most, since it began.
    pub plane_memory: u64,
    /// weir's memory, KiB: now and at most.
    pub weir_memory: Option<(u64, u64)>,
}

/// What became of the storm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StormReport {
    pub due: u64,
    pub held_back: u64,
    pub answered: u64,
    pub keys_answered: u64,
    /// Of the answered ones.
    pub p50_us: f64,
    /// The most frequent error.
    pub error: Option<String>,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    time_wait: usize,
    time_wait_now: usize,
    connections: usize,
    connections_now: usize,
    /// Of the AppView in the last second: calls that were answered, that failed, and the 99th percentile of the former.
    lately: Option<(u64, u64, f64)>,
}

impl Phase<'_> {
    /// Runs it.
    pub fn run(&self, cast: &mut Cast) -> Result<PhaseReport> {
        println!("{}", self.heading());
        let begun = Instant::now();
        let before = cast.plane.lived();
        let mut appview = self.appview(&cast.front.to_string()).start(self.program)?;
        let (mut storm, mut seen, mut said) = (None::<Load>, Seen::default(), 0);
        loop {
            let passed = begun.elapsed().as_secs_f64();
            let storming = storm.as_mut().map_or(Ok(false), Load::lives)?;
            // What is under way at the end has its time-out, and the data plane is looked after until then.
            let on = passed < self.seconds || appview.lives()? || storming;
            if !on || passed > self.seconds + DRAIN {
                break;
            }
            if self.storm && storm.is_none() && passed >= CALM {
                storm = Some(self.backfill(&cast.front.to_string()).start(self.program)?);
            }
            cast.plane.look()?;
            look(cast, &mut seen);
            for news in appview.news() {
                let of = |path| number(&news, path);
                seen.lately = Some((of("operations")? as u64, of("failed")? as u64, of("latency_us.p99")?));
            }
            if passed as u64 > said {
                said = passed as u64;
                println!("{}", self.progress(passed, &seen, cast));
            }
            std::thread::sleep(LOOK);
        }
        let mut report = PhaseReport::default();
        neighbour(&mut report, &appview.finish().context(NEIGHBOUR)?)?;
        if let Some(load) = storm {
            report.storm = Some(storm_of(&load.finish().context(CULPRIT)?)?);
        }
        look(cast, &mut seen);
        let lived = cast.plane.lived();
        report.time_wait = seen.time_wait;
        report.cache_connections = seen.connections;
        report.failed_dials = lived.failed_dials - before.failed_dials;
        report.log_lines = lived.lines - before.lines;
        report.ended = lived.ended - before.ended;
        report.failed_starts = lived.failed_starts - before.failed_starts;
        report.plane_memory = lived.memory_most;
        let memory = cast.weir.as_ref().map(|weir| proc::memory(weir.server.pid())).transpose()?;
        report.weir_memory = memory.map(|memory| (memory.resident, memory.peak));
        Ok(report)
    }

    fn appview(&self, server: &str) -> Scenario {
        self.caller("rpc-mix", server, NEIGHBOUR)
            .with("--rate", PAGES)
            .with("--interval", 1)
            .with("--timeout", PATIENCE)
            .seconds(self.seconds - 0.5)
    }

    fn backfill(&self, server: &str) -> Scenario {
        self.caller("rpc-backfill", server, CULPRIT)
            .with("--rate", REQUESTS)
            .with("--concurrent", WORKERS)
            .with("--timeout", PATIENCE)
            .seconds((self.seconds - CALM - 1.0).max(1.0))
    }

    fn caller(&self, subcommand: &str, server: &str, name: &str) -> Scenario {
        let scenario = Scenario::bare(subcommand, server).with("--world", self.world.display());
        scenario.with("--name", name).with("--caller", name)
    }

    fn heading(&self) -> String {
        match self.storm {
            false => format!("  {} an ordinary day: {PAGES} pages of appview a second", self.label),
            true => format!(
                "  {} the same, and after {CALM} s feed-backfill: {REQUESTS} requests a second of 15-20 thousand URIs",
                self.label
            ),
        }
    }

    fn progress(&self, passed: f64, seen: &Seen, cast: &Cast) -> String {
        let left = match (self.seconds - passed).max(0.0).ceil() as u64 {
            0 => "the last calls".to_owned(),
            left => format!("{left} s left"),
        };
        let lived = cast.plane.lived();
        format!(
            "  {left:>14} | appview {} | memcached: {:>5} connected, {:>6} failed to | TIME_WAIT {:>6} | data plane {:>3} MiB",
            lately(seen.lately),
            thousands(seen.connections_now as u64),
            thousands(lived.failed_dials),
            thousands(seen.time_wait_now as u64),
            thousands(lived.memory / 1024),
        )
    }
}

fn look(cast: &Cast, seen: &mut Seen) {
    let front = cast.front_cache.as_ref().map_or(0, crate::servers::Door::port);
    let [backend, front] = proc::sockets([cast.cache.port(), front]);
    seen.time_wait_now = backend.time_wait + front.time_wait;
    seen.time_wait = seen.time_wait.max(seen.time_wait_now);
    seen.connections_now = backend.established;
    seen.connections = seen.connections.max(backend.established);
}

/// What became of the AppView's calls of the last second, always as wide.
fn lately(seen: Option<(u64, u64, f64)>) -> String {
    let (p99, failed) = match seen {
        Some((answered, failed, p99_us)) if answered > 0 => (format!("p99 {}", milliseconds(p99_us)), failed),
        Some((_, failed, _)) => ("no answer".to_owned(), failed),
        None => return format!("{:24}", ""),
    };
    format!("{p99:>12}, {failed:>3} failed")
}

fn whole(report: &Value, path: &str) -> Result<u64> {
    Ok(number(report, path)? as u64)
}

fn neighbour(report: &mut PhaseReport, mix: &Value) -> Result<()> {
    report.p50_us = number(mix, "waits_us.p50")?;
    report.p99_us = number(mix, "waits_us.p99")?;
    report.calls_failed = whole(mix, "failed_in_window")?;
    report.calls = whole(mix, "operations")? + report.calls_failed;
    report.pages = whole(mix, "pages.due")?;
    report.pages_failed = whole(mix, "pages.failed")? + whole(mix, "pages.not_begun")?;
    Ok(())
}

fn storm_of(backfill: &Value) -> Result<StormReport> {
    let errors = backfill["errors"].as_object().into_iter().flatten();
    let most = errors.max_by_key(|(_, count)| count.as_u64().unwrap_or(0));
    Ok(StormReport {
        due: whole(backfill, "due")?,
        held_back: whole(backfill, "held_back")?,
        answered: whole(backfill, "answered")?,
        keys_answered: whole(backfill, "keys_answered")?,
        p50_us: number(backfill, "latency_us.p50")?,
        error: most.map(|(text, _)| text.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_loads_report_is_read() {
        let mut report = PhaseReport::default();
        let mix = json!({"waits_us": {"p50": 900.0, "p99": 4_000.0}, "operations": 90, "failed_in_window": 10,
            "pages": {"due": 8, "failed": 2, "not_begun": 1}});
        neighbour(&mut report, &mix).unwrap();
        assert_eq!((report.calls, report.calls_failed, report.pages, report.pages_failed), (100, 10, 8, 3));
        let backfill = json!({"due": 20, "held_back": 4, "answered": 10, "keys_answered": 170_000,
            "latency_us": {"p50": 2_000_000.0}, "errors": {"no answer within Ns": 5, "gRPC status N: x": 1}});
        let storm = storm_of(&backfill).unwrap();
        assert_eq!((storm.due, storm.held_back, storm.answered), (20, 4, 10));
        assert_eq!(storm.error.as_deref(), Some("no answer within Ns"));
        assert!(storm_of(&json!({"due": 20})).is_err(), "unknown is not none");
    }

    #[test]
    fn a_second_without_answers_has_no_percentile() {
        assert_eq!(lately(Some((0, 7, 0.0))), "   no answer,   7 failed");
        assert_eq!(lately(Some((50, 0, 4_000.0))), " p99 4.00 ms,   0 failed");
        assert_eq!(lately(None).len(), lately(Some((0, 123, 0.0))).len());
    }
}
