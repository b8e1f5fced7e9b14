//! `load`: a closed loop of gets or sets over the key set. What a server can do, and what an operation costs.

use crate::ask::Ask;
use crate::closed_loop::{self, Shape};
use crate::options::{Common, Header, Outcome, Run};
use crate::report::{Checks, Measured};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// What `load` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// read keys of the set
    Get,
    /// store keys of the set again, with the same values
    Set,
}

/// Options of `load`.
#[derive(Args, Debug)]
pub struct Load {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Requests under way on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    depth: u32,
    /// Keys in one `get`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys_per_get: u32,
    /// What to do
    #[arg(long, value_enum, default_value_t = Verb::Get)]
    op: Verb,
    /// Measured seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Bring every connection up before the first request
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, default_missing_value = "true", num_args = 0..=1)]
    connect_first: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    op: Verb,
    connections: u32,
    depth: u32,
    keys_per_get: u32,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

/// Runs it.
pub fn load(options: &Load) -> Result<Outcome> {
    let run = Run::new(&options.common);
    let Load { connections, depth, keys_per_get, op, seconds, warmup, connect_first, .. } = *options;
    let shape = Shape { connections, depth, warmup, seconds, connect_first };
    let keys = &run.world.keys;
    let (measured, checks) = closed_loop::run(
        &run,
        shape,
        |random| {
            let get = Ask::get(if op == Verb::Set { 1 } else { keys_per_get }, keys, random);
            Some(match (op, get) {
                (Verb::Set, Ask::One(key)) => Ask::Set(key),
                (_, get) => get,
            })
        },
        |_, _| {},
    )?;
    let header = Header::new("load", &options.common);
    let report = Report { header, op, connections, depth, keys_per_get, measured, checks };
    Outcome::new(&report, &report.checks)
}
