//! How one server stands: its connections, what its health checks say, and whether it is left out because calls fail. One
//! task for each server tells the gate when that changes.

use super::endpoint::Endpoint;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use weir_engine::rpc::eject::{EjectRules, Ejection, most_out};
use weir_engine::settings::Address;
use weir_engine::units::{Instant as EngineInstant, Span};

/// Hears that calls go to a server from now on, or do not any more.
pub(crate) type Told = Arc<dyn Fn(&Address, bool) + Send + Sync>;

/// Why a connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenFailure {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// No free local address or port.
    NoPort,
    /// No descriptor left.
    NoDescriptor,
    /// One side did not trust the other, or does not speak TLS, or not the HTTP that was asked for.
    Tls,
    /// Anything else.
    Other,
}

impl OpenFailure {
    /// Every one, in the order of [`Server::open_failures`].
    pub const ALL: [OpenFailure; 6] = [
        OpenFailure::Refused,
        OpenFailure::Timeout,
        OpenFailure::NoPort,
        OpenFailure::NoDescriptor,
        OpenFailure::Tls,
        OpenFailure::Other,
    ];

    fn of(error: &io::Error) -> OpenFailure {
        if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
            return OpenFailure::Tls;
        }
        // EMFILE and ENFILE have no kind of their own.
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound, _) => OpenFailure::Refused,
            (io::ErrorKind::TimedOut, _) => OpenFailure::Timeout,
            (io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable, _) => OpenFailure::NoPort,
            (_, Some(23 | 24)) => OpenFailure::NoDescriptor,
            _ => OpenFailure::Other,
        }
    }
}

/// One server of the service, and what was counted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// Calls go to it: it can be reached, its health checks are good, and it is not left out.
    pub up: bool,
    /// It is left out because calls failed.
    pub left_out: bool,
    /// Connections to it that are open now.
    pub connections: u64,
    /// Requests under way at it now.
    pub under_way: u64,
    /// Connections made.
    pub opens: u64,
    /// Connections that could not be made, in the order of [`OpenFailure::ALL`].
    pub open_failures: [u64; OpenFailure::ALL.len()],
    /// Requests that it was sent and that failed: the connection was cut, or it said that it cannot serve.
    pub failures: u64,
    /// Times that it was left out.
    pub ejections: u64,
    /// Health checks with a bad answer or none.
    pub health_failures: u64,
    /// Why it is not up.
    pub trouble: Option<String>,
}

/// Whether a server is left out, and is counted among those that are.
#[derive(Debug, Default)]
struct Counted {
    ejection: Ejection,
    counted: bool,
}

/// What the tasks of a server's connections tell it.
#[derive(Debug)]
pub(super) struct Standing {
    /// A connection came or went.
    pub(super) changed: Notify,
    /// A request waits for a connection: dial at once.
    pub(super) wanted: Notify,
    /// Something is to be told.
    news: Notify,
    /// Why there is no connection.
    trouble: Mutex<String>,
    /// What the health checks say.
    good: AtomicBool,
    ejection: Mutex<Counted>,
    /// [`Ejection::is_clean`], so that most answers need no lock. Written under the lock.
    clean: AtomicBool,
    rules: EjectRules,
    /// Servers of the service, and how many are left out now.
    among: usize,
    out: Arc<AtomicUsize>,
    /// The zero of the ejections' clock.
    born: Instant,
    opens: AtomicU64,
    open_failures: [AtomicU64; OpenFailure::ALL.len()],
    connections: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    health_failures: AtomicU64,
}

impl Standing {
    pub(super) fn new(rules: EjectRules, among: usize, out: &Arc<AtomicUsize>) -> Arc<Standing> {
        Arc::new(Standing {
            changed: Notify::new(),
            wanted: Notify::new(),
            news: Notify::new(),
            trouble: Mutex::default(),
            good: AtomicBool::new(true),
            ejection: Mutex::default(),
            clean: AtomicBool::new(true),
            rules,
            among,
            out: out.clone(),
            born: Instant::now(),
            opens: AtomicU64::new(0),
            open_failures: Default::default(),
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
        })
    }

    fn now(&self) -> EngineInstant {
        EngineInstant(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A connection was made; it is open until the guard is dropped.
    pub(super) fn opened(self: &Arc<Standing>) -> Open {
        self.opens.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.set_trouble(String::new());
        self.stir();
        Open(self.clone())
    }

    /// None could be made.
    pub(super) fn not_opened(&self, error: &io::Error) {
        self.open_failures[OpenFailure::of(error) as usize].fetch_add(1, Ordering::Relaxed);
        self.set_trouble(error.to_string());
    }

    pub(super) fn set_trouble(&self, what: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// A connection came or went.
    pub(super) fn stir(&self) {
        self.changed.notify_waiters();
        self.news.notify_one();
    }

    pub(super) fn is_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    /// What the health checks found.
    pub(super) fn judge(&self, good: bool) {
        self.good.store(good, Ordering::Relaxed);
        self.news.notify_one();
    }

    pub(super) fn check_failed(&self) {
        self.health_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_out(&self) -> bool {
        // Mostly nobody is: no lock then.
        self.out.load(Ordering::Relaxed) > 0 && self.ejection().ejection.is_out(self.now())
    }

    fn ejection(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the number of those that are out true.
    fn count(&self, own: &mut Counted, now: EngineInstant) {
        let out = own.ejection.is_out(now);
        match (own.counted, out) {
            (false, true) => self.out.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.out.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        own.counted = out;
        self.news.notify_one();
    }

    /// A request was answered, and not with the word that the server cannot serve.
    pub(super) fn served(&self) {
        if self.clean.load(Ordering::Relaxed) {
            return;
        }
        let (mut own, now) = (self.ejection(), self.now());
        own.ejection.answered(now);
        self.count(&mut own, now);
        self.clean.store(own.ejection.is_clean(), Ordering::Relaxed);
    }

    /// A request failed at the server.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let may = self.out.load(Ordering::Relaxed) < most_out(self.among);
        let (mut own, now) = (self.ejection(), self.now());
        if own.ejection.failed(&self.rules, may, now) {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        self.count(&mut own, now);
        self.clean.store(own.ejection.is_clean(), Ordering::Relaxed);
    }

    pub(super) fn trouble(&self, address: &Address) -> String {
        let why = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (why.is_empty(), self.is_good()) {
            (false, _) => format!("{address}: {why}"),
            (true, false) => format!("{address}: the health check fails"),
            (true, true) if self.is_out() => {
                format!("{address}: left out, because calls failed one after the other")
            }
            (true, true) => format!("{address}: not connected yet"),
        }
    }

    /// What was counted.
    pub(super) fn read(&self, address: &Address, up: bool, under_way: usize) -> Server {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Server {
            address: address.clone(),
            up,
            left_out: self.is_out(),
            connections: get(&self.connections),
            under_way: under_way as u64,
            opens: get(&self.opens),
            open_failures: std::array::from_fn(|which| get(&self.open_failures[which])),
            failures: get(&self.failures),
            ejections: get(&self.ejections),
            health_failures: get(&self.health_failures),
            trouble: (!up).then(|| self.trouble(address)),
        }
    }

    /// Until something is to be told, or the time out is over.
    async fn news(&self) {
        let until = self.ejection().ejection.until(self.now());
        let Some(until) = until else { return self.news.notified().await };
        let Span(left) = until.since(self.now());
        // Cancel-safe: a note that was not taken stays.
        tokio::select! {
            () = self.news.notified() => {}
            () = sleep(Duration::from_micros(left)) => {}
        }
    }

    /// Looks whether the time out is over.
    fn look(&self) {
        self.count(&mut self.ejection(), self.now());
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Open(Arc<Standing>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells of every change, for ever. Until the first dial has ended a server is neither up nor down.
pub(super) async fn tell_on(endpoint: Arc<Endpoint>, told: Told) {
    let mut last = None;
    loop {
        endpoint.standing.news().await;
        endpoint.standing.look();
        let up = endpoint.is_up();
        if last != Some(up) {
            told(&endpoint.address, up);
            last = Some(up);
        }
    }
}
