//! Keys of `[pool.NAME]`, and of one server in it.

use crate::config::schema::{Absent, Key, Kind, Tighter};
use crate::config_key as key;
use std::sync::Arc;
use weir_engine::settings::{Address, PoolSettings};
use weir_engine::units::Span;

const RINGS: &[(&str, &str)] = &[
    ("libmemcached-weighted", "libmemcached KETAMA_WEIGHTED; also twemproxy's `hash: md5`"),
    ("libmemcached", "libmemcached KETAMA"),
    ("twemproxy-md5", "twemproxy `ketama` with `hash: md5`"),
    ("twemproxy-fnv1a64", "twemproxy `ketama` with its default hash"),
];

const MINUTE: Span = Span::secs(60);
const TEN_MINUTES: Span = Span::secs(600);
const MS: Span = Span::millis(1);

/// Keys of a pool.
pub static POOL: &[Key<PoolSettings>] = &[
    key!(
        PoolSettings,
        "servers",
        servers,
        Kind::Servers(super::SERVERS_MAX),
        Absent::Required,
        Tighter::Neither,
        "The memcached servers: `\"host:port\"`, `\"unix:/path\"`, or `{ address = \"...\", weight = 1, name = \"...\" }`. \
         Names and weights decide which keys a server has."
    ),
    key!(
        PoolSettings,
        "ring",
        ring,
        Kind::Word(RINGS),
        Absent::Default,
        Tighter::Neither,
        "Which implementation's map from keys to servers is reproduced exactly. Naming the wrong one empties the cache in \
         effect: `weir check --against` prints how many keys move."
    ),
    key!(
        PoolSettings,
        "connections_per_server",
        connections_per_server,
        Kind::Count(1, 64),
        Absent::Default,
        Tighter::Neither,
        "Connections per server and worker. Fixed: no client behaviour changes their number."
    ),
    key!(
        PoolSettings,
        "chunk_keys",
        chunk_keys,
        Kind::Count(1, 1_024),
        Absent::Default,
        Tighter::Neither,
        "Keys of one sub-batch of a split multiget. At most `bulk_keys_in_flight`."
    ),
    key!(
        PoolSettings,
        "bulk_keys_in_flight",
        bulk_keys_in_flight,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Keys of split multigets in flight per server, over all callers. Small values keep neighbours fast."
    ),
    key!(
        PoolSettings,
        "operations_in_flight",
        operations_in_flight,
        Kind::Count(1, 1_000_000),
        Absent::Default,
        Tighter::Less,
        "Operations in flight per server, over all callers, small requests included."
    ),
    key!(
        PoolSettings,
        "bytes_in_flight",
        bytes_in_flight,
        Kind::Size(64 << 10, 16 << 30),
        Absent::Default,
        Tighter::Less,
        "Estimated reply bytes in flight per server, over all callers."
    ),
    key!(
        PoolSettings,
        "split",
        split,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Split multigets larger than `chunk_keys`."
    ),
    key!(
        PoolSettings,
        "batching",
        batching,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Send single gets that arrive together as one multi-key `get`."
    ),
    key!(
        PoolSettings,
        "batch_keys",
        batch_keys,
        Kind::Count(2, 256),
        Absent::Default,
        Tighter::Neither,
        "Keys of one such batch."
    ),
    key!(
        PoolSettings,
        "single_flight",
        single_flight,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "Fetch identical keys of one batch once. Only within a principal, and never after the bytes were sent."
    ),
    key!(
        PoolSettings,
        "flush_all",
        flush_all,
        Kind::Flush,
        Absent::Default,
        Tighter::Neither,
        "What `flush_all` does: `\"allow\"` sends it to every server, `\"refuse\"` answers an error, \
         `{ prefix = \"...\" }` deletes only the keys that start so. Without a file and with one `--memcached`, `allow`."
    ),
    key!(
        PoolSettings,
        "connect_timeout",
        connect_timeout,
        Kind::Duration(MS, MINUTE),
        Absent::Default,
        Tighter::Less,
        "Connecting to a server, authentication included, must end within this time."
    ),
    key!(
        PoolSettings,
        "request_timeout",
        request_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A request without its whole reply after this time is answered with an error. Its place on the connection is kept."
    ),
    key!(
        PoolSettings,
        "stall_timeout",
        stall_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A connection that owes a reply and delivers no byte for this time is cut."
    ),
    key!(
        PoolSettings,
        "queue_timeout",
        queue_timeout,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Less,
        "A request that waited this long in a queue of weir is refused."
    ),
    key!(
        PoolSettings,
        "reconnect_min",
        reconnect_min,
        Kind::Duration(MS, MINUTE),
        Absent::Default,
        Tighter::Neither,
        "First wait before connecting again; doubles up to `reconnect_max`, with jitter."
    ),
    key!(
        PoolSettings,
        "reconnect_max",
        reconnect_max,
        Kind::Duration(MS, TEN_MINUTES),
        Absent::Default,
        Tighter::Neither,
        "Longest wait before connecting again. At least `reconnect_min`."
    ),
    key!(
        PoolSettings,
        "retry_percent",
        retry_percent,
        Kind::Count(0, 100),
        Absent::Default,
        Tighter::Less,
        "Retries of reads that a lost connection may cost, in percent of requests. Writes are never retried."
    ),
    key!(
        PoolSettings,
        "auth_file",
        auth_file,
        Kind::Path,
        Absent::Words("none"),
        Tighter::Neither,
        "File with one line `user password` for servers started with `-Y` (ASCII authentication). Read for every attempt; \
         never logged."
    ),
];

/// One entry of `servers` when it is written as a table.
#[derive(Clone, Debug)]
pub struct ServerDraft {
    /// Where it listens.
    pub address: Option<Address>,
    /// Share of the ring.
    pub weight: u32,
    /// Name on the ring.
    pub name: Option<Arc<str>>,
}

impl Default for ServerDraft {
    fn default() -> ServerDraft {
        ServerDraft { address: None, weight: 1, name: None }
    }
}

/// Keys of one server.
pub static SERVER: &[Key<ServerDraft>] = &[
    key!(
        ServerDraft,
        "address",
        address,
        Kind::Address,
        Absent::Required,
        Tighter::Neither,
        "Where the server listens."
    ),
    key!(
        ServerDraft,
        "weight",
        weight,
        Kind::Count(1, 100_000),
        Absent::Default,
        Tighter::Neither,
        "Share of the ring."
    ),
    key!(
        ServerDraft,
        "name",
        name,
        Kind::Name,
        Absent::Words("`host:port`"),
        Tighter::Neither,
        "Name on the ring in place of `host:port` (twemproxy's server name)."
    ),
];
