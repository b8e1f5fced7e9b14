//! What a worker's loop needs of the engine it drives: the same calls for both protocols, resolved when weir is
//! compiled. Sockets, turns, drains and panics are written once, for any [`DataPath`].

mod cql;
mod memcached;

use crate::config::Config;
use crate::fold::Protocol;
use crate::upstream::Connecting;
use std::net::SocketAddr;
use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::correlate::Correlator;
use weir_engine::cql::credentials::Verdict;
use weir_engine::cql::principals::Principals;
use weir_engine::cql::signin::SignIn;
use weir_engine::cql::{ClusterCounts, Placement, Spent, Writes};
use weir_engine::error::Rejected;
use weir_engine::ledger::{IdentityTally, Ledger};
use weir_engine::settings::{Address, Backend, Settings};
use weir_engine::units::{ClientId, ClusterId, Instant, LaneId, ListenerId, PoolId, Span};
use weir_engine::{
    ClientSummary, CloseHow, CutCause, Desync, EngineSnapshot, FlushJob, NamingCounts, OutBuffer,
};
use weir_telemetry::CqlBound;

/// One protocol's engine as a worker drives it. The calls mean what the engines' own documentation says.
pub trait DataPath: Sized + Send + Unpin + 'static {
    /// What its clients speak.
    const PROTOCOL: Protocol;
    /// What it knows about an upstream connection.
    type Lane: Route;

    /// A worker's engine.
    fn new(settings: Arc<Settings>, budgets: Arc<Budgets>, workers: u32, seed: u64) -> Self;

    /// What the workers of a process know about writes together.
    fn share_writes(&mut self, _writes: &Arc<Writes>) {}
    /// What they know about users with connections of their own.
    fn share_principals(&mut self, _principals: &Arc<Principals>) {}

    /// Where they put together what requests with an id did.
    fn share_correlator(&mut self, correlator: &Arc<Correlator>);
    /// What is not there yet goes there now.
    fn hand_over_correlated(&mut self);

    /// What the wall clock says: microseconds since 1970 at [`Instant`] zero.
    fn tell_wall_clock(&mut self, _unix_micros_at_zero: i64) {}

    /// A new client connection. `dialled` finds out the address it reached, for protocols that tell clients.
    fn open_client(
        &mut self,
        listener: ListenerId,
        identity: Arc<Identity>,
        dialled: impl FnOnce() -> SocketAddr,
        now: Instant,
    ) -> ClientId;
    /// Bytes a client sent.
    fn client_input(&mut self, id: ClientId, bytes: &[u8], now: Instant);
    /// Whether its socket should be read.
    fn client_wants_input(&self, id: ClientId) -> bool;
    /// The most to read from it at once.
    fn client_read_max(&self, id: ClientId) -> usize;
    /// The bytes on their way to it.
    fn client_out(&mut self, id: ClientId) -> &mut OutBuffer;
    /// Its socket took `n` bytes.
    fn client_wrote(&mut self, id: ClientId, n: usize, now: Instant);
    /// Whether and how to close it once its output is written.
    fn client_closing(&self, id: ClientId) -> Option<CloseHow>;
    /// Nothing in flight, unread or unsent.
    fn client_idle(&self, id: ClientId) -> bool;
    /// It closed its sending side.
    fn client_eof(&mut self, id: ClientId);
    /// It is gone.
    fn close_client(&mut self, id: ClientId, now: Instant) -> ClientSummary;
    /// It is about to be closed although it is not idle.
    fn reject_client(&mut self, id: ClientId, why: Rejected);

    /// Clients whose credentials are to be checked since the last call.
    fn take_sign_ins(&mut self, _into: &mut Vec<SignIn>) {}
    /// What came of it.
    fn signed_in(&mut self, _id: ClientId, _verdict: &Verdict, _now: Instant) {}

    /// Somebody is finding out who it belongs to.
    fn await_name(&mut self, id: ClientId, now: Instant);
    /// The identity of a closed connection whose requests are not booked yet.
    fn held_identity(&self, id: ClientId) -> Option<Arc<Identity>>;
    /// The answer, read from the system at `read_at`; `None`: no better name than it has.
    fn name_client(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant);
    /// Whether an answer is urgent.
    fn take_urgent(&mut self) -> bool;
    /// What became of held accounts.
    fn take_naming_counts(&mut self) -> NamingCounts;
    /// Books every held account as it is: the worker ends.
    fn book_held(&mut self);

    /// Every lane that should be connected.
    fn lanes(&self) -> impl Iterator<Item = (LaneId, &Self::Lane)>;
    /// Whether there are more of them than at the last call.
    fn take_lanes_added(&mut self) -> bool {
        false
    }
    /// The bytes on their way to a lane.
    fn lane_out(&mut self, id: LaneId) -> &mut OutBuffer;
    /// Bytes it delivered.
    ///
    /// # Errors
    /// When they answer nothing that was asked: it must be cut.
    fn lane_input(&mut self, id: LaneId, bytes: &[u8], now: Instant) -> Result<(), Desync>;
    /// Before it is up: whether its node says that it is Scylla.
    fn lane_says(&mut self, _id: LaneId, _scylla: bool) {}
    /// It is connected and signed in.
    fn lane_up(&mut self, id: LaneId, now: Instant);
    /// An attempt to connect it failed; `sign_in`: because of its credentials.
    fn lane_failed(&mut self, id: LaneId, sign_in: bool, now: Instant);
    /// Its connection was lost.
    fn lane_lost(&mut self, id: LaneId, now: Instant);
    /// The node said which of its shards serves the lane. Before [`DataPath::lane_up`].
    fn lane_on_shard(&mut self, _id: LaneId, _shard: u16) {}
    /// The node agreed to tell tablets on the lane. Before [`DataPath::lane_up`].
    fn lane_tells_tablets(&mut self, _id: LaneId) {}
    /// Nothing is left of a lane that [`DataPath::lanes`] does not name any more.
    fn lane_gone(&mut self, _id: LaneId) {}

    /// Ends a turn.
    fn end_turn(&mut self, now: Instant);
    /// Whether another turn would do more.
    fn has_more(&self) -> bool;
    /// Whether the worker gives way now, before it asks the kernel for events (see [`super::courtesy`]).
    fn gives_way(&self) -> bool;
    /// Whether the worker looks again for a moment before it sleeps (see [`super::busy_poll`]).
    fn waits_awake(&self) -> bool;
    /// When [`DataPath::on_timer`] is to be called next.
    fn next_deadline(&self) -> Option<Instant>;
    /// What happens by time.
    fn on_timer(&mut self, now: Instant);
    /// Where a cluster's data lies.
    fn place(&mut self, _cluster: ClusterId, _placement: Arc<dyn Placement>, _now: Instant) {}
    /// New settings.
    fn apply(&mut self, settings: Arc<Settings>, now: Instant);
    /// Lanes with bytes to write.
    fn take_dirty_lanes(&mut self, into: &mut Vec<LaneId>);
    /// Clients with something to write, to read or to close.
    fn take_dirty_clients(&mut self, into: &mut Vec<ClientId>);
    /// Lanes to be cut.
    fn take_cuts(&mut self, into: &mut Vec<(LaneId, CutCause)>);
    /// Clients to be closed as slow readers.
    fn take_slow(&mut self, into: &mut Vec<ClientId>);
    /// Flushes by prefix to be carried out.
    fn take_flushes(&mut self, _into: &mut Vec<FlushJob>) {}
    /// One of them ended.
    fn flush_done(&mut self, _job: &FlushJob, _ok: bool, _now: Instant) {}

    /// How it stands.
    fn snapshot(&self, now: Instant) -> EngineSnapshot;
    /// What was asked, done and spent.
    fn ledger(&mut self) -> &mut Ledger;
    /// Requests that could not be read: the listener and the cause.
    fn take_invalid(&mut self, into: &mut Vec<(ListenerId, &'static str, u64)>);
    /// What each identity did since the last call.
    fn fold(&mut self, f: impl FnMut(u32, &Arc<Identity>, &IdentityTally));
    /// Operations each server was asked for since the last call, on whose behalf. Before [`DataPath::fold`].
    fn fold_servers(&mut self, f: impl FnMut(u32, &Arc<Identity>, Server<'_>, u64));
    /// Statements passed on unread since the last call, by cause.
    fn take_opaque(&mut self, _f: impl FnMut(&'static str, u64)) {}
    /// What nodes spent on statements since the last call: cluster, fingerprint (`None`: of others), and how much.
    fn take_statement_times(&mut self, _f: impl FnMut(&str, Option<&str>, Spent)) {}
    /// How often bounds without a key were met since the last call.
    fn take_reached(&mut self, _f: impl FnMut(CqlBound, u64)) {}
    /// What is counted about each cluster, in the order of the settings.
    fn cluster_counts(&self) -> Vec<ClusterCounts> {
        Vec::new()
    }
}

/// Which server something was asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server<'a> {
    /// The one at this position in the list of a pool.
    Position(PoolId, usize),
    /// The node with this address.
    Address(&'a str),
}

/// The time-outs of a lane, from the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For connecting and signing in.
    pub connect: Span,
    /// First wait before another attempt.
    pub reconnect_min: Span,
    /// Longest wait before another attempt.
    pub reconnect_max: Span,
}

/// Where an upstream connection leads.
pub trait Route: Clone + std::fmt::Debug + Send + Unpin + 'static {
    /// Its pool or cluster.
    fn backend(&self) -> Backend;
    /// Where to.
    fn address(&self) -> &Address;
    /// How long its pool or cluster waits.
    fn patience(&self, settings: &Settings) -> Patience;
    /// Begins an attempt: connecting, with TLS as the configuration says, and whatever must be said before the first request.
    fn dial(&self, config: &Config, timeout: Span) -> Connecting;
}

/// The calls both engines have under the same name.
macro_rules! shared_calls {
    ($engine:ty) => {
        fn new(settings: Arc<Settings>, budgets: Arc<Budgets>, workers: u32, seed: u64) -> Self {
            <$engine>::new(settings, budgets, workers, seed)
        }
        fn share_correlator(&mut self, correlator: &Arc<Correlator>) {
            <$engine>::share_correlator(self, correlator);
        }
        fn hand_over_correlated(&mut self) {
            <$engine>::hand_over_correlated(self);
        }
        fn client_input(&mut self, id: ClientId, bytes: &[u8], now: Instant) {
            <$engine>::client_input(self, id, bytes, now);
        }
        fn client_wants_input(&self, id: ClientId) -> bool {
            <$engine>::client_wants_input(self, id)
        }
        fn client_out(&mut self, id: ClientId) -> &mut OutBuffer {
            <$engine>::client_out(self, id)
        }
        fn client_closing(&self, id: ClientId) -> Option<CloseHow> {
            <$engine>::client_closing(self, id)
        }
        fn client_idle(&self, id: ClientId) -> bool {
            <$engine>::client_idle(self, id)
        }
        fn client_eof(&mut self, id: ClientId) {
            <$engine>::client_eof(self, id);
        }
        fn close_client(&mut self, id: ClientId, now: Instant) -> ClientSummary {
            <$engine>::close_client(self, id, now)
        }
        fn reject_client(&mut self, id: ClientId, why: Rejected) {
            <$engine>::reject_client(self, id, why);
        }
        fn await_name(&mut self, id: ClientId, now: Instant) {
            <$engine>::await_name(self, id, now);
        }
        fn held_identity(&self, id: ClientId) -> Option<Arc<Identity>> {
            <$engine>::held_identity(self, id)
        }
        fn name_client(&mut self, id: ClientId, name: Option<Arc<Identity>>, read_at: Instant) {
            <$engine>::name_client(self, id, name, read_at);
        }
        fn take_urgent(&mut self) -> bool {
            <$engine>::take_urgent(self)
        }
        fn take_naming_counts(&mut self) -> NamingCounts {
            <$engine>::take_naming_counts(self)
        }
        fn book_held(&mut self) {
            <$engine>::book_held(self);
        }
        fn lanes(&self) -> impl Iterator<Item = (LaneId, &Self::Lane)> {
            <$engine>::lanes(self)
        }
        fn lane_out(&mut self, id: LaneId) -> &mut OutBuffer {
            <$engine>::lane_out(self, id)
        }
        fn lane_input(&mut self, id: LaneId, bytes: &[u8], now: Instant) -> Result<(), Desync> {
            <$engine>::lane_input(self, id, bytes, now)
        }
        fn lane_up(&mut self, id: LaneId, now: Instant) {
            <$engine>::lane_up(self, id, now);
        }
        fn lane_lost(&mut self, id: LaneId, now: Instant) {
            <$engine>::lane_lost(self, id, now);
        }
        fn end_turn(&mut self, now: Instant) {
            <$engine>::end_turn(self, now);
        }
        fn has_more(&self) -> bool {
            <$engine>::has_more(self)
        }
        fn next_deadline(&self) -> Option<Instant> {
            <$engine>::next_deadline(self)
        }
        fn on_timer(&mut self, now: Instant) {
            <$engine>::on_timer(self, now);
        }
        fn apply(&mut self, settings: Arc<Settings>, now: Instant) {
            <$engine>::apply(self, settings, now);
        }
        fn take_dirty_lanes(&mut self, into: &mut Vec<LaneId>) {
            <$engine>::take_dirty_lanes(self, into);
        }
        fn take_dirty_clients(&mut self, into: &mut Vec<ClientId>) {
            <$engine>::take_dirty_clients(self, into);
        }
        fn take_cuts(&mut self, into: &mut Vec<(LaneId, CutCause)>) {
            <$engine>::take_cuts(self, into);
        }
        fn take_slow(&mut self, into: &mut Vec<ClientId>) {
            <$engine>::take_slow(self, into);
        }
        fn snapshot(&self, now: Instant) -> EngineSnapshot {
            <$engine>::snapshot(self, now)
        }
        fn ledger(&mut self) -> &mut Ledger {
            <$engine>::ledger(self)
        }
        fn take_invalid(&mut self, into: &mut Vec<(ListenerId, &'static str, u64)>) {
            <$engine>::take_invalid(self, into);
        }
        fn fold(&mut self, f: impl FnMut(u32, &Arc<Identity>, &IdentityTally)) {
            <$engine>::fold(self, f);
        }
    };
}
use shared_calls;
