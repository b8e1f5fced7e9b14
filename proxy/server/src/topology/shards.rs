//! How nodes divide tokens among their shards: Scylla tells it in the answer to OPTIONS, Cassandra tells nothing.
//!
//! The driver knows it only of nodes it has data connections to, and here it has none. So each new node is asked once, on
//! a connection (with TLS where the cluster has it) that is closed after the answer. A node of Cassandra settles it for its cluster: the others are not asked.
//!
//! Bounds: [`ASKED_AT_ONCE`] nodes at a time, `connect_timeout` for each.

use crate::tls::ClientSide;
use crate::upstream::cql::supported;
use scylla::cluster::{ClusterState, Node};
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use tokio::task::JoinSet;
use weir_cql::key::Sharding;
use weir_engine::settings::Address;
use weir_engine::units::Span;

/// Nodes asked at the same time.
const ASKED_AT_ONCE: usize = 8;

/// What one node told.
type Told = (Option<Sharding>, Option<u16>);

/// What nodes told so far.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// By `host_id` and address: a node that has moved is asked again.
    told: HashMap<([u8; 16], Box<str>), Told>,
    /// The cluster's nodes have no shards.
    none: bool,
}

impl Shards {
    /// What this node told; nothing where it was not reached.
    pub(super) fn of(&self, node: &Node) -> Told {
        self.told.get(&key(node)).copied().unwrap_or_default()
    }

    /// Asks the nodes that have not answered yet; whether any of them told something new.
    pub(super) async fn ask(
        &mut self,
        state: &ClusterState,
        tls: Option<&ClientSide>,
        timeout: Span,
    ) -> bool {
        let nodes = state.get_nodes_info();
        self.told.retain(|known, _| nodes.iter().any(|node| key(node) == *known));
        let mut new: Vec<&Arc<Node>> = Vec::new();
        if !self.none {
            new.extend(nodes.iter().filter(|node| !self.told.contains_key(&key(node))));
        }
        let mut changed = false;
        // One alone first: that of a Cassandra cluster speaks for all.
        let (first, rest) = new.split_at(new.len().min(1));
        for group in std::iter::once(first).chain(rest.chunks(ASKED_AT_ONCE)) {
            if self.none {
                break;
            }
            let mut asked = JoinSet::new();
            for node in group {
                let (key, address, tls) = (key(node), address(node), tls.cloned());
                asked.spawn(async move { (key, supported(&address, tls.as_ref(), timeout).await) });
            }
            while let Some(answer) = asked.join_next().await {
                let Ok((key, Ok(options))) = answer else { continue };
                let told = read(&options, tls.is_some());
                self.none = told.0.is_none();
                changed |= told.0.is_some();
                self.told.insert(key, told);
            }
        }
        changed
    }
}

fn key(node: &Node) -> ([u8; 16], Box<str>) {
    (*node.host_id.as_bytes(), node.address.to_string().into())
}

fn address(node: &Node) -> Address {
    Address::Tcp { host: node.address.ip().to_string().into(), port: node.address.port() }
}

/// Scylla's options; nothing where one of those that belong together is missing or is no number.
fn read(options: &[(String, String)], tls: bool) -> Told {
    let option = |wanted: &str| options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let shards = option("SCYLLA_NR_SHARDS").and_then(|value| value.parse::<NonZeroU16>().ok());
    let ignore = option("SCYLLA_SHARDING_IGNORE_MSB").and_then(|value| value.parse::<u8>().ok());
    let algorithm =
        option("SCYLLA_SHARDING_ALGORITHM").is_some_and(|value| value == "biased-token-round-robin");
    let sharding = shards.zip(ignore).filter(|(_, ignore)| algorithm && *ignore < 64);
    let sharding = sharding.map(|(shards, ignore_msb)| Sharding { shards, ignore_msb });
    let port = if tls { "SCYLLA_SHARD_AWARE_PORT_SSL" } else { "SCYLLA_SHARD_AWARE_PORT" };
    let port = option(port).and_then(|value| value.parse::<u16>().ok());
    (sharding, sharding.and(port).filter(|port| *port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn scylla_tells_its_shards_and_cassandra_nothing() {
        let scylla = [
            ("SCYLLA_NR_SHARDS", "12"),
            ("SCYLLA_SHARDING_IGNORE_MSB", "12"),
            ("SCYLLA_SHARDING_ALGORITHM", "biased-token-round-robin"),
            ("SCYLLA_SHARD_AWARE_PORT", "19042"),
            ("SCYLLA_SHARD_AWARE_PORT_SSL", "19142"),
        ];
        let read = |options: &[(String, String)]| read(options, false);
        let sharding = Sharding { shards: NonZeroU16::new(12).expect("not zero"), ignore_msb: 12 };
        assert_eq!(read(&options(&scylla)), (Some(sharding), Some(19_042)));
        assert_eq!(super::read(&options(&scylla), true), (Some(sharding), Some(19_142)));
        assert_eq!(super::read(&options(&scylla[..4]), true), (Some(sharding), None));
        assert_eq!(read(&options(&scylla[..3])), (Some(sharding), None));
        assert_eq!(read(&options(&[("CQL_VERSION", "3.4.7")])), (None, None));
        for (place, hostile) in [(0, "0"), (0, "-1"), (0, "70000"), (1, "64"), (1, ""), (2, "another")] {
            let mut changed = scylla;
            changed[place].1 = hostile;
            assert_eq!(read(&options(&changed)), (None, None), "{hostile}");
        }
    }
}
