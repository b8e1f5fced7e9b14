//! Which server of a pool a key belongs to: the rings of libmemcached and twemproxy, point for point.
//!
//! A client that moves behind weir must find its keys where it left them, so each dialect reproduces one
//! implementation's map exactly, odd arithmetic included (`tests/ketama_vectors.rs` compares with what those programs
//! answered). The dialects share nothing: naming the wrong one empties the cache in effect.
//!
//! | dialect | points of a server | hash of a key |
//! |---|---|---|
//! | libmemcached KETAMA_WEIGHTED, twemproxy md5 | MD5 ring: about 160, by weight | first word of MD5 |
//! | libmemcached KETAMA, every weight 1 | 100, one-at-a-time | one-at-a-time |
//! | libmemcached KETAMA, any weight above 1 | MD5 ring (it switches over silently) | one-at-a-time |
//! | twemproxy fnv1a_64 | MD5 ring | FNV-1a |
//!
//! `route/names.rs` says how a server is called on the ring, `route/points.rs` where its points lie, `route/hash.rs`
//! how bytes are hashed.
//!
//! Bounds: at most 160 points per server in the mean, 8 bytes each; a lookup is one hash of the key and one binary
//! search, and allocates nothing.

mod hash;
mod names;
mod points;

use crate::settings::{RingDialect, ServerSettings};
use points::Point;

/// The map from keys to servers of one pool. Made once per configuration, then only read.
#[derive(Clone, Debug)]
pub struct Ring {
    hash: KeyHash,
    /// Values of the points, ascending. Apart from `owners` so that the search touches nothing else.
    values: Box<[u32]>,
    /// Server of the point at the same place in `values`.
    owners: Box<[u32]>,
}

/// How a key is hashed; the ring's points are hashed by rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyHash {
    Md5,
    OneAtATime,
    Fnv1a,
}

impl Ring {
    /// The ring over `servers`, in their order.
    ///
    /// The number and the weights of *all* servers given decide how many points each one gets (see
    /// `points::digests`), so a server that is out of service is left out by making a new ring without it, as both
    /// originals do; skipping its points would be another map.
    #[must_use]
    pub fn new(dialect: RingDialect, servers: &[ServerSettings]) -> Ring {
        let hash = match dialect {
            RingDialect::LibmemcachedWeighted | RingDialect::TwemproxyMd5 => KeyHash::Md5,
            RingDialect::Libmemcached => KeyHash::OneAtATime,
            RingDialect::TwemproxyFnv1a64 => KeyHash::Fnv1a,
        };
        let points = match servers {
            // One server is every key's server: no point is needed to say so.
            [] | [_] => Vec::new(),
            _ if dialect == RingDialect::Libmemcached && servers.iter().all(|s| s.weight <= 1) => {
                points::one_at_a_time_ring(dialect, servers)
            }
            _ => points::md5_ring(dialect, servers),
        };
        Ring {
            hash,
            values: points.iter().map(|p| p.value).collect(),
            owners: points.iter().map(|p: &Point| p.server).collect(),
        }
    }

    /// The index, in the list the ring was made of, of the server that `key` belongs to: that of the first point at or
    /// after the key's hash; beyond the last point, that of the first.
    #[must_use]
    pub fn server_for(&self, key: &[u8]) -> usize {
        if self.values.is_empty() {
            return 0;
        }
        let hash = match self.hash {
            KeyHash::Md5 => hash::md5_words(key)[0],
            KeyHash::OneAtATime => hash::one_at_a_time(key),
            KeyHash::Fnv1a => hash::fnv1a_64_low(key),
        };
        let at = self.values.partition_point(|value| *value < hash);
        self.owners[if at == self.values.len() { 0 } else { at }] as usize
    }
}

#[cfg(test)]
mod tests;
