//! The end of the story: both sides next to each other, and the line that on-call would have wanted.

use super::side::SideReport;
use super::stage::{CULPRIT, StageReport, milliseconds};
use super::witness::Testimony;
use crate::report::{Table, thousands};

/// A number of a phase as one cell.
type Cell = fn(&StageReport) -> String;

const NEIGHBOURS: (&str, Cell) = ("neighbours' gets, p50 / p99", latency);
const NEIGHBOURS_FAILED: (&str, Cell) = ("neighbours' requests that failed", neighbours_failed);

const CONNECTIONS: &[(&str, Cell)] = &[
    ("the storm's own calls that failed", storm_failed),
    ("connections a restarting service could not open", restart_failed),
    NEIGHBOURS_FAILED,
    NEIGHBOURS,
    ("connections to the backend, at most", backend_connections),
    ("local ports in TIME_WAIT, at most / at the end", time_wait),
];

const MULTIGET: &[(&str, Cell)] = &[
    ("the storm's own requests that failed", storm_failed),
    NEIGHBOURS_FAILED,
    NEIGHBOURS,
    ("connections to the backend, at most", backend_connections),
];

/// What the kernel's witness adds to a storm.
const WITNESS: &[(&str, Cell)] = &[
    ("weir-probes: who goes past weir, named after", named),
    ("weir-probes: failed binds and connects", kernel_failures),
    ("weir-probes: new TIME_WAIT towards the backend", kernel_time_wait),
];

/// Other programs took so much of the machine that latencies say little.
const BUSY: f64 = 0.1;

/// What is printed at the end: the table, what makes it doubtful, and the line for on-call.
pub fn ending(without: &SideReport, with: &SideReport) -> String {
    let note = busy_note(without.others.max(with.others));
    format!("{}{}{note}{}", side_by_side(without, with), spared(without, with), on_call(with))
}

/// Said when other programs took so much of the machine that latencies are doubtful.
pub fn busy_note(busy: f64) -> String {
    if busy <= BUSY {
        return String::new();
    }
    format!(
        "\nnote: other programs took {:.0} % of this machine's processor time meanwhile, so the latencies are partly \
         theirs:\n      run it again on a quiet machine to compare them.\n",
        busy * 100.0
    )
}

/// Why the neighbours look unharmed where there are no ports left.
fn spared(without: &SideReport, with: &SideReport) -> String {
    match (&without.connections, &with.connections) {
        (Some(stage), Some(served)) if stage.storm_failed * 2 > stage.storm_all => format!(
            "\nWithout weir {:.0} % of the second storm never reached the backend: no local port was left. That spares the\n\
             neighbours, whose connections were open before; whoever has to open one is out. With weir the same storm is\n\
             served: {} of its calls failed.\n",
            stage.storm_failed as f64 / stage.storm_all as f64 * 100.0,
            of(served.storm_failed, served.storm_all),
        ),
        _ => String::new(),
    }
}

/// The table.
fn side_by_side(without: &SideReport, with: &SideReport) -> String {
    let mut table = Table::new(["", "without weir", "with weir"]);
    let mut section = |title: &str, lines: &[(&str, Cell)], left: &StageReport, right: &StageReport| {
        table.row([title, "", ""]);
        for (name, cell) in lines {
            table.row([format!("  {name}"), cell(left), cell(right)]);
        }
        let watched = left.testimony.is_some() && title.starts_with("storm");
        for (name, cell) in WITNESS.iter().filter(|_| watched) {
            table.row([format!("  {name}"), cell(left), cell(right)]);
        }
    };
    section("ordinary load", &[NEIGHBOURS, NEIGHBOURS_FAILED], &without.ordinary, &with.ordinary);
    section("storm: 15-20 thousand keys in one get, 2.5/s", MULTIGET, &without.multiget, &with.multiget);
    if let (Some(left), Some(right)) = (&without.connections, &with.connections) {
        section("storm: a connection per key, 2,000 local ports", CONNECTIONS, left, right);
    }
    let last = |side: &SideReport| side.connections.clone().unwrap_or_else(|| side.multiget.clone());
    let (left, right) = (last(without), last(with));
    table.row(["memory", "", ""]);
    table.row([
        format!("  {}, at most", with.backend),
        mib(left.backend_memory.1),
        mib(right.backend_memory.1),
    ]);
    if let (Some(idle), Some((now, peak))) = (with.weir_idle, right.weir_memory) {
        table.row([
            "  weir: idle, at most, after".to_owned(),
            "-".to_owned(),
            format!("{}, {}, {}", mib(idle), mib(peak), mib(now)),
        ]);
    }
    format!("\n{}", table.text())
}

fn latency(stage: &StageReport) -> String {
    format!("{} / {}", milliseconds(stage.p50_us), milliseconds(stage.p99_us))
}

fn of(part: u64, all: u64) -> String {
    format!("{} of {}", thousands(part), thousands(all))
}

fn neighbours_failed(stage: &StageReport) -> String {
    of(stage.neighbours_failed, stage.neighbours_all)
}

fn storm_failed(stage: &StageReport) -> String {
    of(stage.storm_failed, stage.storm_all)
}

fn restart_failed(stage: &StageReport) -> String {
    stage.restart_failed.map_or("-".into(), |failed| of(failed, stage.restart_all))
}

fn backend_connections(stage: &StageReport) -> String {
    thousands(stage.backend_connections as u64)
}

fn time_wait(stage: &StageReport) -> String {
    format!("{} / {}", thousands(stage.time_wait as u64), thousands(stage.time_wait_after as u64))
}

fn named(stage: &StageReport) -> String {
    match &stage.testimony {
        Some(Testimony { named: Some((after, _)), .. }) => format!("{CULPRIT}, {after:.1} s"),
        Some(Testimony { past_weir: Some(0), .. }) => "nobody".into(),
        Some(Testimony { past_weir: Some(_), .. }) => "not named".into(),
        _ => "?".into(),
    }
}

fn kernel_failures(stage: &StageReport) -> String {
    known(stage.testimony.as_ref().and_then(|testimony| testimony.failures))
}

fn kernel_time_wait(stage: &StageReport) -> String {
    known(stage.testimony.as_ref().and_then(|testimony| testimony.time_wait))
}

fn known(number: Option<u64>) -> String {
    number.map_or("?".into(), thousands)
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}

/// Who, which method, how many keys, since when, what weir did, the command, and what the command did. The sentence and
/// the command are weir's own (`weir explain`).
fn on_call(with: &SideReport) -> String {
    let Some(culprit) = &with.culprit else { return String::new() };
    let mut text = format!("\nThe line on-call would have wanted (`weir explain {}`):\n\n", culprit.caller);
    text.push_str(&format!("  {}\n", culprit.summary));
    text.push_str(&format!(
        "  {:.0} % of the work with {:.2} % of the requests; weir cut {} keys into {} pieces and let others go first\n",
        culprit.work_share * 100.0,
        culprit.request_share * 100.0,
        thousands(culprit.operations),
        thousands(culprit.pieces),
    ));
    text.push_str(&format!("  to cap it:  {}\n", culprit.command));
    if let Some(capped) = &with.capped {
        let error = capped.storm_error.as_ref().map_or(String::new(), |error| format!("  {error}\n"));
        // Names of processes arrive a moment after their connections, and nobody waits for them.
        let early = if capped.storm_failed < capped.storm_all {
            " (the rest came on a connection whose process was not known yet)"
        } else {
            ""
        };
        text.push_str(&format!(
            "\nAfter that command {} of the storm's requests were refused{early}:\n{error}\
             Of the neighbours' requests {} failed, p50 / p99 {}.\n",
            of(capped.storm_failed, capped.storm_all),
            of(capped.neighbours_failed, capped.neighbours_all),
            latency(capped),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::culprit::Culprit;
    use super::*;

    fn stage(p99_us: f64, failed: u64) -> StageReport {
        StageReport { p50_us: 100.0, p99_us, storm_failed: failed, storm_all: 20, ..StageReport::default() }
    }

    #[test]
    fn both_sides_stand_next_to_each_other() {
        let without = SideReport { multiget: stage(12_000.0, 0), ..SideReport::default() };
        let with = SideReport { multiget: stage(400.0, 0), ..SideReport::default() };
        let text = side_by_side(&without, &with);
        assert!(
            text.lines().any(|line| line.contains("0.10 ms / 12 ms") && line.contains("0.10 ms / 0.40 ms")),
            "{text}"
        );
        assert!(!text.contains("a connection per key"), "skipped where there is no namespace");
    }

    #[test]
    fn what_the_witness_saw_stands_under_the_storm() {
        let seen = |named: Option<f64>, past_weir, failures, time_wait| {
            let testimony = Testimony {
                named: named.map(|after| (after, String::new())),
                past_weir,
                failures,
                time_wait,
                ..Testimony::default()
            };
            let multiget = StageReport { testimony: Some(testimony), ..stage(400.0, 0) };
            SideReport { multiget, ..SideReport::default() }
        };
        let text = side_by_side(
            &seen(Some(1.84), Some(3), Some(52_419), Some(2_000)),
            &seen(None, Some(0), Some(0), Some(0)),
        );
        for cells in [["feed-backfill, 1.8 s", "nobody"], ["52,419", "0"], ["2,000", "0"]] {
            let fits =
                |line: &str| line.contains("weir-probes") && cells.iter().all(|cell| line.contains(cell));
            assert!(text.lines().any(fits), "{cells:?} in\n{text}");
        }
        let blind = side_by_side(&seen(None, None, None, None), &seen(None, None, None, None));
        assert_eq!(blind.matches('?').count(), 6, "unknown is never 0:\n{blind}");
        assert!(!side_by_side(&SideReport::default(), &SideReport::default()).contains("weir-probes"));
    }

    #[test]
    fn what_makes_the_table_doubtful_is_said() {
        let without = SideReport { connections: Some(stage(100.0, 19)), ..SideReport::default() };
        let quiet =
            ending(&without, &SideReport { connections: Some(stage(100.0, 0)), ..SideReport::default() });
        assert!(
            quiet.contains("Without weir 95 % of the second storm") && quiet.contains("served: 0 of 20 of"),
            "{quiet}"
        );
        assert!(!quiet.contains("note:"), "{quiet}");
        let busy = ending(&SideReport::default(), &SideReport { others: 0.4, ..SideReport::default() });
        assert!(busy.contains("other programs took 40 %") && !busy.contains("second storm"), "{busy}");
    }

    #[test]
    fn on_call_reads_who_and_how_many_and_what_to_do() {
        let culprit = Culprit {
            caller: "feed-backfill".into(),
            summary: "feed-backfill asks for 19,912 keys in one get".into(),
            operations: 19_912,
            pieces: 156,
            command: "weir limits set feed-backfill --operations-per-request 1000 --mode refuse --for 1h"
                .into(),
            ..Culprit::default()
        };
        let with =
            SideReport { culprit: Some(culprit), capped: Some(stage(300.0, 20)), ..SideReport::default() };
        let text = on_call(&with);
        for wanted in ["feed-backfill asks for 19,912 keys in one get", "156 pieces", "20 of 20", "--for 1h"]
        {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
    }
}
