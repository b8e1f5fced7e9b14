//! Who asks: a verified *principal* (listener, Unix peer uid) and a *name* that only refines labels within it.
//!
//! Limits and queues are keyed by the principal unless the operator trusts the name (`trusted_names`) or limited the
//! name by hand. A name that is not known is the principal's own name, never a guess (docs/architecture.md).

use crate::admit::LimitState;
use crate::settings::{CallerLimits, Settings};
use crate::units::ListenerId;
use std::sync::Arc;

/// Who a connection belongs to, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The door it came in by.
    pub listener: ListenerId,
    /// What weir can verify: the listener's name, `uid:N`, or the configured caller mapped to them.
    pub principal: Arc<str>,
    /// The name used for labels: the process name where it is known, else the principal.
    pub name: Arc<str>,
}

/// The limits an identity is held to, and the key of the budget it shares.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Everybody with this key shares the budget.
    pub key: Arc<str>,
    /// The numbers in force.
    pub limits: CallerLimits,
}

impl Identity {
    /// Whose limits apply: the name's when the listener trusts it or an operator limited it, else the principal's,
    /// else those of undeclared callers (one budget per principal, whatever names it claims).
    #[must_use]
    pub fn budget(&self, settings: &Settings) -> Budget {
        let trusted = settings.listeners[self.listener.0 as usize].trusted_names.contains(&self.name);
        if (trusted || settings.operator_callers.contains(&self.name))
            && let Some(limits) = settings.callers.get(&self.name)
        {
            return Budget { key: self.name.clone(), limits: limits.clone() };
        }
        let limits = settings.callers.get(&self.principal).unwrap_or(&settings.undeclared);
        Budget { key: self.principal.clone(), limits: limits.clone() }
    }
}

impl Identity {
    /// Whether its commands may say which request they are a part of.
    #[must_use]
    pub fn says_request_ids(&self, settings: &Settings) -> bool {
        settings.listeners[self.listener.0 as usize].trusted_request_ids.contains(&self.principal)
    }
}

/// Longest name of a caller, a pool or a listener, bytes.
pub const NAME_MAX: usize = 64;

/// Whether `text` may name a caller, a pool or a listener: `[A-Za-z0-9._:/@-]{1,64}`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
}

/// What a worker keeps about one identity while connections bear it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) identity: Arc<Identity>,
    /// Its name for tracers ([`crate::ledger::done`]).
    pub(crate) hash: u64,
    pub(crate) limits: CallerLimits,
    /// Its request ids are looked for and taken.
    pub(crate) request_ids: bool,
    /// Shared between workers: limits hold per process.
    pub(crate) state: Arc<LimitState>,
    /// Principal as a small number: the unit of fairness and of shared results.
    pub(crate) principal: u32,
    /// Connections that bear it.
    pub(crate) clients: u32,
    /// Requests under way that bear it: their connection may have been renamed since.
    pub(crate) requests: u32,
    /// Operations that wait on its account in the queues of the servers.
    pub(crate) queued: u64,
    /// Held accounts that may be booked under it.
    pub(crate) held: u32,
    /// Reply bytes per operation, corrected by every reply (fast up, slow down). Prices a request before it runs.
    pub(crate) reply_bytes: u64,
}

/// What a caller nobody has seen is assumed to read per operation: high, so that what it has under way before its first
/// reply is little (slow start).
pub(crate) const FIRST_ESTIMATE: u64 = 256 << 10;

impl Known {
    /// Nobody bears the name and nothing it asked is under way.
    pub(crate) fn unused(&self) -> bool {
        self.clients == 0 && self.requests == 0 && self.held == 0
    }

    /// Takes in what one reply weighed.
    pub(crate) fn learn(&mut self, bytes: u64, operations: u64) {
        if operations == 0 {
            return;
        }
        let seen = bytes / operations;
        self.reply_bytes = if seen > self.reply_bytes {
            seen
        } else {
            // a quarter down per reply, rounded so that it converges
            self.reply_bytes - (self.reply_bytes - seen).div_ceil(4)
        };
    }
}
