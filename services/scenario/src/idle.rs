//! `idle`: opens very many connections, does nothing, then sees whether each still answers. With `--watch`, what
//! idle clients cost the server.

use crate::ask::Ask;
use crate::client::{Change, Client};
use crate::clock::{SECOND, nanos};
use crate::closed_loop::{EXPIRE_EVERY, drain};
use crate::keys::KeyIndex;
use crate::options::{Common, Header, Outcome, Run};
use crate::report::{Basis, Checks, Measured, Meter};
use crate::usage::{require_open_files, round};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Options of `idle`.
#[derive(Args, Debug)]
pub struct Idle {
    #[command(flatten)]
    common: Common,
    /// Connections to hold
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Seconds to do nothing
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    connections: u32,
    connected: u64,
    connect_seconds: f64,
    closed_while_idle: u64,
    answered: u64,
    /// Over the idle seconds; operations are 0 there.
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

/// Runs it.
pub fn idle(options: &Idle) -> Result<Outcome> {
    let run = Run::new(&options.common);
    require_open_files(u64::from(options.connections))?;
    let mut client = Client::new(&run.world, &run.target, run.clock)?;
    let began = run.clock.now();
    let slots = client.open_all(options.connections as usize, began + run.timeout)?;
    let opens = run.clock.now();
    let closes = opens + nanos(options.seconds);
    let mut meter = Meter::new(opens, closes, Basis::Ended, &run.watched);
    meter.tick(opens);
    let mut closed = 0;
    while run.clock.now() < closes {
        client.wait(closes.min(run.clock.now() + EXPIRE_EVERY))?;
        while let Some(ready) = client.next_ready() {
            closed += u64::from(ready.change == Change::Closed);
        }
    }
    meter.tick(run.clock.now().max(closes));
    let now = run.clock.now();
    for (number, slot) in
        slots.iter().copied().enumerate().filter(|(_, slot)| client.is_open(*slot)).collect::<Vec<_>>()
    {
        let key = KeyIndex(number as u32 % run.world.keys.stored());
        Ask::One(key).put(&mut client, slot, now, run.world.keys.stored());
        client.flush(slot);
    }
    let unfinished = drain(&run, &mut client, &mut meter)?;
    let (measured, checks) = meter.finish(&client, unfinished);
    let report = Report {
        header: Header::new("idle", &options.common),
        connections: options.connections,
        connected: slots.len() as u64,
        connect_seconds: round((opens - began) as f64 / SECOND as f64),
        closed_while_idle: closed,
        answered: checks.hits + checks.missing,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
