//! `weir limits set | list | clear`.

use super::text::{grouped, length, utc};
use super::{Failure, client, json_line, print, print_outcome};
use crate::admin::model::{LimitsReport, LimitsView};
use crate::admin::plane::{ClearLimits, Outcome, SetLimits};
use crate::cli::{LimitsClearArgs, LimitsListArgs, LimitsSetArgs};
use crate::config::problem::Escaped;
use crate::config::quantity::show_bytes;
use crate::overrides::{Bound, Class, LimitPatch, Mode, Override, Target, UnixTime};
use hyper::Method;
use std::fmt::Write as _;
use weir_engine::units::Bytes;

pub(super) async fn set(args: &LimitsSetArgs) -> Result<u8, Failure> {
    let body = SetLimits {
        caller: args.caller.clone(),
        limits: LimitPatch {
            operations_per_request: args.operations_per_request,
            operations_per_second: args.operations_per_second,
            burst: args.burst,
            operations_in_flight: args.operations_in_flight,
            bytes_in_flight: args.bytes_in_flight,
            mode: args.mode,
            class: args.class,
        },
        for_seconds: args.duration.0 / 1_000_000,
        why: args.why.clone(),
    };
    let outcome: Outcome = client(&args.admin)?.send(Method::POST, "/limits", &body).await?;
    print_outcome(&outcome, args.json)
}

pub(super) async fn clear(args: &LimitsClearArgs) -> Result<u8, Failure> {
    let body = ClearLimits { caller: args.caller.clone() };
    let outcome: Outcome = client(&args.admin)?.send(Method::DELETE, "/limits", &body).await?;
    print_outcome(&outcome, args.json)
}

pub(super) async fn show(args: &LimitsListArgs) -> Result<u8, Failure> {
    let report: LimitsReport = client(&args.admin)?.get("/limits").await?;
    print(&if args.json { json_line(&report)? } else { list(&report) })?;
    Ok(0)
}

/// Limits and overrides in force, for a reader.
#[must_use]
pub fn list(report: &LimitsReport) -> String {
    let mut text = String::from("limits in force:\n");
    for (caller, limits) in &report.callers {
        let _ = writeln!(text, "  {}: {}", Escaped(caller), describe_limits(limits));
    }
    let _ = writeln!(text, "  everybody else: {}", describe_limits(&report.undeclared));
    if report.overrides.is_empty() {
        text.push_str("\nno override is in force\n");
        return text;
    }
    text.push_str("\noverrides (they end by themselves):\n");
    for entry in &report.overrides {
        let _ = writeln!(text, "  {}", describe_override(entry, report.now_unix.0));
    }
    match &report.kept_in {
        Some(path) => {
            let _ = writeln!(text, "kept over a restart in {}", Escaped(path));
        }
        None => text.push_str("not kept over a restart: state_dir is not set\n"),
    }
    text
}

/// Limits in a line.
pub(super) fn describe_limits(limits: &LimitsView) -> String {
    let counts = [
        (limits.operations_per_request.map(grouped), "operations per request"),
        (limits.operations_per_second.map(grouped), "operations per second"),
        (limits.burst.map(grouped), "operations of burst"),
        (limits.operations_in_flight.map(grouped), "operations in flight"),
        (limits.bytes_in_flight.map(|bytes| show_bytes(Bytes(bytes))), "in flight"),
    ];
    let parts: Vec<String> =
        counts.into_iter().filter_map(|(count, what)| count.map(|count| format!("{count} {what}"))).collect();
    match (parts.is_empty(), limits.mode) {
        (true, _) => "none".to_owned(),
        (false, Some(mode)) => format!("at most {} ({})", parts.join(", "), mode.word()),
        (false, None) => format!("at most {}", parts.join(", ")),
    }
}

/// An override in a line: what, until when, who, why.
pub(super) fn describe_override(entry: &Override, now: u64) -> String {
    let what = match &entry.target {
        Target::Limits { caller, limits } => format!("{}: {}", Escaped(caller), describe_patch(limits)),
        Target::SwitchOff { listener, feature } => {
            format!("{} is off on {}", feature.word(), Escaped(listener))
        }
        Target::Deny { method } => format!("{} is refused", Escaped(method)),
    };
    let left = UnixTime(now).until(entry.expires_at_unix);
    let why = entry.why.as_deref().map_or_else(String::new, |why| format!(": {}", Escaped(why)));
    format!(
        "{what}; until {} ({} left); by {} at {}{why}",
        utc(entry.expires_at_unix.0),
        length(left),
        Escaped(&entry.by.name),
        utc(entry.set_at_unix.0)
    )
}

fn describe_patch(patch: &LimitPatch) -> String {
    let bound = |bound: Bound| match bound {
        Bound::None => "none".to_owned(),
        Bound::At(count) => grouped(count),
    };
    let parts = [
        patch.operations_per_request.map(|it| format!("operations per request {}", bound(it))),
        patch.operations_per_second.map(|it| format!("operations per second {}", bound(it))),
        patch.burst.map(|it| format!("burst {}", bound(it))),
        patch.operations_in_flight.map(|it| format!("operations in flight {}", bound(it))),
        patch.bytes_in_flight.map(|it| format!("bytes in flight {}", bound(it))),
        patch.mode.map(|it| format!("mode {}", Mode::word(it))),
        patch.class.map(|it| format!("class {}", Class::word(it))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
