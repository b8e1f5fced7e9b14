//! Source ports of connections that ask for a shard.

use std::num::NonZeroU16;

/// A range of source ports, both ends included. A node that tells shards gives a connection to its shard-aware port the
/// shard `source port % shards`, so each connection to a shard needs a free port of its residue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardPorts {
    /// The lowest port.
    pub first: u16,
    /// The highest port, at least `first`.
    pub last: u16,
}

impl ShardPorts {
    /// The ports that lead to this shard of so many, in ascending order.
    pub fn of_shard(self, shard: u16, shards: NonZeroU16) -> impl Iterator<Item = u16> + Clone {
        let (shards, shard) = (u32::from(shards.get()), u32::from(shard));
        let first = u32::from(self.first);
        let start = first + (shard + shards - first % shards) % shards;
        let last = u32::from(self.last);
        (start..=last).step_by(shards as usize).map(|port| port as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_leads_to_one_shard() {
        let ports = ShardPorts { first: 49_152, last: 65_535 };
        for shards in [1, 2, 7, 64, 1_000] {
            let shards = NonZeroU16::new(shards).unwrap();
            let mut all: Vec<u16> = Vec::new();
            for shard in 0..shards.get() {
                let of_shard: Vec<u16> = ports.of_shard(shard, shards).collect();
                assert!(of_shard.iter().all(|port| port % shards.get() == shard), "{shard} of {shards}");
                all.extend(of_shard);
            }
            all.sort_unstable();
            assert!(all.into_iter().eq(ports.first..=ports.last));
        }
        let one = ShardPorts { first: 65_535, last: 65_535 };
        assert_eq!(one.of_shard(0, NonZeroU16::new(2).unwrap()).count(), 0);
    }
}
