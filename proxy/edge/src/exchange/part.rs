//! One part of a split call: sent, and its reply read to its end. What comes back is one plain message, or what the client
//! is to be told instead.

use super::envelope::{Envelope, NoMessage};
use crate::parts::{PartFailed, Retries};
use crate::protocol::Protocol;
use crate::upstream::{Failure, Outgoing, Reply, Request, Sent, Upstream};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header, response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// Bytes in front of a message of gRPC: a flag (0: plain) and the length.
pub(super) const PREFIX: usize = 5;
/// Bytes of an error's body that are kept to pass it on. (gRPC's has none.)
const ERROR_BYTES: u64 = 64 << 10;

/// What goes with each part of a call.
pub(super) struct Sending {
    pub(super) upstream: Arc<Upstream>,
    pub(super) protocol: Protocol,
    pub(super) idempotent: bool,
    pub(super) by: Option<Instant>,
    pub(super) room: Arc<Room>,
}

/// Bytes of replies that a call may still keep.
pub(super) struct Room(AtomicU64);

impl Room {
    pub(super) fn new(most: u64) -> Arc<Room> {
        Arc::new(Room(AtomicU64::new(most)))
    }

    pub(super) fn take(&self, bytes: u64) -> Option<()> {
        let left = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).ok().map(|_| ())
    }
}

/// How a part ended.
pub(super) enum Ended {
    /// With its message.
    Message(Answered),
    /// The service said no: its own words, for the client.
    Error(Words, u32),
    /// The service did not answer.
    Lost(Failure),
    /// The replies are too large together.
    TooLarge,
    /// There is no plain message in it: why.
    Unreadable(&'static str),
}

/// The reply of a part.
pub(super) struct Answered {
    pub(super) head: response::Parts,
    pub(super) message: Bytes,
    pub(super) trailers: HeaderMap,
}

/// An error as the service worded it.
pub(super) struct Words {
    pub(super) head: response::Parts,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Ended {
    /// For the gate; `None`: the part did not fail.
    pub(super) fn failed(&self) -> Option<PartFailed> {
        Some(match self {
            Ended::Message(_) => return None,
            Ended::Error(_, grpc_status) => PartFailed::Error { grpc_status: *grpc_status },
            Ended::Lost(failure) if failure.sent == Sent::Unknown => PartFailed::Broken,
            Ended::Lost(_) => PartFailed::Unreachable,
            Ended::TooLarge => PartFailed::TooLarge,
            Ended::Unreadable(_) => PartFailed::Unreadable,
        })
    }
}

impl Sending {
    /// Sends a part, and again where it may be. Says how often it was sent again.
    pub(super) async fn send(
        &self,
        make: impl Fn(Outgoing) -> Request,
        message: Bytes,
        retries: Option<Arc<dyn Retries>>,
    ) -> (Ended, u32) {
        let body = || {
            let mut parts = VecDeque::with_capacity(2);
            if self.protocol.has_prefixes() {
                parts.push_back(prefix(&message));
            }
            parts.push_back(message.clone());
            Outgoing::whole(parts)
        };
        let again = || Some(make(body()));
        let first = make(body());
        let call = self.upstream.call(first, self.idempotent, self.by, retries.as_deref(), again);
        let (replied, retries) = call.await;
        let ended = match replied {
            Err(failure) => Ended::Lost(failure),
            Ok(reply) if self.protocol.has_prefixes() => self.read_grpc(reply).await,
            Ok(reply) => self.read_unary(reply).await,
        };
        (ended, retries)
    }

    /// gRPC: a message with its prefix, and a status behind it.
    async fn read_grpc(&self, reply: Reply) -> Ended {
        let Reply { head, mut body } = reply;
        if head.status != StatusCode::OK || grpc_status(&head.headers).is_some() {
            return self.words(Reply { head, body }).await;
        }
        let web = self.protocol == Protocol::GrpcWeb;
        let (mut envelope, mut trailers) = (Envelope::new(web), None);
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data()) {
                Err(failure) => return Ended::Lost(failure),
                Ok(Ok(data)) => {
                    if let Err(why) = envelope.push(data, &self.room) {
                        return why.into();
                    }
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            }
        }
        let (message, in_body) = match envelope.finish() {
            Ok(read) => read,
            Err(why) => return why.into(),
        };
        // Of gRPC-web they are in the body, and nowhere else.
        let trailers = if web { in_body } else { trailers };
        let Some(trailers) = trailers else {
            return Ended::Unreadable("the reply of a part ends without a status");
        };
        match (grpc_status(&trailers), message) {
            (Some(0), Some(message)) => Ended::Message(Answered { head, message, trailers }),
            (Some(0), None) => Ended::Unreadable("the reply of a part ends within its message"),
            (None, _) => Ended::Unreadable("the reply of a part ends without a status"),
            (Some(status), _) => {
                Ended::Error(Words { head, body: Bytes::new(), trailers: Some(trailers) }, status)
            }
        }
    }

    /// Connect, and JSON of anybody: the body is the message.
    async fn read_unary(&self, reply: Reply) -> Ended {
        if reply.head.status != StatusCode::OK {
            return self.words(reply).await;
        }
        let plain = reply.head.headers.get(header::CONTENT_ENCODING);
        if plain.is_some_and(|encoding| encoding != "identity") {
            return Ended::Unreadable("the reply of a part is compressed");
        }
        let Reply { head, mut body } = reply;
        let mut message = Vec::new();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data()) {
                Err(failure) => return Ended::Lost(failure),
                Ok(Ok(data)) => {
                    if self.room.take(data.len() as u64).is_none() {
                        return Ended::TooLarge;
                    }
                    message.extend_from_slice(&data);
                }
                Ok(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        message.shrink_to_fit();
        Ended::Message(Answered { head, message: message.into(), trailers })
    }

    /// An error, read to its end so that its trailers are there.
    async fn words(&self, reply: Reply) -> Ended {
        let Reply { mut head, mut body } = reply;
        let mut status = grpc_status(&head.headers);
        let (mut text, mut trailers) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.map(|frame| frame.into_data()) {
                Err(failure) => return Ended::Lost(failure),
                Ok(Ok(data)) if (text.len() + data.len()) as u64 > ERROR_BYTES => {
                    // Half an error's text is none; its status is what counts.
                    text.clear();
                    head.headers.remove(header::CONTENT_LENGTH);
                    break;
                }
                Ok(Ok(data)) => text.extend_from_slice(&data),
                Ok(Err(frame)) => {
                    let last = frame.into_trailers().unwrap_or_default();
                    status = grpc_status(&last).or(status);
                    trailers = Some(last);
                }
            }
        }
        // 2 is UNKNOWN. A head that says 0 and has no message is no reply to a unary call.
        match status {
            Some(0) if self.protocol.has_prefixes() => {
                Ended::Unreadable("the reply of a part has no message")
            }
            status => Ended::Error(Words { head, body: text.freeze(), trailers }, status.unwrap_or(2)),
        }
    }
}

impl From<NoMessage> for Ended {
    fn from(why: NoMessage) -> Ended {
        match why {
            NoMessage::TooLarge => Ended::TooLarge,
            NoMessage::Unreadable(why) => Ended::Unreadable(why),
        }
    }
}

/// Of a plain message.
pub(super) fn prefix(message: &Bytes) -> Bytes {
    // Messages are bounded far below 4 GiB.
    let [a, b, c, d] = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::copy_from_slice(&[0, a, b, c, d])
}

/// What is no number is UNKNOWN, as gRPC says.
fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    let status = headers.get("grpc-status")?;
    Some(status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(2))
}
