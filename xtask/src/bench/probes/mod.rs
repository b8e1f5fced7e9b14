//! `cargo xtask bench probes`: what weir-probes costs the processes that are watched. The same load against the same
//! memcached with the probes off, as they are by default, and with all of them, in turns; weir-probes runs as a child.
//! Writes `docs/benchmarks-probes.md` when every case was measured in full. About 5 minutes on two cores, as root.

mod page;
mod rig;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use self::rig::{Cost, ProgramUse, Rig};
use super::frame::{finish, prepare};
use crate::proc::Others;
use crate::report::Steps;
use crate::workspace::Workspace;

/// Rounds of a full run: the differences are small, and the machine's own noise is not.
const ROUNDS: u32 = 7;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// One short round; writes no page
    #[arg(long)]
    quick: bool,
    /// Only these cases (may repeat); writes no page
    #[arg(long, value_name = "CASE", value_parser = clap::builder::PossibleValuesParser::new(CASES.map(|case| case.id)))]
    only: Vec<String>,
    /// Rounds; the least of them counts
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
}

/// Which probes are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Probes {
    /// weir-probes does not run.
    Off,
    /// `weir-probes run`.
    Default,
    /// `weir-probes run --work`.
    All,
}

impl Probes {
    const ALL: [Self; 3] = [Self::Off, Self::Default, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Default => "default",
            Self::All => "all",
        }
    }
}

/// What the client does.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// A closed loop on one connection.
    Persistent { keys_per_get: u32 },
    /// Connect, get one key, close; again.
    Churn,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    id: &'static str,
    title: &'static str,
    load: Load,
    /// Most that the probes may add to the CPU time of a request, as a part: by default, and all of them.
    limits: [f64; 2],
}

const CASES: [Case; 3] = [
    Case {
        id: "get-1",
        title: "GET, 1 connection, depth 1",
        load: Load::Persistent { keys_per_get: 1 },
        limits: [0.02, 0.20],
    },
    Case {
        id: "get-100",
        title: "GET of 100 keys, 1 connection",
        load: Load::Persistent { keys_per_get: 100 },
        limits: [0.02, 0.20],
    },
    Case { id: "churn", title: "connect, GET, close", load: Load::Churn, limits: [0.15, 0.40] },
];

/// Everything that was measured.
#[derive(Debug, Default)]
struct Results {
    cases: Vec<(Case, BTreeMap<Probes, Cost>)>,
    /// Probes that counted, and those that did not with their state, by contender.
    attached: BTreeMap<Probes, Vec<String>>,
    /// Time in the kernel by program, of every case with all probes; `None` where the kernel may not be asked.
    programs: Vec<(Case, Option<Vec<ProgramUse>>)>,
    rounds: u32,
    seconds: f64,
    /// Part of the cores that other processes used before it began, and while it ran.
    others_before: f64,
    others: f64,
}

/// Runs the benchmark. A missed target is marked and is no error: benchmarks gate nothing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let mut steps = Steps::new();
    let others_before = prepare(workspace, &mut steps, &["weir-probes", "weir-scenario"])?;
    let (rounds, seconds) = if options.quick { (1, 1.0) } else { (options.rounds, 2.0) };
    let mut results = Results { rounds, seconds, others_before, ..Results::default() };
    let outcome = measure_all(workspace, options, &mut steps, &mut results);
    steps.print();
    outcome?;
    println!("{}", page::text(&results));
    println!("other processes used {:.0} % of the cores meanwhile", results.others * 100.0);
    let whole = !options.quick && options.only.is_empty();
    finish(workspace, "benchmarks-probes.md", whole, || page::markdown(&results), page::missed(&results))
}

fn measure_all(
    workspace: &Workspace,
    options: &Options,
    steps: &mut Steps,
    results: &mut Results,
) -> Result<()> {
    let rig = steps.step("start memcached, store keys", || Rig::start(workspace))?;
    results.attached = steps.step("load the probes once", || attached(&rig))?;
    let before = Others::watch(&[rig.memcached.pid()]);
    let wanted = |case: &&Case| options.only.is_empty() || options.only.iter().any(|only| only == case.id);
    for case in CASES.iter().filter(wanted) {
        let costs = steps.step(&format!("{}: {}", case.id, case.title), || in_turns(&rig, case, results))?;
        results.cases.push((*case, costs));
    }
    results.others = Others::watch(&[rig.memcached.pid()]).share_since(before);
    // Apart, because counting the programs' time costs time.
    for case in CASES.iter().filter(wanted) {
        let name = format!("{}: time in the kernel by program", case.id);
        let used = steps.step(&name, || rig.programs(case, results.seconds))?;
        results.programs.push((*case, used));
    }
    Ok(())
}

/// Which probes count. A benchmark of probes that were refused would look very good.
fn attached(rig: &Rig) -> Result<BTreeMap<Probes, Vec<String>>> {
    let mut attached = BTreeMap::new();
    for probes in [Probes::Default, Probes::All] {
        let (counting, silent) =
            rig.watcher(probes)?.map_or_else(|| Ok(<_>::default()), |one| one.attached())?;
        println!("  {:8} counts: {}; not: {}", probes.name(), counting.join(" "), silent.join(" "));
        let needed: &[&str] = if probes == Probes::All {
            &["transitions", "errors", "work"]
        } else {
            &["transitions", "errors"]
        };
        if let Some(missing) = needed.iter().find(|name| !counting.iter().any(|one| one == *name)) {
            bail!(
                "probe {missing} does not count here (see: weir-probes check), so there is nothing to measure"
            );
        }
        attached.insert(probes, counting);
    }
    Ok(attached)
}

/// Each once per round, another one first in each, so that none has the quiet moments for itself.
fn in_turns(rig: &Rig, case: &Case, results: &Results) -> Result<BTreeMap<Probes, Cost>> {
    let mut least: BTreeMap<Probes, Cost> = BTreeMap::new();
    for round in 1..=results.rounds {
        for turn in 0..Probes::ALL.len() {
            let probes = Probes::ALL[(turn + round as usize) % Probes::ALL.len()];
            let cost = rig
                .measure(case, probes, results.seconds)
                .with_context(|| format!("{} in {}", probes.name(), case.id))?;
            println!("  round {round} {:8} {}", probes.name(), page::cost(&cost));
            let kept = least.entry(probes).or_insert(cost);
            if cost.both() < kept.both() {
                *kept = cost;
            }
        }
    }
    Ok(least)
}
