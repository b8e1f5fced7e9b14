//! One request in a few bytes, made before it is known which connection will carry it.

use crate::client::{Client, Slot};
use crate::clock::Nanos;
use crate::keys::{KeyIndex, KeySet, scattered};
use crate::random::Random;

/// A request to be sent.
#[derive(Clone, Debug)]
pub enum Ask {
    /// `get` of one key
    One(KeyIndex),
    /// `get` of many different keys of the set
    Scattered {
        /// Number of keys.
        count: u32,
        /// First key.
        start: u32,
        /// From key to key.
        stride: u32,
    },
    /// `get` of these keys
    List(Vec<KeyIndex>),
    /// `set` of a key
    Set(KeyIndex),
}

impl Ask {
    /// A `get` of `count` stored keys.
    pub fn get(count: u32, keys: &KeySet, random: &mut Random) -> Self {
        let start = random.below(keys.stored());
        match count {
            0 | 1 => Self::One(KeyIndex(start)),
            _ => Self::Scattered { count, start, stride: (random.bits() >> 33) as u32 },
        }
    }

    /// Keys asked for.
    pub fn keys(&self) -> u32 {
        match self {
            Self::One(_) | Self::Set(_) => 1,
            Self::Scattered { count, .. } => *count,
            Self::List(keys) => keys.len() as u32,
        }
    }

    /// Puts the request on a connection; it leaves with the next flush.
    pub fn put(&self, client: &mut Client<'_>, slot: Slot, started: Nanos, stored: u32) {
        match self {
            Self::One(key) => client.get(slot, std::iter::once(*key), started),
            Self::Scattered { count, start, stride } => {
                client.get(slot, scattered(stored, *count, *start, *stride), started);
            }
            Self::List(keys) => client.get(slot, keys.iter().copied(), started),
            Self::Set(key) => client.set(slot, *key, started),
        }
    }
}
