//! The results as tables: for the terminal, and as `docs/benchmarks-cql.md`. No date, so that a run that changes nothing
//! changes nothing; a missed target is marked, not left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use super::Results;
use super::around::{CLIENTS, MemoryUse, Recovery, Sockets};
use super::cases::{Contender, Measure, Target};
use crate::proc;
use crate::report::Table;

const MET: &str = "yes";
const MISSED: &str = "**MISSED**";

/// One lane and one control connection beside the connections of a node.
const SOCKETS_MAX: usize = CONNECTIONS_PER_NODE + 2;

/// weir's default (docs/configuration.md).
const CONNECTIONS_PER_NODE: usize = 1;

/// Idle, peak, 10 s after, MiB.
const MEMORY_MAX: [u64; 3] = [15, 100, 25];

/// Seconds after the node is ready.
const RECOVERY_MAX: f64 = 1.0;

/// One line of a table.
struct Row {
    case: String,
    measure: String,
    /// One for each of [`contenders`].
    cells: Vec<String>,
    target: String,
    /// `None` when nothing is claimed.
    met: Option<&'static str>,
}

/// Who has a column: peers only when they were measured.
fn contenders(results: &Results) -> Vec<Contender> {
    let measured = |contender: &Contender| {
        results.cases.iter().any(|(_, numbers)| numbers.contains_key(contender))
            || results.sockets.contains_key(contender)
            || results.memory.contains_key(contender)
            || results.restart.contains_key(contender)
    };
    Contender::ALL.into_iter().filter(|contender| !contender.is_peer() || measured(contender)).collect()
}

fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let contenders = contenders(results);
    for (case, numbers) in &results.cases {
        for measure in Measure::ALL {
            let value = |contender: Contender| numbers.get(&contender)?.get(&measure).copied();
            let Some(weir) = value(Contender::Weir) else { continue };
            let direct = value(Contender::Direct);
            let shown = |contender: Contender| match (value(contender), direct) {
                (None, _) => "-".to_owned(),
                (Some(value), Some(direct)) if contender != Contender::Direct && direct > 0.0 => {
                    format!("{} ({:.2} x)", measure.show(value), value / direct)
                }
                (Some(value), _) => measure.show(value),
            };
            let targets: Vec<Target> =
                case.targets.iter().filter(|(of, _)| *of == measure).map(|(_, target)| *target).collect();
            let met = match targets.iter().all(|target| target.met(direct, weir)) {
                true => MET,
                false => MISSED,
            };
            rows.push(Row {
                case: case.title.into(),
                measure: measure.name().into(),
                cells: contenders.iter().map(|contender| shown(*contender)).collect(),
                target: targets.iter().map(|target| target.show(measure)).collect::<Vec<_>>().join("; "),
                met: (!targets.is_empty()).then_some(met),
            });
        }
    }
    rows.extend(special(
        &contenders,
        &results.sockets,
        &format!("{CLIENTS} clients: without a keyspace; with 20 keyspaces by USE"),
        "sockets to the node",
        format!("<= {SOCKETS_MAX}; <= {SOCKETS_MAX}"),
        |Sockets { plain, keyspaces }| format!("{plain}; {keyspaces}"),
        |sockets| sockets.plain.max(sockets.keyspaces) <= SOCKETS_MAX,
    ));
    let mib = |kib: u64| kib as f64 / 1024.0;
    rows.extend(special(
        &contenders,
        &results.memory,
        "4 clients of IN 15,000 through a fresh process",
        "RSS idle, peak, 10 s after",
        format!("<= {}, {}, {} MiB", MEMORY_MAX[0], MEMORY_MAX[1], MEMORY_MAX[2]),
        |memory| format!("{:.1}, {:.1}, {:.1} MiB", mib(memory.idle), mib(memory.peak), mib(memory.after)),
        |MemoryUse { idle, peak, after }| {
            [idle, peak, after].iter().zip(MEMORY_MAX).all(|(kib, most)| **kib <= most * 1024)
        },
    ));
    rows.extend(special(
        &contenders,
        &results.restart,
        "node killed and restarted",
        "first good answer after the node is ready; reconnects",
        format!("<= {RECOVERY_MAX} s; 0"),
        |Recovery { seconds, reconnects, failed }| {
            let again = if seconds.is_finite() { format!("{seconds:+.2} s") } else { "not in time".into() };
            format!("{again}; {reconnects} ({failed} failed meanwhile)")
        },
        |recovery| recovery.seconds <= RECOVERY_MAX && recovery.reconnects == 0,
    ));
    rows
}

/// A row whose numbers have a shape of their own; none when weir was not measured.
fn special<T>(
    contenders: &[Contender],
    measured: &BTreeMap<Contender, T>,
    case: &str,
    measure: &str,
    target: String,
    show: impl Fn(&T) -> String,
    met: impl Fn(&T) -> bool,
) -> Option<Row> {
    let weir = measured.get(&Contender::Weir)?;
    let text = |contender| measured.get(contender).map_or("-".into(), &show);
    Some(Row {
        case: case.into(),
        measure: measure.into(),
        cells: contenders.iter().map(text).collect(),
        target,
        met: Some(if met(weir) { MET } else { MISSED }),
    })
}

fn claims(results: &Results) -> Table {
    let mut table = Table::new(head(results, &["weir must", "met"]));
    for row in rows(results) {
        if let Some(met) = row.met {
            table.row([row.case, row.measure].into_iter().chain(row.cells).chain([row.target, met.into()]));
        }
    }
    table
}

fn others(results: &Results) -> Table {
    let mut table = Table::new(head(results, &[]));
    for row in rows(results).into_iter().filter(|row| row.met.is_none()) {
        table.row([row.case, row.measure].into_iter().chain(row.cells));
    }
    table
}

fn head(results: &Results, last: &[&'static str]) -> Vec<&'static str> {
    let names = contenders(results).into_iter().map(Contender::name);
    ["case", "measure"].into_iter().chain(names).chain(last.iter().copied()).collect()
}

/// How many claims do not hold.
pub fn missed(results: &Results) -> usize {
    rows(results).iter().filter(|row| row.met.is_some_and(|met| met != MET)).count()
}

/// For the terminal.
pub fn text(results: &Results) -> String {
    let claims = claims(results).text().replace("**", "");
    if results.cases.is_empty() {
        claims
    } else {
        format!("{claims}\nalso measured:\n{}", others(results).text())
    }
}

/// For `docs/benchmarks-cql.md`.
pub fn markdown(results: &Results) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks: CQL\n\n\
         Written by `cargo xtask bench cql`; the numbers are of one run on one machine. Read the ratios: load generator,\n\
         proxy and Cassandra share the cores, so absolute rates say more about the machine than about weir.\n\n",
    );
    writeln!(page, "- machine: {}", proc::machine())?;
    writeln!(
        page,
        "- Apache Cassandra {}, one node, heap 512 MB; 50,000 rows (key about 70 bytes, record 400 bytes, cid), all in memory\n\
         - client: `weir-scenario cql-load`, protocol v4, prepared, LOCAL_ONE, no compression; every row is checked, a run with a\n  \
         wrong, missing or failed answer does not count\n\
         - raw proxy: copies bytes, one upstream socket per client socket (`weir-scenario raw-proxy`, tokio); weir without a\n  \
         file: one worker, ledger, limits and metrics on\n\
         - best of {} rounds of {} s each; in every round all of them take turns; a neighbour and an IN get twice\n  \
         the time, sockets, memory and restart are measured once\n\
         - other processes used {:.0} % of the cores before the run began and {:.0} % during it",
        crate::cassandra::VERSION,
        results.rounds,
        results.seconds,
        results.others_before * 100.0,
        results.others * 100.0,
    )?;
    for note in &results.notes {
        writeln!(page, "- {note}")?;
    }
    if results.others.max(results.others_before) > crate::bench::DISTURBED {
        page.push_str("- **provisional**: this was no quiet machine\n");
    }
    page.push('\n');
    page.push_str(&claims(results).markdown());
    let missed = missed(results);
    if missed > 0 {
        writeln!(page, "\n{missed} targets are missed in this run; they are marked.")?;
    }
    page.push_str("\n## Also measured\n\n");
    page.push_str(&others(results).markdown());
    page.push_str(
        "\nAgain, or one case only:\n\n```\ncargo xtask bench cql\ncargo xtask bench cql --quick --only select-64x1\n```\n",
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::measure::Numbers;
    use super::*;

    fn results(id: &str, measure: Measure, weir: f64) -> Results {
        let case = CASES.iter().find(|case| case.id == id).unwrap();
        let of = |value| Numbers::from([(measure, value)]);
        let measured = BTreeMap::from([(Contender::Direct, of(100.0)), (Contender::Weir, of(weir))]);
        Results { cases: vec![(case, measured)], ..Results::default() }
    }

    #[test]
    fn a_missed_target_is_marked() {
        assert_eq!(missed(&results("select-64x1", Measure::Throughput, 85.0)), 0);
        let bad = results("select-64x1", Measure::Throughput, 84.0);
        assert_eq!(missed(&bad), 1);
        assert!(markdown(&bad).unwrap().contains("84/s (0.84 x) | >= 0.85 x direct | **MISSED** |"));
        let slow = results("in-paged", Measure::P50, 100.0);
        assert_eq!(missed(&slow), 1);
        assert!(markdown(&slow).unwrap().contains("| <= 0.28 x direct | **MISSED** |"));
    }

    #[test]
    fn peers_have_columns_only_where_they_were_measured() {
        let mut measured = results("select-1", Measure::P50, 110.0);
        assert!(!markdown(&measured).unwrap().contains("cql-proxy"));
        measured.cases[0].1.insert(Contender::CqlProxy, Numbers::from([(Measure::P50, 190.0)]));
        measured.notes.push("cql-proxy: what must be known of it".into());
        let page = markdown(&measured).unwrap();
        assert!(page.contains("| direct | raw proxy | cql-proxy | weir | weir must | met |"), "{page}");
        assert!(page.contains("| 100 us | - | 190 us (1.90 x) | 110 us (1.10 x) |"), "{page}");
        assert!(page.contains("\n- cql-proxy: what must be known of it\n"), "{page}");
    }

    #[test]
    fn an_old_connection_must_live_through_a_restart() {
        let mut results = Results::default();
        let recovery = |seconds, reconnects| Recovery { seconds, reconnects, failed: 9 };
        results.restart.insert(Contender::Weir, recovery(0.9, 0));
        assert_eq!(missed(&results), 0);
        results.restart.insert(Contender::Weir, recovery(0.9, 1));
        assert_eq!(missed(&results), 1);
    }
}
