//! One address of the service.

use super::http2::NoReply;
use super::lane::{self, Lane};
use super::pool::{Pool, Pooled};
use super::standing::{Server, Standing};
use super::{Failure, Incoming, Reply, ReplyBody, Request};
use crate::settings::{UpstreamProtocol, UpstreamSettings};
use crate::stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::futures::Notified;
use tokio::task::AbortHandle;
use weir_engine::settings::Address;

/// One address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    way: Way,
    pub(super) standing: Arc<Standing>,
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
        standing: Arc<Standing>,
        tasks: &mut Vec<AbortHandle>,
    ) -> Arc<Endpoint> {
        let way = match settings.protocol {
            UpstreamProtocol::Http2 => {
                let lane = |_| lane::start(&address, settings, stats, &standing, tasks);
                Way::Http2((0..settings.connections).map(lane).collect())
            }
            UpstreamProtocol::Http1 => {
                let pool = Pool::new(address.clone(), settings, stats, &standing);
                tasks.push(tokio::spawn(pool.clone().close_idle()).abort_handle());
                Way::Http1(pool)
            }
        };
        Arc::new(Endpoint { address, way, standing })
    }

    /// A request could go there now.
    pub(super) fn can_take(&self) -> bool {
        match &self.way {
            Way::Http2(lanes) => lanes.iter().any(Lane::is_up),
            Way::Http1(pool) => pool.can_take(),
        }
    }

    /// It can be reached, as far as is known: it may be busy.
    pub(super) fn is_reachable(&self) -> bool {
        match &self.way {
            Way::Http2(lanes) => lanes.iter().any(Lane::is_up),
            Way::Http1(pool) => !pool.rests(),
        }
    }

    /// Neither the health checks nor failing calls speak against it.
    pub(super) fn is_good(&self) -> bool {
        self.standing.is_good() && !self.standing.is_out()
    }

    /// Calls are to go there.
    pub(super) fn is_up(&self) -> bool {
        self.is_reachable() && self.is_good()
    }

    pub(super) fn under_way(&self) -> usize {
        match &self.way {
            Way::Http2(lanes) => lanes.iter().map(Lane::under_way).sum(),
            Way::Http1(pool) => pool.under_way(),
        }
    }

    /// Waits until a connection came or went.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.standing.changed.notified()
    }

    /// Someone waits for a connection.
    pub(super) fn wanted(&self) {
        self.standing.wanted.notify_waiters();
    }

    pub(super) fn trouble(&self) -> String {
        self.standing.trouble(&self.address)
    }

    /// What was counted of it.
    pub(super) fn read(&self) -> Server {
        self.standing.read(&self.address, self.is_up(), self.under_way())
    }

    /// Notes what came of a call, because of what that says about the server.
    pub(super) fn note(&self, sent: &Result<Reply, Failure>) {
        match sent {
            Ok(reply) if cannot_serve(&reply.head) => self.standing.failed(),
            Ok(_) => self.standing.served(),
            Err(failure) if failure.against => self.standing.failed(),
            Err(_) => {}
        }
    }

    /// Sends a request over the connection whose turn it is.
    pub(super) async fn send(
        &self,
        request: Box<Request>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Reply, Failure> {
        match &self.way {
            Way::Http2(lanes) => {
                let up = lanes.iter().filter_map(|lane| Some((lane.turn()?, lane)));
                let next = up.min_by_key(|(turn, _)| *turn);
                let Some((lane, mut sender)) = next.and_then(|(_, lane)| Some((lane, lane.sender()?))) else {
                    return Err(Failure::not_sent("the connection has just ended".to_owned(), request));
                };
                let place = Place::on_lane(permit, lane.counter());
                match sender.send(request, lane.under_way()).await {
                    Ok(reply) => Ok(self.reply_of(reply, place)),
                    Err(NoReply::Unsent(request, error)) => {
                        Err(Failure::not_sent(error.to_string(), request))
                    }
                    Err(NoReply::Unopened(error)) => Err(Failure::unopened(&error)),
                    Err(NoReply::Lost(error)) => Err(Failure::before_reply(&error)),
                }
            }
            Way::Http1(pool) => {
                let mut request = request;
                origin_form(&mut request);
                let (mut sender, held) = match pool.take().await {
                    Ok(taken) => taken,
                    Err(error) => return Err(Failure::not_dialled(&error, request)),
                };
                match sender.try_send_request(*request).await {
                    Ok(reply) => {
                        let pooled = Some(Pooled::new(pool.clone(), sender, held));
                        let reply = reply.map(Incoming::Http1);
                        Ok(self.reply_of(reply, Place { _permit: permit, counter: None, pooled }))
                    }
                    Err(mut error) => Err(match error.take_message() {
                        Some(request) => Failure::not_sent(error.into_error().to_string(), Box::new(request)),
                        None => Failure::before_reply(&error.into_error()),
                    }),
                }
            }
        }
    }
}

impl Endpoint {
    fn reply_of(&self, reply: http::Response<Incoming>, mut place: Place) -> Reply {
        let (head, incoming) = reply.into_parts();
        if incoming.is_end() {
            place.read_to_end();
        }
        Reply { head, body: ReplyBody { incoming, place, standing: self.standing.clone() } }
    }
}

/// HTTP/1.1 says the target's path in its first line and the authority in a header.
fn origin_form(request: &mut Request) {
    let uri = std::mem::take(request.uri_mut());
    if let Some(authority) = uri.authority()
        && let Ok(host) = http::HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    // Without a path it is `/`, which is what an empty target is.
    *request.uri_mut() = uri.path_and_query().cloned().map(http::Uri::from).unwrap_or_default();
    *request.version_mut() = http::Version::HTTP_11;
}

/// The server says of itself that it cannot serve, at once: 502, 503, 504, or UNAVAILABLE without a message.
fn cannot_serve(head: &http::response::Parts) -> bool {
    matches!(head.status.as_u16(), 502..=504)
        || head.headers.get("grpc-status").is_some_and(|status| status == "14")
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
