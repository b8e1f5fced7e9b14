//! Which destinations and sources are told apart. Watched destinations have a slot from the start; one that is watched by
//! its port alone takes a free slot when it is first seen; all others share [`OTHER`]. Slots are never given back while a
//! probe runs, so that a count only ever grows.

/// Destinations that are told apart.
pub const DESTINATIONS: u32 = 64;

/// The slot that all other destinations share.
pub const OTHER: u32 = DESTINATIONS;

/// Local addresses that are told apart.
pub const SOURCES: u32 = 16;

/// The slot of `127.0.0.0/8` beyond [`SOURCES`]: clients that spread over loopback addresses count together.
pub const LOOPBACK: u32 = SOURCES;

/// The slot of all other local addresses.
pub const OTHER_SOURCE: u32 = SOURCES + 1;

/// A process here connected to the destination.
pub const OUTGOING: u32 = 0;

/// The destination is an endpoint that a process here listens on.
pub const INCOMING: u32 = 1;

/// How many pairs of slot and direction there are.
pub const ROWS: u32 = (DESTINATIONS + 1) * 2;

/// The row of a slot and a direction.
#[must_use]
#[inline(always)]
pub const fn row(slot: u32, direction: u32) -> u32 {
    slot * 2 + direction
}

/// Whether an address (in network order, IPv4 as IPv4-mapped) is in `127.0.0.0/8`.
#[must_use]
#[inline(always)]
pub const fn is_loopback_v4(address: &[u8; 16]) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, ..] = *address;
    (a | b | c | d | e | f | g | h | i | j) == 0 && k == 0xff && l == 0xff && m == 127
}
