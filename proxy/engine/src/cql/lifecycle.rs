//! What happens around requests: the end of a turn, time-outs, stalls, worn-out connections, slow readers.

use super::error::Failure;
use super::request::{RequestId, Stage};
use super::{CqlEngine, LIVE_MAX, client};
use crate::error::Rejected;
use crate::multiplex::{CutCause, LaneState};
use crate::readers::Look;
use crate::units::{ClientId, Instant, LaneId, Span};
use std::cmp::Reverse;
use weir_cql::{Version, write_segments};

/// How often time-outs are looked for.
const SCAN: Span = Span::millis(100);
/// How often queues and held input are looked at in one turn before sockets are looked at again.
const ROUNDS: usize = 4;

impl CqlEngine {
    /// Ends a loop turn: held input goes on, queues are served, segments are closed.
    pub fn end_turn(&mut self, now: Instant) {
        self.pump_due = false;
        self.pump_all(now);
        for _ in 0..ROUNDS {
            if self.resume.is_empty() {
                break;
            }
            for id in std::mem::take(&mut self.resume) {
                if let Some(client) = self.client_mut(id) {
                    client.resuming = false;
                    let eof = client.eof;
                    self.decode_held(id, now);
                    if eof {
                        self.mark_client(id); // it may be closed now
                    }
                }
            }
            self.pump_all(now);
        }
        self.close_segments();
        self.watch_input();
        self.feed.hand_over();
        if self.next_scan == Instant(0) && self.may_time_out() {
            self.next_scan = now.after(SCAN);
        }
    }

    /// v5: what was said this turn leaves in as few segments as possible.
    fn close_segments(&mut self) {
        let crowded = self.replies_crowded();
        for index in 0..self.dirty_clients.len() {
            let id = self.dirty_clients[index];
            let client = &mut self.clients[id.slot as usize];
            if client.generation != id.generation || client.plain_out.is_empty() {
                continue;
            }
            let plain = std::mem::take(&mut client.plain_out);
            let compressed = client.compression.is_some();
            let before = client.out.len();
            // what weir passes on are whole envelopes within their bounds
            client.out.push_with(|out| {
                let written = write_segments(&plain, compressed, out);
                debug_assert!(written == Ok(plain.len()), "{written:?}");
            });
            let written = client.out.len() - before;
            self.reply_bytes = (self.reply_bytes + written).saturating_sub(plain.len());
        }
        self.pump_due |= crowded && !self.replies_crowded();
        for index in 0..self.dirty_lanes.len() {
            let id = self.dirty_lanes[index];
            let lane = &mut self.lanes[id.0 as usize];
            // before the handshake is over nothing may be in segments
            if lane.plain_out.is_empty() || lane.segments.is_none() {
                continue;
            }
            let plain = std::mem::take(&mut lane.plain_out);
            lane.out.push_with(|out| {
                let written = write_segments(&plain, false, out);
                debug_assert!(written == Ok(plain.len()), "{written:?}");
            });
        }
    }

    /// More may be done than was done in the last turn: the driver should end another turn before it sleeps.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.pump_due || !self.resume.is_empty()
    }

    /// Requests that clients wait for, and the parts of split ones.
    #[must_use]
    pub fn requests_under_way(&self) -> usize {
        self.requests.len()
    }

    fn may_time_out(&self) -> bool {
        self.reply_bytes > 0
            || self.requests.len() > 0
            || self.lanes.iter().any(|lane| lane.streams.in_use() > 0)
    }

    /// When `on_timer` should be called next, at the latest. `None` while nothing is under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let scan = (self.next_scan > Instant(0)).then_some(self.next_scan);
        let paced = self.paced.peek().map(|Reverse((due, ..))| *due);
        let naming = (self.naming.due > Instant(0)).then_some(self.naming.due);
        [scan, paced, naming, self.idle_pools_due()].into_iter().flatten().min()
    }

    /// Time-outs, stalls, pacing, slow readers. `end_turn` must follow.
    pub fn on_timer(&mut self, now: Instant) {
        self.book_overdue(now);
        self.paced_due(now);
        self.end_idle_pools(now);
        if self.next_scan == Instant(0) || now < self.next_scan {
            return;
        }
        self.scan_flights(now);
        for index in 0..self.lanes.len() {
            self.scan_lane(LaneId(index as u32), now);
        }
        self.scan_queues(now);
        self.scan_jobs(now);
        self.scan_readers(now);
        self.next_scan = if self.may_time_out() { now.after(SCAN) } else { Instant(0) };
    }

    fn scan_lane(&mut self, id: LaneId, now: Instant) {
        let lane = &self.lanes[id.0 as usize];
        if lane.streams.in_use() == 0 {
            return self.cut_if_done(id);
        }
        let settings = self.cluster_settings(lane.info.cluster);
        let (request_timeout, stall_timeout) = (settings.request_timeout, settings.stall_timeout);
        let (orphans_max, orphan_age) = (settings.orphans_max as usize, settings.orphan_age_max);
        let mut late = Vec::new();
        for (_, request) in lane.streams.requests() {
            let Some(request_state) = self.requests.get(request) else { continue };
            // what is arriving is in time; that it goes on is a matter of the stall time-out
            let arriving = lane.through.is_some_and(|through| through.to == Some(request));
            if now.since(request_state.sent) >= request_timeout && !arriving {
                late.push(request);
            }
        }
        // what nobody waits for any more is owed as well: a silent node is silent to those that gave up, too
        let quiet_since = lane.heard.max(lane.owing_since);
        if lane.state == LaneState::Up && now.since(quiet_since) >= stall_timeout && !lane.cut {
            return self.cut(id, CutCause::Stalled);
        }
        for request in late {
            self.fail(request, Failure::TimedOut, now);
        }
        let lane = &mut self.lanes[id.0 as usize];
        let worn = lane.streams.orphans() > orphans_max
            || (lane.streams.orphans() > 0 && lane.streams.oldest_orphan(now) >= orphan_age);
        if worn && !lane.draining && lane.state == LaneState::Up {
            // its requests are answered first; then it is cut and connected anew
            lane.draining = true;
        }
        self.cut_if_done(id);
    }

    /// A lane that takes nothing more is cut once nobody waits for a reply on it.
    pub(super) fn cut_if_done(&mut self, id: LaneId) {
        let lane = &self.lanes[id.0 as usize];
        if lane.cut || lane.streams.in_use() > lane.streams.orphans() {
            return;
        }
        if lane.state == LaneState::Retired {
            self.cut(id, CutCause::Retired);
        } else if lane.draining {
            self.cut(id, CutCause::Worn);
        }
    }

    fn cut(&mut self, id: LaneId, cause: CutCause) {
        self.lanes[id.0 as usize].cut = true;
        self.cuts.push((id, cause));
    }

    fn scan_queues(&mut self, now: Instant) {
        let mut expired: Vec<RequestId> = Vec::new();
        for node in &mut self.nodes {
            let timeout = self.clusters[node.cluster.0 as usize].settings.queue_timeout;
            if now.0 <= timeout.0 {
                continue;
            }
            let before = Instant(now.0 - timeout.0);
            for group in node.groups.iter_mut().flatten() {
                group.queue.expire(before, &mut expired);
            }
        }
        for id in expired {
            let Some(request) = self.requests.get_mut(id) else { continue };
            let Stage::Queued(node) = std::mem::replace(&mut request.stage, Stage::New) else { continue };
            let queued = &mut self.callers.known[request.known as usize].queued;
            *queued = queued.saturating_sub(request.operations);
            let account = self.clients[request.client.slot as usize].account();
            self.ledger.rejected(account, Rejected::QueueTimeout, 1);
            let name = self.nodes[node.0 as usize].name.clone();
            self.fail_at(id, Failure::QueueTimeout, &name, now);
        }
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
            self.too_slow(id);
        }
    }

    /// A connection is about to be closed although it is not idle: what it asked and has not been answered, at least
    /// one request (an answer that was not read), is counted as turned down for this reason.
    pub fn reject_client(&mut self, id: ClientId, why: Rejected) {
        let Some(client) = self.client(id) else { return };
        let (account, owed) = (client.account(), client.live.len().max(1));
        self.ledger.rejected(account, why, owed as u64);
    }

    /// Keeps the bound on request bytes, and chooses who is read while it is reached.
    fn watch_input(&mut self) {
        let crowded = self.over_input_bound();
        if !crowded && !self.input_crowded {
            return;
        }
        self.input_crowded = crowded;
        let open = self.clients.iter().enumerate().filter(|(_, client)| client.open);
        if !crowded {
            self.favoured = None;
            let all: Vec<ClientId> = open.map(|(slot, client)| client::id(slot, client)).collect();
            all.into_iter().for_each(|id| self.mark_client(id));
            return;
        }
        // only a client whose request is not whole gains by being read
        let held = |client: &client::Client| client.input.len() + client.plain.len();
        let partial = |client: &client::Client| {
            let unread_max = self.settings.listeners[client.listener.0 as usize].reply_buffer_max;
            held(client) > 0 && client.may_decode(LIVE_MAX, unread_max)
        };
        if self.favoured.is_some_and(|id| self.client(id).is_some_and(partial)) {
            return;
        }
        let fullest = open.filter(|(_, client)| partial(client)).max_by_key(|(_, client)| held(client));
        self.favoured = fullest.map(|(slot, client)| client::id(slot, client));
        if let Some(id) = self.favoured {
            self.mark_client(id);
        }
    }
}

/// Every version there are lanes for.
pub(super) const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];
