//! Options that every scenario shares, and the run they make.

use crate::clock::{Clock, Nanos, nanos};
use crate::keys::{KEYS_MAX, KeySet, KeyStyle};
use crate::net::{Address, Target};
use crate::report::Checks;
use crate::usage::Watched;
use crate::values::{ValueSize, Values};
use crate::wire::World;
use clap::Args;
use serde::Serialize;
use std::net::IpAddr;

/// Where to, which keys, how patient.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// host:port or unix:/path of a memcached, or of anything that speaks like one
    #[arg(long, value_name = "ADDR")]
    pub server: Address,
    /// Keys in the set; the same number for `fill` and for what reads it
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    pub keys: u32,
    /// Bytes of a value, or `posts` for lengths like those of records
    #[arg(long, default_value = "100", value_name = "BYTES")]
    pub value_size: ValueSize,
    /// How keys are written
    #[arg(long, value_enum, default_value_t = KeyStyle::Post)]
    pub key_style: KeyStyle,
    /// Keys, values and the order of requests follow from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds after which a request (or dial) counts as failed and its connection is closed
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub timeout: f64,
    /// Bind sockets to this address, port 0, before connecting
    #[arg(long, value_name = "IP")]
    pub source_bind: Option<IpAddr>,
    /// Report CPU and memory of this process over the measured window (may repeat)
    #[arg(long, value_name = "NAME=PID")]
    pub watch: Vec<Watched>,
}

/// What a scenario runs with.
pub struct Run {
    /// Keys and values.
    pub world: World,
    /// Whom to dial.
    pub target: Target,
    /// Started with the run.
    pub clock: Clock,
    /// Patience per request.
    pub timeout: Nanos,
    /// Processes to report on.
    pub watched: Vec<Watched>,
    /// Of the order of requests.
    pub seed: u64,
}

impl Run {
    /// Makes the key set and starts the clock.
    pub fn new(common: &Common) -> Self {
        let world = World {
            keys: KeySet::new(common.key_style, common.keys, common.seed),
            values: Values::new(common.value_size, common.seed),
        };
        let target =
            Target { server: common.server.clone(), source: common.source_bind, receive_buffer: None };
        let (timeout, watched, seed) = (nanos(common.timeout), common.watch.clone(), common.seed);
        Self { world, target, clock: Clock::start(), timeout, watched, seed }
    }
}

/// Every report begins with these.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    /// Name of the subcommand.
    pub scenario: &'static str,
    /// The server asked.
    pub server: String,
    /// Keys in the set.
    pub key_set: u32,
    /// Bytes of a value, or `posts`.
    pub value_size: String,
}

impl Header {
    /// The header of a scenario's report.
    pub fn new(scenario: &'static str, common: &Common) -> Self {
        Self {
            scenario,
            server: common.server.to_string(),
            key_set: common.keys,
            value_size: common.value_size.to_string(),
        }
    }
}

/// A report and whether it shows an answer that must never be given.
pub struct Outcome {
    /// What is printed.
    pub report: serde_json::Value,
    /// A wrong value or a connection out of step.
    pub falsified: bool,
}

impl Outcome {
    /// Of a report with checks.
    pub fn new(report: &impl Serialize, checks: &Checks) -> anyhow::Result<Self> {
        Ok(Self { report: serde_json::to_value(report)?, falsified: checks.falsified() })
    }
}
