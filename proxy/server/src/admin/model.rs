//! What the control socket answers: the rows behind `weir top`, `weir explain`, /callers, /expensive, /pools, /config
//! and /limits.
//!
//! Every struct has a default for every field, so that a client of another version still reads what it knows. What is
//! not known is `null`, never 0. Shares are 0 to 1 and rates are per second over the last full window of weir's own
//! (one second for `*_per_second`, one minute for shares and `*_last_minute`); totals count from the start.

use crate::overrides::{Class, Mode, Override, UnixTime};
use serde::{Deserialize, Serialize};

/// One look at a running weir.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When it was taken, in milliseconds since 1970.
    pub taken_at_unix_ms: u64,
    /// Which weir it is.
    pub instance: Instance,
    /// Everything together.
    pub totals: Totals,
    /// Callers, in no promised order. At most `max_callers` and `_other`.
    pub callers: Vec<CallerRow>,
    /// The most expensive requests of late, newest first (a bounded ring).
    pub expensive: Vec<ExpensiveRow>,
    /// Names by work whether or not they have a row in `callers`, heaviest first.
    pub heavy_hitters: Vec<HeavyRow>,
    /// Callers' statements by work of late, most first; the last one, of `_other`, is the rest. Protocols with statements
    /// only.
    pub statements: Vec<StatementRow>,
    /// Pools with their servers, then clusters with their nodes.
    pub pools: Vec<PoolRow>,
    /// Listeners.
    pub listeners: Vec<ListenerRow>,
    /// What requests of services came to in storage.
    pub amplification: Amplification,
}

pub use super::amplification::{
    Amplification, AmplificationRow, LegReport, RequestReport, RpcReport, ServiceRow,
};

/// Which weir a snapshot is from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When it started, in milliseconds since 1970.
    pub started_at_unix_ms: u64,
    /// Data-path threads.
    pub workers: u32,
    /// Hash of the effective configuration (`weir_config_info`).
    pub config_hash: String,
    /// Why /readyz does not answer 200; nothing when it does.
    pub not_ready: Option<String>,
    /// Overrides in force.
    pub overrides_active: u32,
}

/// Sums over all callers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Requests since the start.
    pub requests: u64,
    /// Operations since the start.
    pub operations: u64,
    /// Requests per second now.
    pub requests_per_second: f64,
    /// Operations per second now.
    pub operations_per_second: f64,
    /// Client connections open now.
    pub connections: u64,
}

/// One caller on one listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallerRow {
    /// The label value: the declared name where there is one, the principal's otherwise.
    pub caller: String,
    /// What weir verified: the listener's name, a name of the file, or `uid:N`.
    pub principal: String,
    /// The name that selects its limits: what `weir limits set` must be given.
    pub limited_as: String,
    /// The listener it came through.
    pub listener: String,
    /// The process behind it, when it is known.
    pub process: Option<String>,
    /// Its class.
    pub class: Option<Class>,
    /// Client connections open now.
    pub connections: u64,
    /// Connections per second that its principal opens on the listener now.
    pub principal_accepts_per_second: f64,
    /// The part of its principal's closed connections that had carried at most one request; nothing before the first.
    pub principal_one_request_share: Option<f64>,
    /// Requests since the start.
    pub requests: u64,
    /// Operations asked since the start, refused ones included.
    pub operations: u64,
    /// Operations that went to a backend since the start.
    pub backend_operations: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Requests per second now.
    pub requests_per_second: f64,
    /// Operations per second now.
    pub operations_per_second: f64,
    /// The largest request of the last minute, as asked.
    pub largest_last_minute: Option<Largest>,
    /// The largest request since the start, as asked.
    pub largest_ever: Option<Largest>,
    /// Its part of all operations of the last minute.
    pub work_share: f64,
    /// Its part of all requests of the last minute.
    pub request_share: f64,
    /// What its limits did since the start.
    pub limited: Limited,
    /// The limits in force, overrides included.
    pub limits: LimitsView,
    /// When the override of its limits ends.
    pub override_until_unix: Option<UnixTime>,
    /// Operations under way.
    pub operations_in_flight: u64,
    /// Estimated reply bytes under way.
    pub bytes_in_flight: u64,
    /// Operations waiting in weir's queues.
    pub operations_queued: u64,
    /// When it was first seen, in milliseconds since 1970.
    pub first_seen_unix_ms: u64,
    /// When it last asked for something, in milliseconds since 1970.
    pub last_seen_unix_ms: Option<u64>,
}

/// The size of one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Largest {
    /// Operations asked for.
    pub operations: u64,
    /// The command.
    pub method: String,
    /// When, in milliseconds since 1970, where it is known.
    pub at_unix_ms: Option<u64>,
}

/// Requests above a limit, by what was done about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limited {
    /// Let through and counted: `refuse` would have refused them.
    pub observed: u64,
    /// Made to wait and then let through.
    pub paced: u64,
    /// Refused.
    pub refused: u64,
}

/// Limits as they are shown. Nothing is "no limit of this kind".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsView {
    /// Operations of one request.
    pub operations_per_request: Option<u64>,
    /// Operations per second.
    pub operations_per_second: Option<u64>,
    /// Operations at once above the rate.
    pub burst: Option<u64>,
    /// Operations under way.
    pub operations_in_flight: Option<u64>,
    /// Estimated reply bytes under way.
    pub bytes_in_flight: Option<u64>,
    /// What happens above them.
    pub mode: Option<Mode>,
}

impl From<&weir_engine::settings::CallerLimits> for LimitsView {
    fn from(limits: &weir_engine::settings::CallerLimits) -> LimitsView {
        LimitsView {
            operations_per_request: limits.operations_per_request.map(|count| count.0),
            operations_per_second: limits.operations_per_second.map(|count| count.0),
            burst: limits.burst.map(|count| count.0),
            operations_in_flight: limits.operations_in_flight.map(|count| count.0),
            bytes_in_flight: limits.bytes_in_flight.map(|bytes| bytes.0),
            mode: Some(limits.mode.into()),
        }
    }
}

/// One expensive request: its ledger entry. Times are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExpensiveRow {
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Who asked.
    pub caller: String,
    /// Through which listener.
    pub listener: String,
    /// The command.
    pub method: String,
    /// Operations asked for.
    pub operations: u64,
    /// Sub-batches it was split into.
    pub chunks: u64,
    /// Operations that went to a backend.
    pub backend_operations: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Operations answered by another request's fetch.
    pub coalesced: u64,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the reply.
    pub bytes_out: u64,
    /// Time in weir's queues.
    pub queue_wait_us: u64,
    /// Time at the backend.
    pub backend_us: u64,
    /// Time from its last byte in to its last byte out.
    pub total_us: u64,
    /// How it ended (the `outcome` label).
    pub outcome: String,
    /// Names it in exemplars and logs.
    pub request_id: String,
    /// The statement without its values; of a batch its first. Nothing where the protocol has none.
    pub statement: Option<String>,
    /// The table it is about, as far as it is known.
    pub table: Option<String>,
    /// The node it went to, where it went to one whole and that is still there.
    pub node: Option<String>,
    /// The node's data center.
    pub data_center: Option<String>,
    /// The node's rack.
    pub rack: Option<String>,
    /// The shard that it was meant for, where the node has shards and the partition is known.
    pub shard: Option<u16>,
}

/// One caller and one of its statements, over the last five to ten minutes. What is not listed is in the row of `_other`,
/// which has no statement, rates or sizes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatementRow {
    /// Who asks.
    pub caller: String,
    /// Through which listener.
    pub listener: String,
    /// What is done with the statement.
    pub method: String,
    /// The text without its values, at most 512 bytes; of a batch the text of its first statement.
    pub statement: String,
    /// `keyspace.table`, as far as it is known.
    pub table: String,
    /// What `weir fingerprint` says of it, the label of `weir_cql_statement_seconds_total`; empty in the row of `_other`.
    pub fingerprint: String,
    /// Requests.
    pub requests: u64,
    /// Of those, the ones that did not end well.
    pub failed: u64,
    /// Keys asked.
    pub operations: u64,
    /// Rows of replies.
    pub rows: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
    /// Time at the backend, microseconds.
    pub backend_us: u64,
    /// Requests per second now.
    pub requests_per_second: f64,
    /// Keys per second now.
    pub operations_per_second: f64,
    /// Keys that half of the requests stay within: the upper bound of a bucket of `weir_request_operations`.
    pub request_operations_p50: u64,
    /// Keys of the largest request.
    pub largest: u64,
    /// Its part of the work of all statements: for each request the most of keys, rows and 16 KiB of reply.
    pub work_share: f64,
    /// Its part of the time at the backend.
    pub time_share: f64,
}

/// One name by work, from the Space-Saving list: its true count lies between `operations - error` and `operations`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeavyRow {
    /// The name, whether or not it has a label value.
    pub caller: String,
    /// Operations counted for it, at most.
    pub operations: u64,
    /// How much of that may be somebody else's.
    pub error: u64,
}

/// One pool or cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolRow {
    /// Its name.
    pub name: String,
    /// `memcached` (a pool) or `cql` (a cluster).
    pub kind: String,
    /// Its ring's dialect; empty for a cluster.
    pub ring: String,
    /// Its servers, or its nodes.
    pub servers: Vec<ServerRow>,
    /// How weir keeps up with a cluster's nodes; nothing for a pool, and for a cluster that is not asked (`discover`).
    pub control: Option<ControlRow>,
}

/// The control plane of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlRow {
    /// The cluster answered when it was last asked.
    pub up: bool,
    /// Nodes it told of.
    pub nodes: u64,
    /// When it last told, in seconds since 1970; nothing before the first time.
    pub read_at_unix: Option<u64>,
    /// What of the schema could not be read.
    pub lacks: Option<String>,
    /// Why it did not answer, the last time it did not.
    pub last_error: Option<String>,
}

/// One server of a pool or node of a cluster, over all workers. A node has bounds of its own: where there is no bound of
/// a kind, it is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerRow {
    /// Where it is.
    pub address: String,
    /// Its data center, where it is a node whose cluster tells.
    pub data_center: Option<String>,
    /// Its rack, likewise.
    pub rack: Option<String>,
    /// How many shards it has; nothing for a node without.
    pub shards: Option<u16>,
    /// Its share of the ring; 1 for a node.
    pub weight: u32,
    /// `up` (every lane is), `degraded` (some are) or `down` (none is).
    pub state: String,
    /// Operations under way, and the most there may be.
    pub operations_in_flight: u64,
    /// The bound of `operations_in_flight`.
    pub operations_in_flight_max: u64,
    /// Keys of parts of split multigets and requests under way.
    pub bulk_keys_in_flight: u64,
    /// The bound of `bulk_keys_in_flight`.
    pub bulk_keys_in_flight_max: u64,
    /// Estimated reply bytes under way.
    pub bytes_in_flight: u64,
    /// The bound of `bytes_in_flight`.
    pub bytes_in_flight_max: u64,
    /// Requests that wait for its reply, those nobody waits for any more included, and calls and parts of a service; nodes
    /// and servers of services only.
    pub requests_in_flight: Option<u64>,
    /// The bound of those somebody waits for: `requests_in_flight` of the cluster; `calls_in_flight` of the service, over all
    /// its servers, and `chunks_in_flight`.
    pub requests_in_flight_max: Option<u64>,
    /// Operations waiting in weir's queue for it.
    pub queue: u64,
    /// Operations per second it answers now.
    pub operations_per_second: f64,
    /// Connections opened since the start.
    pub opens: u64,
    /// Connections that failed to open since the start.
    pub open_errors: u64,
    /// The last reason a connection was lost or failed.
    pub last_error: Option<String>,
    /// Its connections.
    pub lanes: Vec<LaneRow>,
}

/// One upstream connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneRow {
    /// The worker it belongs to.
    pub worker: u32,
    /// It carries parts of split requests only.
    pub bulk: bool,
    /// `up`, `connecting` or `waiting` (before the next try).
    pub state: String,
    /// Requests sent and not answered yet.
    pub in_flight: u64,
    /// Bytes to write.
    pub unsent_bytes: u64,
}

/// One listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerRow {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// The pool or cluster behind it.
    pub pool: String,
    /// Connections open now.
    pub connections: u64,
    /// The bound of `connections`.
    pub connections_max: u64,
    /// Connections accepted per second now.
    pub accepts_per_second: f64,
    /// Part of the closed connections that carried one request only, where any closed.
    pub one_request_share: Option<f64>,
    /// Features switched off for a while (`split`, `batching`, `single-flight`, `limits`).
    pub switched_off: Vec<String>,
}

/// What /config answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigReport {
    /// The file it came from, or `flags`.
    pub source: String,
    /// Hash of the effective content.
    pub hash: String,
    /// When it was taken into use.
    pub loaded_at_unix: UnixTime,
    /// The whole effective configuration as a `weir.toml`, defaults included, overrides not.
    pub toml: String,
    /// The same as a tree.
    pub effective: serde_json::Value,
    /// Overrides in force on top of it.
    pub overrides: Vec<Override>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What /limits answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsReport {
    /// Weir's clock when it answered.
    pub now_unix: UnixTime,
    /// Limits of callers the file does not name.
    pub undeclared: LimitsView,
    /// Limits in force by name, overrides included.
    pub callers: std::collections::BTreeMap<String, LimitsView>,
    /// Overrides in force, limits and switches.
    pub overrides: Vec<Override>,
    /// Where they are kept over a restart; nothing when they are not.
    pub kept_in: Option<String>,
}
