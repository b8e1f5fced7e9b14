//! A request's body that passes as it comes, and the watch over the client while its reply is awaited.

use super::ending::Ending;
use super::hold::too_large;
use crate::answer::Refusal;
use crate::upstream::{CutShort, Outgoing};
use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::Session;
use tokio::sync::mpsc;

/// Parts on their way: as many as hide the hand-over between the two connections.
const PARTS: usize = 4;

/// The client's side of a request under way.
pub(super) struct Feed {
    to: Option<mpsc::Sender<Result<Bytes, CutShort>>>,
    /// Read, and not handed on yet.
    part: Option<Bytes>,
    /// The body has not ended. What nobody waits for any more is read all the same, and dropped.
    reads: bool,
    /// Bytes that it may have, and those that may still come.
    most: u64,
    left: u64,
}

/// What happened on the client's side.
pub(super) enum Step {
    /// Something that concerns nobody else.
    Moved,
    /// The gate has seen enough.
    Refuse(Refusal),
    /// The client left.
    Gone,
}

impl Feed {
    /// The body is held or empty: only the client is watched.
    pub(super) fn none() -> Feed {
        Feed { to: None, part: None, reads: false, most: 0, left: 0 }
    }

    /// A body that passes, of at most so many bytes.
    pub(super) fn new(most: u64) -> (Feed, Outgoing) {
        let (to, from) = mpsc::channel(PARTS);
        (Feed { to: Some(to), part: None, reads: true, most, left: most }, Outgoing::Stream(from))
    }

    /// One step, in a future that is small. Cancel-safe.
    pub(super) async fn watch(&mut self, session: &mut Session, ending: &mut Ending) -> Step {
        if self.to.is_none()
            && !self.reads
            && let ServerSession::H2(http2) = &mut *session.downstream_session
        {
            // Nothing more is read, and whatever ends the stream now is the client's leaving: the usual case.
            let _ = http2.idle().await;
            return Step::Gone;
        }
        Box::pin(self.step(session, ending)).await
    }

    /// One step. Cancel-safe: a part that was read stays here until it is handed on.
    pub(super) async fn step(&mut self, session: &mut Session, ending: &mut Ending) -> Step {
        if let Some(to) = &self.to
            && self.part.is_some()
        {
            let open = match to.reserve().await {
                Ok(place) => {
                    if let Some(part) = self.part.take() {
                        place.send(Ok(part));
                    }
                    true
                }
                // The service reads no more. Its reply says why.
                Err(_) => false,
            };
            self.part = None;
            if !open || session.is_body_done() {
                self.to = None;
            }
            return Step::Moved;
        }
        let over = !self.reads || session.is_body_done();
        if over && self.to.take().is_some() {
            // The body's end, which came without a byte.
            return Step::Moved;
        }
        match session.read_body_or_idle(over).await {
            Ok(Some(part)) => {
                ending.read(part.len() as u64);
                if self.to.is_some() {
                    let Some(left) = self.left.checked_sub(part.len() as u64) else {
                        self.cut();
                        return Step::Refuse(too_large(self.most));
                    };
                    self.left = left;
                    if let Some(call) = ending.call()
                        && let Err(refusal) = call.part(&part)
                    {
                        self.cut();
                        return Step::Refuse(refusal);
                    }
                    if part.is_empty() {
                        // An empty DATA frame.
                        return Step::Moved;
                    }
                    self.part = Some(part);
                }
                Step::Moved
            }
            Ok(None) => {
                self.to = None;
                self.reads = false;
                Step::Moved
            }
            Err(_) => {
                self.cut();
                Step::Gone
            }
        }
    }

    /// Tells the service that the body is cut, not ended.
    pub(super) fn cut(&mut self) {
        if let Some(to) = self.to.take() {
            // With the channel full, dropping the request does the same.
            let _ = to.try_send(Err(CutShort));
        }
    }
}
