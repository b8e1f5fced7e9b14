//! What is known about one request when it has ended.

use crate::units::{Instant, Span};
use std::fmt;

/// What a request did, by its number in its protocol's list of methods: each protocol names its own (for memcached in the
/// order of [`weir_memcached::Verb::index`]). A ledger serves one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(pub u16);

impl Method {
    /// Methods a ledger may have: three protocols of RPC with 256 each ([`crate::rpc::Protocol`]).
    pub const MAX: usize = 768;

    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<weir_memcached::Verb> for Method {
    fn from(verb: weir_memcached::Verb) -> Method {
        Method(verb.index() as u16)
    }
}

/// How a request ended, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered as the backend would.
    Ok,
    /// The backend answered with an error of its own.
    Error,
    /// Refused by a limit or policy of weir.
    Refused,
    /// Not answered by the backend in time.
    Timeout,
    /// The backend connection was lost or could not be had.
    BackendLost,
    /// The client left before its answer.
    ClientGone,
    /// Not a request memcached would take.
    Invalid,
}

impl Outcome {
    /// How many outcomes there are.
    pub const COUNT: usize = 7;

    /// Every outcome, in the order of [`Outcome::index`].
    pub const ALL: [Outcome; Outcome::COUNT] = [
        Outcome::Ok,
        Outcome::Error,
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::BackendLost,
        Outcome::ClientGone,
        Outcome::Invalid,
    ];

    /// Position in [`Outcome::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Bounded label for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Refused => "refused",
            Outcome::Timeout => "timeout",
            Outcome::BackendLost => "backend_lost",
            Outcome::ClientGone => "client_gone",
            Outcome::Invalid => "invalid",
        }
    }
}

/// One finished request. Plain numbers, so that the engine can build it on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The worker's slot of the caller's identity.
    pub identity: u32,
    /// What it did.
    pub method: Method,
    /// Operations asked, counted before splitting.
    pub operations: u64,
    /// Parts it was cut into and sent as; 0 when nothing was sent.
    pub chunks: u32,
    /// Operations the backends were asked for.
    pub backend_operations: u64,
    /// Operations that found a value.
    pub hits: u64,
    /// Operations that found none.
    pub misses: u64,
    /// Operations that joined an identical one instead of being sent.
    pub coalesced: u64,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// Time its first operation waited in weir's queue.
    pub queue_wait: Span,
    /// From the first byte sent to a backend to the last byte received.
    pub backend_time: Span,
    /// From the last byte of the request to the last byte of the answer.
    pub total: Span,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub at: Instant,
    /// The node it went to, where it went to one whole (CQL).
    pub sent_to: Option<SentTo>,
}

/// Where a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentTo {
    /// The node's number in its worker ([`crate::snapshot::ServerSnapshot::serial`]), never used again for another.
    pub serial: u32,
    /// The shard it was meant for, where the node has shards and the partition is known.
    pub shard: Option<u16>,
}

impl Entry {
    /// Whether it ever was in a queue: a request that was refused or answered by weir itself has no wait to report,
    /// and zeroes for it would hide the waits of the others.
    #[must_use]
    pub fn queued(&self) -> bool {
        self.chunks > 0 || self.queue_wait > Span(0)
    }
}

/// Names one request in exemplars, `/expensive` and logs. Written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Gives out request ids: a counter, scattered over 64 bits. Every step can be undone, so one source never repeats an
/// id; two workers with different seeds are unlikely to share one.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    count: u64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> RequestIds {
        RequestIds { seed, count: 0 }
    }

    pub(crate) fn next(&mut self) -> RequestId {
        self.count = self.count.wrapping_add(1);
        // odd multipliers and xor-shifts are bijections of u64 (the constants are those of splitmix64)
        let mut id = self.seed.wrapping_add(self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(id ^ (id >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_hex_digits_and_do_not_repeat() {
        assert_eq!(RequestId(0xab).to_string(), "00000000000000ab");
        let mut ids = RequestIds::new(7);
        let seen: std::collections::BTreeSet<_> = (0..10_000).map(|_| ids.next()).collect();
        assert_eq!(seen.len(), 10_000);
        assert_eq!(RequestIds::new(7).next(), RequestIds::new(7).next(), "the same seed gives the same ids");
        assert_ne!(RequestIds::new(7).next(), RequestIds::new(8).next());
    }

    #[test]
    fn outcomes_are_listed_in_the_order_of_their_index() {
        for (i, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), i);
        }
    }
}
