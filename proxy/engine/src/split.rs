//! Where a batch is split: a multiget of more than `chunk_keys` keys, or one whose keys live on several servers, is
//! passed on in pieces, one piece a turn, so that everybody else gets between.
//!
//! One server: chunks of `chunk_keys` keys in the asked order; replies come back in that order and are forwarded as
//! they arrive. Several servers: *segments* of the asked order, each cut into one part per server; a segment's values
//! are put back into the asked order before the next segment is passed on, so memory is bounded by one segment. The
//! parts of a segment leave as their servers have room, each in its turn there.
//! A piece is made smaller where the values of this caller are large (`reply_buffer` divided by the estimate), and none
//! is begun while the client leaves more than `reply_buffer` unread.

use crate::client::{Hold, Target};
use crate::engine::Engine;
use crate::multiplex::{Cost, KeysWork, LaneState, Owner};
use crate::queue::Popped;
use crate::units::{ClientId, Instant, ServerId};
use weir_memcached::{Retrieve, Verb, next_key};

/// The part of a multiget that is not yet passed on.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) seq: u64,
    verb: Verb,
    exptime: Vec<u8>,
    /// The keys as sent, copied once.
    line: Vec<u8>,
    /// Offset of the next key to pass on.
    at: usize,
    left: usize,
    /// No larger than a chunk: does not count as bulk.
    small: bool,
    /// Parts of the current segment whose servers had no room yet.
    parts: Vec<Waiting>,
    /// The servers changed: nothing goes to the new ones before all that went to the old ones is answered.
    pub(crate) moved: bool,
}

#[derive(Debug)]
struct Waiting {
    server: ServerId,
    keys: Box<KeysWork>,
}

impl Bulk {
    pub(crate) fn new(retrieve: &Retrieve<'_>, seq: u64, small: bool) -> Bulk {
        Bulk {
            seq,
            verb: retrieve.verb,
            exptime: retrieve.exptime.unwrap_or_default().to_vec(),
            line: retrieve.keys.as_bytes().to_vec(),
            at: 0,
            left: retrieve.keys.len(),
            small,
            parts: Vec::new(),
            moved: false,
        }
    }

    /// Memory of the request bytes it keeps.
    pub(crate) fn size(&self) -> usize {
        self.line.capacity()
    }

    /// Keys that are not on a lane yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.left as u64 + self.parts.iter().map(|part| part.keys.len() as u64).sum::<u64>()
    }

    /// Everything of it is on a lane.
    fn passed_on(&self) -> bool {
        self.left == 0 && self.parts.is_empty()
    }

    /// Takes the next key off.
    fn next_key(&mut self) -> Option<&[u8]> {
        let (key, next) = next_key(&self.line, self.at)?;
        self.at = next;
        self.left -= 1;
        Some(&self.line[key])
    }

    fn cost(&self, keys: usize, estimate: u64) -> Cost {
        let operations = keys as u64;
        let bulk = if self.small { 0 } else { operations };
        Cost { operations, bytes: estimate.saturating_mul(operations), bulk }
    }
}

/// Parts of one request over several servers, until all are there.
#[derive(Debug)]
pub(crate) struct Merge {
    pub(crate) parts: Vec<Part>,
    pub(crate) left: usize,
    /// Lines of a broadcast instead of values.
    pub(crate) lines: bool,
}

/// What one server answered.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// (position in the segment, start, end) of each value in `bytes`, ascending.
    pub(crate) spans: Vec<(u32, usize, usize)>,
}

impl Merge {
    pub(crate) fn lines(parts: usize) -> Merge {
        Merge { lines: true, ..Merge::values_of(parts) }
    }

    fn values_of(parts: usize) -> Merge {
        Merge { parts: (0..parts).map(|_| Part::default()).collect(), left: parts, lines: false }
    }

    /// The values of all parts in the order their keys were asked.
    pub(crate) fn values(&self) -> Vec<u8> {
        let mut spans: Vec<(u32, usize, usize, usize)> = Vec::new();
        for (part, answer) in self.parts.iter().enumerate() {
            spans.extend(answer.spans.iter().map(|&(position, start, end)| (position, part, start, end)));
        }
        spans.sort_unstable();
        let mut values = Vec::with_capacity(self.size());
        for (_, part, start, end) in spans {
            values.extend_from_slice(&self.parts[part].bytes[start..end]);
        }
        values
    }

    /// Reply bytes it keeps.
    pub(crate) fn size(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }
}

/// What came of a turn in a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Something was passed on, or the client waits for something else now.
    Used,
    /// The budget is too small for its next piece: it keeps its place.
    TooSmall,
}

impl Engine {
    /// Puts a client whose multiget has more to pass on into the queue of the server of its next key.
    pub(crate) fn queue_bulk(&mut self, id: ClientId, now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        let Some(bulk) = &client.bulk else { return };
        let (seq, moved) = (bulk.seq, bulk.moved);
        if moved && !client.settled(seq) {
            client.hold = Some(Hold::Moved);
            return;
        }
        let Some(bulk) = &mut client.bulk else { return };
        bulk.moved = false;
        let server = match (bulk.parts.first(), next_key(&bulk.line, bulk.at)) {
            (Some(part), _) => part.server,
            (None, Some((key, _))) => self.pools[client.pool.0 as usize].server_for(&bulk.line[key]),
            (None, None) => return,
        };
        self.queue_bulk_at(id, server, now);
    }

    fn queue_bulk_at(&mut self, id: ClientId, server: ServerId, now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        let Some(bulk) = &client.bulk else { return };
        let (bulk, waiting) = (!bulk.small, bulk.waiting());
        client.hold = Some(Hold::Bulk(server));
        self.enqueue(id, server, bulk, waiting, now);
    }

    /// Serves the queues of a server while its budgets allow; called at the end of a turn.
    pub(crate) fn pump(&mut self, server: ServerId, now: Instant) {
        let index = server.0 as usize;
        let state = &self.servers[index];
        if state.starved && !state.bulk.is_empty() && !self.serve_next(server, true, now) {
            return;
        }
        self.servers[index].starved = false;
        while self.serve_next(server, false, now) {}
        while self.serve_next(server, true, now) {}
        // Small requests alone could fill the server for ever: once bulk has nothing in flight, they leave it room.
        let state = &mut self.servers[index];
        state.starved = !state.bulk.is_empty() && state.in_flight.bulk == 0;
    }

    /// Serves the next client of one queue; false when nobody can be served.
    fn serve_next(&mut self, server: ServerId, bulk: bool, now: Instant) -> bool {
        let crowded = self.replies_crowded();
        let state = &mut self.servers[server.0 as usize];
        let probe = Cost { operations: 1, bytes: 0, bulk: u64::from(bulk) };
        if crowded || !state.has_room(probe) {
            return false;
        }
        let queue = if bulk { &mut state.bulk } else { &mut state.small };
        queue.pop().is_some_and(|popped| self.serve(server, popped, bulk, now) == Turn::Used)
    }

    /// Gives one client its turn.
    fn serve(&mut self, server: ServerId, popped: Popped, bulk: bool, now: Instant) -> Turn {
        let index = server.0 as usize;
        let before = self.servers[index].backend_operations;
        let id = popped.client;
        self.note_left(id);
        let Some(client) = self.client_mut(id) else { return Turn::Used };
        client.hold = None;
        let turn = if client.bulk.is_some() {
            self.step_bulk(id, server, now)
        } else {
            client.turn = Some(server);
            self.decode_held(id, now);
            // the turn is still there, and so is the request: it did not fit
            let turn = self.clients[id.slot as usize].turn.take();
            let held = self.clients[id.slot as usize].hold == Some(Hold::Queued(server));
            if turn.is_some() && held { Turn::TooSmall } else { Turn::Used }
        };
        if turn == Turn::TooSmall {
            self.put_back(server, bulk, popped);
        } else {
            let state = &mut self.servers[index];
            let spent = state.backend_operations - before;
            let queue = if bulk { &mut state.bulk } else { &mut state.small };
            queue.charge(popped.principal, spent);
        }
        turn
    }

    /// Passes on the next piece of a client's multiget.
    fn step_bulk(&mut self, id: ClientId, server: ServerId, now: Instant) -> Turn {
        let slot = id.slot as usize;
        let client = &mut self.clients[slot];
        let Some(bulk) = client.bulk.take() else { return Turn::Used };
        let target = Target { client: id, seq: bulk.seq };
        if client.request(bulk.seq).is_none_or(|asked| asked.error.is_some()) {
            // a part failed: the answer is an error whatever the others say
            client.bulk = Some(bulk);
            self.end_bulk(target, now);
            return Turn::Used;
        }
        let settings = &self.settings.listeners[client.listener.0 as usize];
        if bulk.parts.is_empty() && client.unread() > settings.reply_buffer {
            client.bulk = Some(bulk);
            client.hold = Some(Hold::Unread);
            return Turn::Used;
        }
        let estimate = self.callers.known[client.known as usize].reply_bytes.max(1);
        let pool = &self.settings.pools[client.pool.0 as usize];
        let chunk = if settings.switches.split && pool.split { pool.chunk_keys as usize } else { usize::MAX };
        let by_memory = (settings.reply_buffer as u64 / estimate).max(1) as usize;
        if let Some(asked) = client.request(target.seq) {
            asked.issued.get_or_insert(now);
        }
        if let &[server] = self.pools[client.pool.0 as usize].servers.as_slice() {
            let take = if chunk == usize::MAX { chunk } else { chunk.min(by_memory) };
            self.pass_chunk(id, bulk, server, take, estimate, now)
        } else {
            self.pass_segment(id, bulk, server, (chunk, by_memory), estimate, now)
        }
    }

    fn pass_chunk(
        &mut self,
        id: ClientId,
        mut bulk: Box<Bulk>,
        server: ServerId,
        take: usize,
        estimate: u64,
        now: Instant,
    ) -> Turn {
        let slot = id.slot as usize;
        let target = Target { client: id, seq: bulk.seq };
        let take = take.min(bulk.left);
        let cost = bulk.cost(take, estimate);
        let state = &self.servers[server.0 as usize];
        let lane = state.lane_for(id.slot);
        if self.lanes[lane.0 as usize].state == LaneState::Down {
            self.clients[slot].bulk = Some(bulk);
            self.count_piece(target, take);
            self.fail_if_down(lane, target, now);
            self.end_bulk(target, now);
            return Turn::Used;
        }
        if !state.has_room(cost) {
            self.clients[slot].bulk = Some(bulk);
            self.clients[slot].hold = Some(Hold::Bulk(server));
            return Turn::TooSmall;
        }
        let mut keys = self.new_keys(bulk.verb, Owner::One(target));
        keys.exptime.extend_from_slice(&bulk.exptime);
        for _ in 0..take {
            let Some(key) = bulk.next_key() else { break };
            keys.push(key);
        }
        self.count_piece(target, take);
        self.send_keys(lane, server, keys, cost, now);
        let done = bulk.passed_on();
        self.clients[slot].bulk = Some(bulk);
        if done {
            self.end_bulk(target, now);
        } else {
            self.queue_bulk_at(id, server, now);
        }
        Turn::Used
    }

    /// Passes on what there is room for of the current segment, beginning the next one when there is none.
    fn pass_segment(
        &mut self,
        id: ClientId,
        mut bulk: Box<Bulk>,
        popped: ServerId,
        limits: (usize, usize),
        estimate: u64,
        now: Instant,
    ) -> Turn {
        let slot = id.slot as usize;
        let target = Target { client: id, seq: bulk.seq };
        if bulk.parts.is_empty() {
            self.cut_segment(id, &mut bulk, limits);
        }
        let mut waiting = Vec::new();
        for part in std::mem::take(&mut bulk.parts) {
            let state = &self.servers[part.server.0 as usize];
            let cost = bulk.cost(part.keys.len(), estimate);
            let queue = if bulk.small { &state.small } else { &state.bulk };
            let lane = state.lane_for(id.slot);
            let its_turn = part.server == popped || (queue.is_empty() && state.may_pass_by());
            if self.lanes[lane.0 as usize].state == LaneState::Down {
                self.count_piece(target, part.keys.len());
                self.recycle(part.keys);
                self.fail_if_down(lane, target, now);
            } else if its_turn && state.has_room(cost) {
                self.count_piece(target, part.keys.len());
                self.send_keys(lane, part.server, part.keys, cost, now);
            } else {
                waiting.push(part);
            }
        }
        bulk.parts = waiting;
        let stuck = bulk.parts.iter().any(|part| part.server == popped);
        let next = bulk.parts.first().map(|part| part.server);
        let done = bulk.passed_on();
        let client = &mut self.clients[slot];
        client.bulk = Some(bulk);
        if stuck {
            client.hold = Some(Hold::Bulk(popped));
            return Turn::TooSmall;
        }
        match next {
            Some(server) => self.queue_bulk_at(id, server, now),
            None if done => self.end_bulk(target, now),
            None => {
                client.hold = Some(Hold::Segment);
                self.segment_answered(id, now); // every part may have failed at once
            }
        }
        Turn::Used
    }

    /// Cuts the next segment into one part per server, none larger than a chunk.
    fn cut_segment(&mut self, id: ClientId, bulk: &mut Bulk, (chunk, by_memory): (usize, usize)) {
        let target = Target { client: id, seq: bulk.seq };
        let pool = self.clients[id.slot as usize].pool.0 as usize;
        let servers = self.pools[pool].servers.len();
        let most = if chunk == usize::MAX { usize::MAX } else { by_memory.max(servers) };
        let mut at_server: Vec<Option<usize>> = vec![None; servers];
        let mut position = 0;
        while (position as usize) < most {
            let Some((key, next)) = next_key(&bulk.line, bulk.at) else { break };
            let index = self.pools[pool].ring.server_for(&bulk.line[key.clone()]);
            let number = *at_server[index].get_or_insert_with(|| {
                let mut keys = self.new_keys(bulk.verb, Owner::Part(target, bulk.parts.len()));
                keys.exptime.extend_from_slice(&bulk.exptime);
                bulk.parts.push(Waiting { server: self.pools[pool].servers[index], keys });
                bulk.parts.len() - 1
            });
            let part = &mut bulk.parts[number].keys;
            if part.len() == chunk {
                break;
            }
            part.push(&bulk.line[key]);
            part.positions.push(position);
            bulk.at = next;
            bulk.left -= 1;
            position += 1;
        }
        if let Some(asked) = self.clients[id.slot as usize].request(bulk.seq) {
            asked.merge = Some(Box::new(Merge::values_of(bulk.parts.len())));
        }
    }

    fn count_piece(&mut self, target: Target, operations: usize) {
        if let Some(asked) = self.client_mut(target.client).and_then(|client| client.request(target.seq)) {
            asked.outstanding += 1;
            asked.chunks += 1;
            asked.backend_operations += operations as u64;
        }
    }

    /// All parts of a segment were answered and their values forwarded: the next segment is due.
    pub(crate) fn segment_answered(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.client_mut(id) else { return };
        let Some(seq) = client.bulk.as_ref().map(|bulk| bulk.seq) else { return };
        if client.hold == Some(Hold::Segment) && client.request(seq).is_none_or(|asked| asked.merge.is_none())
        {
            client.hold = None;
            self.queue_bulk(id, now);
        }
    }

    /// The servers changed: a multiget that waited until it was answered what it asked the old ones may go on.
    pub(crate) fn wake_moved(&mut self, id: ClientId, now: Instant) {
        if self.client(id).is_some_and(|client| client.hold == Some(Hold::Moved)) {
            self.queue_bulk(id, now);
        }
    }

    /// The servers are about to change: what a multiget still has for the old ones goes now, room or not.
    pub(crate) fn pass_waiting_parts(&mut self, id: ClientId, now: Instant) {
        let Some(bulk) = &mut self.clients[id.slot as usize].bulk else { return };
        let target = Target { client: id, seq: bulk.seq };
        for part in std::mem::take(&mut bulk.parts) {
            self.count_piece(target, part.keys.len());
            let server = part.server.0 as usize;
            let lane = self.servers[server].lane_for(id.slot);
            if self.fail_if_down(lane, target, now) {
                self.recycle(part.keys);
                continue;
            }
            let cost = Cost { operations: part.keys.len() as u64, bytes: 0, bulk: 0 };
            self.servers[server].book_regardless(cost);
            let lane_state = &mut self.lanes[lane.0 as usize];
            lane_state.close_batch(now);
            lane_state.send_keys(now, part.keys, cost);
            self.mark_lane(lane);
        }
        let bulk = &self.clients[id.slot as usize].bulk;
        if bulk.as_ref().is_some_and(|bulk| bulk.passed_on()) {
            self.end_bulk(target, now);
        }
    }

    /// Everything of a multiget was passed on (or given up).
    pub(crate) fn end_bulk(&mut self, target: Target, now: Instant) {
        let Some(client) = self.client_mut(target.client) else { return };
        client.hold = None;
        let bulk = client.bulk.take();
        if let Some(asked) = client.request(target.seq) {
            asked.complete = true;
            if bulk.as_ref().is_some_and(|bulk| !bulk.passed_on())
                && let Some(merge) = asked.merge.take()
            {
                // given up: the parts under way are not waited for to be put in order
                self.drop_merge(merge.size());
            }
        }
        if let Some(bulk) = bulk {
            self.drop_bulk(*bulk);
        }
        self.complete(target, now);
        self.resume_later(target.client);
    }

    pub(crate) fn drop_bulk(&mut self, bulk: Bulk) {
        self.input_bytes = self.input_bytes.saturating_sub(bulk.size());
        for part in bulk.parts {
            self.recycle(part.keys);
        }
    }

    /// A client read (some of) its answers: a multiget that waited for that goes back into the queue.
    pub(crate) fn reader_caught_up(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.client(id) else { return };
        let reply_buffer = self.settings.listeners[client.listener.0 as usize].reply_buffer;
        if client.unread() > reply_buffer / 2 {
            return;
        }
        if client.hold == Some(Hold::Unread) {
            self.queue_bulk(id, now);
            self.pump_due = true;
        } else {
            self.resume_later(id);
        }
    }

    /// Looks again at a client's held input at the end of this turn.
    pub(crate) fn resume_later(&mut self, id: ClientId) {
        let Some(client) = self.client_mut(id) else { return };
        let waits = !client.input.is_empty() || client.stale.is_some();
        if waits && !client.resuming && client.hold.is_none() && client.bulk.is_none() {
            client.resuming = true;
            self.resume.push(id);
        }
    }
}
