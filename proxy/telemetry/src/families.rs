//! The families behind the catalogue's entries: one field per metric, built and registered from its entry.

use crate::catalogue::{self, MetricInfo, MetricKind};
use crate::counters::SecondsCounter;
use crate::histogram::{AtomicHistogram, DURATIONS, OPERATIONS};
use crate::labels::Label;
use crate::rolling_max::RollingMaxGauge;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type LabelSet<const N: usize> = [(&'static str, Label); N];

/// Makes the metrics of a family. A type of its own so that the gauges of the rolling maximum share the scrape time.
#[derive(Clone)]
pub(crate) struct Maker<M>(Arc<dyn Fn() -> M + Send + Sync>);

impl<M> MetricConstructor<M> for Maker<M> {
    fn new_metric(&self) -> M {
        (self.0)()
    }
}

/// A catalogue entry with its series. Resolving a series takes a lock; handles are kept by whoever counts.
pub(crate) struct Declared<M, const N: usize> {
    info: &'static MetricInfo,
    family: Family<LabelSet<N>, M, Maker<M>>,
}

impl<M, const N: usize> Debug for Declared<M, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Declared").field("name", &self.info.name).finish_non_exhaustive()
    }
}

impl<M, const N: usize> Declared<M, N>
where
    M: Clone + Debug + TypedMetric + EncodeMetric + Send + Sync + 'static,
{
    fn new(
        registry: &mut Registry,
        info: &'static MetricInfo,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        assert_eq!(info.labels.len(), N, "the catalogue gives {} another number of labels", info.name);
        let family = Family::new_with_constructor(Maker(Arc::new(make)));
        // prometheus-client appends `_total` to counters and a full stop to the help.
        let name = match info.kind {
            MetricKind::Counter => info.name.strip_suffix("_total").unwrap_or(info.name),
            MetricKind::Gauge | MetricKind::Histogram => info.name,
        };
        registry.register(name, info.help, family.clone());
        Declared { info, family }
    }

    /// The series with these label values, in the order of the catalogue; made when it is new.
    pub(crate) fn series(&self, values: [Label; N]) -> M {
        self.family.get_or_create_owned(&self.label_set(values))
    }

    /// Ends a series.
    pub(crate) fn remove(&self, values: [Label; N]) {
        self.family.remove(&self.label_set(values));
    }

    /// Ends every series of the metric.
    pub(crate) fn clear(&self) {
        self.family.clear();
    }

    fn label_set(&self, values: [Label; N]) -> LabelSet<N> {
        let mut names = self.info.labels.iter().map(|label| label.name);
        values.map(|value| (names.next().unwrap_or_default(), value))
    }
}

/// A gauge of a floating-point number.
pub(crate) type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric of the catalogue except `process_*`, which [`crate::process`] reads at scrape time.
#[derive(Debug)]
pub(crate) struct Families {
    pub requests: Declared<Counter, 4>,
    pub request_duration: Declared<AtomicHistogram, 1>,
    pub request_operations: Declared<AtomicHistogram, 1>,
    pub request_operations_max: Declared<RollingMaxGauge, 2>,
    pub operations: Declared<Counter, 3>,
    pub bytes: Declared<Counter, 2>,
    pub backend_operations: Declared<Counter, 2>,
    pub queue_wait: Declared<AtomicHistogram, 1>,
    pub caller_first_seen: Declared<Gauge, 1>,
    pub amplification_requests: Declared<Counter, 2>,
    pub amplification_rpc_keys: Declared<Counter, 1>,
    pub amplification_cache_operations: Declared<Counter, 2>,
    pub amplification_cache_misses: Declared<Counter, 2>,
    pub amplification_database_operations: Declared<Counter, 2>,
    pub amplification_storage_bytes: Declared<Counter, 2>,
    pub correlated_requests: Declared<Gauge, 0>,
    pub correlation_lost: Declared<Counter, 1>,
    pub rejected: Declared<Counter, 3>,
    pub limit: Declared<Gauge, 2>,
    pub limit_mode: Declared<Gauge, 2>,
    pub flushes: Declared<Counter, 2>,
    pub override_active: Declared<Gauge, 2>,
    pub cache_lookups: Declared<Counter, 2>,
    pub coalesced_operations: Declared<Counter, 0>,
    pub backend_connections: Declared<Gauge, 2>,
    pub backend_connection_opens: Declared<Counter, 2>,
    pub backend_inflight_operations: Declared<Gauge, 1>,
    pub backend_inflight_bytes: Declared<Gauge, 1>,
    pub queue_depth: Declared<Gauge, 1>,
    pub upstream_desync: Declared<Counter, 1>,
    pub upstream_stalls: Declared<Counter, 1>,
    pub noreply_dropped: Declared<Counter, 0>,
    pub cql_opaque_statements: Declared<Counter, 1>,
    pub cql_statement_seconds: Declared<SecondsCounter, 2>,
    pub cql_statement_operations: Declared<Counter, 2>,
    pub cql_bound_reached: Declared<Counter, 1>,
    pub cql_prepared_statements: Declared<Gauge, 1>,
    pub cql_prepares: Declared<Counter, 2>,
    pub cql_reprepares: Declared<Counter, 1>,
    pub cql_prepared_evicted: Declared<Counter, 1>,
    pub cql_streamed_replies: Declared<Counter, 1>,
    pub cql_broken_replies: Declared<Counter, 1>,
    pub cql_gathered_reply_bytes: Declared<Gauge, 1>,
    pub cql_flights: Declared<Counter, 1>,
    pub cql_joined_requests: Declared<Counter, 1>,
    pub cql_reads_apart: Declared<Counter, 2>,
    pub cql_cache_reads: Declared<Counter, 2>,
    pub cql_cache_outdated: Declared<Counter, 1>,
    pub cql_cache_evicted: Declared<Counter, 1>,
    pub cql_cache_bytes: Declared<Gauge, 1>,
    pub cql_cache_answers: Declared<Gauge, 1>,
    pub cql_sign_ins: Declared<Counter, 2>,
    pub cql_credential_checks: Declared<Gauge, 2>,
    pub cql_tablets: Declared<Gauge, 1>,
    pub cql_tablets_told: Declared<Counter, 2>,
    pub cql_tablets_forgotten: Declared<Counter, 2>,
    pub cql_principals: Declared<Gauge, 1>,
    pub cql_principals_refused: Declared<Counter, 1>,
    pub cql_orphaned_streams: Declared<Gauge, 1>,
    pub rpc_calls: Declared<Gauge, 1>,
    pub rpc_calls_in_flight: Declared<Gauge, 1>,
    pub rpc_calls_waiting: Declared<Gauge, 1>,
    pub rpc_splits: Declared<Counter, 2>,
    pub rpc_unsplit: Declared<Counter, 1>,
    pub rpc_chunks: Declared<Counter, 1>,
    pub rpc_chunks_in_flight: Declared<Gauge, 1>,
    pub rpc_chunk_keys_waiting: Declared<Gauge, 1>,
    pub rpc_gathered_bytes: Declared<Gauge, 1>,
    pub rpc_orphans: Declared<Gauge, 1>,
    pub rpc_retries: Declared<Counter, 2>,
    pub rpc_reply_keys: Declared<AtomicHistogram, 1>,
    pub rpc_split_stopped: Declared<Counter, 1>,
    pub rpc_server_up: Declared<Gauge, 1>,
    pub rpc_server_failures: Declared<Counter, 2>,
    pub rpc_server_ejections: Declared<Counter, 1>,
    pub denied: Declared<Counter, 1>,
    pub http_cache_requests: Declared<Counter, 2>,
    pub http_cache_unfit: Declared<Counter, 2>,
    pub http_cache_refreshes: Declared<Counter, 2>,
    pub http_cache_evictions: Declared<Counter, 1>,
    pub http_cache_changes: Declared<Counter, 1>,
    pub http_cache_purges: Declared<Counter, 1>,
    pub http_cache_purged: Declared<Counter, 1>,
    pub http_cache_entries: Declared<Gauge, 1>,
    pub http_cache_bytes: Declared<Gauge, 1>,
    pub http_cache_waiting: Declared<Gauge, 1>,
    pub cql_splits: Declared<Counter, 2>,
    pub cql_unsplit: Declared<Counter, 1>,
    pub cql_parts_in_flight: Declared<Gauge, 1>,
    pub cql_part_keys_waiting: Declared<Gauge, 1>,
    pub cql_part_bytes: Declared<Gauge, 1>,
    pub cql_bulk_lanes: Declared<Gauge, 1>,
    pub cql_control_only_clients: Declared<Gauge, 1>,
    pub cql_routed_requests: Declared<Counter, 2>,
    pub cql_failovers: Declared<Counter, 2>,
    pub cql_retries_refused: Declared<Counter, 1>,
    pub cql_nodes: Declared<Gauge, 2>,
    pub cql_shard_ports_free: Declared<Gauge, 1>,
    pub cql_control_up: Declared<Gauge, 1>,
    pub cql_placement_nodes: Declared<Gauge, 1>,
    pub cql_placement_time: Declared<Gauge, 1>,
    pub cql_placement_refreshes: Declared<Counter, 1>,
    pub cql_placement_failures: Declared<Counter, 2>,
    pub client_connections: Declared<Gauge, 1>,
    pub client_accepts: Declared<Counter, 1>,
    pub client_closes: Declared<Counter, 2>,
    pub client_short_connections: Declared<Counter, 1>,
    pub tls_handshakes: Declared<Counter, 2>,
    pub tls_handshakes_under_way: Declared<Gauge, 1>,
    pub tokens: Declared<Counter, 2>,
    pub token_checks: Declared<Counter, 1>,
    pub tokens_remembered: Declared<Gauge, 1>,
    pub principal_accepts: Declared<Counter, 1>,
    pub principal_short_connections: Declared<Counter, 1>,
    pub invalid_requests: Declared<Counter, 2>,
    pub client_input_bytes: Declared<Gauge, 0>,
    pub client_reply_bytes: Declared<Gauge, 0>,
    pub held_accounts: Declared<Gauge, 0>,
    pub namings: Declared<Counter, 1>,
    pub attribution_questions: Declared<Counter, 1>,
    pub bound: Declared<FloatGauge, 1>,
    pub label_overflow: Declared<Counter, 1>,
    pub log_suppressed: Declared<Counter, 1>,
    pub worker_turns: Declared<Counter, 1>,
    pub worker_busy: Declared<SecondsCounter, 1>,
    pub panics: Declared<Counter, 0>,
    pub config_info: Declared<Gauge, 1>,
    pub config_reload_success_time: Declared<Gauge, 0>,
    pub config_reload_successful: Declared<Gauge, 0>,
    pub build_info: Declared<Gauge, 2>,
    /// The end of the rolling windows, set before each scrape.
    pub scrape_time: Arc<AtomicU64>,
}

impl Families {
    pub(crate) fn new(registry: &mut Registry) -> Families {
        let scrape_time = Arc::new(AtomicU64::new(0));
        let max = {
            let scrape_time = scrape_time.clone();
            move || RollingMaxGauge::new(scrape_time.clone())
        };
        let r = registry;
        Families {
            requests: counter(r, &catalogue::REQUESTS),
            request_duration: Declared::new(r, &catalogue::REQUEST_DURATION, || {
                AtomicHistogram::new(&DURATIONS)
            }),
            request_operations: Declared::new(r, &catalogue::REQUEST_OPERATIONS, || {
                AtomicHistogram::with_exemplars(&OPERATIONS)
            }),
            request_operations_max: Declared::new(r, &catalogue::REQUEST_OPERATIONS_MAX, max),
            operations: counter(r, &catalogue::OPERATIONS),
            bytes: counter(r, &catalogue::BYTES),
            backend_operations: counter(r, &catalogue::BACKEND_OPERATIONS),
            queue_wait: Declared::new(r, &catalogue::QUEUE_WAIT, || AtomicHistogram::new(&DURATIONS)),
            caller_first_seen: gauge(r, &catalogue::CALLER_FIRST_SEEN),
            amplification_requests: counter(r, &catalogue::AMPLIFICATION_REQUESTS),
            amplification_rpc_keys: counter(r, &catalogue::AMPLIFICATION_RPC_KEYS),
            amplification_cache_operations: counter(r, &catalogue::AMPLIFICATION_CACHE_OPERATIONS),
            amplification_cache_misses: counter(r, &catalogue::AMPLIFICATION_CACHE_MISSES),
            amplification_database_operations: counter(r, &catalogue::AMPLIFICATION_DATABASE_OPERATIONS),
            amplification_storage_bytes: counter(r, &catalogue::AMPLIFICATION_STORAGE_BYTES),
            correlated_requests: gauge(r, &catalogue::CORRELATED_REQUESTS),
            correlation_lost: counter(r, &catalogue::CORRELATION_LOST),
            rejected: counter(r, &catalogue::REJECTED),
            limit: gauge(r, &catalogue::LIMIT),
            limit_mode: gauge(r, &catalogue::LIMIT_MODE),
            flushes: counter(r, &catalogue::FLUSHES),
            override_active: gauge(r, &catalogue::OVERRIDE_ACTIVE),
            cache_lookups: counter(r, &catalogue::CACHE_LOOKUPS),
            coalesced_operations: counter(r, &catalogue::COALESCED_OPERATIONS),
            backend_connections: gauge(r, &catalogue::BACKEND_CONNECTIONS),
            backend_connection_opens: counter(r, &catalogue::BACKEND_CONNECTION_OPENS),
            backend_inflight_operations: gauge(r, &catalogue::BACKEND_INFLIGHT_OPERATIONS),
            backend_inflight_bytes: gauge(r, &catalogue::BACKEND_INFLIGHT_BYTES),
            queue_depth: gauge(r, &catalogue::QUEUE_DEPTH),
            upstream_desync: counter(r, &catalogue::UPSTREAM_DESYNC),
            upstream_stalls: counter(r, &catalogue::UPSTREAM_STALLS),
            noreply_dropped: counter(r, &catalogue::NOREPLY_DROPPED),
            cql_statement_seconds: Declared::new(
                r,
                &catalogue::CQL_STATEMENT_SECONDS,
                SecondsCounter::default,
            ),
            cql_statement_operations: counter(r, &catalogue::CQL_STATEMENT_OPERATIONS),
            cql_opaque_statements: counter(r, &catalogue::CQL_OPAQUE_STATEMENTS),
            cql_bound_reached: counter(r, &catalogue::CQL_BOUND_REACHED),
            cql_prepared_statements: gauge(r, &catalogue::CQL_PREPARED_STATEMENTS),
            cql_prepares: counter(r, &catalogue::CQL_PREPARES),
            cql_reprepares: counter(r, &catalogue::CQL_REPREPARES),
            cql_prepared_evicted: counter(r, &catalogue::CQL_PREPARED_EVICTED),
            cql_streamed_replies: counter(r, &catalogue::CQL_STREAMED_REPLIES),
            cql_broken_replies: counter(r, &catalogue::CQL_BROKEN_REPLIES),
            cql_gathered_reply_bytes: gauge(r, &catalogue::CQL_GATHERED_REPLY_BYTES),
            cql_flights: counter(r, &catalogue::CQL_FLIGHTS),
            cql_joined_requests: counter(r, &catalogue::CQL_JOINED_REQUESTS),
            cql_reads_apart: counter(r, &catalogue::CQL_READS_APART),
            cql_cache_reads: counter(r, &catalogue::CQL_CACHE_READS),
            cql_cache_outdated: counter(r, &catalogue::CQL_CACHE_OUTDATED),
            cql_cache_evicted: counter(r, &catalogue::CQL_CACHE_EVICTED),
            cql_cache_bytes: gauge(r, &catalogue::CQL_CACHE_BYTES),
            cql_cache_answers: gauge(r, &catalogue::CQL_CACHE_ANSWERS),
            cql_sign_ins: counter(r, &catalogue::CQL_SIGN_INS),
            cql_credential_checks: gauge(r, &catalogue::CQL_CREDENTIAL_CHECKS),
            cql_tablets: gauge(r, &catalogue::CQL_TABLETS),
            cql_tablets_told: counter(r, &catalogue::CQL_TABLETS_TOLD),
            cql_tablets_forgotten: counter(r, &catalogue::CQL_TABLETS_FORGOTTEN),
            cql_principals: gauge(r, &catalogue::CQL_PRINCIPALS),
            cql_principals_refused: counter(r, &catalogue::CQL_PRINCIPALS_REFUSED),
            cql_orphaned_streams: gauge(r, &catalogue::CQL_ORPHANED_STREAMS),
            cql_splits: counter(r, &catalogue::CQL_SPLITS),
            cql_unsplit: counter(r, &catalogue::CQL_UNSPLIT),
            cql_parts_in_flight: gauge(r, &catalogue::CQL_PARTS_IN_FLIGHT),
            cql_part_keys_waiting: gauge(r, &catalogue::CQL_PART_KEYS_WAITING),
            cql_part_bytes: gauge(r, &catalogue::CQL_PART_BYTES),
            cql_bulk_lanes: gauge(r, &catalogue::CQL_BULK_LANES),
            cql_control_only_clients: gauge(r, &catalogue::CQL_CONTROL_ONLY_CLIENTS),
            cql_routed_requests: counter(r, &catalogue::CQL_ROUTED_REQUESTS),
            cql_failovers: counter(r, &catalogue::CQL_FAILOVERS),
            cql_retries_refused: counter(r, &catalogue::CQL_RETRIES_REFUSED),
            cql_nodes: gauge(r, &catalogue::CQL_NODES),
            cql_shard_ports_free: gauge(r, &catalogue::CQL_SHARD_PORTS_FREE),
            cql_control_up: gauge(r, &catalogue::CQL_CONTROL_UP),
            cql_placement_nodes: gauge(r, &catalogue::CQL_PLACEMENT_NODES),
            cql_placement_time: gauge(r, &catalogue::CQL_PLACEMENT_TIME),
            cql_placement_refreshes: counter(r, &catalogue::CQL_PLACEMENT_REFRESHES),
            cql_placement_failures: counter(r, &catalogue::CQL_PLACEMENT_FAILURES),
            rpc_calls: gauge(r, &catalogue::RPC_CALLS),
            rpc_calls_in_flight: gauge(r, &catalogue::RPC_CALLS_IN_FLIGHT),
            rpc_calls_waiting: gauge(r, &catalogue::RPC_CALLS_WAITING),
            rpc_splits: counter(r, &catalogue::RPC_SPLITS),
            rpc_unsplit: counter(r, &catalogue::RPC_UNSPLIT),
            rpc_chunks: counter(r, &catalogue::RPC_CHUNKS),
            rpc_chunks_in_flight: gauge(r, &catalogue::RPC_CHUNKS_IN_FLIGHT),
            rpc_chunk_keys_waiting: gauge(r, &catalogue::RPC_CHUNK_KEYS_WAITING),
            rpc_gathered_bytes: gauge(r, &catalogue::RPC_GATHERED_BYTES),
            rpc_orphans: gauge(r, &catalogue::RPC_ORPHANS),
            rpc_retries: counter(r, &catalogue::RPC_RETRIES),
            rpc_reply_keys: Declared::new(r, &catalogue::RPC_REPLY_KEYS, || {
                AtomicHistogram::new(&OPERATIONS)
            }),
            rpc_split_stopped: counter(r, &catalogue::RPC_SPLIT_STOPPED),
            rpc_server_up: gauge(r, &catalogue::RPC_SERVER_UP),
            rpc_server_failures: counter(r, &catalogue::RPC_SERVER_FAILURES),
            rpc_server_ejections: counter(r, &catalogue::RPC_SERVER_EJECTIONS),
            denied: counter(r, &catalogue::DENIED),
            http_cache_requests: counter(r, &catalogue::HTTP_CACHE_REQUESTS),
            http_cache_unfit: counter(r, &catalogue::HTTP_CACHE_UNFIT),
            http_cache_refreshes: counter(r, &catalogue::HTTP_CACHE_REFRESHES),
            http_cache_evictions: counter(r, &catalogue::HTTP_CACHE_EVICTIONS),
            http_cache_changes: counter(r, &catalogue::HTTP_CACHE_CHANGES),
            http_cache_purges: counter(r, &catalogue::HTTP_CACHE_PURGES),
            http_cache_purged: counter(r, &catalogue::HTTP_CACHE_PURGED),
            http_cache_entries: gauge(r, &catalogue::HTTP_CACHE_ENTRIES),
            http_cache_bytes: gauge(r, &catalogue::HTTP_CACHE_BYTES),
            http_cache_waiting: gauge(r, &catalogue::HTTP_CACHE_WAITING),
            client_connections: gauge(r, &catalogue::CLIENT_CONNECTIONS),
            client_accepts: counter(r, &catalogue::CLIENT_ACCEPTS),
            client_closes: counter(r, &catalogue::CLIENT_CLOSES),
            client_short_connections: counter(r, &catalogue::CLIENT_SHORT_CONNECTIONS),
            tls_handshakes: counter(r, &catalogue::TLS_HANDSHAKES),
            tls_handshakes_under_way: gauge(r, &catalogue::TLS_HANDSHAKES_UNDER_WAY),
            tokens: counter(r, &catalogue::TOKENS),
            token_checks: counter(r, &catalogue::TOKEN_CHECKS),
            tokens_remembered: gauge(r, &catalogue::TOKENS_REMEMBERED),
            principal_accepts: counter(r, &catalogue::PRINCIPAL_ACCEPTS),
            principal_short_connections: counter(r, &catalogue::PRINCIPAL_SHORT_CONNECTIONS),
            invalid_requests: counter(r, &catalogue::INVALID_REQUESTS),
            client_input_bytes: gauge(r, &catalogue::CLIENT_INPUT_BYTES),
            client_reply_bytes: gauge(r, &catalogue::CLIENT_REPLY_BYTES),
            held_accounts: gauge(r, &catalogue::HELD_ACCOUNTS),
            namings: counter(r, &catalogue::NAMINGS),
            attribution_questions: counter(r, &catalogue::ATTRIBUTION_QUESTIONS),
            bound: Declared::new(r, &catalogue::BOUND, FloatGauge::default),
            label_overflow: counter(r, &catalogue::LABEL_OVERFLOW),
            log_suppressed: counter(r, &catalogue::LOG_SUPPRESSED),
            worker_turns: counter(r, &catalogue::WORKER_TURNS),
            worker_busy: Declared::new(r, &catalogue::WORKER_BUSY, SecondsCounter::default),
            panics: counter(r, &catalogue::PANICS),
            config_info: gauge(r, &catalogue::CONFIG_INFO),
            config_reload_success_time: gauge(r, &catalogue::CONFIG_RELOAD_SUCCESS_TIME),
            config_reload_successful: gauge(r, &catalogue::CONFIG_RELOAD_SUCCESSFUL),
            build_info: gauge(r, &catalogue::BUILD_INFO),
            scrape_time,
        }
    }

    /// The counter of names folded into `_other` for want of a slot.
    pub(crate) fn overflow(&self, label: &'static str) -> Counter {
        self.label_overflow.series([label.into()])
    }

    /// Sets the instant at which rolling windows end for the next encoding.
    pub(crate) fn set_scrape_time(&self, now: crate::Seconds) {
        self.scrape_time.store(now.0, Ordering::Relaxed);
    }
}

fn counter<const N: usize>(registry: &mut Registry, info: &'static MetricInfo) -> Declared<Counter, N> {
    Declared::new(registry, info, Counter::default)
}

fn gauge<const N: usize>(registry: &mut Registry, info: &'static MetricInfo) -> Declared<Gauge, N> {
    Declared::new(registry, info, Gauge::default)
}
