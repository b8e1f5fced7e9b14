//! What the kernel counted of connections: changes, life-times, bytes, round trips, accept queues.

use super::{Destination, Direction, State};
use serde::Serialize;
use std::time::Duration;

/// Values counted by size. Totals since the source began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sizes {
    /// Upper bounds of the buckets, in the unit of what is counted (seconds, operations); always the same.
    pub bounds: &'static [f64],
    /// How many fell into each, and one more number for those above the last bound.
    pub counts: Vec<u64>,
    /// Sum of the values.
    pub sum: f64,
}

/// Changes from one state to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransitionCount {
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// How often.
    pub count: u64,
}

/// Connections begun: outgoing ones when they were tried, incoming ones when they could be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenCount {
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// How many.
    pub opens: u64,
}

/// How long connections lived, from their begin to the moment that their process was done with them (not TIME_WAIT).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LifeTimes {
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// How many in each bucket, in powers of two: bucket `n` holds those below 2^(n+1) microseconds and in no lower one.
    pub buckets: Vec<u64>,
    /// The sum of all, in microseconds.
    pub microseconds: u64,
    /// Connections that closed and whose begin was not seen: in no bucket.
    pub unknown: u64,
}

/// Payload of connections that have closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ByteCount {
    /// Towards where.
    pub destination: Destination,
    /// Bytes that the other end acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// Smoothed round-trip times of connections at their close.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundTrips {
    /// Towards where.
    pub destination: Destination,
    /// In seconds.
    pub rtt: Sizes,
}

/// Segments that were sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetransmitCount {
    /// Towards where.
    pub destination: Destination,
    /// How many.
    pub segments: u64,
}

/// Connections that wait to be accepted, now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerQueue {
    /// Of which network namespace.
    pub namespace: String,
    /// The endpoint that a process listens on, `address:port`.
    pub listener: String,
    /// Connections that wait; of several sockets on the endpoint, the longest queue.
    pub waiting: u64,
    /// How many may wait.
    pub max: u64,
}

/// Connections that a listening socket did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerDrops {
    /// Where it listens.
    pub listener: String,
    /// Why, as a word of the code.
    pub reason: &'static str,
    /// How many.
    pub dropped: u64,
}

/// What a program in the kernel cost, by the kernel's own count (`kernel.bpf_stats_enabled`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramCost {
    /// The program's name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// Time spent in it.
    pub time: Duration,
}
