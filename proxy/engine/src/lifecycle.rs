//! What happens around requests: the end of a turn, time-outs, stalls, slow readers.

use crate::client::Target;
use crate::engine::Engine;
use crate::error::{Failure, Rejected};
use crate::ledger::Outcome;
use crate::multiplex::{CutCause, LaneState};
use crate::readers::Look;
use crate::units::{ClientId, Instant, LaneId, ServerId, Span};

/// How often time-outs are looked for.
const SCAN: Span = Span::millis(100);
/// How often queues and held input are looked at in one turn before sockets are looked at again.
const ROUNDS: usize = 4;

impl Engine {
    /// Ends a loop turn: held input goes on, queues are served, open batches are closed.
    pub fn end_turn(&mut self, now: Instant) {
        self.pump_due = false;
        self.pump_all(now);
        for _ in 0..ROUNDS {
            if self.resume.is_empty() {
                break;
            }
            for id in std::mem::take(&mut self.resume) {
                self.resume(id, now);
            }
            self.pump_all(now);
        }
        for lane in std::mem::take(&mut self.open_batches) {
            self.lanes[lane.0 as usize].close_batch(now);
            self.mark_lane(lane);
        }
        self.watch_input();
        self.feed.hand_over();
        if self.next_scan == Instant(0) && self.may_time_out() {
            self.next_scan = now.after(SCAN);
        }
    }

    fn pump_all(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            if !self.servers[index].small.is_empty() || !self.servers[index].bulk.is_empty() {
                self.pump(ServerId(index as u32), now);
            }
        }
    }

    fn resume(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.client_mut(id) else { return };
        client.resuming = false;
        if client.hold.is_none() && client.bulk.is_none() {
            self.decode_held(id, now);
        }
        if self.client(id).is_some_and(|client| client.eof) {
            self.mark_client(id); // it may be closed now
        }
    }

    /// More may be done than was done in the last turn (held input; a reader caught up): the driver should end another
    /// turn before it sleeps. Ask after the writes.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.pump_due || !self.resume.is_empty()
    }

    /// Chunks of large requests wait for their turn at a server.
    #[must_use]
    pub fn is_splitting(&self) -> bool {
        self.servers.iter().any(|server| !server.bulk.is_empty())
    }

    fn may_time_out(&self) -> bool {
        self.reply_bytes > 0
            || self.lanes.iter().any(|lane| !lane.owed.is_empty())
            || self.servers.iter().any(|s| !s.small.is_empty() || !s.bulk.is_empty())
    }

    /// When `on_timer` should be called next, at the latest. `None` while nothing is under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let scan = (self.next_scan > Instant(0)).then_some(self.next_scan);
        let naming = (self.naming.due > Instant(0)).then_some(self.naming.due);
        [scan, self.next_paced(), naming].into_iter().flatten().min()
    }

    /// Time-outs, stalls, pacing, slow readers. `end_turn` must follow.
    pub fn on_timer(&mut self, now: Instant) {
        self.book_overdue(now);
        self.paced_due(now);
        if self.next_scan == Instant(0) || now < self.next_scan {
            return;
        }
        for index in 0..self.lanes.len() {
            self.scan_lane(LaneId(index as u32), now);
        }
        let mut expired = Vec::new();
        for server in &mut self.servers {
            if now.0 > server.queue_timeout.0 {
                let before = Instant(now.0 - server.queue_timeout.0);
                server.small.expire(before, &mut expired);
                server.bulk.expire(before, &mut expired);
            }
        }
        for id in expired {
            self.expire(id, now);
        }
        self.scan_readers(now);
        self.next_scan = if self.may_time_out() { now.after(SCAN) } else { Instant(0) };
    }

    fn scan_lane(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        let server = &self.servers[lane.info.server.0 as usize];
        let Some(front) = lane.owed.front() else { return };
        let quiet_since = lane.heard.max(front.sent);
        let connected = matches!(lane.state, LaneState::Up | LaneState::Retired);
        if connected && now.since(quiet_since) >= server.stall_timeout && !lane.cut {
            lane.cut = true;
            self.cuts.push((id, CutCause::Stalled));
        }
        // commands are in the order of their `sent`
        let late = lane.owed.partition_point(|pending| now.since(pending.sent) >= server.request_timeout);
        for index in 0..late {
            self.time_out(id, index, now);
        }
    }

    fn expire(&mut self, id: ClientId, now: Instant) {
        self.note_left(id);
        let Some(client) = self.client_mut(id) else { return };
        client.hold = None;
        self.count_rejected(id, Rejected::QueueTimeout, 1);
        let Some(client) = self.client_mut(id) else { return };
        let Some(seq) = client.bulk.as_ref().map(|bulk| bulk.seq) else {
            client.doomed = Some(Failure::QueueTimeout);
            self.decode_held(id, now);
            return;
        };
        let line = Failure::QueueTimeout.line(&self.pool_name_of(id));
        if let Some(asked) = self.client_mut(id).and_then(|client| client.request(seq))
            && asked.error.is_none()
        {
            asked.error = Some(line);
            asked.outcome = Outcome::Timeout;
        }
        self.end_bulk(Target { client: id, seq }, now);
    }

    fn scan_readers(&mut self, now: Instant) {
        let mut look = Look::new(self.replies_crowded());
        for (slot, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.open) {
            let id = ClientId { slot: slot as u32, generation: client.generation };
            let settings = &self.settings.listeners[client.listener.0 as usize];
            let unread = client.unread();
            look.at(id, &mut client.reader, &client.out, unread, settings, now);
        }
        for id in look.into_closed(self.reply_bytes, self.settings.reply_bytes_max.0 as usize) {
            self.reject_client(id, Rejected::BufferBound);
            self.slow.push(id);
        }
    }

    /// A connection is about to be closed although it is not idle: what it asked and has not been answered, at least
    /// one request (an answer that was not read), is counted as turned down for this reason.
    pub fn reject_client(&mut self, id: ClientId, why: Rejected) {
        let Some(client) = self.client(id) else { return };
        let owed = client.asked.iter().filter(|asked| !asked.done).count();
        // a held request is among those asked only if it is a multiget
        let held = usize::from(client.hold.is_some() && client.bulk.is_none());
        self.count_rejected(id, why, (owed + held).max(1) as u64);
    }

    /// Counts under the name its multiget, or else the client, bears.
    fn count_rejected(&mut self, id: ClientId, why: Rejected, requests: u64) {
        let Some(client) = self.client_mut(id) else { return };
        let seq = client.bulk.as_ref().map(|bulk| bulk.seq);
        let asked = seq.and_then(|seq| client.request(seq)).map(|asked| asked.known);
        let known = asked.unwrap_or(client.known);
        self.ledger.rejected(known, why, requests);
    }
}
