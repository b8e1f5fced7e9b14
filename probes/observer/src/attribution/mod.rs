//! Whose connection is this? `weir` asks over a Unix socket, and is told what was seen when the connection was made:
//! also of processes of other users, and of those that have exited since.
//!
//! - [`connects`]: the connections seen lately, bounded; whoever sees one calls [`Connects::observed`]
//! - [`server`]: the socket, who may ask, time-outs and bounds; the bytes are those of `weir-attribution`
//! - [`asker`]: which addresses the asking process listens on: it learns about its own clients and nobody else's
//! - [`finder`]: takes in what the kernel's side tells of connections, and decides when to look
//! - [`poll`]: looks, with sock_diag and `/proc`
//! - [`socket`]: the socket's file, its directory and permissions
//!
//! Two threads that wait are all this costs while nobody asks; [`server`] has the bounds.

pub mod asker;
pub mod connects;
pub mod finder;
pub mod poll;
pub mod server;
pub mod socket;

pub use connects::{Connect, Connects};
pub use finder::Finder;
pub use server::{Server, Settings};
