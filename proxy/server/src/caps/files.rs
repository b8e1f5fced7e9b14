//! How many open files clients may take. The rest is weir's own: whatever clients do, a lost server is dialled again and
//! `/metrics` and the control socket answer, which is when somebody looks.
//!
//! A client's descriptor counts from the moment it is accepted, so those that wait to be set up are in it too.

use crate::config::{ServiceDraft, Speaks};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir_cql::Version;
use weir_edge::UpstreamSettings;
use weir_engine::settings::{ClientSignIn, ClusterSettings, PoolSettings};

/// Open files weir needs besides its connections to clients and servers: 64 connections each of a metrics and of a
/// control socket, and 32 for listeners, event queues, process names and logs.
pub const OWN_FILES: u64 = 160;

/// Open files that the connections to servers and nodes take, each of which is there once per worker; those to nodes
/// once per protocol version as well that clients may use, and per user that may have connections of its own. Shards of nodes are not counted: who has them, has files.
#[must_use]
pub fn upstream_files(pools: &[PoolSettings], clusters: &[ClusterSettings], workers: usize) -> u64 {
    let of = |pool: &PoolSettings| pool.servers.len() as u64 * u64::from(pool.connections_per_server);
    pools.iter().map(of).sum::<u64>() * workers as u64
        + clusters.iter().map(|cluster| node_files(cluster, workers)).sum::<u64>()
}

/// Open files that the connections to the servers of services take: each listener has its own, whatever the workers are.
/// `listeners`: how many lead to a service of this name.
#[must_use]
pub fn service_files<'s>(
    services: impl Iterator<Item = &'s ServiceDraft>,
    listeners: impl Fn(&str) -> usize,
) -> u64 {
    let of = |service: &ServiceDraft| {
        let absent = match service.speaks {
            Speaks::Http2 => UpstreamSettings::http2(Vec::new()).connections,
            Speaks::Http1 => UpstreamSettings::http1(Vec::new()).connections,
        };
        let each = service.connections.map_or(absent as u64, u64::from);
        let (own, listeners) = (&service.settings, listeners(&service.settings.name) as u64);
        each * own.servers.len() as u64 * listeners
    };
    services.map(of).sum()
}

/// Open files that the connections to a cluster's nodes take at most: [`nodes_counted`] of them.
#[must_use]
pub fn node_files(cluster: &ClusterSettings, workers: usize) -> u64 {
    let versions = u64::from(cluster.newest_version.number() - Version::V3.number() + 1);
    // every user that may have connections of its own has all of them
    let own = cluster.clients == ClientSignIn::Own;
    let principals = if own { u64::from(cluster.principals_max) } else { 1 };
    // the bulk lane comes with the first request that is split
    nodes_counted(cluster)
        * (u64::from(cluster.connections_per_node) + 1)
        * versions
        * principals
        * workers as u64
}

/// How many nodes of a cluster room is kept for. What the cluster will tell is not known yet: it is as many as weir would
/// connect to.
#[must_use]
pub fn nodes_counted(cluster: &ClusterSettings) -> u64 {
    let told = if cluster.discover { u64::from(cluster.nodes_max) } else { 0 };
    told.max(cluster.contacts.len() as u64)
}

/// How the open files of a process are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What the process may have.
    pub limit: u64,
    /// What clients may take of it.
    pub clients: u64,
    /// What they leave alone.
    pub reserved: u64,
}

impl Share {
    /// Reserves [`OWN_FILES`] and the `upstream` connections, but never more than three quarters: a process that may open
    /// little serves a few clients all the same.
    #[must_use]
    pub fn of(limit: u64, upstream: u64) -> Share {
        let reserved = OWN_FILES.saturating_add(upstream).min(limit / 4 * 3);
        Share { limit, clients: limit - reserved, reserved }
    }
}

/// Counts the open files of clients, over all listeners and workers.
#[derive(Debug)]
pub struct Files {
    open: AtomicU64,
    most: AtomicU64,
}

/// One client's open file. Dropping it gives the room back.
#[derive(Debug)]
pub struct OpenFile(Arc<Files>);

impl Files {
    /// None open, and no bound yet.
    #[must_use]
    pub fn new() -> Arc<Files> {
        Arc::new(Files { open: AtomicU64::new(0), most: AtomicU64::new(u64::MAX) })
    }

    /// Clients may take so many from now on; who is in stays in.
    pub fn allow(&self, most: u64) {
        self.most.store(most, Relaxed);
    }

    /// How many more there may be. Where more than one thread accepts (listeners of services beside the others), each may
    /// take one more.
    #[must_use]
    pub fn room(&self) -> usize {
        let room = self.most.load(Relaxed).saturating_sub(self.open.load(Relaxed));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Counts one that was accepted.
    #[must_use]
    pub fn take(self: &Arc<Files>) -> OpenFile {
        self.open.fetch_add(1, Relaxed);
        OpenFile(self.clone())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::settings::Address;

    #[test]
    fn clients_get_what_weir_does_not_need() {
        assert_eq!(Share::of(20_000, 1), Share { limit: 20_000, clients: 19_839, reserved: 161 });
        assert_eq!(Share::of(64, 1), Share { limit: 64, clients: 16, reserved: 48 });
        assert_eq!(Share::of(u64::MAX, 8).reserved, 168);
        assert_eq!(Share::of(1_000, u64::MAX).clients, 250);
    }

    #[test]
    fn users_with_connections_of_their_own_take_files() {
        let contact = Address::Tcp { host: "10.0.0.1".into(), port: 9_042 };
        let mut cluster = ClusterSettings { discover: false, ..ClusterSettings::new("main", vec![contact]) };
        assert_eq!(upstream_files(&[], std::slice::from_ref(&cluster), 2), 2 * 3 * 2);
        (cluster.clients, cluster.principals_max) = (ClientSignIn::Own, 5);
        assert_eq!(upstream_files(&[], &[cluster], 2), 2 * 3 * 2 * 5);
    }

    #[test]
    fn room_is_taken_and_given_back() {
        let files = Files::new();
        let first = files.take();
        assert!(files.room() > 1_000_000, "no bound before one is set");
        files.allow(2);
        assert_eq!(files.room(), 1);
        let second = files.take();
        assert_eq!(files.room(), 0);
        files.allow(1);
        assert_eq!(files.room(), 0, "who is in stays in");
        drop((first, second));
        assert_eq!(files.room(), 1);
    }
}
