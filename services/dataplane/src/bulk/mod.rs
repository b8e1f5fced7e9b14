//! Calls for many keys, apart from the others: threads of their own that give way to those of small calls, and on them a
//! session and cache connections of their own. Two calls, one of 20 keys and one of 20,000, share the bounds ([`Gate`]), what is
//! being read ([`crate::read::flight`]) and what is counted, and wait for each other nowhere else.
//!
//! [`Gate`]: crate::service::Gate

pub mod slice;

use crate::metrics::Raised;
use crate::read::Reads;
use anyhow::{Context as _, Result};
use std::sync::Arc;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

/// Steps of niceness that these threads give way: beside the others, a third of the processor.
const NICE: i32 = 5;

/// How these calls read, and where they run.
#[derive(Clone)]
pub struct Bulk {
    /// Calls for more keys than this belong here.
    pub keys: usize,
    /// Both storages.
    pub reads: Arc<Reads>,
    handle: Handle,
}

/// The threads; they end when this is dropped, and what runs on them with them.
pub struct Threads(Option<Runtime>);

impl Threads {
    /// So many of them. They are as nice as the system lets them be.
    pub fn start(count: usize) -> Result<Threads> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("large-calls")
            .on_thread_start(|| {
                // Neither can fail for a thread that asks for less than it has; without them it is a thread like the others.
                let _ = rustix::process::setpriority_process(None, NICE);
                let _ = slice::usual();
            })
            .enable_all()
            .build()
            .context("starting the threads of large calls")?;
        Ok(Threads(Some(runtime)))
    }

    /// Runs what connects on them, so that its tasks stay there.
    pub async fn connect<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.handle()?.spawn(work).await.context("connecting on the threads of large calls")?
    }

    /// For calls of more than `keys` keys.
    pub fn calls(&self, keys: usize, reads: Arc<Reads>) -> Result<Bulk> {
        Ok(Bulk { keys, reads, handle: self.handle()?.clone() })
    }

    fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).context("the threads of large calls have ended")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waits for nobody: this may be a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bulk {
    /// Runs a call there. Dropping this cancels it, and what it waits for. `None`: the threads have ended, or the call panicked.
    pub async fn run<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.reads.metrics.large_requests.inc();
        let _under_way = Raised::new(&self.reads.metrics.large_in_flight);
        let mut only = JoinSet::new();
        only.spawn_on(call, &self.handle);
        only.join_next().await?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_runs_on_threads_that_give_way_and_ends_with_who_waits_for_it() {
        let threads = Threads::start(1).expect("a thread");
        let nice = || rustix::process::getpriority_process(None).expect("its niceness");
        let there = threads.connect(async move { Ok(nice()) }).await.expect("run");
        assert_eq!(there, nice() + NICE);
        let (held, ended) = oneshot::channel::<()>();
        let mut only = JoinSet::new();
        only.spawn_on(
            async move {
                std::future::pending::<()>().await;
                drop(held);
            },
            threads.handle().expect("there"),
        );
        drop(only);
        let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert!(ended.expect("cancelled").is_err(), "dropped, not run to its end");
    }
}
