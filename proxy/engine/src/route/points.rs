//! Where the points of each server lie on the ring.

use super::hash::{md5_words, one_at_a_time};
use super::names::ring_name;
use crate::settings::{RingDialect, ServerSettings};

/// One point: keys that hash to `value` or less (and to more than the point before) belong to `server`.
/// The order (value, then server) is libmemcached's, ties included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) value: u32,
    pub(super) server: u32,
}

/// Points of a server of mean weight on the MD5 ring.
const MD5_POINTS: f32 = 160.0;
/// One MD5 makes so many points.
const POINTS_PER_DIGEST: f32 = 4.0;
/// Points of every server on libmemcached's ring without weights.
const ONE_AT_A_TIME_POINTS: u32 = 100;

/// The ring of libmemcached KETAMA_WEIGHTED and of twemproxy: digest `j` of a server is the MD5 of `name-j`, each of
/// its four little-endian words is a point.
pub(super) fn md5_ring(dialect: RingDialect, servers: &[ServerSettings]) -> Vec<Point> {
    let total: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
    let mut points = Vec::new();
    for (index, server) in (0_u32..).zip(servers) {
        let name = ring_name(dialect, server);
        for digest in 0..digests(server.weight, total, servers.len()) {
            let words = md5_words(format!("{name}-{digest}").as_bytes());
            points.extend(words.map(|value| Point { value, server: index }));
        }
    }
    points.sort_unstable();
    points
}

/// libmemcached's KETAMA while no weight is above 1: 100 points per server, one one-at-a-time hash of `name-j` each.
pub(super) fn one_at_a_time_ring(dialect: RingDialect, servers: &[ServerSettings]) -> Vec<Point> {
    let mut points = Vec::with_capacity(servers.len() * ONE_AT_A_TIME_POINTS as usize);
    for (index, server) in (0_u32..).zip(servers) {
        let name = ring_name(dialect, server);
        points.extend(
            (0..ONE_AT_A_TIME_POINTS)
                .map(|j| Point { value: one_at_a_time(format!("{name}-{j}").as_bytes()), server: index }),
        );
    }
    points.sort_unstable();
    points
}

/// MD5 digests of a server of `weight` among `servers` servers of `total` weight.
///
/// Every step is rounded to f32, in this order, because the originals do so: with weights 1:29:30 the second server
/// gets 57 digests, where exact arithmetic says 58, and keys would move. A server far below the mean gets none.
fn digests(weight: u32, total: u64, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    (share * MD5_POINTS / POINTS_PER_DIGEST * servers as f32 + 1e-10_f32).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests per server, as the two C programs count them.
    fn counts(weights: &[u32]) -> Vec<u32> {
        let total = weights.iter().map(|w| u64::from(*w)).sum();
        weights.iter().map(|w| digests(*w, total, weights.len())).collect()
    }

    #[test]
    fn digests_are_counted_in_single_precision() {
        assert_eq!(counts(&[1, 1, 1, 1]), [40, 40, 40, 40]);
        assert_eq!(counts(&[1, 1, 1, 3]), [26, 26, 26, 80]);
        assert_eq!(counts(&[1, 29, 30])[1], 57, "exact arithmetic says 58");
        assert_eq!(counts(&[1, 100_000]), [0, 79]);
    }

    #[test]
    fn some_server_always_has_points() {
        for weights in [&[1, 1][..], &[1; 7], &[100_000; 97], &[1, 100_000], &[33_333; 3]] {
            assert!(counts(weights).iter().any(|n| *n >= 39), "{weights:?}");
        }
    }
}
