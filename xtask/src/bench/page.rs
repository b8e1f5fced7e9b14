//! The results as tables: for the terminal, and as `docs/benchmarks.md`. The page has no date, so that a run that
//! changes nothing changes nothing; a missed target is marked, not left out.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;

use super::Results;
use super::cases::{Contender, Measure, Target};
use super::storms::{Burst, MemoryUse};
use crate::proc;
use crate::process;
use crate::report::{Table, thousands};
use crate::workspace::which;

/// Memory that weir may keep above idle, KiB.
const KEPT: u64 = 16 * 1024;

const MET: &str = "yes";
const MISSED: &str = "**MISSED**";

/// One line of the main table.
struct Row {
    case: String,
    measure: String,
    direct: String,
    twemproxy: String,
    weir: String,
    target: String,
    met: Option<bool>,
}

/// Every claim with what was measured, and the measures without a claim for context.
fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    for (case, numbers) in &results.cases {
        let value = |contender: Contender, measure: Measure| numbers.get(&contender)?.get(&measure).copied();
        for measure in Measure::ALL {
            let Some(weir) = value(Contender::Weir, measure) else { continue };
            let (direct, twemproxy) =
                (value(Contender::Direct, measure), value(Contender::Twemproxy, measure));
            let ratio = |other: f64| match direct {
                Some(direct) if direct > 0.0 => {
                    format!("{} ({} x)", measure.show(other), ratio_text(other / direct))
                }
                _ => measure.show(other),
            };
            let targets: Vec<&Target> =
                case.targets.iter().filter(|(of, _)| *of == measure).map(|(_, target)| target).collect();
            let met: Vec<Option<bool>> =
                targets.iter().map(|target| target.met(direct.unwrap_or(0.0), twemproxy, weir)).collect();
            rows.push(Row {
                case: case.title.to_owned(),
                measure: measure.name().to_owned(),
                direct: direct.map_or("-".into(), |value| measure.show(value)),
                twemproxy: twemproxy.map_or("-".into(), ratio),
                weir: ratio(weir),
                target: targets.iter().map(|target| target.show(measure)).collect::<Vec<_>>().join("; "),
                met: (!targets.is_empty()).then(|| met.iter().all(|met| *met == Some(true))),
            });
        }
    }
    rows.extend(memory_row(results));
    for (title, bursts) in [
        ("15,000 connections at once, one get each: Unix socket", &results.burst_unix),
        ("the same: TCP, 2,000 ports, explicit source address", &results.burst_tcp),
    ] {
        if let Some(weir) = bursts.get(&Contender::Weir) {
            let show = |contender| bursts.get(&contender).map_or("-".into(), show_burst);
            rows.push(Row {
                case: title.into(),
                measure: "failed calls; TIME_WAIT left".into(),
                direct: show(Contender::Direct),
                twemproxy: show(Contender::Twemproxy),
                weir: show_burst(weir),
                target: "0; 0".into(),
                met: Some(weir.failed == 0 && weir.time_wait == 0),
            });
        }
    }
    rows
}

fn memory_row(results: &Results) -> Option<Row> {
    let weir = results.memory.get(&Contender::Weir)?;
    Some(Row {
        case: "memory: 1, 4, 16 clients x 15,000 keys back to back, then 500 connections x 8".into(),
        measure: "RSS idle, peak, 10 s after; upstream connections".into(),
        direct: "-".into(),
        twemproxy: results.memory.get(&Contender::Twemproxy).map_or("-".into(), show_memory),
        weir: show_memory(weir),
        target: format!("10 s after <= idle + {} MiB", KEPT / 1024),
        met: Some(weir.after <= weir.idle + KEPT),
    })
}

fn show_memory(memory: &MemoryUse) -> String {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    format!(
        "{}, {}, {} MiB; {}",
        mib(memory.idle),
        mib(memory.peak),
        mib(memory.after),
        memory.upstream_connections
    )
}

fn show_burst(burst: &Burst) -> String {
    format!("{}; {} ({:.1} s)", thousands(burst.failed), thousands(burst.time_wait), burst.seconds)
}

/// Two digits that mean something, also for a hundredth.
fn ratio_text(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

/// The claims.
fn claims(results: &Results) -> Table {
    let mut table = Table::new(["case", "measure", "direct", "twemproxy", "weir", "weir must", "met"]);
    for row in rows(results) {
        if let Some(met) = row.met {
            let met = if met { MET } else { MISSED };
            table.row([row.case, row.measure, row.direct, row.twemproxy, row.weir, row.target, met.into()]);
        }
    }
    table
}

/// What was measured beside them.
fn others(results: &Results) -> Table {
    let mut table = Table::new(["case", "measure", "direct", "twemproxy", "weir"]);
    for row in rows(results).into_iter().filter(|row| row.met.is_none()) {
        table.row([row.case, row.measure, row.direct, row.twemproxy, row.weir]);
    }
    table
}

/// How many claims do not hold.
pub fn missed(results: &Results) -> usize {
    rows(results).iter().filter(|row| row.met == Some(false)).count()
}

/// For the terminal.
pub fn text(results: &Results) -> String {
    let claims = claims(results).text().replace("**", "");
    // A burst or the memory alone has nothing beside its claim.
    if results.cases.is_empty() {
        claims
    } else {
        format!("{claims}\nalso measured:\n{}", others(results).text())
    }
}

/// For `docs/benchmarks.md`.
pub fn markdown(results: &Results) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench memcached`; the numbers are of one run on one machine. Read the ratios: load\n\
         generator, proxy and memcached share the cores, so absolute rates say more about the machine than about weir.\n\
         Others: [CQL](benchmarks-cql.md), [RPC](benchmarks-rpc.md), [probes](benchmarks-probes.md).\n\n",
    );
    writeln!(page, "- machine: {}", proc::machine())?;
    for (name, arguments) in [("memcached", "--version"), ("nutcracker", "--version"), ("rustc", "--version")]
    {
        writeln!(page, "- {name}: {}", version(name, arguments))?;
    }
    writeln!(
        page,
        "- best of {} rounds of {} s each; in every round direct, twemproxy and weir take turns\n\
         - other processes used {:.0} % of the cores before the run began\n\
         - memcached `-t 2 -m 1024 -c 20000 -b 16384 -U 0`; twemproxy `server_connections: 1`; weir without a file: one worker,\n  \
         ledger, limits and metrics on\n\
         - {} keys of the size of post URIs, values of 100 bytes; every value is checked, a run with a wrong, missing or\n  \
         failed answer does not count\n\
         - quiet GETs are an open loop: a request counts from when it fell due, also when an earlier one is late\n",
        results.rounds,
        results.seconds,
        results.others * 100.0,
        thousands(u64::from(crate::scenario::KEYS)),
    )?;
    page.push_str(&claims(results).markdown());
    let missed = missed(results);
    if missed > 0 {
        writeln!(page, "\n{missed} targets are missed in this run; they are marked.")?;
    }
    for skipped in &results.skipped {
        writeln!(page, "\nNot measured: {skipped}")?;
    }
    page.push_str("\n## Also measured\n\n");
    page.push_str(&others(results).markdown());
    page.push_str(
        "\nAgain, or one case only:\n\n```\ncargo xtask bench memcached\n\
         cargo xtask bench memcached --quick --only multiget-15000\n```\n",
    );
    Ok(page)
}

/// What a program calls its version, on one line.
pub(super) fn version(program: &str, argument: &str) -> String {
    let Some(path) = which(program) else { return "not installed".into() };
    let done = process::run(program, std::process::Command::new(path).arg(argument), Duration::from_secs(10));
    let said = done.map(|done| format!("{}{}", done.stdout, done.stderr)).unwrap_or_default();
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim();
    line.trim_start_matches("This is ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cases::CASES;
    use super::super::measure::Numbers;
    use super::*;

    fn results(weir_throughput: f64) -> Results {
        let numbers =
            |throughput| Numbers::from([(Measure::Throughput, throughput), (Measure::TotalCpu, 10.0)]);
        let case = CASES.iter().find(|case| case.id == "get-16x1").unwrap();
        let measured = BTreeMap::from([
            (Contender::Direct, numbers(100.0)),
            (Contender::Weir, numbers(weir_throughput)),
        ]);
        Results { cases: vec![(case, measured)], ..Results::default() }
    }

    #[test]
    fn a_missed_target_is_marked() {
        assert_eq!(missed(&results(80.0)), 0);
        let bad = results(60.0);
        assert_eq!(missed(&bad), 1);
        assert!(markdown(&bad).unwrap().contains("**MISSED**"));
        assert!(text(&bad).contains("60/s (0.60 x)"));
    }

    #[test]
    fn a_burst_must_not_fail_nor_leave_ports_waiting() {
        let burst = |failed, time_wait| Burst { failed, time_wait, seconds: 1.0 };
        let mut results = Results::default();
        results.burst_tcp.insert(Contender::Weir, burst(0, 0));
        assert_eq!(missed(&results), 0);
        results.burst_tcp.insert(Contender::Weir, burst(0, 3));
        assert_eq!(missed(&results), 1);
    }
}
