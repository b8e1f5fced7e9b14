//! The table of `weir top`, from a snapshot.
//!
//! Callers are sorted by work: operations per second now, then since the start. `NOW/S` is what they ask for, `MAX` the
//! largest request of the last minute as asked, `LIMIT` its ceiling; a `!` stands before a `MAX` above it. `WORK` and
//! `REQS` are the parts of all operations and of all requests: who has much of one and little of the other hides big
//! batches. At 80 columns everything is there; wider terminals get longer names and more columns.

use super::statements;
use crate::admin::model::{CallerRow, ServerRow, Snapshot};
use crate::commands::text::{grouped, left, length, rate, right, share, short};
use crate::config::problem::Escaped;
use crate::overrides::Mode;

/// The terminal a table is for.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Rows, when the table must not be higher.
    pub height: Option<usize>,
    /// Colours.
    pub colour: bool,
    /// Statements instead of callers.
    pub statements: bool,
}

/// Columns below which lines are cut rather than laid out anew.
pub(super) const NARROWEST: usize = 80;
/// From here on the wide columns are shown.
const WIDE: usize = 112;

/// The table. Every line ends with a line feed.
#[must_use]
pub fn render(snapshot: &Snapshot, look: &Look) -> String {
    let mut callers: Vec<&CallerRow> = snapshot.callers.iter().collect();
    callers.sort_by(|a, b| {
        b.operations_per_second
            .total_cmp(&a.operations_per_second)
            .then(b.operations.cmp(&a.operations))
            .then(a.caller.cmp(&b.caller))
    });
    let head = head(snapshot, look);
    let pools = pools(snapshot, look);
    let hitters = hitters(snapshot, look);
    let mut table: Vec<String> = Vec::new();
    if look.statements {
        table.extend(statements::table(snapshot, look));
    } else {
        table.push(style(look, "1", &caller_titles(look)));
        table.extend(callers.iter().map(|row| caller(row, look)));
        if callers.is_empty() {
            table.push("no caller yet".to_owned());
        }
    }
    if let Some(height) = look.height {
        let others = head.len() + pools.len() + hitters.len();
        let room = height.saturating_sub(others).max(3);
        if table.len() > room {
            let hidden = table.len() - (room - 1);
            table.truncate(room - 1);
            table.push(format!("... and {hidden} more"));
        }
    }
    let mut lines: Vec<String> = head.into_iter().chain(table).chain(hitters).chain(pools).collect();
    if let Some(height) = look.height {
        lines.truncate(height);
    }
    lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

fn head(snapshot: &Snapshot, look: &Look) -> Vec<String> {
    let instance = &snapshot.instance;
    let up = snapshot.taken_at_unix_ms.saturating_sub(instance.started_at_unix_ms) / 1_000;
    let ready = match &instance.not_ready {
        None => style(look, "32", "ready"),
        Some(why) => style(look, "31", &format!("NOT READY: {}", Escaped(why))),
    };
    let totals = &snapshot.totals;
    let overrides = match instance.overrides_active {
        0 => String::new(),
        1 => "  1 override".to_owned(),
        count => format!("  {count} overrides"),
    };
    vec![
        format!(
            "weir {}  pid {}  up {}  {} worker{}  config {}  {ready}",
            Escaped(&instance.version),
            instance.pid,
            length(up),
            instance.workers,
            if instance.workers == 1 { "" } else { "s" },
            Escaped(&instance.config_hash),
        ),
        format!(
            "{} operations/s in {} requests/s  {} connections{overrides}",
            rate(totals.operations_per_second),
            rate(totals.requests_per_second),
            grouped(totals.connections),
        ),
        String::new(),
    ]
}

/// Columns for the caller's name: what the others leave.
fn name_width(look: &Look) -> usize {
    let others = if look.width >= WIDE { 85 } else { 60 };
    look.width.max(NARROWEST).saturating_sub(others).min(64)
}

fn caller_titles(look: &Look) -> String {
    let name = left("CALLER", name_width(look));
    let line = format!("{name}   NOW/S  REQ/S     MAX  LIMIT MODE      WORK   REQS   ABOVE");
    if look.width >= WIDE { line + " METHOD IN FLIGHT LIMIT/S" } else { line }
}

fn caller(row: &CallerRow, look: &Look) -> String {
    let largest = row.largest_last_minute.as_ref();
    let above = match (largest, row.limits.operations_per_request) {
        (Some(largest), Some(limit)) => largest.operations > limit,
        _ => false,
    };
    let max = largest.map_or_else(|| "-".to_owned(), |largest| short(largest.operations));
    let mark = if above { "!" } else { "" };
    let limit = row.limits.operations_per_request.map_or_else(|| "-".to_owned(), short);
    let mode = match (row.limits.mode, row.override_until_unix) {
        (None, _) => "-".to_owned(),
        (Some(mode), None) => mode.word().to_owned(),
        (Some(mode), Some(_)) => format!("{}*", mode.word()),
    };
    let limited = row.limited.observed + row.limited.paced + row.limited.refused;
    let mut line = format!(
        "{} {} {} {} {} {} {} {} {}",
        left(&named(row), name_width(look)),
        right(&rate(row.operations_per_second), 7),
        right(&rate(row.requests_per_second), 6),
        right(&format!("{mark}{max}"), 7),
        right(&limit, 6),
        left(&mode, 8),
        right(&share(row.work_share), 5),
        right(&share(row.request_share), 6),
        right(&short(limited), 7),
    );
    if look.width >= WIDE {
        let method = largest.map_or("-", |largest| largest.method.as_str());
        let per_second = row.limits.operations_per_second.map_or_else(|| "-".to_owned(), short);
        line = format!(
            "{line} {} {} {}",
            left(method, 6),
            right(&short(row.operations_in_flight), 9),
            right(&per_second, 7)
        );
    }
    let colour = match (above, row.limits.mode) {
        (true, Some(Mode::Refuse)) => "33",
        (true, _) => "31",
        _ => "0",
    };
    if colour == "0" { line } else { style(look, colour, &line) }
}

/// The caller, and the listener where the name does not say it.
fn named(row: &CallerRow) -> String {
    if row.listener.is_empty() || row.listener == row.caller {
        row.caller.clone()
    } else {
        format!("{} @{}", row.caller, row.listener)
    }
}

/// Heavy names that have no row of their own: they hide in `_other`.
fn hitters(snapshot: &Snapshot, look: &Look) -> Vec<String> {
    let known = |name: &str| snapshot.callers.iter().any(|row| row.caller == name);
    let hidden: Vec<String> = snapshot
        .heavy_hitters
        .iter()
        .filter(|row| !known(&row.caller))
        .take(3)
        .map(|row| {
            let least = row.operations.saturating_sub(row.error);
            format!("{} ({} to {})", Escaped(&row.caller), short(least), short(row.operations))
        })
        .collect();
    if hidden.is_empty() {
        return Vec::new();
    }
    vec![left_cut(&format!("heaviest in _other, by operations: {}", hidden.join(", ")), look.width)]
}

fn pools(snapshot: &Snapshot, look: &Look) -> Vec<String> {
    let width = look.width.max(NARROWEST).saturating_sub(47).min(60);
    let title = format!("{} STATE     IN FLIGHT/MAX  QUEUE  NOW/S LANES", left("POOL SERVER", width));
    let mut lines = vec![String::new(), style(look, "1", &title)];
    let mut servers: Vec<(&str, &ServerRow)> = snapshot
        .pools
        .iter()
        .flat_map(|pool| pool.servers.iter().map(|server| (pool.name.as_str(), server)))
        .collect();
    let room = look.height.map_or(usize::MAX, |height| (height / 3).max(3));
    let hidden = if servers.len() > room {
        // What is in trouble must be seen; the rest stays in the order of the pools.
        servers.sort_by_key(|(_, server)| (server.state == "up", std::cmp::Reverse(server.queue)));
        servers.split_off(room - 1)
    } else {
        Vec::new()
    };
    lines.extend(servers.iter().map(|(pool, server)| server_line(pool, server, width, look)));
    if !hidden.is_empty() {
        let state =
            if hidden.iter().all(|(_, server)| server.state == "up") { "all up" } else { "some not up" };
        lines.push(format!("... and {} more servers, {state}", hidden.len()));
    }
    for pool in &snapshot.pools {
        let Some(control) = pool.control.as_ref().filter(|control| !control.up) else { continue };
        let age = control.read_at_unix.map(|at| (snapshot.taken_at_unix_ms / 1_000).saturating_sub(at));
        let known = match age {
            Some(age) => format!("nodes and tokens as of {} ago", length(age)),
            None => "only the contacts are known".to_owned(),
        };
        let why = control.last_error.as_deref().unwrap_or("connecting");
        let line = format!("{} is not followed ({known}): {}", Escaped(&pool.name), Escaped(why));
        lines.push(style(look, "33", &left_cut(&line, look.width)));
    }
    for listener in snapshot.listeners.iter().filter(|listener| !listener.switched_off.is_empty()) {
        let off = format!(
            "switched off on {}: {}",
            Escaped(&listener.name),
            Escaped(&listener.switched_off.join(", "))
        );
        lines.push(style(look, "33", &off));
    }
    lines
}

/// Pool and address, and where a node is as far as there is room: its data center and rack, its shards.
fn server_name(pool: &str, server: &ServerRow, width: usize) -> String {
    let mut name = format!("{pool} {}", server.address);
    let place =
        server.data_center.as_ref().zip(server.rack.as_ref()).map(|(dc, rack)| format!(" {dc}/{rack}"));
    let shards = server.shards.map(|shards| format!(" {shards} shards"));
    for more in place.into_iter().chain(shards) {
        if name.chars().count() + more.chars().count() > width {
            break;
        }
        name.push_str(&more);
    }
    name
}

fn server_line(pool: &str, server: &ServerRow, width: usize, look: &Look) -> String {
    let up = server.lanes.iter().filter(|lane| lane.state == "up").count();
    // A node's bound is on requests, whatever they ask for.
    let (in_flight, most) = match (server.requests_in_flight, server.requests_in_flight_max) {
        (Some(requests), Some(most)) => (requests, most),
        _ => (server.operations_in_flight, server.operations_in_flight_max),
    };
    let in_flight = format!("{}/{}", short(in_flight), short(most));
    let mut line = format!(
        "{} {} {} {} {} {}",
        left(&server_name(pool, server, width), width),
        left(&server.state, 8),
        right(&in_flight, 14),
        right(&short(server.queue), 6),
        right(&rate(server.operations_per_second), 6),
        right(&format!("{up}/{}", server.lanes.len()), 5),
    );
    if server.requests_in_flight.is_some() && server.bulk_keys_in_flight > 0 {
        line = format!("{line}  and {} keys of split requests", short(server.bulk_keys_in_flight));
    }
    if server.state != "up" {
        if let Some(why) = &server.last_error {
            let room = look.width.saturating_sub(line.chars().count() + 2);
            if room > 10 {
                line = format!("{line}  {}", left(why, room));
            }
        }
        line = style(look, "31", &line);
    }
    line
}

/// Text of ours that is cut, and not filled.
pub(super) fn left_cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width { text.to_owned() } else { left(text, width) }
}

pub(super) fn style(look: &Look, code: &str, text: &str) -> String {
    if look.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
