//! `storm`: the client of April 2026. Fewer than three requests a second, each for 15 to 20 thousand keys.
//!
//! `connections`: every key is a call of its own with a fresh connection, all at once (see `calls`).
//! `multiget`: every request is one `get` line on one connection.

use crate::burst::sockets_of;
use crate::calls::{Caller, WhenFull};
use crate::clock::{Nanos, SECOND, nanos};
use crate::histogram::Quantiles;
use crate::keys::scattered;
use crate::noise::{BatchSize, storm_of_multigets};
use crate::options::{Common, Header, Outcome, Run};
use crate::random::Random;
use crate::report::{Checks, Measured};
use crate::sockets::SocketReport;
use crate::usage::raise_open_files;
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// How the storm's client looks keys up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// a fresh connection per key
    Connections,
    /// one `get` line of all keys
    Multiget,
}

/// Options of `storm`.
#[derive(Args, Debug)]
pub struct Storm {
    #[command(flatten)]
    common: Common,
    /// How keys are looked up
    #[arg(long, value_enum, default_value_t = Mode::Connections)]
    mode: Mode,
    /// Requests per second
    #[arg(long, default_value_t = 2.5)]
    rate: f64,
    #[command(flatten)]
    batch: BatchSize,
    /// Seconds in which requests fall due
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// connections: requests worked on at once, 0 for no limit; multiget: connections (0 is 1)
    #[arg(long, default_value_t = 0)]
    concurrent: u32,
    /// connections: connections open at once; as many as the open-file limit allows when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_open: Option<u64>,
    /// connections: what to do when a Unix socket's backlog is full
    #[arg(long, value_enum, default_value_t = WhenFull::Fail)]
    when_full: WhenFull,
    /// Print a line of JSON every so many seconds
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    mode: &'static str,
    rate: f64,
    #[serde(flatten)]
    batch: BatchSize,
    source_bind: Option<String>,
    requests_due: u64,
    requests_finished: u64,
    requests_with_failures: u64,
    requests_unfinished: u64,
    request_latency_us: Quantiles,
    calls: u64,
    calls_ok: u64,
    calls_failed: u64,
    calls_unfinished: u64,
    dialled: u64,
    connected: u64,
    open_peak: u64,
    max_open: u64,
    /// Per call (key); latency counts from when the request fell due.
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
    sockets_after: Option<SocketReport>,
}

/// Connections at once when the open-file limit would allow more.
const MOST_OPEN: u64 = 60_000;

/// Runs it.
pub fn storm(options: &Storm) -> Result<Outcome> {
    options.batch.check()?;
    let Storm { common, mode, rate, batch, seconds, concurrent, max_open, when_full, interval } = options;
    if *mode == Mode::Multiget {
        return storm_of_multigets(common, ((*concurrent).max(1), *rate, *batch), (*seconds, *interval));
    }
    let run = Run::new(common);
    let max_open = raise_open_files(max_open.unwrap_or(MOST_OPEN)).min(max_open.unwrap_or(MOST_OPEN));
    let mut random = Random::new(run.seed ^ 0x5702);
    let begin = run.clock.now();
    let closes = begin + nanos(*seconds);
    let give_up = closes + run.timeout;
    let gap = SECOND as f64 / rate.max(0.001);
    let mut caller = Caller::new(&run, (begin, closes), max_open, *when_full, false, *interval, "storm")?;
    let (mut calls, mut requests_due) = (0, 0u64);
    let due_at = |number: u64| begin + (number as f64 * gap) as Nanos;
    let room = |caller: &Caller<'_, '_>| *concurrent == 0 || caller.requests_open() < u64::from(*concurrent);
    loop {
        let now = run.clock.now();
        while due_at(requests_due) <= now && due_at(requests_due) < closes && room(&caller) {
            let count = batch.draw(&mut random);
            let (start, stride) = (random.below(run.world.keys.stored()), (random.bits() >> 33) as u32);
            caller.request(scattered(run.world.keys.stored(), count, start, stride), due_at(requests_due));
            requests_due += 1;
            calls += u64::from(count);
        }
        let over = now >= closes || due_at(requests_due) >= closes;
        if over && caller.requests_open() == 0 && now >= closes || now >= give_up {
            break;
        }
        let wake = if room(&caller) { due_at(requests_due) } else { Nanos::MAX };
        caller.turn(wake.min(if now < closes { closes } else { give_up }))?;
    }
    let unfinished = caller.calls_open();
    let requests_unfinished = caller.requests_open();
    let Caller { client, meter, requests, requests_finished, requests_with_failures, .. } = caller;
    let counts = client.counts;
    let (measured, checks) = meter.finish(&client, unfinished);
    let report = Report {
        header: Header::new("storm", common),
        mode: "connections",
        rate: *rate,
        batch: *batch,
        source_bind: common.source_bind.map(|ip| ip.to_string()),
        requests_due,
        requests_finished,
        requests_with_failures,
        requests_unfinished,
        request_latency_us: requests.quantiles(),
        calls,
        calls_ok: calls - checks.failed - unfinished,
        calls_failed: checks.failed,
        calls_unfinished: unfinished,
        dialled: counts.dialled,
        connected: counts.connected,
        open_peak: counts.peak,
        max_open,
        sockets_after: sockets_of(&run)?,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
