//! `cargo xtask bench memcached`: direct, twemproxy and weir in turns, against the same memcached, with the same
//! verifying load generator; the best of the rounds counts. Writes `docs/benchmarks.md` when every case was measured in
//! full. About 10 minutes on two cores.

mod cases;
pub mod cql;
pub mod dataplane;
mod frame;
mod measure;
mod page;
pub mod probes;
mod rows;
pub mod rpc;
mod storms;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use self::cases::{CASES, Case, Contender};
use self::measure::{Numbers, Rig, keep_best};
use self::storms::{Burst, MemoryUse};
use crate::netns::Isolation;
use crate::proc;
use crate::report::{Steps, heading};
use crate::servers;
use crate::workspace::Workspace;

/// Rounds of a full run; each contender is measured once per round.
const ROUNDS: u32 = 3;

/// Above this part of the cores in other hands, a run is disturbed.
const DISTURBED: f64 = 0.1;

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

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    cases: Vec<(&'static Case, BTreeMap<Contender, Numbers>)>,
    memory: BTreeMap<Contender, MemoryUse>,
    burst_unix: BTreeMap<Contender, Burst>,
    burst_tcp: BTreeMap<Contender, Burst>,
    /// What could not be measured, and why.
    skipped: Vec<String>,
    /// How it was run, for the page.
    rounds: u32,
    seconds: f64,
    /// Part of the cores that other processes used before it began.
    others: f64,
}

impl Options {
    fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == case)
    }
}

/// Runs the benchmark. A missed target is marked and is no error: benchmarks gate nothing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut steps = Steps::new();
    steps.step("build (release)", || frame::build(workspace, &["weir", "weir-scenario"]))?;
    let limit = servers::raise_open_files();
    println!("open files: {limit}");
    let others = proc::busy_for(Duration::from_secs(2));
    println!("other processes use {:.0} % of the cores", others * 100.0);
    if others > DISTURBED {
        println!("WARNING: this is no quiet machine; the numbers will say so");
    }
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 2.0) };
    let mut results = Results { rounds, seconds, others, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    println!("{}", page::text(&results));
    for skipped in &results.skipped {
        println!("SKIPPED: {skipped}");
    }
    if options.quick || !options.only.is_empty() {
        println!("docs/benchmarks.md is not written: that takes every case in full");
    } else {
        let path = workspace.root().join("docs/benchmarks.md");
        std::fs::create_dir_all(workspace.root().join("docs"))?;
        std::fs::write(&path, page::markdown(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote docs/benchmarks.md");
    }
    let missed = page::missed(&results);
    println!(
        "{}",
        if missed == 0 { "every target is met".to_owned() } else { format!("{missed} targets are MISSED") }
    );
    Ok(true)
}

fn measure_all(
    workspace: &Workspace,
    options: &Options,
    steps: &mut Steps,
    results: &mut Results,
) -> Result<()> {
    let rig = steps.step("start servers, store keys", || Rig::start(workspace))?;
    if rig.twemproxy.is_none() {
        results.skipped.push("twemproxy: nutcracker is not installed (Debian: nutcracker)".into());
    }
    for case in CASES.iter().filter(|case| options.wants(case.id)) {
        let numbers = steps.step(&format!("{}: {}", case.id, case.title), || {
            in_turns(&rig, case, results.rounds, results.seconds)
        })?;
        results.cases.push((case, numbers));
    }
    if options.wants(cases::MEMORY) {
        steps.step("memory: before, peak, 10 s after storms", || -> Result<()> {
            for contender in Contender::ALL {
                if let Some(memory) = storms::memory(workspace, &rig, contender, results.seconds)? {
                    println!("  {:10} {memory:?}", contender.name());
                    results.memory.insert(contender, memory);
                }
            }
            Ok(())
        })?;
    }
    drop(rig);
    if options.wants(cases::BURST_UNIX) {
        steps.step("burst-unix: 15,000 Unix connections at once", || {
            let (bursts, skipped) = burst_isolated(workspace, "unix");
            results.burst_unix = bursts;
            results.skipped.extend(skipped);
        });
    }
    if options.wants(cases::BURST_TCP) {
        steps.step("burst-tcp: 15,000 TCP connections, 2,000 ports, explicit source", || {
            let (bursts, skipped) = burst_isolated(workspace, "tcp");
            results.burst_tcp = bursts;
            results.skipped.extend(skipped);
        });
    }
    Ok(())
}

/// Each contender once per round, so that none has the quiet minutes for itself.
fn in_turns(rig: &Rig, case: &Case, rounds: u32, seconds: f64) -> Result<BTreeMap<Contender, Numbers>> {
    let mut best: BTreeMap<Contender, Numbers> = BTreeMap::new();
    for round in 1..=rounds {
        for contender in Contender::ALL {
            // A contender that fails a case has no number there; the others still have.
            match rig.measure(case, contender, seconds) {
                Ok(Some(numbers)) => {
                    let shown: Vec<String> = numbers
                        .iter()
                        .map(|(measure, value)| format!("{} {}", measure.name(), measure.show(*value)))
                        .collect();
                    println!("  round {round} {:10} {}", contender.name(), shown.join(", "));
                    keep_best(best.entry(contender).or_default(), &numbers);
                }
                Ok(None) => {}
                Err(error) if contender == Contender::Twemproxy => println!("  twemproxy failed: {error:#}"),
                Err(error) => return Err(error.context(format!("{} in {}", contender.name(), case.id))),
            }
        }
    }
    Ok(best)
}

fn burst_isolated(workspace: &Workspace, kind: &str) -> (BTreeMap<Contender, Burst>, Vec<String>) {
    let (mut bursts, mut skipped) = (BTreeMap::new(), Vec::new());
    let isolation = match Isolation::find() {
        Ok(isolation) => isolation,
        Err(error) => return (bursts, vec![format!("burst-{kind}: {error:#}")]),
    };
    for contender in Contender::ALL {
        if kind == "unix" && contender == Contender::Twemproxy {
            continue; // its listen backlog is 512: it fails most of them, which is no news
        }
        match storms::burst_isolated(workspace, isolation, kind, contender) {
            Ok(burst) => {
                println!("  {:10} {burst:?}", contender.name());
                bursts.insert(contender, burst);
            }
            Err(error) => skipped.push(format!("burst-{kind}, {}: {error:#}", contender.name())),
        }
    }
    (bursts, skipped)
}

/// The part that runs inside a namespace.
pub fn run_burst(workspace: &Workspace, contender: &str, report: &Path) -> Result<()> {
    heading(&format!("inside the namespace: {contender}"));
    servers::raise_open_files();
    storms::burst_inside(workspace, contender, report)
}
