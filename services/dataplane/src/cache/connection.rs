//! One connection to memcached and the commands it carries, one after the other.

use super::{CacheError, Item, Job};
use crate::metrics::{Metrics, Outcome};
use async_memcached::{AsciiProtocol as _, Client, Error, Status};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

/// How long a server that could not be reached is left alone: commands meanwhile fail at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Carries jobs until the pool is dropped.
pub(super) async fn run(
    dsn: String,
    limit: Duration,
    waiting: Arc<Mutex<mpsc::Receiver<Job>>>,
    metrics: Arc<Metrics>,
) {
    let mut client: Option<Client> = None;
    let mut not_before = Instant::now();
    loop {
        let Some(job) = waiting.lock().await.recv().await else { return };
        if abandoned(&job) {
            continue;
        }
        let mut fault = None;
        if client.as_ref().is_none_or(Client::is_closed) {
            client = None;
            if Instant::now() < not_before {
                fault = Some(CacheError::Down);
            } else {
                match timeout(limit, Client::new(&dsn)).await {
                    Ok(Ok(fresh)) => client = Some(fresh),
                    _ => {
                        not_before = Instant::now() + PAUSE;
                        fault = Some(CacheError::Down);
                    }
                }
            }
        }
        let ended = match (fault, client.as_mut()) {
            (None, Some(client)) => carry(client, job, limit).await,
            (fault, _) => refuse(job, fault.unwrap_or(CacheError::Down)),
        };
        // A reply that did not come in time may still come: the client has closed the connection.
        let outcome = match ended {
            Ok(()) => "ok",
            Err(CacheError::Slow) => "timeout",
            Err(CacheError::Down | CacheError::Full) => "down",
            Err(CacheError::Refused) => "error",
        };
        metrics.cache.get_or_create(&Outcome { outcome }).inc();
    }
}

/// Nobody waits for it any more, and it changes nothing.
fn abandoned(job: &Job) -> bool {
    matches!(job, Job::Get { reply, .. } if reply.is_closed())
}

async fn carry(client: &mut Client, job: Job, limit: Duration) -> Result<(), CacheError> {
    // Whoever asked may be gone: an answer that finds nobody is dropped.
    match job {
        Job::Get { keys, reply } => {
            let answer = within(limit, get(client, &keys)).await;
            let ended = answer.as_ref().map(|_| ()).map_err(|error| *error);
            let _ = reply.send(answer);
            ended
        }
        Job::Set { items, ttl, reply } => {
            let answer = within(limit, set(client, &items, ttl)).await;
            let _ = reply.send(answer);
            answer
        }
        Job::Delete { keys, reply } => {
            let answer = within(limit, delete(client, &keys)).await;
            let _ = reply.send(answer);
            answer
        }
    }
}

fn refuse(job: Job, error: CacheError) -> Result<(), CacheError> {
    match job {
        Job::Get { reply, .. } => drop(reply.send(Err(error))),
        Job::Set { reply, .. } | Job::Delete { reply, .. } => drop(reply.send(Err(error))),
    }
    Err(error)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, CacheError>>,
) -> Result<T, CacheError> {
    timeout(limit, work).await.unwrap_or(Err(CacheError::Slow))
}

async fn get(client: &mut Client, keys: &[String]) -> Result<Vec<Item>, CacheError> {
    let values = match client.get_multi(keys).await {
        Ok(values) => values,
        Err(Error::Protocol(Status::NotFound)) => return Ok(Vec::new()),
        Err(error) => return Err(fault(&error)),
    };
    let items = values.into_iter().filter_map(|value| {
        let key = String::from_utf8(value.key).ok()?;
        Some((key, Bytes::from(value.data?)))
    });
    Ok(items.collect())
}

async fn set(client: &mut Client, items: &[(String, Vec<u8>)], ttl: u32) -> Result<(), CacheError> {
    let pairs: Vec<(&str, &[u8])> =
        items.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    let stored = client.set_multi(&pairs, Some(i64::from(ttl)), None).await.map_err(|error| fault(&error))?;
    match stored.values().any(Result::is_err) {
        true => Err(CacheError::Refused),
        false => Ok(()),
    }
}

async fn delete(client: &mut Client, keys: &[String]) -> Result<(), CacheError> {
    for key in keys {
        match client.delete(key).await {
            Ok(()) | Err(Error::Protocol(Status::NotFound)) => {}
            Err(error) => return Err(fault(&error)),
        }
    }
    Ok(())
}

fn fault(error: &Error) -> CacheError {
    match error {
        Error::Protocol(_) | Error::ParseError(_) => CacheError::Refused,
        _ => CacheError::Down,
    }
}
