//! The CQL engine on a bench: clients in three versions of the protocol and nodes that answer are driven by hand.

mod bench;
mod handshake;
mod keyspaces;
mod node;
mod prepared;
mod wire;
