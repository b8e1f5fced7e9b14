//! Processes that connect to watched destinations themselves.

use crate::fold;

/// Entries of the map `CALLERS`. The reader takes out those of processes that have ended; beyond the bound a connection
/// counts in `NAMELESS` only.
pub const CALLERS: u32 = 4_096;

/// Entries of the map `NAMELESS`, by slot ([`fold`]): connections of processes that found no room in `CALLERS`.
pub const NAMELESS: u32 = fold::DESTINATIONS + 1;

/// Entries of the map `PARDONED`: processes (by the kernel's `tgid`) whose connections and work are their own affair: weir
/// itself, and who is on the allow-list.
pub const PARDONED: u32 = 1_024;

/// The key of the map `CALLERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerKey {
    /// The id of its cgroup (v2).
    pub cgroup: u64,
    /// The process (the kernel's `tgid`, in its first pid namespace).
    pub process: u32,
    /// Its user.
    pub uid: u32,
    /// The destination's slot ([`fold`]).
    pub slot: u32,
    /// Always 0.
    pub zero: u32,
}

crate::record!(CallerKey, 24, align 8);

/// The value of the map `CALLERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Connections that were begun, whatever became of them.
    pub connections: u64,
    /// When the first one was, in nanoseconds since boot.
    pub seen: u64,
    /// The thread's name at the first one, ended by NUL.
    pub comm: [u8; 16],
}

crate::record!(Caller, 32, align 8);
