//! Fuzz smoke: every target of `proxy/fuzz` runs for some seconds from its committed corpus. Built with the pinned stable
//! compiler; the coverage flags that libFuzzer needs stand in the fuzz crate's own configuration. Proves little in seconds
//! beyond "builds, runs, no shallow crash"; the long runs are for `--full` and by hand.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;
use crate::report::thousands;
use crate::suites::{Suites, Verdict};
use crate::workspace::{Workspace, which};

/// Where the fuzz crate lies.
const FOLDER: &str = "proxy/fuzz";

/// Seconds per target: smoke, and with `--full`.
const SMOKE_SECONDS: u64 = 10;
const FULL_SECONDS: u64 = 120;

/// The first build compiles libFuzzer itself.
const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Longest input tried, bytes: long enough for a multiget that must be split.
const LONGEST_INPUT: u32 = 20_000;

/// Builds the targets and runs each.
pub fn smoke(workspace: &Workspace, suites: &mut Suites, full: bool) -> Result<()> {
    if !workspace.root().join(FOLDER).join("Cargo.toml").is_file() {
        suites.check("fuzz", || Ok(Verdict::Skipped(format!("{FOLDER} does not exist"))));
        return Ok(());
    }
    if which("c++").is_none() {
        suites
            .check("fuzz", || Ok(Verdict::Skipped("no C++ compiler here: libFuzzer cannot be built".into())));
        return Ok(());
    }
    let mut built = None;
    suites.check("fuzz: build", || {
        let targets = targets(workspace)?;
        build(workspace)?;
        let verdict = Verdict::Passed(format!("{} targets: {}", targets.len(), targets.join(", ")));
        if targets.is_empty() {
            return Ok(Verdict::Failed("the fuzz crate has no target".into()));
        }
        built = Some(targets);
        Ok(verdict)
    });
    let seconds = if full { FULL_SECONDS } else { SMOKE_SECONDS };
    for target in built.unwrap_or_default() {
        suites.check(&format!("fuzz: {target}"), || run(workspace, &target, seconds));
    }
    Ok(())
}

/// Cargo inside the fuzz crate: its own `.cargo/config.toml` holds the coverage flags and its own target folder keeps
/// them from the other crates, so nothing of ours may override either.
fn cargo(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    command.current_dir(workspace.root().join(FOLDER)).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    command
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = cargo(workspace);
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let done = process::run("cargo metadata", &mut command, Duration::from_secs(60))?;
    anyhow::ensure!(done.status.success(), "cargo metadata failed:\n{}", done.stderr);
    let metadata: serde_json::Value = serde_json::from_str(&done.stdout)?;
    let targets = metadata["packages"][0]["targets"].as_array().into_iter().flatten();
    Ok(targets
        .filter(|target| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

/// The compiler's own name for this machine: the fuzz crate is built for it by name.
fn host() -> Result<String> {
    let done = process::run("rustc", Command::new("rustc").arg("-vV"), Duration::from_secs(60))?;
    let host = done.stdout.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say which host it is for")
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--bins"]);
    let status = process::stream("cargo", &mut command, BUILD_LIMIT, |_, line| println!("{line}"))?;
    anyhow::ensure!(status.success(), "the fuzz crate does not build ({status})");
    Ok(())
}

fn run(workspace: &Workspace, target: &str, seconds: u64) -> Result<Verdict> {
    let folder = workspace.root().join(FOLDER);
    let program = folder.join("target").join(host()?).join("release").join(target);
    let artifacts = workspace.scratch("fuzz-artifacts")?;
    // New inputs go to a scratch corpus; the committed one is read only.
    let scratch = workspace.scratch(&format!("fuzz-corpus/{target}"))?;
    let mut command = Command::new(program);
    command.arg(format!("-max_total_time={seconds}")).args([
        "-print_final_stats=1",
        "-timeout=10",
        "-rss_limit_mb=1024",
    ]);
    command.arg(format!("-max_len={LONGEST_INPUT}"));
    command.arg(format!("-artifact_prefix={}/{target}-", artifacts.display())).arg(&scratch);
    // One dictionary per protocol: memcached_request uses that of memcached.
    let protocol = target.split('_').next().unwrap_or(target);
    let dictionary = folder.join("dictionaries").join(format!("{protocol}.txt"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    let committed = folder.join("corpus").join(target);
    if committed.is_dir() {
        command.arg(committed);
    }
    let done = process::run(target, &mut command, Duration::from_secs(seconds + 60))?;
    let _scratch_is_not_kept = std::fs::remove_dir_all(scratch);
    let runs = executed(&done.stderr);
    Ok(match (done.status.success(), runs) {
        (true, 1..) => Verdict::Passed(format!("{} runs in {seconds} s", thousands(runs))),
        (true, 0) => Verdict::Failed("no input was run".into()),
        (false, _) => {
            let tail: Vec<&str> = done.stderr.lines().rev().take(40).collect();
            Verdict::Failed(format!("crashed\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n")))
        }
    })
}

/// libFuzzer's `stat::number_of_executed_units: 580123`.
fn executed(stderr: &str) -> u64 {
    let line = stderr.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_runs_is_read() {
        assert_eq!(executed("Done\nstat::number_of_executed_units: 580123\nstat::x: 1\n"), 580_123);
        assert_eq!(executed("ERROR"), 0);
    }
}
