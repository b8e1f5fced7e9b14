//! A [`Placement`] over what the driver knows of a cluster.
//!
//! Nodes and the columns of partition keys are written out once, when the driver's view has changed. Replicas are looked
//! up in the driver's own table, which holds the answer for each range of tokens and replication strategy: a look-up
//! allocates nothing.

use scylla::cluster::metadata::{ColumnType, Keyspace, NativeType, Strategy, Table};
use scylla::cluster::{ClusterState, Node};
use scylla::frame::response::result::TableSpec;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use weir_cql::key::{KeyType, Token};
use weir_engine::cql::{PartitionKeyColumn, PlacedNode, Placement};
use weir_engine::settings::Address;

use super::shards::Shards;

/// The only partitioner whose tokens weir computes.
const MURMUR3: &str = "Murmur3Partitioner";

/// The columns of tables' partition keys, by keyspace and table.
type Keys = HashMap<Box<str>, HashMap<Box<str>, Box<[PartitionKeyColumn]>>>;

/// What the driver knew at one moment.
pub(super) struct Picture {
    state: Arc<ClusterState>,
    nodes: Vec<PlacedNode>,
    /// By `host_id`.
    places: HashMap<[u8; 16], usize>,
    keys: Keys,
    first_contact: Option<usize>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Picture {
    /// Nodes that other machines cannot dial (`rpc_address` 0.0.0.0) are left out. `contacts` are the addresses of the
    /// contacts, in the order of the configuration.
    pub(super) fn new(state: Arc<ClusterState>, shards: &Shards, contacts: &[IpAddr]) -> Picture {
        let mut known: Vec<&Arc<Node>> =
            state.get_nodes_info().iter().filter(|node| !node.address.ip().is_unspecified()).collect();
        // The driver's order is that of a hash table.
        known.sort_by_key(|node| (node.address.ip(), node.address.port()));
        let nodes: Vec<PlacedNode> = known.into_iter().map(|node| placed(node, shards)).collect();
        let places = nodes.iter().enumerate().map(|(place, node)| (node.host_id, place)).collect();
        let first_contact = contacts.iter().find_map(|contact| {
            let ip = contact.to_string();
            nodes.iter().position(|node| matches!(&node.address, Address::Tcp { host, .. } if **host == *ip))
        });
        let keyspaces = state.keyspaces_iter();
        let keys = keyspaces.map(|(name, keyspace)| (name.into(), partition_keys(keyspace))).collect();
        Picture { state, nodes, places, keys, first_contact }
    }
}

impl Placement for Picture {
    fn nodes(&self) -> &[PlacedNode] {
        &self.nodes
    }

    fn replicas(&self, keyspace: &str, table: &str, token: Token, visit: &mut dyn FnMut(usize, Option<u32>)) {
        let Some(known) = self.state.get_keyspace(keyspace) else { return };
        // The driver learns tablets on data connections, and here it has none: what it would say of such a table is where the
        // ring would put it, which is not where it is, and shard 0.
        if known.tablet_based || !is_placed(&known.strategy) || !find(known, table).is_some_and(is_murmur3) {
            return;
        }
        let table = TableSpec::borrowed(keyspace, table);
        let token = scylla::routing::Token::new(token.value());
        let replicas = self.state.replica_locator().replicas_for_token(token, &known.strategy, None, &table);
        for (node, _) in replicas {
            if let Some(place) = self.places.get(node.host_id.as_bytes()) {
                visit(*place, None);
            }
        }
    }

    fn partition_key(&self, keyspace: &str, table: &str) -> Option<&[PartitionKeyColumn]> {
        self.keys.get(keyspace)?.get(table).map(AsRef::as_ref)
    }

    fn first_contact(&self) -> Option<usize> {
        self.first_contact
    }
}

/// The addresses a picture's nodes listen at, to find the cluster again when no contact answers.
pub(super) fn addresses(picture: &dyn Placement) -> Vec<std::net::SocketAddr> {
    let of = |node: &PlacedNode| match &node.address {
        Address::Tcp { host, port } => Some(std::net::SocketAddr::new(host.parse().ok()?, *port)),
        _ => None,
    };
    picture.nodes().iter().filter_map(of).collect()
}

fn placed(node: &Node, shards: &Shards) -> PlacedNode {
    let (sharding, shard_aware_port) = shards.of(node);
    PlacedNode {
        address: Address::Tcp { host: node.address.ip().to_string().into(), port: node.address.port() },
        host_id: *node.host_id.as_bytes(),
        data_center: node.datacenter.as_deref().unwrap_or_default().into(),
        rack: node.rack.as_deref().unwrap_or_default().into(),
        // Without connections of its own the driver does not follow whether nodes are up; weir's own connections tell.
        is_up: true,
        sharding,
        shard_aware_port,
    }
}

/// Whether the strategy says which nodes have what: under the others every node has its own data, or nobody knows.
fn is_placed(strategy: &Strategy) -> bool {
    matches!(strategy, Strategy::SimpleStrategy { .. } | Strategy::NetworkTopologyStrategy { .. })
}

/// A view is a table of its own.
fn find<'k>(keyspace: &'k Keyspace, table: &str) -> Option<&'k Table> {
    let view = || keyspace.views.get(table).map(|view| &view.view_metadata);
    keyspace.tables.get(table).or_else(view)
}

/// Tables that name no partitioner (all of Cassandra's) have the cluster's.
fn is_murmur3(table: &Table) -> bool {
    table.partitioner.as_deref().is_none_or(|name| name.ends_with(MURMUR3))
}

fn partition_keys(keyspace: &Keyspace) -> HashMap<Box<str>, Box<[PartitionKeyColumn]>> {
    let views = keyspace.views.iter().map(|(name, view)| (name, &view.view_metadata));
    let tables = keyspace.tables.iter().chain(views).filter(|(_, table)| is_murmur3(table));
    // Without columns (see `driver::Schema`) the key is not known.
    let known = tables.filter(|(_, table)| !table.partition_key.is_empty());
    known.map(|(name, table)| (name.as_str().into(), partition_key(table))).collect()
}

fn partition_key(table: &Table) -> Box<[PartitionKeyColumn]> {
    let column = |name: &String| PartitionKeyColumn {
        name: name.as_str().into(),
        kind: table.columns.get(name).and_then(|column| key_type(&column.typ)),
    };
    table.partition_key.iter().map(column).collect()
}

fn key_type(column: &ColumnType<'_>) -> Option<KeyType> {
    let ColumnType::Native(native) = column else { return None };
    Some(match native {
        NativeType::Ascii => KeyType::Ascii,
        NativeType::Boolean => KeyType::Boolean,
        NativeType::Blob => KeyType::Blob,
        NativeType::Date => KeyType::Date,
        NativeType::Decimal => KeyType::Decimal,
        NativeType::Double => KeyType::Double,
        NativeType::Float => KeyType::Float,
        NativeType::Int => KeyType::Int,
        NativeType::BigInt => KeyType::Bigint,
        NativeType::Text => KeyType::Text,
        NativeType::Timestamp => KeyType::Timestamp,
        NativeType::Inet => KeyType::Inet,
        NativeType::SmallInt => KeyType::Smallint,
        NativeType::TinyInt => KeyType::Tinyint,
        NativeType::Time => KeyType::Time,
        NativeType::Timeuuid => KeyType::Timeuuid,
        NativeType::Uuid => KeyType::Uuid,
        NativeType::Varint => KeyType::Varint,
        _ => return None,
    })
}
