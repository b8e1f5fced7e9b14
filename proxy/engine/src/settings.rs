//! What an operator may choose, already checked: no impossible value is left. Each field is a bound or a switch with a
//! config key of the same name (docs/configuration.md); the defaults here are the ones the reference documents.

use crate::units::{Bytes, ClusterId, ListenerId, Operations, PoolId, ServiceId, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything one process is told about its data path.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Pools, addressed by [`PoolId`].
    pub pools: Vec<PoolSettings>,
    /// Clusters, addressed by [`ClusterId`].
    pub clusters: Vec<ClusterSettings>,
    /// Services, addressed by [`ServiceId`].
    pub services: Vec<ServiceSettings>,
    /// Listeners, addressed by [`ListenerId`].
    pub listeners: Vec<ListenerSettings>,
    /// Limits of callers that the file names.
    pub callers: BTreeMap<Arc<str>, CallerLimits>,
    /// Limits of everybody else.
    pub undeclared: CallerLimits,
    /// Names in `callers` that an operator limited over the control socket: they apply to whoever bears the name,
    /// whether the listener trusts names or not.
    pub operator_callers: BTreeSet<Arc<str>>,
    /// Unread reply bytes of all clients of one worker; above it no further reads start and slow readers are closed.
    pub reply_bytes_max: Bytes,
    /// Memory for request bytes not yet carried out, of all clients of one worker; above it large senders are not read.
    pub input_bytes_max: Bytes,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            pools: Vec::new(),
            clusters: Vec::new(),
            services: Vec::new(),
            listeners: Vec::new(),
            callers: BTreeMap::new(),
            undeclared: CallerLimits::default(),
            operator_callers: BTreeSet::new(),
            reply_bytes_max: Bytes(64 << 20),
            input_bytes_max: Bytes(64 << 20),
        }
    }
}

/// What is behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// memcached servers.
    Pool(PoolId),
    /// Nodes that speak CQL.
    Cluster(ClusterId),
    /// Servers that answer calls (gRPC, Connect, HTTP).
    Service(ServiceId),
}

impl Backend {
    /// The pool, where it is one.
    #[must_use]
    pub fn pool(self) -> Option<PoolId> {
        match self {
            Backend::Pool(pool) => Some(pool),
            Backend::Cluster(_) | Backend::Service(_) => None,
        }
    }

    /// The cluster, where it is one.
    #[must_use]
    pub fn cluster(self) -> Option<ClusterId> {
        match self {
            Backend::Pool(_) | Backend::Service(_) => None,
            Backend::Cluster(cluster) => Some(cluster),
        }
    }
}

impl Settings {
    /// The name of a pool, cluster or service; `?` where there is none.
    #[must_use]
    pub fn backend_name(&self, backend: Backend) -> Arc<str> {
        let name = match backend {
            Backend::Pool(pool) => self.pools.get(pool.0 as usize).map(|pool| pool.name.clone()),
            Backend::Cluster(cluster) => {
                self.clusters.get(cluster.0 as usize).map(|cluster| cluster.name.clone())
            }
            Backend::Service(service) => {
                self.services.get(service.0 as usize).map(|service| service.name.clone())
            }
        };
        name.unwrap_or_else(|| "?".into())
    }

    /// The pool behind a listener; `None` when something else is.
    #[must_use]
    pub fn pool_of(&self, listener: ListenerId) -> Option<PoolId> {
        self.listeners[listener.0 as usize].backend.pool()
    }
}

/// A set of memcached servers behind one ring.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    /// Label value and config key.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<ServerSettings>,
    /// How keys map to servers.
    pub ring: RingDialect,
    /// Connections per server and worker (fixed; whatever the clients do). 1..=64.
    pub connections_per_server: u32,
    /// Keys of one sub-batch of a split multiget. 1..=1024.
    pub chunk_keys: u32,
    /// Keys of split multigets in flight per server, over all callers. At least `chunk_keys`.
    pub bulk_keys_in_flight: Operations,
    /// Operations in flight per server, over all callers, small requests included.
    pub operations_in_flight: Operations,
    /// Estimated reply bytes in flight per server, over all callers.
    pub bytes_in_flight: Bytes,
    /// Split multigets larger than `chunk_keys`.
    pub split: bool,
    /// Send single gets of one loop turn as one multi-key `get`.
    pub batching: bool,
    /// Keys of one such batch. 2..=256.
    pub batch_keys: u32,
    /// Fetch identical keys of one batch once (same principal only, never after the bytes were written).
    pub single_flight: bool,
    /// What `flush_all` does.
    pub flush_all: FlushPolicy,
    /// TCP/Unix connect (and authentication) must end within this time.
    pub connect_timeout: Span,
    /// A request without its whole reply after this time is answered with an error; its slot is kept.
    pub request_timeout: Span,
    /// A connection that owes a reply and delivers no byte for this time is cut.
    pub stall_timeout: Span,
    /// A request that waited this long in a queue of weir is refused.
    pub queue_timeout: Span,
    /// First wait before reconnecting; doubles up to `reconnect_max`, with jitter.
    pub reconnect_min: Span,
    /// Longest wait before reconnecting.
    pub reconnect_max: Span,
    /// Retries of reads that a lost connection may cost, in percent of requests (a budget, not a promise).
    pub retry_percent: u32,
    /// File with `user password` for servers started with `-Y` (ASCII authentication); never logged.
    pub auth_file: Option<Arc<str>>,
}

impl PoolSettings {
    /// A pool of these servers with every default.
    #[must_use]
    pub fn new(name: &str, servers: Vec<ServerSettings>) -> PoolSettings {
        PoolSettings {
            name: name.into(),
            servers,
            ring: RingDialect::LibmemcachedWeighted,
            connections_per_server: 1,
            chunk_keys: 128,
            bulk_keys_in_flight: Operations(256),
            operations_in_flight: Operations(1024),
            bytes_in_flight: Bytes(8 << 20),
            split: true,
            batching: true,
            batch_keys: 64,
            single_flight: true,
            flush_all: FlushPolicy::Refuse,
            connect_timeout: Span::secs(1),
            request_timeout: Span::secs(2),
            stall_timeout: Span::secs(3),
            queue_timeout: Span::secs(5),
            reconnect_min: Span::millis(50),
            reconnect_max: Span::secs(2),
            retry_percent: 10,
            auth_file: None,
        }
    }
}

mod cluster;
mod rule;
mod service;
mod shard_ports;

pub use cluster::{ClientSignIn, ClusterSettings, RateRefusal, TlsVerify, UpstreamTls};
pub use rule::{RULES_MAX, Rule, SplitChoice, Subject};
pub use service::ServiceSettings;
pub use shard_ports::ShardPorts;

/// One memcached server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens.
    pub address: Address,
    /// Share of the ring, 1..=100000.
    pub weight: u32,
    /// Name used on the ring in place of `host:port` (twemproxy's server name).
    pub name: Option<Arc<str>>,
}

/// A place to listen at or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// `host:port`; the host may be a name, resolved when connecting.
    Tcp {
        /// Host name or IP address, without brackets.
        host: Arc<str>,
        /// TCP port.
        port: u16,
    },
    /// `unix:/path`.
    Unix {
        /// Path of the socket.
        path: Arc<str>,
    },
}

impl From<SocketAddr> for Address {
    fn from(at: SocketAddr) -> Address {
        Address::Tcp { host: at.ip().to_string().into(), port: at.port() }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// Which implementation's key-to-server map is reproduced exactly. Naming the wrong one empties the cache in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RingDialect {
    /// libmemcached KETAMA_WEIGHTED; the same map as twemproxy with `hash: md5`.
    #[default]
    LibmemcachedWeighted,
    /// libmemcached KETAMA (100 one-at-a-time points per server, or the MD5 ring once a weight is above 1).
    Libmemcached,
    /// twemproxy `distribution: ketama`, `hash: md5`.
    TwemproxyMd5,
    /// twemproxy `distribution: ketama` with its default hash, fnv1a_64.
    TwemproxyFnv1a64,
}

/// What weir does with `flush_all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Send it to every server of the pool.
    Allow,
    /// Answer `SERVER_ERROR` and send nothing.
    Refuse,
    /// Delete only the keys that start with this prefix.
    Prefix(Arc<str>),
}

/// One door for clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSettings {
    /// Label value, config key, and the caller name of clients nothing better is known about.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// What its clients reach.
    pub backend: Backend,
    /// Bytes of one command line.
    pub line_max: usize,
    /// Bytes of one value.
    pub value_max: usize,
    /// Unread reply bytes of one client above which weir asks for nothing more on its behalf.
    pub reply_buffer: usize,
    /// Unread reply bytes of one client above which it is closed as a slow reader once it stops reading.
    pub reply_buffer_max: usize,
    /// A client that owes a read and takes no byte for this time is closed.
    pub slow_reader_timeout: Span,
    /// A client that sends nothing for this time is closed. Zero: never.
    pub idle_timeout: Span,
    /// Connections at once.
    pub max_connections: u32,
    /// Connections at once of one principal.
    pub max_connections_per_principal: u32,
    /// Names (process names, here) that may select a limit of their own; other names only refine labels.
    pub trusted_names: Vec<Arc<str>>,
    /// Principals whose word is taken for which request a command is a part of ([`crate::correlate`]); nobody else's is
    /// looked for.
    pub trusted_request_ids: Vec<Arc<str>>,
    /// Another weir in front of the same cluster, which drivers are shown as a second node (CQL).
    pub second_weir: Option<SocketAddr>,
    /// What an operator switched off for this listener for a while (`weir switch`).
    pub switches: Switches,
}

/// Features that can be switched off per listener while weir runs. A feature is on when its pool and its switch say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Splitting of big multigets.
    pub split: bool,
    /// Implicit batching of single gets.
    pub batching: bool,
    /// Joining identical reads.
    pub single_flight: bool,
    /// Caller limits (off: nothing is refused or paced; everything is still counted).
    pub limits: bool,
}

impl Default for Switches {
    fn default() -> Switches {
        Switches { split: true, batching: true, single_flight: true, limits: true }
    }
}

impl ListenerSettings {
    /// A listener with every default.
    #[must_use]
    pub fn new(name: &str, address: Address, backend: Backend) -> ListenerSettings {
        ListenerSettings {
            name: name.into(),
            address,
            backend,
            line_max: 8 << 20,
            value_max: 1 << 20,
            reply_buffer: 256 << 10,
            reply_buffer_max: 16 << 20,
            slow_reader_timeout: Span::secs(30),
            idle_timeout: Span::secs(0),
            max_connections: 20_000,
            max_connections_per_principal: 20_000,
            trusted_names: Vec::new(),
            trusted_request_ids: Vec::new(),
            second_weir: None,
            switches: Switches::default(),
        }
    }
}

/// What happens above a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum LimitMode {
    /// Let it pass; count what would have been refused.
    #[default]
    Observe,
    /// Wait (at most `pace_max_wait`), then refuse. A size ceiling cannot be waited out: it refuses.
    Pace,
    /// Refuse with an error that names the limit, the ask and the ceiling.
    Refuse,
}

/// Who goes first under pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum CallerClass {
    /// Somebody is waiting for the answer.
    #[default]
    Interactive,
    /// Back-fills and importers: paused first.
    Batch,
}

/// The limits of one caller. `None` is "no limit of this kind".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Operations one request may ask for.
    pub operations_per_request: Option<Operations>,
    /// Operations per second, over all connections of the caller in this process.
    pub operations_per_second: Option<Operations>,
    /// Operations that may be taken at once above the steady rate; default: one second's worth.
    pub burst: Option<Operations>,
    /// Operations under way at once.
    pub operations_in_flight: Option<Operations>,
    /// Estimated reply bytes under way at once.
    pub bytes_in_flight: Option<Bytes>,
    /// What happens above them.
    pub mode: LimitMode,
    /// Who goes first.
    pub class: CallerClass,
    /// The longest a request is paced.
    pub pace_max_wait: Span,
}

impl Default for CallerLimits {
    /// Undeclared callers: 2,000 operations per request, observed only (timelines ask for 263 keys, threads for up to
    /// 1,000).
    fn default() -> CallerLimits {
        CallerLimits {
            operations_per_request: Some(Operations(2_000)),
            operations_per_second: None,
            burst: None,
            operations_in_flight: None,
            bytes_in_flight: None,
            mode: LimitMode::Observe,
            class: CallerClass::Interactive,
            pace_max_wait: Span::millis(250),
        }
    }
}
