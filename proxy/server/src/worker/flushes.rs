//! Flushes by prefix: each runs as a task beside the worker's own, and its end comes back as a token on the ready list.
//! Bound: [`weir_engine::FLUSHES_MAX`] at once per worker, each for at most [`DEADLINE`].

use super::Worker;
use super::ready::{Source, Token};
use crate::clock::seconds;
use crate::flush_prefix::flush_prefix;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use weir_engine::{FLUSHES_MAX, FlushJob};
use weir_telemetry::{Event, Severity};

/// A flush that takes longer than this has failed; what was deleted stays deleted.
const DEADLINE: Duration = Duration::from_secs(60);

type Ended = (FlushJob, Result<u64, String>);

/// The way back from the tasks.
pub(super) struct Flushes {
    tell: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
    source: Source,
    fresh: Vec<FlushJob>,
}

impl Flushes {
    pub(super) fn new(ready: &std::sync::Arc<super::ready::ReadyList>) -> Flushes {
        let (tell, ended) = mpsc::channel(FLUSHES_MAX as usize);
        Flushes { tell, ended, source: Source::new(ready, Token::Flushes), fresh: Vec::new() }
    }
}

impl Worker {
    /// Starts what the engine took on since the last turn.
    pub(super) fn start_flushes(&mut self) {
        self.engine.take_flushes(&mut self.flushes.fresh);
        if self.flushes.fresh.is_empty() {
            return;
        }
        for job in self.flushes.fresh.drain(..) {
            let pool = &self.in_force.settings.pools[job.pool.0 as usize];
            let servers: Vec<_> = pool.servers.iter().map(|server| server.address.clone()).collect();
            let tell = self.flushes.tell.clone();
            tokio::spawn(async move {
                let result = flush_prefix(&servers, job.prefix.as_bytes(), DEADLINE).await;
                // The worker is gone only when the process ends.
                let _ = tell.send((job, result)).await;
            });
        }
        // Registers the waker.
        self.flushes_event();
    }

    pub(super) fn flushes_event(&mut self) {
        self.flushes.source.handled();
        loop {
            let mut cx = Context::from_waker(self.flushes.source.waker());
            let Poll::Ready(Some((job, result))) = self.flushes.ended.poll_recv(&mut cx) else { return };
            let pool = self.in_force.settings.pools[job.pool.0 as usize].name.clone();
            let event = match &result {
                Ok(keys) => Event::new(Severity::Info, "flush_prefix", "keys with the prefix were flushed")
                    .number("keys", *keys),
                Err(error) => Event::new(Severity::Warn, "flush_prefix", "a flush by prefix failed")
                    .text("error", error),
            };
            let event = event.text("pool", &pool).text("prefix", &job.prefix);
            self.telemetry.events().emit(&event, seconds(self.now));
            self.engine.flush_done(&job, result.is_ok(), self.now);
        }
    }
}
