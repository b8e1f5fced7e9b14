//! The CQL data path of one worker: many client connections in, few connections to each node out.
//!
//! The modules in the order a request meets them:
//! `client` (a connection) -> `intake` (bytes to envelopes) -> `handshake` (what weir answers itself; `signin` and
//! `credentials` where clients have passwords) -> `ask`
//! (statements to priced requests; `statements`, `prepared`, `rules`, `face` and `second` say what they are, `marks` whose part) -> `target` (which
//! partition) -> `dispatch` (limits, whose turn), with `flight`, `cache` and `writes` (is the same being asked, was it
//! answered, is that still so), and `routing` (which node) -> `node` and `streams` (few connections) -> `answers`
//! (replies back) -> `settle` (what it cost; `statement_times` by statement).
//! A request for many keys goes from `dispatch` through `jobs` (it is split, or not; `split` cuts and gathers), `chunks`
//! (whose part is next) and `parts` (one part); `job_plan` is what differs between reads and `batches`.
//! `lists` has what a list of many markers is split in.
//! A large reply is passed on while it arrives (`stream_through`); a statement a node forgot is prepared again (`repairs`).
//! Around them: `lifecycle` (turns, time-outs), `lanes`
//! (connections come and go), `failover` (what they leave behind, with `retry_budget`), `reload` (new settings),
//! `topology` (nodes come and go; `placement` is where data lies, `tablets` what nodes tell of it), `naming` (names that arrive after the first requests),
//! `pools` and `principals` (clients whose requests go upstream under their own users).
//!
//! Like [`crate::Engine`] it has no socket, no clock and no randomness of its own.

mod answers;
mod ask;
mod batches;
mod cache;
mod chunks;
mod client;
pub mod credentials;
mod dispatch;
mod error;
mod face;
mod failover;
mod flight;
mod handshake;
mod intake;
mod invariants;
mod job;
mod job_plan;
mod jobs;
mod lanes;
mod lifecycle;
mod lists;
mod marks;
pub mod method;
mod naming;
mod node;
mod page_keys;
mod parts;
pub mod placement;
mod pools;
mod prepared;
pub mod principals;
mod reached;
mod reload;
mod repairs;
mod request;
mod rewrite;
mod routing;
mod rules;
mod second;
mod settle;
pub mod signin;
pub mod split;
mod statement_times;
mod statements;
mod stream_through;
mod streams;
mod tablets;
mod target;
mod topology;
mod view;
mod writes;

pub use failover::FailoverCause;
pub use flight::Apart;
pub use jobs::unsplit_reasons;
pub use method::Method;
pub use node::{LaneInfo, NodeId, ShardDial};
pub use placement::{PartitionKeyColumn, PlacedNode, Placement};
pub use reached::Bound;
pub use routing::Routed;
pub use statement_times::{STATEMENTS_KEPT, STATEMENTS_SHOWN, Spent, WORTH, fingerprint_of};
pub use tablets::{TabletCounts, TabletForgotten, TabletTold};
pub use view::ClusterCounts;
pub use writes::Writes;

use crate::OutBuffer;
use crate::admit::Budgets;
use crate::caller::Identity;
use crate::callers::Callers;
use crate::client::{ClientSummary, CloseHow};
use crate::correlate::{Correlator, Feed};
use crate::invalid::Invalid;
use crate::ledger::{IdentityTally, Ledger};
use crate::multiplex::CutCause;
use crate::naming::Naming;
use crate::readers::Reader;
use crate::retry_budget::RetryBudget;
use crate::settings::{Backend, ClusterSettings, Settings};
use crate::units::{ClientId, ClusterId, Instant, LaneId, ListenerId};
use cache::Cache;
use client::Client;
use flight::{FlightCounts, Flights};
use node::{Lane, Node};
use prepared::Registry;
use repairs::Repairs;
use request::{RequestId, Requests, Stage};
use rules::Rules;
use statements::Statements;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use target::Tables;
use weir_cql::statement::OpaqueCause;

/// Requests of one connection that may be under way at once; further ones wait as bytes ([`Bound::ConnectionRequests`]).
pub(crate) const LIVE_MAX: usize = 2_048;

/// One cluster as a worker sees it.
struct Cluster {
    settings: ClusterSettings,
    /// Itself; of a principal's pool the cluster that it is a pool of.
    of: ClusterId,
    /// Whose pool it is.
    pool: Option<pools::Pool>,
    /// Users that found no room for a pool, since the start.
    principals_refused: u64,
    nodes: Vec<NodeId>,
    /// Where its data lies, once somebody has told.
    placement: Option<Arc<dyn Placement>>,
    /// The node of each entry of the placement's list.
    placed: Vec<Option<NodeId>>,
    /// The local data center, where none is named: the first contact's, for good.
    home: Option<Arc<str>>,
    registry: Registry,
    /// Choices for single tables and statements.
    rules: Rules,
    /// Answers that may be given again.
    cache: Cache,
    flights: FlightCounts,
    /// Where the last request went: the next one goes to the node after it.
    turn: usize,
    /// Where tablets are; of a pool those of its cluster count.
    tablets: tablets::Tablets,
    /// Replicas chosen so far, so that equal ones take turns.
    picks: u64,
    tables: Tables,
    budget: RetryBudget,
    /// Requests that are carried out in parts.
    splits: chunks::Splits,
    /// What their page states are authenticated with.
    page_keys: page_keys::PageKeys,
    /// Requests sent a second time, and those the budget did not allow.
    retries: u64,
    retries_refused: u64,
    /// Requests by how they found their node, and those that went to another one by cause.
    routed: [u64; Routed::COUNT],
    failovers: [u64; FailoverCause::COUNT],
}

/// One worker's CQL data path. Not shared, not locked.
pub struct CqlEngine {
    settings: Arc<Settings>,
    workers: u64,
    callers: Callers,
    ledger: Ledger,
    /// What requests with an id did, until it is handed over.
    feed: Feed,
    naming: Naming,
    clients: Vec<Client>,
    free: Vec<u32>,
    requests: Requests,
    repairs: Repairs,
    /// Those of the settings, in their order; then those that have left them, and pools.
    clusters: Vec<Cluster>,
    /// Places of pools that have ended.
    free_pools: Vec<ClusterId>,
    principals: Arc<principals::Principals>,
    /// Who is served first when the queues are, so that none is always the last.
    first_served: usize,
    /// Sets of rules this worker has taken over.
    rules_taken: u32,
    nodes: Vec<Node>,
    /// Nodes there ever were: the number of the last one.
    nodes_made: u32,
    lanes: Vec<Lane>,
    /// Lanes and nodes that are gone; their places are used again.
    free_lanes: Vec<LaneId>,
    free_nodes: Vec<NodeId>,
    /// Lanes were added since the driver last asked.
    lanes_added: bool,
    statements: Statements,
    times: statement_times::StatementTimes,
    /// Reads that others wait for.
    flights: Flights,
    writes: Arc<Writes>,
    dirty_clients: Vec<ClientId>,
    dirty_lanes: Vec<LaneId>,
    /// Queues may be served although nothing was read since the last turn ended.
    pump_due: bool,
    resume: Vec<ClientId>,
    /// Clients that wait for the cluster's word since the driver last asked.
    sign_ins: Vec<signin::SignIn>,
    paced: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    cuts: Vec<(LaneId, CutCause)>,
    slow: Vec<ClientId>,
    invalid: Invalid,
    /// Statements passed through without being understood, by cause, since the last look.
    opaque: [u64; OpaqueCause::ALL.len()],
    reached: reached::Reached,
    /// Reply bytes clients have not taken.
    reply_bytes: usize,
    /// Memory for request bytes: what is not read yet, and the requests that are not answered yet.
    input_bytes: usize,
    input_crowded: bool,
    /// While it is reached: the one client that is read until its request is whole.
    favoured: Option<ClientId>,
    desyncs: u64,
    next_scan: Instant,
    scratch: Vec<u8>,
    stamps: batches::Stamps,
    /// Room for the bytes of a partition key.
    key: Vec<u8>,
}

impl CqlEngine {
    /// A worker's engine. Caps per node are the cluster's divided by `workers`; `seed` makes request ids differ between
    /// workers and runs.
    #[must_use]
    pub fn new(settings: Arc<Settings>, budgets: Arc<Budgets>, workers: u32, seed: u64) -> CqlEngine {
        let mut engine = CqlEngine {
            settings: settings.clone(),
            workers: u64::from(workers.max(1)),
            callers: Callers::new(budgets),
            ledger: Ledger::new(seed),
            feed: Feed::default(),
            naming: Naming::default(),
            clients: Vec::new(),
            free: Vec::new(),
            requests: Requests::default(),
            repairs: Repairs::default(),
            clusters: Vec::new(),
            free_pools: Vec::new(),
            principals: Arc::default(),
            first_served: 0,
            rules_taken: 0,
            nodes: Vec::new(),
            nodes_made: 0,
            lanes: Vec::new(),
            free_lanes: Vec::new(),
            free_nodes: Vec::new(),
            lanes_added: false,
            statements: Statements::default(),
            times: statement_times::StatementTimes::default(),
            flights: Flights::default(),
            writes: Arc::default(),
            dirty_clients: Vec::new(),
            dirty_lanes: Vec::new(),
            pump_due: false,
            resume: Vec::new(),
            sign_ins: Vec::new(),
            paced: BinaryHeap::new(),
            cuts: Vec::new(),
            slow: Vec::new(),
            invalid: Invalid::default(),
            opaque: [0; OpaqueCause::ALL.len()],
            reached: reached::Reached::default(),
            reply_bytes: 0,
            input_bytes: 0,
            input_crowded: false,
            favoured: None,
            desyncs: 0,
            next_scan: Instant(0),
            scratch: Vec::new(),
            stamps: batches::Stamps::default(),
            key: Vec::new(),
        };
        for index in 0..settings.clusters.len() {
            let id = ClusterId(index as u32);
            let cluster = engine.lay_out_cluster(id, settings.clusters[index].clone());
            engine.clusters.push(cluster);
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

    /// A new client connection; `dialled` is the address it reached, which it is shown as the node's.
    ///
    /// # Panics
    /// When the listener does not lead to a cluster: the driver hands each engine its own listeners only.
    pub fn open_client(
        &mut self,
        listener: ListenerId,
        identity: Arc<Identity>,
        dialled: SocketAddr,
        now: Instant,
    ) -> ClientId {
        let Backend::Cluster(cluster) = self.settings.listeners[listener.0 as usize].backend else {
            panic!("listener {} leads to no cluster", listener.0);
        };
        let known = self.callers.learn(identity, &self.settings, &mut self.ledger);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.clients.push(Client::closed());
            self.clients.len() as u32 - 1
        });
        let client = &mut self.clients[slot as usize];
        let generation = client.generation;
        *client = Client {
            generation,
            open: true,
            listener,
            cluster,
            known,
            dialled,
            reader: Reader::new(now),
            ..Client::closed()
        };
        ClientId { slot, generation }
    }

    /// Whether this socket should be read at all; asked again whenever the client is dirty.
    #[must_use]
    pub fn client_wants_input(&self, id: ClientId) -> bool {
        let Some(client) = self.client(id) else { return false };
        let held = client.input.len() + client.plain.len();
        let crowded = self.input_crowded && self.favoured != Some(id);
        let max = if crowded { CROWDED_INPUT.saturating_sub(client.asked) } else { self.input_max(client) };
        client.closing.is_none() && held < max
    }

    /// The most to read at once from a socket that should be read: while the request bytes of all clients are over their
    /// bound, only the favoured client may bring much.
    #[must_use]
    pub fn client_read_max(&self, id: ClientId) -> usize {
        if self.input_crowded && self.favoured != Some(id) { CROWDED_INPUT } else { READ_AHEAD }
    }

    /// One request and what one more read brings.
    fn input_max(&self, client: &Client) -> usize {
        self.cluster_settings(client.cluster).request_max.0 as usize + READ_AHEAD
    }

    /// The bytes on their way to a client.
    pub fn client_out(&mut self, id: ClientId) -> &mut OutBuffer {
        &mut self.clients[id.slot as usize].out
    }

    /// The socket took `n` bytes (after [`OutBuffer::wrote`]).
    pub fn client_wrote(&mut self, id: ClientId, n: usize) {
        if self.client(id).is_none() {
            return; // what it had not taken was counted off when it closed
        }
        let crowded = self.replies_crowded();
        self.reply_bytes = self.reply_bytes.saturating_sub(n);
        self.pump_due |= crowded && !self.replies_crowded();
        let client = &mut self.clients[id.slot as usize];
        if client.out.is_empty() {
            client.out.release();
            if client.eof || client.closing.is_some() {
                self.mark_client(id); // it may be closed now
            }
        }
        self.resume_later(id);
    }

    /// Whether (and how) to close this connection once its output is written.
    #[must_use]
    pub fn client_closing(&self, id: ClientId) -> Option<CloseHow> {
        let client = self.client(id)?;
        if client.unread() > 0 || !client.live.is_empty() {
            return None;
        }
        if client.closing.is_some() {
            return client.closing;
        }
        (client.eof && !client.resuming).then_some(CloseHow::Client)
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

    /// The connection is gone: what was sent keeps its stream id and its reply is read over.
    pub fn close_client(&mut self, id: ClientId, now: Instant) -> ClientSummary {
        if self.client(id).is_none() {
            return ClientSummary { requests: 0 };
        }
        let crowded = self.replies_crowded();
        self.abandon_all(id, now);
        let client = &mut self.clients[id.slot as usize];
        let (requests, known, account) = (client.requests, client.known, client.held);
        let cluster = client.cluster;
        self.reply_bytes = self.reply_bytes.saturating_sub(client.unread());
        let held = client.input.capacity() + client.plain.capacity();
        self.input_bytes = self.input_bytes.saturating_sub(held);
        let generation = client.generation.wrapping_add(1);
        *client = Client { generation, ..Client::closed() };
        self.free.push(id.slot);
        if let Some(account) = account {
            self.ledger.held_mut().leave(account, now);
        }
        self.callers.leave(known, &mut self.ledger);
        self.leaves_pool(cluster, now);
        self.pump_due |= crowded && !self.replies_crowded();
        ClientSummary { requests }
    }

    /// Nobody waits for what this client asked any more.
    fn abandon_all(&mut self, id: ClientId, now: Instant) {
        // first those that wait for another one: they must not take the lead when that one goes
        let mut live = std::mem::take(&mut self.clients[id.slot as usize].live);
        let joined = |request: &RequestId| {
            self.requests
                .get(*request)
                .is_some_and(|r| matches!(r.stage, Stage::Joined | Stage::Following(_)))
        };
        live.sort_by_key(|request| !joined(request));
        for request in live {
            self.abandon(request, now);
        }
    }

    /// The bytes on their way to a node.
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

    /// Messages that could not be read since the last call: the listener, the bounded cause and how many.
    pub fn take_invalid(&mut self, into: &mut Vec<(ListenerId, &'static str, u64)>) {
        self.invalid.take(into);
    }

    /// What was asked, done and spent.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Visits and resets what each identity did since the last call, and frees identities nobody bears any more.
    pub fn fold(&mut self, f: impl FnMut(u32, &Arc<Identity>, &IdentityTally)) {
        self.feed.hand_over();
        self.callers.fold(&mut self.ledger, f);
    }

    fn cluster_settings(&self, cluster: ClusterId) -> &ClusterSettings {
        &self.clusters[cluster.0 as usize].settings
    }

    /// The statements known to a cluster and its pools.
    fn registry(&mut self, cluster: ClusterId) -> &mut Registry {
        let of = self.clusters[cluster.0 as usize].of;
        &mut self.clusters[of.0 as usize].registry
    }

    /// The same, to look at.
    fn known_statements(&self, cluster: ClusterId) -> &Registry {
        let of = self.clusters[cluster.0 as usize].of;
        &self.clusters[of.0 as usize].registry
    }

    fn replies_crowded(&self) -> bool {
        self.reply_bytes as u64 > self.settings.reply_bytes_max.0
    }

    fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id.slot as usize).filter(|c| c.open && c.generation == id.generation)
    }

    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.slot as usize).filter(|c| c.open && c.generation == id.generation)
    }

    fn mark_client(&mut self, id: ClientId) {
        if let Some(client) = self.client_mut(id)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty_clients.push(id);
        }
    }

    fn mark_lane(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        if !lane.dirty {
            lane.dirty = true;
            self.dirty_lanes.push(id);
        }
    }

    /// Input of this client that was held may go on at the end of the turn.
    fn resume_later(&mut self, id: ClientId) {
        if let Some(client) = self.client_mut(id)
            && !client.resuming
            && !(client.input.is_empty() && client.plain.is_empty())
        {
            client.resuming = true;
            self.resume.push(id);
        }
    }
}

/// While the request bytes of all clients are over their bound, a client that holds more than this (requests not yet
/// answered included) is not read; but one client at a time is, until its request is whole.
const CROWDED_INPUT: usize = 4 << 10;
/// Input kept beyond the largest request: what one more read brings.
const READ_AHEAD: usize = 64 << 10;
