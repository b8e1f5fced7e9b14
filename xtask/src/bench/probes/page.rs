//! The results as tables: for the terminal, and as `docs/benchmarks-probes.md`. The page has no date, so that a run that
//! changes nothing changes nothing; a missed target is marked, not left out.

use std::fmt::Write as _;

use anyhow::Result;

use super::rig::Cost;
use super::{Probes, Results};
use crate::bench::page::version;
use crate::proc;
use crate::report::Table;

const MET: &str = "yes";
const MISSED: &str = "**MISSED**";

/// One measurement in words.
pub(super) fn cost(cost: &Cost) -> String {
    let own = cost.probes.map(|probes| format!(", weir-probes {probes:.3}")).unwrap_or_default();
    format!("{:.2} us (client {:.2}, memcached {:.2}{own})", cost.both(), cost.client, cost.memcached)
}

/// One claim: what the probes add, as a part of the cost without them, and whether that is within the limit.
struct Claim {
    case: &'static str,
    probes: Probes,
    off: f64,
    on: Cost,
    limit: f64,
}

impl Claim {
    fn added(&self) -> f64 {
        self.on.both() / self.off - 1.0
    }

    fn met(&self) -> bool {
        self.added() <= self.limit
    }
}

fn claims(results: &Results) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (case, costs) in &results.cases {
        let Some(off) = costs.get(&Probes::Off) else { continue };
        for (probes, limit) in [Probes::Default, Probes::All].into_iter().zip(case.limits) {
            let Some(on) = costs.get(&probes) else { continue };
            claims.push(Claim { case: case.title, probes, off: off.both(), on: *on, limit });
        }
    }
    claims
}

/// How many claims do not hold.
pub(super) fn missed(results: &Results) -> usize {
    claims(results).iter().filter(|claim| !claim.met()).count()
}

fn table(results: &Results) -> Table {
    let head =
        ["case", "probes", "CPU per request, off", "on", "added", "may add", "met", "weir-probes itself"];
    let mut table = Table::new(head);
    for claim in claims(results) {
        table.row([
            claim.case.to_owned(),
            claim.probes.name().to_owned(),
            format!("{:.2} us", claim.off),
            format!("{:.2} us", claim.on.both()),
            format!("{:+.1} %", claim.added() * 100.0),
            format!("{:.0} %", claim.limit * 100.0),
            if claim.met() { MET } else { MISSED }.to_owned(),
            claim.on.probes.map_or("unknown".to_owned(), own_words),
        ]);
    }
    table
}

/// The kernel tells a process's time in hundredths of a second: less than one in a round is not none.
fn own_words(own: f64) -> String {
    if own == 0.0 { "< 10 ms a round".to_owned() } else { format!("{own:.3} us") }
}

fn programs(results: &Results) -> Table {
    let mut table = Table::new(["case", "program", "runs per request", "ns per run", "ns per request"]);
    for (case, used) in &results.programs {
        for one in used.iter().flatten() {
            table.row([
                case.title.to_owned(),
                one.program.clone(),
                format!("{:.2}", one.runs),
                format!("{:.0}", one.nanoseconds),
                format!("{:.0}", one.runs * one.nanoseconds),
            ]);
        }
    }
    table
}

/// Whether the kernel could not be asked.
fn uncounted(results: &Results) -> bool {
    results.programs.iter().any(|(_, used)| used.is_none())
}

/// For the terminal.
pub(super) fn text(results: &Results) -> String {
    let mut text = table(results).text().replace("**", "");
    if uncounted(results) {
        text.push_str("\ntime in the kernel by program: unknown (kernel.bpf_stats_enabled may not be set)\n");
    } else {
        let _strings_take_all = write!(text, "\n{}", programs(results).text());
    }
    text
}

/// For `docs/benchmarks-probes.md`.
pub(super) fn markdown(results: &Results) -> Result<String> {
    let mut page = String::from(
        "# What the probes cost\n\n\
         Written by `cargo xtask bench probes`; the numbers are of one run on one machine. Read what is added, not the\n\
         microseconds: client, memcached and weir-probes share the cores.\n\n",
    );
    writeln!(page, "- machine: {}", proc::machine())?;
    for (name, argument) in [("memcached", "--version"), ("rustc", "--version")] {
        writeln!(page, "- {name}: {}", version(name, argument))?;
    }
    for (probes, names) in &results.attached {
        writeln!(page, "- {}: probes {}", probes.name(), names.join(", "))?;
    }
    writeln!(
        page,
        "- CPU time per request of client and memcached together, programs in the kernel included, since they run in the\n  \
         process they watch; the least of {} rounds of {} s each, in which off, default and all take turns\n\
         - the client is no process of weir's: every connection of it counts as bypass, every request is looked into with\n  \
         `--work`\n\
         - other processes used {:.0} % of the cores before the run began and {:.0} % while it ran\n",
        results.rounds,
        results.seconds,
        results.others_before * 100.0,
        results.others * 100.0,
    )?;
    page.push_str(&table(results).markdown());
    match missed(results) {
        0 => {}
        missed => writeln!(page, "\n{missed} targets are missed in this run; they are marked.")?,
    }
    page.push_str("\n## Time in the kernel by program\n\n");
    if uncounted(results) {
        page.push_str("Unknown: `kernel.bpf_stats_enabled` could not be set.\n");
    } else {
        page.push_str(
            "All probes, `kernel.bpf_stats_enabled` 1, in a run apart, because counting costs too. Runs of other processes\n\
             of the machine are among them.\n\n",
        );
        page.push_str(&programs(results).markdown());
    }
    page.push_str("\nAgain, or one case only:\n\n```\ncargo xtask bench probes\ncargo xtask bench probes --quick --only churn\n```\n");
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::CASES;
    use super::super::rig::ProgramUse;
    use super::*;

    fn results(default: f64) -> Results {
        let cost = |client, probes| Cost { client, memcached: 10.0, probes };
        let costs = BTreeMap::from([
            (Probes::Off, cost(10.0, None)),
            (Probes::Default, cost(default, Some(0.25))),
            (Probes::All, cost(13.9, Some(0.5))),
        ]);
        let used = ProgramUse { program: "transitions".into(), runs: 3.0, nanoseconds: 250.0 };
        Results {
            cases: vec![(CASES[0], costs)],
            programs: vec![(CASES[0], Some(vec![used]))],
            rounds: 1,
            seconds: 2.0,
            ..Results::default()
        }
    }

    #[test]
    fn what_is_added_is_a_part_of_both_processes() {
        assert_eq!(missed(&results(10.3)), 0, "2 % of 20 us may be added");
        let bad = results(10.6);
        assert_eq!(missed(&bad), 1);
        let page = markdown(&bad).unwrap();
        assert!(page.contains("| +3.0 % | 2 % | **MISSED** | 0.250 us |"), "{page}");
        assert!(page.contains("| transitions | 3.00 | 250 | 750 |"), "{page}");
    }

    #[test]
    fn what_the_kernel_did_not_count_is_unknown() {
        let mut results = results(10.0);
        results.programs = vec![(CASES[0], None)];
        assert!(markdown(&results).unwrap().contains("Unknown"));
        assert!(text(&results).contains("unknown"));
    }
}
