//! `rpc-load`: a closed loop of calls. One thread; one task for each call under way.

use super::asked::{Asked, Forgetful};
use super::client::Sender;
use super::messages::{self, RECORD};
use crate::clock::nanos;
use crate::faults::Faults;
use crate::histogram::Histogram;
use crate::keys::{KEYS_MAX, KeyIndex, scattered};
use crate::options::Outcome;
use crate::random::Random;
use crate::report::{Checks, Measured};
use crate::usage::{Reading, Watched, round};
use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use clap::Args;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// Options of `rpc-load`.
#[derive(Args, Clone, Debug)]
pub struct RpcLoad {
    /// host:port of a service, or of a proxy in front of one
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
    /// Keys in the set that calls choose from
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(KEYS_MAX)))]
    keys: u32,
    /// Choose from the posts of the world in this file instead, as `weir-dataplane world` lists it
    #[arg(long, value_name = "FILE")]
    posts: Option<PathBuf>,
    /// Before each call delete what the data plane's cache, this memcached, has of its posts; the call's time begins after it
    #[arg(long, value_name = "ADDR", requires = "posts")]
    cold: Option<SocketAddr>,
    /// Keys and the order of calls follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds after which a call (or dial) counts as failed
    #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
    timeout: f64,
    /// Report CPU and memory of this process over the measured window (may repeat)
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<Watched>,
    /// Unary calls of Connect over HTTP/1.1, instead of gRPC over HTTP/2 without TLS
    #[arg(long)]
    connect: bool,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Calls under way on each connection; 1 with --connect
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    depth: u32,
    /// Keys of a call, all different
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys_per_call: u32,
    /// Milliseconds between an answer and the next call
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pause_ms: u64,
    /// Measured seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
}

#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    server: String,
    key_set: u32,
    protocol: &'static str,
    connections: u32,
    depth: u32,
    keys_per_call: u32,
    /// Bytes of the messages, without framing.
    request_bytes: u64,
    reply_bytes: u64,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Stop,
}

/// What all tasks of a run share.
struct Run {
    options: RpcLoad,
    asked: Asked,
    server: String,
    phase: Cell<Phase>,
    counts: RefCell<Counts>,
}

#[derive(Default)]
struct Counts {
    checks: Checks,
    faults: Faults,
    operations: u64,
    failed: u64,
    latency: Histogram,
    request_bytes: u64,
    reply_bytes: u64,
}

impl Counts {
    /// A call has ended; `measured`: inside the window.
    fn ended(&mut self, ended: Result<messages::Found>, took: Duration, measured: bool) {
        match ended {
            Ok(found) => {
                self.checks.hits += found.right;
                self.checks.wrong += found.wrong;
                self.checks.missing += found.missing;
                if measured {
                    self.operations += 1;
                    self.latency.record(took.as_nanos() as u64);
                }
            }
            Err(error) => {
                self.checks.failed += 1;
                self.failed += u64::from(measured);
                self.faults.note_line(format!("{error:#}").as_bytes());
            }
        }
    }
}

impl Run {
    /// Calls until told to stop.
    async fn converse(&self, mut sender: Sender, mut random: Random) {
        let patience = Duration::from_nanos(nanos(self.options.timeout));
        let mut cache = None;
        while self.phase.get() != Phase::Stop {
            let indices = self.draw(&mut random);
            if let Err(error) = self.forget(&mut cache, &indices).await {
                self.counts.borrow_mut().ended(Err(error), Duration::ZERO, false);
                return;
            }
            let started = Instant::now();
            let called = tokio::time::timeout(patience, self.call(&mut sender, &indices)).await;
            let took = started.elapsed();
            let ended = called.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {patience:?}")));
            let failed = ended.is_err();
            self.counts.borrow_mut().ended(ended, took, self.phase.get() == Phase::Measure);
            if failed {
                // The next call would most likely fail alike, and at once.
                return;
            }
            if self.options.pause_ms > 0 {
                tokio::time::sleep(Duration::from_millis(self.options.pause_ms)).await;
            }
        }
    }

    /// Makes the call for these keys a cold one, where that is asked for.
    async fn forget(&self, cache: &mut Option<Forgetful>, indices: &[KeyIndex]) -> Result<()> {
        let Some(server) = self.options.cold else { return Ok(()) };
        let cache = match cache {
            Some(cache) => cache,
            None => cache.insert(Forgetful::dial(server).await?),
        };
        cache.forget(indices.iter().map(|index| self.asked.bytes(*index))).await
    }

    async fn call(&self, sender: &mut Sender, indices: &[KeyIndex]) -> Result<messages::Found> {
        let keys = indices.iter().map(|index| self.asked.bytes(*index));
        let mut body = BytesMut::with_capacity(sender.room() + indices.len() * (RECORD + 2));
        body.resize(sender.room(), 0);
        messages::write_request(keys, &mut body);
        let asked = (body.len() - sender.room()) as u64;
        let reply = sender.call(&self.server, body).await?;
        {
            let counts = &mut *self.counts.borrow_mut();
            counts.request_bytes = counts.request_bytes.max(asked);
            counts.reply_bytes = counts.reply_bytes.max(reply.len() as u64);
        }
        self.asked.check(&reply, indices)
    }

    fn draw(&self, random: &mut Random) -> Vec<KeyIndex> {
        let stored = self.asked.stored();
        let (start, stride) = (random.below(stored), random.bits() as u32);
        scattered(stored, self.options.keys_per_call, start, stride).collect()
    }
}

/// Opens every connection, then calls on all of them through warm-up, window and drain. What the window cost, and its
/// length in seconds.
async fn measure(run: &Rc<Run>) -> Result<(Reading, f64, Reading)> {
    let options = &run.options;
    let patience = Duration::from_nanos(nanos(options.timeout));
    let mut senders = Vec::new();
    for _ in 0..options.connections {
        let dialled = Sender::dial(options.server, options.connect);
        let first = tokio::time::timeout(patience, dialled).await.context("nobody answers")??;
        for _ in 1..options.depth {
            senders.extend(first.another());
        }
        senders.push(first);
    }
    let mut calling = tokio::task::JoinSet::new();
    for (number, sender) in senders.into_iter().enumerate() {
        let random = Random::new(options.seed ^ ((number as u64) << 32));
        let run = run.clone();
        calling.spawn_local(async move { run.converse(sender, random).await });
    }
    tokio::time::sleep(Duration::from_secs_f64(options.warmup.max(0.0))).await;
    let from = Reading::take(&options.watch);
    run.phase.set(Phase::Measure);
    let opened = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(options.seconds.max(0.0))).await;
    run.phase.set(Phase::Stop);
    let window = opened.elapsed().as_secs_f64();
    let to = Reading::take(&options.watch);
    while let Some(ended) = calling.join_next().await {
        ended.context("a call's task")?;
    }
    Ok((from, window, to))
}

/// Runs it.
///
/// # Errors
/// When nobody answers at the address, or the options make no sense together.
pub fn load(options: &RpcLoad) -> Result<Outcome> {
    let asked = match &options.posts {
        Some(file) => Asked::posts(file)?,
        None => Asked::set(options.keys, options.seed),
    };
    ensure!(options.keys_per_call <= asked.stored(), "a call cannot have more keys than the set");
    ensure!(!options.connect || options.depth == 1, "HTTP/1.1 has one call at a time on a connection");
    crate::usage::require_open_files(options.connections.into())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = Rc::new(Run {
        options: options.clone(),
        asked,
        server: options.server.to_string(),
        phase: Cell::new(Phase::WarmUp),
        counts: RefCell::default(),
    });
    let tasks = LocalSet::new();
    let (from, window, to) = runtime.block_on(tasks.run_until(measure(&run)))?;
    let Counts { mut checks, faults, operations, failed, latency, request_bytes, reply_bytes } =
        run.counts.take();
    checks.errors.clone_from(faults.counts());
    let keys = operations * u64::from(options.keys_per_call);
    let per_second = |count: u64| (count as f64 / window * 10.0).round() / 10.0;
    let measured = Measured {
        window_seconds: round(window),
        operations,
        operations_per_second: per_second(operations),
        keys,
        keys_per_second: per_second(keys),
        ended_in_window: operations,
        failed_in_window: failed,
        latency_us: latency.quantiles(),
        client_cpu: from.own_until(&to, operations, keys),
        watched: from.watched_until(&to, &options.watch, operations, keys),
    };
    let report = Report {
        scenario: "rpc-load",
        server: options.server.to_string(),
        key_set: run.asked.stored(),
        protocol: if options.connect { "connect" } else { "grpc" },
        connections: options.connections,
        depth: options.depth,
        keys_per_call: options.keys_per_call,
        request_bytes,
        reply_bytes,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
