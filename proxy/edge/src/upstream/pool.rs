//! HTTP/1.1 connections to one address: each carries one request at a time, those that are free wait for the next. Never
//! more than `connections` are open, the dialling ones included.

use super::dial::dial;
use super::outgoing::Outgoing;
use super::standing::Standing;
use super::tls::Handshake;
use crate::settings::UpstreamSettings;
use crate::stats::{Count, Stats};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval};
use weir_engine::settings::Address;

/// After a failed dial nobody dials for this long; requests go to other addresses or fail.
const REST: Duration = Duration::from_millis(100);
/// Bytes of a reply's head that are read before it is refused.
const HEAD_BUFFER_MIN: usize = 8 << 10;

type Sender = SendRequest<Outgoing>;

/// The connections of one address.
#[derive(Debug)]
pub(super) struct Pool {
    address: Address,
    settings: UpstreamSettings,
    stats: Arc<Stats>,
    standing: Arc<Standing>,
    tls: Option<Handshake>,
    permits: Arc<Semaphore>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    free: Vec<(Sender, Instant, OwnedSemaphorePermit)>,
    rests_until: Option<Instant>,
}

impl Pool {
    pub(super) fn new(
        address: Address,
        settings: &UpstreamSettings,
        stats: &Arc<Stats>,
        standing: &Arc<Standing>,
    ) -> Arc<Pool> {
        Arc::new(Pool {
            address,
            settings: settings.clone(),
            stats: stats.clone(),
            standing: standing.clone(),
            tls: settings.tls.as_ref().map(|tls| tls.offering(settings.protocol)),
            permits: Arc::new(Semaphore::new(settings.connections)),
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn can_take(&self) -> bool {
        let inner = self.inner();
        let rests = inner.rests_until.is_some_and(|until| Instant::now() < until);
        !inner.free.is_empty() || (!rests && self.permits.available_permits() > 0)
    }

    /// Its last dial has failed just now.
    pub(super) fn rests(&self) -> bool {
        self.inner().rests_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn under_way(&self) -> usize {
        let free = self.inner().free.len();
        self.settings.connections.saturating_sub(self.permits.available_permits() + free)
    }

    /// A connection for one request.
    pub(super) async fn take(self: &Arc<Pool>) -> io::Result<(Sender, OwnedSemaphorePermit)> {
        loop {
            // The guard ends with the statement: nothing is awaited under it.
            let free = self.inner().free.pop();
            let Some((sender, since, permit)) = free else { break };
            if sender.is_ready() && since.elapsed() < self.settings.idle_timeout {
                return Ok((sender, permit));
            }
        }
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "every connection is in use"));
        };
        // Boxed: a dial is rare and large.
        match Box::pin(self.connect()).await {
            Ok(sender) => Ok((sender, permit)),
            Err(error) => {
                self.stats.upstream_open_failures.add();
                self.standing.not_opened(&error);
                self.inner().rests_until = Some(Instant::now() + REST);
                self.standing.stir();
                Err(error)
            }
        }
    }

    async fn connect(&self) -> io::Result<Sender> {
        let stream = dial(&self.address, self.tls.as_ref(), self.settings.connect_timeout).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size((self.settings.header_bytes as usize).max(HEAD_BUFFER_MIN));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.stats.upstream_opens.add();
        self.inner().rests_until = None;
        let open =
            (self.standing.opened(), Count::hold(&self.stats, |stats| &stats.upstream_connections_now));
        // Ends when its sender is dropped, or with the connection.
        tokio::spawn(async move {
            let _open = open;
            // Whatever ended it, its request was told.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// Closes those that nobody used for a while, those that the service closed, and wakes who waits for a rest's end.
    pub(super) async fn close_idle(self: Arc<Pool>) {
        let mut tick = interval(REST);
        loop {
            tick.tick().await;
            let idle = self.settings.idle_timeout;
            self.inner().free.retain(|(sender, since, _)| sender.is_ready() && since.elapsed() < idle);
            self.standing.stir();
        }
    }
}

/// A connection that carries a reply.
#[derive(Debug)]
pub(super) struct Pooled {
    pool: Arc<Pool>,
    sender: Sender,
    permit: OwnedSemaphorePermit,
}

impl Pooled {
    pub(super) fn new(pool: Arc<Pool>, sender: Sender, permit: OwnedSemaphorePermit) -> Pooled {
        Pooled { pool, sender, permit }
    }

    /// The reply is read: the connection is free as soon as it says so.
    pub(super) fn give_back(self) {
        let Pooled { pool, mut sender, permit } = self;
        if sender.is_ready() {
            pool.inner().free.push((sender, Instant::now(), permit));
            pool.standing.changed.notify_waiters();
            return;
        }
        // It notices the end of the reply when its task runs next. (Dropping this on the way closes it.)
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                pool.inner().free.push((sender, Instant::now(), permit));
                pool.standing.changed.notify_waiters();
            }
        });
    }
}
