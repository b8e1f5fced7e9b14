//! The reply, on its way to the client: head, parts, trailers, as they come. The service is read no faster than the client
//! reads; what is on the way is bounded by the windows of both connections.

use super::feed::{Feed, Step};
use super::{Done, Exchange, write};
use crate::answer::{self, Reason, Refusal};
use crate::deadline::until;
use crate::gate::Outcome;
use crate::headers;
use crate::protocol::Protocol;
use crate::upstream::{Failure, Reply, ReplyBody};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Version, response::Parts};
use pingora_http::ResponseHeader;
use tokio::time::{Instant, timeout_at};

/// How a part of the reply was passed on.
pub(super) enum Passed {
    /// More may come.
    On,
    /// It was the last.
    End,
    /// The client did not take it.
    Refused,
}

impl Exchange<'_> {
    pub(super) async fn relay(&mut self, reply: Reply, feed: Feed) -> Done {
        let Reply { mut head, body } = reply;
        headers::to_client(&mut head.headers);
        match self.relay_head(head, body.is_end()).await {
            Ok(true) => self.answered(),
            Ok(false) => self.relay_body(body, feed).await,
            Err(done) => done,
        }
    }

    /// Passes on a head; whether that was all.
    pub(super) async fn relay_head(&mut self, mut head: Parts, whole: bool) -> Result<bool, Done> {
        let status = head.status;
        self.ending.set_status(status.as_u16());
        self.ending.grpc_status(&head.headers);
        if let Some(call) = self.ending.call() {
            call.reply_head(status, &head.headers);
        }
        let bodiless = headers::is_bodiless(&self.head().method, status);
        let end = bodiless || whole;
        if !bodiless {
            headers::frame_for(self.head().version, &mut head.headers, end);
        }
        head.version = Version::HTTP_11;
        let header = ResponseHeader::from(head);
        if write::head(self.session, header, end).await.is_err() {
            return Err(self.gone());
        }
        Ok(end)
    }

    pub(super) async fn relay_body(&mut self, mut body: ReplyBody, mut feed: Feed) -> Done {
        let deadline = self.deadline.for_rest();
        // An RPC that has a deadline may be silent until then.
        let silence = deadline.is_none().then_some(self.shared.settings.requests.read_timeout);
        let mut silent = silence.map(|time| Instant::now() + time);
        loop {
            // Every branch is cancel-safe: frames and parts that were not taken stay where they are.
            let frame = match body.frame().now_or_never() {
                // Of a small reply all is there with its head.
                Some(frame) => frame,
                None => tokio::select! {
                    biased;
                    frame = body.frame() => frame,
                    step = feed.watch(self.session, self.ending) => match step {
                        Step::Moved => continue,
                        Step::Refuse(refusal) => return self.cut(&refusal).await,
                        Step::Gone => return self.gone(),
                    },
                    () = until(deadline) => {
                        return self.cut(&Refusal::new(Reason::Deadline, "the request's time is over")).await;
                    }
                    () = until(silent) => {
                        return self.cut(&Refusal::new(Reason::Broken, "the service fell silent")).await;
                    }
                },
            };
            silent = silence.map(|time| Instant::now() + time);
            let passed = match frame {
                None => {
                    return match write::end(self.session).await {
                        Ok(()) => self.answered(),
                        Err(_) => self.gone(),
                    };
                }
                Some(Err(failure)) => return self.cut_by_service(&failure).await,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) => self.pass_part(part, deadline).await,
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.pass_trailers(trailers).await,
                        Err(_) => Passed::On,
                    },
                },
            };
            match passed {
                Passed::On => {}
                Passed::End => {
                    // Drains what the service's connection still holds of this reply: nothing, or its very end.
                    while let Some(Ok(_)) = body.frame().await {}
                    return self.answered();
                }
                Passed::Refused => return self.not_taken(deadline).await,
            }
        }
    }

    pub(super) async fn pass_part(&mut self, part: Bytes, deadline: Option<Instant>) -> Passed {
        let length = part.len() as u64;
        if let Some(call) = self.ending.call() {
            call.reply_part(&part);
        }
        let written = write::part(self.session, part);
        let written = match deadline {
            Some(at) => timeout_at(at, written).await.unwrap_or(Err(write::Refused)),
            None => written.await,
        };
        match written {
            Ok(()) => {
                self.ending.wrote(length);
                Passed::On
            }
            Err(write::Refused) => Passed::Refused,
        }
    }

    pub(super) async fn pass_trailers(&mut self, trailers: HeaderMap) -> Passed {
        self.ending.grpc_status(&trailers);
        match write::trailers(self.session, trailers).await {
            Ok(()) => Passed::End,
            Err(write::Refused) => Passed::Refused,
        }
    }

    /// A part was not written: the time is over, or the client left.
    pub(super) async fn not_taken(&mut self, deadline: Option<Instant>) -> Done {
        if deadline.is_some_and(|at| Instant::now() >= at) {
            return self.cut(&Refusal::new(Reason::Deadline, "the request's time is over")).await;
        }
        self.gone()
    }

    /// The service broke off in the middle of its reply.
    async fn cut_by_service(&mut self, failure: &Failure) -> Done {
        self.cut(&failure.refusal()).await
    }

    /// Ends a reply of which the client has a part, so that it cannot be taken for a whole one.
    async fn cut(&mut self, refusal: &Refusal) -> Done {
        let outcome = super::write::outcome_of(refusal.reason);
        self.ending.set_outcome(outcome);
        if self.protocol == Protocol::Grpc {
            let trailers = answer::trailers(refusal);
            self.ending.grpc_status(&trailers);
            if write::trailers(self.session, trailers).await.is_ok() {
                return Done::Written;
            }
        }
        Done::Abort
    }

    pub(super) fn answered(&mut self) -> Done {
        self.ending.set_outcome(Outcome::Answered);
        Done::Written
    }
}
