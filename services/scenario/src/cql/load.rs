//! `cql-load`: a closed loop of SELECTs, one key each or one long IN, whole or in pages. One thread per connection.

use super::Common;
use super::connection::{Connection, said};
use super::table::{Answer, SELECT_IN, SELECT_ONE, Table};
use crate::faults::Faults;
use crate::histogram::Histogram;
use crate::keys::scattered;
use crate::options::Outcome;
use crate::random::Random;
use crate::report::{Checks, Measured};
use crate::usage::{Reading, round};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use weir_cql::{Opcode, StreamId};

/// Options of `cql-load`.
#[derive(Args, Debug)]
pub struct CqlLoad {
    #[command(flatten)]
    common: Common,
    /// Connections, each with a thread of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Requests under way on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    depth: u32,
    /// Keys of a SELECT: 1 is `uri = ?`, more is `uri IN ?` with different keys
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys_per_get: u32,
    /// Rows of a page of an IN; 0 asks for all at once
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    page: u32,
    /// Milliseconds between an answer and the next request
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
    connections: u32,
    depth: u32,
    keys_per_get: u32,
    page: u32,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    checks: Checks,
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// What one connection counted.
#[derive(Default)]
struct Counts {
    checks: Checks,
    operations: u64,
    keys: u64,
    failed: u64,
    latency: Histogram,
    faults: Faults,
}

/// A request under way.
struct Slot {
    started: Instant,
    keys: Vec<u32>,
    /// Of the keys, those without a row so far; used by requests of several keys.
    left: std::collections::HashSet<u32>,
}

struct Worker<'a> {
    options: &'a CqlLoad,
    table: &'a Table,
    phase: &'a AtomicU8,
    random: Random,
    counts: Counts,
}

impl Worker<'_> {
    /// Until told to stop; what a broken connection leaves unanswered is counted.
    fn run(mut self) -> Counts {
        let mut slots = Vec::new();
        if let Err(error) = self.converse(&mut slots) {
            let lost = slots.len().max(1) as u64;
            self.counts.checks.failed += lost;
            self.counts.failed += lost;
            self.counts.checks.connections_lost += 1;
            self.counts.checks.out_of_step += u64::from(format!("{error}").contains("out of step"));
            self.counts.faults.note(&format!("{error:#}"), 1);
        }
        self.counts.checks.errors.clone_from(self.counts.faults.counts());
        self.counts
    }

    fn converse(&mut self, slots: &mut Vec<Slot>) -> Result<()> {
        let options = self.options;
        let mut connection = Connection::open(options.common.server, options.common.patience())?;
        let id = connection.prepare(if options.keys_per_get == 1 { SELECT_ONE } else { SELECT_IN })?;
        for stream in 0..options.depth {
            slots.push(self.draw());
            self.send(&mut connection, &id, stream as i16, &slots[stream as usize], None)?;
        }
        let mut under_way = slots.len();
        while under_way > 0 {
            let (header, body) = connection.answer()?;
            let stream = header.stream;
            let slot = usize::try_from(stream.0).ok().and_then(|stream| slots.get_mut(stream));
            let slot = slot.with_context(|| format!("out of step: an answer on stream {}", stream.0))?;
            let only = slot.keys[0];
            let mut unanswered = true;
            let answer = if options.keys_per_get == 1 {
                self.table.check(&header, body, |index| index == only && std::mem::take(&mut unanswered))
            } else {
                let left = &mut slot.left;
                self.table.check(&header, body, |index| left.remove(&index))
            };
            match answer {
                Some(Answer { right, wrong, more: Some(state) }) => {
                    self.counts.checks.hits += u64::from(right);
                    self.counts.checks.wrong += u64::from(wrong);
                    self.send(&mut connection, &id, stream.0, &slots[stream.0 as usize], Some(&state))?;
                    continue;
                }
                Some(Answer { right, wrong, more: None }) => {
                    let missing = if options.keys_per_get == 1 {
                        u64::from(unanswered)
                    } else {
                        slot.left.len() as u64
                    };
                    self.counts.checks.hits += u64::from(right);
                    self.counts.checks.wrong += u64::from(wrong);
                    self.counts.checks.missing += missing;
                    self.ended(slot.started);
                }
                None => {
                    self.counts.checks.failed += 1;
                    self.counts.failed += 1;
                    self.counts.faults.note(&said(&header, body), 1);
                }
            }
            if self.phase.load(Ordering::Relaxed) == STOP {
                under_way -= 1;
                continue;
            }
            if options.pause_ms > 0 {
                std::thread::sleep(Duration::from_millis(options.pause_ms));
            }
            slots[stream.0 as usize] = self.draw();
            self.send(&mut connection, &id, stream.0, &slots[stream.0 as usize], None)?;
        }
        slots.clear();
        Ok(())
    }

    fn ended(&mut self, started: Instant) {
        if self.phase.load(Ordering::Relaxed) == MEASURE {
            self.counts.operations += 1;
            self.counts.keys += u64::from(self.options.keys_per_get);
            self.counts.latency.record(started.elapsed().as_nanos() as u64);
        }
    }

    fn draw(&mut self) -> Slot {
        let rows = self.table.rows();
        let start = self.random.below(rows);
        let keys: Vec<u32> = match self.options.keys_per_get {
            1 => vec![start],
            several => {
                scattered(rows, several, start, self.random.bits() as u32).map(|index| index.0).collect()
            }
        };
        let left = if keys.len() > 1 { keys.iter().copied().collect() } else { Default::default() };
        Slot { started: Instant::now(), keys, left }
    }

    fn send(
        &self,
        connection: &mut Connection,
        id: &[u8],
        stream: i16,
        slot: &Slot,
        state: Option<&[u8]>,
    ) -> Result<()> {
        connection.ask(StreamId(stream), Opcode::Execute, |out| match self.options.keys_per_get {
            1 => self.table.write_select(id, slot.keys[0], out),
            _ => self.table.write_in(id, &slot.keys, self.options.page, state, out),
        })
    }
}

/// Runs it.
pub fn load(options: &CqlLoad) -> Result<Outcome> {
    let table = Table::new(&options.common);
    ensure!(options.keys_per_get <= table.rows(), "an IN cannot have more keys than the table has rows");
    let phase = AtomicU8::new(WARM_UP);
    let watched = &options.common.watch;
    let (all, window, from, to) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.connections)
            .map(|number| {
                let random = Random::new(options.common.seed ^ (u64::from(number) << 32));
                let (table, phase) = (&table, &phase);
                scope.spawn(move || Worker { options, table, phase, random, counts: Counts::default() }.run())
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(options.warmup.max(0.0)));
        let from = Reading::take(watched);
        phase.store(MEASURE, Ordering::Relaxed);
        let opened = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(options.seconds.max(0.0)));
        phase.store(STOP, Ordering::Relaxed);
        let window = opened.elapsed().as_secs_f64();
        let to = Reading::take(watched);
        let all: Vec<Counts> = workers.into_iter().filter_map(|worker| worker.join().ok()).collect();
        (all, window, from, to)
    });
    ensure!(all.len() == options.connections as usize, "a connection's thread panicked");
    let mut total = Counts::default();
    for counts in all {
        total.operations += counts.operations;
        total.keys += counts.keys;
        total.failed += counts.failed;
        total.latency.merge(&counts.latency);
        total.checks.hits += counts.checks.hits;
        total.checks.missing += counts.checks.missing;
        total.checks.wrong += counts.checks.wrong;
        total.checks.out_of_step += counts.checks.out_of_step;
        total.checks.failed += counts.checks.failed;
        total.checks.connections_lost += counts.checks.connections_lost;
        for (error, times) in counts.checks.errors {
            *total.checks.errors.entry(error).or_default() += times;
        }
    }
    let Counts { checks, operations, keys, failed, latency, .. } = total;
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
        watched: from.watched_until(&to, watched, operations, keys),
    };
    let report = Report {
        scenario: "cql-load",
        server: options.common.server.to_string(),
        key_set: table.rows(),
        connections: options.connections,
        depth: options.depth,
        keys_per_get: options.keys_per_get,
        page: options.page,
        measured,
        checks,
    };
    Outcome::new(&report, &report.checks)
}
