//! What connections to watched destinations moved, read as each of them closes.

use crate::fold;

/// Entries of the map `FLOWS`, by slot ([`fold`]); the last, [`fold::OTHER`], stays empty.
pub const FLOWS: u32 = fold::DESTINATIONS + 1;

/// Round trip times are counted in powers of two of microseconds: bucket `n` holds those below 2^(n+1) and not in a lower
/// one. The last one begins at eight seconds.
pub const BUCKETS: usize = 24;

/// Connections to one destination that closed: the value of the map `FLOWS`. Only ever added to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// How many.
    pub connections: u64,
    /// Bytes that the other side acknowledged.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Connections by smoothed round trip time, see [`bucket`]; those without a measurement are in none.
    pub rtt: [u64; BUCKETS],
    /// The sum of those times in microseconds.
    pub rtt_microseconds: u64,
}

crate::record!(Flow, (4 + BUCKETS + 1) * 8, align 8);

impl Flow {
    /// Nothing counted.
    pub const ZERO: Flow =
        Flow { connections: 0, sent: 0, received: 0, retransmits: 0, rtt: [0; BUCKETS], rtt_microseconds: 0 };
}

/// Where this kernel keeps what a connection moved, in bytes from the start of its `tcp_sock`: patched into the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFields {
    /// `bytes_acked`, 8 bytes.
    pub acked: u16,
    /// `bytes_received`, 8 bytes.
    pub received: u16,
    /// `total_retrans`, 4 bytes.
    pub retransmits: u16,
    /// `srtt_us`, 4 bytes: eight times the average.
    pub round_trip: u16,
}

crate::record!(FlowFields, 8, align 2);

/// The index of a round trip time in [`Flow::rtt`].
#[must_use]
#[inline(always)]
pub const fn bucket(microseconds: u32) -> u32 {
    let power = (microseconds | 1).ilog2();
    if power < BUCKETS as u32 { power } else { BUCKETS as u32 - 1 }
}
