//! Writing to the client: pingora's session, with the ends of streams where they belong. What writes to HTTP/1.1 is boxed: those
//! futures are large, and would be carried by all others.

use super::{Done, Exchange};
use crate::answer::{self, Reason, Refusal};
use crate::gate::Outcome;
use bytes::Bytes;
use http::{HeaderMap, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a client of HTTP/1.1 may still write when it is refused.
const FINISH_TIME: Duration = Duration::from_secs(1);

/// The client did not take it: it left, or did not read in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

/// The head. With `end` it is all there is: one HEADERS frame with END_STREAM, which clients of gRPC ask of an answer
/// without a message.
pub(super) async fn head(session: &mut Session, head: ResponseHeader, end: bool) -> Result<(), Refused> {
    let written = match &mut *session.downstream_session {
        ServerSession::H2(http2) => http2.write_response_header(Box::new(head), end),
        http1 => {
            let written = async {
                http1.write_response_header(Box::new(head)).await?;
                if end { http1.finish_body().await } else { Ok(()) }
            };
            Box::pin(written).await
        }
    };
    written.map_err(|_| Refused)
}

/// A part of the body. Waits while the client does not read, `write_timeout` at most.
pub(super) async fn part(session: &mut Session, part: Bytes) -> Result<(), Refused> {
    let written = match &mut *session.downstream_session {
        ServerSession::H2(_) if part.is_empty() => Ok(()),
        ServerSession::H2(http2) => http2.write_body(part, false).await,
        http1 => Box::pin(http1.write_response_body(part, false)).await,
    };
    written.map_err(|_| Refused)
}

/// The trailers, and the end. An HTTP/1.1 client gets the end only.
pub(super) async fn trailers(session: &mut Session, trailers: HeaderMap) -> Result<(), Refused> {
    let written = match &mut *session.downstream_session {
        ServerSession::H2(http2) => http2.write_trailers(trailers),
        http1 => Box::pin(http1.finish_body()).await,
    };
    written.map_err(|_| Refused)
}

/// The end of a body without trailers.
pub(super) async fn end(session: &mut Session) -> Result<(), Refused> {
    let ended = match &mut *session.downstream_session {
        ServerSession::H2(http2) => http2.finish(),
        http1 => Box::pin(http1.finish_body()).await,
    };
    ended.map_err(|_| Refused)
}

/// What a request came to that ended for this reason.
pub(super) fn outcome_of(reason: Reason) -> Outcome {
    match reason {
        Reason::Deadline => Outcome::Deadline,
        Reason::Unreachable => Outcome::Unreachable,
        Reason::Broken | Reason::Merge => Outcome::Broken,
        _ => Outcome::Refused,
    }
}

impl Exchange<'_> {
    /// Answers a client that has got nothing yet.
    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> Done {
        Box::pin(self.write_refusal(refusal)).await
    }

    async fn write_refusal(&mut self, refusal: &Refusal) -> Done {
        // Who waits for its answer must not wait until this client has read its own.
        self.cached = super::Cached::No;
        let outcome = outcome_of(refusal.reason);
        if outcome == Outcome::Refused {
            self.shared.stats.refused.add();
        }
        self.shared.gate.refused(refusal);
        self.let_finish(refusal.reason).await;
        let content_type = self.head().headers.get(header::CONTENT_TYPE);
        let answer = answer::whole(refusal, self.protocol, content_type);
        self.ending.set(outcome, answer.status.as_u16());
        self.ending.grpc_status(&answer.headers);
        let Ok(response) = http::Response::builder().status(answer.status).body(()) else {
            return Done::Abort;
        };
        let mut parts = response.into_parts().0;
        parts.headers = answer.headers;
        let end = answer.body.is_empty() || self.head().method == http::Method::HEAD;
        let written = async {
            head(self.session, ResponseHeader::from(parts), end).await?;
            if !end {
                let length = answer.body.len() as u64;
                part(self.session, answer.body).await?;
                self.ending.wrote(length);
                self.session.downstream_session.finish_body().await.map_err(|_| Refused)?;
            }
            Ok::<(), Refused>(())
        };
        if written.await.is_ok() { Done::Written } else { Done::Abort }
    }

    /// Reads the rest of a body over HTTP/1.1 before it is refused, and drops it: a client that is still writing when the
    /// connection closes sees that, and not the answer. (HTTP/2 has RST_STREAM for it.)
    async fn let_finish(&mut self, reason: Reason) {
        let late = matches!(reason, Reason::SlowBody | Reason::Deadline);
        // Who waits for "100 Continue" is told instead of it.
        let waits = self.head().headers.contains_key(header::EXPECT);
        if self.head().version == Version::HTTP_2 || late || waits {
            return;
        }
        let most = self.shared.settings.requests.body_bytes.saturating_mul(2);
        let until = Instant::now() + FINISH_TIME;
        let mut read = 0;
        while read < most && !self.session.is_body_done() {
            match timeout_at(until, self.session.read_request_body()).await {
                Ok(Ok(Some(part))) => read += part.len() as u64,
                _ => return,
            }
        }
    }
}
