//! `noise`: a few clients that ask for very many keys at once, at a rate or back to back. Also what
//! `storm --mode multiget` is made of.

use crate::ask::Ask;
use crate::clock::SECOND;
use crate::closed_loop;
use crate::keys::KeySet;
use crate::open_loop::{self, Arrival, Punctuality};
use crate::options::{Common, Header, Outcome, Run};
use crate::random::Random;
use crate::report::{Checks, Measured};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

/// How many keys a huge request asks for.
#[derive(Args, Clone, Copy, Debug, Serialize)]
pub struct BatchSize {
    /// Fewest keys of a request
    #[arg(long, default_value_t = 15_000)]
    pub keys_min: u32,
    /// Most keys of a request
    #[arg(long, default_value_t = 20_000)]
    pub keys_max: u32,
}

impl BatchSize {
    /// A number of keys in the range.
    pub fn draw(&self, random: &mut Random) -> u32 {
        random.between(self.keys_min, self.keys_max)
    }

    /// Refuses an empty range.
    pub fn check(&self) -> Result<()> {
        ensure!(
            1 <= self.keys_min && self.keys_min <= self.keys_max,
            "--keys-min must be from 1 to --keys-max"
        );
        Ok(())
    }
}

/// Options of `noise`.
#[derive(Args, Debug)]
pub struct Noise {
    #[command(flatten)]
    common: Common,
    /// Clients, each a connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Requests per second of all clients together; without it each client asks back to back
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    batch: BatchSize,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Print a line of JSON every so many seconds (with --rate)
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    clients: u32,
    /// `null`: back to back.
    rate: Option<f64>,
    #[serde(flatten)]
    batch: BatchSize,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    punctuality: Option<Punctuality>,
    #[serde(flatten)]
    checks: Checks,
}

/// Runs it.
pub fn noise(options: &Noise) -> Result<Outcome> {
    options.batch.check()?;
    let run = Run::new(&options.common);
    let Noise { clients, rate, batch, seconds, warmup, interval, .. } = *options;
    let keys = &run.world.keys;
    let (measured, checks, punctuality) = match rate {
        Some(rate) => {
            let shape =
                open_loop::Shape { connections: clients, warmup, seconds, interval, scenario: "noise" };
            let (measured, checks, punctuality) =
                open_loop::run(&run, shape, steady(rate, batch, keys, run.seed))?;
            (measured, checks, Some(punctuality))
        }
        None => {
            let shape =
                closed_loop::Shape { connections: clients, depth: 1, warmup, seconds, connect_first: true };
            let next = |random: &mut Random| Some(Ask::get(batch.draw(random), keys, random));
            let (measured, checks) = closed_loop::run(&run, shape, next, |_, _| {})?;
            (measured, checks, None)
        }
    };
    let header = Header::new("noise", &options.common);
    let report = Report { header, mode: None, clients, rate, batch, measured, punctuality, checks };
    Outcome::new(&report, &report.checks)
}

/// Huge requests at a steady rate, for whichever connection is idle.
fn steady(rate: f64, batch: BatchSize, keys: &KeySet, seed: u64) -> impl Iterator<Item = Arrival> {
    let gap = SECOND as f64 / rate.max(0.001);
    let mut random = Random::new(seed ^ 0x401e);
    (0u64..).map(move |n| Arrival {
        due: (n as f64 * gap) as u64,
        lane: None,
        ask: Ask::get(batch.draw(&mut random), keys, &mut random),
    })
}

/// The storm as one multiget per request: an open loop over `clients` connections.
pub fn storm_of_multigets(
    common: &Common,
    (clients, rate, batch): (u32, f64, BatchSize),
    (seconds, interval): (f64, Option<f64>),
) -> Result<Outcome> {
    let run = Run::new(common);
    let shape = open_loop::Shape { connections: clients, warmup: 0.0, seconds, interval, scenario: "storm" };
    let arrivals = steady(rate, batch, &run.world.keys, run.seed);
    let (measured, checks, punctuality) = open_loop::run(&run, shape, arrivals)?;
    let header = Header::new("storm", common);
    let (mode, rate, punctuality) = (Some("multiget"), Some(rate), Some(punctuality));
    let report = Report { header, mode, clients, rate, batch, measured, punctuality, checks };
    Outcome::new(&report, &report.checks)
}
