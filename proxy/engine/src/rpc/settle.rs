//! The end of a call: admission gets back what it booked, the caller is charged what only the answer revealed, the
//! ledger gets its entry. Parts that servers still work on keep their places in the budgets until they are over.

use super::RpcEngine;
use super::call::{CallId, PartId, Stage};
use super::methods::{MethodNumber, Protocol};
use crate::ledger::done::{MethodSpace, request_done};
use crate::ledger::{Entry, Outcome};
use crate::units::{Bytes, Instant, ListenerId, Operations, Span};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Seen from the client.
    pub outcome: Outcome,
    /// Keys of its answer: elements of the repeated fields that the method's description counts.
    pub reply_keys: u64,
    /// Bytes of its answer.
    pub bytes: u64,
}

/// What the ledger is told of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Books {
    entry: Entry,
    listener: ListenerId,
}

impl Books {
    /// Of a call that was refused before anything of it was read.
    pub(super) fn refused(
        known: u32,
        listener: ListenerId,
        protocol: Protocol,
        method: MethodNumber,
        now: Instant,
    ) -> Books {
        let entry = Entry {
            identity: known,
            method: method.in_ledger(protocol),
            operations: 0,
            chunks: 0,
            backend_operations: 0,
            hits: 0,
            misses: 0,
            coalesced: 0,
            bytes_in: 0,
            bytes_out: 0,
            queue_wait: Span(0),
            backend_time: Span(0),
            total: Span(0),
            outcome: Outcome::Refused,
            at: now,
            sent_to: None,
        };
        Books { entry, listener }
    }
}

impl RpcEngine {
    /// A call has its answer, whoever wrote it. The last word about it, and about its one part where it was passed on
    /// whole. Parts of a split call that servers still work on are told of by [`RpcEngine::part_over`].
    pub fn answered(&mut self, id: CallId, end: &End, now: Instant) {
        if self.calls.get(id).is_some_and(|call| call.stage == Stage::Whole) {
            self.land(PartId { call: id, index: 0 });
        }
        self.over(id, end.outcome, end.reply_keys, end.bytes, now);
    }

    /// The client is gone: the parts that are to be stopped, each followed by [`RpcEngine::part_over`].
    pub fn cancelled(&mut self, id: CallId, now: Instant) -> Vec<u32> {
        let cancel = self.parts_of(id);
        self.over(id, Outcome::ClientGone, 0, 0, now);
        cancel
    }

    /// Parts of a call that servers work on.
    pub(super) fn parts_of(&self, id: CallId) -> Vec<u32> {
        let parts = self.calls.get(id).filter(|call| call.stage != Stage::Over);
        parts.map_or_else(Vec::new, |call| call.in_flight.iter().map(|part| part.index).collect())
    }

    pub(super) fn over(&mut self, id: CallId, outcome: Outcome, reply_keys: u64, bytes: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(id).filter(|call| call.stage != Stage::Over) else { return };
        let was = std::mem::replace(&mut call.stage, Stage::Over);
        // a split call's keys were counted part by part, where the edge does not count the whole
        let reply_keys = reply_keys.max(call.reply_keys);
        let books = Books {
            listener: call.listener,
            entry: Entry {
                identity: call.known,
                method: call.method.in_ledger(call.protocol),
                operations: call.operations,
                chunks: call.sent,
                backend_operations: call.backend_operations,
                hits: 0,
                misses: 0,
                coalesced: 0,
                bytes_in: call.bytes_in,
                bytes_out: bytes,
                queue_wait: call.queue_wait(),
                backend_time: call.first_sent.map_or(Span(0), |sent| now.since(sent)),
                total: now.since(call.counted.unwrap_or(call.arrived)),
                outcome,
                at: now,
                sent_to: None,
            },
        };
        let place = call.service;
        self.timers.remove(&(call.timer, id));
        let service = &mut self.services[place];
        service.calls -= 1;
        service.gathered = service.gathered.saturating_sub(std::mem::take(&mut call.gathered));
        match was {
            Stage::Queued => drop(service.small.remove(id)),
            Stage::Split | Stage::Failed => {
                service.bulk.remove(id);
                service.splits.remove(&call.serial);
                service.counts.splits[outcome.index()] += 1;
            }
            Stage::New | Stage::Kept | Stage::Whole | Stage::Over => {}
        }
        let known = &mut self.callers.known[call.known as usize];
        known.queued = known.queued.saturating_sub(std::mem::take(&mut call.unsent));
        if let Some(held) = call.held.take() {
            known.state.release(held.operations, held.bytes);
            let found = Operations(reply_keys.max(Bytes(bytes).as_operations().0));
            if found > held.operations {
                known.state.settle(&known.limits, found - held.operations, now);
            }
            if outcome == Outcome::Ok {
                known.learn(bytes, call.operations);
            }
        }
        if outcome == Outcome::Ok {
            self.counts.replied(call.method, reply_keys);
        }
        let known = call.known;
        self.book(&books, outcome, reply_keys, now);
        self.callers.request_ended(known, &mut self.ledger);
        self.remove_if_done(id);
        self.pump(place, now);
    }

    /// Writes an entry.
    pub(super) fn book(&mut self, books: &Books, outcome: Outcome, reply_keys: u64, now: Instant) {
        let entry = Entry { outcome, at: now, hits: reply_keys, ..books.entry };
        let known = &self.callers.known[entry.identity as usize];
        request_done(known.hash, MethodSpace::Rpc, &entry);
        self.ledger.record(&entry, &known.identity.name, books.listener);
    }
}
