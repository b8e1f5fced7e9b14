//! `cargo xtask bench dataplane`: GetPostRecords of a real data plane on memcached and Cassandra, without weir, with weir
//! behind it, and with weir in front and behind, in turns; the best of the rounds counts. Writes `docs/benchmarks-dataplane.md`
//! when every case was measured in full. About 7 minutes on two cores.

mod apart;
mod around;
mod cases;
mod page;
mod rig;
mod stage;

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use self::around::Memory;
use self::cases::{CASES, Case, Contender};
use self::rig::{Numbers, Rig};
use super::frame::{finish, in_turns, prepare};
use crate::proc::Others;
use crate::report::Steps;
use crate::workspace::Workspace;

/// Rounds of a full run.
const ROUNDS: u32 = 2;

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
    memory: BTreeMap<Contender, Memory>,
    /// Posts of neighbours, and of the other calls.
    posts: (usize, usize),
    rounds: u32,
    seconds: f64,
    /// Part of the cores that other processes used before it began, and while it ran.
    others_before: f64,
    others: f64,
}

/// Runs the benchmark. A missed target is marked and is no error: benchmarks gate nothing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut steps = Steps::new();
    let others_before = prepare(workspace, &mut steps, &["weir", "weir-scenario", "weir-dataplane"])?;
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 1.5) };
    let mut results = Results { rounds, seconds, others_before, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    let rows = page::rows(&results);
    println!("{}", rows.text());
    println!("other processes used {:.0} % of the cores meanwhile", results.others * 100.0);
    let whole = !options.quick && options.only.is_empty();
    finish(workspace, "benchmarks-dataplane.md", whole, || page::markdown(&results), rows.missed())
}

fn measure_all(
    workspace: &Workspace,
    options: &Options,
    steps: &mut Steps,
    results: &mut Results,
) -> Result<()> {
    let rig = steps.step("start servers, make a world, warm up", || Rig::start(workspace))?;
    results.posts = rig.counts;
    let servers = rig.pids();
    let before = Others::watch(&servers);
    for case in CASES.iter().filter(|case| options.wants(case.id)) {
        let (rounds, seconds) = (results.rounds, results.seconds);
        let mut numbers = steps.step(&format!("{}: {}", case.id, case.title), || {
            in_turns(rounds, &Contender::ALL, Contender::name, |contender| {
                rig.measure(case, contender, seconds).with_context(|| case.id)
            })
        })?;
        numbers.values_mut().for_each(cases::compare);
        results.cases.push((case, numbers));
    }
    results.others = Others::watch(&servers).share_since(before);
    if options.wants(cases::MEMORY) {
        steps.step("memory: cold calls of 20,000 URIs through fresh processes", || -> Result<()> {
            for contender in Contender::ALL {
                let seen = around::memory(workspace, &rig, contender, results.seconds)
                    .with_context(|| contender.name())?;
                println!("  {:24} {seen:?}", contender.name());
                results.memory.insert(contender, seen);
            }
            Ok(())
        })?;
    }
    Ok(())
}
