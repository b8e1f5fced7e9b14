//! Every key of `weir.toml`, section by section. The order here is the order of the reference and of the effective
//! configuration.

mod cache;
mod caller;
mod cluster;
mod listener;
mod pool;
mod process;
mod rule;
mod service;

pub use cache::CacheDraft;
pub use caller::{CALLER, CallerDraft, LIMITS};
pub use cluster::CLUSTER;
pub use listener::{LISTENER, ListenerDraft};
pub use pool::{POOL, SERVER, ServerDraft};
pub use process::{PROCESS, ProcessDraft};
pub use rule::{RULE, RuleDraft};
pub use service::{Checked, SERVICE, ServiceDraft, Speaks};

/// Pools, clusters, services, listeners and named callers one file may hold.
pub const POOLS_MAX: usize = 64;
/// See [`POOLS_MAX`].
pub const CLUSTERS_MAX: usize = 64;
/// See [`POOLS_MAX`].
pub const SERVICES_MAX: usize = 64;
/// See [`POOLS_MAX`].
pub const LISTENERS_MAX: usize = 64;
/// See [`POOLS_MAX`].
pub const CALLERS_MAX: usize = 1_024;
/// Keys of one caller's tokens.
pub const JWT_KEYS_MAX: usize = 8;
/// Servers of one pool.
pub const SERVERS_MAX: usize = 512;
/// Contacts of one cluster.
pub const CONTACTS_MAX: usize = 64;
/// Bytes of a configuration file.
pub const FILE_MAX: u64 = 4 << 20;

/// The sections besides the top level, as their headers are written.
pub const SECTIONS: &[&str] = &["pool", "cluster", "service", "listener", "callers", "undeclared"];
