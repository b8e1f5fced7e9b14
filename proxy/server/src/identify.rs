//! Who a new connection belongs to, before anything is asked of the network: the verified principal and the best name.
//!
//! Where clients are told apart by certificate, that is known when the TLS handshake is done.
//!
//! The name refines labels within the principal. A principal that the configuration names keeps that name; otherwise
//! the process name is used where it is known (at once on a Unix socket, later on loopback TCP), unless it is not.

use crate::attribution::unix_peer::UnixPeers;
use crate::config::{Config, PrincipalKind};
use crate::listen::Peer;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use weir_engine::caller::Identity;
use weir_engine::units::ListenerId;

/// Identities remembered, so that a connection allocates none. All are forgotten beyond it.
const KEPT: usize = 1_024;

/// One worker's view of who there is.
#[derive(Debug, Default)]
pub struct Identities {
    known: HashMap<Identity, Arc<Identity>>,
    peers: UnixPeers,
}

impl Identities {
    /// Who just connected.
    pub fn of(
        &mut self,
        config: &Config,
        listener: ListenerId,
        socket: impl AsFd,
        peer: Peer,
        now: std::time::Instant,
    ) -> Arc<Identity> {
        let unix = match peer {
            // Without credentials it is one of the listener's, and nothing better is known.
            Peer::Unix => self.peers.identify(socket, now).ok(),
            Peer::Tcp(_) => None,
        };
        let principal = config.principal_of(listener, unix.as_ref().map(|peer| peer.cred.uid));
        let name = unix.map(|peer| peer.name()).filter(|name| refines(config, listener, &principal, name));
        self.share(Identity { listener, name: name.unwrap_or_else(|| principal.clone()), principal })
    }

    /// Who showed a certificate that bears this name.
    pub fn certified(&mut self, listener: ListenerId, caller: Arc<str>) -> Arc<Identity> {
        self.share(Identity { listener, principal: caller.clone(), name: caller })
    }

    /// The same connection with a name that was found since; `None` when it changes nothing.
    pub fn renamed(&mut self, config: &Config, old: &Identity, name: Arc<str>) -> Option<Arc<Identity>> {
        let changes = name != old.name && refines(config, old.listener, &old.principal, &name);
        changes
            .then(|| self.share(Identity { listener: old.listener, principal: old.principal.clone(), name }))
    }

    /// Whether a name that is found later could stand for such a connection at all.
    #[must_use]
    pub fn may_be_renamed(config: &Config, identity: &Identity) -> bool {
        let own = config.settings.listeners.get(identity.listener.0 as usize);
        own.is_some_and(|own| !own.trusted_names.is_empty())
            || !is_named(config, identity.listener, &identity.principal)
    }

    fn share(&mut self, identity: Identity) -> Arc<Identity> {
        if let Some(known) = self.known.get(&identity) {
            return known.clone();
        }
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let shared = Arc::new(identity.clone());
        self.known.insert(identity, shared.clone());
        shared
    }
}

/// Whether `name` may stand for a connection of `principal`: always where the listener trusts it, and never in the place
/// of a name that the configuration or a certificate gave the principal.
fn refines(config: &Config, listener: ListenerId, principal: &Arc<str>, name: &Arc<str>) -> bool {
    let trusted = config
        .settings
        .listeners
        .get(listener.0 as usize)
        .is_some_and(|own| own.trusted_names.contains(name));
    trusted || !is_named(config, listener, principal)
}

/// Whether a principal has a name that is better than a process's: the configuration's, or that of a certificate.
fn is_named(config: &Config, listener: ListenerId, principal: &Arc<str>) -> bool {
    let door = config.doors.get(listener.0 as usize);
    door.is_some_and(|door| door.principal == PrincipalKind::Certificate)
        || config.principals.iter().any(|rule| rule.caller == *principal)
}
