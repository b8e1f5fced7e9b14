//! Finds the connections that somebody asks about: those that the kernel's side tells of as they are made, and the others by
//! looking ([`super::poll`]).
//!
//! | | with the probe `connects` | without |
//! |---|---|---|
//! | before every answer | what has come is taken in | a look |
//! | a connection that is not known then | a look: it may be older than the question, or was lost | - |
//! | every [`FIND_INTERVAL`] | what has come is taken in; a look when the kernel could not tell of one | a look |
//!
//! Looks keep to the bounds of [`super::poll`] whoever causes them.

use super::connects::{Connect, Connects, lock};
use super::poll::{ASKED_INTERVAL, Looker};
use super::server::Find;
use crate::kernel::connects::Feed;
use crate::kernel::past::comm;
use crate::processes::{SinceBoot, Told};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_probes_abi::Endpoint;
use weir_probes_abi::connects::Connected;

/// From one turn of the finder's own to the next.
pub const FIND_INTERVAL: Duration = Duration::from_millis(250);

/// Finds, on a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
pub struct Finder {
    shared: Arc<Shared>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    connects: Arc<Connects>,
    /// What the kernel's side tells.
    feed: Option<Mutex<Feed>>,
    looker: Mutex<Looker>,
    looks: AtomicU64,
}

impl Finder {
    /// Starts finding for `connects`, from what the kernel's side tells where there is a `feed`.
    ///
    /// # Errors
    /// When the system has no thread to give, or this process's network namespace cannot be read.
    pub fn start(connects: &Arc<Connects>, feed: Option<Feed>) -> std::io::Result<Finder> {
        let shared = Arc::new(Shared {
            connects: connects.clone(),
            feed: feed.map(Mutex::new),
            looker: Mutex::new(Looker::new(connects)?),
            looks: AtomicU64::new(0),
        });
        let (stop, stopped) = sync_channel::<()>(1);
        let finding = shared.clone();
        let thread = std::thread::Builder::new().name("connections".to_owned()).spawn(move || {
            while stopped.recv_timeout(FIND_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if finding.take() {
                    finding.look(FIND_INTERVAL / 2);
                }
            }
        })?;
        Ok(Finder { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// For the one who answers.
    #[must_use]
    pub fn handle(&self) -> Box<dyn Find> {
        Box::new(Handle(self.shared.clone()))
    }

    /// How often somebody looked, whatever it was for.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.shared.looks.load(Relaxed)
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed by its own thread.
            let _ = thread.join();
        }
    }
}

struct Handle(Arc<Shared>);

impl Find for Handle {
    fn catch_up(&self) {
        if self.0.take() {
            self.0.look(ASKED_INTERVAL);
        }
    }

    fn search(&self) {
        self.0.look(ASKED_INTERVAL);
    }
}

impl Shared {
    /// Takes in what the kernel's side has told. True where that cannot be all.
    fn take(&self) -> bool {
        let Some(feed) = &self.feed else { return true };
        let mut feed = lock(feed);
        // A port that could not be told is one whose connections are unknown: they are looked for then.
        let told = feed.ask(&self.connects.ports());
        let untold = feed.take(|connected| self.connects.observed(&connect(&connected)));
        told.is_err() || untold > 0
    }

    fn look(&self, interval: Duration) {
        if lock(&self.looker).look_unless(Instant::now(), interval) {
            self.looks.fetch_add(1, Relaxed);
        }
    }
}

fn connect(connected: &Connected) -> Connect {
    let begun = &connected.begun;
    Connect {
        network: (begun.network != 0).then_some(u64::from(begun.network)),
        client: address(&connected.client),
        server: address(&connected.server),
        pid: begun.process,
        when: SinceBoot(begun.when),
        told: Told { comm: comm(&begun.comm), uid: Some(begun.uid) },
    }
}

fn address(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(endpoint.address)).to_canonical(), endpoint.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::maps::endpoint;
    use weir_probes_abi::connects::Begun;

    #[test]
    fn what_the_kernel_tells_is_a_connection_with_plain_addresses() {
        let (client, server): (SocketAddr, SocketAddr) =
            ("127.0.0.1:40000".parse().unwrap(), "[2001:db8::1]:11211".parse().unwrap());
        let begun = Begun { when: 7, process: 8, uid: 9, comm: *b"importer\0garbage", ..Begun::default() };
        let connected = Connected { begun, client: endpoint(client), server: endpoint(server) };
        let told = Told { comm: "importer".to_owned(), uid: Some(9) };
        let wanted = Connect { network: None, client, server, pid: 8, when: SinceBoot(7), told };
        assert_eq!(connect(&connected), wanted, "no namespace is none, and not the number 0");
    }
}
