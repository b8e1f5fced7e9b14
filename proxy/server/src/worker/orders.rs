//! What the control side and a worker tell each other, off the data path: settings in force, questions, names of callers.
//!
//! Bounds: [`ORDERS_MAX`] questions wait per worker; settings are one shared slot, so that a worker that was slow sees
//! the newest and no queue of old ones.

use super::churn::ChurnLook;
use super::ready::{ReadyList, Source, Token};
use crate::accept::Arrival;
use crate::config::Config;
use crate::fold::{Protocol, Row};
use crate::topology::posted::Posted;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use weir_engine::EngineSnapshot;
use weir_engine::cql::credentials::Verdict;
use weir_engine::ledger::{Expensive, HeavyHitter, StatementRow, Sums};
use weir_engine::settings::{Backend, Settings};
use weir_engine::units::{ClientId, Instant};

/// Questions that may wait at one worker.
pub const ORDERS_MAX: usize = 64;
/// Workers there may be.
pub const WORKERS_MAX: u32 = 64;
/// Handles there may be, one per worker and protocol: what the token of an attribution lookup has bits for.
const HANDLES_MAX: u32 = 2 * WORKERS_MAX;
/// Bits of a slot in such a token.
const SLOT_BITS: u32 = 25;

/// What is in force for all workers.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The data path, overrides included.
    pub settings: Arc<Settings>,
    /// The configuration without overrides: doors and names of principals.
    pub config: Arc<Config>,
    /// Methods of services that an operator switched off for a while.
    pub denied: Arc<[DeniedMethod]>,
    /// Shutting down.
    pub drain: Option<Drain>,
}

/// A method of a service that is switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedMethod {
    /// `package.Service/Method`.
    pub method: String,
    /// Why, in the operator's words.
    pub why: String,
    /// When it is served again, by the wall clock.
    pub until_unix: u64,
}

/// When a shutdown does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From here on, clients with nothing in flight are closed. Until then fresh connections are read once.
    pub close_idle_at: Instant,
    /// From here on, everybody is.
    pub deadline: Instant,
}

/// The shared slot, with a version so that a worker need not look into it.
#[derive(Debug)]
pub struct Board {
    version: AtomicU64,
    posted: Mutex<InForce>,
    placements: Posted,
}

impl Board {
    /// A board with the first settings.
    #[must_use]
    pub fn new(first: InForce) -> Board {
        Board { version: AtomicU64::new(1), posted: Mutex::new(first), placements: Posted::default() }
    }

    /// What is in force.
    #[must_use]
    pub fn read(&self) -> InForce {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it. Workers see it once they are nudged.
    pub fn post(&self, change: impl FnOnce(&mut InForce)) {
        change(&mut self.posted.lock().unwrap_or_else(PoisonError::into_inner));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What the control planes of clusters know, which changes far more often than what an operator says.
    #[must_use]
    pub fn posted(&self) -> &Posted {
        &self.placements
    }

    /// Grows with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// A question or news for a worker.
#[derive(Debug)]
pub enum Order {
    /// How do you stand?
    Look(oneshot::Sender<Look>),
    /// Bring your numbers into the shared metrics.
    Fold(oneshot::Sender<()>),
    /// What attribution found out about clients.
    Named(Vec<Found>),
    /// The cluster's word on clients' credentials.
    SignedIn(Vec<(ClientId, Verdict)>),
    /// Throw away kept answers of services; who has some says of each service how many they were.
    Purge(Arc<Purge>, oneshot::Sender<Purged>),
}

/// Services, and how many answers of each were thrown away.
pub type Purged = Vec<(Arc<str>, u64)>;

/// Which answers of services go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Of this service; of all without it.
    pub service: Option<Arc<str>>,
    /// Under this path; all without it.
    pub path: Option<Arc<str>>,
}

/// What attribution found out about one client.
#[derive(Clone, Debug)]
pub struct Found {
    /// The client, which may have closed since.
    pub client: ClientId,
    /// The best name, if any.
    pub name: Option<Arc<str>>,
    /// When the kernel had been asked.
    pub read_at: std::time::Instant,
}

/// How one worker stands.
#[derive(Debug)]
pub struct Look {
    /// Which worker.
    pub worker: u32,
    /// When it looked.
    pub at: Instant,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its engine.
    pub engine: EngineSnapshot,
    /// What each identity did.
    pub rows: Vec<Row>,
    /// Its most expensive requests.
    pub expensive: Vec<Expensive>,
    /// Its heaviest callers.
    pub heavy: Vec<HeavyHitter>,
    /// Its callers' statements with the most work or time, and the sums over all of them.
    pub statements: (Vec<StatementRow>, Sums),
    /// Its servers, as the sockets see them.
    pub upstreams: Vec<Upstream>,
    /// By listener.
    pub doors: Vec<DoorLook>,
    /// By listener and principal.
    pub churns: Vec<ChurnLook>,
}

/// One server as a worker's sockets see it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The pool or cluster it is in.
    pub backend: Backend,
    /// Its address.
    pub name: Arc<str>,
    /// Attempts to connect that succeeded.
    pub opens: u64,
    /// Attempts that failed.
    pub open_errors: u64,
    /// The last reason a connection was lost or failed.
    pub last_error: Option<String>,
    /// Operations per second it answers now.
    pub operations_per_second: f64,
}

/// One listener as a worker sees it, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DoorLook {
    /// Connections taken in the last whole second.
    pub accepts_last_second: u64,
    /// Connections closed.
    pub closed: u64,
    /// Of those, with at most one request.
    pub short: u64,
}

/// The control side's end of one worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    /// Where accepted sockets go.
    pub arrivals: mpsc::Sender<Arrival>,
    orders: mpsc::Sender<Order>,
    source: Arc<Source>,
    heartbeat: Arc<AtomicU64>,
}

/// The worker's own end.
#[derive(Debug)]
pub struct Mailbox {
    /// Its ready list.
    pub ready: Arc<ReadyList>,
    /// Accepted sockets.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Questions and news.
    pub orders: mpsc::Receiver<Order>,
    /// Woken by the control side.
    pub orders_source: Arc<Source>,
    /// When its loop last turned, for the watchdog.
    pub heartbeat: Arc<AtomicU64>,
}

impl WorkerHandle {
    /// Both ends of a new worker.
    #[must_use]
    pub fn pair() -> (WorkerHandle, Mailbox) {
        let ready = Arc::new(ReadyList::default());
        let (arrivals, arrivals_end) = mpsc::channel(crate::accept::ARRIVALS_MAX);
        let (orders, orders_end) = mpsc::channel(ORDERS_MAX);
        let source = Arc::new(Source::new(&ready, Token::Orders));
        let heartbeat = Arc::new(AtomicU64::new(0));
        let handle = WorkerHandle { arrivals, orders, source: source.clone(), heartbeat: heartbeat.clone() };
        let mailbox =
            Mailbox { ready, arrivals: arrivals_end, orders: orders_end, orders_source: source, heartbeat };
        (handle, mailbox)
    }

    /// Makes the worker look at the board.
    pub fn nudge(&self) {
        self.source.waker().wake_by_ref();
    }

    /// When its loop last turned.
    #[must_use]
    pub fn heartbeat(&self) -> Instant {
        Instant(self.heartbeat.load(Ordering::Relaxed))
    }

    /// Asks how it stands. Nothing when it is too busy to be asked, or gone.
    #[must_use]
    pub fn look(&self) -> Option<oneshot::Receiver<Look>> {
        let (answer, receiver) = oneshot::channel();
        self.orders.try_send(Order::Look(answer)).ok().map(|()| receiver)
    }

    /// Asks for its numbers. Nothing when it is too busy to be asked, or gone.
    #[must_use]
    pub fn fold(&self) -> Option<oneshot::Receiver<()>> {
        let (answer, receiver) = oneshot::channel();
        self.orders.try_send(Order::Fold(answer)).ok().map(|()| receiver)
    }

    /// Asks for answers to be thrown away. Nothing when it is too busy to be asked, or gone.
    #[must_use]
    pub fn purge(&self, purge: &Arc<Purge>) -> Option<oneshot::Receiver<Purged>> {
        let (answer, receiver) = oneshot::channel();
        self.orders.try_send(Order::Purge(purge.clone(), answer)).ok().map(|()| receiver)
    }

    /// Tells something, once there is room for it.
    pub async fn send(&self, order: Order) {
        // A worker that is gone needs to be told nothing.
        let _ = self.orders.send(order).await;
    }

    /// Names clients. Waits while too many orders wait: not for a runtime's thread.
    pub fn name(&self, names: Vec<Found>) {
        // A worker that is gone has no clients to be named.
        let _ = self.orders.blocking_send(Order::Named(names));
    }
}

/// Where an attribution answer belongs: 7 bits of handle, 25 of slot, 32 of generation. `None` for a slot that does not
/// fit: such a client keeps its listener's name.
#[must_use]
pub fn token(handle: u32, id: ClientId) -> Option<u64> {
    let fits = handle < HANDLES_MAX && id.slot < 1 << SLOT_BITS;
    fits.then(|| u64::from(handle) << 57 | u64::from(id.slot) << 32 | u64::from(id.generation))
}

/// The handle (its place in the list of all) and the client of a token.
#[must_use]
pub fn client_of(token: u64) -> (u32, ClientId) {
    let slot = (token >> 32 & ((1 << SLOT_BITS) - 1)) as u32;
    ((token >> 57) as u32, ClientId { slot, generation: token as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_handle_slot_and_generation() {
        let id = ClientId { slot: (1 << 25) - 1, generation: u32::MAX };
        assert_eq!(client_of(token(127, id).expect("fits")), (127, id));
        let id = ClientId { slot: 5, generation: 0 };
        assert_eq!(client_of(token(0, id).expect("fits")), (0, id));
        assert_eq!(token(128, id), None);
        assert_eq!(token(0, ClientId { slot: 1 << 25, generation: 0 }), None);
    }
}
