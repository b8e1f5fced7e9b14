//! What an operator is shown: how servers, lanes and queues stand right now.

use crate::caller::Identity;
use crate::engine::Engine;
use crate::multiplex::LaneState;
use crate::settings::Backend;
use crate::units::{Bytes, Instant, Operations, Span};
use std::sync::Arc;

/// One worker at one moment.
#[derive(Clone, Debug)]
pub struct EngineSnapshot {
    /// Servers of all pools.
    pub servers: Vec<ServerSnapshot>,
    /// Identities that have connections, or something that waits.
    pub callers: Vec<CallerSnapshot>,
    /// Client connections.
    pub clients: usize,
    /// Connections whose requests are not booked yet, because their name is awaited.
    pub held_accounts: usize,
    /// Reply bytes clients have not taken.
    pub reply_bytes: usize,
    /// Memory held for request bytes not yet carried out.
    pub input_bytes: usize,
    /// Replies that did not fit the question, since the start.
    pub desyncs: u64,
    /// Reads asked again after a lost connection, since the start.
    pub retries: u64,
}

/// One identity.
#[derive(Clone, Debug)]
pub struct CallerSnapshot {
    /// Who.
    pub identity: Arc<Identity>,
    /// Operations under way of its whole budget, over all workers.
    pub operations: Operations,
    /// Estimated reply bytes under way of its whole budget, over all workers.
    pub bytes: Bytes,
    /// Operations that wait in this worker's queues. The sum over the callers is the sum over the servers,
    /// and the parts of split CQL requests.
    pub queued: Operations,
    /// Connections to this worker.
    pub clients: u32,
}

/// One server.
#[derive(Clone, Debug)]
pub struct ServerSnapshot {
    /// Its pool or cluster.
    pub backend: Backend,
    /// `host:port` or `unix:/path`.
    pub name: Arc<str>,
    /// Its number among the nodes that its worker ever had ([`crate::ledger::SentTo`]); 0 for a server of a pool.
    pub serial: u32,
    /// Where it is, as far as its cluster tells.
    pub place: Option<ServerPlace>,
    /// Its connections.
    pub lanes: Vec<LaneSnapshot>,
    /// Operations under way.
    pub operations: Operations,
    /// Estimated reply bytes under way.
    pub bytes: Bytes,
    /// Keys of parts of split multigets and requests under way.
    pub bulk_keys: Operations,
    /// Clients waiting for their turn. Parts of split CQL requests wait for their cluster, not here
    /// ([`crate::cql::ClusterCounts`]).
    pub waiting: usize,
    /// Operations those wait with: keys that were not passed on.
    pub queued: Operations,
    /// How long the first of them has waited (at most).
    pub oldest_wait: Span,
    /// Operations passed on since the start.
    pub operations_total: u64,
}

/// Where a node of a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlace {
    /// Its data center.
    pub data_center: Arc<str>,
    /// Its rack, a name within the data center.
    pub rack: Arc<str>,
    /// How many shards it has; `None` for a node without.
    pub shards: Option<u16>,
}

/// One connection to a server.
#[derive(Clone, Copy, Debug)]
pub struct LaneSnapshot {
    /// How it stands.
    pub state: LaneState,
    /// It carries only parts of split requests (CQL).
    pub bulk: bool,
    /// Commands without their reply.
    pub owed: usize,
    /// Bytes not yet written.
    pub unsent: usize,
}

impl Engine {
    /// How this worker stands.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> EngineSnapshot {
        let current =
            |index: usize| self.pools.iter().any(|pool| pool.servers.iter().any(|s| s.0 as usize == index));
        let servers = self.servers.iter().enumerate().filter(|(index, _)| current(*index));
        let servers = servers.map(|(_, server)| {
            let lanes = server.lanes.iter().map(|id| &self.lanes[id.0 as usize]);
            let oldest = server.small.oldest().into_iter().chain(server.bulk.oldest()).min();
            ServerSnapshot {
                backend: Backend::Pool(server.pool),
                name: server.name.clone(),
                serial: 0,
                place: None,
                lanes: lanes
                    .map(|lane| LaneSnapshot {
                        state: lane.state,
                        bulk: false,
                        owed: lane.owed.len(),
                        unsent: lane.out.len(),
                    })
                    .collect(),
                operations: Operations(server.in_flight.operations),
                bytes: Bytes(server.in_flight.bytes),
                bulk_keys: Operations(server.in_flight.bulk),
                waiting: server.small.len() + server.bulk.len(),
                queued: Operations(server.queued()),
                oldest_wait: oldest.map_or(Span(0), |since| now.since(since)),
                operations_total: server.backend_operations,
            }
        });
        EngineSnapshot {
            servers: servers.collect(),
            callers: self
                .callers
                .known
                .iter()
                .filter(|known| known.clients > 0 || known.queued > 0)
                .map(|known| CallerSnapshot {
                    identity: known.identity.clone(),
                    operations: known.state.operations_in_flight(),
                    bytes: known.state.bytes_in_flight(),
                    queued: Operations(known.queued),
                    clients: known.clients,
                })
                .collect(),
            clients: self.clients.len() - self.free.len(),
            held_accounts: self.ledger.held().len(),
            reply_bytes: self.reply_bytes,
            input_bytes: self.input_bytes,
            desyncs: self.desyncs,
            retries: self.retries,
        }
    }
}
