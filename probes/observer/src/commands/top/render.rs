//! The table of `weir-probes top`, from a view.
//!
//! Destinations are sorted by the part of their local ports that is used; `LEFT` is the time until none is left. States
//! are those of outgoing sockets. `?` is what nobody could see, `-` what does not apply. Every text from outside is escaped.

use super::view::{DestinationRow, ProcessRow, View};
use crate::commands::text::{UNKNOWN, count, grouped, left, length, right};
use weir_telemetry::escape::terminal;

/// The terminal a table is for.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Rows, when the table must not be higher.
    pub height: Option<usize>,
    /// Colours.
    pub colour: bool,
}

/// Columns below which lines are cut rather than laid out anew.
const NARROWEST: usize = 80;
/// Errors shown of one destination.
const ERRORS_SHOWN: usize = 3;
/// Used ports from here on are shown in red.
const ALARMING: f64 = 0.85;

/// The table. Every line ends with a line feed.
#[must_use]
pub fn render(view: &View, look: &Look) -> String {
    let head = head(view, look);
    let processes = processes(view, look);
    let mut table = destinations(view, look);
    if let Some(height) = look.height {
        // Processes get at most half of what the head leaves.
        let rest = height.saturating_sub(head.len());
        let room = rest.saturating_sub(processes.len().min(rest / 2)).max(3);
        cut(&mut table, room);
    }
    let mut lines: Vec<String> = head.into_iter().chain(table).chain(processes).collect();
    if let Some(height) = look.height {
        lines.truncate(height);
    }
    lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn cut(table: &mut Vec<String>, room: usize) {
    if table.len() > room {
        let hidden = table.len() - (room - 1);
        table.truncate(room - 1);
        table.push(format!("... and {hidden} lines more"));
    }
}

fn head(view: &View, look: &Look) -> Vec<String> {
    let attached = view.probes.iter().filter(|probe| probe.state == "attached").count();
    let kernel = view.kernel.as_deref().unwrap_or(UNKNOWN);
    let mut lines = vec![format!(
        "weir-probes  kernel {}  seen {} ago  {attached} of {} probes attached",
        terminal(kernel),
        length(view.age_seconds),
        view.probes.len(),
    )];
    for probe in view.probes.iter().filter(|probe| !matches!(&*probe.state, "attached" | "off")) {
        let why = probe.why.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        let line = format!("{} {}{why}", probe.probe, probe.state);
        lines.push(style(look, "33", left(&line, look.width.max(NARROWEST)).trim_end()));
    }
    for probe in &view.probes {
        if let Some(lost) = probe.lost.filter(|lost| *lost > 0) {
            let line =
                format!("{} lost {} events: its numbers are too low", terminal(&probe.probe), grouped(lost));
            lines.push(style(look, "33", &line));
        }
    }
    lines.push(String::new());
    lines
}

/// Columns for a name: what the others leave.
fn name_width(look: &Look, others: usize) -> usize {
    look.width.max(NARROWEST).saturating_sub(others).min(48)
}

fn destinations(view: &View, look: &Look) -> Vec<String> {
    let width = name_width(look, 58);
    let title =
        format!("{}   ESTAB TIME_WAIT   OTHER         PORTS USED   USE    LEFT", left("DESTINATION", width));
    let mut lines = vec![style(look, "1", &title)];
    for row in &view.destinations {
        lines.push(destination(view, row, width, look));
        for error in row.errors.iter().take(ERRORS_SHOWN) {
            let text = format!(
                "    {} {}: {} times, {}",
                error.call,
                error.errno,
                grouped(error.failures),
                error.process
            );
            lines.push(style(look, "31", left(&text, look.width.max(NARROWEST)).trim_end()));
        }
        if row.errors.len() > ERRORS_SHOWN {
            lines.push(format!("    and {} more", row.errors.len() - ERRORS_SHOWN));
        }
    }
    if view.destinations.is_empty() {
        let known = view.known.states || view.known.ports || view.known.errors;
        lines.push(if known { "no socket towards a destination" } else { "nobody could look" }.to_owned());
    }
    if !view.known.errors {
        lines.push("failed binds and connects are not seen".to_owned());
    }
    lines
}

fn destination(view: &View, row: &DestinationRow, width: usize, look: &Look) -> String {
    let is_known = view.looked_into.contains_key(&row.namespace) || !row.states.is_empty();
    let state = |name: &str| count(is_known.then(|| row.states.get(name).copied().unwrap_or(0)));
    let other: u64 = {
        let shown = ["established", "time_wait"];
        row.states
            .iter()
            .filter(|(state, _)| !shown.contains(&state.as_str()))
            .map(|(_, sockets)| sockets)
            .sum()
    };
    let (ports, share, rest) = match &row.ports {
        Some(ports) => {
            let share = format!("{:.0}%", ports.share() * 100.0);
            let share = if ports.capacity.is_some() { share } else { UNKNOWN.to_owned() };
            let rest = ports.seconds_left.map_or_else(|| "-".to_owned(), length);
            (format!("{}/{}", grouped(ports.used), count(ports.capacity)), share, rest)
        }
        None if row.is_bound() => ["-"; 3].map(str::to_owned).into(),
        None => [UNKNOWN; 3].map(str::to_owned).into(),
    };
    let name = match row.namespace.as_str() {
        crate::settings::OWN_NAMESPACE => row.destination.clone(),
        namespace => format!("{} ({namespace})", row.destination),
    };
    let line = format!(
        "{} {} {} {} {} {} {}",
        left(&name, width),
        right(&state("established"), 7),
        right(&state("time_wait"), 9),
        right(&count(is_known.then_some(other)), 7),
        right(&ports, 18),
        right(&share, 5),
        right(&rest, 7),
    );
    let alarming =
        row.ports.as_ref().is_some_and(|ports| ports.capacity.is_some() && ports.share() > ALARMING);
    if alarming { style(look, "31", &line) } else { line }
}

fn processes(view: &View, look: &Look) -> Vec<String> {
    let Some(rows) = &view.processes else {
        return vec![String::new(), "who goes past weir is not seen".to_owned()];
    };
    let width = name_width(look, 61) / 2;
    let title = format!(
        "{} {}   UID CONNECTIONS REQUESTS OPERATIONS   OPS/S LARGEST",
        left("PAST WEIR", width),
        left("TO", width + 7)
    );
    let mut lines = vec![String::new(), style(look, "1", &title)];
    lines.extend(rows.iter().map(|row| process(row, width)));
    if rows.is_empty() {
        lines.push("nobody goes past weir".to_owned());
    }
    lines
}

fn process(row: &ProcessRow, width: usize) -> String {
    let rate =
        row.operations_per_second.map_or_else(|| UNKNOWN.to_owned(), |rate| grouped(rate.round() as u64));
    let mut line = format!(
        "{} {} {} {} {} {} {} {}",
        left(&row.process, width),
        left(&row.destination, width + 7),
        right(&terminal(told(&row.uid)), 5),
        right(&count(row.connections), 11),
        right(&count(row.requests), 8),
        right(&count(row.operations), 10),
        right(&rate, 7),
        right(&count(row.largest_last_minute), 7),
    );
    if row.unit.is_some() {
        line.push_str(&format!(" {}", terminal(told(&row.unit))));
    }
    line
}

/// A page says `unknown` where a picture has nothing.
fn told(text: &Option<String>) -> &str {
    text.as_deref().filter(|text| *text != "unknown").unwrap_or(UNKNOWN)
}

fn style(look: &Look, code: &str, text: &str) -> String {
    if look.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
