//! What is shown of the engine and counted about methods and services. What is counted per caller is in the ledger.

use super::RpcEngine;
use super::call::Stage;
use super::methods::{METHODS_MAX, MethodNumber};
use super::service::ServiceCounts;
use crate::caller::Identity;
use crate::ledger::tally::{Buckets, OPERATION_BOUNDS, OPERATION_BUCKETS};
use crate::snapshot::CallerSnapshot;
use crate::units::{Instant, Operations, Span};
use std::sync::Arc;

/// What is counted by method since it was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodCounts {
    /// Calls refused because an operator had switched the method off.
    pub denied: u64,
    /// Times it was not split any more, because of a field that is not described.
    pub split_stopped: u64,
    /// Answered calls by the keys of their answers ([`OPERATION_BOUNDS`]).
    pub reply_keys: Buckets<OPERATION_BUCKETS>,
}

/// Counts of every method that has any.
#[derive(Debug)]
pub struct RpcCounts {
    by_method: Vec<Option<Box<MethodCounts>>>,
    dirty: bool,
}

impl Default for RpcCounts {
    fn default() -> RpcCounts {
        RpcCounts { by_method: vec![None; METHODS_MAX], dirty: false }
    }
}

impl RpcCounts {
    pub(super) fn of(&mut self, method: MethodNumber) -> &mut MethodCounts {
        self.dirty = true;
        self.by_method[method.index()].get_or_insert_default()
    }

    pub(super) fn replied(&mut self, method: MethodNumber, keys: u64) {
        self.of(method).reply_keys.add(&OPERATION_BOUNDS, keys);
    }
}

/// How one service stands.
#[derive(Clone, Debug)]
pub struct ServiceStanding {
    /// Its name.
    pub name: Arc<str>,
    /// Calls begun and not over (`calls_max`).
    pub calls: u32,
    /// Calls passed on whole that servers work on (`calls_in_flight`).
    pub whole: u32,
    /// Calls that wait to be passed on whole.
    pub waiting: usize,
    /// How long the first of them has waited, at most.
    pub oldest_wait: Span,
    /// Split calls that are not over.
    pub split: usize,
    /// Their keys that were not passed on yet.
    pub keys_waiting: u64,
    /// Bytes of answers of parts that wait for the others (`gather_bytes_max`).
    pub gathered: u64,
    /// Parts and calls servers work on although nobody waits for them any more.
    pub orphans: u32,
    /// Its servers.
    pub servers: Vec<ServerStanding>,
    /// What is counted since the start.
    pub counts: ServiceCounts,
}

/// How one server of a service stands.
#[derive(Clone, Debug)]
pub struct ServerStanding {
    /// `host:port` or `unix:/path`.
    pub name: Arc<str>,
    /// Whether it was said to be up.
    pub up: bool,
    /// Calls it works on.
    pub calls: u32,
    /// Parts of split calls it works on (`chunks_in_flight`).
    pub chunks: u32,
    /// Operations of both.
    pub operations: u64,
    /// Operations it was ever passed.
    pub operations_total: u64,
}

impl RpcEngine {
    /// How every service of the settings stands.
    #[must_use]
    pub fn services(&self, now: Instant) -> Vec<ServiceStanding> {
        let mut keys_waiting = vec![0; self.services.len()];
        let mut orphans = vec![0; self.services.len()];
        for (_, call) in self.calls.iter() {
            match call.stage {
                Stage::Split => keys_waiting[call.service] += call.unsent,
                Stage::Over | Stage::Failed => orphans[call.service] += call.in_flight.len() as u32,
                _ => {}
            }
        }
        let of = |place: &usize| {
            let service = &self.services[*place];
            let servers = service.servers.iter().filter(|server| server.listed);
            ServiceStanding {
                name: service.settings.name.clone(),
                calls: service.calls,
                whole: service.whole,
                waiting: service.small.len(),
                oldest_wait: service.small.oldest().map_or(Span(0), |since| now.since(since)),
                split: service.splits.len(),
                keys_waiting: keys_waiting[*place],
                gathered: service.gathered,
                orphans: orphans[*place],
                servers: servers
                    .map(|server| ServerStanding {
                        name: server.name.clone(),
                        up: server.up,
                        calls: server.calls,
                        chunks: server.chunks,
                        operations: server.operations,
                        operations_total: server.operations_total,
                    })
                    .collect(),
                counts: service.counts.clone(),
            }
        };
        self.places.iter().map(of).collect()
    }

    /// The callers that have calls under way or asked for something lately.
    #[must_use]
    pub fn callers(&self) -> Vec<CallerSnapshot> {
        let known = self.callers.known.iter().filter(|known| known.clients > 0 || known.requests > 0);
        known
            .map(|known| CallerSnapshot {
                identity: known.identity.clone(),
                operations: known.state.operations_in_flight(),
                bytes: known.state.bytes_in_flight(),
                queued: Operations(known.queued),
                clients: known.requests,
            })
            .collect()
    }

    /// Names of methods by number: what the ledger's methods are called. Grows, and never changes otherwise.
    #[must_use]
    pub fn method_names(&self) -> &[Arc<str>] {
        self.methods.names()
    }

    /// Described methods that found no number left, since the start: they are `_other`.
    #[must_use]
    pub fn methods_overflowed(&self) -> u64 {
        self.methods.overflowed
    }

    /// Visits and resets what was counted by method since the last call.
    pub fn take_method_counts(&mut self, mut f: impl FnMut(&Arc<str>, &MethodCounts)) {
        if !std::mem::take(&mut self.counts.dirty) {
            return;
        }
        for (counts, name) in self.counts.by_method.iter_mut().zip(self.methods.names()) {
            if let Some(counts) = counts.as_deref_mut().filter(|counts| **counts != MethodCounts::default()) {
                f(name, counts);
                *counts = MethodCounts::default();
            }
        }
    }

    /// Visits and resets the operations each server was passed since the last call: caller's slot, caller, server. To be
    /// called before [`RpcEngine::fold`].
    pub fn fold_servers(&mut self, mut f: impl FnMut(u32, &Arc<Identity>, &str, u64)) {
        for server in self.services.iter_mut().flat_map(|service| &mut service.servers) {
            for (slot, spent) in server.spent.iter_mut().enumerate() {
                let operations = std::mem::take(spent);
                if operations > 0 {
                    f(slot as u32, &self.callers.known[slot].identity, &server.name, operations);
                }
            }
        }
    }
}
