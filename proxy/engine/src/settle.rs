//! The end of a request: its parts are in (or failed), the answer is completed, the ledger gets its entry, admission
//! gets back what it booked, and answers leave in the order of the questions.

use crate::client::Target;
use crate::correlate::{Leg, Work};
use crate::engine::Engine;
use crate::error::Failure;
use crate::ledger::done::{MethodSpace, request_done};
use crate::ledger::{Entry, Outcome};
use crate::units::{Bytes, ClientId, Instant, LaneId, Operations, Span};
use weir_memcached::text;

/// How a part of a request failed: the line for the client, and what the ledger is told.
pub(crate) struct Fault {
    pub(crate) line: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl Engine {
    /// One part of a request was answered; the request may be complete, or its next segment due.
    pub(crate) fn part_answered(&mut self, target: Target, fault: Option<Fault>, now: Instant) {
        let Some(client) = self.client_mut(target.client) else { return };
        let Some(asked) = client.request(target.seq).filter(|asked| !asked.done) else { return };
        if let Some(fault) = fault
            && asked.error.is_none()
        {
            asked.outcome = fault.outcome;
            asked.error = Some(fault.line);
        }
        asked.outstanding = asked.outstanding.saturating_sub(1);
        let failed = asked.error.is_some();
        if let Some(merge) = &mut asked.merge {
            merge.left = merge.left.saturating_sub(1);
            if merge.left == 0
                && let Some(merge) = asked.merge.take()
            {
                self.drop_merge(merge.size());
                if !failed {
                    let values = if merge.lines { self.merge_lines(&merge, target) } else { merge.values() };
                    self.forward(target, &values, 0, 0);
                }
                self.segment_answered(target.client, now);
            }
        }
        self.wake_moved(target.client, now);
        self.complete(target, now);
    }

    /// A part will never be answered.
    pub(crate) fn fail_part(&mut self, target: Target, lane: LaneId, failure: Failure, now: Instant) {
        if self.client_mut(target.client).and_then(|client| client.request(target.seq)).is_none() {
            return;
        }
        let name = &self.servers[self.lanes[lane.0 as usize].info.server.0 as usize].name;
        let fault = Fault { line: failure.line(name), outcome: outcome_of(failure) };
        self.part_answered(target, Some(fault), now);
    }

    /// Ends the answer once every part is there.
    pub(crate) fn complete(&mut self, target: Target, now: Instant) {
        let Some(client) = self.client_mut(target.client) else { return };
        let Some(asked) = client.request(target.seq) else { return };
        if asked.done || !asked.complete || asked.outstanding > 0 {
            return;
        }
        let error = asked.error.take();
        let tail = match &error {
            Some(line) => line.as_slice(),
            None if asked.ends => text::END,
            None => &[],
        };
        if !tail.is_empty() {
            self.reply_bytes += client.answer(target.seq, tail);
        }
        self.finish(target, now);
    }

    /// Accounts for a request whose answer is complete and lets the answers in order leave.
    pub(crate) fn finish(&mut self, target: Target, now: Instant) {
        let Some(client) = self.client_mut(target.client) else { return };
        let Some(asked) = client.request(target.seq).filter(|asked| !asked.done) else { return };
        asked.done = true;
        self.account(target, now);
        self.clients[target.client.slot as usize].advance();
        self.mark_client(target.client);
        self.wake_moved(target.client, now);
        self.resume_later(target.client);
    }

    fn account(&mut self, target: Target, now: Instant) {
        let slot = target.client.slot as usize;
        let index = (target.seq - self.clients[slot].first_seq) as usize;
        let listener = self.clients[slot].listener;
        let expected = std::mem::take(&mut self.clients[slot].asked[index].expected);
        self.clients[slot].expected = self.clients[slot].expected.saturating_sub(expected);
        let held = self.clients[slot].asked[index].held.take();
        let asked = &self.clients[slot].asked[index];
        let entry = Entry {
            identity: asked.known,
            method: asked.verb.into(),
            operations: asked.operations,
            chunks: asked.chunks,
            backend_operations: asked.backend_operations,
            hits: asked.hits,
            misses: asked.misses,
            coalesced: asked.coalesced,
            bytes_in: asked.bytes_in,
            bytes_out: asked.bytes_out,
            queue_wait: self.queue_wait(asked),
            backend_time: asked.issued.map_or(Span(0), |issued| now.since(issued)),
            total: now.since(asked.arrived),
            outcome: asked.outcome,
            at: now,
            sent_to: None,
        };
        let rows = Operations(asked.hits.max(Bytes(asked.bytes_out).as_operations().0));
        let known = &mut self.callers.known[entry.identity as usize];
        if let Some(held) = held {
            known.state.release(held.operations, held.bytes);
            if rows > held.operations {
                known.state.settle(&known.limits, rows - held.operations, now);
            }
        }
        request_done(known.hash, MethodSpace::Memcached, &entry);
        if let Some(correlation) = self.clients[slot].asked[index].correlation.take() {
            let service = &known.identity.principal;
            self.feed.push(|| Work::new((*correlation).into(), Leg::Cache, service, &entry));
        }
        match self.clients[slot].held {
            Some(account) => self.ledger.record_held(account, &entry, None),
            None => self.ledger.record(&entry, &known.identity.name, listener),
        }
        known.requests -= 1;
        self.forget_identity(entry.identity);
    }

    /// The client is gone: what it is still owed is accounted as such.
    pub(crate) fn abandon_all(&mut self, id: ClientId, now: Instant) {
        let slot = id.slot as usize;
        let first = self.clients[slot].first_seq;
        for index in 0..self.clients[slot].asked.len() {
            let asked = &mut self.clients[slot].asked[index];
            let merged = asked.merge.as_ref().map_or(0, |merge| merge.size());
            self.reply_bytes = self.reply_bytes.saturating_sub(asked.reply.len());
            self.drop_merge(merged);
            let asked = &mut self.clients[slot].asked[index];
            if !asked.done {
                asked.done = true;
                asked.outcome = Outcome::ClientGone;
                self.account(Target { client: id, seq: first + index as u64 }, now);
            }
        }
    }
}

fn outcome_of(failure: Failure) -> Outcome {
    match failure {
        Failure::TimedOut | Failure::QueueTimeout => Outcome::Timeout,
        Failure::ServerError => Outcome::Error,
        Failure::FlushRefused => Outcome::Refused,
        _ => Outcome::BackendLost,
    }
}
