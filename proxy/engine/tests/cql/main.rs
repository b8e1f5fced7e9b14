//! The CQL engine on a bench: clients in three versions of the protocol and nodes that answer are driven by hand.

mod bench;
mod cache;
mod face;
mod faults;
mod flight;
mod handshake;
mod hostile;
mod keyspaces;
mod limits;
mod naming;
mod node;
mod placed;
mod prepared;
mod repairs;
mod routing;
mod shards;
mod signin;
mod simulation;
mod split;
mod split_batch;
mod split_budget;
mod split_failover;
mod split_pages;
mod statements;
mod stream_through;
mod wire;
