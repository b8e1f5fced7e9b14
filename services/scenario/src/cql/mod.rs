//! CQL: the load that compares weir with no proxy. Native protocol v4, prepared statements, LOCAL_ONE, no compression, on
//! the codec of this tree and not on a driver: what a driver costs is the same with and without a proxy and would only
//! blur the difference.
//!
//! One thread and one blocking socket per connection; what one read brings is answered by one write. Every row is checked
//! (key, 400 bytes of record, cid) and every key must be answered once. The codec is weir's own, so it is no judge of
//! weir's codec (the codec's tests have other crates for that): it is a judge of which rows come back, and when.

mod connection;
mod fill;
mod hold;
mod load;
mod probe;
mod table;

pub use fill::{CqlFill, fill};
pub use hold::{CqlHold, hold};
pub use load::{CqlLoad, load};
pub use probe::{CqlProbe, probe};

use crate::clock::nanos;
use crate::keys::KEYS_MAX;
use crate::usage::Watched;
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

/// Where to, which rows, how patient.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// host:port of a node, or of a proxy in front of one
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
    /// Rows of the table; the same number for `cql-fill` and for what reads it
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    keys: u32,
    /// Rows and the order of requests follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds after which an answer (or dial) counts as failed and its connection is closed
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    timeout: f64,
    /// Report CPU and memory of this process over the measured window (may repeat)
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
}

impl Common {
    fn patience(&self) -> Duration {
        Duration::from_nanos(nanos(self.timeout))
    }
}
