//! One measurement: memcached, a load against it, and weir-probes beside them or not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Case, Load, Probes};
use crate::process::Running;
use crate::scenario::{Scenario, number};
use crate::servers::{self, Door, Server};
use crate::workspace::{Profile, Workspace};

/// How long the probes may take to load.
const START: Duration = Duration::from_secs(20);

/// Connections of one churn. Few enough that all of them find a local port, whether or not the kernel takes waiting ones
/// again.
const CHURN: u32 = 8_000;

/// They must have ended by then; time left over costs nothing that is counted.
const CHURN_SECONDS: f64 = 3.0;

/// The switch that makes the kernel count the time of BPF programs.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// CPU time of one request, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Of the client.
    pub(super) client: f64,
    /// Of memcached.
    pub(super) memcached: f64,
    /// Of weir-probes itself, where it runs.
    pub(super) probes: Option<f64>,
}

impl Cost {
    /// Of the processes that are watched: what the targets are about.
    pub(super) fn both(&self) -> f64 {
        self.client + self.memcached
    }
}

/// What a program in the kernel took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProgramUse {
    /// Its name.
    pub(super) program: String,
    /// Runs per request.
    pub(super) runs: f64,
    /// Nanoseconds per run.
    pub(super) nanoseconds: f64,
}

/// The server and the load generator.
pub(super) struct Rig {
    pub(super) memcached: Server,
    scenario: PathBuf,
    probes: PathBuf,
    logs: PathBuf,
}

impl Rig {
    pub(super) fn start(workspace: &Workspace) -> Result<Self> {
        let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
        let probes = workspace.binary(Profile::Release, "weir-probes")?;
        let memcached = servers::memcached(workspace, Door::free_port()?)?.context(
            "memcached is not installed (Debian: memcached): a benchmark against anything else says nothing",
        )?;
        let fill = Scenario::new("fill", &memcached.door.to_string()).flag("--verify").run(&scenario)?;
        anyhow::ensure!(fill["missing"] == 0 && fill["failed"] == 0, "the keys could not be stored: {fill}");
        Ok(Self { memcached, scenario, probes, logs: workspace.scratch("logs")? })
    }

    /// weir-probes, when it is to run: watching memcached, its probes loaded.
    pub(super) fn watcher(&self, probes: Probes) -> Result<Option<Watcher>> {
        if probes == Probes::Off {
            return Ok(None);
        }
        let door = Door::free_port()?;
        let mut command = Command::new(&self.probes);
        command.args(["run", "--listen", &door.to_string()]);
        command.args(["--watch", &format!("{}=memcached", self.memcached.door)]);
        if probes == Probes::All {
            command.arg("--work");
        }
        let log = self.logs.join(format!("weir-probes-{}.log", probes.name()));
        let running = Running::spawn_to_file("weir-probes", &mut command, &log)?;
        let mut watcher = Watcher { running, door };
        let deadline = Instant::now() + START;
        while watcher.page("/readyz").is_err() {
            if let Some(status) = watcher.running.poll()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("weir-probes ended ({status}):\n{said}");
            }
            if Instant::now() > deadline {
                bail!("weir-probes is not ready after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(watcher))
    }

    /// Measures once.
    pub(super) fn measure(&self, case: &Case, probes: Probes, seconds: f64) -> Result<Cost> {
        let watcher = self.watcher(probes)?;
        let report = self.load(case, watcher.as_ref(), seconds)?;
        let probes = watcher.map(|_| number(&report, "watched.probes.us_per_operation")).transpose()?;
        Ok(Cost {
            client: number(&report, "client_cpu.us_per_operation")?,
            memcached: number(&report, "watched.memcached.us_per_operation")?,
            probes,
        })
    }

    /// Time in the kernel by program, with all probes; `None` where this kernel may not be asked.
    pub(super) fn programs(&self, case: &Case, seconds: f64) -> Result<Option<Vec<ProgramUse>>> {
        let Some(_counting) = Counting::begin() else { return Ok(None) };
        let watcher = self.watcher(Probes::All)?.context("it runs")?;
        let before = watcher.page("/metrics")?;
        let report = self.load(case, Some(&watcher), seconds)?;
        // The next look must have seen the end of it.
        std::thread::sleep(Duration::from_secs(6));
        let after = watcher.page("/metrics")?;
        let requests = number(&report, "operations")?;
        Ok(Some(programs(&before, &after, requests)))
    }

    fn load(&self, case: &Case, watcher: Option<&Watcher>, seconds: f64) -> Result<serde_json::Value> {
        let name = if matches!(case.load, Load::Churn) { "storm" } else { "load" };
        let load = Scenario::new(name, &self.memcached.door.to_string())
            .with("--watch", format!("memcached={}", self.memcached.pid()));
        let load = match watcher {
            Some(watcher) => load.with("--watch", format!("probes={}", watcher.running.pid())),
            None => load,
        };
        let load = match case.load {
            Load::Persistent { keys_per_get } => load.with("--keys-per-get", keys_per_get),
            // One request of many calls, each on a connection of its own, one after the other.
            Load::Churn => load
                .with("--mode", "connections")
                .with("--rate", 0.001)
                .with("--keys-min", CHURN)
                .with("--keys-max", CHURN)
                .with("--max-open", 1),
        };
        let seconds = if matches!(case.load, Load::Churn) { seconds.max(CHURN_SECONDS) } else { seconds };
        let report = load.seconds(seconds).run(&self.scenario)?;
        for count in ["failed", "missing", "wrong", "out_of_step"] {
            let found = number(&report, count)?;
            anyhow::ensure!(found == 0.0, "{found} requests were {count}: {}", report["errors"]);
        }
        if matches!(case.load, Load::Churn) {
            // CPU time is taken over the window, so that all of them must have ended in it.
            let ended = number(&report, "ended_in_window")?;
            anyhow::ensure!(ended == f64::from(CHURN), "{ended} of {CHURN} connections ended in {seconds} s");
        }
        Ok(report)
    }
}

/// weir-probes while it runs; ended when dropped.
pub(super) struct Watcher {
    running: Running,
    door: Door,
}

impl Watcher {
    /// Names of probes that count, and of the others with their state.
    pub(super) fn attached(&self) -> Result<(Vec<String>, Vec<String>)> {
        let page = self.page("/metrics")?;
        let (mut counting, mut silent) = (Vec::new(), Vec::new());
        for (labels, value) in series(&page, "weir_probe_attached") {
            let probe = label(labels, "probe").context("a probe has a name")?;
            match value {
                1.0 => counting.push(probe.to_owned()),
                _ => silent.push(format!("{probe} ({})", label(labels, "state").unwrap_or("unknown"))),
            }
        }
        Ok((counting, silent))
    }

    /// A page of its listener.
    fn page(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.door.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => bail!("{path}: {}", answer.lines().next().unwrap_or("no answer")),
        }
    }
}

/// While it lives the kernel counts what BPF programs take; then it is as it was.
struct Counting {
    before: String,
}

impl Counting {
    /// `None` where that may not be asked for.
    fn begin() -> Option<Self> {
        let before = std::fs::read_to_string(STATS).ok()?;
        std::fs::write(STATS, "1").ok()?;
        Some(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(STATS, self.before.trim()) {
            eprintln!("{STATS} could not be set back to {}: {error}", self.before.trim());
        }
    }
}

/// Samples of one metric: labels as written, and the value.
fn series<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels, value.parse().ok()?))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// What happened between two pages, by program; those that did not run are left out.
fn programs(before: &str, after: &str, requests: f64) -> Vec<ProgramUse> {
    let value = |page: &str, name: &str, program: &str| {
        let found = series(page, name).find(|(labels, _)| label(labels, "program") == Some(program));
        found.map_or(0.0, |(_, value)| value)
    };
    let mut used = Vec::new();
    for (labels, _) in series(after, "weir_probe_program_runs_total") {
        let Some(program) = label(labels, "program") else { continue };
        let grown = |name| value(after, name, program) - value(before, name, program);
        let runs = grown("weir_probe_program_runs_total");
        if runs > 0.0 {
            let nanoseconds = grown("weir_probe_program_run_seconds_total") * 1e9 / runs;
            used.push(ProgramUse { program: program.to_owned(), runs: runs / requests, nanoseconds });
        }
    }
    used.sort_by(|a, b| (b.runs * b.nanoseconds).total_cmp(&(a.runs * a.nanoseconds)));
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_what_grew() {
        let page = |runs: u32, seconds: f64| {
            format!(
                "# TYPE weir_probe_program_runs counter\n\
                 weir_probe_program_runs_total{{program=\"transitions\"}} {runs}\n\
                 weir_probe_program_runs_total{{program=\"idle\"}} 7\n\
                 weir_probe_program_run_seconds_total{{program=\"transitions\"}} {seconds}\n"
            )
        };
        let used = programs(&page(100, 0.5), &page(400, 0.5003), 100.0);
        assert_eq!(used.len(), 1);
        assert_eq!((used[0].program.as_str(), used[0].runs), ("transitions", 3.0));
        assert!((used[0].nanoseconds - 1_000.0).abs() < 0.01, "{used:?}");
    }

    #[test]
    fn labels_are_found_wherever_they_stand() {
        let page =
            "weir_probe_attached{probe=\"work\",state=\"off\"} 0\nweir_probe_attached_x{probe=\"a\"} 1\n";
        let found: Vec<_> = series(page, "weir_probe_attached").collect();
        assert_eq!(found, [("probe=\"work\",state=\"off\"", 0.0)]);
        assert_eq!((label(found[0].0, "state"), label(found[0].0, "pid")), (Some("off"), None));
    }
}
