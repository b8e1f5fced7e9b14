//! The end of the story: both acts next to each other, what each caller came to, and the worst request from end to end.

use super::act::{ActReport, PORTS};
use super::phase::PhaseReport;
use super::words::Words;
use crate::demo::stage::milliseconds;
use crate::demo::table::busy_note;
use crate::report::{Table, thousands};

/// A number of a phase as one cell.
type Cell = fn(&PhaseReport) -> String;

const NEIGHBOUR: &[(&str, Cell)] = &[
    ("appview's calls that failed", |phase| of(phase.calls_failed, phase.calls)),
    ("appview's pages that failed", |phase| of(phase.pages_failed, phase.pages)),
    ("appview's wait for an answer or an error, p50 / p99", |phase| {
        format!("{} / {}", milliseconds(phase.p50_us), milliseconds(phase.p99_us))
    }),
];

const STORM: &[(&str, Cell)] = &[
    ("feed-backfill's requests that were answered", answered),
    ("its answered requests, p50", |phase| {
        phase
            .storm
            .as_ref()
            .filter(|storm| storm.answered > 0)
            .map_or("-".into(), |storm| milliseconds(storm.p50_us))
    }),
    ("its URIs that were answered", |phase| {
        phase.storm.as_ref().map_or("-".into(), |storm| thousands(storm.keys_answered))
    }),
];

const MACHINE: &[(&str, Cell)] = &[
    ("connections to memcached that could not be made", |phase| thousands(phase.failed_dials)),
    ("connections to memcached at once, at most", |phase| thousands(phase.cache_connections as u64)),
    ("local ports in TIME_WAIT, at most", |phase| thousands(phase.time_wait as u64)),
    ("lines of the data plane's log", |phase| thousands(phase.log_lines)),
    ("the data plane's memory, at most", |phase| mib(phase.plane_memory)),
    ("times the data plane ended, and did not start", |phase| {
        format!("{}, {}", thousands(phase.ended), thousands(phase.failed_starts))
    }),
    ("weir's memory, now and at most", |phase| {
        phase.weir_memory.map_or("-".into(), |(now, most)| format!("{}, {}", mib(now), mib(most)))
    }),
];

/// What is printed at the end. Without the first act where no namespace may be had.
pub fn ending(without: Option<&ActReport>, with: &ActReport) -> String {
    let busy = without.map_or(0.0, |act| act.others).max(with.others);
    let words = with.words.as_ref().map_or_else(String::new, told);
    let stage = format!("Storage: {}; {}; {}.", with.storage, ports(), crate::proc::machine());
    format!("\n{stage}\n\n{}{}{words}", side_by_side(without, with), busy_note(busy))
}

fn ports() -> String {
    format!("{} local ports in each namespace", thousands(u64::from(PORTS.1 - PORTS.0 + 1)))
}

fn side_by_side(without: Option<&ActReport>, with: &ActReport) -> String {
    let mut table = Table::new(["", "unbounded, without weir", "bounded, weir on every leg"]);
    let mut section = |title: &str, lines: &[&[(&str, Cell)]], phase: fn(&ActReport) -> &PhaseReport| {
        table.row([title, "", ""]);
        for (name, cell) in lines.iter().copied().flatten() {
            let left = without.map_or("not told".to_owned(), |act| cell(phase(act)));
            table.row([format!("  {name}"), left, cell(phase(with))]);
        }
    };
    section("an ordinary day", &[NEIGHBOUR], |act| &act.ordinary);
    section("fewer than 3 requests a second of 15-20 thousand URIs", &[NEIGHBOUR, STORM, MACHINE], |act| {
        &act.storm
    });
    table.text()
}

fn answered(phase: &PhaseReport) -> String {
    let Some(storm) = &phase.storm else { return "-".into() };
    let held_back = match storm.held_back {
        0 => String::new(),
        count => format!(" ({} waited too long to be sent)", thousands(count)),
    };
    format!("{}{held_back}", of(storm.answered, storm.due))
}

/// weir's words.
fn told(words: &Words) -> String {
    let culprit = &words.culprit;
    format!(
        "\n{}\nThe worst request from end to end (`weir request {}`):\n\n{}\n\
         Who it was (`weir explain {}`):\n\n  {}\n  to cap it:  {}\n",
        by_caller(words),
        words.worst_id,
        indented(&words.worst),
        culprit.caller,
        culprit.summary,
        culprit.command,
    )
}

/// A column for the database where its statements say which request they are for; otherwise its sum.
fn by_caller(words: &Words) -> String {
    let tied = words.database.by_request;
    let mut columns = vec!["caller", "calls", "keys asked", "operations on memcached", "not found"];
    columns.extend(tied.then_some("operations on the database"));
    let mut table = Table::new(columns);
    for caller in &words.callers {
        let mut numbers = vec![caller.requests, caller.keys, caller.cache_operations, caller.cache_misses];
        numbers.extend(tied.then_some(caller.database_operations));
        let row = std::iter::once(caller.name.clone()).chain(numbers.into_iter().map(thousands));
        table.row(row.collect::<Vec<_>>());
    }
    let database = thousands(words.database.operations);
    let database = match tied {
        true => format!("The database did {database} operations in all."),
        false => format!("The database did {database} operations, of which none said for which request."),
    };
    format!("Operations by caller, both phases (`weir request`):\n\n{}\n{database}\n", table.text())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn of(part: u64, all: u64) -> String {
    format!("{} of {}", thousands(part), thousands(all))
}

fn mib(kib: u64) -> String {
    format!("{:.0} MiB", kib as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::super::phase::StormReport;
    use super::super::words::Caller;
    use super::*;

    fn act(p99_us: f64, answered: u64) -> ActReport {
        let storm = StormReport { due: 30, held_back: 3, answered, p50_us: 2e6, ..StormReport::default() };
        let storm =
            PhaseReport { p99_us, failed_dials: 12_345, storm: Some(storm), ..PhaseReport::default() };
        ActReport { storm, ..ActReport::default() }
    }

    #[test]
    fn both_acts_stand_next_to_each_other() {
        let text = ending(Some(&act(9e6, 0)), &act(4_000.0, 27));
        let line = |name: &str| text.lines().rfind(|line| line.contains(name)).unwrap_or_default().to_owned();
        let latency = line("appview's wait");
        assert!(latency.contains("9000 ms") && latency.contains("4.00 ms"), "{latency}");
        let answered = line("requests that were answered");
        assert!(answered.contains("0 of 30 (3 waited") && answered.contains("27 of 30"), "{answered}");
        assert!(line("its answered requests").contains("-  "), "no median of nothing: {text}");
        let alone = ending(None, &act(4_000.0, 27));
        assert!(alone.contains("not told"), "{alone}");
    }

    #[test]
    fn weir_names_callers_and_the_worst_request() {
        let caller = Caller { name: "feed-backfill".into(), keys: 500_000, ..Caller::default() };
        let mut words =
            Words { callers: vec![caller], worst: "request abc\n  RPC x\n".into(), ..Words::default() };
        let told = |words: &Words| ending(None, &ActReport { words: Some(words.clone()), ..act(1.0, 1) });
        let text = told(&words);
        assert!(text.contains("  feed-backfill") && text.contains("500,000"), "{text}");
        assert!(text.contains("  request abc\n    RPC x\n"), "{text}");
        assert!(
            text.contains("none said for which") && !text.contains("operations on the database"),
            "{text}"
        );
        words.database.by_request = true;
        let text = told(&words);
        assert!(
            !text.contains("none said for which") && text.contains("operations on the database"),
            "{text}"
        );
    }
}
