//! `burst`: one request of very many keys, each on a connection of its own, all at once.

use crate::calls::{Caller, WhenFull};
use crate::clock::SECOND;
use crate::keys::scattered;
use crate::net::Address;
use crate::options::{Common, Header, Outcome, Run};
use crate::report::{Checks, Measured};
use crate::sockets::{self, SocketReport};
use crate::usage::{raise_open_files, round};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

/// Options of `burst`.
#[derive(Args, Debug)]
pub struct Burst {
    #[command(flatten)]
    common: Common,
    /// Connections, each for one `get`
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Ask only when every connection is up (or has failed), so that all are open at the same time
    #[arg(long)]
    hold: bool,
    /// Connections open at once; as many as there are, or as the open-file limit allows, when not given
    #[arg(long, value_name = "N", conflicts_with = "hold", value_parser = clap::value_parser!(u64).range(1..))]
    max_open: Option<u64>,
    /// What to do when a Unix socket's backlog is full
    #[arg(long, value_enum, default_value_t = WhenFull::Fail)]
    when_full: WhenFull,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    connections: u32,
    source_bind: Option<String>,
    calls_failed: u64,
    connected: u64,
    open_peak: u64,
    burst_seconds: f64,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
    /// Of a TCP server, after the burst.
    sockets_after: Option<SocketReport>,
}

/// Runs it.
pub fn burst(options: &Burst) -> Result<Outcome> {
    let run = Run::new(&options.common);
    let count = options.connections;
    let fit = raise_open_files(u64::from(count));
    ensure!(
        !options.hold || fit >= u64::from(count),
        "only {fit} connections fit the open-file limit (`ulimit -n`)"
    );
    if fit < u64::from(count) {
        eprintln!("weir-scenario: the open-file limit lets {fit} of {count} connections be open at once");
    }
    let fit = fit.min(options.max_open.unwrap_or(u64::MAX));
    let start = run.clock.now();
    let window = (start, start + 3_600 * SECOND);
    let mut caller = Caller::new(&run, window, fit, options.when_full, options.hold, None, "burst")?;
    caller.meter.tick(start);
    let due = run.clock.now();
    caller.request(scattered(run.world.keys.stored(), count, 0, 7_919), due);
    // Every call ends in an answer, a failure or a time-out.
    while caller.requests_open() > 0 {
        caller.turn(window.1)?;
    }
    let burst_seconds = round((run.clock.now() - due) as f64 / SECOND as f64);
    let Caller { client, mut meter, .. } = caller;
    meter.close(run.clock.now());
    let counts = client.counts;
    let (measured, checks) = meter.finish(&client, 0);
    let report = Report {
        header: Header::new("burst", &options.common),
        connections: count,
        source_bind: options.common.source_bind.map(|ip| ip.to_string()),
        calls_failed: checks.failed,
        connected: counts.connected,
        open_peak: counts.peak,
        burst_seconds,
        sockets_after: sockets_of(&run)?,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}

/// The sockets towards a TCP server; nothing for a Unix one, which has no ports.
pub fn sockets_of(run: &Run) -> Result<Option<SocketReport>> {
    match &run.target.server {
        Address::Tcp(address) => sockets::report(*address).map(Some),
        Address::Unix(_) => Ok(None),
    }
}
