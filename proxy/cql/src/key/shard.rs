//! Which of a Scylla node's shards holds a token: algorithm `biased-token-round-robin`.

use std::num::NonZeroU16;

use super::murmur3::Token;

/// What a node says in `SCYLLA_NR_SHARDS` and `SCYLLA_SHARDING_IGNORE_MSB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sharding {
    /// Shards of the node.
    pub shards: NonZeroU16,
    /// Bits of the token, from the highest, that do not count; 64 and more leave none.
    pub ignore_msb: u8,
}

/// The shard of the token, below [`Sharding::shards`].
pub fn shard_of(token: Token, sharding: Sharding) -> u16 {
    let biased = token.value().cast_unsigned().wrapping_add(1 << 63);
    let kept = biased.checked_shl(u32::from(sharding.ignore_msb)).unwrap_or(0);
    let shard = (u128::from(kept) * u128::from(sharding.shards.get())) >> 64;
    // A 64-bit number times the count, shifted by 64, is below the count.
    shard as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharding(shards: u16, ignore_msb: u8) -> Sharding {
        Sharding { shards: NonZeroU16::new(shards).unwrap(), ignore_msb }
    }

    /// From the tests of ScyllaDB's Rust driver (`sharding.rs`).
    #[test]
    fn known_shards() {
        for (value, want) in [(-9_219_783_007_514_621_794, 3), (9_222_582_454_147_032_830, 3)] {
            assert_eq!(shard_of(Token::new(value), sharding(4, 12)), want);
        }
    }

    #[test]
    fn always_below_the_count_and_even_without_ignored_bits() {
        let at = |value| shard_of(Token::new(value), sharding(4, 0));
        assert_eq!([at(i64::MIN), at(-1), at(0), at(i64::MAX)], [0, 1, 2, 3]);
        for ignore in [0, 1, 12, 63, 64, 255] {
            for value in [i64::MIN, -1, 0, 1, i64::MAX] {
                assert!(shard_of(Token::new(value), sharding(7, ignore)) < 7);
                assert_eq!(shard_of(Token::new(value), sharding(1, ignore)), 0);
            }
        }
    }
}
