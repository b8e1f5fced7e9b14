//! What is sent when, and what came of it: whole calls while fewer than `calls_in_flight` are with the servers, parts of
//! split calls while a server has fewer than `chunks_in_flight` and their call fewer than `chunk_window`, one of more parts than that
//! fewer than `chunks_beside_calls` while servers have whole calls.
//!
//! Both wait in fair queues (deficit round robin over principals, then calls, charged by keys), but not in the same one:
//! a small call never waits behind parts here, and behind no more of them than the budget at the server. While answers
//! of `gather_bytes_max` are held, only the oldest split call goes on, so that one always ends.

use super::RpcEngine;
use super::call::{CallId, InFlight, PartId, Stage};
use super::refusal::Refusal;
use crate::units::Instant;

/// A call or a part is sent at most this often in all, budget or not.
pub(super) const ATTEMPTS_MAX: u8 = 3;

/// One part that is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub part: PartId,
    /// The server, for [`RpcEngine::server`].
    pub server: u32,
    /// Its first key's place in the call.
    pub first_key: u64,
    /// Its keys.
    pub keys: u64,
}

/// What is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this part; tell how it ended.
    Start(Start),
    /// weir ended the call: answer it, stop these parts and tell [`RpcEngine::part_over`] when they are. Nothing else is
    /// to be told of it any more.
    Ended {
        /// The call.
        call: CallId,
        /// What it waited for too long in weir; `None`: its deadline has passed.
        refusal: Option<Refusal>,
        /// Its parts that servers work on.
        cancel: Vec<u32>,
    },
}

/// What the end of a part means for its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others are missing.
    More,
    /// It was the last one: the answer can be put together.
    Complete,
    /// The call has failed, and with this part's error: stop these parts, tell [`RpcEngine::part_over`] when they are,
    /// and tell [`RpcEngine::answered`] when the client has its answer.
    Failed {
        /// Its other parts that servers work on.
        cancel: Vec<u32>,
    },
    /// The call had failed or ended before.
    Gone,
}

impl RpcEngine {
    /// A part of a split call was answered: so many keys, so many bytes, which the edge holds until the call is over.
    pub fn part_answered(&mut self, part: PartId, reply_keys: u64, bytes: u64, now: Instant) -> Progress {
        let Some(place) = self.land(part) else { return Progress::Gone };
        let Some(call) = self.calls.get_mut(part.call) else { return Progress::Gone };
        if call.stage != Stage::Split {
            self.remove_if_done(part.call);
            self.pump(place, now);
            return Progress::Gone;
        }
        call.answered += 1;
        call.gathered = call.gathered.saturating_add(bytes);
        call.reply_keys = call.reply_keys.saturating_add(reply_keys);
        let complete = call.answered == call.chunks;
        self.services[place].gathered = self.services[place].gathered.saturating_add(bytes);
        self.offer(part.call, now);
        self.pump(place, now);
        if complete { Progress::Complete } else { Progress::More }
    }

    /// A part of a split call was answered with an error, or not at all, and is not sent again: the call fails with it.
    pub fn part_failed(&mut self, part: PartId, now: Instant) -> Progress {
        let Some(place) = self.land(part) else { return Progress::Gone };
        let Some(call) = self.calls.get_mut(part.call) else { return Progress::Gone };
        let first = call.stage == Stage::Split;
        if first {
            call.stage = Stage::Failed;
            let known = &mut self.callers.known[call.known as usize];
            known.queued = known.queued.saturating_sub(std::mem::take(&mut call.unsent));
            self.services[place].bulk.remove(part.call);
        }
        let cancel = call.in_flight.iter().map(|part| part.index).collect();
        self.remove_if_done(part.call);
        self.pump(place, now);
        if first { Progress::Failed { cancel } } else { Progress::Gone }
    }

    /// A part is over that was to be stopped, or of a call that has ended: the server does not work on it any more, as far
    /// as anybody can tell. For every part that was started and neither answered nor failed.
    pub fn part_over(&mut self, part: PartId, now: Instant) {
        let Some(place) = self.land(part) else { return };
        self.remove_if_done(part.call);
        self.pump(place, now);
    }

    /// Whether a call or a part that a server failed may be sent once more, and where. Only what does no more when it is
    /// asked twice, within the retry budget, [`ATTEMPTS_MAX`] times in all, and to another server if there is one.
    pub fn retry(&mut self, part: PartId, now: Instant) -> Option<Start> {
        let call = self.calls.get_mut(part.call)?;
        let wanted = matches!(call.stage, Stage::Whole | Stage::Split);
        let place = call.find(part.index)?;
        let InFlight { server: old, keys, attempts, .. } = call.in_flight[place];
        if !wanted || !call.idempotent || attempts >= ATTEMPTS_MAX || now >= call.deadline {
            return None;
        }
        let chunk = call.stage == Stage::Split;
        let service = &mut self.services[call.service];
        if !service.budget.take(service.settings.retry_percent, now) {
            service.counts.retries_refused += 1;
            return None;
        }
        service.counts.retries += 1;
        let server = service.another(old, chunk).unwrap_or(old);
        service.leave(old, chunk, keys);
        service.enter(server, chunk, now);
        service.servers[server as usize].spend(call.known, keys);
        service.budget.asked(now);
        call.in_flight[place] = InFlight { index: part.index, server, keys, attempts: attempts + 1 };
        call.backend_operations += keys;
        call.sent += 1;
        let first_key = u64::from(part.index) * call.chunk_keys;
        let of = call.service;
        self.pump(of, now); // there may be room at the other one now
        Some(Start { part, server, first_key, keys })
    }

    /// A call that waits, or is new, is passed on whole.
    pub(super) fn start_whole(&mut self, id: CallId, now: Instant) -> Option<Start> {
        let call = self.calls.get_mut(id)?;
        let server = self.services[call.service].for_call()?;
        call.stage = Stage::Whole;
        self.send(id, 0, server, now)
    }

    /// Queues a split call that may start another part and is not queued.
    pub(super) fn offer(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else { return };
        let service = &mut self.services[call.service];
        if call.has_next(service.window(call.chunks, now)) && !service.bulk.contains(id) {
            let known = &self.callers.known[call.known as usize];
            service.bulk.push(known.principal, known.limits.class, id, call.keys_of(call.next), now);
        }
    }

    /// Starts what there is room for.
    pub(super) fn pump(&mut self, place: usize, now: Instant) {
        while self.services[place].has_call_room() {
            let Some(popped) = self.services[place].small.pop() else { break };
            if let Some(start) = self.start_whole(popped.client, now) {
                self.events.push(Event::Start(start));
            }
            self.services[place].small.charge(popped.principal, popped.cost);
        }
        while self.pump_part(place, now) {}
    }

    fn pump_part(&mut self, place: usize, now: Instant) -> bool {
        let service = &mut self.services[place];
        if service.bulk.is_empty() {
            return false;
        }
        let oldest = service.splits.first_key_value().map(|(_, id)| *id);
        let crowded = service.crowded();
        if crowded && oldest.is_none_or(|oldest| !service.bulk.contains(oldest)) {
            return false;
        }
        let Some(server) = service.for_chunk() else { return false };
        let (id, principal) = match oldest.filter(|_| crowded) {
            Some(oldest) => {
                service.bulk.remove(oldest);
                let known = self.calls.get(oldest).map_or(0, |call| call.known);
                (oldest, self.callers.known[known as usize].principal)
            }
            None => match service.bulk.pop() {
                Some(popped) => (popped.client, popped.principal),
                None => return false,
            },
        };
        let Some(call) = self.calls.get_mut(id) else { return true };
        let index = call.next;
        call.next += 1;
        if let Some(start) = self.send(id, index, server, now) {
            self.services[place].bulk.charge(principal, start.keys);
            self.services[place].counts.chunks += 1;
            self.events.push(Event::Start(start));
        }
        self.offer(id, now);
        true
    }

    fn send(&mut self, id: CallId, index: u32, server: u32, now: Instant) -> Option<Start> {
        let call = self.calls.get_mut(id)?;
        let keys = call.keys_of(index);
        let service = &mut self.services[call.service];
        service.enter(server, call.stage == Stage::Split, now);
        service.servers[server as usize].spend(call.known, keys);
        service.budget.asked(now);
        let known = &mut self.callers.known[call.known as usize];
        known.queued = known.queued.saturating_sub(keys);
        call.unsent = call.unsent.saturating_sub(keys);
        call.backend_operations += keys;
        call.sent += 1;
        call.in_flight.push(InFlight { index, server, keys, attempts: 1 });
        let first_key = u64::from(index) * call.chunk_keys;
        if call.first_sent.is_none() {
            call.first_sent = Some(now);
            let deadline = call.deadline;
            self.time(id, deadline);
        }
        Some(Start { part: PartId { call: id, index }, server, first_key, keys })
    }

    /// A server does not work on a part any more: the place of its service, where it was in flight.
    pub(super) fn land(&mut self, part: PartId) -> Option<usize> {
        let call = self.calls.get_mut(part.call)?;
        let place = call.find(part.index)?;
        let InFlight { server, keys, .. } = call.in_flight.swap_remove(place);
        let of = call.service;
        self.services[of].leave(server, call.split(), keys);
        Some(of)
    }

    /// What has ended is forgotten with its last part.
    pub(super) fn remove_if_done(&mut self, id: CallId) {
        if self.calls.get(id).is_some_and(|call| call.stage == Stage::Over && call.in_flight.is_empty()) {
            self.calls.remove(id);
        }
    }
}
