//! Every metric, once: name, type, labels with their caps, help.
//!
//! Nothing else in weir spells a metric's name: families are built from these entries, `/metrics` is rendered from the
//! families, `docs/metrics.md` is generated from the list ([`crate::page`]), and `cargo xtask tidy` checks rules and
//! dashboards against that page. To add a metric, add an entry here and a field in `families.rs`. The metrics of
//! `weir-probes` have a list of their own: [`crate::probes::catalogue`].

use crate::http_cache::{HttpCacheRefresh, HttpCacheResult, HttpCacheUnfit};
use crate::vocabulary::{
    AmplificationOrigin, AskResult, CacheResult, CheckState, CloseHow, ConnectionState, CorrelationLost,
    CqlBound, Direction, FailoverCause, FlushResult, HandshakeResult, LimitKind, LimitMode, LookupResult,
    NamingResult, NodeState, OpenResult, Outcome, PlacementFailure, PrepareResult, ReadApart, RejectReason,
    RetryResult, RouteResult, ServerFailure, SignInResult, SizeClass, TabletForgotten, TabletTold,
    TokenResult,
};

/// Callers that become label values unless the configuration says otherwise.
pub const CALLERS: usize = 64;
/// Backends that become label values.
pub const BACKENDS: usize = 64;
/// Listeners that become label values.
pub const LISTENERS: usize = 64;
/// Principals that become label values.
pub const PRINCIPALS: usize = 64;
/// Pools that become label values.
pub const POOLS: usize = 64;
/// Clusters that become label values.
pub const CLUSTERS: usize = 64;
/// Statements of a cluster that become label values.
pub const FINGERPRINTS: usize = 64;
/// Services that become label values.
pub const SERVICES: usize = 64;
/// Methods of services that become label values, the shared `_other` not counted.
pub const RPC_METHODS: usize = 255;
/// Causes of log lines or of invalid requests that become label values, each.
pub const CAUSES: usize = 48;
/// Overrides shown at once.
pub const OVERRIDES: usize = 64;
/// Named bounds.
pub const BOUNDS: usize = 128;
/// Workers that become label values.
pub const WORKERS: usize = 64;

/// The type of a metric, as Prometheus knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic buckets, `_sum`, `_count`.
    Histogram,
}

impl MetricKind {
    /// As written in `# TYPE`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// Which values a label may take: the reason the number of series is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// A closed list in the code.
    Listed(&'static [&'static str]),
    /// A closed list that the binary hands over at start (the methods of a protocol).
    Given(&'static str),
    /// Names from outside: at most this many, then `_other`; a name that breaks the rule is `_invalid`.
    Capped(usize),
    /// Names an operator or the code wrote: at most this many, then `_other`.
    Configured(usize),
    /// One value at a time; the series of an earlier value is removed.
    Single(&'static str),
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelInfo {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub values: Values,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// The full name, as in PromQL (of a histogram: without `_bucket`).
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// Its labels, in the order of exposition.
    pub labels: &'static [LabelInfo],
    /// One sentence without a full stop.
    pub help: &'static str,
}

impl MetricInfo {
    /// The series names this metric is exposed as.
    #[must_use]
    pub fn series_names(&self) -> Vec<String> {
        match self.kind {
            MetricKind::Histogram => {
                ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", self.name)).to_vec()
            }
            MetricKind::Counter | MetricKind::Gauge => vec![self.name.to_owned()],
        }
    }
}

pub(crate) const fn label(name: &'static str, values: Values) -> LabelInfo {
    LabelInfo { name, values }
}

const CALLER: LabelInfo = label("caller", Values::Capped(CALLERS));
const PROTOCOL: LabelInfo = label("protocol", Values::Given("protocols"));
const METHOD: LabelInfo = label(
    "method",
    Values::Given(
        "verbs of the protocol, and `unknown` for a refused line that begins with none; of calls between services (grpc, connect, http) the 255 first described methods, then `_other`",
    ),
);
const BACKEND: LabelInfo = label("backend", Values::Configured(BACKENDS));
const LISTENER: LabelInfo = label("listener", Values::Configured(LISTENERS));
const PRINCIPAL: LabelInfo = label("principal", Values::Capped(PRINCIPALS));
const POOL: LabelInfo = label("pool", Values::Configured(POOLS));
const CLUSTER: LabelInfo = label("cluster", Values::Configured(CLUSTERS));
const SERVICE: LabelInfo = label("service", Values::Configured(SERVICES));
const RPC_METHOD: LabelInfo = label("method", Values::Configured(RPC_METHODS));
const WORKER: LabelInfo = label("worker", Values::Configured(WORKERS));
const MODE: LabelInfo = label("mode", Values::Listed(LimitMode::NAMES));
const ORIGIN: LabelInfo = label("origin", Values::Listed(AmplificationOrigin::NAMES));
const FINGERPRINT: LabelInfo = label("fingerprint", Values::Configured(FINGERPRINTS));
const CAUSE: LabelInfo = label("cause", Values::Configured(CAUSES));
const CAPPED_LABELS: &[&str] = &[
    "caller",
    "backend",
    "listener",
    "principal",
    "pool",
    "cluster",
    "service",
    "method",
    "cause",
    "log_cause",
    "override",
    "bound",
];

macro_rules! catalogue {
    ($(#[$about:meta])* $list:ident: $($ident:ident = $kind:ident $name:literal [$($label:expr),* $(,)?] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help, ".")]
            pub const $ident: MetricInfo = MetricInfo {
                name: $name,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        $(#[$about])*
        pub const $list: &[MetricInfo] = &[$($ident),+];
    };
}
pub(crate) use catalogue;

catalogue! {
    /// Every metric of `weir`, in the order of `docs/metrics.md`.
    CATALOGUE:

    // Work by caller.
    REQUESTS = Counter "weir_requests_total" [CALLER, PROTOCOL, METHOD, label("outcome", Values::Listed(Outcome::NAMES))]
        "Requests that ended, by how they ended";
    REQUEST_DURATION = Histogram "weir_request_duration_seconds" [CALLER]
        "Time from the last byte of a request to the last byte of its answer in the client's buffer";
    REQUEST_OPERATIONS = Histogram "weir_request_operations" [CALLER]
        "Operations asked by one request; exemplars name method and request id";
    REQUEST_OPERATIONS_MAX = Gauge "weir_request_operations_max" [CALLER, METHOD]
        "Largest number of operations one request asked for within the last 60 to 70 seconds, refused or not";
    OPERATIONS = Counter "weir_operations_total" [CALLER, PROTOCOL, label("size_class", Values::Listed(SizeClass::NAMES))]
        "Operations asked, by the size of the request they came in";
    BYTES = Counter "weir_bytes_total" [CALLER, label("direction", Values::Listed(Direction::NAMES))]
        "Bytes exchanged with clients (in: from the client)";
    BACKEND_OPERATIONS = Counter "weir_backend_operations_total" [CALLER, BACKEND]
        "Operations sent to a backend on behalf of a caller, retries included";
    QUEUE_WAIT = Histogram "weir_queue_wait_seconds" [CALLER]
        "Time the first operation of a request waited in weir's queue before it was sent";
    CALLER_FIRST_SEEN = Gauge "weir_caller_first_seen_timestamp_seconds" [CALLER]
        "When this process first saw the caller, in seconds since 1970";

    // Work across legs: requests of services whose id was handed on to storage (docs/amplification.md).
    AMPLIFICATION_REQUESTS = Counter "weir_amplification_requests_total" [CALLER, ORIGIN]
        "Requests with an id, by their caller: of RPCs that weir saw (origin rpc), or the service itself where it saw none (origin service)";
    AMPLIFICATION_RPC_KEYS = Counter "weir_amplification_rpc_keys_total" [CALLER]
        "Keys that RPCs asked for; divide the operations of origin rpc by it";
    AMPLIFICATION_CACHE_OPERATIONS = Counter "weir_amplification_cache_operations_total" [CALLER, ORIGIN]
        "Operations that requests with an id came to at memcached listeners";
    AMPLIFICATION_CACHE_MISSES = Counter "weir_amplification_cache_misses_total" [CALLER, ORIGIN]
        "Those of them that were not found";
    AMPLIFICATION_DATABASE_OPERATIONS = Counter "weir_amplification_database_operations_total" [CALLER, ORIGIN]
        "Operations that requests with an id came to at CQL listeners";
    AMPLIFICATION_STORAGE_BYTES = Counter "weir_amplification_storage_bytes_total" [CALLER, ORIGIN]
        "Bytes that storage answered to requests with an id";
    CORRELATED_REQUESTS = Gauge "weir_correlated_requests" []
        "Requests with an id that are remembered (each for 30 s, at most correlated_requests_max)";
    CORRELATION_LOST = Counter "weir_correlation_lost_total" [label("cause", Values::Listed(CorrelationLost::NAMES))]
        "Requests forgotten before their time because there were more than correlated_requests_max (evicted), and notes of storage work or RPCs that are in no sum: they found no room (dropped), or said the end of an id that no remembered request has (unknown) or several have (ambiguous)";

    // Limits.
    REJECTED = Counter "weir_rejected_total" [CALLER, label("reason", Values::Listed(RejectReason::NAMES)), MODE]
        "Requests above a limit or turned down for another reason: let pass (observe), delayed (pace) or refused (refuse)";
    LIMIT = Gauge "weir_limit" [CALLER, label("kind", Values::Listed(LimitKind::NAMES))]
        "Limit in force for a caller; no series where there is none";
    LIMIT_MODE = Gauge "weir_limit_mode" [CALLER, MODE]
        "1 for the mode in force for a caller's limits";
    FLUSHES = Counter "weir_flushes_total" [CALLER, label("result", Values::Listed(FlushResult::NAMES))]
        "flush_all commands by what weir did with them";
    OVERRIDE_ACTIVE = Gauge "weir_override_active" [label("kind", Values::Configured(OVERRIDES)), label("target", Values::Configured(OVERRIDES))]
        "1 while an operator's temporary override is in force";

    // Reads that needed no backend.
    CACHE_LOOKUPS = Counter "weir_cache_lookups_total" [POOL, label("result", Values::Listed(LookupResult::NAMES))]
        "Operations that could have been served without a backend, by result";
    COALESCED_OPERATIONS = Counter "weir_coalesced_operations_total" []
        "Operations answered by joining an identical one that had not been sent yet (memcached)";

    // Backends.
    BACKEND_CONNECTIONS = Gauge "weir_backend_connections" [BACKEND, label("state", Values::Listed(ConnectionState::NAMES))]
        "Connections to a backend by state";
    BACKEND_CONNECTION_OPENS = Counter "weir_backend_connection_opens_total" [BACKEND, label("result", Values::Listed(OpenResult::NAMES))]
        "Attempts to connect to a backend, by result";
    BACKEND_INFLIGHT_OPERATIONS = Gauge "weir_backend_inflight_operations" [BACKEND]
        "Operations sent to a backend and not yet answered";
    BACKEND_INFLIGHT_BYTES = Gauge "weir_backend_inflight_bytes" [BACKEND]
        "Estimated reply bytes of the operations in flight";
    QUEUE_DEPTH = Gauge "weir_queue_depth" [BACKEND]
        "Operations waiting in weir for a backend";
    UPSTREAM_DESYNC = Counter "weir_upstream_desync_total" [BACKEND]
        "Connections cut because a reply did not belong to the request it followed";
    UPSTREAM_STALLS = Counter "weir_upstream_stalls_total" [BACKEND]
        "Connections cut because a backend owed a reply and sent nothing";
    NOREPLY_DROPPED = Counter "weir_noreply_dropped_total" []
        "noreply or quiet commands that could not be carried out and whose client asked not to be told";

    // Statements and clusters (CQL).
    CQL_OPAQUE_STATEMENTS = Counter "weir_cql_opaque_statements_total" [CAUSE]
        "Statements passed on without being understood: counted as one operation each, or as their values tell";
    CQL_STATEMENT_SECONDS = Counter "weir_cql_statement_seconds_total" [CLUSTER, FINGERPRINT]
        "Time that requests with this statement took at the nodes, of statements that have had a second of it at a worker";
    CQL_STATEMENT_OPERATIONS = Counter "weir_cql_statement_operations_total" [CLUSTER, FINGERPRINT]
        "Operations that nodes were asked for by requests with this statement (what it is: /statements, weir fingerprint)";
    CQL_BOUND_REACHED = Counter "weir_cql_bound_reached_total" [label("bound", Values::Listed(CqlBound::NAMES))]
        "How often a bound without a key was met: requests of one connection (2,048: it waits), texts of statements (4,096 a worker: all are read anew), clients that wait for one PREPARE (1,024: further ones send theirs), statements prepared again for one request (32: the client is told)";
    CQL_PREPARED_STATEMENTS = Gauge "weir_cql_prepared_statements" [CLUSTER]
        "Prepared statements weir remembers, over all workers";
    CQL_PREPARES = Counter "weir_cql_prepares_total" [CLUSTER, label("result", Values::Listed(PrepareResult::NAMES))]
        "PREPAREs of clients: answered from what weir remembers (cached) or passed on (sent)";
    CQL_REPREPARES = Counter "weir_cql_reprepares_total" [CLUSTER]
        "Statements prepared again because a node had forgotten them";
    CQL_PREPARED_EVICTED = Counter "weir_cql_prepared_evicted_total" [CLUSTER]
        "Prepared statements forgotten because there were more than prepared_max";
    CQL_TABLETS = Gauge "weir_cql_tablets" [CLUSTER]
        "Tablets of ScyllaDB's tables that weir knows, over all workers (tablets_max per worker)";
    CQL_TABLETS_TOLD = Counter "weir_cql_tablets_told_total" [CLUSTER, label("result", Values::Listed(TabletTold::NAMES))]
        "Answers in which a node told a tablet because the request had come to a node or shard without it: learned, of a partition weir does not know (not_placed), or not readable";
    CQL_TABLETS_FORGOTTEN = Counter "weir_cql_tablets_forgotten_total" [CLUSTER, label("cause", Values::Listed(TabletForgotten::NAMES))]
        "Tablets forgotten, by cause: tablets_max (room), a replica that has left (topology), a table or keyspace that was changed (schema)";
    CQL_STREAMED_REPLIES = Counter "weir_cql_streamed_replies_total" [CLUSTER]
        "Replies longer than stream_reply_min, passed on while they arrived";
    CQL_BROKEN_REPLIES = Counter "weir_cql_broken_replies_total" [CLUSTER]
        "Those whose node went before their end: the client's connection was closed";
    CQL_GATHERED_REPLY_BYTES = Gauge "weir_cql_gathered_reply_bytes" [CLUSTER]
        "Memory held for replies of which a part has arrived";
    CQL_FLIGHTS = Counter "weir_cql_flights_total" [CLUSTER]
        "Answers of a node that were given to more than one request, because identical reads had joined the first";
    CQL_JOINED_REQUESTS = Counter "weir_cql_joined_requests_total" [CLUSTER]
        "Requests answered with the answer of an identical read";
    CQL_READS_APART = Counter "weir_cql_reads_apart_total" [CLUSTER, label("cause", Values::Listed(ReadApart::NAMES))]
        "Reads that were asked although an identical one was under way, by why";
    CQL_CACHE_READS = Counter "weir_cql_cache_reads_total" [CLUSTER, label("result", Values::Listed(CacheResult::NAMES))]
        "Reads under a rule with cache_ttl: answered from what weir keeps (hit) or asked (miss)";
    CQL_CACHE_OUTDATED = Counter "weir_cql_cache_outdated_total" [CLUSTER]
        "Kept answers that were not given again because something they depend on had been written";
    CQL_CACHE_EVICTED = Counter "weir_cql_cache_evicted_total" [CLUSTER]
        "Kept answers that left because they took more than cache_bytes_max";
    CQL_CACHE_BYTES = Gauge "weir_cql_cache_bytes" [CLUSTER]
        "Bytes of kept answers, over all workers";
    CQL_CACHE_ANSWERS = Gauge "weir_cql_cache_answers" [CLUSTER]
        "Kept answers, over all workers";
    CQL_SIGN_INS = Counter "weir_cql_sign_ins_total" [CLUSTER, label("result", Values::Listed(SignInResult::NAMES))]
        "Clients that signed in with a user name and a password, by how that was answered";
    CQL_CREDENTIAL_CHECKS = Gauge "weir_cql_credential_checks" [CLUSTER, label("state", Values::Listed(CheckState::NAMES))]
        "Different credentials that the cluster is asked about (at most credential_checks) and that wait to be";
    CQL_PRINCIPALS = Gauge "weir_cql_principals" [CLUSTER]
        "Users with connections of their own to the cluster (clients = own, at most principals_max)";
    CQL_PRINCIPALS_REFUSED = Counter "weir_cql_principals_refused_total" [CLUSTER]
        "Sign-ins of users for whom principals_max left no room";
    CQL_ORPHANED_STREAMS = Gauge "weir_cql_orphaned_streams" [CLUSTER]
        "Stream ids that wait for a reply nobody wants any more";
    CQL_SPLITS = Counter "weir_cql_splits_total" [CLUSTER, label("outcome", Values::Listed(Outcome::NAMES))]
        "Requests for many keys that were carried out in parts, by how they ended";
    CQL_UNSPLIT = Counter "weir_cql_unsplit_total" [CAUSE]
        "Requests for more than chunk_keys keys, and batches of more than chunk_statements statements (batch_*), that were sent whole, by cause";
    CQL_PARTS_IN_FLIGHT = Gauge "weir_cql_parts_in_flight" [CLUSTER]
        "Parts of split requests that nodes work on, those nobody waits for any more included";
    CQL_PART_KEYS_WAITING = Gauge "weir_cql_part_keys_waiting" [CLUSTER]
        "Keys of split requests that wait in weir for their turn";
    CQL_PART_BYTES = Gauge "weir_cql_part_bytes" [CLUSTER]
        "Answers of parts held until the whole answer is complete (gather_bytes_max per worker)";
    CQL_BULK_LANES = Gauge "weir_cql_bulk_lanes" [CLUSTER]
        "Connections that carry parts of split requests only";
    CQL_CONTROL_ONLY_CLIENTS = Gauge "weir_cql_control_only_clients" [CLUSTER]
        "Connections registered for events whose caller sends no statements through weir: a driver that went past it";
    CQL_ROUTED_REQUESTS = Counter "weir_cql_routed_requests_total" [CLUSTER, label("result", Values::Listed(RouteResult::NAMES))]
        "Requests sent to a node, by how it was found: replica, other_rack, remote (data center), no_token (partition unknown), fallback";
    CQL_FAILOVERS = Counter "weir_cql_failovers_total" [CLUSTER, label("cause", Values::Listed(FailoverCause::NAMES))]
        "Requests that went to another node than first chosen, by cause";
    CQL_RETRIES_REFUSED = Counter "weir_cql_retries_refused_total" [CLUSTER]
        "Requests that were not sent again because retry_percent of the last ten seconds was spent";
    CQL_NODES = Gauge "weir_cql_nodes" [CLUSTER, label("state", Values::Listed(NodeState::NAMES))]
        "Nodes of a cluster by state, each counted once by every worker: up, down, left_out (beyond nodes_max, or no contact without discover)";
    CQL_SHARD_PORTS_FREE = Gauge "weir_cql_shard_ports_free" [CLUSTER]
        "Source ports of shard_ports that weir's own connections leave free, for the node and shard with the fewest; 0 without shard_ports";
    CQL_CONTROL_UP = Gauge "weir_cql_control_up" [CLUSTER]
        "1 when the cluster answered the control connection when it was last asked (every 30 s), else 0; none without discover";
    CQL_PLACEMENT_NODES = Gauge "weir_cql_placement_nodes" [CLUSTER]
        "Nodes the cluster last told of";
    CQL_PLACEMENT_TIME = Gauge "weir_cql_placement_timestamp_seconds" [CLUSTER]
        "When nodes, tokens and tables of the cluster were last read, in seconds since 1970; 0 before the first time";
    CQL_PLACEMENT_REFRESHES = Counter "weir_cql_placement_refreshes_total" [CLUSTER]
        "Times they were read";
    CQL_PLACEMENT_FAILURES = Counter "weir_cql_placement_failures_total" [CLUSTER, label("cause", Values::Listed(PlacementFailure::NAMES))]
        "Times they could not be read, by cause";

    // Calls between services (gRPC, Connect, HTTP).
    RPC_CALLS = Gauge "weir_rpc_calls" [SERVICE]
        "Calls under way, those that wait included (at most calls_max)";
    RPC_CALLS_IN_FLIGHT = Gauge "weir_rpc_calls_in_flight" [SERVICE]
        "Calls passed on whole that servers work on (at most calls_in_flight)";
    RPC_CALLS_WAITING = Gauge "weir_rpc_calls_waiting" [SERVICE]
        "Calls that wait in weir to be passed on whole";
    RPC_SPLITS = Counter "weir_rpc_splits_total" [SERVICE, label("outcome", Values::Listed(Outcome::NAMES))]
        "Calls for many keys that were carried out in parts, by how they ended";
    RPC_UNSPLIT = Counter "weir_rpc_unsplit_total" [CAUSE]
        "Calls for more than chunk_keys keys that went whole, by cause";
    RPC_CHUNKS = Counter "weir_rpc_chunks_total" [SERVICE]
        "Parts of split calls that were sent";
    RPC_CHUNKS_IN_FLIGHT = Gauge "weir_rpc_chunks_in_flight" [SERVICE]
        "Parts that servers work on, those nobody waits for any more included (at most chunks_in_flight per server)";
    RPC_CHUNK_KEYS_WAITING = Gauge "weir_rpc_chunk_keys_waiting" [SERVICE]
        "Keys of split calls that wait in weir for their turn";
    RPC_GATHERED_BYTES = Gauge "weir_rpc_gathered_bytes" [SERVICE]
        "Answers of parts held until the whole answer has left (gather_bytes_max)";
    RPC_ORPHANS = Gauge "weir_rpc_orphans" [SERVICE]
        "Calls and parts servers work on although nobody waits for them any more";
    RPC_RETRIES = Counter "weir_rpc_retries_total" [SERVICE, label("result", Values::Listed(RetryResult::NAMES))]
        "Idempotent calls and parts that a server failed: sent once more, or refused because retry_percent of the last ten seconds was spent";
    RPC_REPLY_KEYS = Histogram "weir_rpc_reply_keys" [RPC_METHOD]
        "Keys of an answer (elements of the repeated fields that are described): a small request may have a large one";
    RPC_SPLIT_STOPPED = Counter "weir_rpc_split_stopped_total" [RPC_METHOD]
        "Times a method was not split any more, until the next reload, because an answer had a field that is not described";
    RPC_SERVER_UP = Gauge "weir_rpc_server_up" [BACKEND]
        "1 while calls go to the server: it can be reached, its health checks are good, and it is not left out; else 0. Summed over the services it is of";
    RPC_SERVER_FAILURES = Counter "weir_rpc_server_failures_total" [BACKEND, label("cause", Values::Listed(ServerFailure::NAMES))]
        "What a server failed: calls and parts (the connection was cut, or not made, or it said that it cannot serve), and health checks";
    RPC_SERVER_EJECTIONS = Counter "weir_rpc_server_ejections_total" [BACKEND]
        "Times a server was left out for a while because eject_failures calls in a row had failed there";
    DENIED = Counter "weir_denied_total" [RPC_METHOD]
        "Calls refused because an operator had switched their method off (weir deny)";

    // Answers of services that are kept.
    HTTP_CACHE_REQUESTS = Counter "weir_http_cache_requests_total" [SERVICE, label("result", Values::Listed(HttpCacheResult::NAMES))]
        "Requests on cached paths, by what they got from the cache; alone: passed on without waiting for, or being waited for by, others";
    HTTP_CACHE_UNFIT = Counter "weir_http_cache_unfit_total" [SERVICE, label("cause", Values::Listed(HttpCacheUnfit::NAMES))]
        "Answers on cached paths that are not kept, by cause, those not counted that come while the last one's verdict holds (10 s)";
    HTTP_CACHE_REFRESHES = Counter "weir_http_cache_refreshes_total" [SERVICE, label("result", Values::Listed(HttpCacheRefresh::NAMES))]
        "Questions for answers that clients got old meanwhile (stale-while-revalidate); skipped: cache_refreshes_max";
    HTTP_CACHE_EVICTIONS = Counter "weir_http_cache_evictions_total" [SERVICE]
        "Answers that had to go for others (cache_bytes_max, cache_entries_max)";
    HTTP_CACHE_CHANGES = Counter "weir_http_cache_changes_total" [SERVICE]
        "Requests that may have changed what a cached path answers, after which what was kept of it is not used";
    HTTP_CACHE_PURGES = Counter "weir_http_cache_purges_total" [SERVICE]
        "Times that an operator had kept answers thrown away (weir cache purge)";
    HTTP_CACHE_PURGED = Counter "weir_http_cache_purged_total" [SERVICE]
        "Answers that were thrown away on an operator's word (weir cache purge)";
    HTTP_CACHE_ENTRIES = Gauge "weir_http_cache_entries" [SERVICE]
        "Answers that are kept, and marks of such that are not (at most cache_entries_max)";
    HTTP_CACHE_BYTES = Gauge "weir_http_cache_bytes" [SERVICE]
        "Bytes of answers that are kept, on their way into the cache, or still being written to clients (at most cache_bytes_max and cache_fill_bytes_max together)";
    HTTP_CACHE_WAITING = Gauge "weir_http_cache_waiting" [SERVICE]
        "Requests that wait for the answer to another one (at most cache_waiters_max)";

    // Clients.
    CLIENT_CONNECTIONS = Gauge "weir_client_connections" [LISTENER]
        "Client connections that are open";
    CLIENT_ACCEPTS = Counter "weir_client_accepts_total" [LISTENER]
        "Client connections accepted";
    CLIENT_CLOSES = Counter "weir_client_closes_total" [LISTENER, label("how", Values::Listed(CloseHow::NAMES))]
        "Client connections closed, by how";
    CLIENT_SHORT_CONNECTIONS = Counter "weir_client_short_connections_total" [LISTENER]
        "Client connections that had carried at most one request when they closed";
    TLS_HANDSHAKES = Counter "weir_tls_handshakes_total" [LISTENER, label("result", Values::Listed(HandshakeResult::NAMES))]
        "TLS handshakes of clients that ended, by how; no series for a listener without TLS";
    TLS_HANDSHAKES_UNDER_WAY = Gauge "weir_tls_handshakes_under_way" [LISTENER]
        "TLS handshakes of clients that are not done, those that wait for their turn included (32 at once per worker)";
    TOKENS = Counter "weir_tokens_total" [LISTENER, label("result", Values::Listed(TokenResult::NAMES))]
        "Service tokens (JWT) that requests came with, by what came of them: only ok names a caller; no series for a listener without jwt_audiences";
    TOKEN_CHECKS = Counter "weir_token_checks_total" [LISTENER]
        "Signatures of service tokens checked (at most jwt_checks_per_second); the other tokens were remembered, or not worth it";
    TOKENS_REMEMBERED = Gauge "weir_tokens_remembered" [LISTENER]
        "Results of such checks that are remembered (jwt_cached_max, and a quarter as many bad ones)";
    PRINCIPAL_ACCEPTS = Counter "weir_principal_accepts_total" [PRINCIPAL]
        "Client connections accepted, by the identity that weir verified, those that were turned away included";
    PRINCIPAL_SHORT_CONNECTIONS = Counter "weir_principal_short_connections_total" [PRINCIPAL]
        "Client connections of a principal that had carried at most one request when they closed";
    INVALID_REQUESTS = Counter "weir_invalid_requests_total" [LISTENER, CAUSE]
        "Requests answered with an error because memcached would not take them either, or, of a service, because they are malformed or beyond a bound of weir's (a cause each)";
    CLIENT_INPUT_BYTES = Gauge "weir_client_input_bytes" []
        "Memory held for requests received from clients and not yet carried out";
    CLIENT_REPLY_BYTES = Gauge "weir_client_reply_bytes" []
        "Bytes of replies that clients have not read yet";

    HELD_ACCOUNTS = Gauge "weir_held_accounts" []
        "New local TCP connections whose requests are not booked yet because the name of their process is awaited (at most 4096 per worker, one second each)";
    NAMINGS = Counter "weir_namings_total" [label("result", Values::Listed(NamingResult::NAMES))]
        "Held accounts by what they were booked under: the name found (named) or the listener's (unnamed: none found; late: no answer in a second; overflow: a request that found no room to wait)";
    ATTRIBUTION_QUESTIONS = Counter "weir_attribution_questions_total" [label("result", Values::Listed(AskResult::NAMES))]
        "Connections whose process weir-probes was asked for (key attribution), by what came of it; those without a name are looked for in /proc; no series without the key";

    // weir itself.
    BOUND = Gauge "weir_bound" [label("name", Values::Configured(BOUNDS))]
        "Configured bounds by configuration key, in the unit of the key";
    LABEL_OVERFLOW = Counter "weir_label_overflow_total" [label("label", Values::Listed(CAPPED_LABELS))]
        "Times a name was folded into _other because the cap of its label was reached";
    LOG_SUPPRESSED = Counter "weir_log_suppressed_total" [CAUSE]
        "Log lines not written because the cause had one in the same second";
    WORKER_TURNS = Counter "weir_worker_turns_total" [WORKER]
        "Turns of a worker's loop";
    WORKER_BUSY = Counter "weir_worker_busy_seconds_total" [WORKER]
        "Time a worker spent in its loop's turns rather than waiting";
    PANICS = Counter "weir_panics_total" []
        "Panics contained to one connection";
    CONFIG_INFO = Gauge "weir_config_info" [label("hash", Values::Single("hash of the configuration in force"))]
        "1 for the configuration in force";
    CONFIG_RELOAD_SUCCESS_TIME = Gauge "weir_config_last_reload_success_timestamp_seconds" []
        "When a configuration was last taken into use, in seconds since 1970";
    CONFIG_RELOAD_SUCCESSFUL = Gauge "weir_config_last_reload_successful" []
        "1 when the last attempt to load a configuration succeeded, else 0";
    BUILD_INFO = Gauge "weir_build_info" [label("version", Values::Single("version")), label("revision", Values::Single("revision"))]
        "1 for the running build";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "User and system processor time used";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
        "Memory resident in RAM";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Virtual memory";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "File descriptors open";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "File descriptors allowed";
    PROCESS_THREADS = Gauge "process_threads" []
        "Threads";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970";
}
