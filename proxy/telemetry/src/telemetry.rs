//! Owns every series of the process and hands out handles. There is no global: `main` makes one and passes it on.

use crate::Seconds;
use crate::backend::{BackendMetrics, PoolMetrics};
use crate::caller::{CallerMetrics, MethodIdx, ShownLimits};
use crate::catalogue;
use crate::cluster::ClusterMetrics;
use crate::counters::{GaugeShare, SecondsCounter};
use crate::events::{EventFormat, EventLog};
use crate::exposition::{self, Exposition};
use crate::families::Families;
use crate::http_cache::HttpCacheMetrics;
use crate::labels::{BoundedNames, INVALID, Label, OTHER};
use crate::listener::ListenerMetrics;
use crate::method_names::MethodNames;
use crate::principal::PrincipalMetrics;
use crate::process::ProcessCollector;
use crate::rpc::{RpcMethodMetrics, ServiceMetrics};
use crate::rpc_server::RpcServerMetrics;
use crate::vocabulary::{AskResult, CqlBound, NamingResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The label values of one protocol.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolLabels {
    /// `protocol`, for example `memcached`.
    pub name: &'static str,
    /// `method`: at least one.
    pub methods: MethodNames,
}

/// What has to be known before anything is counted.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Callers that become label values, configured ones included (they have a slot even above this number).
    pub max_callers: usize,
    /// Callers the configuration names: their slots are reserved and their series start at zero.
    pub configured_callers: Vec<String>,
    /// Protocols with their methods; at least one.
    pub protocols: &'static [ProtocolLabels],
    /// The version of the build.
    pub version: &'static str,
    /// The revision of the build, `unknown` where there is none.
    pub revision: &'static str,
    /// The wall clock, in seconds since 1970, when [`Seconds`] was 0.
    pub started_unix_seconds: u64,
    /// Form of the log lines.
    pub events: EventFormat,
}

impl TelemetryConfig {
    /// Every default.
    #[must_use]
    pub fn new(protocols: &'static [ProtocolLabels], started_unix_seconds: u64) -> TelemetryConfig {
        TelemetryConfig {
            max_callers: catalogue::CALLERS,
            configured_callers: Vec::new(),
            protocols,
            version: env!("CARGO_PKG_VERSION"),
            revision: "unknown",
            started_unix_seconds,
            events: EventFormat::Logfmt,
        }
    }
}

/// Limits as shown: of named callers, and of everybody else once they are known.
#[derive(Debug, Default)]
struct Limits {
    default: Option<ShownLimits>,
    named: BTreeMap<String, ShownLimits>,
}

impl Limits {
    fn of(&self, caller: &str) -> Option<&ShownLimits> {
        self.named.get(caller).or(self.default.as_ref())
    }
}

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    families: Arc<Families>,
    protocols: &'static [ProtocolLabels],
    started_unix_seconds: u64,
    callers: BoundedNames<CallerMetrics>,
    backends: BoundedNames<BackendMetrics>,
    listeners: BoundedNames<ListenerMetrics>,
    pools: BoundedNames<PoolMetrics>,
    principals: BoundedNames<PrincipalMetrics>,
    clusters: BoundedNames<ClusterMetrics>,
    services: BoundedNames<ServiceMetrics>,
    http_caches: BoundedNames<HttpCacheMetrics>,
    rpc_methods: BoundedNames<RpcMethodMetrics>,
    rpc_unsplit: BoundedNames<Counter>,
    opaque_statements: BoundedNames<Counter>,
    unsplit: BoundedNames<Counter>,
    seen: Mutex<BTreeSet<String>>,
    limits: Mutex<Limits>,
    overrides: Mutex<BTreeSet<(String, String)>>,
    bounds: Mutex<BTreeSet<&'static str>>,
    events: EventLog,
    panics: Counter,
    namings: [Counter; NamingResult::COUNT],
    cql_bound_reached: [Counter; CqlBound::COUNT],
    noreply_dropped: Counter,
}

impl Telemetry {
    /// Registers every metric of the catalogue. Log lines go to stderr.
    ///
    /// # Panics
    ///
    /// When no protocol, or a protocol without methods, is given: a mistake in the program, not in its input.
    #[must_use]
    pub fn new(config: TelemetryConfig) -> Arc<Telemetry> {
        Self::with_event_sink(config, Box::new(std::io::stderr()))
    }

    /// The same with another sink for log lines.
    ///
    /// # Panics
    ///
    /// As [`Telemetry::new`].
    #[must_use]
    pub fn with_event_sink(config: TelemetryConfig, sink: Box<dyn std::io::Write + Send>) -> Arc<Telemetry> {
        let protocols = config.protocols;
        assert!(
            !protocols.is_empty() && protocols.iter().all(|p| !p.methods.is_empty()),
            "protocols with methods"
        );
        let mut registry = Registry::default();
        let families = Arc::new(Families::new(&mut registry));
        registry.register_collector(Box::new(ProcessCollector));
        families.build_info.series([config.version.into(), config.revision.into()]).set(1);

        let caller = |name: &'static str| {
            Arc::new(CallerMetrics::new(name.into(), families.clone(), protocols, catalogue::BACKENDS + 1))
        };
        let callers = BoundedNames::new(
            config.max_callers,
            caller(OTHER),
            Some(caller(INVALID)),
            families.overflow("caller"),
        );
        // Handles of `_other` cost series only for what the configuration can overflow; backends, listeners and pools
        // are the operator's own and rarely do, so theirs are made all the same: a fold must never have to ask.
        let backend = Arc::new(BackendMetrics::new(OTHER.into(), catalogue::BACKENDS, &families));
        let backends = BoundedNames::new(catalogue::BACKENDS, backend, None, families.overflow("backend"));
        let listener = Arc::new(ListenerMetrics::new(OTHER.into(), families.clone()));
        let listeners =
            BoundedNames::new(catalogue::LISTENERS, listener, None, families.overflow("listener"));
        let pool = Arc::new(PoolMetrics::new(&OTHER.into(), &families));
        let pools = BoundedNames::new(catalogue::POOLS, pool, None, families.overflow("pool"));
        let principal = |name: &'static str| Arc::new(PrincipalMetrics::new(&name.into(), &families));
        let principals = BoundedNames::new(
            catalogue::PRINCIPALS,
            principal(OTHER),
            Some(principal(INVALID)),
            families.overflow("principal"),
        );
        let cluster = Arc::new(ClusterMetrics::new(&OTHER.into(), &families));
        let clusters = BoundedNames::new(catalogue::CLUSTERS, cluster, None, families.overflow("cluster"));
        let service = Arc::new(ServiceMetrics::new(&OTHER.into(), &families));
        let services = BoundedNames::new(catalogue::SERVICES, service, None, families.overflow("service"));
        let cache = Arc::new(HttpCacheMetrics::new(&OTHER.into(), &families));
        let http_caches = BoundedNames::new(catalogue::SERVICES, cache, None, families.overflow("service"));
        let method = Arc::new(RpcMethodMetrics::new(&OTHER.into(), &families));
        let rpc_methods =
            BoundedNames::new(catalogue::RPC_METHODS, method, None, families.overflow("method"));
        let whole = Arc::new(families.rpc_unsplit.series([OTHER.into()]));
        let rpc_unsplit = BoundedNames::new(catalogue::CAUSES, whole, None, families.overflow("cause"));
        let opaque = Arc::new(families.cql_opaque_statements.series([OTHER.into()]));
        let opaque_statements =
            BoundedNames::new(catalogue::CAUSES, opaque, None, families.overflow("cause"));
        let whole = Arc::new(families.cql_unsplit.series([OTHER.into()]));
        let unsplit = BoundedNames::new(catalogue::CAUSES, whole, None, families.overflow("cause"));
        let events = EventLog::new(config.events, config.started_unix_seconds, sink, families.clone());
        let panics = families.panics.series([]);
        let noreply_dropped = families.noreply_dropped.series([]);
        let namings =
            std::array::from_fn(|index| families.namings.series([NamingResult::ALL[index].name().into()]));
        let cql_bound_reached = std::array::from_fn(|index| {
            families.cql_bound_reached.series([CqlBound::ALL[index].name().into()])
        });
        let telemetry = Telemetry {
            registry,
            families,
            protocols,
            started_unix_seconds: config.started_unix_seconds,
            callers,
            backends,
            listeners,
            pools,
            principals,
            clusters,
            services,
            http_caches,
            rpc_methods,
            rpc_unsplit,
            opaque_statements,
            unsplit,
            seen: Mutex::default(),
            limits: Mutex::default(),
            overrides: Mutex::default(),
            bounds: Mutex::default(),
            events,
            panics,
            noreply_dropped,
            namings,
            cql_bound_reached,
        };
        telemetry.configure_callers(config.configured_callers.iter().map(String::as_str));
        Arc::new(telemetry)
    }

    /// Reserves slots for callers the configuration names (at start and after a reload) and starts their series at
    /// zero. Slots of callers it no longer names stay.
    pub fn configure_callers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        for name in names {
            self.callers.reserve(name, |label, _| self.make_caller(label)).start_at_zero();
        }
    }

    /// The handles of a caller. Takes a lock: once per connection. A name that breaks the rule of
    /// [`crate::labels::is_valid_name`] gives those of `_invalid`; one beyond the cap those of `_other`, and counts.
    pub fn caller(&self, name: &str, now: Seconds) -> Arc<CallerMetrics> {
        let caller = self.callers.resolve(name, |label, _| self.make_caller(label));
        self.first_seen(&caller, now);
        caller
    }

    /// The handles of everybody beyond the cap, for sums that were folded elsewhere.
    #[must_use]
    pub fn other_callers(&self) -> Arc<CallerMetrics> {
        self.callers.other().clone()
    }

    /// Shows the limits of every caller that has none of its own, those to come, `_other` and `_invalid` included.
    pub fn set_default_limits(&self, limits: ShownLimits) {
        lock(&self.limits).default = Some(limits);
        self.show_limits();
    }

    /// Shows the limits of one caller, seen or not; `None` gives it the default ones again. The caller gets a slot:
    /// whoever limits a caller wants to see it.
    pub fn set_caller_limits(&self, name: &str, limits: Option<ShownLimits>) {
        let mut all = lock(&self.limits);
        match limits {
            Some(limits) => all.named.insert(name.to_owned(), limits),
            None => all.named.remove(name),
        };
        drop(all);
        self.callers.reserve(name, |label, _| self.make_caller(label));
        self.show_limits();
    }

    // All of them, each time: a reload or an operator's command, never traffic.
    fn show_limits(&self) {
        let callers = self.callers.all();
        let limits = lock(&self.limits);
        for caller in callers {
            if let Some(limits) = limits.of(caller.name()) {
                caller.show_limits(limits);
            }
        }
    }

    /// Every caller that has handles.
    #[must_use]
    pub fn callers(&self) -> Vec<Arc<CallerMetrics>> {
        self.callers.all()
    }

    /// The handles of a backend server, by its address as configured. Takes a lock.
    pub fn backend(&self, address: &str) -> Arc<BackendMetrics> {
        self.backends.resolve(address, |label, index| BackendMetrics::new(label, index, &self.families))
    }

    /// The handles of a listener, by its configured name. Takes a lock.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        self.listeners.resolve(name, |label, _| ListenerMetrics::new(label, self.families.clone()))
    }

    /// The handles of a pool, by its configured name. Takes a lock.
    pub fn pool(&self, name: &str) -> Arc<PoolMetrics> {
        self.pools.resolve(name, |label, _| PoolMetrics::new(&label, &self.families))
    }

    /// The handles of a principal. Takes a lock: once per worker and principal, not per connection. Names of the
    /// configuration (`is_configured`) always have a slot; [`OTHER`] is whatever a worker has folded itself.
    pub fn principal(&self, name: &str, is_configured: bool) -> Arc<PrincipalMetrics> {
        if name == OTHER {
            return self.principals.other().clone();
        }
        let make = |label: Label, _| PrincipalMetrics::new(&label, &self.families);
        if is_configured { self.principals.reserve(name, make) } else { self.principals.resolve(name, make) }
    }

    /// The handles of a cluster, by its configured name. Takes a lock.
    pub fn cluster(&self, name: &str) -> Arc<ClusterMetrics> {
        self.clusters.resolve(name, |label, _| ClusterMetrics::new(&label, &self.families))
    }

    /// The handles of a service, by its configured name. Takes a lock.
    pub fn service(&self, name: &str) -> Arc<ServiceMetrics> {
        self.services.resolve(name, |label, _| ServiceMetrics::new(&label, &self.families))
    }

    /// The handles of a server of a service, by its address as configured. Takes a lock.
    #[must_use]
    pub fn rpc_server(&self, address: &str) -> RpcServerMetrics {
        RpcServerMetrics::new(&self.backend(address), &self.families)
    }

    /// The handles of the cache of a service, by its configured name. Takes a lock.
    pub fn http_cache(&self, name: &str) -> Arc<HttpCacheMetrics> {
        self.http_caches.resolve(name, |label, _| HttpCacheMetrics::new(&label, &self.families))
    }

    /// The handles of a described method of a service. Takes a lock: once per fold and method.
    pub fn rpc_method(&self, name: &str) -> Arc<RpcMethodMetrics> {
        self.rpc_methods.resolve(name, |label, _| RpcMethodMetrics::new(&label, &self.families))
    }

    /// Calls for many keys that went whole; `cause` is a fixed word of the engine. Takes a lock: once per look.
    pub fn rpc_unsplit(&self, cause: &'static str, count: u64) {
        let make = |_, _| self.families.rpc_unsplit.series([cause.into()]);
        self.rpc_unsplit.resolve(cause, make).inc_by(count);
    }

    /// Statements passed on without being understood; `cause` is a fixed word of the codec. Takes a lock: once per fold.
    pub fn opaque_statements(&self, cause: &'static str, count: u64) {
        let make = |_, _| self.families.cql_opaque_statements.series([cause.into()]);
        self.opaque_statements.resolve(cause, make).inc_by(count);
    }

    /// Requests for many keys that were sent whole; `cause` is a fixed word of the engine. Takes a lock: once per look.
    pub fn unsplit_requests(&self, cause: &'static str, count: u64) {
        let make = |_, _| self.families.cql_unsplit.series([cause.into()]);
        self.unsplit.resolve(cause, make).inc_by(count);
    }

    /// The handles of a worker. Workers beyond the cap share `_other`.
    #[must_use]
    pub fn worker(&self, index: usize) -> WorkerMetrics {
        let label = || match index {
            0..catalogue::WORKERS => Label::Name(index.to_string().into()),
            _ => OTHER.into(),
        };
        WorkerMetrics {
            turns: self.families.worker_turns.series([label()]),
            busy: self.families.worker_busy.series([label()]),
        }
    }

    /// The index of a method, for [`CallerMetrics::method`].
    #[must_use]
    pub fn method_index(&self, protocol: &str, method: &str) -> Option<MethodIdx> {
        let at = self.protocols.iter().position(|labels| labels.name == protocol)?;
        let before: usize = self.protocols[..at].iter().map(|labels| labels.methods.len()).sum();
        let (number, _) = self.protocols[at].methods.iter().find(|(_, name)| *name == method)?;
        u16::try_from(before + number).ok().map(MethodIdx)
    }

    /// The name of a method, for log lines and exemplars.
    #[must_use]
    pub fn method_name(&self, index: MethodIdx) -> &'static str {
        exposition::method_name(self.protocols, u64::from(index.0))
    }

    /// One worker's part of the bytes received and not yet carried out.
    #[must_use]
    pub fn client_input_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.families.client_input_bytes.series([]))
    }

    /// One worker's part of the connections whose first requests wait for a name.
    #[must_use]
    pub fn held_accounts(&self) -> GaugeShare {
        GaugeShare::new(self.families.held_accounts.series([]))
    }

    /// One worker's part of the reply bytes clients have not read.
    #[must_use]
    pub fn client_reply_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.families.client_reply_bytes.series([]))
    }

    /// Shows a configured bound, by its configuration key and in that key's unit.
    pub fn set_bound(&self, name: &'static str, value: f64) {
        let mut bounds = lock(&self.bounds);
        if !bounds.contains(name) && bounds.len() >= catalogue::BOUNDS {
            self.families.overflow("bound").inc();
            return;
        }
        bounds.insert(name);
        self.families.bound.series([name.into()]).set(value);
    }

    /// Shows or ends an operator's temporary override; `target` is a caller or a listener.
    pub fn set_override(&self, kind: &str, target: &str, active: bool) {
        let key = (kind.to_owned(), target.to_owned());
        let labels = [Label::Name(kind.into()), Label::Name(target.into())];
        let mut overrides = lock(&self.overrides);
        if !active {
            if overrides.remove(&key) {
                self.families.override_active.remove(labels);
            }
        } else if overrides.contains(&key) {
        } else if overrides.len() < catalogue::OVERRIDES {
            overrides.insert(key);
            self.families.override_active.series(labels).set(1);
        } else {
            // Shown as one sum; it goes only with the process.
            self.families.overflow("override").inc();
            self.families.override_active.series([OTHER.into(), OTHER.into()]).set(1);
        }
    }

    /// A configuration was taken into use.
    pub fn config_loaded(&self, hash: &str, now: Seconds) {
        self.families.config_info.clear();
        self.families.config_info.series([Label::Name(hash.into())]).set(1);
        self.families.config_reload_success_time.series([]).set(self.unix_seconds(now));
        self.families.config_reload_successful.series([]).set(1);
    }

    /// A configuration was refused; the one before stays in force.
    pub fn config_refused(&self) {
        self.families.config_reload_successful.series([]).set(0);
    }

    /// A bound of the CQL data path was met so often.
    pub fn cql_bound_reached(&self, bound: CqlBound, times: u64) {
        self.cql_bound_reached[bound.index()].inc_by(times);
    }

    /// What first requests were booked under.
    pub fn namings(&self, result: NamingResult, accounts: u64) {
        self.namings[result.index()].inc_by(accounts);
    }

    /// What came of asking weir-probes. Takes a lock: once per batch.
    pub fn attribution_questions(&self, result: AskResult, questions: u64) {
        self.families.attribution_questions.series([result.name().into()]).inc_by(questions);
    }

    /// A panic was contained.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Commands that could not be carried out and whose client asked not to be told.
    pub fn noreply_dropped(&self, commands: u64) {
        self.noreply_dropped.inc_by(commands);
    }

    /// Log lines.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// The page `/metrics` answers with, in the form the `Accept` header asks for.
    #[must_use]
    pub fn render(&self, accept: Option<&str>, now: Seconds) -> Exposition {
        self.families.set_scrape_time(now);
        exposition::render(
            accept,
            &self.registry,
            &self.callers.all(),
            self.protocols,
            self.started_unix_seconds,
        )
    }

    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    fn make_caller(&self, label: Label) -> CallerMetrics {
        let caller =
            CallerMetrics::new(label, self.families.clone(), self.protocols, catalogue::BACKENDS + 1);
        if let Some(limits) = lock(&self.limits).of(caller.name()) {
            caller.show_limits(limits);
        }
        caller
    }

    // `_other` is first seen when something first overflows: that is worth knowing too.
    fn first_seen(&self, caller: &CallerMetrics, now: Seconds) {
        let mut seen = lock(&self.seen);
        if !seen.contains(caller.name()) {
            seen.insert(caller.name().to_owned());
            let label = Label::Name(caller.name().into());
            self.families.caller_first_seen.series([label]).set(self.unix_seconds(now));
        }
    }

    fn unix_seconds(&self, now: Seconds) -> i64 {
        i64::try_from(self.started_unix_seconds.saturating_add(now.0)).unwrap_or(i64::MAX)
    }
}

// What these locks guard is whole after every statement, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handles of one worker.
#[derive(Debug)]
pub struct WorkerMetrics {
    turns: Counter,
    busy: SecondsCounter,
}

impl WorkerMetrics {
    /// A turn of the loop has ended: two atomic adds.
    pub fn turn(&self, busy_micros: u64) {
        self.turns.inc();
        self.busy.add_micros(busy_micros);
    }
}
