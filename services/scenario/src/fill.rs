//! `fill`: stores the key set, and with `--verify` reads all of it back.

use crate::ask::Ask;
use crate::clock::{Nanos, SECOND};
use crate::closed_loop::{self, Shape};
use crate::keys::KeyIndex;
use crate::options::{Common, Header, Outcome, Run};
use crate::report::{Checks, Measured};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Options of `fill`.
#[derive(Args, Debug)]
pub struct Fill {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Sets under way on each connection (fewer when values are large)
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    depth: u32,
    /// Read every key back in multigets of 100 and check it
    #[arg(long)]
    verify: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    stored: u64,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
}

#[derive(Serialize)]
struct Verified {
    keys_per_second: f64,
    #[serde(flatten)]
    checks: Checks,
}

/// Unsent bytes a connection may hold.
const BYTES_PER_CONNECTION: u32 = 4 << 20;
/// Keys per request when reading back.
const VERIFY_KEYS: u32 = 100;

/// Runs it.
pub fn fill(options: &Fill) -> Result<Outcome> {
    let run = Run::new(&options.common);
    let largest = (0..100).map(|n| run.world.values.length(KeyIndex(n))).max().unwrap_or(0).max(1);
    let depth = options.depth.min(BYTES_PER_CONNECTION / largest).max(1);
    let whole = Shape {
        connections: options.connections,
        depth,
        warmup: 0.0,
        seconds: f64::INFINITY,
        connect_first: true,
    };
    let total = run.world.keys.stored();
    let mut keys = (0..total).map(KeyIndex);
    let mut show = Progress { next: SECOND, total };
    let (measured, checks) = closed_loop::run(
        &run,
        whole,
        |_| keys.next().map(Ask::Set),
        |now, meter| show.at(now, meter.operations()),
    )?;
    let verified = match options.verify {
        false => None,
        true => {
            let mut starts = (0..total).step_by(VERIFY_KEYS as usize);
            let next = |_: &mut _| {
                let start = starts.next()?;
                Some(Ask::List((start..total.min(start + VERIFY_KEYS)).map(KeyIndex).collect()))
            };
            let (measured, checks) = closed_loop::run(&run, Shape { depth: 4, ..whole }, next, |_, _| {})?;
            Some(Verified { keys_per_second: measured.keys_per_second, checks })
        }
    };
    let falsified =
        checks.falsified() || verified.as_ref().is_some_and(|verified| verified.checks.falsified());
    let header = Header::new("fill", &options.common);
    let report = Report { header, stored: checks.hits, measured, checks, verified };
    Ok(Outcome { report: serde_json::to_value(&report)?, falsified })
}

/// One line on stderr per second.
struct Progress {
    next: Nanos,
    total: u32,
}

impl Progress {
    fn at(&mut self, now: Nanos, done: u64) {
        if now >= self.next {
            self.next = now + SECOND;
            eprintln!("weir-scenario: stored {done} of {} keys", self.total);
        }
    }
}
