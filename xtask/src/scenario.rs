//! `weir-scenario` as this tool uses it: start it with the key set that every run shares, read the JSON it prints.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{Running, Stream};

/// Keys in the set that is stored before anything is measured.
pub const KEYS: u32 = 100_000;

/// Time a scenario may take beyond the seconds it was asked for: warm-up, drain, its own time-outs.
const SLACK: Duration = Duration::from_secs(45);

/// One run of the load generator: a subcommand with its options.
#[derive(Clone, Debug)]
pub struct Scenario {
    words: Vec<String>,
    seconds: f64,
}

impl Scenario {
    /// A subcommand against a server (`host:port` or `unix:/path`).
    pub fn new(subcommand: &str, server: &str) -> Self {
        Self::of(subcommand, server, KEYS)
    }

    /// A subcommand against a server, on a key set of another size.
    pub fn of(subcommand: &str, server: &str, keys: u32) -> Self {
        Self::bare(subcommand, server).with("--keys", keys)
    }

    /// A subcommand against a server, without a key set.
    pub fn bare(subcommand: &str, server: &str) -> Self {
        Self { words: vec![subcommand.to_owned()], seconds: 0.0 }.with("--server", server)
    }

    /// An option with its value.
    pub fn with(mut self, option: &str, value: impl ToString) -> Self {
        self.words.extend([option.to_owned(), value.to_string()]);
        self
    }

    /// An option without a value.
    pub fn flag(mut self, option: &str) -> Self {
        self.words.push(option.to_owned());
        self
    }

    /// How long it runs.
    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self.with("--seconds", seconds)
    }

    /// How long it may take where it takes no `--seconds`.
    pub fn seconds_of_patience(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self
    }

    /// What a reader can type to run the same.
    pub fn line(&self) -> String {
        format!("weir-scenario {}", self.words.join(" "))
    }

    /// Starts it.
    pub fn start(&self, program: &Path) -> Result<Load> {
        let mut command = Command::new(program);
        command.args(&self.words);
        let running = Running::spawn(&self.words[0], &mut command)?;
        let ends = Instant::now() + Duration::from_secs_f64(self.seconds) + SLACK;
        Ok(Load { running, ends, last: None })
    }

    /// Runs it to its end.
    pub fn run(&self, program: &Path) -> Result<Value> {
        self.start(program)?.finish().with_context(|| format!("in: {}", self.line()))
    }
}

/// A scenario that runs.
pub struct Load {
    running: Running,
    ends: Instant,
    last: Option<Value>,
}

impl Load {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Whether it has not ended yet.
    pub fn lives(&mut self) -> Result<bool> {
        Ok(self.running.poll()?.is_none())
    }

    /// The interval lines it has printed since the last call (see `--interval`).
    pub fn news(&mut self) -> Vec<Value> {
        let mut news = Vec::new();
        while let Some((stream, line)) = self.running.line(Duration::ZERO) {
            if stream == Stream::Out
                && let Ok(value) = serde_json::from_str::<Value>(&line)
            {
                if value.get("interval_end").is_some() {
                    news.push(value);
                } else {
                    self.last = Some(value);
                }
            }
        }
        news
    }

    /// Waits for its end and takes its report. A wrong answer is an error: nothing may be concluded from such a run.
    pub fn finish(mut self) -> Result<Value> {
        let status = loop {
            self.news();
            if let Some(status) = self.running.poll()? {
                break status;
            }
            if Instant::now() > self.ends {
                bail!("the scenario did not end in time\n{}", self.running.said());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        // What it wrote last may still be on its way from the reading thread.
        let patience = Instant::now() + Duration::from_secs(2);
        while self.last.is_none() && Instant::now() < patience {
            self.news();
            std::thread::sleep(Duration::from_millis(5));
        }
        match (status.code(), self.last) {
            (Some(0), Some(report)) => Ok(report),
            (Some(1), Some(report)) => {
                bail!(
                    "an answer was WRONG or out of step: {} wrong, {}",
                    report["wrong"],
                    report["out_of_step"]
                )
            }
            (code, _) => bail!("the scenario ended with {code:?}\n{}", self.running.said()),
        }
    }
}

/// A number of a report, by the path to it: `number(&report, "latency_us.p99")`. Absent is an error: "unknown" is never 0.
pub fn number(report: &Value, path: &str) -> Result<f64> {
    let value = path.split('.').fold(report, |value, key| &value[key]);
    value.as_f64().with_context(|| format!("the report has no number {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_can_be_typed() {
        let scenario = Scenario::new("load", "127.0.0.1:1").with("--depth", 16).flag("--human").seconds(2.0);
        assert_eq!(
            scenario.line(),
            "weir-scenario load --server 127.0.0.1:1 --keys 100000 --depth 16 --human --seconds 2"
        );
    }

    #[test]
    fn numbers_are_found_by_path_and_never_invented() {
        let report = serde_json::json!({"latency_us": {"p99": 1.5}});
        assert_eq!(number(&report, "latency_us.p99").unwrap(), 1.5);
        assert!(number(&report, "latency_us.p50").is_err());
    }
}
