//! A picture of a cluster: nodes in racks and data centers, and replicas by the token, so that a test can tell who they
//! are. What the engine asked is noted.

use crate::node::key_columns;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use weir_cql::key::{KeyType, Sharding, Token};
use weir_engine::cql::{PartitionKeyColumn, PlacedNode, Placement};
use weir_engine::settings::Address;

/// The address of node `n`; those of the bench's contacts are the first ones.
pub fn address(n: usize) -> Address {
    Address::Tcp { host: "10.0.0.1".into(), port: 9_042 + n as u16 }
}

/// Which node an address is.
pub fn number(address: &Address) -> usize {
    let Address::Tcp { port, .. } = address else { panic!("{address}") };
    usize::from(*port) - 9_042
}

/// Node `n`, in `dc/rack`.
pub fn node(n: usize, place: &str) -> PlacedNode {
    let (dc, rack) = place.split_once('/').expect("dc/rack");
    PlacedNode {
        address: address(n),
        host_id: [n as u8; 16],
        data_center: dc.into(),
        rack: rack.into(),
        is_up: true,
        sharding: None,
        shard_aware_port: None,
    }
}

/// The same with shards.
pub fn sharded(n: usize, place: &str, shards: u16) -> PlacedNode {
    let shards = NonZeroU16::new(shards).expect("shards");
    PlacedNode {
        sharding: Some(Sharding { shards, ignore_msb: 12 }),
        shard_aware_port: Some(19_042),
        ..node(n, place)
    }
}

#[derive(Debug)]
pub struct Map {
    pub nodes: Vec<PlacedNode>,
    /// How many of the nodes hold each token: those from `token % nodes` on.
    pub copies: usize,
    /// The shard that tablets tell.
    pub tablet: Option<u32>,
    /// Keyspace whose tables are known.
    pub keyspace: &'static str,
    pub first_contact: Option<usize>,
    /// Keyspace, table and token of every look.
    pub asked: Mutex<Vec<(String, i64)>>,
    keys: [Vec<PartitionKeyColumn>; 2],
}

impl Map {
    pub fn of(nodes: Vec<PlacedNode>, copies: usize) -> Map {
        let columns = |table, kind: Option<KeyType>| {
            let column = |name: &&str| PartitionKeyColumn { name: (*name).into(), kind };
            key_columns(table).iter().map(column).collect()
        };
        let keys = [columns("t", Some(KeyType::Int)), columns("trio", Some(KeyType::Int))];
        let asked = Mutex::default();
        Map { nodes, copies, tablet: None, keyspace: "shop", first_contact: None, asked, keys }
    }

    /// Keys are of this type.
    pub fn typed(mut self, kind: Option<KeyType>) -> Map {
        self.keys.iter_mut().flatten().for_each(|column| column.kind = kind);
        self
    }

    pub fn shared(self) -> Arc<Map> {
        Arc::new(self)
    }

    /// The replicas of a token, primary first.
    pub fn holders(&self, token: Token) -> Vec<usize> {
        let first = token.value().rem_euclid(self.nodes.len() as i64) as usize;
        (0..self.copies).map(|step| (first + step) % self.nodes.len()).collect()
    }

    pub fn take_asked(&self) -> Vec<(String, i64)> {
        std::mem::take(&mut self.asked.lock().expect("not poisoned"))
    }
}

impl Placement for Map {
    fn nodes(&self) -> &[PlacedNode] {
        &self.nodes
    }

    fn replicas(&self, keyspace: &str, table: &str, token: Token, visit: &mut dyn FnMut(usize, Option<u32>)) {
        self.asked.lock().expect("not poisoned").push((format!("{keyspace}.{table}"), token.value()));
        if keyspace == self.keyspace {
            self.holders(token).into_iter().for_each(|holder| visit(holder, self.tablet));
        }
    }

    fn partition_key(&self, keyspace: &str, table: &str) -> Option<&[PartitionKeyColumn]> {
        let key = &self.keys[usize::from(table == "trio")];
        (keyspace == self.keyspace).then_some(key)
    }

    fn first_contact(&self) -> Option<usize> {
        self.first_contact
    }
}
