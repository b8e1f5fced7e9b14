//! What `weir explain` proposes: commands to copy, each whole, none for what is in force already.

use super::super::text::{grouped, rate, shell};
use super::{Explanation, largest};
use crate::admin::model::LimitsReport;
use crate::config::is_name;
use crate::overrides::{Bound, Class, LimitPatch, Mode, Target};
use serde::Serialize;
use std::fmt::Write as _;

/// The ceiling that is proposed when a caller has none: the default of undeclared callers.
const USUAL_CEILING: u64 = 2_000;
/// Below so many operations per second nobody's work is worth halving.
const WORTH_HALVING: f64 = 200.0;

/// A command, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What it does.
    pub does: String,
    /// The command, quoted for a shell.
    pub command: String,
}

/// The name to give to `weir limits set`: the caller's own, which limits it and nobody else. Where its principal has
/// limits of its own in the file, the principal's: a name that the file does not know would start from the limits of
/// undeclared callers, which may be looser.
fn name_to_limit<'f>(found: &'f Explanation, limits: &LimitsReport) -> &'f str {
    let Some(row) = found.rows.first() else { return &found.caller };
    let known = |name: &str| limits.callers.contains_key(name);
    let own = is_name(&row.caller) && !is_reserved(&row.caller);
    if row.limited_as.is_empty() || (own && (known(&row.caller) || !known(&row.limited_as))) {
        &row.caller
    } else {
        &row.limited_as
    }
}

/// Names that stand for many callers.
fn is_reserved(name: &str) -> bool {
    matches!(name, "_other" | "_invalid")
}

/// Collects advice; each command ends in the socket to ask, where that was named.
struct Advisor {
    tail: String,
    all: Vec<Advice>,
}

impl Advisor {
    fn add(&mut self, does: impl Into<String>, command: &str) {
        self.all.push(Advice { does: does.into(), command: format!("weir {command}{}", self.tail) });
    }
}

/// The commands that help against what was found.
pub(super) fn commands(found: &Explanation, limits: &LimitsReport, admin: Option<&str>) -> Vec<Advice> {
    let selects = name_to_limit(found, limits);
    if is_reserved(selects) {
        return Vec::new();
    }
    let tail = admin.map_or_else(String::new, |admin| format!(" --admin {}", shell(admin)));
    let mut advisor = Advisor { tail, all: Vec::new() };
    if found.limits_off
        && let Some(row) = found.rows.first()
    {
        let command = format!("switch limits on --listener {}", shell(&row.listener));
        advisor.add("switch limits on again for the listener", &command);
    }
    if found.is_listener {
        for one in &found.above {
            advisor.add(
                format!("the one that asked for {} operations", grouped(one.largest.operations)),
                &format!("explain {}", shell(&one.caller)),
            );
        }
        advisor.add("see who else came in there, by name", "top --once");
    } else {
        caps(&mut advisor, found, selects);
    }
    for entry in &found.overrides {
        if let Target::Limits { caller, .. } = &entry.target {
            advisor.add("end the override", &format!("limits clear {}", shell(caller)));
        }
    }
    advisor.add("watch its requests", &format!("tap --caller {}", shell(&found.caller)));
    advisor.all
}

/// Commands that limit the caller. An override takes the place of the one before it whole, so that what holds now is
/// said again.
fn caps(advisor: &mut Advisor, found: &Explanation, selects: &str) {
    let row = found.rows.first();
    let kept = found.overrides.iter().find_map(|entry| match &entry.target {
        Target::Limits { caller, limits } if caller == selects => Some(limits.clone()),
        _ => None,
    });
    let kept = kept.unwrap_or_default();
    let mut set = |does: String, patch: &LimitPatch, why: &str| {
        let why = if why.is_empty() { String::new() } else { format!(" --why '{why}'") };
        advisor.add(does, &format!("limits set {}{} --for 1h{why}", shell(selects), flags(patch)));
    };
    // A size cannot be waited out, so pace refuses it too.
    let enforced = row.filter(|row| matches!(row.limits.mode, Some(Mode::Refuse | Mode::Pace)));
    let in_force = |limit: Option<u64>| limit.filter(|_| enforced.is_some() && !found.limits_off);

    let ceiling = row.and_then(|row| row.limits.operations_per_request);
    if in_force(ceiling).is_none() {
        let ceiling = ceiling.unwrap_or(USUAL_CEILING);
        let why = largest(found).map_or_else(String::new, |largest| {
            format!("asks for {} operations at once", grouped(largest.operations))
        });
        let mode = Some(if kept.mode == Some(Mode::Pace) { Mode::Pace } else { Mode::Refuse });
        let patch = LimitPatch { operations_per_request: Some(Bound::At(ceiling)), mode, ..kept.clone() };
        set(format!("refuse requests above {} operations", grouped(ceiling)), &patch, &why);
    }
    let now = found.rows.iter().map(|row| row.operations_per_second).sum::<f64>();
    let limit = in_force(row.and_then(|row| row.limits.operations_per_second));
    if now >= WORTH_HALVING && limit.is_none_or(|limit| limit as f64 > now) {
        let half = two_digits(now / 2.0);
        let patch = LimitPatch {
            operations_per_second: Some(Bound::At(half)),
            mode: Some(Mode::Pace),
            ..kept.clone()
        };
        let why = format!("asks for {} operations/s", rate(now));
        set(format!("halve its work: {} operations/s", grouped(half)), &patch, &why);
    }
    if row.is_some_and(|row| row.class != Some(Class::Batch)) {
        let patch = LimitPatch { class: Some(Class::Batch), ..kept };
        set("let everybody else go first".to_owned(), &patch, "");
    }
}

/// A patch as flags of `weir limits set`.
fn flags(patch: &LimitPatch) -> String {
    let mut flags = String::new();
    for (name, bound) in [
        ("operations-per-request", patch.operations_per_request),
        ("operations-per-second", patch.operations_per_second),
        ("burst", patch.burst),
        ("operations-in-flight", patch.operations_in_flight),
        ("bytes-in-flight", patch.bytes_in_flight),
    ] {
        let _ = match bound {
            Some(Bound::At(most)) => write!(flags, " --{name} {most}"),
            Some(Bound::None) => write!(flags, " --{name} none"),
            None => Ok(()),
        };
    }
    if let Some(mode) = patch.mode {
        let _ = write!(flags, " --mode {}", mode.word());
    }
    if let Some(class) = patch.class {
        let _ = write!(flags, " --class {}", class.word());
    }
    flags
}

/// Rounded down to two significant digits.
fn two_digits(value: f64) -> u64 {
    let value = value as u64;
    let scale = 10u64.pow(value.max(1).ilog10().saturating_sub(1));
    value / scale * scale
}
