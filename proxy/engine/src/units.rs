//! Newtypes for every count, id and instant the engine passes around, so that keys are never added to bytes.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Microseconds since an origin that the caller of the engine chose (the worker's start). The engine reads no clock:
/// every entry point takes `now`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved forward by `span`.
    #[must_use]
    pub fn after(self, span: Span) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }
}

/// A length of time in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(pub u64);

impl Span {
    /// A span of `ms` milliseconds.
    #[must_use]
    pub const fn millis(ms: u64) -> Span {
        Span(ms * 1_000)
    }

    /// A span of `s` seconds.
    #[must_use]
    pub const fn secs(s: u64) -> Span {
        Span(s * 1_000_000)
    }
}

macro_rules! count {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name {
                $name(self.0.saturating_add(other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) {
                *self = *self + other;
            }
        }
        impl Sub for $name {
            type Output = $name;
            fn sub(self, other: $name) -> $name {
                $name(self.0.saturating_sub(other.0))
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: $name) {
                *self = *self - other;
            }
        }
    };
}

count!(
    /// Operations: one key looked up or written is one operation (the unit of limits, queues, fairness and metrics).
    Operations,
    u64
);
count!(
    /// Bytes on a wire or in a buffer.
    Bytes,
    u64
);

/// Bytes that cost as much as one more operation when a request is settled (16 KiB).
pub const BYTES_PER_OPERATION: u64 = 16 * 1024;

impl Bytes {
    /// How many operations these bytes are charged as: ceil(bytes / 16 KiB).
    #[must_use]
    pub fn as_operations(self) -> Operations {
        Operations(self.0.div_ceil(BYTES_PER_OPERATION))
    }
}

/// Names one client connection of one worker. A slot is used again after a close; the generation tells them apart, so
/// a reply for a client that vanished falls on the floor instead of reaching its successor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientId {
    /// Index in the worker's client table.
    pub slot: u32,
    /// How often the slot was given out before.
    pub generation: u32,
}

/// One upstream connection of one worker: an index into its lane table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(pub u32);

/// One memcached server of one worker's pools: an index into its server table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub u32);

/// A pool (a named set of servers behind one ring): an index into the settings' pool list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PoolId(pub u32);

/// A cluster (nodes that share their data): an index into the settings' cluster list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(pub u32);

/// A service (servers that answer the same calls): an index into the settings' service list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId(pub u32);

/// A listener: an index into the settings' listener list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ListenerId(pub u32);
