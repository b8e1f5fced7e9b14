//! `slow-readers`: clients that ask for large values and then do not read. A server must not run out of memory or
//! stop serving others; it may close such a client.
//!
//! The values (few keys, large) are stored first. Each reader asks for some of them at once, holds still, and then
//! either reads everything, checked as always, or finds its connection closed.

use crate::ask::Ask;
use crate::client::Client;
use crate::clock::{SECOND, nanos};
use crate::closed_loop::{EXPIRE_EVERY, drain};
use crate::keys::{KeyIndex, KeySet, KeyStyle};
use crate::options::{Common, Header, Outcome, Run};
use crate::report::{Basis, Checks, Measured, Meter};
use crate::usage::{require_open_files, round};
use crate::values::{VALUE_MAX, ValueSize, Values};
use crate::wire::World;
use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;

/// Options of `slow-readers`. `--keys` and `--value-size` of the common options are not used.
#[derive(Args, Debug)]
pub struct SlowReaders {
    #[command(flatten)]
    common: Common,
    /// Readers
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Bytes of each large value
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(VALUE_MAX)))]
    large_value: u32,
    /// Large values stored
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    large_keys: u32,
    /// Gets each reader sends before it stops reading
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    requests: u32,
    /// Seconds without reading
    #[arg(long, default_value_t = 3.0)]
    hold: f64,
    /// SO_RCVBUF of the readers in bytes: what does not fit stays with the server
    #[arg(long, default_value_t = 65_536)]
    receive_buffer: usize,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    connections: u32,
    large_value: u32,
    requests_per_connection: u32,
    hold_seconds: f64,
    /// Readers that got every answer.
    readers_complete: u64,
    /// Readers whose connection was closed or reset.
    readers_closed: u64,
    bytes_read: u64,
    read_seconds: f64,
    /// Over the seconds without reading.
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

/// Runs it.
pub fn slow_readers(options: &SlowReaders) -> Result<Outcome> {
    let SlowReaders { connections, large_value, large_keys, requests, hold, receive_buffer, .. } = *options;
    require_open_files(u64::from(connections))?;
    let mut run = Run::new(&Common { keys: large_keys, ..options.common.clone() });
    // Keys of their own: a run beside another scenario must not overwrite its values.
    let seed = run.seed ^ 0x510;
    run.world = World {
        keys: KeySet::new(KeyStyle::Post, large_keys, seed),
        values: Values::new(ValueSize::Fixed(large_value), seed),
    };
    store(&run)?;
    run.target.receive_buffer = Some(receive_buffer);
    let mut client = Client::new(&run.world, &run.target, run.clock)?;
    let slots = client.open_all(connections as usize, run.clock.now() + run.timeout)?;
    ensure!(slots.len() == connections as usize, "not every reader came up: {:?}", client.faults.counts());
    let opens = run.clock.now();
    let closes = opens + nanos(hold);
    let mut meter = Meter::new(opens, closes, Basis::Ended, &run.watched);
    meter.tick(opens);
    for (number, slot) in slots.iter().copied().enumerate() {
        client.pause(slot, true);
        for request in 0..requests {
            let key = KeyIndex((number as u32 * requests + request) % large_keys);
            Ask::One(key).put(&mut client, slot, opens, large_keys);
        }
        client.flush(slot);
    }
    while run.clock.now() < closes {
        client.wait(closes.min(run.clock.now() + EXPIRE_EVERY))?;
        while client.next_ready().is_some() {}
    }
    meter.tick(run.clock.now().max(closes));
    slots.iter().for_each(|slot| client.pause(*slot, false));
    let reading = run.clock.now();
    let unfinished = drain(&run, &mut client, &mut meter)?;
    let read_seconds = round((run.clock.now() - reading) as f64 / SECOND as f64);
    let complete =
        slots.iter().filter(|slot| client.is_open(**slot) && client.depth(**slot) == 0).count() as u64;
    let counts = client.counts;
    let (measured, checks) = meter.finish(&client, unfinished);
    let report = Report {
        header: Header::new("slow-readers", &options.common),
        connections,
        large_value,
        requests_per_connection: requests,
        hold_seconds: hold,
        readers_complete: complete,
        readers_closed: counts.lost,
        bytes_read: counts.bytes_read,
        read_seconds,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}

/// Stores the large values, one after the other on one connection.
fn store(run: &Run) -> Result<()> {
    let mut client = Client::new(&run.world, &run.target, run.clock)?;
    let slots = client.open_all(1, run.clock.now() + run.timeout)?;
    let Some(slot) = slots.first().copied() else { bail!("cannot connect: {:?}", client.faults.counts()) };
    let now = run.clock.now();
    let mut meter = Meter::new(now, now, Basis::Ended, &[]);
    for key in 0..run.world.keys.stored() {
        client.set(slot, KeyIndex(key), run.clock.now());
        client.flush(slot);
        drain(run, &mut client, &mut meter)?;
    }
    let (_, checks) = meter.finish(&client, 0);
    ensure!(
        checks.hits == u64::from(run.world.keys.stored()),
        "the large values could not be stored: {:?}",
        checks.errors
    );
    Ok(())
}
