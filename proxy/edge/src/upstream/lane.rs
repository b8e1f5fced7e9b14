//! One HTTP/2 connection that is always there: dialled at once, and again when it ends.
//!
//! Requests under way fill one connection ([`SHARED`]) before the next one gets any: those that share a connection share its
//! writes and reads, on both sides.
//!
//! A connection that the service is leaving (GOAWAY) carries the requests it has to their ends while its successor is
//! dialled; so for a while there is one more than `connections`, each time the service leaves one.

use super::dial::dial;
use super::http2::{self, Life, Sender};
use super::standing::Standing;
use super::tls::Handshake;
use crate::settings::UpstreamSettings;
use crate::stats::{Count, Stats};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use weir_engine::settings::Address;

/// The pause after the first failed dial, and the shortest between two whatever waits.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// A connection that lived this long was a good one: the next dial does not wait.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// Requests under way on one connection while others have fewer, where the service takes so many.
const SHARED: usize = 64;

/// A connection's place.
#[derive(Debug)]
pub(super) struct Lane {
    sender: watch::Receiver<Option<Sender>>,
    under_way: Arc<AtomicUsize>,
    /// [`SHARED`], or the streams it may have where they are fewer.
    shared: usize,
}

/// How soon it is the turn of a connection with so many requests under way that is filled to `most`: the smallest is next. The
/// fullest of those with room, then the emptiest of the others.
fn turn(under_way: usize, most: usize) -> (bool, usize) {
    match most.checked_sub(under_way) {
        None | Some(0) => (true, under_way),
        Some(room) => (false, room),
    }
}

impl Lane {
    pub(super) fn is_up(&self) -> bool {
        self.sender.borrow().as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// When it is its turn ([`turn`]); `None` while it takes no requests.
    pub(super) fn turn(&self) -> Option<(bool, usize)> {
        let sender = self.sender.borrow();
        let sender = sender.as_ref().filter(|sender| !sender.is_closed())?;
        Some(turn(self.under_way(), self.shared.min(sender.streams_max())))
    }

    pub(super) fn sender(&self) -> Option<Sender> {
        self.sender.borrow().clone()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn counter(&self) -> Arc<AtomicUsize> {
        self.under_way.clone()
    }
}

/// Begins to keep a connection.
pub(super) fn start(
    address: &Address,
    settings: &UpstreamSettings,
    stats: &Arc<Stats>,
    standing: &Arc<Standing>,
    tasks: &mut Vec<AbortHandle>,
) -> Lane {
    let (publish, sender) = watch::channel(None);
    let keeper = Keeper {
        address: address.clone(),
        settings: settings.clone(),
        stats: stats.clone(),
        standing: standing.clone(),
        tls: settings.tls.as_ref().map(|tls| tls.offering(settings.protocol)),
        publish,
    };
    tasks.push(tokio::spawn(keeper.run()).abort_handle());
    Lane { sender, under_way: Arc::default(), shared: settings.streams_per_connection.min(SHARED) }
}

struct Keeper {
    address: Address,
    settings: UpstreamSettings,
    stats: Arc<Stats>,
    standing: Arc<Standing>,
    tls: Option<Handshake>,
    publish: watch::Sender<Option<Sender>>,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ok((sender, life)) => {
                    self.stats.upstream_opens.add();
                    let open = Count::hold(&self.stats, |stats| &stats.upstream_connections_now);
                    self.publish.send_replace(Some(sender));
                    let also = self.standing.opened();
                    let why = life.over().await;
                    self.publish.send_replace(None);
                    drop((open, also));
                    self.standing.set_trouble(why);
                }
                Err(why) => {
                    self.stats.upstream_open_failures.add();
                    self.standing.not_opened(&why);
                }
            }
            self.standing.stir();
            if began.elapsed() >= GOOD_LIFE.max(self.settings.connect_timeout * 2) {
                backoff = FIRST_BACKOFF;
                continue;
            }
            sleep(FIRST_BACKOFF).await;
            // Cancel-safe: whoever waits asks again when it has looked.
            tokio::select! {
                () = sleep(backoff - FIRST_BACKOFF) => backoff = (backoff * 2).min(self.settings.max_backoff),
                () = self.standing.wanted.notified() => {}
            }
            backoff = backoff.max(FIRST_BACKOFF);
        }
    }

    async fn connect(&self) -> io::Result<(Sender, Life)> {
        let settings = &self.settings;
        let stream = dial(&self.address, self.tls.as_ref(), settings.connect_timeout).await?;
        match timeout(settings.connect_timeout, http2::open(stream, settings)).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(io::Error::other(format!("no HTTP/2: {error}"))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the HTTP/2 handshake took too long")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_is_filled_before_the_next() {
        let mut lanes = [0_usize; 3];
        let next = |lanes: &[usize; 3]| (0..3).min_by_key(|lane| turn(lanes[*lane], 4)).expect("three");
        let order: Vec<usize> = (0..15)
            .map(|_| {
                let lane = next(&lanes);
                lanes[lane] += 1;
                lane
            })
            .collect();
        assert_eq!(order, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 1, 2], "then evenly");
        lanes[1] = 2;
        assert_eq!(next(&lanes), 1, "there is room again");
        assert!(turn(0, 0).0, "a service that takes none");
    }
}
