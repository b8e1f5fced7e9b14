//! `weir explain`: one caller, in words for somebody who was just woken up: who it is, what it asks for, what weir did,
//! and the commands that cap it.

mod advice;

pub use advice::Advice;

use super::statement::{asked as asked_for, brief};
use super::text::{bytes, grouped, length, micros, rate, share, shell, utc};
use super::{Failure, client, json_line, print};
use crate::admin::model::{
    AmplificationRow, CallerRow, ExpensiveRow, HeavyRow, Largest, LimitsReport, ServiceRow, Snapshot,
    StatementRow,
};
use crate::cli::ExplainArgs;
use crate::config::problem::Escaped;
use crate::overrides::{Class, Mode, Override, Target};
use serde::Serialize;
use std::fmt::Write as _;

/// Expensive requests that are told.
const REQUESTS_SHOWN: usize = 3;
/// Callers above their ceiling that are told of a listener.
const ABOVE_SHOWN: usize = 5;
/// Statements that are told.
const STATEMENTS_SHOWN: usize = 3;

/// Everything that is known about a caller.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The caller that was asked for.
    pub caller: String,
    /// The line on-call wants.
    pub summary: String,
    /// Its rows: one per listener.
    pub rows: Vec<CallerRow>,
    /// Its place in the heavy-hitter list.
    pub heavy: Option<HeavyRow>,
    /// Its most expensive requests of late, largest first.
    pub expensive: Vec<ExpensiveRow>,
    /// Its statements with the most work of late, most first.
    pub statements: Vec<StatementRow>,
    /// What its requests came to in storage, where they bear ids.
    pub amplification: Vec<AmplificationRow>,
    /// What it asked of storage in all, where it asked of both cache and database and its requests bear no ids.
    pub without_ids: Option<ServiceRow>,
    /// Overrides of its limits.
    pub overrides: Vec<Override>,
    /// Commands to copy.
    pub commands: Vec<Advice>,
    /// Limits are switched off on the listener of its first row.
    pub limits_off: bool,
    /// The name is a listener's, and the file gives it to nobody: it stands for whoever could not be named there.
    pub is_listener: bool,
    /// Of a listener: the callers that were seen above their ceiling there, largest request first.
    pub above: Vec<Above>,
    #[serde(skip)]
    now_unix_ms: u64,
}

/// A caller that asked for more than its ceiling at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Above {
    /// Its name.
    pub caller: String,
    /// Its largest request, of the last minute if that was above, or ever.
    pub largest: Largest,
    /// Its ceiling now.
    pub ceiling: u64,
    /// The statement of that request, as far as it is known.
    pub statement: Option<String>,
}

pub(super) async fn run(args: &ExplainArgs) -> Result<u8, Failure> {
    let client = client(&args.admin)?;
    let snapshot: Snapshot = client.get("/snapshot").await?;
    let limits: LimitsReport = client.get("/limits").await?;
    // A socket that was named on the command line must be named in the commands too; one of the environment is known.
    let from_environment = std::env::var("WEIR_ADMIN").ok();
    let admin = args
        .admin
        .admin
        .as_ref()
        .map(ToString::to_string)
        .filter(|admin| from_environment.as_ref() != Some(admin));
    let Some(found) = explain(&args.caller, &snapshot, &limits, admin.as_deref()) else {
        let names = snapshot.callers.iter().map(|row| row.caller.as_str());
        let near = names
            .map(|name| (strsim::jaro_winkler(&args.caller, name), name))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let hint = match near {
            Some((_, near)) => format!("did you mean {}?", shell(near)),
            None => "weir top shows who there is".to_owned(),
        };
        return Err(Failure::unknown(format!("no caller of this name was seen; {hint}")));
    };
    print(&if args.json { json_line(&found)? } else { found.to_text() })?;
    Ok(0)
}

/// What is known about `caller` (a label, a principal, or a name that selects limits). Nothing when it was never seen.
#[must_use]
pub fn explain(
    caller: &str,
    snapshot: &Snapshot,
    limits: &LimitsReport,
    admin: Option<&str>,
) -> Option<Explanation> {
    let rows = |matches: &dyn Fn(&CallerRow) -> bool| -> Vec<CallerRow> {
        let mut rows: Vec<_> = snapshot.callers.iter().filter(|row| matches(row)).cloned().collect();
        rows.sort_by(|a, b| b.operations_per_second.total_cmp(&a.operations_per_second));
        rows
    };
    let mut own = rows(&|row| row.caller == caller);
    if own.is_empty() {
        own = rows(&|row| row.principal == caller || row.limited_as == caller);
    }
    let heavy = snapshot.heavy_hitters.iter().find(|row| row.caller == caller).cloned();
    let is_own = |name: &str| name == caller || own.iter().any(|row| row.caller == name);
    let mut expensive: Vec<_> =
        snapshot.expensive.iter().filter(|row| is_own(&row.caller)).cloned().collect();
    expensive.sort_by_key(|row| std::cmp::Reverse(row.operations));
    expensive.truncate(REQUESTS_SHOWN);
    let mut statements: Vec<_> =
        snapshot.statements.iter().filter(|row| is_own(&row.caller)).cloned().collect();
    statements.truncate(STATEMENTS_SHOWN);
    if own.is_empty() && heavy.is_none() && expensive.is_empty() {
        return None;
    }
    let overrides = limits
        .overrides
        .iter()
        .filter(|entry| match &entry.target {
            Target::Limits { caller: name, .. } => {
                name == caller || own.iter().any(|row| row.limited_as == *name || row.caller == *name)
            }
            Target::SwitchOff { .. } | Target::Deny { .. } => false,
        })
        .cloned()
        .collect();
    let limits_off = own.first().is_some_and(|row| {
        let listener = snapshot.listeners.iter().find(|listener| listener.name == row.listener);
        listener.is_some_and(|listener| listener.switched_off.iter().any(|off| off == "limits"))
    });
    let is_listener = !limits.callers.contains_key(caller)
        && own.first().is_some_and(|row| row.listener == caller && row.principal == caller);
    let above = if is_listener { above(caller, snapshot) } else { Vec::new() };
    let legs = &snapshot.amplification;
    let amplification: Vec<_> =
        legs.callers.iter().filter(|row| row.requests > 0 && is_own(&row.caller)).cloned().collect();
    let both = |row: &&ServiceRow| {
        let its = row.service == caller || own.iter().any(|own| own.principal == row.service);
        its && !row.says_ids && row.cache_operations > 0 && row.database_operations > 0
    };
    let without_ids = legs.services.iter().find(both).cloned();
    let mut found = Explanation {
        amplification,
        without_ids,
        limits_off,
        is_listener,
        above,
        caller: caller.to_owned(),
        summary: String::new(),
        rows: own,
        heavy,
        expensive,
        statements,
        overrides,
        commands: Vec::new(),
        now_unix_ms: snapshot.taken_at_unix_ms,
    };
    found.summary = if is_listener { summary_of_listener(&found) } else { summary(&found) };
    found.commands = advice::commands(&found, limits, admin);
    Some(found)
}

fn largest(found: &Explanation) -> Option<Largest> {
    let of_rows =
        found.rows.iter().filter_map(|row| row.largest_last_minute.clone().or(row.largest_ever.clone()));
    of_rows.max_by_key(|largest| largest.operations)
}

/// The statement of a caller's request of this size, as it is told in a sentence.
fn statement_of(
    caller: &str,
    largest: &Largest,
    expensive: &[ExpensiveRow],
    statements: &[StatementRow],
) -> Option<String> {
    let asked = expensive.iter().find(|row| {
        row.caller == caller && row.method == largest.method && row.operations == largest.operations
    });
    if let Some((statement, asked)) = asked.and_then(|asked| Some((asked.statement.as_deref()?, asked))) {
        return Some(asked_for(&asked.method, statement, asked.table.as_deref().unwrap_or_default()));
    }
    let row = statements.iter().find(|row| {
        row.caller == caller && row.method == largest.method && row.largest == largest.operations
    });
    row.map(|row| asked_for(&row.method, &row.statement, &row.table))
}

/// The callers that were seen above their ceiling on a listener, those that it could not name left out.
fn above(listener: &str, snapshot: &Snapshot) -> Vec<Above> {
    let named = snapshot.callers.iter().filter(|row| row.listener == listener && row.caller != listener);
    let mut above: Vec<Above> = named
        .filter_map(|row| {
            let ceiling = row.limits.operations_per_request?;
            let sizes = [&row.largest_last_minute, &row.largest_ever];
            let largest = sizes.into_iter().flatten().find(|largest| largest.operations > ceiling)?;
            let statement = statement_of(&row.caller, largest, &snapshot.expensive, &snapshot.statements);
            Some(Above { caller: row.caller.clone(), largest: largest.clone(), ceiling, statement })
        })
        .collect();
    above.sort_by_key(|one| std::cmp::Reverse(one.largest.operations));
    above.truncate(ABOVE_SHOWN);
    above
}

/// A listener's name: whom it stands for, and who was named there.
fn summary_of_listener(found: &Explanation) -> String {
    let name = Escaped(&found.caller);
    let unnamed = found.rows.iter().any(|row| row.caller == found.caller);
    let mut text = if unnamed {
        summary(found)
    } else {
        format!("{name} is a listener, and its callers are known by name")
    };
    if unnamed {
        text += "; the name is the listener's and stands for every client of it that could not be named: a cap would \
                 hit them all";
    }
    match found.above.first() {
        Some(first) => {
            let _ = write!(text, "; seen above its ceiling there: {}", Escaped(&first.caller));
            for one in &found.above[1..] {
                let _ = write!(text, ", {}", Escaped(&one.caller));
            }
        }
        None => text += "; no caller that has a name was seen above its ceiling there",
    }
    text
}

/// Who, which method, how many keys, since when, what weir did.
fn summary(found: &Explanation) -> String {
    let name = Escaped(&found.caller);
    let Some(row) = found.rows.first() else {
        return format!(
            "{name} has no label of its own (it is part of _other); it is known by its work only"
        );
    };
    let Some(largest) = largest(found) else {
        return format!("{name} has asked for nothing of late");
    };
    let statement = statement_of(&row.caller, &largest, &found.expensive, &found.statements);
    let method = statement.unwrap_or_else(|| Escaped(&largest.method).to_string());
    let since = first_seen(row);
    let asked = grouped(largest.operations);
    match row.limits.operations_per_request {
        Some(limit) if largest.operations > limit => {
            let times = largest.operations as f64 / limit as f64;
            let did = match row.limits.mode {
                _ if found.limits_off => "let it pass (limits are switched off on the listener)",
                // A size cannot be waited out, so pace refuses it too.
                Some(Mode::Refuse | Mode::Pace) => "refused it",
                _ => "let it pass and counted it",
            };
            format!(
                "{name} asks for {asked} keys in one {method}: {times:.1} times its ceiling of {}; weir {did}; first seen {since}",
                grouped(limit)
            )
        }
        Some(limit) => format!(
            "{name} stays below its ceiling: {asked} keys in one {method} of {} allowed; first seen {since}",
            grouped(limit)
        ),
        None => format!(
            "{name} asks for up to {asked} keys in one {method} and has no ceiling; first seen {since}"
        ),
    }
}

impl Explanation {
    /// For a reader.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.summary);
        for (index, one) in self.above.iter().enumerate() {
            let asked = format!(
                "{}: {} operations in one {}, {:.1} times its ceiling of {}",
                Escaped(&one.caller),
                grouped(one.largest.operations),
                one.statement.clone().unwrap_or_else(|| Escaped(&one.largest.method).to_string()),
                one.largest.operations as f64 / one.ceiling.max(1) as f64,
                grouped(one.ceiling)
            );
            field(&mut text, if index == 0 { "above" } else { "" }, &asked);
        }
        for row in &self.rows {
            self.row(&mut text, row);
        }
        if let Some(heavy) = &self.heavy {
            let least = match heavy.error {
                0 => String::new(),
                error => format!("{} to ", grouped(heavy.operations.saturating_sub(error))),
            };
            let most = grouped(heavy.operations);
            field(&mut text, "by work", &format!("{least}{most} operations in the heavy-hitter list"));
        }
        for row in &self.amplification {
            field(&mut text, "across legs", &across_legs(row));
        }
        if let Some(row) = &self.without_ids {
            let sums = format!(
                "{} cache operations, {} misses, {} database operations in all; its requests bear no ids, so none can be \
                 told apart",
                grouped(row.cache_operations),
                grouped(row.cache_misses),
                grouped(row.database_operations),
            );
            field(&mut text, "across legs", &sums);
        }
        for (index, row) in self.statements.iter().enumerate() {
            field(&mut text, if index == 0 { "statements" } else { "" }, &statement(row));
        }
        for (index, request) in self.expensive.iter().enumerate() {
            field(&mut text, if index == 0 { "expensive" } else { "" }, &expensive(request));
        }
        for entry in &self.overrides {
            field(&mut text, "override", &super::limits::describe_override(entry, self.now_unix_ms / 1_000));
        }
        if !self.commands.is_empty() {
            text.push_str("\nwhat you can do:\n");
        }
        for advice in &self.commands {
            let _ = writeln!(text, "  # {}\n  {}", advice.does, advice.command);
        }
        text
    }

    fn row(&self, text: &mut String, row: &CallerRow) {
        let _ = writeln!(text);
        let process = row
            .process
            .as_deref()
            .map_or_else(|| "process unknown".to_owned(), |process| format!("process {}", Escaped(process)));
        field(
            text,
            "who",
            &format!(
                "principal {} on listener {}, {process}, {}",
                Escaped(&row.principal),
                Escaped(&row.listener),
                row.class.map_or("class unknown", Class::word)
            ),
        );
        field(text, "limited as", &Escaped(&row.limited_as).to_string());
        let ago = |at: u64| length(self.now_unix_ms.saturating_sub(at) / 1_000);
        let first = match row.first_seen_unix_ms {
            0 => first_seen(row),
            at => format!("{} ({} ago)", first_seen(row), ago(at)),
        };
        let last = row.last_seen_unix_ms.map_or_else(String::new, |at| format!(", last {} ago", ago(at)));
        field(text, "seen", &format!("first {first}{last}; {} connections now", grouped(row.connections)));
        if row.principal_accepts_per_second > 0.0 || row.principal_one_request_share.is_some() {
            let short = row.principal_one_request_share.map_or_else(String::new, |short| {
                format!("; {} of those that closed had carried at most one request", share(short))
            });
            let dials = rate(row.principal_accepts_per_second);
            field(text, "dials", &format!("{dials} connections/s of its principal{short}"));
        }
        let ratio = if row.request_share > 0.0 {
            format!(" ({:.1} times its part of the requests)", row.work_share / row.request_share)
        } else {
            String::new()
        };
        field(
            text,
            "work",
            &format!(
                "{} operations/s in {} requests/s; {} of all operations, {} of all requests{ratio}",
                rate(row.operations_per_second),
                rate(row.requests_per_second),
                share(row.work_share),
                share(row.request_share),
            ),
        );
        field(text, "", &since_start(row));
        let sized = |largest: &Option<Largest>| {
            largest.as_ref().map_or_else(
                || "none".to_owned(),
                |largest| {
                    format!("{} operations by {}", grouped(largest.operations), Escaped(&largest.method))
                },
            )
        };
        field(
            text,
            "largest",
            &format!(
                "{} in the last minute; {} ever",
                sized(&row.largest_last_minute),
                sized(&row.largest_ever)
            ),
        );
        field(
            text,
            "under way",
            &format!(
                "{} operations, {}; {} operations queued",
                grouped(row.operations_in_flight),
                bytes(row.bytes_in_flight),
                grouped(row.operations_queued)
            ),
        );
        field(text, "limits", &super::limits::describe_limits(&row.limits));
        field(
            text,
            "weir did",
            &format!(
                "{} let pass and counted (refuse would have refused them), {} paced, {} refused",
                grouped(row.limited.observed),
                grouped(row.limited.paced),
                grouped(row.limited.refused)
            ),
        );
    }
}

/// Since when; a caller whose start was not recorded is not told as one of 1970.
fn first_seen(row: &CallerRow) -> String {
    match row.first_seen_unix_ms {
        0 => "at an unknown time".to_owned(),
        at => utc(at / 1_000),
    }
}

fn since_start(row: &CallerRow) -> String {
    let looked_up = row.hits + row.misses;
    let found = if looked_up == 0 {
        String::new()
    } else {
        format!(", {} found", share(row.hits as f64 / looked_up as f64))
    };
    let sent = if row.operations == 0 {
        String::new()
    } else {
        format!(", {:.2} backend operations each", row.backend_operations as f64 / row.operations as f64)
    };
    format!(
        "{} operations in {} requests since the start{found}{sent}",
        grouped(row.operations),
        grouped(row.requests)
    )
}

/// Keys of RPCs, cache operations, misses, database operations: in this order.
fn across_legs(row: &AmplificationRow) -> String {
    let per_key =
        |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2} per key)"));
    let asked = match row.cache_operations_per_key {
        Some(_) => format!("{} keys of {} RPCs", grouped(row.rpc_keys), grouped(row.requests)),
        None => format!("{} requests with an id, whose RPCs weir did not see", grouped(row.requests)),
    };
    format!(
        "{asked}: {} cache operations{}, {} misses, {} database operations{}, {} from storage",
        grouped(row.cache_operations),
        per_key(row.cache_operations_per_key),
        grouped(row.cache_misses),
        grouped(row.database_operations),
        per_key(row.database_operations_per_key),
        bytes(row.storage_bytes),
    )
}

fn statement(row: &StatementRow) -> String {
    format!(
        "{}: {} keys in {} requests (half within {}, largest {}), {} rows, {}; {} of all work, {} of the backend's time",
        asked_for(&row.method, &row.statement, &row.table),
        grouped(row.operations),
        grouped(row.requests),
        grouped(row.request_operations_p50),
        grouped(row.largest),
        grouped(row.rows),
        bytes(row.bytes_out),
        share(row.work_share),
        share(row.time_share),
    )
}

fn expensive(row: &ExpensiveRow) -> String {
    let statement = row.statement.as_deref().map_or_else(String::new, |statement| {
        format!(": {}", brief(statement, row.table.as_deref().unwrap_or_default()))
    });
    format!(
        "{} {} of {} operations in {} chunks{}, {} (queued {}, backend {}), {}, request {}{statement}",
        utc(row.at_unix_ms / 1_000),
        Escaped(&row.method),
        grouped(row.operations),
        grouped(row.chunks),
        at_node(row),
        micros(row.total_us),
        micros(row.queue_wait_us),
        micros(row.backend_us),
        Escaped(&row.outcome),
        Escaped(&row.request_id)
    )
}

/// Where it went: ` at 10.0.0.11:9042 (dc1/rack1, shard 3)`, as far as that is known.
fn at_node(row: &ExpensiveRow) -> String {
    let Some(node) = &row.node else { return String::new() };
    let place = row.data_center.as_ref().zip(row.rack.as_ref()).map(|(dc, rack)| format!("{dc}/{rack}"));
    let shard = row.shard.map(|shard| format!("shard {shard}"));
    let known: Vec<String> = place.into_iter().chain(shard).collect();
    match known.is_empty() {
        true => format!(" at {}", Escaped(node)),
        false => format!(" at {} ({})", Escaped(node), Escaped(&known.join(", "))),
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<11} {value}");
}
