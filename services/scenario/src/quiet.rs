//! `quiet`: the neighbour. Few connections, each with a modest rate of one-key gets, in an open loop: what users of
//! the same server feel while somebody else is noisy.

use crate::ask::Ask;
use crate::clock::SECOND;
use crate::open_loop::{self, Arrival, Punctuality, Shape};
use crate::options::{Common, Header, Outcome, Run};
use crate::random::Random;
use crate::report::{Checks, Measured};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Options of `quiet`.
#[derive(Args, Debug)]
pub struct Quiet {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests per second on each connection
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Print a line of JSON every so many seconds
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    connections: u32,
    rate_per_connection: f64,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    punctuality: Punctuality,
    #[serde(flatten)]
    checks: Checks,
}

/// Runs it.
pub fn quiet(options: &Quiet) -> Result<Outcome> {
    let run = Run::new(&options.common);
    let Quiet { connections, rate, seconds, warmup, interval, .. } = *options;
    let shape = Shape { connections, warmup, seconds, interval, scenario: "quiet" };
    let gap = SECOND as f64 / (rate * f64::from(connections)).max(0.001);
    let mut random = Random::new(run.seed ^ 0x9137);
    // Connections take turns, so each has a steady rate; a little jitter keeps them from marching in step with
    // whatever else is periodic.
    let arrivals = (0u64..).map(|n| Arrival {
        due: (n as f64 * gap + random.unit() * gap * 0.5) as u64,
        lane: Some((n % u64::from(connections)) as usize),
        ask: Ask::get(1, &run.world.keys, &mut random),
    });
    let (measured, checks, punctuality) = open_loop::run(&run, shape, arrivals)?;
    let header = Header::new("quiet", &options.common);
    let report = Report { header, connections, rate_per_connection: rate, measured, punctuality, checks };
    Outcome::new(&report, &report.checks)
}
