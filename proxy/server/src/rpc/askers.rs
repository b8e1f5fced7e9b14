//! Who calls, remembered: what a connection's principal and the name in a header come to under what is in force. Most calls
//! are of callers that have called before: nothing is put together or looked up for them but this.
//!
//! Bound: [`ASKERS_MAX`] callers; one more, and all are forgotten and learnt anew.

use crate::worker::orders::InForce;
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::caller::{Identity, NAME_MAX};
use weir_engine::rpc;
use weir_engine::settings::{LimitMode, Settings};
use weir_engine::units::ListenerId;

/// Callers that each thread remembers. Some hundred bytes each.
pub(crate) const ASKERS_MAX: usize = 4_096;

/// A caller of a listener.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) identity: Arc<Identity>,
    /// The service may believe the name that it gives itself.
    pub(super) trusted: bool,
    /// A request for more operations than this is refused whatever follows.
    pub(super) refuse_above: Option<u64>,
}

/// What a caller is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs<'s> {
    pub(super) listener: ListenerId,
    pub(super) verified: Verified<'s>,
    /// The name in its header.
    pub(super) declared: Option<&'s [u8]>,
}

/// What weir can verify of a caller.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verified<'s> {
    /// The listener it came to, and the user that connected, where the kernel says so.
    Connection(Option<u32>),
    /// A name of its own: a token's or a certificate's.
    Name(&'s Arc<str>),
}

/// Those that are remembered.
#[derive(Debug, Default)]
pub(super) struct Askers {
    known: HashMap<Box<[u8]>, Arc<Asker>>,
    /// Room to write a key in.
    key: Vec<u8>,
}

impl Askers {
    /// The caller with these signs.
    pub(super) fn of(&mut self, signs: Signs<'_>, in_force: &InForce) -> Arc<Asker> {
        self.key.clear();
        signs.write(&mut self.key);
        if let Some(asker) = self.known.get(self.key.as_slice()) {
            return asker.clone();
        }
        if self.known.len() >= ASKERS_MAX {
            self.known.clear();
        }
        let asker = Arc::new(Asker::learn(signs, in_force));
        self.known.insert(self.key.as_slice().into(), asker.clone());
        asker
    }

    /// Something else is in force.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Signs<'_> {
    /// The same bytes for the same caller, and for no other.
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.listener.0.to_le_bytes());
        match self.verified {
            Verified::Connection(None) => key.push(0),
            Verified::Connection(Some(uid)) => {
                key.push(1);
                key.extend_from_slice(&uid.to_le_bytes());
            }
            Verified::Name(name) => {
                key.push(2);
                key.extend_from_slice(&(name.len() as u64).to_le_bytes());
                key.extend_from_slice(name.as_bytes());
            }
        }
        match self.declared {
            None => key.push(0),
            // No name: all of these are one caller.
            Some(declared) if declared.len() > NAME_MAX => key.push(1),
            Some(declared) => {
                key.push(2);
                key.extend_from_slice(declared);
            }
        }
    }
}

impl Asker {
    fn learn(signs: Signs<'_>, in_force: &InForce) -> Asker {
        let (settings, config) = (&in_force.settings, &in_force.config);
        // Whether it is a name of its own: one of the configuration or of a certificate, and not just the listener or a number.
        let (principal, named) = match signs.verified {
            Verified::Name(name) => (name.clone(), true),
            Verified::Connection(uid) => {
                let principal = config.principal_of(signs.listener, uid);
                let named = config.principals.iter().any(|rule| rule.caller == principal);
                (principal, named)
            }
        };
        let (identity, trusted) = who(settings, signs.listener, (principal, named), signs.declared);
        let limits = identity.budget(settings).limits;
        let refuses =
            settings.listeners[signs.listener.0 as usize].switches.limits && limits.mode == LimitMode::Refuse;
        let refuse_above = limits.operations_per_request.filter(|_| refuses).map(|most| most.0);
        Asker { identity: Arc::new(identity), trusted, refuse_above }
    }
}

/// Who calls, and whether the service may believe the name: the verified principal, and within it the name that the client
/// declares, unless the principal has a better one of its own.
fn who(
    settings: &Settings,
    listener: ListenerId,
    (principal, named): (Arc<str>, bool),
    declared: Option<&[u8]>,
) -> (Identity, bool) {
    let identity = rpc::identity(listener, &principal, declared);
    let trusted = settings.listeners[listener.0 as usize].trusted_names.contains(&identity.name);
    if trusted || !named {
        return (identity, trusted);
    }
    (Identity { listener, name: principal.clone(), principal }, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_callers_have_different_keys() {
        let (name, longer): (Arc<str>, Arc<str>) = ("a".into(), "a\u{2}b".into());
        let long = [b'x'; NAME_MAX + 1];
        let verified = [
            Verified::Connection(None),
            Verified::Connection(Some(0)),
            Verified::Connection(Some(7)),
            Verified::Name(&name),
            Verified::Name(&longer),
        ];
        let declared: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"b"), Some(b"\x02b"), Some(&long)];
        let mut keys = std::collections::HashSet::new();
        for listener in [ListenerId(0), ListenerId(1)] {
            for verified in verified {
                for declared in declared {
                    let mut key = Vec::new();
                    Signs { listener, verified, declared }.write(&mut key);
                    assert!(keys.insert(key), "{listener:?} {verified:?} {declared:?}");
                }
            }
        }
    }
}
