//! From an admitted request to commands on lanes, or into the queue of a server without room. Big multigets go to
//! `split`.

use crate::client::{Asked, Hold, Target};
use crate::engine::Engine;
use crate::error::Failure;
use crate::intake::{Fate, price};
use crate::multiplex::{Cost, KeysWork, LaneState, Owner, Work};
use crate::split::{Bulk, Merge};
use crate::units::{ClientId, Instant, LaneId, ServerId};
use weir_memcached::{Meta, Request, Retrieve, Verb};

/// What every way of passing a request on needs to know about it.
#[derive(Clone, Copy)]
struct Passing {
    client: ClientId,
    bytes_in: u64,
    now: Instant,
}

/// A command with one key and one reply.
struct OneLine<'a> {
    verb: Verb,
    key: &'a [u8],
    noreply: bool,
    quiet: bool,
    operations: u64,
}

impl Engine {
    /// Passes an admitted request on, or holds it.
    pub(crate) fn issue(
        &mut self,
        client: ClientId,
        request: &Request<'_>,
        bytes_in: u64,
        now: Instant,
    ) -> Fate {
        let passing = Passing { client, bytes_in, now };
        let (verb, operations) = (request.verb(), price(request));
        match request {
            Request::Retrieve(retrieve) => self.retrieve(passing, retrieve),
            Request::Store(store) => {
                let command =
                    OneLine { verb, key: store.key, noreply: store.noreply, quiet: false, operations };
                self.one_line(passing, command, |out| {
                    out.extend_from_slice(store.head);
                    out.extend_from_slice(b"\r\n");
                    out.extend_from_slice(store.data);
                })
            }
            Request::Mutate(mutate) => {
                let command =
                    OneLine { verb, key: mutate.key, noreply: mutate.noreply, quiet: false, operations };
                self.one_line(passing, command, |out| {
                    out.extend_from_slice(mutate.head);
                    out.extend_from_slice(b"\r\n");
                })
            }
            Request::Meta(meta) => self.meta(passing, meta, operations),
            Request::Version => self.broadcast(passing, verb, b"version\r\n", 1, false),
            Request::Stats { args } => {
                let mut line = b"stats".to_vec();
                if !args.is_empty() {
                    line.push(b' ');
                    line.extend_from_slice(args);
                }
                line.extend_from_slice(b"\r\n");
                self.broadcast(passing, verb, &line, usize::MAX, false)
            }
            Request::FlushAll { delay, noreply } => {
                let line =
                    if *delay == 0 { "flush_all\r\n".into() } else { format!("flush_all {delay}\r\n") };
                self.broadcast(passing, verb, line.as_bytes(), usize::MAX, *noreply)
            }
            // `accept` answered them
            Request::MetaNoop | Request::Verbosity { .. } | Request::Quit | Request::Shutdown => Fate::Taken,
        }
    }

    fn retrieve(&mut self, passing: Passing, retrieve: &Retrieve<'_>) -> Fate {
        let Passing { client: id, now, .. } = passing;
        let slot = id.slot as usize;
        let client = &self.clients[slot];
        let pool_id = client.pool.0 as usize;
        let pool = &self.settings.pools[pool_id];
        let switches = self.settings.listeners[client.listener.0 as usize].switches;
        let chunk_keys = pool.chunk_keys as usize;
        let (batching, batch_keys) = (pool.batching && switches.batching, pool.batch_keys as usize);
        let join = pool.single_flight && switches.single_flight;
        let count = retrieve.keys.len();
        let single = self.pools[pool_id].servers.len() == 1;
        let split = pool.split && switches.split;
        if count > 1 && (!single || (split && count > chunk_keys)) {
            let mut asked = self.begin(passing, retrieve.verb, count as u64);
            asked.ends = true;
            asked.complete = false;
            let seq = self.ask(id, asked);
            let bulk = Bulk::new(retrieve, seq, count <= chunk_keys);
            self.input_bytes += bulk.size();
            self.clients[slot].bulk = Some(Box::new(bulk));
            self.queue_bulk(id, now);
            return Fate::Taken;
        }
        let Some(first) = retrieve.keys.clone().next() else { return Fate::Taken };
        let server = self.pools[pool_id].server_for(first);
        let known = &self.callers.known[client.known as usize];
        let (principal, estimate) = (known.principal, known.reply_bytes);
        let cost = Cost { operations: count as u64, bytes: estimate.saturating_mul(count as u64), bulk: 0 };
        let Some(lane) = self.lane_with_room(id, server, cost, now) else { return Fate::Held };
        let mut asked = self.begin(passing, retrieve.verb, count as u64);
        asked.outstanding = 1;
        asked.issued = Some(now);
        let down = self.lanes[lane.0 as usize].state == LaneState::Down;
        if count == 1 && retrieve.verb == Verb::Get && batching && !down {
            let mut batch = match self.lanes[lane.0 as usize].batch.take() {
                Some(batch) => batch,
                None => {
                    self.open_batches.push(lane);
                    self.new_keys(Verb::Get, Owner::Each)
                }
            };
            let target = Target { client: id, seq: self.clients[slot].next_seq() };
            if batch.push_waiter(first, target, principal, join) {
                asked.coalesced = 1;
            } else {
                batch.cost.operations += cost.operations;
                batch.cost.bytes += cost.bytes;
                self.servers[server.0 as usize].book(cost);
                self.spend(server, id, 1);
                (asked.backend_operations, asked.chunks) = (1, 1);
            }
            self.ask(id, asked);
            let full = batch.len() >= batch_keys;
            let lane_state = &mut self.lanes[lane.0 as usize];
            lane_state.batch = Some(batch);
            if full {
                lane_state.close_batch(now);
                self.mark_lane(lane);
            }
            return Fate::Taken;
        }
        asked.ends = true;
        asked.chunks = 1;
        asked.backend_operations = count as u64;
        let seq = self.ask(id, asked);
        let target = Target { client: id, seq };
        if self.fail_if_down(lane, target, now) {
            return Fate::Taken;
        }
        let mut keys = self.new_keys(retrieve.verb, Owner::One(target));
        keys.exptime.extend_from_slice(retrieve.exptime.unwrap_or_default());
        for key in retrieve.keys.clone() {
            keys.push(key);
        }
        self.send_keys(lane, server, keys, cost, now);
        Fate::Taken
    }

    fn meta(&mut self, passing: Passing, meta: &Meta<'_>, operations: u64) -> Fate {
        let mut scratch = [0; 256];
        let key = meta.routing_key(&mut scratch);
        let command = OneLine { verb: meta.verb, key, noreply: false, quiet: meta.quiet, operations };
        self.one_line(passing, command, |out| meta.write_loud(out))
    }

    fn one_line(&mut self, passing: Passing, command: OneLine<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Fate {
        let Passing { client: id, bytes_in, now } = passing;
        let OneLine { verb, key, noreply, quiet, operations } = command;
        let client = &self.clients[id.slot as usize];
        let server = self.pools[client.pool.0 as usize].server_for(key);
        let reads = verb == Verb::Mg;
        let bytes = if reads { self.callers.known[client.known as usize].reply_bytes } else { bytes_in };
        let cost = Cost { operations, bytes, bulk: 0 };
        let Some(lane) = self.lane_with_room(id, server, cost, now) else { return Fate::Held };
        let mut asked = self.begin(passing, verb, operations);
        asked.outstanding = 1;
        asked.chunks = 1;
        asked.backend_operations = 1;
        asked.hidden = noreply;
        asked.issued = Some(now);
        let seq = self.ask(id, asked);
        let target = Target { client: id, seq };
        if noreply && self.lanes[lane.0 as usize].state == LaneState::Down {
            self.ledger.noreply_dropped(1);
        }
        if !self.fail_if_down(lane, target, now) {
            self.send(lane, server, cost, Work::Line { target, verb, quiet }, now, write);
        }
        Fate::Taken
    }

    /// A command for the first `servers_max` servers of the pool; their answers are put together in `stats`.
    fn broadcast(
        &mut self,
        passing: Passing,
        verb: Verb,
        line: &[u8],
        servers_max: usize,
        noreply: bool,
    ) -> Fate {
        let Passing { client: id, now, .. } = passing;
        let pool = self.clients[id.slot as usize].pool.0 as usize;
        let servers: Vec<ServerId> = self.pools[pool].servers.iter().copied().take(servers_max).collect();
        let cost = Cost { operations: 1, bytes: 0, bulk: 0 };
        if !self.room_at(id, &servers, cost, now) {
            return Fate::Held;
        }
        let mut asked = self.begin(passing, verb, 1);
        asked.outstanding = servers.len() as u32;
        asked.hidden = noreply;
        asked.chunks = servers.len() as u32;
        asked.backend_operations = servers.len() as u64;
        asked.issued = Some(now);
        asked.merge = (servers.len() > 1).then(|| Box::new(Merge::lines(servers.len())));
        let seq = self.ask(id, asked);
        let target = Target { client: id, seq };
        let mut dropped = false;
        for (part, server) in servers.into_iter().enumerate() {
            let lane = self.servers[server.0 as usize].lane_for(id.slot);
            if self.fail_if_down(lane, target, now) {
                dropped = noreply;
                continue;
            }
            let work = if verb == Verb::Stats {
                Work::Lines { target, part }
            } else {
                Work::Line { target, verb, quiet: false }
            };
            self.send(lane, server, cost, work, now, |out| out.extend_from_slice(line));
        }
        if dropped {
            self.ledger.noreply_dropped(1);
        }
        Fate::Taken
    }

    /// Passes on the delete that goes with a refused store. False while it must wait.
    pub(crate) fn pass_stale(&mut self, id: ClientId, now: Instant) -> bool {
        let client = &mut self.clients[id.slot as usize];
        let Some(stale) = client.stale.take() else { return true };
        // it stands at the place of its own request: what was asked before it must be answered first
        if client.hold.is_some() || client.first_seq < client.barrier.min(stale.seq) {
            client.stale = Some(stale);
            return false;
        }
        let target = Target { client: id, seq: stale.seq };
        if client.doomed.take().is_some() {
            client.held_since = None;
            self.ledger.noreply_dropped(1);
            self.part_answered(target, None, now);
            return true;
        }
        let server = self.pools[client.pool.0 as usize].server_for(&stale.key);
        let cost = Cost { operations: 1, bytes: 0, bulk: 0 };
        let Some(lane) = self.lane_with_room(id, server, cost, now) else {
            self.clients[id.slot as usize].stale = Some(stale);
            return false;
        };
        self.clients[id.slot as usize].held_since = None;
        if self.lanes[lane.0 as usize].state == LaneState::Down {
            self.ledger.noreply_dropped(1);
            self.part_answered(target, None, now);
            return true;
        }
        let work = Work::Line { target, verb: stale.verb, quiet: false };
        self.send(lane, server, cost, work, now, |out| out.extend_from_slice(&stale.line));
        true
    }

    /// The record of an admitted request; takes over what admission booked.
    fn begin(&mut self, passing: Passing, verb: Verb, operations: u64) -> Asked {
        let client = &mut self.clients[passing.client.slot as usize];
        let arrived = client.held_since.unwrap_or(passing.now);
        let mut asked = Asked::new(client.known, verb, arrived, operations, passing.bytes_in);
        asked.held = client.granted.take();
        asked.correlation = client.correlation.take();
        asked
    }

    /// The lane to use now, or None after queueing the client for its turn at the server.
    fn lane_with_room(&mut self, id: ClientId, server: ServerId, cost: Cost, now: Instant) -> Option<LaneId> {
        let room = self.room_at(id, &[server], cost, now);
        room.then(|| self.servers[server.0 as usize].lane_for(id.slot))
    }

    /// Whether a command of this cost may go to all of these servers now; if not, the client is queued at one that has
    /// no room. A server that is down has room: it costs nothing to say so.
    fn room_at(&mut self, id: ClientId, servers: &[ServerId], cost: Cost, now: Instant) -> bool {
        let crowded = self.replies_crowded();
        let turn = self.clients[id.slot as usize].turn;
        let blocked = servers.iter().copied().find(|server| {
            let state = &self.servers[server.0 as usize];
            let free = turn.is_some() || state.may_pass_by();
            let down = self.lanes[state.lane_for(id.slot).0 as usize].state == LaneState::Down;
            !down && (!free || crowded || !state.has_room(cost))
        });
        let client = &mut self.clients[id.slot as usize];
        let Some(blocked) = blocked else {
            client.turn = None;
            return true;
        };
        client.hold = Some(Hold::Queued(blocked));
        client.held_since.get_or_insert(now);
        // a turn that could not be used is given back by `serve`, and with it the place in the queue
        if turn != Some(blocked) {
            client.turn = None;
            self.enqueue(id, blocked, false, cost.operations, now);
        }
        false
    }

    /// Answers at once where there is no connection and none is expected.
    pub(crate) fn fail_if_down(&mut self, lane: LaneId, target: Target, now: Instant) -> bool {
        let state = &self.lanes[lane.0 as usize];
        if state.state != LaneState::Down {
            return false;
        }
        let failure = if state.sign_in_failed { Failure::SignInFailed } else { Failure::ServerDown };
        self.fail_part(target, lane, failure, now);
        true
    }

    /// Appends a command to a lane, behind the single gets of this turn.
    fn send(
        &mut self,
        lane: LaneId,
        server: ServerId,
        cost: Cost,
        work: Work,
        now: Instant,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.servers[server.0 as usize].book(cost);
        if let Work::Line { target, .. } | Work::Lines { target, .. } = &work {
            self.spend(server, target.client, 1);
        }
        let lane_state = &mut self.lanes[lane.0 as usize];
        lane_state.close_batch(now);
        lane_state.send(now, cost, work, write);
        self.mark_lane(lane);
    }

    /// The same for keys.
    pub(crate) fn send_keys(
        &mut self,
        lane: LaneId,
        server: ServerId,
        keys: Box<KeysWork>,
        cost: Cost,
        now: Instant,
    ) {
        self.servers[server.0 as usize].book(cost);
        if let Owner::One(target) | Owner::Part(target, _) = keys.owner {
            self.spend(server, target.client, keys.len() as u64);
        }
        let lane_state = &mut self.lanes[lane.0 as usize];
        lane_state.close_batch(now);
        lane_state.send_keys(now, keys, cost);
        self.mark_lane(lane);
    }
}
