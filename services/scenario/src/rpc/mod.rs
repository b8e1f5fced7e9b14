//! RPC: the load that compares weir with no proxy and with a bare pass-through, and the service it is measured against.
//! `bsky.Service/GetPostRecords`, as gRPC over HTTP/2 without TLS or as a unary call of Connect over HTTP/1.1.
//!
//! Every reply is checked: one record for each key, in the order of the keys, byte for byte what follows from the key, and
//! as many metadata. The messages are written and read here and not by weir's codec, whose mistakes they would share.
//! Of the posts of a real data plane (`--posts`) the name of the content is checked, which follows from the address.
//! Client and service run on tokio and hyper, one thread each: what they cost is the same with every proxy and without.
//!
//! `rpc-mix` and `rpc-backfill` speak to a data plane with a world in it (`weir-dataplane`): what an AppView asks for page by
//! page, and the caller of April 2026.

mod asked;
mod backfill;
mod client;
mod link;
mod load;
mod messages;
mod methods;
mod mix;
mod pages;
mod protobuf;
mod service;
mod workers;
mod world;

pub use backfill::{RpcBackfill, backfill};
pub use load::{RpcLoad, load};
pub use mix::{RpcMix, mix};
pub use service::{RpcService, serve};

/// The method that is called.
const METHOD: &str = "/bsky.Service/GetPostRecords";

/// Bytes of the length-prefix of a gRPC message: a flag and four of length.
const PREFIX: usize = 5;

/// Flow control window of a stream and of a connection, on both sides of a call: a megabyte as proxies have it, so that
/// none of them waits for the ends.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
