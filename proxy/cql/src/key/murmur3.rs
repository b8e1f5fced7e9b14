//! The token of a partition key, as Cassandra's `Murmur3Partitioner` and Scylla's compute it.
//!
//! It is MurmurHash3 x64 128, first half, with one difference that can no longer be mended: Cassandra takes the bytes of
//! the tail (the last 1 to 15) as signed, so a byte over 0x7f sets all higher bits.

/// A place on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token(i64);

impl Token {
    /// The smallest token: only the empty key has it.
    pub const MIN: Token = Token(i64::MIN);

    /// The token of this value.
    pub const fn new(value: i64) -> Token {
        Token(value)
    }

    /// Its value.
    pub const fn value(self) -> i64 {
        self.0
    }
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The token of the whole partition key (of several columns: of its [`composite`](super::composite()) form).
pub fn token(key: &[u8]) -> Token {
    if key.is_empty() {
        return Token::MIN;
    }
    let (mut h1, mut h2) = (0_u64, 0_u64);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = halves(block);
        h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (mut k1, mut k2) = (0_u64, 0_u64);
    for (at, byte) in tail.iter().enumerate() {
        let signed = i64::from(byte.cast_signed()).cast_unsigned();
        let half = if at < 8 { &mut k1 } else { &mut k2 };
        *half ^= signed << (8 * (at % 8));
    }
    h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);

    let length = key.len() as u64;
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = mix(h1);
    h2 = mix(h2);
    let value = h1.wrapping_add(h2).cast_signed();
    // The smallest value is kept for "before every key".
    Token(if value == i64::MIN { i64::MAX } else { value })
}

fn halves(block: &[u8; 16]) -> (u64, u64) {
    let whole = u128::from_le_bytes(*block);
    (whole as u64, (whole >> 64) as u64)
}

fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_key_is_before_all() {
        assert_eq!(token(b""), Token::MIN);
        assert!(token(b"a") > Token::MIN);
    }

    /// From the tests of ScyllaDB's Rust driver (`partitioner.rs`).
    #[test]
    fn known_tokens() {
        for (key, want) in [
            (&b"test"[..], -6_017_608_668_500_074_083),
            (b"xd", 4_507_812_186_440_344_727),
            (b"primary_key", -1_632_642_444_691_073_360),
            ("kremówki".as_bytes(), 4_354_931_215_268_080_151),
        ] {
            assert_eq!(token(key).value(), want, "{}", String::from_utf8_lossy(key));
        }
    }
}
