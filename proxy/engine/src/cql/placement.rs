//! Where the data of a cluster lies: what the control plane (which alone speaks to the cluster about itself) tells the
//! data path.
//!
//! A [`Placement`] is a picture taken at one moment. It is handed over whole, is never changed afterwards, and stays in
//! force until the next one comes: when the control plane loses the cluster, requests go on as they were.

use crate::settings::Address;
use std::fmt::Debug;
use std::sync::Arc;
use weir_cql::key::{KeyType, Sharding, Token};

/// One node of a cluster, as its own tables tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedNode {
    /// Where it speaks CQL: an IP address and the port that is not aware of shards. Nodes are known by it.
    pub address: Address,
    /// Its `host_id`, the 16 bytes of the UUID.
    pub host_id: [u8; 16],
    /// Its data center.
    pub data_center: Arc<str>,
    /// Its rack, a name within the data center.
    pub rack: Arc<str>,
    /// Other nodes think that it is up. A connection of weir's own that works is believed more.
    pub is_up: bool,
    /// How it divides tokens among its shards; `None` for Cassandra, which has none.
    pub sharding: Option<Sharding>,
    /// The port on which the source port of a connection chooses the shard (`SCYLLA_SHARD_AWARE_PORT`).
    pub shard_aware_port: Option<u16>,
}

/// One column of a table's partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionKeyColumn {
    /// As the server names it: without quotes, lower case unless it was created in quotes.
    pub name: Box<str>,
    /// Its type. `None` for one of which literals are not read (tuples, user types, collections); bound values are
    /// hashed as they are.
    pub kind: Option<KeyType>,
}

/// Where the data of a cluster lies, as the control plane last saw it. Immutable; replaced whole.
///
/// Called on the data path: nothing here may block, and [`Placement::replicas`] is called for every request that has a
/// token.
pub trait Placement: Send + Sync + Debug {
    /// Every node, in any order; it may differ from picture to picture. Empty while nothing is known: such a picture is
    /// not put in force.
    fn nodes(&self) -> &[PlacedNode];

    /// Calls `visit(index into nodes, shard)` for each replica of the token, primary first, those of all data centers
    /// among them. The shard is the one of that node, where the table's own placement (tablets) tells it; `None` leaves
    /// it to the node's [`Sharding`].
    ///
    /// Visits nobody when the keyspace or table is unknown, or when the table's partitioner is not Murmur3.
    fn replicas(&self, keyspace: &str, table: &str, token: Token, visit: &mut dyn FnMut(usize, Option<u32>));

    /// The columns of a table's partition key, in order. `None` when the table is unknown or its partitioner is not
    /// Murmur3.
    fn partition_key(&self, keyspace: &str, table: &str) -> Option<&[PartitionKeyColumn]>;

    /// Index into [`Placement::nodes`] of the contact that answered first since weir started: its data center is the
    /// local one of a cluster that names none. `None`: that of the first node whose address is a contact's.
    fn first_contact(&self) -> Option<usize> {
        None
    }
}
