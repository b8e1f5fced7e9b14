//! One worker's state and the calls its driver makes each loop turn:
//! `client_input` / `lane_input` for what was read, `end_turn`, then `take_dirty_*` and write.

use crate::OutBuffer;
use crate::admit::Budgets;
use crate::caller::Identity;
use crate::callers::Callers;
use crate::client::{Asked, Client, ClientSummary, CloseHow};
use crate::correlate::{Correlator, Feed};
use crate::invalid::Invalid;
use crate::ledger::{IdentityTally, Ledger};
use crate::multiplex::{CutCause, KeysWork, Lane, Owner, Server};
use crate::naming::Naming;
use crate::readers::Reader;
use crate::route::Ring;
use crate::settings::Settings;
use crate::units::{ClientId, Instant, LaneId, ListenerId, PoolId, ServerId};
use std::sync::Arc;
use weir_memcached::{DecodeLimits, RequestDecoder, Verb};

/// Recycled key lists kept per worker.
const SPARE_KEYS_MAX: usize = 256;
/// A recycled key list keeps at most this much memory.
const SPARE_KEYS_BYTES: usize = 32 << 10;
/// While the request bytes of all clients are over their bound, a client that has sent more than this of a request
/// waits until it is the favoured one.
const CROWDED_INPUT: usize = 4 << 10;
/// Input kept beyond the largest request: what one more read brings.
const READ_AHEAD: usize = 64 << 10;

pub(crate) struct Pool {
    pub(crate) ring: Ring,
    pub(crate) servers: Vec<ServerId>,
}

impl Pool {
    pub(crate) fn server_for(&self, key: &[u8]) -> ServerId {
        self.servers[self.ring.server_for(key)]
    }
}

/// One worker's data path: clients, lanes, queues and the ledger. Not shared, not locked.
pub struct Engine {
    pub(crate) settings: Arc<Settings>,
    pub(crate) workers: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) free: Vec<u32>,
    pub(crate) callers: Callers,
    pub(crate) pools: Vec<Pool>,
    pub(crate) servers: Vec<Server>,
    pub(crate) lanes: Vec<Lane>,
    /// Places of servers and lanes that left with their settings, for the next ones.
    pub(crate) free_servers: Vec<ServerId>,
    pub(crate) free_lanes: Vec<LaneId>,
    /// What was passed on to the servers that left.
    pub(crate) operations_of_gone: u64,
    pub(crate) ledger: Ledger,
    /// What requests with an id did, until it is handed over.
    pub(crate) feed: Feed,
    #[expect(
        clippy::vec_box,
        reason = "they are handed to lanes and back as boxes: moving 300 bytes instead costs more"
    )]
    pub(crate) spare_keys: Vec<Box<KeysWork>>,
    pub(crate) dirty_clients: Vec<ClientId>,
    pub(crate) dirty_lanes: Vec<LaneId>,
    /// Lanes with an open batch.
    pub(crate) open_batches: Vec<LaneId>,
    /// Queues may be served although nothing was read since the last turn ended.
    pub(crate) pump_due: bool,
    /// Clients with held input that may go on.
    pub(crate) resume: Vec<ClientId>,
    pub(crate) paced: std::collections::BinaryHeap<std::cmp::Reverse<(Instant, u32, u32)>>,
    pub(crate) cuts: Vec<(LaneId, CutCause)>,
    pub(crate) slow: Vec<ClientId>,
    /// Flushes by prefix the driver has not fetched, and how many are under way.
    pub(crate) flushes: Vec<crate::flush::FlushJob>,
    pub(crate) flushes_under_way: u32,
    pub(crate) invalid: Invalid,
    /// Reply bytes clients have not taken, those below included.
    pub(crate) reply_bytes: usize,
    /// Reply bytes that wait for other parts of their answer.
    pub(crate) merge_bytes: usize,
    /// Memory held for requests that are not carried out: capacities, not lengths.
    pub(crate) input_bytes: usize,
    /// The bound on request bytes made clients wait.
    pub(crate) input_crowded: bool,
    /// The client that is read all the same, so that somebody's request becomes whole.
    favoured: Option<ClientId>,
    pub(crate) desyncs: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    pub(crate) next_scan: Instant,
    pub(crate) naming: Naming,
}

impl Engine {
    /// A worker's engine. Caps per server are the pool's divided by `workers`; `seed` makes request ids differ between
    /// workers and runs.
    #[must_use]
    pub fn new(settings: Arc<Settings>, budgets: Arc<Budgets>, workers: u32, seed: u64) -> Engine {
        let mut engine = Engine {
            settings: settings.clone(),
            workers: u64::from(workers.max(1)),
            clients: Vec::new(),
            free: Vec::new(),
            callers: Callers::new(budgets),
            pools: Vec::new(),
            servers: Vec::new(),
            lanes: Vec::new(),
            free_servers: Vec::new(),
            free_lanes: Vec::new(),
            operations_of_gone: 0,
            ledger: Ledger::new(seed),
            feed: Feed::default(),
            spare_keys: Vec::new(),
            dirty_clients: Vec::new(),
            dirty_lanes: Vec::new(),
            open_batches: Vec::new(),
            pump_due: false,
            resume: Vec::new(),
            paced: std::collections::BinaryHeap::new(),
            cuts: Vec::new(),
            slow: Vec::new(),
            flushes: Vec::new(),
            flushes_under_way: 0,
            invalid: Invalid::default(),
            reply_bytes: 0,
            merge_bytes: 0,
            input_bytes: 0,
            input_crowded: false,
            favoured: None,
            desyncs: 0,
            requests: 0,
            retries: 0,
            next_scan: Instant(0),
            naming: Naming::default(),
        };
        for index in 0..settings.pools.len() {
            let pool = engine.lay_out(PoolId(index as u32));
            engine.pools.push(pool);
        }
        engine
    }

    /// Where the workers of a process put together what requests with an id did. Without it nothing is noted of them.
    pub fn share_correlator(&mut self, correlator: &Arc<Correlator>) {
        self.feed.share(correlator);
    }

    /// Hands over what requests with an id did, and waits for that: somebody looks. Turns hand over as they end, but only where
    /// nobody has to be waited for.
    pub fn hand_over_correlated(&mut self) {
        self.feed.hand_over_all();
    }

    /// A new client connection.
    pub fn open_client(&mut self, listener: ListenerId, identity: Arc<Identity>, now: Instant) -> ClientId {
        let known = self.learn_identity(identity);
        let settings = &self.settings.listeners[listener.0 as usize];
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(Client::closed());
            self.clients.len() as u32 - 1
        });
        let client = &mut self.clients[slot as usize];
        let generation = client.generation;
        let limits = DecodeLimits { line: settings.line_max, value: settings.value_max };
        *client = Client {
            generation,
            open: true,
            listener,
            pool: settings.backend.pool().expect("the driver hands each engine its own listeners only"),
            known,
            decoder: RequestDecoder::new(limits),
            input_max: settings.line_max.max(settings.value_max) + READ_AHEAD,
            reader: Reader::new(now),
            ..Client::closed()
        };
        ClientId { slot, generation }
    }

    /// Whether this socket should be read at all; asked again whenever the client is dirty.
    #[must_use]
    pub fn client_wants_input(&self, id: ClientId) -> bool {
        let Some(client) = self.client(id) else { return false };
        let crowded = self.input_crowded && self.favoured != Some(id);
        let max = if crowded { CROWDED_INPUT } else { client.input_max };
        client.closing.is_none() && client.input.len() < max
    }

    /// The most to read at once from a socket that should be read: while the request bytes of all clients are over their
    /// bound, only the favoured client may bring much.
    #[must_use]
    pub fn client_read_max(&self, id: ClientId) -> usize {
        if self.input_crowded && self.favoured != Some(id) { CROWDED_INPUT } else { READ_AHEAD }
    }

    /// The bytes on their way to a client.
    pub fn client_out(&mut self, id: ClientId) -> &mut OutBuffer {
        &mut self.clients[id.slot as usize].out
    }

    /// The socket took `n` bytes (after [`OutBuffer::wrote`]); a request that waited for the reader may go on.
    pub fn client_wrote(&mut self, id: ClientId, n: usize, now: Instant) {
        let Some(client) = self.client_mut(id) else { return };
        if client.out.is_empty() {
            client.out.release();
            if client.eof || client.closing.is_some() {
                self.mark_client(id); // it may be closed now
            }
        }
        let crowded = self.replies_crowded();
        self.reply_bytes = self.reply_bytes.saturating_sub(n);
        self.pump_due |= crowded && !self.replies_crowded();
        self.reader_caught_up(id, now);
    }

    /// Whether (and how) to close this connection once its output is written.
    #[must_use]
    pub fn client_closing(&self, id: ClientId) -> Option<CloseHow> {
        let client = self.client(id)?;
        if !client.out.is_empty() || !client.asked.is_empty() {
            return None;
        }
        if client.closing.is_some() {
            return client.closing;
        }
        // an incomplete request is never completed after the end of the input
        let stuck =
            client.hold.is_none() && client.bulk.is_none() && client.stale.is_none() && !client.resuming;
        (client.eof && stuck).then_some(CloseHow::Client)
    }

    /// Nothing in flight, unread or unsent.
    #[must_use]
    pub fn client_idle(&self, id: ClientId) -> bool {
        self.client(id).is_none_or(Client::idle)
    }

    /// The client closed its sending side: what it asked is still carried out and answered.
    pub fn client_eof(&mut self, id: ClientId) {
        if let Some(client) = self.client_mut(id) {
            client.eof = true;
        }
        self.mark_client(id);
    }

    /// The connection is gone: what was passed on keeps its slot and its reply falls on the floor.
    pub fn close_client(&mut self, id: ClientId, now: Instant) -> ClientSummary {
        if self.client(id).is_none() {
            return ClientSummary { requests: 0 };
        }
        let crowded = self.replies_crowded();
        self.abandon_all(id, now);
        self.leave_queue(id);
        let client = &mut self.clients[id.slot as usize];
        let (requests, known, held) = (client.requests, client.known, client.granted.take());
        let (bulk, account) = (client.bulk.take(), client.held);
        self.reply_bytes = self.reply_bytes.saturating_sub(client.out.len());
        self.input_bytes = self.input_bytes.saturating_sub(client.input.capacity());
        let generation = client.generation.wrapping_add(1);
        *client = Client { generation, ..Client::closed() };
        self.free.push(id.slot);
        if let Some(bulk) = bulk {
            self.drop_bulk(*bulk);
        }
        if let Some(held) = held {
            self.callers.known[known as usize].state.release(held.operations, held.bytes);
        }
        if let Some(account) = account {
            self.ledger.held_mut().leave(account, now);
        }
        self.callers.known[known as usize].clients -= 1;
        self.forget_identity(known);
        self.pump_due |= crowded && !self.replies_crowded();
        ClientSummary { requests }
    }

    /// The bytes on their way to a server.
    pub fn lane_out(&mut self, id: LaneId) -> &mut OutBuffer {
        &mut self.lanes[id.0 as usize].out
    }

    /// Lanes with bytes to write.
    pub fn take_dirty_lanes(&mut self, into: &mut Vec<LaneId>) {
        for id in self.dirty_lanes.drain(..) {
            self.lanes[id.0 as usize].dirty = false;
            into.push(id);
        }
    }

    /// Clients with bytes to write, that may be read again, or that may be closed.
    pub fn take_dirty_clients(&mut self, into: &mut Vec<ClientId>) {
        for id in self.dirty_clients.drain(..) {
            let client = &mut self.clients[id.slot as usize];
            if client.open && client.generation == id.generation {
                client.dirty = false;
                into.push(id);
            }
        }
    }

    /// Lanes that must be cut; the driver then calls `lane_lost`.
    pub fn take_cuts(&mut self, into: &mut Vec<(LaneId, CutCause)>) {
        into.append(&mut self.cuts);
    }

    /// Clients to close as slow readers.
    pub fn take_slow(&mut self, into: &mut Vec<ClientId>) {
        into.append(&mut self.slow);
    }

    /// Refused lines since the last call: the listener, the bounded cause and how many.
    pub fn take_invalid(&mut self, into: &mut Vec<(ListenerId, &'static str, u64)>) {
        self.invalid.take(into);
    }

    /// What was asked, done and spent.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Visits and resets whose operations each server was asked for since the last call: identity slot, identity, the server's
    /// pool, its position in the pool's list, and the operations. Call before [`Engine::fold`].
    pub fn fold_servers(&mut self, mut f: impl FnMut(u32, &Arc<Identity>, PoolId, usize, u64)) {
        for pool in 0..self.pools.len() {
            for position in 0..self.pools[pool].servers.len() {
                let server = self.pools[pool].servers[position];
                for (slot, spent) in self.servers[server.0 as usize].spent.iter_mut().enumerate() {
                    let operations = std::mem::take(spent);
                    if operations > 0 {
                        f(
                            slot as u32,
                            &self.callers.known[slot].identity,
                            PoolId(pool as u32),
                            position,
                            operations,
                        );
                    }
                }
            }
        }
    }

    /// Visits and resets what each identity did since the last call, and frees identities nobody bears any more.
    pub fn fold(&mut self, f: impl FnMut(u32, &Arc<Identity>, &IdentityTally)) {
        self.feed.hand_over();
        self.callers.fold(&mut self.ledger, f);
    }

    /// A connection bears this identity from now on.
    pub(crate) fn learn_identity(&mut self, identity: Arc<Identity>) -> u32 {
        self.callers.learn(identity, &self.settings, &mut self.ledger)
    }

    /// Gives an identity up once nobody bears it and nothing it asked is under way.
    pub(crate) fn forget_identity(&mut self, slot: u32) {
        self.callers.forget(slot, &mut self.ledger);
    }

    /// Adds a request to those the client is owed an answer for. Its name is kept until it is accounted for.
    pub(crate) fn ask(&mut self, id: ClientId, mut asked: Asked) -> u64 {
        self.callers.known[asked.known as usize].requests += 1;
        self.requests += 1;
        // a split multiget is bounded by its pieces
        let reads = asked.complete
            && matches!(asked.verb, Verb::Get | Verb::Gets | Verb::Gat | Verb::Gats | Verb::Mg);
        if let Some(held) = asked.held.filter(|_| reads) {
            asked.expected = held.bytes.0;
            self.clients[id.slot as usize].expected += held.bytes.0;
        }
        self.clients[id.slot as usize].ask(asked)
    }

    /// Too many reply bytes are unread: no further reads start.
    pub(crate) fn replies_crowded(&self) -> bool {
        let max = self.settings.reply_bytes_max.0;
        let coming: u64 = self.servers.iter().map(|server| server.in_flight.bytes).sum();
        if self.reply_bytes as u64 + coming <= max {
            return false;
        }
        // Parts of answers only leave when the missing parts come: with nothing under way, those must be asked for.
        let quiet = self.servers.iter().all(|server| server.in_flight.operations == 0);
        !quiet || (self.reply_bytes - self.merge_bytes) as u64 > max
    }

    /// Reply bytes are kept until the other parts of their answer are there.
    pub(crate) fn keep_merge(&mut self, bytes: usize) {
        self.reply_bytes += bytes;
        self.merge_bytes += bytes;
    }

    /// Such bytes went on to the client, or nobody wants them any more.
    pub(crate) fn drop_merge(&mut self, bytes: usize) {
        self.reply_bytes = self.reply_bytes.saturating_sub(bytes);
        self.merge_bytes = self.merge_bytes.saturating_sub(bytes);
    }

    /// Held requests take more memory than they may in all.
    pub(crate) fn over_input_bound(&self) -> bool {
        self.input_bytes as u64 > self.settings.input_bytes_max.0
    }

    /// Keeps the bound on request bytes, and chooses who is read while it is reached.
    pub(crate) fn watch_input(&mut self) {
        let crowded = self.over_input_bound();
        if !crowded && !self.input_crowded {
            return;
        }
        let all = |engine: &Engine| -> Vec<ClientId> {
            let open = engine.clients.iter().enumerate().filter(|(_, client)| client.open);
            let waiting = open.filter(|(_, client)| client.input.len() >= CROWDED_INPUT);
            waiting.map(|(slot, c)| ClientId { slot: slot as u32, generation: c.generation }).collect()
        };
        self.input_crowded = crowded;
        if !crowded {
            self.favoured = None;
            for id in all(self) {
                self.mark_client(id);
            }
            return;
        }
        // only a client whose request is not whole gains by being read
        let partial = |client: &Client| {
            let reply_buffer = self.settings.listeners[client.listener.0 as usize].reply_buffer;
            client.input.len() >= CROWDED_INPUT && client.may_decode(reply_buffer)
        };
        if self.favoured.is_some_and(|id| self.client(id).is_some_and(partial)) {
            return;
        }
        let candidates = all(self).into_iter().filter_map(|id| Some((self.client(id)?, id)));
        let fullest = candidates.filter(|(client, _)| partial(client)).max_by_key(|(c, _)| c.input.len());
        self.favoured = fullest.map(|(_, id)| id);
        if let Some(id) = self.favoured {
            self.mark_client(id);
        }
    }

    pub(crate) fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id.slot as usize).filter(|c| c.open && c.generation == id.generation)
    }

    pub(crate) fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.slot as usize).filter(|c| c.open && c.generation == id.generation)
    }

    pub(crate) fn mark_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id.slot as usize) else { return };
        if client.open && client.generation == id.generation && !client.dirty {
            client.dirty = true;
            self.dirty_clients.push(id);
        }
    }

    pub(crate) fn mark_lane(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        if !lane.dirty {
            lane.dirty = true;
            self.dirty_lanes.push(id);
        }
    }

    pub(crate) fn new_keys(&mut self, verb: Verb, owner: Owner) -> Box<KeysWork> {
        match self.spare_keys.pop() {
            Some(mut keys) => {
                keys.renew(verb, owner);
                keys
            }
            None => Box::new(KeysWork::new(verb, owner)),
        }
    }

    pub(crate) fn recycle(&mut self, keys: Box<KeysWork>) {
        self.drop_merge(keys.values.len());
        if self.spare_keys.len() < SPARE_KEYS_MAX && keys.bytes.capacity() <= SPARE_KEYS_BYTES {
            self.spare_keys.push(keys);
        }
    }
}
