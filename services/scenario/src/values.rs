//! Values: length, flags and every byte follow from the key, so that each reply can be checked without being
//! remembered. Bodies are binary on purpose: a proxy that looks for line ends inside values fails here.

use crate::keys::KeyIndex;
use crate::random::mix;
use std::str::FromStr;

/// How long values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSize {
    /// Every value has this many bytes.
    Fixed(u32),
    /// Like records of posts: 180 bytes to 3 KB, half of them below 400, one in ten above 900.
    Posts,
}

/// Largest value the tool makes, bytes (memcached's own default limit is 1 MiB an item, key included).
pub const VALUE_MAX: u32 = 64 << 20;

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "posts" {
            return Ok(Self::Posts);
        }
        match text.parse::<u32>() {
            Ok(bytes) if bytes <= VALUE_MAX => Ok(Self::Fixed(bytes)),
            _ => Err(format!("expected a number of bytes up to {VALUE_MAX}, or `posts`")),
        }
    }
}

impl std::fmt::Display for ValueSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes}"),
            Self::Posts => f.write_str("posts"),
        }
    }
}

/// Makes and checks values.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    size: ValueSize,
    seed: u64,
}

impl Values {
    /// Values of this size under this seed (the key set's).
    pub fn new(size: ValueSize, seed: u64) -> Self {
        Self { size, seed: mix(seed ^ 0x7a1e) }
    }

    /// Length of the key's value in bytes.
    pub fn length(&self, index: KeyIndex) -> u32 {
        match self.size {
            ValueSize::Fixed(bytes) => bytes,
            ValueSize::Posts => post_length(mix(self.seed ^ u64::from(index.0) ^ 0x512e)),
        }
    }

    /// Flags stored with the key's value.
    pub fn flags(&self, index: KeyIndex) -> u32 {
        (self.body_seed(index) >> 40) as u32
    }

    /// Appends the key's value.
    pub fn write(&self, index: KeyIndex, out: &mut Vec<u8>) {
        let (seed, length) = (self.body_seed(index), self.length(index) as usize);
        let end = out.len() + length;
        (0..length.div_ceil(8)).for_each(|n| out.extend_from_slice(&word(seed, n).to_le_bytes()));
        out.truncate(end);
    }

    /// Whether `part` is what the key's value holds from `offset` on. Works on any cut of a value, so that a
    /// value of a megabyte needs no buffer.
    pub fn matches(&self, index: KeyIndex, offset: usize, part: &[u8]) -> bool {
        let seed = self.body_seed(index);
        let lead = (8 - offset % 8) % 8;
        let (head, rest) = part.split_at(lead.min(part.len()));
        let byte = |at: usize| word(seed, at / 8).to_le_bytes()[at % 8];
        let mut same = head.iter().enumerate().all(|(n, b)| *b == byte(offset + n));
        let from = offset + head.len();
        let mut words = rest.chunks_exact(8);
        let mut difference = 0;
        for (n, chunk) in words.by_ref().enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(chunk);
            difference |= u64::from_le_bytes(bytes) ^ word(seed, from / 8 + n);
        }
        same &= difference == 0;
        let tail = words.remainder();
        let tail_from = from + rest.len() - tail.len();
        same & tail.iter().enumerate().all(|(n, b)| *b == byte(tail_from + n))
    }

    fn body_seed(&self, index: KeyIndex) -> u64 {
        mix(self.seed ^ u64::from(index.0))
    }
}

/// Eight bytes of a body. One multiplication: checking must not cost more than receiving.
fn word(seed: u64, number: usize) -> u64 {
    let x = (seed ^ (number as u64)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}

/// Length of a post's record, piecewise linear over the quantile.
fn post_length(bits: u64) -> u32 {
    const STEPS: [(f64, f64); 5] =
        [(0.0, 180.0), (0.5, 400.0), (0.9, 900.0), (0.99, 2_000.0), (1.0, 3_000.0)];
    let quantile = (bits >> 11) as f64 / (1u64 << 53) as f64;
    for pair in STEPS.windows(2) {
        let [(from, low), (to, high)] = [pair[0], pair[1]];
        if quantile < to {
            return (low + (high - low) * (quantile - from) / (to - from)) as u32;
        }
    }
    3_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_a_value_is_recognised_and_any_flipped_byte_is_not() {
        for size in [0, 1, 7, 8, 9, 100, 1_001] {
            let values = Values::new(ValueSize::Fixed(size), 9);
            let index = KeyIndex(42);
            let mut body = Vec::new();
            values.write(index, &mut body);
            assert_eq!(body.len(), size as usize);
            for cut in 0..=body.len() {
                assert!(values.matches(index, 0, &body[..cut]));
                assert!(values.matches(index, cut, &body[cut..]));
            }
            for at in 0..body.len() {
                body[at] ^= 1;
                assert!(!values.matches(index, 0, &body), "{size} bytes, byte {at}");
                assert!(!values.matches(index, at, &body[at..]));
                body[at] ^= 1;
            }
        }
    }

    #[test]
    fn post_lengths_have_the_stated_shape() {
        let values = Values::new(ValueSize::Posts, 1);
        let mut lengths: Vec<u32> = (0..10_000).map(|n| values.length(KeyIndex(n))).collect();
        lengths.sort_unstable();
        assert!(lengths[0] >= 180 && lengths[9_999] <= 3_000);
        assert!((380..420).contains(&lengths[5_000]), "{}", lengths[5_000]);
    }
}
