//! The way to the service: few connections, whatever the clients do.
//!
//! With HTTP/2 each address has a fixed number of connections (`lane.rs`), dialled when the edge starts and again when one
//! ends; requests share them. With HTTP/1.1 each address has at most a number of connections (`pool.rs`). A request first
//! takes a place; when there is none, it waits, and is refused when too many wait or it waited too long. Pingora's own
//! pool is not used: it dials whenever no idle connection is there.
//!
//! Which address: the gate's choice ([`Retries::server`]) where it has one and that address can be reached; otherwise the
//! best one by health (`standing.rs`, `health.rs`) and requests under way, and after a failure another one.
//!
//! Bounds: `places` requests under way, `max_waiting` that wait for one, for `queue_timeout`; repetitions by `retry.rs`.

mod dial;
mod endpoint;
mod failure;
mod health;
mod http2;
mod lane;
mod outgoing;
mod pool;
mod retry;
mod standing;
mod tls;

pub use standing::{OpenFailure, Server};
pub use tls::UpstreamTls;

pub(crate) use standing::Told;

pub(crate) use failure::{Failure, Sent};
pub(crate) use outgoing::{CutShort, Outgoing};

use crate::parts::Retries;
use crate::settings::{SettingsError, UpstreamSettings};
use crate::stats::{Count, Stats};
use bytes::Bytes;
use endpoint::{Endpoint, Place};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame};
use retry::Budget;
use standing::Standing;
use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use weir_engine::settings::Address;

/// A request as the service gets it.
pub(crate) type Request = http::Request<Outgoing>;

/// A service.
#[derive(Debug)]
pub(crate) struct Upstream {
    settings: UpstreamSettings,
    endpoints: Vec<Arc<Endpoint>>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// How many may, and for how many microseconds. A reload may change both.
    max_waiting: AtomicUsize,
    queue_micros: AtomicU64,
    /// Where the search for an endpoint begins, so that equal ones take turns.
    turn: AtomicUsize,
    budget: Budget,
    stats: Arc<Stats>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Upstream {
    /// Begins to dial. Must be called inside the runtime that requests will run on.
    ///
    /// # Errors
    /// When a header of the health checks cannot be made of the settings.
    pub(crate) fn start(
        settings: UpstreamSettings,
        stats: Arc<Stats>,
        told: &Told,
    ) -> Result<Arc<Upstream>, SettingsError> {
        let (mut tasks, out) = (Vec::new(), Arc::default());
        let endpoints: Vec<_> = settings
            .addresses
            .iter()
            .map(|address| {
                let standing = Standing::new(settings.eject, settings.addresses.len(), &out);
                Endpoint::start(address.clone(), &settings, &stats, standing, &mut tasks)
            })
            .collect();
        for endpoint in &endpoints {
            let tell = standing::tell_on(endpoint.clone(), told.clone());
            tasks.push(tokio::spawn(tell).abort_handle());
        }
        if let Some(check) = &settings.health {
            let question = health::Question::new(&check.ask, &settings)?;
            for endpoint in &endpoints {
                let asked = health::ask_on(endpoint.clone(), check.clone(), question.clone(), stats.clone());
                tasks.push(tokio::spawn(asked).abort_handle());
            }
        }
        Ok(Arc::new(Upstream {
            places: Arc::new(Semaphore::new(settings.places())),
            waiting: AtomicUsize::new(0),
            max_waiting: AtomicUsize::new(settings.max_waiting),
            queue_micros: AtomicU64::new(micros(settings.queue_timeout)),
            turn: AtomicUsize::new(0),
            budget: Budget::new(&settings),
            endpoints,
            settings,
            stats,
            tasks,
        }))
    }

    /// Sends a request, and again where that cannot do harm and `retries` (without them the own budget) allow it; `again` makes it once more, or says
    /// that it cannot be made. The reply's head is there when this returns; dropping the future, or the reply before its
    /// end, takes the request back (RST_STREAM, or the connection is closed).
    ///
    /// # Errors
    /// With what the service knows of the request.
    pub(crate) async fn call(
        &self,
        request: Request,
        idempotent: bool,
        by: Option<Instant>,
        retries: Option<&dyn Retries>,
        again: impl Fn() -> Option<Request>,
    ) -> (Result<Reply, Failure>, u32) {
        self.budget.earn();
        let mut repeated = 0;
        // Boxed: it is handed on from one future to the next.
        let mut request = Box::new(request);
        // Where it has failed already.
        let mut failed_at = None;
        loop {
            let mut failure = match self.call_once(request, by, retries, &mut failed_at).await {
                Ok(reply) => return (Ok(reply), repeated),
                Err(failure) => failure,
            };
            let harmless = match failure.sent {
                Sent::Overloaded | Sent::Nowhere => false,
                Sent::No | Sent::Unprocessed => true,
                Sent::Unknown => idempotent,
            };
            // What was never sent comes back; a body that passed as it came cannot be made again.
            let next = failure.request.take().or_else(|| again().map(Box::new));
            let Some(next) = next.filter(|_| harmless && repeated < self.settings.max_retries) else {
                return (Err(failure), repeated);
            };
            let may = retries.map_or_else(|| self.budget.spend(), Retries::may_send_again);
            if !may {
                self.stats.retries_denied.add();
                return (Err(failure), repeated);
            }
            self.stats.retries.add();
            repeated += 1;
            request = next;
        }
    }

    async fn call_once(
        &self,
        request: Box<Request>,
        by: Option<Instant>,
        retries: Option<&dyn Retries>,
        failed_at: &mut Option<usize>,
    ) -> Result<Reply, Failure> {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => Box::pin(self.place(by)).await?,
        };
        let named = self.named(retries);
        let found = named.filter(|place| self.endpoints[*place].can_take()).or_else(|| self.pick(*failed_at));
        let place = match found {
            Some(place) => place,
            None => {
                let _waits = Count::hold(&self.stats, |stats| &stats.upstream_waiting_now);
                Box::pin(self.connected(request_deadline(by, self.settings.connect_timeout))).await?
            }
        };
        let endpoint = &self.endpoints[place];
        if named.is_some_and(|named| named != place)
            && let Some(retries) = retries
        {
            retries.went(&endpoint.address);
        }
        *failed_at = Some(place);
        self.stats.upstream_requests.add();
        let sent = endpoint.send(request, permit).await;
        endpoint.note(&sent);
        sent
    }

    /// So many may wait for a place from now on, and for so long.
    pub(crate) fn take_waiting(&self, most: usize, time: Duration) {
        self.max_waiting.store(most, Ordering::Relaxed);
        self.queue_micros.store(micros(time), Ordering::Relaxed);
    }

    /// Whom the gate wants to have the request: where there is a choice.
    fn named(&self, retries: Option<&dyn Retries>) -> Option<usize> {
        if self.endpoints.len() < 2 {
            return None;
        }
        let named = retries?.server()?;
        self.endpoints.iter().position(|endpoint| endpoint.address == named)
    }

    /// Waits for a place among the requests under way.
    async fn place(&self, by: Option<Instant>) -> Result<OwnedSemaphorePermit, Failure> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max_waiting.load(Ordering::Relaxed) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::overloaded("too many requests wait for the service"));
        }
        let _waits = Waits(&self.waiting);
        let _counted = Count::hold(&self.stats, |stats| &stats.upstream_waiting_now);
        let most = Duration::from_micros(self.queue_micros.load(Ordering::Relaxed));
        let until = request_deadline(by, most);
        // The semaphore is never closed.
        match timeout_at(until, self.places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Failure::overloaded(
                "the service has as many requests as it may have, and none has ended",
            )),
        }
    }

    /// The best endpoint that can take a request now: judged good, not where it has failed already, then fewest requests.
    /// One that is judged bad is used when no good one is connected: a health check must not turn away what a service
    /// would answer.
    fn pick(&self, failed_at: Option<usize>) -> Option<usize> {
        // A second try is no turn of its own: with two servers it would always be the same one's.
        let start = self.turn.fetch_add(usize::from(failed_at.is_none()), Ordering::Relaxed);
        let count = self.endpoints.len();
        (0..count)
            .map(|step| (start.wrapping_add(step)) % count)
            .filter(|place| self.endpoints[*place].can_take())
            .min_by_key(|place| {
                let endpoint = &self.endpoints[*place];
                (!endpoint.is_good(), failed_at == Some(*place), endpoint.under_way())
            })
    }

    /// The addresses, the best first.
    pub(crate) fn best_first(&self) -> Vec<Address> {
        let mut all: Vec<_> = self.endpoints.iter().collect();
        all.sort_by_key(|endpoint| (!endpoint.is_up(), endpoint.under_way()));
        all.into_iter().map(|endpoint| endpoint.address.clone()).collect()
    }

    async fn connected(&self, until: Instant) -> Result<usize, Failure> {
        loop {
            // Registered before looking, so that a connection made in between is not missed.
            let changes = self.endpoints.iter().map(|endpoint| Box::pin(endpoint.changed()));
            let mut changes: Vec<_> = changes.collect();
            changes.iter_mut().for_each(|change| {
                change.as_mut().enable();
            });
            if let Some(place) = self.pick(None) {
                return Ok(place);
            }
            self.endpoints.iter().for_each(|endpoint| endpoint.wanted());
            let any = std::future::poll_fn(|cx| {
                let ready = changes.iter_mut().any(|change| change.as_mut().poll(cx).is_ready());
                if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            if timeout_at(until, any).await.is_err() {
                let why = self.endpoints.iter().map(|endpoint| endpoint.trouble()).collect::<Vec<_>>();
                return Err(Failure::unreachable(why.join("; ")));
            }
        }
    }

    /// Each address, and what was counted of it.
    pub(crate) fn servers(&self) -> Vec<Server> {
        self.endpoints.iter().map(|endpoint| endpoint.read()).collect()
    }
}

struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn request_deadline(by: Option<Instant>, most: std::time::Duration) -> Instant {
    let most = Instant::now() + most;
    by.map_or(most, |by| by.min(most))
}

/// A reply whose head is there.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: http::response::Parts,
    pub(crate) body: ReplyBody,
}

/// The rest of a reply, as its connection brings it.
#[derive(Debug)]
enum Incoming {
    Http2(http2::ReplyStream),
    Http1(hyper::body::Incoming),
}

impl Incoming {
    fn is_end(&self) -> bool {
        match self {
            Incoming::Http2(stream) => stream.is_end(),
            Incoming::Http1(body) => body.is_end_stream(),
        }
    }
}

/// The rest of a reply. Dropped before its end, it takes the request back.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    incoming: Incoming,
    place: Place,
    standing: Arc<Standing>,
}

impl ReplyBody {
    /// The next part or the trailers; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// When the service broke off.
    pub(crate) async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Failure>> {
        let frame = match &mut self.incoming {
            Incoming::Http2(stream) => {
                stream.frame().await.map(|frame| frame.map_err(|error| Failure::in_reply(&error)))
            }
            Incoming::Http1(body) => {
                body.frame().await.map(|frame| frame.map_err(|error| Failure::in_reply(&error)))
            }
        };
        if frame.is_none() {
            self.place.read_to_end();
        }
        if matches!(frame, Some(Err(_))) {
            self.standing.failed();
        }
        frame
    }

    /// Nothing comes any more.
    pub(crate) fn is_end(&self) -> bool {
        self.incoming.is_end()
    }

    /// All of it, up to a bound; for the edge's own questions.
    async fn whole(mut self, most: usize, time: std::time::Duration) -> Option<(Vec<u8>, http::HeaderMap)> {
        let all = async {
            let (mut bytes, mut trailers) = (Vec::new(), http::HeaderMap::new());
            while let Some(frame) = self.frame().await {
                match frame.ok()?.into_data() {
                    Ok(data) if bytes.len() + data.len() > most => return None,
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                }
            }
            Some((bytes, trailers))
        };
        timeout(time, all).await.ok().flatten()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
