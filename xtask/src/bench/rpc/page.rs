//! The results as tables: for the terminal, and as `docs/benchmarks-rpc.md`. No date, so that a run that changes nothing
//! changes nothing; a missed target is marked, not left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::Results;
use super::around::{Connections, MemoryUse};
use super::cases::{Contender, Measure};
use super::rig::{KEY_MICROS, WORKERS};
use crate::bench::frame::Quantity as _;
use crate::bench::rows::{Row, Rows};
use crate::proc;
use crate::report::thousands;

/// weir's default (docs/configuration.md).
const CONNECTIONS: usize = 2;

/// Memory above idle, as so many times the larger message.
const MEMORY_MAX: f64 = 3.0;

/// All rows of a run.
pub fn rows(results: &Results) -> Rows {
    let mut rows = Vec::new();
    for (case, numbers) in &results.cases {
        for measure in Measure::ALL {
            let value = |contender: Contender| numbers.get(&contender)?.get(&measure).copied();
            let Some(weir) = value(Contender::Weir) else { continue };
            let targets: Vec<_> =
                case.targets.iter().filter(|(of, _)| *of == measure).map(|(_, target)| *target).collect();
            // The cost of a proxy has no counterpart without one.
            let beside = targets.first().map_or(Contender::Direct, |target| target.of);
            let beside = if measure == Measure::ProxyCpu { Contender::Pingora } else { beside };
            let shown = |contender: Contender| match (value(contender), value(beside)) {
                (None, _) => "-".to_owned(),
                (Some(value), Some(base)) if contender != beside && base > 0.0 => {
                    format!("{} ({} x)", measure.show(value), ratio_text(value / base))
                }
                (Some(value), _) => measure.show(value),
            };
            let met = targets.iter().all(|target| target.met(value(target.of), weir));
            rows.push(Row {
                case: case.title.into(),
                measure: measure.name().into(),
                cells: Contender::ALL.map(shown).into(),
                target: targets.iter().map(|target| target.show()).collect::<Vec<_>>().join("; "),
                met: (!targets.is_empty()).then_some(met),
            });
        }
    }
    rows.extend(special(
        &results.connections,
        "1 client; 64 calls at once on 1 connection; 200 clients",
        "connections to the service",
        format!("{CONNECTIONS}; {CONNECTIONS}; {CONNECTIONS}"),
        |Connections { one, at_once, clients }| format!("{one}; {at_once}; {clients}"),
        |seen| [seen.one, seen.at_once, seen.clients] == [CONNECTIONS; 3],
    ));
    rows.extend(special(
        &results.memory,
        &largest(&results.memory),
        "RSS above idle at the peak",
        format!("<= {MEMORY_MAX} x the larger message"),
        |memory: &MemoryUse| {
            let above = memory.peak.saturating_sub(memory.idle) as f64 / 1_024.0;
            format!("{above:.1} MiB ({:.2} x)", memory.times())
        },
        |memory| memory.times() <= MEMORY_MAX,
    ));
    Rows { contenders: Contender::ALL.map(Contender::name).into(), rows }
}

/// What the memory was measured with.
fn largest(memory: &BTreeMap<Contender, MemoryUse>) -> String {
    let message = memory.values().next();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let (request, reply) = message.map_or((0, 0), |memory| (memory.request, memory.reply));
    format!("calls of 70,000 keys ({:.1} MB, reply {:.1} MB), one at a time", mb(request), mb(reply))
}

/// A row whose numbers have a shape of their own; none when weir was not measured.
fn special<T>(
    measured: &BTreeMap<Contender, T>,
    case: &str,
    measure: &str,
    target: String,
    show: impl Fn(&T) -> String,
    met: impl Fn(&T) -> bool,
) -> Option<Row> {
    let weir = measured.get(&Contender::Weir)?;
    let text = |contender| measured.get(&contender).map_or("-".into(), &show);
    Some(Row {
        case: case.into(),
        measure: measure.into(),
        cells: Contender::ALL.map(text).into(),
        target,
        met: Some(met(weir)),
    })
}

/// Two digits that mean something, also for a hundredth.
fn ratio_text(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

/// For `docs/benchmarks-rpc.md`.
pub fn markdown(results: &Results) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks: RPC\n\n\
         Written by `cargo xtask bench rpc`; the numbers are of one run on one machine. Read the ratios: load generator, proxy\n\
         and service share the cores, so absolute rates say more about the machine than about weir.\n\n",
    );
    writeln!(page, "- machine: {}", proc::machine())?;
    writeln!(
        page,
        "- calls: `bsky.Service/GetPostRecords` over {} keys of 70 bytes, records of 106 bytes, without compression; every record is\n  \
         checked, a run with a wrong, missing or failed answer does not count (`weir-scenario rpc-load`)\n\
         - pingora: `weir-passthrough`, pingora-proxy with nothing but the upstream, one thread, HTTP/2 to the service, windows and\n  \
         streams as weir has them; weir: one thread, preset `bsky`, ledger, limits, names and metrics on, no limit reached\n\
         - the service: tonic, one thread (`weir-scenario rpc-service`). *Work per key*: {KEY_MICROS} us for each key of a call, one after\n  \
         the other and without processor time, {WORKERS} calls at once, the rest in turn; a service that works on a call's keys in\n  \
         parallel would gain less\n\
         - best of {} rounds of {} s each; in every round all of them take turns; large calls and neighbours get twice the\n  \
         time, connections and memory are measured once\n\
         - other processes used {:.0} % of the cores before the run began and {:.0} % during it",
        thousands(u64::from(crate::scenario::KEYS)),
        results.rounds,
        results.seconds,
        results.others_before * 100.0,
        results.others * 100.0,
    )?;
    if results.others.max(results.others_before) > crate::bench::DISTURBED {
        page.push_str("- **provisional**: this was no quiet machine\n");
    }
    page.push('\n');
    page.push_str(&rows(results).markdown());
    page.push_str(
        "\nAgain, or one case only:\n\n```\ncargo xtask bench rpc\ncargo xtask bench rpc --quick --only grpc-1x64\n```\n",
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::rig::Numbers;
    use super::*;

    fn results(id: &str, measure: Measure, weir: f64) -> Results {
        let case = CASES.iter().find(|case| case.id == id).unwrap();
        let of = |value| Numbers::from([(measure, value)]);
        let measured = BTreeMap::from([
            (Contender::Direct, of(50.0)),
            (Contender::Pingora, of(100.0)),
            (Contender::Weir, of(weir)),
        ]);
        Results { cases: vec![(case, measured)], ..Results::default() }
    }

    #[test]
    fn a_missed_target_is_marked_and_measured_against_whom_it_names() {
        assert_eq!(rows(&results("grpc-1x1", Measure::P50, 110.0)).missed(), 0);
        let bad = results("grpc-1x1", Measure::P50, 120.0);
        assert_eq!(rows(&bad).missed(), 1);
        let page = markdown(&bad).unwrap();
        assert!(page.contains("| 100 us | - | 120 us (1.20 x) | <= 1.1 x pingora | **MISSED** |"), "{page}");
        let large = results("large", Measure::P50, 40.0);
        assert_eq!(rows(&large).missed(), 0);
        let page = markdown(&large).unwrap();
        assert!(
            page.contains("| 50 us | 100 us (2.00 x) | - | 40 us (0.80 x) | <= 0.8 x direct | MET |"),
            "{page}"
        );
    }

    #[test]
    fn connections_are_fixed_and_memory_is_bounded() {
        let mut results = Results::default();
        let seen = |clients| Connections { one: 2, at_once: 2, clients };
        results.connections.insert(Contender::Weir, seen(2));
        let memory = |peak| MemoryUse { idle: 10_000, peak, request: 1_024, reply: 1_024_000 };
        results.memory.insert(Contender::Weir, memory(13_000));
        assert_eq!(rows(&results).missed(), 0);
        results.connections.insert(Contender::Weir, seen(3));
        results.memory.insert(Contender::Weir, memory(13_100));
        assert_eq!(rows(&results).missed(), 2);
    }
}
