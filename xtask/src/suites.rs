//! One suite of the test command: run it, count what ran, keep what it skipped. Counts come from cargo's own
//! `test result:` lines; a suite that is no cargo test counts as one. A suite in which nothing ran has failed.

use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;
use crate::report::{Table, heading, seconds};

/// How often a suite that is still running says so.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A line of a test that begins like this says that it skipped itself and why.
const SKIP_MARK: &str = "SKIPPED:";

/// How many tests ran, and how they ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that did not run: `#[ignore]`, a skip said aloud, a whole suite.
    pub skipped: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// How a suite that is no cargo test ended.
#[derive(Debug)]
pub enum Verdict {
    /// It holds; a few words on what was checked.
    Passed(String),
    /// It does not; the reasons.
    Failed(String),
    /// It could not run here; the reason.
    Skipped(String),
}

/// What one suite did.
#[derive(Debug)]
struct Report {
    name: String,
    counts: Counts,
    note: String,
    took: Duration,
    skips: Vec<String>,
}

/// Runs suites one after the other and keeps their reports.
#[derive(Debug)]
pub struct Suites {
    begun: Instant,
    reports: Vec<Report>,
}

impl Suites {
    /// No suite has run.
    pub fn new() -> Self {
        Self { begun: Instant::now(), reports: Vec::new() }
    }

    /// A suite that is a check of ours: counts as one test.
    pub fn check(&mut self, name: &str, run: impl FnOnce() -> Result<Verdict>) {
        heading(name);
        let begun = Instant::now();
        let verdict = {
            let _alive = Heartbeat::start(name);
            run().unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")))
        };
        let (mut counts, mut skips) = (Counts::default(), Vec::new());
        let note = match verdict {
            Verdict::Passed(note) => {
                counts.passed = 1;
                println!("{note}");
                note
            }
            Verdict::Failed(reason) => {
                counts.failed = 1;
                println!("FAILED: {reason}");
                reason.lines().next().unwrap_or_default().to_owned()
            }
            Verdict::Skipped(reason) => {
                counts.skipped = 1;
                println!("{SKIP_MARK} {reason}");
                skips.push(reason.clone());
                String::new()
            }
        };
        self.keep(Report { name: name.to_owned(), counts, note, took: begun.elapsed(), skips });
    }

    /// A suite of cargo tests: one or more `cargo test` commands.
    pub fn cargo(&mut self, name: &str, commands: Vec<Command>, limit: Duration) {
        heading(name);
        let begun = Instant::now();
        let _alive = Heartbeat::start(name);
        let mut report = Report {
            name: name.to_owned(),
            counts: Counts::default(),
            note: String::new(),
            took: begun.elapsed(),
            skips: vec![],
        };
        for mut command in commands {
            let (mut counts, mut failed) = (Counts::default(), Vec::new());
            let status = process::stream("cargo", &mut command, limit, |_, line| {
                println!("{line}");
                if let Some(result) = parse_result(line) {
                    counts.add(result);
                }
                if let Some(test) = failed_test(line)
                    && !failed.contains(&test)
                {
                    failed.push(test);
                }
                if let Some(reason) = ignored_test(line) {
                    // Counted by cargo already.
                    report.skips.push(reason);
                }
                if let Some(reason) = skip_reason(line)
                    && !report.skips.contains(&reason)
                {
                    counts.skipped += 1;
                    report.skips.push(reason);
                }
            });
            match status {
                Ok(status) if status.success() => {}
                // A build that fails, or a test binary that dies, leaves no line to count.
                Ok(status) if counts.failed == 0 => {
                    counts.failed = 1;
                    report.note = format!("cargo ended with {status}");
                }
                Ok(_) => report.note = failed.join(", "),
                Err(error) => {
                    counts.failed += 1;
                    report.note = format!("{error:#}");
                }
            }
            report.counts.add(counts);
        }
        // a test that says why it did not run is in the table of skips
        if report.counts.passed + report.counts.failed + report.counts.skipped == 0 {
            report.counts.failed = 1;
            report.note = "no test ran".to_owned();
        }
        report.took = begun.elapsed();
        if !report.note.is_empty() {
            println!("FAILED: {}", report.note);
        }
        self.keep(report);
    }

    fn keep(&mut self, report: Report) {
        println!("    {}: {} in {}", report.name, outcome(report.counts), seconds(report.took));
        self.reports.push(report);
    }

    /// The table, every skip again, and as last line the sum. True when nothing failed.
    pub fn finish(self) -> bool {
        let mut table = Table::new(["suite", "result", "passed", "failed", "skipped", "time", ""]);
        let mut sum = Counts::default();
        for report in &self.reports {
            sum.add(report.counts);
            let note = if report.counts.failed > 0 { report.note.as_str() } else { "" };
            table.row([
                report.name.clone(),
                outcome(report.counts).to_owned(),
                report.counts.passed.to_string(),
                report.counts.failed.to_string(),
                report.counts.skipped.to_string(),
                seconds(report.took),
                note.chars().take(120).collect(),
            ]);
        }
        println!("\n{}", table.text());
        let skips: Vec<(&str, &String)> = self
            .reports
            .iter()
            .flat_map(|report| report.skips.iter().map(|skip| (report.name.as_str(), skip)))
            .collect();
        if !skips.is_empty() {
            println!("Skipped, and why:");
            for (suite, reason) in skips {
                println!("  {suite}: {reason}");
            }
        }
        println!("all in {}", seconds(self.begun.elapsed()));
        println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        sum.failed == 0
    }
}

fn outcome(counts: Counts) -> &'static str {
    match counts {
        Counts { failed: 1.., .. } => "FAILED",
        Counts { passed: 0, .. } => "skipped",
        _ => "passed",
    }
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s`
fn parse_result(line: &str) -> Option<Counts> {
    let rest = line.trim_start().strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for part in rest.split("; ") {
        let Some((number, what)) = part.split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

/// The name on a line like `test ring::vectors ... FAILED`.
fn failed_test(line: &str) -> Option<String> {
    line.trim().strip_prefix("test ")?.strip_suffix(" ... FAILED").map(str::to_owned)
}

/// Name and reason on a line like `test ring::vectors ... ignored, takes an hour`.
fn ignored_test(line: &str) -> Option<String> {
    let (name, reason) = line.trim().strip_prefix("test ")?.split_once(" ... ignored")?;
    Some(format!("{name}{reason}"))
}

/// The reason on a line like `SKIPPED: no memcached here`; the test's name may stand before it.
fn skip_reason(line: &str) -> Option<String> {
    Some(line.split_once(SKIP_MARK)?.1.trim().to_owned())
}

/// Says every [`HEARTBEAT`] that a suite still runs; ends when dropped.
struct Heartbeat {
    _stop: SyncSender<()>,
}

impl Heartbeat {
    fn start(name: &str) -> Self {
        // Nothing is ever sent: the channel closing is the signal.
        let (stop, stopped) = sync_channel::<()>(0);
        let (name, begun) = (name.to_owned(), Instant::now());
        thread::spawn(move || {
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                println!("    ... {name} still runs ({})", seconds(begun.elapsed()));
            }
        });
        Self { _stop: stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn counts_of(script: &str) -> Counts {
        let mut suites = Suites::new();
        suites.cargo("probe", vec![shell(script)], Duration::from_secs(10));
        suites.reports[0].counts
    }

    #[test]
    fn result_lines_of_cargo_are_read() {
        let line =
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!(parse_result(line), Some(Counts { passed: 12, failed: 0, skipped: 3 }));
        let line =
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(parse_result(line), Some(Counts { passed: 1, failed: 2, skipped: 0 }));
        assert_eq!(parse_result("test ring::vectors ... ok"), None);
        assert_eq!(failed_test("test ring::vectors ... FAILED").as_deref(), Some("ring::vectors"));
        assert_eq!(failed_test("test ring::vectors ... ok"), None);
        assert_eq!(
            ignored_test("test ring::vectors ... ignored, slow").as_deref(),
            Some("ring::vectors, slow")
        );
    }

    #[test]
    fn results_of_several_binaries_add_up_and_skips_are_kept_once() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'; \
             echo 'SKIPPED: no go'; echo 'test a ... SKIPPED: no go'; \
             echo 'test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
        assert_eq!(counts_of(script), Counts { passed: 5, failed: 0, skipped: 2 });
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        let script = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out'";
        assert_eq!(counts_of(script), Counts { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_build_that_fails_is_a_failure() {
        assert_eq!(counts_of("echo 'error: could not compile' >&2; exit 101").failed, 1);
    }

    #[test]
    fn checks_count_as_one() {
        let mut suites = Suites::new();
        suites.check("good", || Ok(Verdict::Passed("3 files".into())));
        suites.check("absent", || Ok(Verdict::Skipped("no promtool".into())));
        assert!(suites.finish());
        let mut suites = Suites::new();
        suites.check("bad", || anyhow::bail!("no such file"));
        assert!(!suites.finish());
    }
}
