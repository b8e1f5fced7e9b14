//! Checks of `[callers.NAME]` and `[undeclared]`: who can be recognised, and by what.

use crate::config::checked::{Door, PrincipalKind, PrincipalRule};
use crate::config::file::{Collector, Draft, FileShape, suggestion};
use crate::config::keys::CallerDraft;
use crate::config::problem::Problem;
use weir_engine::settings::{CallerLimits, ListenerSettings};
use weir_engine::units::ListenerId;

/// Limits that would have no effect.
pub(super) fn limits(
    problems: &mut Collector<'_>,
    path: &str,
    limits: &CallerLimits,
    place: &dyn Fn(&str) -> Option<usize>,
) {
    if limits.burst.is_some() && limits.operations_per_second.is_none() {
        let problem = Problem::error(format!("{path}.burst"), "a burst needs a rate to be above of")
            .help("set operations_per_second, or burst = \"none\"");
        problems.add(place("burst"), problem);
    }
}

pub(super) fn check(problems: &mut Collector<'_>, shape: &FileShape, doors: &[Door]) -> Vec<PrincipalRule> {
    let mut rules: Vec<PrincipalRule> = Vec::new();
    for draft in &shape.callers {
        let path = format!("callers.{}", draft.name);
        limits(problems, &path, &draft.held.limits, &|key| draft.place(key));
        if matches!(&*draft.name, "_other" | "_invalid") {
            let what = "weir gives this name itself, to callers it does not tell apart";
            problems.add(draft.at, Problem::error(path.clone(), what));
        }
        let mapped = draft.held.uid.is_some() || draft.held.listener.is_some();
        if !mapped {
            if draft.held.jwt_keys.is_empty() {
                recognisable(problems, &path, draft, shape);
            }
        } else if let Some(rule) = rule(problems, &path, draft, shape, doors) {
            let same = |other: &&PrincipalRule| other.uid == rule.uid && other.listener == rule.listener;
            if let Some(other) = rules.iter().find(same) {
                let what = format!("[callers.{}] already stands for the same clients", other.caller);
                problems.add(draft.at, Problem::error(path, what));
            } else {
                rules.push(rule);
            }
        }
    }
    let named = shape.callers.len() + shape.listeners.len();
    if named > shape.process.held.process.max_callers as usize {
        let what = format!("the file names {named} callers and listeners: not all would have a label value");
        let problem = Problem::error("max_callers", what).help(format!("set max_callers = {named} or more"));
        problems.add(shape.process.place("max_callers"), problem);
    }
    rules
}

fn rule(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<CallerDraft>,
    shape: &FileShape,
    doors: &[Door],
) -> Option<PrincipalRule> {
    let uid = draft.held.uid;
    let by_uid = |at: usize| doors.get(at).is_some_and(|door| door.principal == PrincipalKind::Uid);
    let by_certificate = |door: &Door| door.principal == PrincipalKind::Certificate;
    let listener = match &draft.held.listener {
        None => {
            if !(0..doors.len()).any(by_uid) {
                let problem =
                    Problem::error(format!("{path}.uid"), "no listener tells its clients apart by uid")
                        .help("set principal = \"uid\" on a Unix listener");
                problems.add(draft.place("uid"), problem);
            }
            None
        }
        Some(name) => {
            let place = draft.place("listener");
            let Some(at) = shape.listeners.iter().position(|listener| listener.name == *name) else {
                let mut problem =
                    Problem::error(format!("{path}.listener"), format!("there is no [listener.{name}]"));
                if let Some(near) = suggestion(name, shape.listeners.iter().map(|other| &*other.name)) {
                    problem = problem.help(format!("did you mean \"{near}\"?"));
                }
                problems.add(place, problem);
                return None;
            };
            let problem = match (uid, by_uid(at)) {
                (Some(_), false) => Some(
                    Problem::error(
                        format!("{path}.uid"),
                        format!("[listener.{name}] does not tell its clients apart by uid"),
                    )
                    .help("set principal = \"uid\" there, or leave uid out here"),
                ),
                (None, true) => Some(
                    Problem::error(
                        format!("{path}.listener"),
                        format!("[listener.{name}] tells its clients apart by uid"),
                    )
                    .help("add uid = N here"),
                ),
                (None, false) if doors.get(at).is_some_and(by_certificate) => Some(
                    Problem::error(
                        format!("{path}.listener"),
                        format!("[listener.{name}] tells its clients apart by certificate"),
                    )
                    .help("name the section as the certificate does, and leave listener out"),
                ),
                _ => None,
            };
            if let Some(problem) = problem {
                let at = if uid.is_some() { draft.place("uid") } else { place };
                problems.add(at, problem);
                return None;
            }
            u32::try_from(at).ok().map(ListenerId)
        }
    };
    Some(PrincipalRule { uid, listener, caller: draft.name.clone() })
}

/// Names of `trusted_request_ids` that no client of a memcached listener can have: its ids would be taken from nobody. (CQL
/// clients may sign in under any name.)
pub(super) fn request_ids(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    listeners: &[ListenerSettings],
    doors: &[Door],
    rules: &[PrincipalRule],
) {
    for (at, (settings, door)) in listeners.iter().zip(doors).enumerate() {
        if settings.backend.pool().is_none() || door.principal != PrincipalKind::Listener {
            continue;
        }
        let own = rules.iter().find(|rule| rule.uid.is_none() && rule.listener == Some(door.listener));
        let own = own.map_or(&settings.name, |rule| &rule.caller);
        let Some(draft) = shape.listeners.get(at) else { continue };
        for name in settings.trusted_request_ids.iter().filter(|name| *name != own) {
            let path = format!("listener.{}.trusted_request_ids", settings.name);
            let problem = Problem::warning(path, format!("no client of this listener is \"{name}\""))
                .help(format!("all of them are \"{own}\""));
            problems.add(draft.place("trusted_request_ids"), problem);
        }
    }
}

/// A section whose limits nobody could ever select.
fn recognisable(problems: &mut Collector<'_>, path: &str, draft: &Draft<CallerDraft>, shape: &FileShape) {
    let name = &draft.name;
    let selected = name.starts_with("uid:")
        || shape
            .listeners
            .iter()
            .any(|listener| listener.name == *name || listener.held.settings.trusted_names.contains(name));
    if !selected {
        let problem = Problem::warning(path, "no client can be recognised as this caller")
            .help("add uid = N or listener = \"...\", or put the name into trusted_names of a listener");
        problems.add(draft.at, problem);
    }
}
