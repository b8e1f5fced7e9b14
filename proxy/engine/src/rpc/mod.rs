//! Calls between services (gRPC, Connect, HTTP): who may call, how much, whose turn it is.
//!
//! The codec tells numbers (keys, bytes), the edge carries out what is decided here. In the order of a call:
//! [`RpcEngine::begin`] at its head (`begin`: who is it, `deny`: is the method switched off, are there too many) ->
//! [`RpcEngine::counted`] when its body is whole (`admission`: limits; whole or in parts) -> `parts` (whose part is next;
//! `service` has the servers and the bounds) -> [`RpcEngine::answered`], [`RpcEngine::cancelled`] or an [`Event::Ended`]
//! (`settle`: what it cost). Around them: `timers` (deadlines and time-outs), `reload` (new settings), `view` (what is
//! shown and counted), `methods` (which methods have a name), `stops` (what is not split any more), `refusal` (what a
//! client is told), `whither` (which server), `eject` (servers that fail).
//!
//! One engine serves a process, behind a mutex: the edge's tasks move between threads, calls come in thousands a second
//! and not in millions, every entry point takes a microsecond or so and none waits; and a budget of parts in flight, a
//! fair queue over all callers and a deadline are one thing each and not a thing per thread. The limits of callers are
//! shared with the other protocols' workers ([`Budgets`]), so that they hold per process.
//!
//! Nothing here is given back by time alone: whoever starts a part says when it ended ([`RpcEngine::part_over`]), also
//! when nobody waits for it any more, because a server works on it until then.

mod admission;
mod begin;
mod call;
mod deny;
pub mod eject;
mod invariants;
pub mod methods;
mod parts;
mod refusal;
mod reload;
mod service;
mod settle;
mod stops;
mod timers;
mod view;
mod whither;

pub use admission::{Body, Verdict};
pub use begin::{Begun, Head};
pub use call::{CallId, INVALID_NAME, PartId, identity};
pub use deny::{DENIED_MAX, Denied, DenyList, NotDenied};
pub use methods::{METHODS_MAX, MethodNumber, Protocol, method_of_path};
pub use parts::{Event, Progress, Start};
pub use refusal::{Refusal, Why};
pub use service::{ServiceCounts, unsplit};
pub use settle::End;
pub use stops::Stopped;
pub use view::{MethodCounts, RpcCounts, ServerStanding, ServiceStanding};

use crate::admit::Budgets;
use crate::caller::Identity;
use crate::callers::Callers;
use crate::ledger::{IdentityTally, Ledger};
use crate::settings::{Backend, Settings};
use crate::units::{Instant, ServiceId};
use call::{CallId as Id, Calls};
use lru::LruCache;
use methods::Methods;
use service::Service;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use stops::Stops;

/// Callers whose estimates are kept although they have no call under way.
const RECENT_CALLERS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The RPC edge's decisions. Not locked: see the module's text.
pub struct RpcEngine {
    settings: Arc<Settings>,
    callers: Callers,
    ledger: Ledger,
    /// Each is kept among the callers as one connection would keep it.
    recent: LruCache<Arc<Identity>, u32>,
    calls: Calls,
    services: Vec<Service>,
    /// Of each service of the settings, its place in `services`.
    places: Vec<usize>,
    methods: Methods,
    denied: DenyList,
    stops: Stops,
    /// When calls are looked at by themselves.
    timers: BTreeSet<(Instant, Id)>,
    events: Vec<Event>,
    counts: RpcCounts,
    next_serial: u64,
}

impl RpcEngine {
    /// An engine; `budgets` are those of the process, `seed` makes request ids differ between runs.
    #[must_use]
    pub fn new(settings: Arc<Settings>, budgets: Arc<Budgets>, seed: u64) -> RpcEngine {
        let mut engine = RpcEngine {
            settings: Arc::new(Settings::default()),
            callers: Callers::new(budgets),
            ledger: Ledger::new(seed),
            recent: LruCache::new(RECENT_CALLERS),
            calls: Calls::default(),
            services: Vec::new(),
            places: Vec::new(),
            methods: Methods::default(),
            denied: DenyList::default(),
            stops: Stops::default(),
            timers: BTreeSet::new(),
            events: Vec::new(),
            counts: RpcCounts::default(),
            next_serial: 0,
        };
        engine.take_over(settings);
        engine
    }

    /// What was asked, done and spent.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Visits and resets what each caller did since the last call.
    pub fn fold(&mut self, f: impl FnMut(u32, &Arc<Identity>, &IdentityTally)) {
        self.callers.fold(&mut self.ledger, f);
    }

    /// What is to be carried out since the last call, in order. To be asked after every other call, and nothing of it may
    /// be left out.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        into.append(&mut self.events);
    }

    /// The methods that are switched off.
    pub fn denied(&mut self) -> &mut DenyList {
        &mut self.denied
    }

    fn place_of(&self, listener: crate::units::ListenerId) -> Option<usize> {
        match self.settings.listeners.get(listener.0 as usize)?.backend {
            Backend::Service(ServiceId(service)) => self.places.get(service as usize).copied(),
            Backend::Pool(_) | Backend::Cluster(_) => None,
        }
    }
}
