//! The edge: one listener's worth of RPC and HTTP, inside the life of the process that owns it.
//!
//! Pingora's own `Server` is not run: it takes the signals, sleeps out a fixed grace period and ends the process. Here the
//! owner says when to drain, and on which runtime to run; of pingora there is the HTTP proxy, one instance for each edge,
//! whose connections come from the accept loop in `listen.rs`.

use crate::body::HeldBytes;
use crate::client::{Client, Peer, Plain, Socket};
use crate::exchange::Shared;
use crate::front::{ClientTimes, Front, Fronts};
use crate::gate::Gate;
use crate::listen::{self, Door};
use crate::open::{self, Opened};
use crate::service::Service;
use crate::settings::{Settings, SettingsError};
use crate::stats::{Count, Counted, Held, Stats};
use crate::trace::TraceIds;
use crate::upstream::{Server, Told, Upstream};
use crate::visit::{Left, Visit};
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::protocols::Stream as PingoraStream;
use pingora_core::protocols::http::ServerSession;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use weir_engine::settings::Address;

/// How long requests of cut connections have to tell their gate.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An edge. It lives on one runtime, whose tasks its connections are: on a runtime of one thread nothing of it is
/// shared between threads. For more threads run more edges; each has its own connections to the service.
///
/// Dropping it closes the connections to the service. Clients' connections live as long as [`Edge::run`].
#[derive(Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    shared: Arc<Shared>,
    fronts: Fronts,
    /// Connections that may still be accepted.
    places: Arc<Semaphore>,
    /// A connection ended.
    ended: Arc<Notify>,
    /// `drain_timeout` in microseconds: it may change.
    drain_timeout: AtomicU64,
}

/// What was left when an edge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were cut because their requests did not end in time.
    pub cut: u64,
}

impl Edge {
    /// Makes an edge and begins to dial its service. Must be called inside the runtime it will live on.
    ///
    /// # Errors
    /// With the first value in `settings` that cannot be used.
    pub fn new(settings: Settings, gate: Arc<dyn Gate>) -> Result<Edge, SettingsError> {
        settings.check()?;
        let stats = Arc::new(Stats::default());
        let told: Told = Arc::new({
            let gate = gate.clone();
            move |server, up| gate.server_is(server, up)
        });
        let upstream = Upstream::start(settings.upstream.clone(), stats.clone(), &told)?;
        let held = HeldBytes::new(settings.requests.held_bytes);
        let clients = settings.clients.clone();
        let shared = Arc::new(Shared { settings, gate, upstream, stats, held, traces: TraceIds::default() });
        let upgrades = Arc::new(Semaphore::new(clients.max_connections.min(Semaphore::MAX_PERMITS)));
        let service = Service { shared: shared.clone(), upgrades };
        let places = Arc::new(Semaphore::new(clients.max_connections.min(Semaphore::MAX_PERMITS)));
        let drain_timeout = AtomicU64::new(0);
        let fronts = Fronts::new(shared.clone(), service);
        let inner = Inner { shared, fronts, places, ended: Arc::default(), drain_timeout };
        let edge = Edge { inner: Arc::new(inner) };
        edge.drain_within(edge.inner.shared.settings.requests.drain_timeout);
        Ok(edge)
    }

    /// From now on this is the `drain_timeout`. To be said before draining begins.
    pub fn drain_within(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2);
        self.inner.drain_timeout.store(micros, Ordering::Relaxed);
    }

    /// These times hold from now on, for connections that come.
    pub fn take_times(&self, times: ClientTimes) {
        self.inner.fronts.apply(times);
    }

    /// Clients of doors with TLS are shown this from now on ([`Door::with_tls`]).
    pub fn take_tls(&self, config: &rustls::ServerConfig) {
        self.inner.fronts.apply_tls(config);
    }

    /// So many requests may wait for a place among those under way at the service from now on, and for so long.
    pub fn take_waiting(&self, most: usize, time: Duration) {
        self.inner.shared.upstream.take_waiting(most, time);
    }

    /// Accepts and serves until `drain` becomes true, and then until every request has ended, `drain_timeout` at most.
    /// The doors close when draining begins: who waits in front of them is still let in.
    ///
    /// Cancel-safe only in that dropping it closes the doors; connections go on.
    pub async fn run(&self, doors: Vec<Door>, drain: watch::Receiver<bool>) -> Drained {
        let mut accepting = tokio::task::JoinSet::new();
        for door in doors {
            accepting.spawn(listen::accept(self.clone(), door, drain.clone()));
        }
        let mut draining = drain;
        // A dropped sender means that nobody is left to say it: then too.
        let _ = draining.wait_for(|drain| *drain).await;
        while accepting.join_next().await.is_some() {}
        // Wakes clients that have asked for nothing; those with a request are told after it.
        for front in self.inner.fronts.all() {
            front.proxy.cleanup().await;
        }
        let deadline = Instant::now() + self.inner.drain_timeout();
        let stats = &self.inner.shared.stats;
        let all_ended = async |until: Instant, count: fn(&Stats) -> &Count| {
            while count(stats).get() > 0 {
                // Registered before looking, and looked again soon in any case.
                let ended = self.inner.ended.notified();
                if count(stats).get() == 0 {
                    break;
                }
                let soon = (Instant::now() + Duration::from_millis(20)).min(until);
                if timeout_at(soon, ended).await.is_err() && Instant::now() >= until {
                    break;
                }
            }
        };
        // Each connection cuts itself at the deadline; a moment later all have.
        let last = deadline + LAST_WORDS;
        all_ended(last, |stats| &stats.client_connections_now).await;
        all_ended(last, |stats| &stats.requests_now).await;
        Drained { cut: stats.clients_cut.get() }
    }

    /// Serves one accepted connection in a task of its own. It is closed at once when there are `max_connections`.
    pub(crate) fn take(
        &self,
        plain: Plain,
        peer: Peer,
        tls: Option<Arc<rustls::ServerConfig>>,
        drain: watch::Receiver<bool>,
    ) {
        let inner = self.inner.clone();
        let stats = &inner.shared.stats;
        stats.client_connections.add();
        let Some(visit) = inner.shared.gate.visit(peer) else {
            stats.clients_over_cap.add();
            return;
        };
        let Ok(place) = inner.places.clone().try_acquire_owned() else {
            stats.clients_over_cap.add();
            visit.left(Left::TurnedAway, 0);
            return;
        };
        let open = OpenConnection {
            _counted: Count::hold(stats, |stats| &stats.client_connections_now),
            ended: inner.ended.clone(),
        };
        tokio::spawn(async move {
            inner.visited(plain, peer, tls, drain, visit).await;
            drop(open);
            drop(place);
        });
    }

    /// What was counted so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.inner.shared.stats.read()
    }

    /// Bytes of requests' bodies that are held now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.inner.shared.held.now()
    }

    /// Each address of the service that gets no calls now, and a sentence about it.
    #[must_use]
    pub fn troubles(&self) -> Vec<(Address, String)> {
        let down = self.servers().into_iter();
        down.filter_map(|server| Some((server.address, server.trouble?))).collect()
    }

    /// Each server of the service: how it stands, and what was counted of it.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        self.inner.shared.upstream.servers()
    }

    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.inner.shared.stats
    }
}

/// A connection among those that are open.
struct OpenConnection {
    _counted: Held,
    ended: Arc<Notify>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

impl Inner {
    fn drain_timeout(&self) -> Duration {
        Duration::from_micros(self.drain_timeout.load(Ordering::Relaxed))
    }

    /// One client's connection, from its first byte to its end, which its owner is told.
    async fn visited(
        &self,
        plain: Plain,
        peer: Peer,
        tls: Option<Arc<rustls::ServerConfig>>,
        drain: watch::Receiver<bool>,
        mut visit: Box<dyn Visit>,
    ) {
        let (how, requests) = self.connection(plain, peer, tls, drain, visit.as_mut()).await;
        visit.left(how, requests);
    }

    /// How it ended, and after how many requests.
    async fn connection(
        &self,
        plain: Plain,
        peer: Peer,
        tls: Option<Arc<rustls::ServerConfig>>,
        mut drain: watch::Receiver<bool>,
        visit: &mut dyn Visit,
    ) -> (Left, u32) {
        let wants_tls = tls.is_some();
        let holds = self.fronts.now();
        let opening = open::open(plain, self.fronts.tls(tls), holds.times.opening);
        let drained = drain.clone();
        let opened = tokio::select! {
            biased;
            opened = opening => opened.map_err(|why| Left::unopened(why, wants_tls)),
            // Who has sent nothing by then has asked for nothing.
            () = self.over(drained) => Err(Left::Drained),
        };
        let Opened { stream, front, http2, certificate, over_tls } = match opened {
            Ok(opened) => opened,
            Err(left) => {
                self.shared.stats.clients_not_opened.add();
                return (left, 0);
            }
        };
        if !visit.known(certificate.as_ref()) {
            self.shared.stats.clients_over_cap.add();
            return (Left::TurnedAway, 0);
        }
        let client = Arc::new(Client::new(peer, over_tls, certificate));
        let socket = Box::new(Socket::new(stream, front, http2, client.clone()));
        let (leaving, told) = (client.leaving(), drain.clone());
        let served = async {
            match http2 {
                true => drop(holds.proxy.process_new(socket, &leaving).await),
                false => self.http1(&holds, socket, &leaving).await,
            }
        };
        let end = async {
            let _ = drain.wait_for(|drain| *drain).await;
            client.leave();
            sleep(self.drain_timeout()).await;
        };
        // Whichever ends first ends the connection; dropping the rest closes the socket.
        let left = tokio::select! {
            () = served => match Left::served(&client, http2, holds.times.idle) {
                Left::Ended | Left::Idle if *told.borrow() => Left::Drained,
                left => left,
            },
            () = end => {
                self.shared.stats.clients_cut.add();
                Left::Drained
            }
            () = head_too_slow(&client, holds.times.opening) => {
                self.shared.stats.clients_not_opened.add();
                Left::Slow
            }
        };
        (left, client.requests())
    }

    /// Ends some time after draining began.
    async fn over(&self, mut drain: watch::Receiver<bool>) {
        let _ = drain.wait_for(|drain| *drain).await;
        sleep(self.drain_timeout().min(LAST_WORDS)).await;
    }

    /// HTTP/1.1: one request after the other.
    async fn http1(&self, front: &Front, socket: PingoraStream, leaving: &watch::Receiver<bool>) {
        let limits = &self.shared.settings.clients;
        let idle = front.times.idle.as_secs();
        let mut session = ServerSession::new_http1(socket);
        session.set_keepalive((!*leaving.borrow()).then_some(idle));
        session.set_keepalive_reuses_remaining(Some(limits.requests_per_connection.saturating_sub(1)));
        // What a client sends ahead waits for its turn, and is not taken for a client that misbehaves.
        session.set_pipelining_enabled(true);
        let mut reused = front.proxy.process_new_http(session, leaving).await;
        while let Some((stream, settings)) = reused.map(|reused| reused.consume()) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            // A request without a word on it leaves the connection without a time limit.
            session.set_keepalive((!*leaving.borrow()).then_some(idle));
            reused = front.proxy.process_new_http(session, leaving).await;
        }
    }
}

/// Ends when the head of an HTTP/1.1 request has taken too long: pingora bounds each read, and not their sum.
async fn head_too_slow(client: &Client, most: Duration) {
    loop {
        let next = match client.head_takes() {
            Some(takes) if takes >= most => return,
            Some(takes) => most - takes,
            None => most,
        };
        sleep_until(Instant::now() + next.max(Duration::from_millis(10))).await;
    }
}
