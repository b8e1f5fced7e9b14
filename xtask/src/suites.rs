//! One suite of the test command: run it, count what ran, keep what it skipped. Counts come from cargo's own
//! `test result:` lines; a suite that is no cargo test counts as one. A suite in which nothing ran has failed.
//!
//! Tests that fail run a second time by themselves, as with nextest's retries: many wait for real servers, next to whatever else
//! the machine does. One that passes then has passed, and is listed by name as one that failed at first, with what it said.

use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;
use crate::report::{Table, heading, seconds};

/// How often a suite that is still running says so.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Of more failed tests than these in one command none runs again: that is no accident.
const AGAIN_MAX: usize = 5;

/// Lines kept of what the failed tests of one command said, to be shown again at the end.
const SAID_MAX: usize = 120;

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
    /// Tests that failed at first and passed by themselves.
    flaky: Vec<String>,
    /// What failed tests said.
    said: Vec<String>,
}

/// What one command of a suite did.
#[derive(Default)]
struct Ran {
    counts: Counts,
    /// Names of the tests that failed, and that passed.
    failed: Vec<String>,
    ok: Vec<String>,
    skips: Vec<String>,
    said: Vec<String>,
    /// Why there is nothing to count, where the command itself failed.
    broken: Option<String>,
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
        let (took, flaky, said) = (begun.elapsed(), vec![], vec![]);
        self.keep(Report { name: name.to_owned(), counts, note, took, skips, flaky, said });
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
            flaky: vec![],
            said: vec![],
        };
        for mut command in commands {
            let again = again(&command);
            let mut ran = ran(&mut command, limit, &mut report.skips);
            report.said.append(&mut ran.said);
            if ran.broken.is_none() && (1..=AGAIN_MAX).contains(&ran.failed.len()) {
                println!("    again, by themselves: {}", ran.failed.join(", "));
                ran = second_try(ran, again, limit, &mut report);
            }
            match ran.broken {
                Some(why) => report.note = why,
                None if ran.counts.failed > 0 => report.note = ran.failed.join(", "),
                None => {}
            }
            report.counts.add(ran.counts);
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
        for report in self.reports.iter().filter(|report| !report.said.is_empty()) {
            println!("\n{}: what failed tests said", report.name);
            report.said.iter().for_each(|line| println!("  {line}"));
        }
        for report in self.reports.iter().filter(|report| !report.flaky.is_empty()) {
            println!("{}: failed at first, passed by itself: {}", report.name, report.flaky.join(", "));
        }
        println!("all in {}", seconds(self.begun.elapsed()));
        println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
        sum.failed == 0
    }
}

/// The same command, not run yet.
fn again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        again.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => again.env(name, value),
            None => again.env_remove(name),
        };
    }
    again
}

/// Runs a `cargo test` and reads what it prints.
fn ran(command: &mut Command, limit: Duration, known: &mut Vec<String>) -> Ran {
    let mut ran = Ran::default();
    let mut in_failures = false;
    let status = process::stream("cargo", command, limit, |_, line| {
        println!("{line}");
        if let Some(result) = parse_result(line) {
            ran.counts.add(result);
            in_failures = false;
        }
        in_failures |= line == "failures:";
        if in_failures && ran.said.len() < SAID_MAX {
            ran.said.push(line.to_owned());
        }
        if let Some(test) = failed_test(line)
            && !ran.failed.contains(&test)
        {
            ran.failed.push(test);
        }
        ran.ok.extend(passed_test(line));
        // Counted by cargo already.
        ran.skips.extend(ignored_test(line));
        if let Some(reason) = skip_reason(line)
            && !ran.skips.contains(&reason)
            && !known.contains(&reason)
        {
            ran.counts.skipped += 1;
            ran.skips.push(reason);
        }
    });
    known.append(&mut ran.skips);
    match status {
        Ok(status) if status.success() => {}
        // A build that fails, or a test binary that dies, leaves no line to count.
        Ok(status) if ran.counts.failed == 0 => {
            ran.counts.failed = 1;
            ran.broken = Some(format!("cargo ended with {status}"));
        }
        Ok(_) => {}
        Err(error) => {
            ran.counts.failed += 1;
            ran.broken = Some(format!("{error:#}"));
        }
    }
    ran
}

/// The failed tests of a command once more, and what is left of its failures.
fn second_try(first: Ran, mut command: Command, limit: Duration, report: &mut Report) -> Ran {
    if !command.get_args().any(|argument| argument == "--") {
        command.arg("--");
    }
    command.arg("--exact").args(&first.failed);
    let mut second = ran(&mut command, limit, &mut Vec::new());
    report.said.append(&mut second.said);
    // By name: what a test prints may look like the sum of a test binary, and often is one. Of two tests of one name neither may
    // fail again.
    let (flaky, failed): (Vec<_>, Vec<_>) =
        first.failed.into_iter().partition(|test| second.ok.contains(test) && !second.failed.contains(test));
    let counts = Counts {
        passed: first.counts.passed + flaky.len() as u64,
        failed: failed.len().max(usize::from(second.broken.is_some())) as u64,
        skipped: first.counts.skipped,
    };
    report.flaky.extend(flaky);
    Ran { counts, failed, broken: second.broken, ..Ran::default() }
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

/// The name on a line like `test ring::vectors ... ok`.
fn passed_test(line: &str) -> Option<String> {
    line.trim().strip_prefix("test ")?.strip_suffix(" ... ok").map(str::to_owned)
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

    /// A command that fails as long as the file is there, and takes it away.
    fn fails_once(file: &std::path::Path, rest: &str) -> Command {
        let file = file.display();
        let mut command = shell(&format!(
            "echo \"asked: $*\"; if rm {file} 2>/dev/null; then echo 'test a::b ... FAILED'; echo 'failures:'; echo 'because'; \
             echo 'test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101; fi; {rest}"
        ));
        command.args(["sh", "--"]);
        command
    }

    #[test]
    fn a_test_that_passes_by_itself_has_passed_and_is_told() {
        let folder = crate::servers::PrivateFolder::new("flaky").unwrap();
        let file = folder.file("there");
        std::fs::write(&file, "").unwrap();
        let good = "echo 'test a::b ... ok'; echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";
        let mut suites = Suites::new();
        suites.cargo("probe", vec![fails_once(&file, good)], Duration::from_secs(10));
        let report = &suites.reports[0];
        assert_eq!(report.counts, Counts { passed: 5, failed: 0, skipped: 0 });
        assert_eq!(report.flaky, ["a::b"]);
        assert_eq!(report.said, ["failures:", "because"]);
        assert_eq!(report.note, "");
    }

    #[test]
    fn of_two_that_failed_one_may_pass_by_itself() {
        let folder = crate::servers::PrivateFolder::new("both").unwrap();
        let file = folder.file("there");
        std::fs::write(&file, "").unwrap();
        let first = format!(
            "if rm {} 2>/dev/null; then echo 'test a ... FAILED'; echo 'test b ... FAILED'; \
             echo 'test result: FAILED. 4 passed; 2 failed; 0 ignored'; exit 101; fi; ",
            file.display()
        );
        let second = "echo 'test a ... ok'; echo 'test b ... FAILED'; echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
        let mut command = shell(&format!("{first}{second}"));
        command.args(["sh", "--"]);
        let mut suites = Suites::new();
        suites.cargo("probe", vec![command], Duration::from_secs(10));
        let report = &suites.reports[0];
        assert_eq!(report.counts, Counts { passed: 5, failed: 1, skipped: 0 });
        assert_eq!((&report.flaky[..], report.note.as_str()), (&["a".to_owned()][..], "b"));
    }

    #[test]
    fn a_test_that_fails_twice_or_does_not_run_again_has_failed() {
        let bad = "echo 'test a::b ... FAILED'; echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored'; exit 101";
        let none = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 5 filtered out'";
        let folder = crate::servers::PrivateFolder::new("failed").unwrap();
        let file = folder.file("there");
        for second in [bad, none, "exit 101"] {
            std::fs::write(&file, "").unwrap();
            let mut suites = Suites::new();
            suites.cargo("probe", vec![fails_once(&file, second)], Duration::from_secs(10));
            let report = &suites.reports[0];
            assert_eq!(report.counts, Counts { passed: 4, failed: 1, skipped: 0 }, "{second}");
            assert!(report.flaky.is_empty() && !report.note.is_empty(), "{second}");
        }
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
