//! `bsky.Service` on memcached and CQL. The modules in the order of a request: [`service`] admits it and has a file per
//! group of methods; [`read`] asks the cache, then the database for what the cache did not have, and fills it back;
//! [`cache`] and [`store`] are the two storages. [`mod@write`] changes records and ends what the cache has of them.
//!
//! Everything is bounded, and every bound is an option ([`options`]); `weir-dataplane --unbounded --i-know` is the copy of
//! a mistake ([`unbounded`]), for the story and its tests only.

mod accept;
pub mod bulk;
pub mod cache;
pub mod metrics;
pub mod migrate;
pub mod options;
pub mod read;
pub mod request_id;
pub mod serve;
pub mod service;
pub mod store;
pub mod unbounded;
pub mod world;
pub mod write;

/// The public contract, made of `proxy/rpc/presets/bsky.proto` by the build.
#[allow(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod bsky {
    tonic::include_proto!("bsky");
}
