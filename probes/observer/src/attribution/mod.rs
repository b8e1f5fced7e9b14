//! Whose connection is this? `weir` asks over a Unix socket, and is told what was seen when the connection was made:
//! also of processes of other users, and of those that have exited since.
//!
//! - [`connects`]: the connections seen lately, bounded; whoever sees one calls [`Connects::observed`]
//! - [`server`]: the socket, who may ask, time-outs and bounds; the bytes are those of `weir-attribution`
//! - [`asker`]: which addresses the asking process listens on: it learns about its own clients and nobody else's
//! - [`socket`]: the socket's file, its directory and permissions
//!
//! One thread that waits is all this costs while nobody asks; [`server`] has the bounds.

pub mod asker;
pub mod connects;
pub mod server;
pub mod socket;

pub use connects::{Connect, Connects};
pub use server::{Server, Settings};
