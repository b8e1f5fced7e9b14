//! `cargo xtask bench rpc`: direct, a bare pingora pass-through and weir in turns, against the same scripted service, with
//! the same verifying load generator; the best of the rounds counts. Writes `docs/benchmarks-rpc.md` when every case was
//! measured in full. About 5 minutes on two cores.

mod around;
mod cases;
mod page;
mod rig;

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use self::around::{Connections, MemoryUse};
use self::cases::{CASES, Case, Contender};
use self::rig::{Numbers, Rig};
use super::ROUNDS;
use super::frame::{finish, in_turns, prepare};
use crate::proc::Others;
use crate::report::Steps;
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
    let others_before = prepare(workspace, &mut steps, &["weir", "weir-scenario", "weir-passthrough"])?;
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 2.0) };
    let mut results = Results { rounds, seconds, others_before, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    let rows = page::rows(&results);
    println!("{}", rows.text());
    println!("other processes used {:.0} % of the cores meanwhile", results.others * 100.0);
    let whole = !options.quick && options.only.is_empty();
    finish(workspace, "benchmarks-rpc.md", whole, || page::markdown(&results), rows.missed())
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
        let (rounds, seconds) = (results.rounds, results.seconds);
        let numbers = steps.step(&format!("{}: {}", case.id, case.title), || {
            in_turns(rounds, case.contenders(), Contender::name, |contender| {
                rig.measure(case, contender, seconds).with_context(|| case.id)
            })
        })?;
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
