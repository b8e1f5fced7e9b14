//! The kernel's own list of TCP sockets, over NETLINK_SOCK_DIAG (sock_diag(7)): all that fit a filter ([`SockDiag::dump`]),
//! one by its addresses ([`SockDiag::find`]), and the end of one ([`SockDiag::destroy`]).
//!
//! Asking needs no right; ending needs `CAP_NET_ADMIN`. Only sockets of one network namespace are seen: that of the thread
//! which asked first. Nothing here waits longer than [`Patience`] or keeps more than one receive buffer.
//!
//! States without an owner (TIME_WAIT, closed by an exited process) are reported as user 0 and inode 0.

mod ask;
mod error;
mod found;

pub use ask::{Destroyed, Patience, SockDiag};
pub use error::{Error, Question};
pub use found::{Family, Filter, Found};
/// Sets of TCP states, by the kernel's numbers.
pub use netlink_packet_sock_diag::inet::StateFlags as States;

#[cfg(test)]
mod tests;
