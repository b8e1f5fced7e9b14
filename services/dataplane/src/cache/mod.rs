//! memcached, through weir: a fixed number of connections, each with a task of its own that no call owns. A call that is
//! cancelled leaves its command to the task, so that no connection is closed half way through a reply and none is opened
//! for it; what a caller cannot be served at once it does without.

pub mod key;

mod connection;

use crate::metrics::Metrics;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

/// An item of an answer: its key and value.
pub type Item = (String, Bytes);

/// Why a command was not carried out. A read goes on without the cache in every case.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CacheError {
    /// Too many commands wait: `--cache-queue-max`.
    #[error("too many cache commands wait")]
    Full,
    /// No connection, or it broke.
    #[error("memcached cannot be reached")]
    Down,
    /// `--cache-timeout-ms` is over.
    #[error("memcached did not answer in time")]
    Slow,
    /// It answered with an error.
    #[error("memcached refused a command")]
    Refused,
}

/// What a connection is asked to do.
pub(crate) enum Job {
    Get { keys: Vec<String>, reply: oneshot::Sender<Result<Vec<Item>, CacheError>> },
    Set { items: Vec<(String, Vec<u8>)>, ttl: u32, reply: oneshot::Sender<Result<(), CacheError>> },
    Delete { keys: Vec<String>, reply: oneshot::Sender<Result<(), CacheError>> },
}

/// The pool of connections.
pub struct Cache {
    jobs: mpsc::Sender<Job>,
    /// Stores under way: half of the connections, so that the fills of a large call never have all of them.
    sets: Semaphore,
    metrics: Arc<Metrics>,
}

impl Cache {
    /// Starts `connections` tasks for the server at `dsn` (`tcp://host:port`, `unix:///path`), which connect when they are
    /// first needed; at most `queue` commands wait, and each may take `timeout`. The tasks end when the cache is dropped.
    pub fn start(
        dsn: &str,
        connections: usize,
        queue: usize,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Cache {
        let (jobs, waiting) = mpsc::channel(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..connections {
            let (waiting, metrics) = (waiting.clone(), metrics.clone());
            tokio::spawn(connection::run(dsn.to_owned(), timeout, waiting, metrics));
        }
        Cache { jobs, sets: Semaphore::new((connections / 2).max(1)), metrics }
    }

    /// The items that are there, in no order. `keys` is one command: the caller bounds it.
    pub async fn get(&self, keys: Vec<String>) -> Result<Vec<Item>, CacheError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Get { keys, reply }, answer).await
    }

    /// Stores the items in one round trip, when fewer others do than half of the connections.
    pub async fn set(&self, items: Vec<(String, Vec<u8>)>, ttl: u32) -> Result<(), CacheError> {
        // It is never closed.
        let _one = self.sets.acquire().await.map_err(|_| CacheError::Down)?;
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Set { items, ttl, reply }, answer).await
    }

    /// Deletes them; one that was not there is no error.
    pub async fn delete(&self, keys: Vec<String>) -> Result<(), CacheError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Delete { keys, reply }, answer).await
    }

    /// Dropping this while it waits leaves the command to the connection.
    async fn ask<T>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        if self.jobs.try_send(job).is_err() {
            self.metrics.count_bound("cache-queue-max");
            return Err(CacheError::Full);
        }
        answer.await.unwrap_or(Err(CacheError::Down))
    }
}
