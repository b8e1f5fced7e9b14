//! Requests on one HTTP/2 connection, on `h2` itself: head and body of a request that is there leave in one write, and no
//! task stands between a request and its stream. (Hyper's client hands each request to a task of the connection, and the
//! body to another: a write more for each call, and a fifth of what a small call costs.)
//!
//! Memory: of a body that is there the connection holds the same bytes as the request; of one that passes as it comes what
//! the service's windows let go.

use super::outgoing::{CutShort, Outgoing};
use super::{Incoming, Request};
use crate::settings::UpstreamSettings;
use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{Method, header};
use hyper::body::Body as _;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Streams that may be opened before the service has said how many it takes.
const STREAMS_AT_FIRST: usize = 100;

/// Sends requests on one connection; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    inner: SendRequest<Bytes>,
    leaving: Arc<Leaving>,
}

/// No more requests go on the connection.
#[derive(Debug, Default)]
struct Leaving {
    so: AtomicBool,
    told: Notify,
}

impl Leaving {
    fn set(&self) {
        self.so.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum NoReply {
    /// The request is here still.
    Unsent(Box<Request>, h2::Error),
    /// It was never on the wire, but is gone.
    Unopened(h2::Error),
    /// The service may have seen it.
    Lost(h2::Error),
}

impl Sender {
    /// Takes no more requests.
    pub(super) fn is_closed(&self) -> bool {
        self.leaving.so.load(Ordering::Relaxed)
    }

    /// Streams that the service takes at once.
    pub(super) fn streams_max(&self) -> usize {
        self.inner.current_max_send_streams()
    }

    /// Sends a request and returns the head of its reply. Dropping the future takes the request back. `under_way`: so many
    /// are on this connection, this one included.
    pub(super) async fn send(
        &mut self,
        request: Box<Request>,
        under_way: usize,
    ) -> Result<http::Response<Incoming>, NoReply> {
        if let Err(error) = poll_fn(|context| self.inner.poll_ready(context)).await {
            self.leaving.set();
            return Err(NoReply::Unsent(request, error));
        }
        let (mut head, body) = request.into_parts();
        say_length(&mut head, &body);
        let end = body.is_end_stream();
        // Beyond what the service takes at once a stream waits inside the connection, unseen by the service.
        let mut opened = under_way <= self.inner.current_max_send_streams();
        let sent = self.inner.send_request(http::Request::from_parts(head, ()), end);
        let (mut reply, stream) = sent.map_err(NoReply::Lost)?;
        let feeding = match body {
            _ if end => None,
            Outgoing::Whole { parts, .. } => {
                write_whole(stream, parts).map_err(NoReply::Lost)?;
                None
            }
            Outgoing::Stream(parts) => Some(Feeding(tokio::spawn(feed(stream, parts)).abort_handle())),
        };
        let inner = &mut self.inner;
        let reply = poll_fn(|context| {
            if !opened {
                match inner.poll_ready(context) {
                    Poll::Ready(Ok(())) => opened = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(NoReply::Unopened(error))),
                    Poll::Pending => {}
                }
            }
            Pin::new(&mut reply).poll(context).map_err(NoReply::Lost)
        });
        Ok(reply.await?.map(|stream| Incoming::Http2(ReplyStream { stream, feeding, state: State::Data })))
    }
}

/// The length of a body that is there, where nobody has said it; also none, of methods that usually have one.
fn say_length(head: &mut http::request::Parts, body: &Outgoing) {
    let Outgoing::Whole { left, .. } = body else { return };
    let usual = !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT);
    if (*left > 0 || usual) && !head.headers.contains_key(header::CONTENT_LENGTH) {
        head.headers.insert(header::CONTENT_LENGTH, (*left).into());
    }
}

/// Hands over all of a body; it leaves as the service's windows allow.
fn write_whole(
    mut stream: SendStream<Bytes>,
    parts: std::collections::VecDeque<Bytes>,
) -> Result<(), h2::Error> {
    let last = parts.len().saturating_sub(1);
    parts.into_iter().enumerate().try_for_each(|(index, part)| stream.send_data(part, index == last))
}

/// Passes a body on as it comes, no faster than the service reads. Ends early when the service wants no more.
async fn feed(mut stream: SendStream<Bytes>, mut parts: mpsc::Receiver<Result<Bytes, CutShort>>) {
    loop {
        // Cancel-safe on both sides.
        let next = tokio::select! {
            biased;
            _ = poll_fn(|context| stream.poll_reset(context)) => return,
            next = parts.recv() => next,
        };
        let mut part = match next {
            Some(Ok(part)) => part,
            Some(Err(CutShort)) => return stream.send_reset(Reason::CANCEL),
            // What can be wrong with an end the reply says too.
            None => return drop(stream.send_data(Bytes::new(), true)),
        };
        while !part.is_empty() {
            stream.reserve_capacity(part.len());
            let Some(Ok(room)) = poll_fn(|context| stream.poll_capacity(context)).await else { return };
            let piece = part.split_to(room.min(part.len()));
            if stream.send_data(piece, false).is_err() {
                return;
            }
        }
    }
}

/// A body on its way; dropped, it is cut.
#[derive(Debug)]
struct Feeding(AbortHandle);

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The rest of a reply. Dropped before its end, it takes the request back.
#[derive(Debug)]
pub(super) struct ReplyStream {
    stream: RecvStream,
    feeding: Option<Feeding>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    End,
}

impl ReplyStream {
    pub(super) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next part or the trailers. Cancel-safe.
    pub(super) async fn frame(&mut self) -> Option<Result<hyper::body::Frame<Bytes>, h2::Error>> {
        if self.state == State::Data {
            match poll_fn(|context| self.stream.poll_data(context)).await {
                Some(Ok(part)) => {
                    // Whoever asks for the next part has passed this one on. A stream that ended needs no window.
                    let _ = self.stream.flow_control().release_capacity(part.len());
                    return Some(Ok(hyper::body::Frame::data(part)));
                }
                Some(Err(error)) => {
                    self.state = State::End;
                    // The service wants no more of the request, and has said all.
                    let said_all = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
                    return (!said_all).then_some(Err(error));
                }
                None => self.state = State::Trailers,
            }
        }
        if self.state == State::End {
            return None;
        }
        let trailers = poll_fn(|context| self.stream.poll_trailers(context)).await;
        self.state = State::End;
        self.feeding = None;
        trailers.map(|trailers| trailers.map(hyper::body::Frame::trailers)).transpose()
    }
}

/// The life of a connection.
pub(super) struct Life {
    ended: oneshot::Receiver<Result<(), h2::Error>>,
    task: AbortHandle,
    leaving: Arc<Leaving>,
    pings: Option<PingPong>,
    interval: Duration,
    patience: Duration,
}

/// Speaks HTTP/2 first; the connection lives in a task of its own until its last request has ended.
///
/// # Errors
/// When the socket breaks.
pub(super) async fn open<S>(stream: S, settings: &UpstreamSettings) -> Result<(Sender, Life), h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (inner, mut connection) = client::Builder::new()
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window())
        .max_header_list_size(settings.header_bytes)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        // Nothing is pushed here.
        .enable_push(false)
        .max_concurrent_streams(0)
        .handshake(stream)
        .await?;
    let leaving = Arc::new(Leaving::default());
    let pings = connection.ping_pong();
    let (tell, ended) = oneshot::channel();
    let left = leaving.clone();
    let task = tokio::spawn(async move {
        let end = connection.await;
        left.set();
        // Nobody may be left to be told.
        let _ = tell.send(end);
    });
    let life = Life {
        ended,
        task: task.abort_handle(),
        leaving: leaving.clone(),
        pings,
        interval: settings.ping_interval,
        patience: settings.ping_timeout,
    };
    Ok((Sender { inner, leaving }, life))
}

impl Life {
    /// Returns why no more requests can go on the connection. Those under way go on to their ends, unless it is dead.
    pub(super) async fn over(self) -> String {
        let Life { ended, task, leaving, pings, interval, patience } = self;
        tokio::select! {
            biased;
            end = ended => match end {
                Ok(Ok(())) => "the service ended the connection".to_owned(),
                Ok(Err(error)) => format!("the connection ended: {error}"),
                Err(_) => "the connection was dropped".to_owned(),
            },
            () = leaving.told.notified() => "the service is leaving the connection".to_owned(),
            () = unanswered(pings, interval, patience) => {
                leaving.set();
                task.abort();
                format!("no answer to a PING within {patience:?}")
            }
        }
    }
}

/// Ends when the service has left a PING without an answer for too long.
async fn unanswered(pings: Option<PingPong>, interval: Duration, patience: Duration) {
    // There is one handle for each connection, and this is its first taker.
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(interval).await;
        match timeout(patience, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own end says why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
