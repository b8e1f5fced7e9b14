//! What the control socket answers about work across legs: /amplification and /request.

use serde::{Deserialize, Serialize};

/// What requests of services came to in storage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amplification {
    /// By caller, since the start: requests whose id was handed on to storage. The most storage operations first.
    pub callers: Vec<AmplificationRow>,
    /// By service (principal of a storage listener), since the start: everything it asked of storage, with an id or without.
    /// The most operations first.
    pub services: Vec<ServiceRow>,
    /// The requests with the most storage work of late, most first.
    pub largest: Vec<RequestReport>,
    /// Requests remembered now.
    pub tracked: u64,
    /// Requests forgotten before their time because there were more than `correlated_requests_max`.
    pub evicted: u64,
    /// Notes about requests that found no room, and are missing in the sums.
    pub dropped: u64,
    /// Reads over CQL that said the end of an id (docs/amplification.md) which no remembered request has: missing in the sums.
    pub unknown: u64,
    /// The same of an end that several requests have.
    pub ambiguous: u64,
}

/// What one caller's requests came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AmplificationRow {
    /// Its name.
    pub caller: String,
    /// `rpc`: the caller of RPCs that weir saw; `service`: the service that said the ids, where weir saw no RPC.
    pub origin: String,
    /// RPCs; of a service, ids.
    pub requests: u64,
    /// Keys that the RPCs asked for.
    pub rpc_keys: u64,
    /// Operations asked of memcached.
    pub cache_operations: u64,
    /// Of those, not found.
    pub cache_misses: u64,
    /// Operations asked over CQL.
    pub database_operations: u64,
    /// Rows that came back.
    pub database_rows: u64,
    /// Bytes that storage answered.
    pub storage_bytes: u64,
    /// Cache operations per key of the RPCs; nothing without keys.
    pub cache_operations_per_key: Option<f64>,
    /// Database operations per key of the RPCs; nothing without keys.
    pub database_operations_per_key: Option<f64>,
}

/// Everything one service asked of storage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceRow {
    /// The principal.
    pub service: String,
    /// Operations asked of memcached.
    pub cache_operations: u64,
    /// Of those, not found.
    pub cache_misses: u64,
    /// Operations asked over CQL.
    pub database_operations: u64,
    /// Some of it bore an id.
    pub says_ids: bool,
}

/// What one request of a service came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestReport {
    /// Its id, 32 hex digits.
    pub id: String,
    /// The same as clients send it.
    pub short_id: String,
    /// The RPC; nothing where weir saw none.
    pub rpc: Option<RpcReport>,
    /// Who said the id to storage first.
    pub service: Option<String>,
    /// What it asked of memcached.
    pub cache: LegReport,
    /// What it asked over CQL.
    pub database: LegReport,
    /// When it was first heard of, in milliseconds since 1970.
    pub first_seen_unix_ms: u64,
    /// From then until it was last heard of, in microseconds.
    pub seen_for_us: u64,
}

/// A request as it came to the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RpcReport {
    /// Who asked.
    pub caller: String,
    /// What.
    pub method: String,
    /// RPCs with this id.
    pub calls: u64,
    /// Keys they asked for.
    pub keys: u64,
    /// How the last one ended; nothing while it is under way.
    pub outcome: Option<String>,
    /// Parts it was carried out in.
    pub chunks: Option<u32>,
    /// Bytes of the request.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer.
    pub bytes_out: Option<u64>,
    /// From its beginning to its end, in microseconds.
    pub took_us: Option<u64>,
}

/// Storage work on one leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LegReport {
    /// Requests.
    pub requests: u64,
    /// Of those, not answered as the server would.
    pub failed: u64,
    /// Operations asked.
    pub operations: u64,
    /// Operations that went to servers.
    pub backend_operations: u64,
    /// Values found, or rows.
    pub hits: u64,
    /// Keys not found (cache).
    pub misses: u64,
    /// Operations that joined others.
    pub coalesced: u64,
    /// Parts sent.
    pub chunks: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
}
