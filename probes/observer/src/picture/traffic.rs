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
    pub changes: u64,
}

/// Connections that were established.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenCount {
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// How many.
    pub opened: u64,
}

/// How long connections lived that have closed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lifetimes {
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// In seconds.
    pub lived: Sizes,
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

/// A listening socket's accept queue now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerQueue {
    /// Where it listens, `address:port`.
    pub listener: String,
    /// Connections that wait to be accepted.
    pub waiting: u64,
    /// How many may wait: the backlog in force.
    pub most: u64,
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
