//! From a worker's plain numbers to shared metrics: every [`INTERVAL`] while something changed, and when somebody looks.
//!
//! Handles are resolved once per identity. Besides the metrics, each worker keeps one [`Row`] per identity for the
//! control socket (totals, the last second, the last minute): at most [`ROWS_MAX`], later identities share `_other`.

pub mod rpc;
pub mod rpc_servers;
pub mod window;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use weir_engine::caller::Identity;
use weir_engine::error::{LimitKind as EngineLimit, Rejected};
use weir_engine::ledger::{FlushEnd, IdentityTally, Method, Tally};
use weir_engine::rpc::MethodNumber;
use weir_engine::settings::{Backend, FlushPolicy, LimitMode as EngineMode, Settings};
use weir_engine::units::{Instant, ListenerId, Span};
use weir_engine::{cql, rpc as calls};
use weir_memcached::Verb;
use weir_telemetry::labels::OTHER;
use weir_telemetry::{
    BackendMetrics, CallerMetrics, Event, Example, FlushResult, GrowingNames, LimitKind, LimitMode,
    LookupResult, MethodDelta, MethodIdx, MethodNames, NamingResult, Observed, PoolMetrics, ProtocolLabels,
    RejectReason, Severity, Telemetry,
};
use window::{Largest, Window, Work};

use crate::clock::seconds;
use crate::worker::path::{DataPath, Server};

/// The longest time a number stays in its worker.
pub const INTERVAL: Span = Span::millis(20);
/// Identities with a row of their own.
pub const ROWS_MAX: usize = 1_024;

/// What a listener speaks: an index into [`PROTOCOLS`], where calls have one entry for each of
/// [`weir_engine::rpc::Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// memcached, text and meta.
    Memcached,
    /// The Cassandra native protocol.
    Cql,
    /// Calls between services: gRPC, Connect and other HTTP.
    Rpc,
}

impl Protocol {
    /// What is spoken to the clients of a pool or cluster.
    #[must_use]
    pub fn of(backend: Backend) -> Protocol {
        match backend {
            Backend::Pool(_) => Protocol::Memcached,
            Backend::Cluster(_) => Protocol::Cql,
            Backend::Service(_) => Protocol::Rpc,
        }
    }

    /// The label of one of its methods.
    #[must_use]
    pub fn method(self, method: Method) -> &'static str {
        let number = match self {
            Protocol::Memcached | Protocol::Cql => method.index(),
            Protocol::Rpc => MethodNumber::of(method).index(), // by the same names, whatever the call is spoken in
        };
        PROTOCOLS[self as usize].methods.get(number)
    }
}

/// Names of the methods of calls, by [`MethodNumber`].
pub static RPC_METHODS: GrowingNames = GrowingNames::new();

/// Each protocol's name in labels, and its methods in the order of [`Verb::index`] and [`cql::Method::index`]; those of
/// calls in the order of the ledger's numbers.
pub static PROTOCOLS: LazyLock<[ProtocolLabels; 2 + calls::Protocol::COUNT]> = LazyLock::new(|| {
    static VERBS: LazyLock<[&str; Verb::COUNT]> = LazyLock::new(|| Verb::ALL.map(Verb::name));
    static METHODS: LazyLock<[&str; cql::Method::COUNT]> =
        LazyLock::new(|| cql::Method::ALL.map(cql::Method::name));
    let [grpc, connect, http] = calls::Protocol::ALL.map(|protocol| ProtocolLabels {
        name: protocol.label(),
        methods: MethodNames::Growing(&RPC_METHODS),
    });
    [
        ProtocolLabels { name: "memcached", methods: MethodNames::Fixed(&*VERBS) },
        ProtocolLabels { name: "cql", methods: MethodNames::Fixed(&*METHODS) },
        grpc,
        connect,
        http,
    ]
});

/// What one identity did through one worker since the start.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who.
    pub identity: Arc<Identity>,
    /// Requests.
    pub requests: u64,
    /// Operations asked.
    pub operations: u64,
    /// Operations that went to a backend.
    pub backend_operations: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Requests above a limit, by the mode the limit was in.
    pub limited: [u64; LimitMode::COUNT],
    /// The last second and the last minute.
    pub window: Window,
    /// The largest request asked.
    pub largest: Option<Largest>,
    /// When it was first folded.
    pub first_seen: Instant,
    /// When it last asked for something.
    pub last_seen: Instant,
}

impl Row {
    fn new(identity: Arc<Identity>, now: Instant) -> Row {
        Row {
            identity,
            requests: 0,
            operations: 0,
            backend_operations: 0,
            hits: 0,
            misses: 0,
            bytes_in: 0,
            bytes_out: 0,
            limited: [0; LimitMode::COUNT],
            window: Window::default(),
            largest: None,
            first_seen: now,
            last_seen: now,
        }
    }

    fn add(&mut self, protocol: Protocol, tally: &IdentityTally, now: Instant) {
        self.last_seen = now;
        for (method, tally) in tally.tallies() {
            let requests: u64 = tally.requests.iter().sum();
            self.requests += requests;
            self.operations += tally.operations;
            self.backend_operations += tally.backend_operations;
            self.hits += tally.hits;
            self.misses += tally.misses;
            self.bytes_in += tally.bytes_in;
            self.bytes_out += tally.bytes_out;
            let method = protocol.method(method);
            let largest = Largest { operations: tally.largest, method, at: now };
            let largest = (tally.largest > 0).then_some(largest);
            if largest.is_some_and(|new| self.largest.is_none_or(|old| old.operations < new.operations)) {
                self.largest = largest;
            }
            self.window.add(now, &Work { requests, operations: tally.operations, largest });
        }
        for (_, mode, requests) in tally.over_limits() {
            self.limited[shown_mode(mode).index()] += requests;
        }
    }
}

/// What is resolved once per identity.
#[derive(Debug)]
struct Handles {
    caller: Arc<CallerMetrics>,
    row: usize,
}

/// One worker's books.
#[derive(Debug)]
pub struct Books {
    protocol: Protocol,
    telemetry: Arc<Telemetry>,
    /// By the engine's identity slot.
    handles: Vec<Option<Handles>>,
    rows: Vec<Row>,
    row_of: HashMap<Arc<Identity>, usize>,
    pools: Vec<Arc<PoolMetrics>>,
    /// By pool, in the order of its servers.
    backends: Vec<Vec<Arc<BackendMetrics>>>,
    /// By address, as far as they were asked for anything.
    nodes: HashMap<Box<str>, Arc<BackendMetrics>>,
    invalid: Vec<(ListenerId, &'static str, u64)>,
}

impl Books {
    /// Empty books.
    #[must_use]
    pub fn new(protocol: Protocol, telemetry: Arc<Telemetry>, settings: &Settings) -> Books {
        let mut books = Books {
            protocol,
            telemetry,
            handles: Vec::new(),
            rows: Vec::new(),
            row_of: HashMap::new(),
            pools: Vec::new(),
            backends: Vec::new(),
            nodes: HashMap::new(),
            invalid: Vec::new(),
        };
        books.apply(settings);
        books
    }

    /// New settings.
    pub fn apply(&mut self, settings: &Settings) {
        self.nodes.clear();
        self.pools = settings.pools.iter().map(|pool| self.telemetry.pool(&pool.name)).collect();
        let servers = settings.pools.iter().map(|pool| pool.servers.iter());
        self.backends = servers
            .map(|servers| {
                servers.map(|server| self.telemetry.backend(&server.address.to_string())).collect()
            })
            .collect();
    }

    /// Every identity that was ever folded here.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Moves what the engine counted into the shared metrics and the rows.
    pub fn fold(&mut self, engine: &mut impl DataPath, settings: &Settings, now: Instant) {
        engine.take_invalid(&mut self.invalid);
        for (listener, cause, count) in self.invalid.drain(..) {
            if let Some(listener) = settings.listeners.get(listener.0 as usize) {
                self.telemetry.listener(&listener.name).invalid(cause, count);
            }
        }
        let dropped = engine.ledger().take_noreply_dropped();
        if dropped > 0 {
            self.telemetry.noreply_dropped(dropped);
        }
        let namings = engine.take_naming_counts();
        self.telemetry.namings(NamingResult::Named, namings.named);
        self.telemetry.namings(NamingResult::Unnamed, namings.unnamed);
        self.telemetry.namings(NamingResult::Late, namings.late);
        self.telemetry.namings(NamingResult::Overflow, namings.overflow);
        engine.take_reached(|bound, times| self.telemetry.cql_bound_reached(bound, times));
        engine.take_opaque(|cause, statements| self.telemetry.opaque_statements(cause, statements));
        engine.take_statement_times(|cluster, fingerprint, spent| {
            let statement = self.telemetry.cluster(cluster).statement(fingerprint.unwrap_or(OTHER));
            statement.spent(spent.backend_us, spent.operations);
        });
        engine.fold_servers(|slot, identity, server, operations| {
            self.resolve_once(slot as usize, identity, now);
            let backend = match server {
                Server::Position(pool, position) => {
                    self.backends.get(pool.0 as usize).and_then(|servers| servers.get(position))
                }
                Server::Address(address) => Some(node(&mut self.nodes, &self.telemetry, address)),
            };
            if let (Some(backend), Some(Some(handles))) = (backend, self.handles.get(slot as usize)) {
                handles.caller.backend_operations(backend, operations);
            }
        });
        engine.fold(|slot, identity, tally| self.fold_one(slot as usize, identity, tally, settings, now));
    }

    fn resolve_once(&mut self, slot: usize, identity: &Arc<Identity>, now: Instant) {
        if self.handles.get(slot).is_none_or(Option::is_none) {
            let handles = self.resolve(identity, now);
            if self.handles.len() <= slot {
                self.handles.resize_with(slot + 1, || None);
            }
            self.handles[slot] = Some(handles);
        }
    }

    fn fold_one(
        &mut self,
        slot: usize,
        identity: &Arc<Identity>,
        tally: &IdentityTally,
        settings: &Settings,
        now: Instant,
    ) {
        if tally.is_empty() && self.handles.get(slot).is_none_or(Option::is_none) {
            return; // it never asked for anything: no row and no series for that
        }
        self.resolve_once(slot, identity, now);
        let Some(Handles { caller, row }) = &self.handles[slot] else { return };
        let pool = settings.pool_of(identity.listener).map(|pool| pool.0 as usize);
        for (method, tally) in tally.tallies() {
            fold_method(caller, self.protocol, method, tally, now);
            if let Some(pool) = pool.filter(|_| tally.coalesced > 0) {
                self.pools[pool].lookups(LookupResult::Coalesced, tally.coalesced);
            }
        }
        for (kind, mode, requests) in tally.over_limits() {
            caller.rejected(shown_kind(kind).reason(), shown_mode(mode), requests);
        }
        for (why, requests) in tally.rejections() {
            caller.rejected(shown_reason(why), LimitMode::Refuse, requests);
        }
        self.tell_of_large_requests(identity, tally, settings, now);
        let [sent, refused, failed] =
            [FlushEnd::Sent, FlushEnd::Refused, FlushEnd::Failed].map(|end| tally.flushes(end));
        if let Some(pool) = pool.filter(|_| sent + refused + failed > 0) {
            let by_prefix = matches!(settings.pools[pool].flush_all, FlushPolicy::Prefix(_));
            caller.flushes(if by_prefix { FlushResult::Prefix } else { FlushResult::Sent }, sent);
            caller.flushes(FlushResult::Refused, refused);
            caller.flushes(FlushResult::Failed, failed);
            caller.rejected(RejectReason::FlushPolicy, LimitMode::Refuse, refused);
            let event = Event::new(Severity::Warn, "flush_all", "flush_all asked")
                .text("caller", &identity.name)
                .text("principal", &identity.principal)
                .text("pool", &settings.pools[pool].name)
                .number("sent", sent)
                .number("refused", refused)
                .number("failed", failed);
            self.telemetry.events().emit(&event, seconds(now));
        }
        self.rows[*row].add(self.protocol, tally, now);
        if tally.retired() {
            self.handles[slot] = None;
        }
    }

    /// A line about requests above their caller's ceiling: who, how many operations, what was done.
    fn tell_of_large_requests(
        &self,
        identity: &Identity,
        tally: &IdentityTally,
        settings: &Settings,
        now: Instant,
    ) {
        let over = tally.over_limits().find(|(kind, ..)| *kind == EngineLimit::OperationsPerRequest);
        let largest = tally.tallies().max_by_key(|(_, tally)| tally.largest);
        let (Some((_, mode, requests)), Some((method, largest))) = (over, largest) else { return };
        let message = if is_listener(identity, settings) {
            "a request above the ceiling of its caller, which is any client of the listener that could not be named"
        } else {
            "a request above the ceiling of its caller"
        };
        let event = Event::new(Severity::Warn, "caller_over_ceiling", message)
            .text("caller", &identity.name)
            .text("principal", &identity.principal)
            .text("method", self.protocol.method(method))
            .number("operations", largest.largest)
            .number("requests", requests)
            .text("mode", shown_mode(mode).name());
        self.telemetry.events().emit(&event, seconds(now));
    }

    fn resolve(&mut self, identity: &Arc<Identity>, now: Instant) -> Handles {
        let caller = self.telemetry.caller(&identity.name, seconds(now));
        let row = match self.row_of.get(identity) {
            Some(row) => *row,
            None if self.rows.len() < ROWS_MAX => self.add_row(identity.clone(), now),
            None => {
                let listener = identity.listener;
                let other = Arc::new(Identity { listener, principal: OTHER.into(), name: OTHER.into() });
                match self.row_of.get(&other) {
                    Some(row) => *row,
                    // at most one more per listener
                    None => self.add_row(other, now),
                }
            }
        };
        Handles { caller, row }
    }

    fn add_row(&mut self, identity: Arc<Identity>, now: Instant) -> usize {
        self.rows.push(Row::new(identity.clone(), now));
        self.row_of.insert(identity, self.rows.len() - 1);
        self.rows.len() - 1
    }
}

/// The handles of a node, looked up in the shared table once.
fn node<'n>(
    nodes: &'n mut HashMap<Box<str>, Arc<BackendMetrics>>,
    telemetry: &Telemetry,
    address: &str,
) -> &'n Arc<BackendMetrics> {
    if !nodes.contains_key(address) {
        nodes.insert(address.into(), telemetry.backend(address));
    }
    &nodes[address]
}

/// The telemetry's index of a method of the ledger.
fn index_of(protocol: Protocol, method: Method) -> MethodIdx {
    let before: usize = PROTOCOLS[..protocol as usize].iter().map(|earlier| earlier.methods.len()).sum();
    MethodIdx(u16::try_from(before + method.index()).unwrap_or(u16::MAX))
}

fn fold_method(caller: &CallerMetrics, protocol: Protocol, method: Method, tally: &Tally, now: Instant) {
    let method = index_of(protocol, method);
    let example = tally
        .exemplar
        .map(|largest| Example { operations: largest.operations, request_id: largest.request.0 });
    let delta = MethodDelta {
        requests: &tally.requests,
        size_class_operations: &tally.size_class_operations,
        request_operations: Observed {
            buckets: tally.request_operations.iter(),
            sum: tally.request_operations.sum(),
        },
        durations: Observed { buckets: tally.durations.iter(), sum: tally.durations.sum() },
        queue_waits: Observed { buckets: tally.queue_waits.iter(), sum: tally.queue_waits.sum() },
        bytes_in: tally.bytes_in,
        bytes_out: tally.bytes_out,
        largest_asked: tally.largest,
        example,
    };
    caller.method(method).fold(delta, seconds(now));
}

/// Whether the name is the listener's: it stands for all of its clients that have no better one.
fn is_listener(identity: &Identity, settings: &Settings) -> bool {
    settings.listeners.get(identity.listener.0 as usize).is_some_and(|own| own.name == identity.name)
}

/// A limit of the engine as a label.
#[must_use]
pub fn shown_kind(kind: EngineLimit) -> LimitKind {
    match kind {
        EngineLimit::OperationsPerRequest => LimitKind::OperationsPerRequest,
        EngineLimit::OperationsPerSecond => LimitKind::OperationsPerSecond,
        EngineLimit::OperationsInFlight => LimitKind::OperationsInFlight,
        EngineLimit::BytesInFlight => LimitKind::BytesInFlight,
    }
}

/// A reason of the engine as a label.
#[must_use]
pub fn shown_reason(why: Rejected) -> RejectReason {
    match why {
        Rejected::QueueTimeout => RejectReason::QueueTimeout,
        Rejected::BufferBound => RejectReason::BufferBound,
        Rejected::CommandPolicy => RejectReason::CommandPolicy,
        Rejected::LineTooLong => RejectReason::LineTooLong,
        Rejected::ValueTooLarge => RejectReason::ValueTooLarge,
        Rejected::Draining => RejectReason::Draining,
        Rejected::Denied => RejectReason::Denied,
        Rejected::CallsMax => RejectReason::CallsMax,
    }
}

/// A mode of the engine as a label.
#[must_use]
pub fn shown_mode(mode: EngineMode) -> LimitMode {
    match mode {
        EngineMode::Observe => LimitMode::Observe,
        EngineMode::Pace => LimitMode::Pace,
        EngineMode::Refuse => LimitMode::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::ledger::{Outcome, tally};
    use weir_telemetry::{SizeClass, histogram};

    #[test]
    fn engine_and_telemetry_sort_alike() {
        assert_eq!(tally::OPERATION_BOUNDS, histogram::OPERATION_BOUNDS);
        assert_eq!(tally::DURATION_BOUNDS, histogram::DURATION_BOUNDS);
        for operations in [0, 1, 2, 10, 11, 100, 101, 1_000, 1_001, 10_000, 10_001, 1 << 40] {
            let class = tally::SIZE_CLASS_TOPS.partition_point(|top| *top < operations);
            assert_eq!(class, SizeClass::of(operations).index(), "{operations}");
        }
        let outcomes = Outcome::ALL.map(Outcome::label);
        assert_eq!(outcomes, weir_telemetry::Outcome::NAMES);
        for kind in EngineLimit::ALL {
            assert_eq!(shown_kind(kind).name(), kind.label());
        }
        for why in Rejected::ALL {
            assert_eq!(shown_reason(why).name(), why.label());
        }
    }

    #[test]
    fn methods_are_in_the_order_of_the_verbs() {
        for verb in Verb::ALL {
            assert_eq!(Protocol::Memcached.method(verb.into()), verb.name());
        }
    }

    #[test]
    fn calls_have_the_numbers_of_the_ledger() {
        RPC_METHODS.name(7, "test.Service/Seven");
        assert_eq!(calls::METHODS_MAX, weir_telemetry::method_names::GROWING_MAX);
        let telemetry = Telemetry::new(weir_telemetry::TelemetryConfig::new(&*PROTOCOLS, 0));
        for protocol in calls::Protocol::ALL {
            let method = MethodNumber(7).in_ledger(protocol);
            assert_eq!(Protocol::Rpc.method(method), "test.Service/Seven");
            assert_eq!(
                telemetry.method_index(protocol.label(), "test.Service/Seven"),
                Some(index_of(Protocol::Rpc, method))
            );
        }
        assert_eq!(Protocol::Rpc.method(MethodNumber(0).in_ledger(calls::Protocol::Http)), OTHER);
    }
}
