//! The results as tables: for the terminal, and as `docs/benchmarks-dataplane.md`. No date, so that a run that changes
//! nothing changes nothing; a missed target is marked, not left out.

use std::fmt::Write;

use anyhow::Result;

use super::Results;
use super::around::{Memory, MemoryUse};
use super::cases::{Contender, Measure};
use super::rig::{BATCH, BATCH_PAUSE, NEIGHBOUR_KEYS, NEIGHBOUR_PAUSE, NEIGHBOURS};
use super::stage::THREADS;
use crate::bench::frame::Quantity as _;
use crate::bench::rows::{Row, Rows};
use crate::proc;
use crate::report::thousands;

/// All rows of a run.
pub fn rows(results: &Results) -> Rows {
    let mut rows = Vec::new();
    for (case, numbers) in &results.cases {
        for measure in Measure::ALL {
            let value = |contender: Contender| numbers.get(&contender)?.get(&measure).copied();
            if value(Contender::Weir).is_none() {
                continue;
            }
            let shown = |contender: Contender| match (value(contender), value(Contender::Direct)) {
                (None, _) => "-".to_owned(),
                (Some(value), Some(base))
                    if contender != Contender::Direct && base > 0.0 && measure != Measure::Stretch =>
                {
                    format!("{} ({:.2} x)", measure.show(value), value / base)
                }
                (Some(value), _) => measure.show(value),
            };
            let targets: Vec<_> =
                case.targets.iter().filter(|(of, _)| *of == measure).map(|(_, target)| *target).collect();
            let met = targets.iter().all(|target| target.met(value(target.of)));
            rows.push(Row {
                case: case.title.into(),
                measure: measure.name().into(),
                cells: Contender::ALL.map(shown).into(),
                target: targets.iter().map(|target| target.show(measure)).collect::<Vec<_>>().join("; "),
                met: (!targets.is_empty()).then_some(met),
            });
        }
    }
    rows.extend(memory_row(results, "memory of the data plane: idle, peak", |memory| Some(memory.plane)));
    rows.extend(memory_row(results, "memory of weir: idle, peak", |memory| memory.weir));
    Rows { contenders: Contender::ALL.map(Contender::name).into(), rows }
}

/// Memory of a process of every way; none when it was not measured.
fn memory_row(results: &Results, measure: &str, of: impl Fn(&Memory) -> Option<MemoryUse>) -> Option<Row> {
    results.memory.get(&Contender::Weir)?;
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1_024.0);
    let cell = |contender: Contender| {
        let used = results.memory.get(&contender).and_then(&of);
        used.map_or("-".into(), |used| format!("{}, {}", mib(used.idle), mib(used.peak)))
    };
    Some(Row {
        case: format!("{} URIs, cold, one call at a time", thousands(u64::from(BATCH))),
        measure: measure.into(),
        cells: Contender::ALL.map(cell).into(),
        target: String::new(),
        met: None,
    })
}

/// For `docs/benchmarks-dataplane.md`.
pub fn markdown(results: &Results) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks: the data plane\n\n\
         Written by `cargo xtask bench dataplane`; the numbers are of one run on one machine. Read the ratios: load generator, weir,\n\
         data plane, memcached and Cassandra share the cores, so absolute times say more about the machine than about weir.\n\n",
    );
    writeln!(page, "- machine: {}", proc::machine())?;
    writeln!(
        page,
        "- calls: `bsky.Service/GetPostRecords` over gRPC, one at a time, for some of {} posts of a world that `weir-dataplane seed`\n  \
         made; of every record the name of its content is checked, a run with a wrong, missing or failed answer does not count\n  \
         (`weir-scenario rpc-load --posts`)\n\
         - the data plane: `weir-dataplane serve`, {THREADS} threads, defaults but for the TTL; memcached, and one node of Apache\n  \
         Cassandra {} with 512 MB of heap, on the same machine. *weir behind*: its storage is weir's listeners; *in front and behind*: and clients call the same weir\n  \
         (preset `bsky`, ledger, limits, names, request ids and metrics on, no limit reached)\n\
         - *warm*: memcached has every record (99 % of the reads were answered by it, or the run does not count); *cold*: the records of a\n  \
         call are deleted from memcached before it (at the most 5 % were there). CPU of storage includes those deletes\n\
         - commands and statements are those of the data plane, as it counts them; without weir behind they are what storage gets\n\
         - the April batches: {} URIs, cold, one call and then {BATCH_PAUSE} ms of rest; beside them {NEIGHBOURS} clients call for {NEIGHBOUR_KEYS} of {} other posts,\n  \
         {NEIGHBOUR_PAUSE} ms after each answer. The database is another machine's in life: it and the batches' client have half of\n  \
         the cores, and neighbours, weir, data plane and memcached the other half, but where it says that all are on the same.\n  \
         memcached and the neighbours' client have machines of their own in life, too: the kernel runs them as soon as they have work\n  \
         (`SCHED_RR`), so that what is told is the wait for the data plane and weir\n\
         - best of {} rounds of {} s each; in every round all ways take turns; large calls and neighbours get twice the time, memory\n  \
         is measured once\n\
         - other processes used {:.0} % of the cores before the run began and {:.0} % during it",
        thousands(results.posts.1 as u64),
        crate::cassandra::VERSION,
        thousands(u64::from(BATCH)),
        thousands(results.posts.0 as u64),
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
        "\nAgain, or one case only:\n\n```\ncargo xtask bench dataplane\ncargo xtask bench dataplane --quick --only cold-20000\n```\n",
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::rig::Numbers;
    use super::*;
    use std::collections::BTreeMap;

    fn results(id: &str, measure: Measure, values: [f64; 3]) -> Results {
        let case = CASES.iter().find(|case| case.id == id).unwrap();
        let measured: BTreeMap<_, _> = Contender::ALL
            .into_iter()
            .zip(values)
            .map(|(contender, value)| (contender, Numbers::from([(measure, value)])))
            .collect();
        Results { cases: vec![(case, measured)], ..Results::default() }
    }

    #[test]
    fn a_neighbour_has_to_be_spared_without_weir_and_with_it() {
        assert_eq!(rows(&results("neighbour", Measure::Stretch, [1.5, 9.0, 2.0])).missed(), 0);
        assert_eq!(rows(&results("neighbour", Measure::Stretch, [2.1, 1.0, 1.0])).missed(), 1);
        let bad = results("neighbour", Measure::Stretch, [1.0, 1.0, 2.5]);
        assert_eq!(rows(&bad).missed(), 1);
        let page = markdown(&bad).unwrap();
        let claimed = "| 1.00 x | 1.00 x | 2.50 x | no weir: <= 2.00 x; weir in front and behind: <= 2.00 x | **MISSED** |";
        assert!(page.contains(claimed), "{page}");
    }

    #[test]
    fn times_are_beside_those_without_weir_and_claim_nothing() {
        let times = results("cold-20", Measure::P50, [100.0, 150.0, 200.0]);
        assert_eq!(rows(&times).missed(), 0);
        let page = markdown(&times).unwrap();
        assert!(
            page.contains("| 20 URIs, cold | p50 | 100 us | 150 us (1.50 x) | 200 us (2.00 x) |"),
            "{page}"
        );
    }

    #[test]
    fn memory_is_shown_for_every_process_there_is() {
        let mut results = Results::default();
        let plane = MemoryUse { idle: 10_240, peak: 20_480 };
        results.memory.insert(Contender::Direct, Memory { plane, weir: None });
        results.memory.insert(Contender::Weir, Memory { plane, weir: Some(plane) });
        let page = markdown(&results).unwrap();
        assert!(page.contains("| 10.0 MiB, 20.0 MiB | - | 10.0 MiB, 20.0 MiB |"), "{page}");
        assert!(page.contains("| memory of weir: idle, peak | - | - | 10.0 MiB, 20.0 MiB |"), "{page}");
    }
}
