//! `cargo xtask bench rpc`: direct, a bare pingora pass-through and weir in turns, against the same scripted service, with
//! the same verifying load generator; the best of the rounds counts. Writes `docs/benchmarks-rpc.md` when every case was
//! measured in full. About 5 minutes on two cores.

mod around;
mod cases;
mod page;
mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::around::{Connections, MemoryUse};
use self::cases::{CASES, Case, Contender};
use self::rig::{Numbers, Rig, keep_best};
use super::{DISTURBED, ROUNDS};
use crate::proc::{self, Others};
use crate::process;
use crate::report::Steps;
use crate::servers;
use crate::workspace::Workspace;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// One short round; writes no page
    #[arg(long)]
    quick: bool,
    /// Only these cases (may repeat); writes no page
    #[arg(long, value_name = "CASE", value_parser = clap::builder::PossibleValuesParser::new(cases::ids()))]
    only: Vec<String>,
    /// Rounds; the best of them counts
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == case)
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
struct Results {
    cases: Vec<(&'static Case, BTreeMap<Contender, Numbers>)>,
    connections: BTreeMap<Contender, Connections>,
    memory: BTreeMap<Contender, MemoryUse>,
    rounds: u32,
    seconds: f64,
    /// Part of the cores that other processes used before it began, and while it ran.
    others_before: f64,
    others: f64,
}

/// Runs the benchmark. A missed target is marked and is no error: benchmarks gate nothing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut steps = Steps::new();
    steps.step("build (release)", || build(workspace))?;
    servers::raise_open_files();
    let others_before = proc::busy_for(Duration::from_secs(2));
    println!("other processes use {:.0} % of the cores", others_before * 100.0);
    if others_before > DISTURBED {
        println!("WARNING: this is no quiet machine; the numbers will say so");
    }
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 2.0) };
    let mut results = Results { rounds, seconds, others_before, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    println!("{}", page::text(&results));
    println!("other processes used {:.0} % of the cores meanwhile", results.others * 100.0);
    if options.quick || !options.only.is_empty() {
        println!("docs/benchmarks-rpc.md is not written: that takes every case in full");
    } else {
        let path = workspace.root().join("docs/benchmarks-rpc.md");
        std::fs::write(&path, page::markdown(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote docs/benchmarks-rpc.md");
    }
    match page::missed(&results) {
        0 => println!("every target is met"),
        missed => println!("{missed} targets are MISSED"),
    }
    Ok(true)
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "--release", "-p", "weir", "-p", "weir-scenario", "-p", "weir-passthrough"]);
    let status =
        process::stream("cargo", &mut command, Duration::from_secs(30 * 60), |_, line| eprintln!("{line}"))?;
    if !status.success() {
        bail!("the release build failed");
    }
    Ok(())
}

fn measure_all(
    workspace: &Workspace,
    options: &Options,
    steps: &mut Steps,
    results: &mut Results,
) -> Result<()> {
    let rig = steps.step("start servers, warm up", || Rig::start(workspace))?;
    let servers = rig.pids();
    let before = Others::watch(&servers);
    for case in CASES.iter().filter(|case| options.wants(case.id)) {
        let numbers =
            steps.step(&format!("{}: {}", case.id, case.title), || in_turns(&rig, case, results))?;
        results.cases.push((case, numbers));
    }
    results.others = Others::watch(&servers).share_since(before);
    if options.wants(cases::CONNECTIONS) {
        steps.step("connections: 1 client, 64 calls at once, 200 clients", || -> Result<()> {
            for contender in Contender::EVERYWHERE {
                let seen = around::connections(&rig, contender).with_context(|| contender.name())?;
                println!("  {:10} {seen:?}", contender.name());
                results.connections.insert(contender, seen);
            }
            Ok(())
        })?;
    }
    if options.wants(cases::MEMORY) {
        steps.step("memory: calls of 70,000 keys through a fresh process", || -> Result<()> {
            for contender in [Contender::Pingora, Contender::Whole, Contender::Weir] {
                let seen = around::memory(workspace, &rig, contender, results.seconds)
                    .with_context(|| contender.name())?;
                println!("  {:10} {seen:?}", contender.name());
                results.memory.insert(contender, seen);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Each contender once per round, another one first in each, so that none has the quiet moments for itself.
fn in_turns(rig: &Rig, case: &Case, results: &Results) -> Result<BTreeMap<Contender, Numbers>> {
    let mut best: BTreeMap<Contender, Numbers> = BTreeMap::new();
    let contenders = case.contenders();
    for round in 1..=results.rounds as usize {
        for turn in 0..contenders.len() {
            let contender = contenders[(turn + round) % contenders.len()];
            let numbers = rig
                .measure(case, contender, results.seconds)
                .with_context(|| format!("{} in {}", contender.name(), case.id))?;
            let shown: Vec<String> = numbers
                .iter()
                .map(|(measure, value)| format!("{} {}", measure.name(), measure.show(*value)))
                .collect();
            println!("  round {round} {:10} {}", contender.name(), shown.join(", "));
            keep_best(best.entry(contender).or_default(), &numbers);
        }
    }
    Ok(best)
}
