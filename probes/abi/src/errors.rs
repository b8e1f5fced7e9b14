//! Calls of bind(2) and connect(2) that failed with a counted errno.

use crate::endpoint::Endpoint;

/// Entries of the map `ERRORS`. Beyond them a failure counts under no process and no place; those entries are made by
/// the loader, so there is always room for them.
pub const ERRORS: u32 = 4096;

/// The key of the map `ERRORS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureKey {
    /// The process (the kernel's `tgid`, in its first pid namespace); 0 for those that found no room.
    pub process: u32,
    /// Linux errno.
    pub errno: u16,
    /// [`BIND`](crate::settings::BIND) or [`CONNECT`](crate::settings::CONNECT).
    pub call: u16,
    /// connect(2): the destination, when it has a slot. bind(2): the address asked for, folded as sources are, and the
    /// port when it is 0 or watched. [`Endpoint::NOWHERE`] for all others.
    pub place: Endpoint,
}

crate::record!(FailureKey, 28, align 4);

/// The value of the map `ERRORS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many calls failed.
    pub count: u64,
    /// The process's user when it first failed.
    pub uid: u32,
    /// Always 0.
    pub zero: u32,
    /// The thread's name when it first failed, ended by NUL.
    pub comm: [u8; 16],
}

crate::record!(Failures, 32, align 8);
