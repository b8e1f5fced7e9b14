//! Socket state changes, counted for each destination and direction, and how long connections lived.

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`), 0 unused.
pub const STATES: usize = 13;

/// Life-times are counted in powers of two of microseconds: bucket `n` holds those below 2^(n+1) and not in a lower one.
/// The last one begins at six days.
pub const BUCKETS: usize = 40;

/// Entries of the map `LIVES`: sets of [`WAYS`] places each. A connection has its set by its socket's address.
pub const SETS: u32 = 8_192;

/// Connections of one set whose begin is remembered at a time, 65,536 in all; the one that began first makes room.
pub const WAYS: usize = 8;

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

/// Begins of connections: the value of the map `LIVES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// The socket of each, a number made of its address in the kernel; 0 where there is room.
    pub sockets: [u64; WAYS],
    /// When it began, in nanoseconds of the monotonic clock.
    pub begun: [u64; WAYS],
}

crate::record!(Lives, 2 * WAYS * 8, align 8);

/// The set of a socket.
#[must_use]
#[inline(always)]
pub const fn set(socket: u64) -> u32 {
    // 2^64 divided by the golden ratio: addresses that differ anywhere differ in the upper bits of the product
    (socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SETS.ilog2())) as u32
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_spread_over_the_sets_as_the_kernel_spaces_them() {
        // objects of a slab: so many bytes from each other, page after page
        for spacing in [64_u64, 2_112, 2_304, 2_432, 4_096] {
            let mut filled = [0_u32; SETS as usize];
            for socket in 0..u64::from(SETS) {
                let address = 0xffff_8880_0412_3000_u64 + socket * spacing;
                filled[set(address) as usize] += 1;
            }
            let fullest = filled.into_iter().max();
            assert!(fullest <= Some(WAYS as u32), "{spacing} bytes apart: {fullest:?} in one set");
        }
    }
}
