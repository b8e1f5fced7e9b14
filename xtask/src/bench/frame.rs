//! What benchmarks have around their measurements: the build, how quiet the machine is, turns, and the page at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::DISTURBED;
use crate::proc;
use crate::process;
use crate::report::Steps;
use crate::scenario::number;
use crate::servers;
use crate::workspace::Workspace;

/// What is measured: a quantity with a name, a unit and a better side.
pub trait Quantity: Copy + Ord {
    fn name(self) -> &'static str;
    /// A value with its unit.
    fn show(self, value: f64) -> String;
    /// The better of two runs: what disturbs a run only ever makes it worse.
    fn better(self, a: f64, b: f64) -> f64;
}

/// Builds these packages with their release profile.
pub fn build(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "--release"]);
    command.args(packages.iter().flat_map(|package| ["-p", *package]));
    let status =
        process::stream("cargo", &mut command, Duration::from_secs(30 * 60), |_, line| eprintln!("{line}"))?;
    if !status.success() {
        bail!("the release build failed");
    }
    Ok(())
}

/// Builds, and looks how much of the cores, 0 to 1, others use before anything is started.
pub fn prepare(workspace: &Workspace, steps: &mut Steps, packages: &[&str]) -> Result<f64> {
    steps.step("build (release)", || build(workspace, packages))?;
    servers::raise_open_files();
    let others = proc::busy_for(Duration::from_secs(2));
    println!("other processes use {:.0} % of the cores", others * 100.0);
    if others > DISTURBED {
        println!("WARNING: this is no quiet machine; the numbers will say so");
    }
    Ok(others)
}

/// Writes `docs/NAME` when every case was measured in full, and says how many targets were missed: that is no error,
/// benchmarks gate nothing.
pub fn finish(
    workspace: &Workspace,
    name: &str,
    whole: bool,
    page: impl FnOnce() -> Result<String>,
    missed: usize,
) -> Result<bool> {
    if whole {
        let path = workspace.root().join("docs").join(name);
        std::fs::write(&path, page()?).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote docs/{name}");
    } else {
        println!("docs/{name} is not written: that takes every case in full");
    }
    match missed {
        0 => println!("every target is met"),
        missed => println!("{missed} targets are MISSED"),
    }
    Ok(true)
}

/// Each contender once per round, another one first in each, so that none has the quiet moments for itself. The best of
/// each quantity is kept.
pub fn in_turns<C: Copy + Ord, Q: Quantity>(
    rounds: u32,
    contenders: &[C],
    name: impl Fn(C) -> &'static str,
    mut measure: impl FnMut(C) -> Result<BTreeMap<Q, f64>>,
) -> Result<BTreeMap<C, BTreeMap<Q, f64>>> {
    let mut best: BTreeMap<C, BTreeMap<Q, f64>> = BTreeMap::new();
    let width = contenders.iter().map(|contender| name(*contender).len()).max().unwrap_or(0);
    for round in 1..=rounds as usize {
        for turn in 0..contenders.len() {
            let contender = contenders[(turn + round) % contenders.len()];
            let numbers = measure(contender).with_context(|| name(contender))?;
            let shown: Vec<String> = numbers
                .iter()
                .map(|(quantity, value)| format!("{} {}", quantity.name(), quantity.show(*value)))
                .collect();
            println!("  round {round} {:width$} {}", name(contender), shown.join(", "));
            keep_best(best.entry(contender).or_default(), &numbers);
        }
    }
    Ok(best)
}

/// Keeps the best of what was measured so far.
fn keep_best<Q: Quantity>(best: &mut BTreeMap<Q, f64>, new: &BTreeMap<Q, f64>) {
    for (quantity, value) in new {
        best.entry(*quantity).and_modify(|old| *old = quantity.better(*old, *value)).or_insert(*value);
    }
}

/// A fast wrong answer is no answer: an error when any answer of a report failed or was not what was asked for.
pub fn failures(report: &Value) -> Result<()> {
    for count in ["failed", "missing", "wrong"] {
        let found = number(report, count)?;
        ensure!(found == 0.0, "{found} were {count}: {}", report["errors"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Speed {
        Time,
        Rate,
    }

    impl Quantity for Speed {
        fn name(self) -> &'static str {
            "speed"
        }
        fn show(self, value: f64) -> String {
            value.to_string()
        }
        fn better(self, a: f64, b: f64) -> f64 {
            if self == Speed::Time { a.min(b) } else { a.max(b) }
        }
    }

    #[test]
    fn everybody_is_first_once_and_the_best_of_each_is_kept() {
        let mut order = String::new();
        let best = in_turns(
            3,
            &['a', 'b', 'c'],
            |_| "contender",
            |contender| {
                order.push(contender);
                let turn = order.len() as f64;
                Ok(BTreeMap::from([(Speed::Time, turn), (Speed::Rate, turn)]))
            },
        );
        assert_eq!(order, "bcacababc");
        let of_a = BTreeMap::from([(Speed::Time, 3.0), (Speed::Rate, 7.0)]);
        assert!(best.unwrap()[&'a'] == of_a);
        let failed = in_turns(1, &['a'], |_| "a", |_| -> Result<BTreeMap<Speed, f64>> { bail!("no answer") });
        assert_eq!(format!("{:#}", failed.err().unwrap()), "a: no answer");
    }

    #[test]
    fn bad_answers_spoil_a_run() {
        let report = |missing: u32| serde_json::json!({"failed": 0, "missing": missing, "wrong": 0});
        assert!(failures(&report(0)).is_ok() && failures(&report(1)).is_err());
        assert!(failures(&serde_json::json!({"failed": 0})).is_err(), "unknown is not none");
    }
}
