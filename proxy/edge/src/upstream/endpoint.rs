//! One address of the service.

use super::lane::{self, Lane};
use super::pool::{Pool, Pooled};
use super::{Failure, Reply, ReplyBody, Request};
use crate::settings::{UpstreamProtocol, UpstreamSettings};
use crate::stats::Stats;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::AbortHandle;
use weir_engine::settings::Address;

/// One address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    way: Way,
    /// What the health checks say.
    good: AtomicBool,
    state: Arc<State>,
}

/// What the tasks of an endpoint's connections tell it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// A connection came or went.
    pub(super) changed: Notify,
    /// A request waits for a connection: dial at once.
    pub(super) wanted: Notify,
    /// Why there is none.
    trouble: Mutex<String>,
}

impl State {
    pub(super) fn set_trouble(&self, what: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

#[derive(Debug)]
enum Way {
    Http2(Vec<Lane>),
    Http1(Arc<Pool>),
}

impl Endpoint {
    pub(super) fn start(
        address: Address,
        settings: &UpstreamSettings,
        stats: &Arc<Stats>,
        tasks: &mut Vec<AbortHandle>,
    ) -> Arc<Endpoint> {
        let state = Arc::new(State::default());
        let way = match settings.protocol {
            UpstreamProtocol::Http2 => {
                let lane = |_| lane::start(&address, settings, stats, &state, tasks);
                Way::Http2((0..settings.connections).map(lane).collect())
            }
            UpstreamProtocol::Http1 => {
                let pool = Pool::new(address.clone(), settings, stats, &state);
                tasks.push(tokio::spawn(pool.clone().close_idle()).abort_handle());
                Way::Http1(pool)
            }
        };
        Arc::new(Endpoint { address, way, good: AtomicBool::new(true), state })
    }

    /// A request could go there now.
    pub(super) fn can_take(&self) -> bool {
        match &self.way {
            Way::Http2(lanes) => lanes.iter().any(Lane::is_up),
            Way::Http1(pool) => pool.can_take(),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }

    pub(super) fn judge(&self, good: bool) {
        self.good.store(good, Ordering::Relaxed);
    }

    pub(super) fn under_way(&self) -> usize {
        match &self.way {
            Way::Http2(lanes) => lanes.iter().map(Lane::under_way).sum(),
            Way::Http1(pool) => pool.under_way(),
        }
    }

    /// Waits until a connection came or went.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.state.changed.notified()
    }

    /// Someone waits for a connection.
    pub(super) fn wanted(&self) {
        self.state.wanted.notify_waiters();
    }

    pub(super) fn trouble(&self) -> String {
        let why = self.state.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (why.is_empty(), self.is_good()) {
            (false, _) => format!("{}: {why}", self.address),
            (true, false) => format!("{}: the health check fails", self.address),
            (true, true) => format!("{}: not connected yet", self.address),
        }
    }

    /// Sends a request over the connection with the fewest.
    pub(super) async fn send(
        &self,
        request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<Reply, Failure> {
        match &self.way {
            Way::Http2(lanes) => {
                let up = lanes.iter().filter(|lane| lane.is_up()).min_by_key(|lane| lane.under_way());
                let Some((lane, mut sender)) = up.and_then(|lane| Some((lane, lane.sender()?))) else {
                    return Err(Failure::not_sent("the connection has just ended".to_owned(), request));
                };
                let place = Place::on_lane(permit, lane.counter());
                match sender.try_send_request(request).await {
                    Ok(reply) => Ok(reply_of(reply, place)),
                    Err(mut error) => Err(match error.take_message() {
                        Some(request) => Failure::not_sent(error.into_error().to_string(), request),
                        None => Failure::before_reply(&error.into_error()),
                    }),
                }
            }
            Way::Http1(pool) => {
                let request = origin_form(request);
                let (mut sender, held) = match pool.take().await {
                    Ok(taken) => taken,
                    Err(error) => return Err(Failure::not_sent(error.to_string(), request)),
                };
                match sender.try_send_request(request).await {
                    Ok(reply) => {
                        let pooled = Some(Pooled::new(pool.clone(), sender, held));
                        Ok(reply_of(reply, Place { _permit: permit, counter: None, pooled }))
                    }
                    Err(mut error) => Err(match error.take_message() {
                        Some(request) => Failure::not_sent(error.into_error().to_string(), request),
                        None => Failure::before_reply(&error.into_error()),
                    }),
                }
            }
        }
    }
}

/// HTTP/1.1 says the target's path in its first line and the authority in a header.
fn origin_form(mut request: Request) -> Request {
    let uri = std::mem::take(request.uri_mut());
    if let Some(authority) = uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    // Without a path it is `/`, which is what an empty target is.
    *request.uri_mut() = uri.path_and_query().cloned().map(http::Uri::from).unwrap_or_default();
    *request.version_mut() = http::Version::HTTP_11;
    request
}

fn reply_of(reply: http::Response<hyper::body::Incoming>, mut place: Place) -> Reply {
    use hyper::body::Body as _;
    let (head, incoming) = reply.into_parts();
    if incoming.is_end_stream() {
        place.read_to_end();
    }
    Reply { head, body: ReplyBody { incoming, place } }
}

/// What a request takes up until its reply is read or dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    counter: Option<Arc<AtomicUsize>>,
    pooled: Option<Pooled>,
}

impl Place {
    fn on_lane(permit: OwnedSemaphorePermit, counter: Arc<AtomicUsize>) -> Place {
        counter.fetch_add(1, Ordering::Relaxed);
        Place { _permit: permit, counter: Some(counter), pooled: None }
    }

    /// The reply was read to its end: an HTTP/1.1 connection can be used again.
    pub(super) fn read_to_end(&mut self) {
        if let Some(pooled) = self.pooled.take() {
            pooled.give_back();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
