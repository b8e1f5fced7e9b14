//! `rpc-backfill`: the caller of April 2026. Few requests, fewer than three in a second, each for 15 to 20 thousand posts.

use super::link::Link;
use super::methods::{Found, Method};
use super::world::World;
use crate::clock::nanos;
use crate::faults::Faults;
use crate::histogram::{Histogram, Quantiles};
use crate::keys::scattered;
use crate::options::Outcome;
use crate::random::Random;
use crate::report::Checks;
use crate::usage::round;
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

/// Options of `rpc-backfill`.
#[derive(Args, Clone, Debug)]
pub struct RpcBackfill {
    /// host:port of a data plane (gRPC without TLS), or of weir in front of one
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
    /// The list that `weir-dataplane world` prints for the world that the data plane was seeded with
    #[arg(long, value_name = "FILE")]
    world: PathBuf,
    /// What is asked for follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What it calls itself (x-atlantis-caller)
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Requests in a second
    #[arg(long, default_value_t = 2.5)]
    rate: f64,
    /// Fewest posts of a request
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys_from: u32,
    /// Most posts of a request
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys_to: u32,
    /// Requests under way at once; one that falls due beyond them is held back, and counted
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrent: u32,
    /// Seconds after which a request counts as failed
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    timeout: f64,
    /// Seconds in which requests fall due
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    server: String,
    rate: f64,
    /// Requests that fell due.
    due: u64,
    /// There were too many under way.
    held_back: u64,
    answered: u64,
    /// Of those that failed: RESOURCE_EXHAUSTED.
    refused: u64,
    /// Tries beyond the first of a request.
    retries: u64,
    /// Connections beyond the first.
    redials: u64,
    /// Posts of the requests that were sent, and of those that were answered.
    keys_asked: u64,
    keys_answered: u64,
    /// Answered ones.
    latency_us: Quantiles,
    /// The one that took longest, failed ones included.
    slowest: Option<Slowest>,
    #[serde(flatten)]
    checks: Checks,
}

#[derive(Clone, Debug, Serialize)]
struct Slowest {
    /// Its trace id.
    id: String,
    keys: u32,
    seconds: f64,
    answered: bool,
}

#[derive(Default)]
struct Counts {
    checks: Checks,
    faults: Faults,
    due: u64,
    held_back: u64,
    keys_asked: u64,
    keys_answered: u64,
    latency: Histogram,
    slowest: Option<Slowest>,
}

struct Run {
    world: World,
    link: Link,
    counts: RefCell<Counts>,
}

impl Run {
    async fn request(&self, keys: u32, mut random: Random) {
        let (start, stride) = (random.below(self.world.posts()), random.bits() as u32);
        let places = scattered(self.world.posts(), keys, start, stride);
        let posts = places.map(|place| self.world.at(place.0, &mut random)).collect();
        let call = Method::GetPostRecords.call_for(&self.world, "", keys, posts, &mut Random::new(0));
        let id = format!("{:016x}{:016x}", random.bits() | 1, random.bits());
        let traceparent = format!("00-{id}-{:016x}-01", random.bits() | 1);
        let begun = Instant::now();
        let ended = self.link.call(&self.world, &call, Some(&traceparent)).await;
        let took = begun.elapsed();
        let counts = &mut *self.counts.borrow_mut();
        counts.keys_asked += u64::from(keys);
        let answered = ended.is_ok();
        match ended {
            Ok(Found { right, missing, wrong }) => {
                counts.checks.hits += right;
                counts.checks.missing += missing;
                counts.checks.wrong += wrong;
                counts.keys_answered += u64::from(keys);
                counts.latency.record(took.as_nanos() as u64);
            }
            Err(error) => {
                counts.checks.failed += 1;
                counts.faults.note_line(format!("{error:#}").as_bytes());
            }
        }
        let seconds = round(took.as_secs_f64());
        if counts.slowest.as_ref().is_none_or(|slowest| slowest.seconds < seconds) {
            counts.slowest = Some(Slowest { id, keys, seconds, answered });
        }
    }
}

async fn send(run: &Rc<Run>, options: &RpcBackfill) {
    let begun = Instant::now();
    let mut due = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut random = Random::new(options.seed);
    let mut under_way = JoinSet::new();
    loop {
        due.tick().await;
        if begun.elapsed().as_secs_f64() >= options.seconds {
            break;
        }
        while under_way.try_join_next().is_some() {}
        let keys = random.between(options.keys_from, options.keys_to);
        let own = Random::new(random.bits());
        let room = under_way.len() < options.concurrent as usize;
        {
            let counts = &mut *run.counts.borrow_mut();
            counts.due += 1;
            counts.held_back += u64::from(!room);
        }
        if room {
            let run = run.clone();
            under_way.spawn_local(async move { run.request(keys, own).await });
        }
    }
    // Each ends: it has a time-out.
    while under_way.join_next().await.is_some() {}
}

/// Runs it.
///
/// # Errors
/// When there is no such world, or the options make no sense.
pub fn backfill(options: &RpcBackfill) -> Result<Outcome> {
    ensure!(options.rate > 0.0 && options.rate <= 1_000.0, "--rate: above 0, at most 1000");
    ensure!(options.seconds > 0.0 && options.seconds <= 86_400.0, "--seconds: above 0, at most a day");
    ensure!(options.keys_from <= options.keys_to, "--keys-from is above --keys-to");
    let run = Rc::new(Run {
        world: World::read(&options.world, options.seed)?,
        link: Link::new(options.server, options.caller.clone(), Duration::from_nanos(nanos(options.timeout))),
        counts: RefCell::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, send(&run, options));
    let counts = run.counts.take();
    let mut checks = counts.checks;
    checks.errors.clone_from(counts.faults.counts());
    let latency_us = counts.latency.quantiles();
    let report = Report {
        scenario: "rpc-backfill",
        server: options.server.to_string(),
        rate: options.rate,
        due: counts.due,
        held_back: counts.held_back,
        answered: latency_us.samples,
        refused: run.link.refused.get(),
        retries: run.link.retries.get(),
        redials: run.link.redials.get(),
        keys_asked: counts.keys_asked,
        keys_answered: counts.keys_answered,
        latency_us,
        slowest: counts.slowest,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
