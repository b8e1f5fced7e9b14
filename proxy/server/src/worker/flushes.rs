//! Flushes by prefix: each runs as a task beside the worker's own, and its end comes back as a token on the ready list.
//! Bound: [`weir_engine::FLUSHES_MAX`] at once per worker, each for at most [`DEADLINE`].

use super::Worker;
use super::path::DataPath;
use super::ready::{Source, Token};
use crate::clock::{Clock, seconds};
use crate::flush_prefix::{Flush, Progress, flush_prefix};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_engine::{FLUSHES_MAX, FlushJob};
use weir_telemetry::{Event, Severity, Telemetry};

/// A flush that takes longer than this has failed; what was deleted stays deleted.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often one that runs tells how far it has come.
const TELL: Duration = Duration::from_secs(5);

/// The flush, and whether every key was deleted.
type Ended = (FlushJob, bool);

/// The way back from the tasks.
pub(super) struct Flushes {
    tell: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    source: Source,
    fresh: Vec<FlushJob>,
}

impl Flushes {
    pub(super) fn new(ready: &Arc<super::ready::ReadyList>) -> Flushes {
        let (tell, ended) = mpsc::channel(FLUSHES_MAX as usize);
        Flushes { tell, ended, source: Source::new(ready, Token::Flushes), fresh: Vec::new() }
    }
}

impl<P: DataPath> Worker<P> {
    /// Starts what the engine took on since the last turn.
    pub(super) fn start_flushes(&mut self) {
        self.engine.take_flushes(&mut self.flushes.fresh);
        if self.flushes.fresh.is_empty() {
            return;
        }
        for job in self.flushes.fresh.drain(..) {
            let pool = &self.in_force.settings.pools[job.pool.0 as usize];
            let flush = Flush {
                servers: pool.servers.iter().map(|server| server.address.clone()).collect(),
                prefix: job.prefix.clone(),
                auth_file: pool.auth_file.clone(),
                connect_timeout: pool.connect_timeout,
            };
            let log = Log { telemetry: self.telemetry.clone(), clock: self.clock, pool: pool.name.clone() };
            let tell = self.flushes.tell.clone();
            tokio::spawn(async move {
                let done = carry_out(&flush, &log).await;
                // The worker is gone only when the process ends.
                let _ = tell.send((job, done)).await;
            });
        }
        // Registers the waker.
        self.flushes_event();
    }

    pub(super) fn flushes_event(&mut self) {
        self.flushes.source.handled();
        loop {
            let mut cx = Context::from_waker(self.flushes.source.waker());
            let Poll::Ready(Some((job, done))) = self.flushes.ended.poll_recv(&mut cx) else { return };
            self.engine.flush_done(&job, done, self.now);
        }
    }
}

/// What a task needs to tell about its flush.
struct Log {
    telemetry: Arc<Telemetry>,
    clock: Clock,
    pool: Arc<str>,
}

/// Flushes under the deadline, and logs how it goes; whether every key was deleted.
async fn carry_out(flush: &Flush, log: &Log) -> bool {
    let (progress, started) = (Progress::default(), Instant::now());
    let mut work = pin!(flush_prefix(flush, &progress));
    let outcome = loop {
        let left = DEADLINE.saturating_sub(started.elapsed());
        match tokio::time::timeout(left.min(TELL), &mut work).await {
            Ok(outcome) => break outcome,
            Err(_) if started.elapsed() >= DEADLINE => {
                break Err(format!("not done after {} s", DEADLINE.as_secs()));
            }
            Err(_) => {
                // a cause of its own, so that it never stands in the way of an end
                let event =
                    Event::new(Severity::Info, "flush_prefix_runs", "keys with a prefix are being flushed");
                log.tell(event, flush, &progress, started);
            }
        }
    };
    let event = match &outcome {
        Ok(()) => Event::new(Severity::Info, "flush_prefix", "keys with the prefix were flushed"),
        Err(error) => {
            Event::new(Severity::Warn, "flush_prefix_failed", "a flush by prefix failed").text("error", error)
        }
    };
    log.tell(event, flush, &progress, started);
    outcome.is_ok()
}

impl Log {
    fn tell(&self, event: Event<'_>, flush: &Flush, progress: &Progress, started: Instant) {
        let event = event
            .text("pool", &self.pool)
            .text("prefix", &flush.prefix)
            .number("keys_seen", progress.seen())
            .number("deleted", progress.deleted())
            .number("gone", progress.gone())
            .number("failed", progress.failed())
            .number("seconds", started.elapsed().as_secs());
        self.telemetry.events().emit(&event, seconds(self.clock.now()));
    }
}
