//! The work of a service whose calls cost time per key: so many workers, each with one call at a time, first come, first
//! served. A call's keys are worked on one after the other, as a data plane reads a request's keys from its storage; the
//! work is waiting (for the storage), and takes no processor.

use anyhow::{Result, bail};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Calls that may wait for a worker.
const WAITING: usize = 65_536;

struct Job {
    takes: Duration,
    done: oneshot::Sender<()>,
}

/// The workers.
#[derive(Clone)]
pub struct Workers {
    jobs: SyncSender<Job>,
    per_key: Duration,
}

impl Workers {
    /// Starts them; they end with the last handle.
    ///
    /// # Errors
    /// When there are no threads to be had.
    pub fn start(count: u32, per_key: Duration) -> Result<Workers> {
        let (jobs, queue) = sync_channel(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..count {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(&queue))?;
        }
        Ok(Workers { jobs, per_key })
    }

    /// Returns when a worker has done the keys of a call.
    ///
    /// # Errors
    /// When too many calls wait.
    pub async fn work(&self, keys: u64) -> Result<()> {
        let takes = self.per_key.saturating_mul(u32::try_from(keys).unwrap_or(u32::MAX));
        let (done, ended) = oneshot::channel();
        match self.jobs.try_send(Job { takes, done }) {
            Ok(()) => Ok(ended.await?),
            Err(TrySendError::Full(_)) => bail!("{WAITING} calls wait already"),
            Err(TrySendError::Disconnected(_)) => bail!("the workers have ended"),
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // Whoever holds the lock waits for the next call; the others wait for the lock.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { takes, done }) = next else { return };
        if done.is_closed() {
            // Its caller is gone: nobody waits for it.
            continue;
        }
        std::thread::sleep(takes);
        // The same.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn calls_take_their_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let workers = Workers::start(2, Duration::from_millis(1)).unwrap();
        let began = Instant::now();
        runtime.block_on(async {
            let (a, b, c) = tokio::join!(workers.work(20), workers.work(20), workers.work(20));
            a.and(b).and(c).unwrap();
        });
        assert!(began.elapsed() >= Duration::from_millis(40), "two at a time: {:?}", began.elapsed());
    }
}
