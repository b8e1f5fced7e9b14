//! The key set: what is stored by `fill` and asked for by every other scenario.
//!
//! Keys look like those of an AT Protocol data plane, `at://did:plc:<24 base32>/app.bsky.feed.post/<13-char TID>`
//! (70 bytes), or are short (16 bytes) where the protocol's overhead is to be seen. They depend on the index and
//! the seed alone, so a load run needs nothing from the fill run but the same options.
//! All keys are kept in one table (70 MB per million keys): the hot path copies, it does not format.

use crate::random::mix;
use clap::ValueEnum;

/// Most keys of one set; bounds the table to about 1.4 GB.
pub const KEYS_MAX: u32 = 20_000_000;

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyStyle {
    /// `at://did:plc:.../app.bsky.feed.post/...`, 70 bytes
    Post,
    /// `k:` and 14 characters, 16 bytes
    Short,
}

/// A key's place in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIndex(pub u32);

/// Every key of a run, stored ones first, then some that are never stored.
pub struct KeySet {
    table: Vec<u8>,
    length: usize,
    stored: u32,
    total: u32,
}

impl KeySet {
    /// Makes `stored` keys and a twentieth more (at least 1,000) that no fill ever stores.
    pub fn new(style: KeyStyle, stored: u32, seed: u64) -> Self {
        let stored = stored.clamp(1, KEYS_MAX);
        let total = stored + (stored / 20).max(1_000);
        let length = match style {
            KeyStyle::Post => 70,
            KeyStyle::Short => 16,
        };
        let mut table = Vec::with_capacity(total as usize * length);
        for index in 0..total {
            match style {
                KeyStyle::Post => write_post(&mut table, index, seed),
                KeyStyle::Short => write_short(&mut table, index, seed),
            }
        }
        debug_assert_eq!(table.len(), total as usize * length);
        Self { table, length, stored, total }
    }

    /// The key's bytes.
    pub fn bytes(&self, index: KeyIndex) -> &[u8] {
        let start = index.0 as usize * self.length;
        &self.table[start..start + self.length]
    }

    /// How many keys `fill` stores.
    pub fn stored(&self) -> u32 {
        self.stored
    }

    /// Whether `fill` stores this key; a value for any other key is a wrong answer.
    pub fn is_stored(&self, index: KeyIndex) -> bool {
        index.0 < self.stored
    }

    /// A key that is never stored.
    pub fn absent(&self, number: u32) -> KeyIndex {
        KeyIndex(self.stored + number % (self.total - self.stored))
    }
}

/// `count` different keys of a set of `stored`, scattered: a random start and an odd stride without common factor.
/// When more keys are asked for than there are, keys repeat.
pub fn scattered(stored: u32, count: u32, start: u32, stride: u32) -> impl Iterator<Item = KeyIndex> {
    let stored = u64::from(stored);
    let mut stride = u64::from(stride) % stored.max(1);
    while stride == 0 || greatest_common_divisor(stride, stored) != 1 {
        stride += 1;
    }
    (0..u64::from(count)).map(move |n| KeyIndex(((u64::from(start) + n * stride) % stored) as u32))
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Base32 as in did:plc identifiers.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Base32 whose order is the order of the numbers, as in TIDs.
const BASE32_SORTABLE: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
/// 2026-04-01 in microseconds since 1970: the first post of the set.
const FIRST_POST_US: u64 = 1_775_001_600_000_000;

fn write_post(out: &mut Vec<u8>, index: u32, seed: u64) {
    out.extend_from_slice(b"at://did:plc:");
    // About eight posts per author.
    let author = mix(seed ^ 0xa7) ^ u64::from(index / 8);
    let (high, low) = (mix(author), mix(author ^ 0x5eed));
    (0..12).for_each(|n| out.push(BASE32[(high >> (n * 5)) as usize & 31]));
    (0..12).for_each(|n| out.push(BASE32[(low >> (n * 5)) as usize & 31]));
    out.extend_from_slice(b"/app.bsky.feed.post/");
    // 53 bits of microseconds, unique by index, and 10 bits of clock id, here from the seed.
    let time = FIRST_POST_US + u64::from(index) * 1_730_000;
    let tid = ((time & ((1 << 53) - 1)) << 10) | (mix(seed) & 1023);
    (0..13).for_each(|n| out.push(BASE32_SORTABLE[(tid >> (60 - n * 5)) as usize & 31]));
}

fn write_short(out: &mut Vec<u8>, index: u32, seed: u64) {
    out.extend_from_slice(b"k:");
    // The index itself (7 x 5 bits) keeps keys apart, the rest scatters them.
    let scatter = mix(seed ^ u64::from(index));
    (0..7).for_each(|n| out.push(BASE32[(scatter >> (n * 5)) as usize & 31]));
    (0..7).for_each(|n| out.push(BASE32[(index >> (n * 5)) as usize & 31]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_distinct_valid_and_repeatable() {
        for style in [KeyStyle::Post, KeyStyle::Short] {
            let set = KeySet::new(style, 5_000, 3);
            let again = KeySet::new(style, 5_000, 3);
            let other = KeySet::new(style, 5_000, 4);
            let mut seen = HashSet::new();
            for index in (0..6_000).map(KeyIndex) {
                let key = set.bytes(index);
                assert!(key.iter().all(u8::is_ascii_graphic));
                assert!(seen.insert(key.to_vec()));
                assert_eq!(key, again.bytes(index));
            }
            assert_ne!(set.bytes(KeyIndex(0)), other.bytes(KeyIndex(0)));
            assert!(!set.is_stored(set.absent(12_345)));
        }
    }

    #[test]
    fn a_post_key_looks_like_one() {
        let set = KeySet::new(KeyStyle::Post, 1, 1);
        let key = String::from_utf8(set.bytes(KeyIndex(0)).to_vec()).expect("ASCII");
        assert_eq!(key.len(), 70);
        let parts: Vec<&str> = key.split('/').collect();
        assert_eq!((parts[0], parts[3]), ("at:", "app.bsky.feed.post"));
        assert_eq!((parts[2].len(), parts[4].len()), ("did:plc:".len() + 24, 13));
    }

    #[test]
    fn scattered_keys_are_distinct() {
        for stored in [1, 7, 1_000, 100_000] {
            let distinct: HashSet<_> = scattered(stored, stored, 5, 999_983).collect();
            assert_eq!(distinct.len(), stored as usize);
        }
    }
}
