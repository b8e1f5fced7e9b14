//! A service as the engine sees it: its servers, what they work on, and who waits for them.

use super::call::CallId;
use crate::ledger::Outcome;
use crate::queue::FairQueue;
use crate::retry_budget::RetryBudget;
use crate::settings::{Address, ServiceSettings};
use crate::units::{Instant, Span};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Operations a principal may spend per round of the fair queues: about one part of a split call.
const QUANTUM: u64 = 100;

/// After so long without a whole call the servers have parts for themselves.
const ALONE_AFTER: Span = Span::millis(20);

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) name: std::sync::Arc<str>,
    /// Health checks and connections say so; until they say otherwise it is.
    pub(super) up: bool,
    /// The settings name it: otherwise it gets nothing more.
    pub(super) listed: bool,
    /// Calls and parts it works on.
    pub(super) calls: u32,
    pub(super) chunks: u32,
    /// When it was last given a whole call.
    asked: Option<Instant>,
    /// Operations it works on, and all it was ever passed.
    pub(super) operations: u64,
    pub(super) operations_total: u64,
    /// Operations it was passed since the last fold, by caller's slot.
    pub(super) spent: Vec<u64>,
}

impl Server {
    fn new(address: &Address) -> Server {
        Server {
            address: address.clone(),
            name: address.to_string().into(),
            up: true,
            listed: true,
            calls: 0,
            chunks: 0,
            asked: None,
            operations: 0,
            operations_total: 0,
            spent: Vec::new(),
        }
    }

    pub(super) fn spend(&mut self, known: u32, operations: u64) {
        let slot = known as usize;
        if self.spent.len() <= slot {
            self.spent.resize(slot + 1, 0);
        }
        self.spent[slot] += operations;
        self.operations += operations;
        self.operations_total += operations;
    }

    /// It was not sent them after all. (What was told of already stays told.)
    pub(super) fn unspend(&mut self, known: u32, operations: u64) {
        if let Some(spent) = self.spent.get_mut(known as usize) {
            *spent = spent.saturating_sub(operations);
        }
        self.operations_total = self.operations_total.saturating_sub(operations);
    }

    /// It works on whole calls, or did just now.
    fn serves_calls(&self, now: Instant) -> bool {
        self.calls > 0 || self.asked.is_some_and(|asked| now.since(asked) < ALONE_AFTER)
    }

    fn idle(&self) -> bool {
        self.calls == 0 && self.chunks == 0 && self.spent.iter().all(|spent| *spent == 0)
    }
}

/// What is counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Split calls that ended, by [`Outcome::index`].
    pub splits: [u64; Outcome::COUNT],
    /// Parts started.
    pub chunks: u64,
    /// Calls for more than `chunk_keys` keys that went whole, by cause.
    pub unsplit: FxHashMap<&'static str, u64>,
    /// Calls and parts sent once more, and those the budget did not allow.
    pub retries: u64,
    /// See `retries`.
    pub retries_refused: u64,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) settings: ServiceSettings,
    /// The settings name it: otherwise it only ends what it has.
    pub(super) listed: bool,
    pub(super) servers: Vec<Server>,
    /// Calls that are passed on whole and wait.
    pub(super) small: FairQueue<CallId>,
    /// Split calls that have a part to start.
    pub(super) bulk: FairQueue<CallId>,
    /// Split calls that are not over, the oldest first.
    pub(super) splits: BTreeMap<u64, CallId>,
    /// Calls that were begun and are not over.
    pub(super) calls: u32,
    /// Calls passed on whole, those nobody waits for any more included.
    pub(super) whole: u32,
    /// Bytes of answers of parts that wait for the others.
    pub(super) gathered: u64,
    pub(super) budget: RetryBudget,
    pub(super) counts: ServiceCounts,
    turn: usize,
}

impl Service {
    pub(super) fn new(settings: ServiceSettings) -> Service {
        Service {
            servers: settings.servers.iter().map(Server::new).collect(),
            settings,
            listed: true,
            small: FairQueue::new(QUANTUM),
            bulk: FairQueue::new(QUANTUM),
            splits: BTreeMap::new(),
            calls: 0,
            whole: 0,
            gathered: 0,
            budget: RetryBudget::default(),
            counts: ServiceCounts::default(),
            turn: 0,
        }
    }

    /// New settings: servers are told apart by address. One that left ends what it has; its place is another one's then.
    pub(super) fn tune(&mut self, settings: ServiceSettings) {
        for server in &mut self.servers {
            server.listed = settings.servers.contains(&server.address);
        }
        for address in &settings.servers {
            if self.servers.iter().any(|server| server.address == *address) {
                continue;
            }
            match self.servers.iter_mut().find(|server| !server.listed && server.idle()) {
                Some(free) => *free = Server::new(address),
                None => self.servers.push(Server::new(address)),
            }
        }
        self.settings = settings;
        self.listed = true;
    }

    /// The settings do not name it any more.
    pub(super) fn retire(&mut self) {
        self.listed = false;
        self.servers.iter_mut().for_each(|server| server.listed = false);
    }

    /// Nothing of it is left to be ended or told.
    pub(super) fn gone(&self) -> bool {
        !self.listed && self.calls == 0 && self.servers.iter().all(Server::idle)
    }

    pub(super) fn crowded(&self) -> bool {
        self.gathered > self.settings.gather_bytes_max.0
    }

    pub(super) fn has_call_room(&self) -> bool {
        self.whole < self.settings.calls_in_flight
    }

    /// The server for a whole call: of those that are up the one with the least to do, in turn. While none is up they
    /// are all asked: a wrong health check must not be worse than none.
    pub(super) fn for_call(&mut self) -> Option<u32> {
        self.least(|server| Some((server.calls, server.operations)))
    }

    /// The server for a part: the same among those with room for one.
    pub(super) fn for_chunk(&mut self) -> Option<u32> {
        let max = self.settings.chunks_in_flight;
        self.least(move |server| (server.chunks < max).then_some((server.chunks, server.operations)))
    }

    /// Parts in flight at once of a call that has so many: of a long one few beside other calls, which then find the servers
    /// nearly free.
    pub(super) fn window(&self, chunks: u32, now: Instant) -> u32 {
        let window = self.settings.chunk_window;
        let long = chunks > window;
        if long && self.servers.iter().any(|server| server.serves_calls(now)) {
            return window.min(self.settings.chunks_beside_calls);
        }
        window
    }

    /// Another server than this one for what failed there, with room where it is a part.
    pub(super) fn another(&mut self, than: u32, chunk: bool) -> Option<u32> {
        let max = self.settings.chunks_in_flight;
        let address = self.servers.get(than as usize)?.address.clone();
        self.least(move |server| {
            let fits = server.up && server.address != address && (!chunk || server.chunks < max);
            fits.then_some((server.chunks + server.calls, server.operations))
        })
    }

    /// A server is passed a call or a part.
    pub(super) fn enter(&mut self, server: u32, chunk: bool, now: Instant) {
        let server = &mut self.servers[server as usize];
        if chunk {
            server.chunks += 1;
        } else {
            server.calls += 1;
            server.asked = Some(now);
            self.whole += 1;
        }
    }

    /// It does not work on it any more.
    pub(super) fn leave(&mut self, server: u32, chunk: bool, keys: u64) {
        let server = &mut self.servers[server as usize];
        server.operations = server.operations.saturating_sub(keys);
        if chunk {
            server.chunks -= 1;
        } else {
            server.calls -= 1;
            self.whole -= 1;
        }
    }

    fn least(&mut self, load: impl Fn(&Server) -> Option<(u32, u64)>) -> Option<u32> {
        let any_up = self.servers.iter().any(|server| server.up && server.listed);
        // a service that left ends what it has where that was begun
        let any_listed = self.servers.iter().any(|server| server.listed);
        let count = self.servers.len();
        self.turn = self.turn.wrapping_add(1);
        let places = (0..count).map(|step| (self.turn + step) % count);
        let open = places.filter(|place| {
            let server = &self.servers[*place];
            (server.up || !any_up) && (server.listed || !any_listed)
        });
        let loads = open.filter_map(|place| Some((load(&self.servers[place])?, place)));
        loads.min_by_key(|(load, _)| *load).map(|(_, place)| place as u32)
    }

    pub(super) fn unsplit(&mut self, cause: &'static str) {
        *self.counts.unsplit.entry(cause).or_default() += 1;
    }
}

/// Why a call for many keys goes whole, besides what the method's description says.
pub mod unsplit {
    /// The service's or the listener's switch is off.
    pub const SWITCHED_OFF: &str = "switched_off";
    /// The description of the method does not allow it.
    pub const METHOD: &str = "method";
    /// An answer had a field that is not described.
    pub const STOPPED: &str = "stopped";
    /// Every cause.
    pub const ALL: [&str; 3] = [SWITCHED_OFF, METHOD, STOPPED];
}
