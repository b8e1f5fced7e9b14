//! Every metric of the data plane, declared once.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A method of the contract.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Method {
    /// Its name in the contract.
    pub method: &'static str,
}

/// A method and how a call of it ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct MethodEnd {
    /// Its name in the contract.
    pub method: &'static str,
    /// The gRPC code's name, or `cancelled` where the client left.
    pub code: &'static str,
}

/// What is read, and what came of it.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct KindOutcome {
    /// `record`, `actor` ...
    pub kind: &'static str,
    /// `hit`, `missing` (the cache knew that there is none), `miss`, `joined`.
    pub outcome: &'static str,
}

/// What a bound did.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Bound {
    /// The option's name.
    pub bound: &'static str,
}

/// How a storage command ended.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Outcome {
    /// `ok`, `error`, `timeout`, `down`.
    pub outcome: &'static str,
}

type Histograms = Family<Method, Histogram, fn() -> Histogram>;

/// The metrics and the page they are on.
pub struct Metrics {
    registry: Registry,
    /// Calls that ended.
    pub requests: Family<MethodEnd, Counter>,
    /// Keys that calls asked for.
    pub keys: Family<Method, Counter>,
    /// Keys per call: what April's dashboards lacked.
    pub keys_per_request: Histograms,
    /// Seconds per call.
    pub seconds: Histograms,
    /// Calls under way.
    pub in_flight: Gauge,
    /// Calls that ran on the threads of large calls.
    pub large_requests: Counter,
    /// Those of them under way.
    pub large_in_flight: Gauge,
    /// Calls refused, and fills and cache reads left out.
    pub bounded: Family<Bound, Counter>,
    /// Keys read, by what the cache had of them.
    pub reads: Family<KindOutcome, Counter>,
    /// Cache commands.
    pub cache: Family<Outcome, Counter>,
    /// Statements.
    pub database: Family<Outcome, Counter>,
    /// Statements under way.
    pub database_in_flight: Gauge,
}

fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 9))
}

fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("weir_dataplane");
        let metrics = Metrics {
            requests: Family::default(),
            keys: Family::default(),
            keys_per_request: Family::new_with_constructor(sizes),
            seconds: Family::new_with_constructor(times),
            in_flight: Gauge::default(),
            large_requests: Counter::default(),
            large_in_flight: Gauge::default(),
            bounded: Family::default(),
            reads: Family::default(),
            cache: Family::default(),
            database: Family::default(),
            database_in_flight: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Calls that ended, by method and code", metrics.requests.clone());
        registry.register("keys", "Keys that calls asked for", metrics.keys.clone());
        registry.register("keys_per_request", "Keys of one call", metrics.keys_per_request.clone());
        registry.register("request_seconds", "Time of one call", metrics.seconds.clone());
        registry.register("requests_in_flight", "Calls under way", metrics.in_flight.clone());
        registry.register(
            "large_requests",
            "Calls for more than --bulk-keys keys, on the --bulk-threads threads",
            metrics.large_requests.clone(),
        );
        registry.register("large_requests_in_flight", "Those under way", metrics.large_in_flight.clone());
        registry.register("bounded", "What a bound refused or left out, by option", metrics.bounded.clone());
        registry.register("reads", "Keys read, by kind and what the cache had", metrics.reads.clone());
        registry.register("cache_commands", "Commands to memcached", metrics.cache.clone());
        registry.register("database_queries", "Statements to the database", metrics.database.clone());
        registry.register(
            "database_queries_in_flight",
            "Statements under way",
            metrics.database_in_flight.clone(),
        );
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// The page in the OpenMetrics text format.
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut page, &self.registry);
        page
    }

    /// Counts what a bound refused or left out.
    pub fn count_bound(&self, bound: &'static str) {
        self.bounded.get_or_create(&Bound { bound }).inc();
    }

    /// Counts keys of a kind.
    pub fn count_reads(&self, kind: &'static str, outcome: &'static str, keys: usize) {
        if keys > 0 {
            self.reads.get_or_create(&KindOutcome { kind, outcome }).inc_by(keys as u64);
        }
    }
}

/// A gauge that is raised while this lives.
pub struct Raised(Gauge);

impl Raised {
    /// Raises it by one.
    pub fn new(gauge: &Gauge) -> Raised {
        gauge.inc();
        Raised(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}
