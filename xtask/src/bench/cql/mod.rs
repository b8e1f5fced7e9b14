//! `cargo xtask bench cql`: direct, a raw byte proxy and weir in turns, against the same Cassandra, with the same verifying
//! load generator; the best of the rounds counts. Writes `docs/benchmarks-cql.md` when every case was measured in full.
//! About 7 minutes on two cores. Other proxies take their turns too where `--peer` names them.

mod around;
mod cases;
mod measure;
mod page;
mod peers;

use std::collections::BTreeMap;

use anyhow::Result;

use self::around::{MemoryUse, Recovery, Sockets};
use self::cases::{CASES, Case, Contender};
use self::measure::{Numbers, Rig, keep_best};
use self::peers::Peer;
use super::ROUNDS;
use super::frame::{finish, prepare};
use crate::proc::Others;
use crate::report::Steps;
use crate::workspace::Workspace;

/// Keys of a huge IN.
const HUGE: u32 = 15_000;

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
    /// Another proxy that takes its turns too (may repeat): `cql-proxy` is built by go below target/ unless a PATH
    /// is given, `shotover` needs the PATH of its binary
    #[arg(long = "peer", value_name = "NAME[=PATH]")]
    peers: Vec<Peer>,
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
    sockets: BTreeMap<Contender, Sockets>,
    memory: BTreeMap<Contender, MemoryUse>,
    restart: BTreeMap<Contender, Recovery>,
    /// What must be known of the peers, and what they could not do.
    notes: Vec<String>,
    rounds: u32,
    seconds: f64,
    /// Part of the cores that other processes used before it began, and while it ran.
    others_before: f64,
    others: f64,
}

/// Runs the benchmark. A missed target is marked and is no error: benchmarks gate nothing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    peers::none_twice(&options.peers)?;
    let mut steps = Steps::new();
    let others_before = prepare(workspace, &mut steps, &["weir", "weir-scenario"])?;
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 2.0) };
    let mut results = Results { rounds, seconds, others_before, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    println!("{}", page::text(&results));
    for note in &results.notes {
        println!("note: {note}");
    }
    println!("other processes used {:.0} % of the cores meanwhile", results.others * 100.0);
    let whole = !options.quick && options.only.is_empty();
    finish(workspace, "benchmarks-cql.md", whole, || page::markdown(&results), page::missed(&results))
}

fn measure_all(
    workspace: &Workspace,
    options: &Options,
    steps: &mut Steps,
    results: &mut Results,
) -> Result<()> {
    let mut rig =
        steps.step("start servers, store rows, warm up", || Rig::start(workspace, &options.peers))?;
    results.notes.extend(rig.peers.notes());
    let servers = rig.pids();
    let before = Others::watch(&servers);
    for case in CASES.iter().filter(|case| options.wants(case.id)) {
        let numbers =
            steps.step(&format!("{}: {}", case.id, case.title), || in_turns(&rig, case, results))?;
        results.cases.push((case, numbers));
    }
    results.others = Others::watch(&servers).share_since(before);
    if options.wants(cases::SOCKETS) {
        steps.step("sockets: 200 clients, without and with USE", || -> Result<()> {
            for contender in rig.contenders() {
                let seen = around::sockets(&rig, contender);
                let Some(sockets) = settled(&mut results.notes, contender, cases::SOCKETS, seen)? else {
                    continue;
                };
                println!("  {:10} {sockets:?}", contender.name());
                results.sockets.insert(contender, sockets);
            }
            Ok(())
        })?;
    }
    if options.wants(cases::MEMORY) {
        steps.step("memory: before, peak, 10 s after large INs", || -> Result<()> {
            for contender in rig.contenders() {
                let seen = around::memory(workspace, &rig, contender, results.seconds);
                if let Some(memory) = settled(&mut results.notes, contender, cases::MEMORY, seen)?.flatten() {
                    println!("  {:10} {memory:?}", contender.name());
                    results.memory.insert(contender, memory);
                }
            }
            Ok(())
        })?;
    }
    if options.wants(cases::RESTART) {
        results.restart = steps.step("restart: the node is killed", || around::restart(&mut rig))?;
        for (contender, recovery) in &results.restart {
            println!("  {:10} {recovery:?}", contender.name());
        }
    }
    Ok(())
}

/// Each contender once per round, so that none has the quiet minutes for itself.
fn in_turns(rig: &Rig, case: &Case, results: &mut Results) -> Result<BTreeMap<Contender, Numbers>> {
    let mut best: BTreeMap<Contender, Numbers> = BTreeMap::new();
    for round in 1..=results.rounds {
        for contender in rig.contenders() {
            let measured = rig.measure(case, contender, results.seconds);
            let Some(numbers) = settled(&mut results.notes, contender, case.id, measured)? else { continue };
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

/// A peer that fails a case is noted, and the run goes on; nobody else may fail one.
fn settled<T>(
    notes: &mut Vec<String>,
    contender: Contender,
    case: &str,
    result: Result<T>,
) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if contender.is_peer() => {
            let note = format!("{} failed in {case}: {error:#}", contender.name());
            println!("  {note}");
            if !notes.contains(&note) {
                notes.push(note);
            }
            Ok(None)
        }
        Err(error) => Err(error.context(format!("{} in {case}", contender.name()))),
    }
}
