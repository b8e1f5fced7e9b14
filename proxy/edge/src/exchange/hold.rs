//! The body before the service: read to its end, bounded in bytes and in time, while the gate looks at it as it comes.

use super::Exchange;
use crate::answer::{Reason, Refusal};
use crate::body::{Body, HeldShare};
use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::timeout_at;

/// Parts in a row before others have their turn.
const IN_A_ROW: u32 = 64;

/// What came of it.
pub(super) enum Hold {
    /// The body, and its share of what may be held.
    Whole(Body, HeldShare),
    Refuse(Refusal),
    /// The client broke off.
    Gone,
}

impl Exchange<'_> {
    pub(super) async fn hold(&mut self) -> Hold {
        let limits = &self.shared.settings.requests;
        if announced(self.head()).is_some_and(|length| length > limits.body_bytes) {
            return Hold::Refuse(too_large(limits.body_bytes));
        }
        let mut body = Body::default();
        let mut share = self.shared.held.share();
        if self.session.is_body_empty() {
            return Hold::Whole(body, share);
        }
        if !self.go_ahead().await {
            return Hold::Gone;
        }
        let mut parts = 0_u32;
        let slow = self.ending.start() + limits.body_timeout;
        let deadline = self.deadline.for_head();
        let until = deadline.map_or(slow, |deadline| deadline.min(slow));
        loop {
            let part = match timeout_at(until, next_part(self.session)).await {
                Ok(Ok(Some(part))) => part,
                Ok(Ok(None)) => return Hold::Whole(body, share),
                Ok(Err(error)) if *error.etype() == pingora_core::ErrorType::ReadTimedout => {
                    return Hold::Refuse(slow_body());
                }
                Ok(Err(_)) => return Hold::Gone,
                Err(_) if until < slow => {
                    return Hold::Refuse(Refusal::new(Reason::Deadline, "the request's time is over"));
                }
                Err(_) => return Hold::Refuse(slow_body()),
            };
            let length = part.len() as u64;
            self.ending.read(length);
            if body.len() + length > limits.body_bytes {
                return Hold::Refuse(too_large(limits.body_bytes));
            }
            if !share.take(length) {
                let most = limits.held_bytes;
                let message = format!("weir holds {most} bytes of requests already");
                return Hold::Refuse(Refusal::new(Reason::Overloaded, message));
            }
            if let Some(call) = self.ending.call()
                && let Err(refusal) = call.part(&part)
            {
                return Hold::Refuse(refusal);
            }
            body.push(part);
            if self.session.is_body_done() {
                return Hold::Whole(body, share);
            }
            parts += 1;
            if parts.is_multiple_of(IN_A_ROW) {
                // What is read already is no reason to wait: without this, others would.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells a client that waits for it to send its body. `false` when the client is gone.
    pub(super) async fn go_ahead(&mut self) -> bool {
        let expects = self.head().headers.get(header::EXPECT);
        let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if !waits || self.head().version != Version::HTTP_11 {
            return true;
        }
        let Ok(head) = ResponseHeader::build(StatusCode::CONTINUE, Some(0)) else { return true };
        Box::pin(self.session.downstream_session.write_response_header(Box::new(head))).await.is_ok()
    }
}

/// The next part of the body; `None` at its end. (That of HTTP/1.1 is boxed: it is large, and carried by all others.)
async fn next_part(session: &mut Session) -> pingora_core::Result<Option<Bytes>> {
    match &mut *session.downstream_session {
        ServerSession::H2(http2) => http2.read_body_bytes().await,
        http1 => Box::pin(http1.read_request_body()).await,
    }
}

pub(super) fn announced(head: &http::request::Parts) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn too_large(most: u64) -> Refusal {
    Refusal::new(Reason::BodyTooLarge, format!("the request is larger than {most} bytes"))
}

fn slow_body() -> Refusal {
    Refusal::new(Reason::SlowBody, "the request's body did not come in time")
}
