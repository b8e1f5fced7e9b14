//! One call from its head to its end, and the parts it is passed on in.

use super::methods::{MethodNumber, Protocol};
use crate::client::Held;
use crate::units::{Instant, ListenerId, Span};
use slab::Slab;
use std::sync::Arc;

/// Names one call. A slot is used again; the generation tells calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Names one part of a call; a call that is passed on whole has the one part 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId {
    /// The call.
    pub call: CallId,
    /// Its place in the call, from 0.
    pub index: u32,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its head is here, its body is not counted yet, or it is paced.
    New,
    /// Weir has its answer, and the servers hear nothing of it.
    Kept,
    /// Whole; it waits for its turn.
    Queued,
    /// Whole; a server works on it.
    Whole,
    /// In parts.
    Split,
    /// A part failed: nothing more is started, and its end is awaited.
    Failed,
    /// Its end is in the books; servers still work on parts of it.
    Over,
}

/// A part that a server works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) index: u32,
    /// Place of the server in its service.
    pub(super) server: u32,
    pub(super) keys: u64,
    /// How often it was sent.
    pub(super) attempts: u8,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) protocol: Protocol,
    pub(super) method: MethodNumber,
    /// Slot of its caller.
    pub(super) known: u32,
    pub(super) listener: ListenerId,
    /// Place of its service in the engine.
    pub(super) service: usize,
    pub(super) stage: Stage,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
    /// When the engine looks at it by itself ([`super::RpcEngine::on_timer`]).
    pub(super) timer: Instant,
    /// Since when it could have run: pacing and queues count from here.
    pub(super) counted: Option<Instant>,
    pub(super) operations: u64,
    pub(super) bytes_in: u64,
    pub(super) idempotent: bool,
    pub(super) held: Option<Held>,
    /// Keys of its parts, but for the last one.
    pub(super) chunk_keys: u64,
    pub(super) chunks: u32,
    /// The part that is started next.
    pub(super) next: u32,
    /// Parts that were answered.
    pub(super) answered: u32,
    /// Parts sent, those sent again included.
    pub(super) sent: u32,
    pub(super) in_flight: Vec<InFlight>,
    /// Operations that were not passed on yet; they count as waiting.
    pub(super) unsent: u64,
    pub(super) backend_operations: u64,
    pub(super) first_sent: Option<Instant>,
    /// Of answers of parts that wait for the others.
    pub(super) gathered: u64,
    pub(super) reply_keys: u64,
    /// Its place among the split calls, by age.
    pub(super) serial: u64,
}

impl Call {
    /// Keys of one part.
    pub(super) fn keys_of(&self, index: u32) -> u64 {
        let before = u64::from(index).saturating_mul(self.chunk_keys);
        self.operations.saturating_sub(before).min(self.chunk_keys)
    }

    /// Whether another part may be started.
    pub(super) fn has_next(&self, window: u32) -> bool {
        self.stage == Stage::Split && self.next < self.chunks && self.in_flight.len() < window as usize
    }

    /// Whether it goes in parts, failed and ended or not.
    pub(super) fn split(&self) -> bool {
        self.chunks > 1
    }

    pub(super) fn find(&self, index: u32) -> Option<usize> {
        self.in_flight.iter().position(|part| part.index == index)
    }

    pub(super) fn queue_wait(&self) -> Span {
        match (self.counted, self.first_sent) {
            (Some(counted), Some(sent)) => sent.since(counted),
            _ => Span(0),
        }
    }
}

/// The calls of an engine.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Slab<(u32, Box<Call>)>,
    generation: u32,
}

impl Calls {
    pub(super) fn insert(&mut self, call: Call) -> CallId {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.calls.insert((self.generation, Box::new(call))) as u32;
        CallId { slot, generation: self.generation }
    }

    pub(super) fn get(&self, id: CallId) -> Option<&Call> {
        let (generation, call) = self.calls.get(id.slot as usize)?;
        (*generation == id.generation).then_some(call)
    }

    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        let (generation, call) = self.calls.get_mut(id.slot as usize)?;
        (*generation == id.generation).then_some(call)
    }

    /// Memory is given back with the last one.
    pub(super) fn remove(&mut self, id: CallId) {
        if self.get(id).is_some() {
            self.calls.remove(id.slot as usize);
        }
        if self.calls.is_empty() {
            self.calls.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (CallId, &Call)> {
        self.calls.iter().map(|(slot, (generation, call))| {
            (CallId { slot: slot as u32, generation: *generation }, call.as_ref())
        })
    }
}

/// How a call is to be known: by the verified principal and, where the client declared a name, by that.
///
/// A name that breaks the rule of [`crate::caller::is_name`] is `_invalid`; one that is not declared is the principal's.
#[must_use]
pub fn identity(
    listener: ListenerId,
    principal: &Arc<str>,
    declared: Option<&[u8]>,
) -> crate::caller::Identity {
    let name = match declared.map(std::str::from_utf8) {
        None => principal.clone(),
        Some(Ok(name)) if crate::caller::is_name(name) => name.into(),
        Some(_) => INVALID_NAME.into(),
    };
    crate::caller::Identity { listener, principal: principal.clone(), name }
}

/// The name of callers whose declared name is none.
pub const INVALID_NAME: &str = "_invalid";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_name_is_a_label_and_nothing_else() {
        let principal: Arc<str> = "uid:7".into();
        for (declared, name) in [
            (None, "uid:7"),
            (Some(&b"appview"[..]), "appview"),
            (Some(b""), "_invalid"),
            (Some(b"a b"), "_invalid"),
            (Some(b"\xff"), "_invalid"),
            (Some(&[b'a'; 65]), "_invalid"),
        ] {
            let identity = identity(ListenerId(0), &principal, declared);
            assert_eq!((&*identity.name, &*identity.principal), (name, "uid:7"));
        }
    }
}
