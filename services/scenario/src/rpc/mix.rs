//! `rpc-mix`: what an AppView asks of its data plane on an ordinary day. Pages fall due at a rate, whatever became of those
//! before; each is a series of calls (`pages.rs`), whose replies are checked (`methods.rs`).

use super::link::Link;
use super::methods::{Call, Found};
use super::pages::{self, Page, Size};
use super::world::World;
use crate::clock::nanos;
use crate::faults::Faults;
use crate::histogram::{Histogram, Quantiles};
use crate::options::Outcome;
use crate::random::Random;
use crate::report::{Checks, Interval, Measured, print_line};
use crate::usage::{Reading, Watched, round};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

/// Options of `rpc-mix`.
#[derive(Args, Clone, Debug)]
pub struct RpcMix {
    /// host:port of a data plane (gRPC without TLS), or of weir in front of one
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
    /// The list that `weir-dataplane world` prints for the world that the data plane was seeded with
    #[arg(long, value_name = "FILE")]
    world: PathBuf,
    /// Which pages come, and what they ask for, follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What it calls itself (x-atlantis-caller)
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Pages in a second; one is nine to seventeen calls
    #[arg(long, default_value_t = 8.0, value_name = "PAGES")]
    rate: f64,
    /// Pages under way at once; one that falls due beyond them is not begun, and counted
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pages_max: u32,
    /// Seconds after which a call counts as failed
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    timeout: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Print a line of JSON every so many seconds
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
    /// Report CPU and memory of this process over the measured window (may repeat)
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
}

#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    server: String,
    rate: f64,
    pages: PagesReport,
    /// Tries beyond the first of a call.
    retries: u64,
    /// Connections beyond the first.
    redials: u64,
    /// How long callers waited for an answer or an error: calls of the window, failed ones included.
    waits_us: Quantiles,
    /// Calls.
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

/// What became of the pages that fell due in the window.
#[derive(Serialize)]
struct PagesReport {
    due: u64,
    /// All of whose calls were answered.
    answered: u64,
    failed: u64,
    /// There were too many under way.
    not_begun: u64,
    /// From when they fell due, failed ones excluded.
    latency_us: Quantiles,
    /// How many of each fell due.
    by_name: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Counts {
    checks: Checks,
    faults: Faults,
    calls: Histogram,
    waits: Histogram,
    keys: u64,
    failed: u64,
    pages: Histogram,
    pages_due: u64,
    pages_by_name: BTreeMap<&'static str, u64>,
    pages_failed: u64,
    pages_not_begun: u64,
    /// Since the last line.
    lately: Histogram,
    lately_ended: u64,
    lately_failed: u64,
}

/// What all tasks of a run share.
struct Run {
    world: World,
    link: Link,
    counts: RefCell<Counts>,
}

impl Run {
    async fn page(self: Rc<Run>, page: &'static Page, due: Instant, mut random: Random, measured: bool) {
        let viewer = self.world.actor(&mut random).did.clone();
        let posts = pages::posts(&mut random);
        let mut good = true;
        for layer in page.layers {
            let mut calls = JoinSet::new();
            for (method, size) in *layer {
                let count = match size {
                    Size::Of(count) => *count,
                    Size::Posts(times) => times * posts,
                };
                let call = method.call(&self.world, &viewer, count, &mut random);
                let run = self.clone();
                calls.spawn_local(async move { run.call(call, measured).await });
            }
            while let Some(ended) = calls.join_next().await {
                good &= ended.unwrap_or(false);
            }
            if !good {
                // One call that fails is an error to the user: the AppView asks for nothing more.
                break;
            }
        }
        if measured {
            let counts = &mut *self.counts.borrow_mut();
            counts.pages_failed += u64::from(!good);
            if good {
                counts.pages.record(due.elapsed().as_nanos() as u64);
            }
        }
    }

    /// Whether it was answered.
    async fn call(&self, call: Call, measured: bool) -> bool {
        let begun = Instant::now();
        let ended = self.link.call(&self.world, &call, None).await;
        let took = begun.elapsed().as_nanos() as u64;
        let counts = &mut *self.counts.borrow_mut();
        if measured {
            counts.waits.record(took);
        }
        match ended {
            Ok(Found { right, missing, wrong }) => {
                counts.checks.hits += right;
                counts.checks.missing += missing;
                counts.checks.wrong += wrong;
                counts.lately_ended += 1;
                counts.lately.record(took);
                if measured {
                    counts.calls.record(took);
                    counts.keys += u64::from(call.keys);
                }
                true
            }
            Err(error) => {
                counts.checks.failed += 1;
                counts.failed += u64::from(measured);
                counts.lately_failed += 1;
                counts.faults.note_line(format!("{error:#}").as_bytes());
                false
            }
        }
    }

    fn line(&self, since: Instant) {
        let counts = &mut *self.counts.borrow_mut();
        print_line(&Interval {
            scenario: "rpc-mix",
            interval_end: round(since.elapsed().as_secs_f64()),
            operations: std::mem::take(&mut counts.lately_ended),
            failed: std::mem::take(&mut counts.lately_failed),
            latency_us: std::mem::take(&mut counts.lately).quantiles(),
        });
    }
}

/// A page whenever one falls due, until the time is over and all have ended. What the window cost, and its length in seconds.
async fn measure(run: &Rc<Run>, options: &RpcMix) -> Result<(Reading, f64, Reading)> {
    let begun = Instant::now();
    let (opens, lasts) = (Duration::from_secs_f64(options.warmup), Duration::from_secs_f64(options.seconds));
    let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut lines = tokio::time::interval(Duration::from_secs_f64(options.interval.unwrap_or(3_600.0)));
    lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
    lines.tick().await;
    let mut random = Random::new(options.seed);
    let mut pages = JoinSet::new();
    let mut from = None;
    loop {
        // All are safe to drop: a tick that was not waited for comes again, an ended page is counted by itself.
        tokio::select! {
            at = due.tick() => {
                if begun.elapsed() >= opens + lasts {
                    break;
                }
                let measured = begun.elapsed() >= opens;
                if measured && from.is_none() {
                    from = Some((Reading::take(&options.watch), Instant::now()));
                }
                let page = pages::draw(&mut random);
                let own = Random::new(random.bits());
                let room = pages.len() < options.pages_max as usize;
                if measured {
                    let counts = &mut *run.counts.borrow_mut();
                    counts.pages_due += 1;
                    *counts.pages_by_name.entry(page.name).or_default() += 1;
                    counts.pages_not_begun += u64::from(!room);
                }
                if room {
                    pages.spawn_local(run.clone().page(page, at.into_std(), own, measured));
                }
            }
            _ = lines.tick() => run.line(begun),
            Some(_) = pages.join_next() => {}
        }
    }
    let to = Reading::take(&options.watch);
    let (from, opened) = from.unwrap_or_else(|| (Reading::take(&options.watch), Instant::now()));
    let window = opened.elapsed().as_secs_f64();
    // Each ends: its calls have a time-out.
    while pages.join_next().await.is_some() {}
    Ok((from, window, to))
}

/// Runs it.
///
/// # Errors
/// When there is no such world, or the options make no sense.
pub fn mix(options: &RpcMix) -> Result<Outcome> {
    ensure!(options.rate > 0.0 && options.rate <= 10_000.0, "--rate: above 0, at most 10000");
    ensure!(options.seconds > 0.0 && options.seconds <= 86_400.0, "--seconds: above 0, at most a day");
    ensure!((0.0..=3_600.0).contains(&options.warmup), "--warmup: 0 to 3600");
    ensure!(
        options.interval.is_none_or(|seconds| (0.01..=3_600.0).contains(&seconds)),
        "--interval: 0.01 to 3600"
    );
    let patience = Duration::from_nanos(nanos(options.timeout));
    let run = Rc::new(Run {
        world: World::read(&options.world, options.seed)?,
        link: Link::new(options.server, options.caller.clone(), patience),
        counts: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let (from, window, to) = runtime.block_on(tasks.run_until(measure(&run, options)))?;
    let counts = run.counts.take();
    let mut checks = counts.checks;
    checks.errors.clone_from(counts.faults.counts());
    let (calls, pages) = (counts.calls.quantiles(), counts.pages.quantiles());
    let (operations, keys) = (calls.samples, counts.keys);
    let per_second = |count: u64| (count as f64 / window.max(0.001) * 10.0).round() / 10.0;
    let measured = Measured {
        window_seconds: round(window),
        operations,
        operations_per_second: per_second(operations),
        keys,
        keys_per_second: per_second(keys),
        ended_in_window: operations,
        failed_in_window: counts.failed,
        latency_us: calls,
        client_cpu: from.own_until(&to, operations, keys),
        watched: from.watched_until(&to, &options.watch, operations, keys),
    };
    let pages = PagesReport {
        due: counts.pages_due,
        answered: pages.samples,
        failed: counts.pages_failed,
        not_begun: counts.pages_not_begun,
        latency_us: pages,
        by_name: counts.pages_by_name,
    };
    let report = Report {
        scenario: "rpc-mix",
        server: options.server.to_string(),
        rate: options.rate,
        pages,
        retries: run.link.retries.get(),
        redials: run.link.redials.get(),
        waits_us: counts.waits.quantiles(),
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
