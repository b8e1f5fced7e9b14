//! Connections that weir itself opened, to compare with what weir says.

use crate::fold;

/// Entries of the map `OWN`: weir's own processes (by the kernel's `tgid`).
pub const OWN: u32 = 64;

/// Entries of the map `DIALLED`: connections that such a process began and that are not established yet, by the socket's
/// address in the kernel. The oldest one goes first.
pub const DIALLED: u32 = 8_192;

/// Entries of the map `OPENED`, by slot ([`fold`]): connections of weir's own that were established.
pub const OPENED: u32 = fold::DESTINATIONS;
