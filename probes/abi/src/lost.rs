//! What a program could not keep, a counter each in the per-CPU map `LOST`. Never silent: a full map is a count here.

/// A destination that is watched by its port found no free slot and counts under `_other`. Nothing is lost but the name.
pub const FOLDED_DESTINATIONS: u32 = 0;

/// A local address found no free slot. Nothing is lost but the name.
pub const FOLDED_SOURCES: u32 = 1;

/// The begin of a connection could not be kept: its life-time will be missing.
pub const LIVES: u32 = 2;

/// A failed call found its map full and counts without process and destination.
pub const FOLDED_ERRORS: u32 = 3;

/// A failed call could not be counted at all.
pub const ERRORS: u32 = 4;

/// A socket found the map of counts full.
pub const SOCKETS: u32 = 5;

/// A record of the kernel could not be read.
pub const UNREADABLE_TRANSITIONS: u32 = 6;

/// The arguments of a failed call could not be read: it counts without a destination.
pub const UNREADABLE_CALLS: u32 = 7;

/// A connection past weir found its map full and counts without a process.
pub const FOLDED_CALLERS: u32 = 16;

/// A call that sends found its map full.
pub const WORK: u32 = 17;

/// A request that passed weir's point found its map full.
pub const REQUESTS: u32 = 18;

/// A thread or a connection of a service could not be kept: its request will not map to a thread.
pub const SERVICES: u32 = 24;

/// A connection that weir began could not be kept: it is missing among those it opened.
pub const DIALLED: u32 = 25;

/// A connection that somebody asks about found the ring buffer full.
pub const CONNECTS: u32 = 26;

/// How many counters there are; more are added at the end.
pub const COUNTERS: u32 = 32;
