//! Service tokens: who signs them, and which listeners look at them.

use crate::config::file::{Collector, Draft, FileShape};
use crate::config::keys::CallerDraft;
use crate::config::problem::Problem;
use crate::config::values::is_did;
use crate::token::{Issuer, PublicKey};
use std::sync::Arc;
use weir_engine::settings::{Backend, ListenerSettings};

/// The callers that sign tokens, in the order of the file.
pub(super) fn check(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    listeners: &[ListenerSettings],
) -> Arc<[Issuer]> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for draft in &shape.callers {
        let path = format!("callers.{}", draft.name);
        let Some(issuer) = issuer(problems, &path, draft) else { continue };
        match issuers.iter().find(|other| other.issuer == issuer.issuer) {
            Some(other) => {
                let key = if draft.places.contains_key("jwt_issuer") { "jwt_issuer" } else { "jwt_keys" };
                let what = format!("[callers.{}] already has the tokens of {}", other.caller, other.issuer);
                problems.add(draft.place(key), Problem::error(format!("{path}.{key}"), what));
            }
            None => issuers.push(issuer),
        }
    }
    doors(problems, shape, listeners);
    issuers.into()
}

fn issuer(problems: &mut Collector<'_>, path: &str, draft: &Draft<CallerDraft>) -> Option<Issuer> {
    let held = &draft.held;
    if held.jwt_keys.is_empty() {
        if held.jwt_issuer.is_some() {
            let problem =
                Problem::error(format!("{path}.jwt_issuer"), "no key says which tokens are its own")
                    .help("set jwt_keys = [\"did:key:z...\"]");
            problems.add(draft.place("jwt_issuer"), problem);
        }
        return None;
    }
    let mut keys = Vec::new();
    for text in &held.jwt_keys {
        match PublicKey::parse(text) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let problem =
                    Problem::error(format!("{path}.jwt_keys"), format!("\"{text}\" is no key: {why}"));
                problems.add(draft.place("jwt_keys"), problem);
            }
        }
    }
    if !draft.places.contains_key("jwt_issuer") && !is_did(&draft.name) {
        let problem = Problem::error(
            format!("{path}.jwt_keys"),
            "the section's name is no DID: no token can have it as issuer",
        )
        .help("name the section as the tokens' `iss`, or set jwt_issuer");
        problems.add(draft.place("jwt_keys"), problem);
        return None;
    }
    let issuer = held.jwt_issuer.clone().unwrap_or_else(|| draft.name.clone());
    // an issuer without one good key is told of above
    Some(Issuer { issuer, caller: draft.name.clone(), keys })
}

/// Keys that nobody would look at, on either side.
fn doors(problems: &mut Collector<'_>, shape: &FileShape, listeners: &[ListenerSettings]) {
    let signs = |draft: &&Draft<CallerDraft>| !draft.held.jwt_keys.is_empty();
    let mut looks = false;
    for (draft, settings) in shape.listeners.iter().zip(listeners) {
        let path = format!("listener.{}", draft.name);
        let is_service = matches!(settings.backend, Backend::Service(_));
        let audiences = draft.places.contains_key("jwt_audiences");
        looks |= is_service && audiences;
        for key in ["jwt_audiences", "jwt_cached_max", "jwt_checks_per_second"] {
            let what = match (is_service, audiences) {
                (false, _) => "has no effect: only listeners of services look at tokens",
                (true, false) if key != "jwt_audiences" => "has no effect without jwt_audiences",
                (true, true)
                    if key == "jwt_audiences" && !shape.callers.iter().any(|caller| signs(&caller)) =>
                {
                    "no token names anybody: no section of [callers] has jwt_keys"
                }
                _ => continue,
            };
            if draft.places.contains_key(key) {
                problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
            }
        }
    }
    if looks {
        return;
    }
    for draft in shape.callers.iter().filter(signs) {
        let problem =
            Problem::warning(format!("callers.{}.jwt_keys", draft.name), "no listener looks at tokens")
                .help("set jwt_audiences on a listener of a service");
        problems.add(draft.place("jwt_keys"), problem);
    }
}
