//! Socket state changes, counted for each destination and direction, and how long connections lived.

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`), 0 unused.
pub const STATES: usize = 13;

/// Life-times are counted in powers of two of microseconds: bucket `n` holds those below 2^(n+1) and not in a lower one.
/// The last one begins at six days.
pub const BUCKETS: usize = 40;

/// Connections whose begin is remembered at a time; the least recently used one makes room.
pub const LIVES: u32 = 65_536;

/// Established.
pub const ESTABLISHED: u32 = 1;
/// A connect is under way.
pub const SYN_SENT: u32 = 2;
/// A request to connect was received.
pub const SYN_RECV: u32 = 3;
/// Not connected.
pub const CLOSE: u32 = 7;
/// Listening.
pub const LISTEN: u32 = 10;

/// What is counted on one CPU for one destination and one direction: the value of the map `ROWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// By [`step`].
    pub steps: [u64; STATES * STATES],
    /// Life-times of connections that were established and have closed, by [`bucket`].
    pub lives: [u64; BUCKETS],
    /// The sum of those life-times in microseconds.
    pub lived_microseconds: u64,
    /// Connections that closed and whose begin was not known: older than the probe, or forgotten since.
    pub unknown_lives: u64,
}

crate::record!(Row, (STATES * STATES + BUCKETS + 2) * 8, align 8);

impl Row {
    /// Nothing counted.
    pub const ZERO: Row =
        Row { steps: [0; STATES * STATES], lives: [0; BUCKETS], lived_microseconds: 0, unknown_lives: 0 };
}

/// The index of a change in [`Row::steps`]; both states are below [`STATES`].
#[must_use]
#[inline(always)]
pub const fn step(from: u32, to: u32) -> u32 {
    from * STATES as u32 + to
}

/// The index of a life-time in [`Row::lives`].
#[must_use]
#[inline(always)]
pub const fn bucket(microseconds: u64) -> u32 {
    let power = (microseconds | 1).ilog2();
    if power < BUCKETS as u32 { power } else { BUCKETS as u32 - 1 }
}
