//! The reply that may be kept: read to its end before its first client gets a byte of it, so that a slow client holds up
//! nobody who waits, and one that breaks off was given to nobody.

use super::cached::{Fill, miss};
use super::feed::{Feed, Step};
use super::relay::Passed;
use super::{Done, Exchange, write};
use crate::answer::{Reason, Refusal};
use crate::cache::{
    Asked, Begun, CacheUse, Entry, Forwarded, Intake, Lead, ResponseCache, Unfit, begin, report_forwarded,
};
use crate::headers;
use crate::upstream::{Reply, ReplyBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header, response};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Bytes of a kept answer that are handed to the client at once.
const PART: usize = 64 << 10;

impl Exchange<'_> {
    /// The reply to a request that asks for all who wait.
    pub(super) async fn fill(&mut self, fill: Fill, reply: Reply, feed: Feed) -> Done {
        let Reply { mut head, mut body } = reply;
        headers::to_client(&mut head.headers);
        let Fill { lead, old, asked } = fill;
        let cache = lead.cache().clone();
        let why = if old.is_some() { "stale" } else { "uri-miss" };
        let intake = match begin(lead, old.as_deref(), &asked.headers, head.status, &head.headers) {
            Begun::Body(intake) => intake,
            Begun::Confirmed(kept) => {
                // Its end, so that the connection can be used again.
                while let Some(Ok(_)) = body.frame().await {}
                cache.used(CacheUse::Confirmed);
                return self.give_new(&cache, &asked, kept, why, Some(304)).await;
            }
            Begun::Failed(lead) => {
                let lead = match self.covered(Fill { lead, old, asked }).await {
                    Ok(done) => return done,
                    Err(lead) => lead,
                };
                lead.failed();
                cache.used(CacheUse::Miss);
                miss(&mut head.headers, why);
                return self.relay(Reply { head, body }, feed).await;
            }
            Begun::Unfit => {
                cache.used(CacheUse::Miss);
                miss(&mut head.headers, why);
                return self.relay(Reply { head, body }, feed).await;
            }
            Begun::Strange => {
                let message = "the service answered 304 to a question about something else";
                return self.refuse(&Refusal::new(Reason::Broken, message)).await;
            }
        };
        cache.used(CacheUse::Miss);
        match self.take_in(intake, &mut body, feed).await {
            Taken::Whole(intake) => {
                let kept = intake.finish(head.status, &head.headers);
                self.give_new(&cache, &asked, kept, why, None).await
            }
            Taken::Rest { parts, trailers, feed } => {
                miss(&mut head.headers, why);
                self.relay_rest(head, parts, body, trailers, feed).await
            }
            Taken::Failed(lead, refusal) => match self.covered(Fill { lead, old, asked }).await {
                Ok(done) => done,
                Err(lead) => {
                    lead.failed();
                    self.refuse(&refusal).await
                }
            },
            Taken::Gone => self.gone(),
        }
    }

    /// Reads an answer to its end, or until it turns out that it is not to be kept.
    async fn take_in(&mut self, mut intake: Intake, body: &mut ReplyBody, mut feed: Feed) -> Taken {
        let silence = self.shared.settings.requests.read_timeout;
        let mut heard = Instant::now();
        loop {
            // Every branch is cancel-safe: frames that were not taken stay where they are.
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                step = feed.step(self.session, self.ending) => match step {
                    Step::Moved => continue,
                    Step::Refuse(refusal) => return Taken::Failed(intake.into_lead(), refusal),
                    // The lead goes with the intake: one of those who wait asks again.
                    Step::Gone => return Taken::Gone,
                },
                () = sleep_until(heard + silence) => {
                    let refusal = Refusal::new(Reason::Broken, "the service fell silent");
                    return Taken::Failed(intake.into_lead(), refusal);
                }
            };
            heard = Instant::now();
            let part = match frame {
                None => return Taken::Whole(intake),
                Some(Err(failure)) => return Taken::Failed(intake.into_lead(), failure.refusal()),
                Some(Ok(frame)) => frame.into_data().map_err(|frame| frame.into_trailers().ok()),
            };
            match part {
                Ok(part) => {
                    if !intake.push(part) {
                        return Taken::Rest { parts: intake.give_up(None), trailers: None, feed };
                    }
                }
                Err(trailers) => {
                    let parts = intake.give_up(Some(Unfit::Partial));
                    return Taken::Rest { parts, trailers, feed };
                }
            }
        }
    }

    /// Passes on what was read of an answer that is not kept, and the rest of it.
    async fn relay_rest(
        &mut self,
        head: response::Parts,
        parts: Vec<Bytes>,
        body: ReplyBody,
        trailers: Option<HeaderMap>,
        feed: Feed,
    ) -> Done {
        match self.relay_head(head, false).await {
            Ok(false) => {}
            Ok(true) => return self.answered(),
            Err(done) => return done,
        }
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            if let Passed::Refused = self.pass_part(part, self.deadline.for_rest()).await {
                return self.not_taken(self.deadline.for_rest()).await;
            }
        }
        match trailers {
            None => self.relay_body(body, feed).await,
            Some(trailers) => match self.pass_trailers(trailers).await {
                Passed::Refused => self.not_taken(self.deadline.for_rest()).await,
                _ => self.answered(),
            },
        }
    }

    /// Answers with what the service has just said.
    async fn give_new(
        &mut self,
        cache: &ResponseCache,
        asked: &Asked,
        kept: Result<Arc<Entry>, Arc<Entry>>,
        why: &'static str,
        status: Option<u16>,
    ) -> Done {
        let stored = kept.is_ok();
        let (Ok(entry) | Err(entry)) = kept;
        let mut headers = entry.headers.clone();
        let now = cache.now().since;
        let forwarded = Forwarded { why, status, stored, collapsed: false };
        report_forwarded(&mut headers, forwarded, Some((&entry, now)));
        self.give(asked, &entry, headers).await
    }

    /// Writes an answer that is there as a whole, or that the client has it already.
    pub(super) async fn give(&mut self, asked: &Asked, entry: &Entry, mut headers: HeaderMap) -> Done {
        let had = entry.status == StatusCode::OK && asked.conditions.are_met_by(&headers);
        let status = if had { StatusCode::NOT_MODIFIED } else { entry.status };
        let body = &entry.body.bytes;
        if had {
            // Of the body, which does not come (RFC 9110, 15.4.5).
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_ENCODING);
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        self.ending.set_status(status.as_u16());
        if let Some(call) = self.ending.call() {
            call.reply_head(status, &headers);
        }
        let mut head = http::Response::new(()).into_parts().0;
        (head.status, head.headers, head.version) = (status, headers, Version::HTTP_11);
        let end = headers::is_bodiless(&self.head().method, status) || body.is_empty();
        if write::head(self.session, ResponseHeader::from(head), end).await.is_err() {
            return self.gone();
        }
        if end {
            return self.answered();
        }
        for start in (0..body.len()).step_by(PART) {
            let part = body.slice(start..body.len().min(start + PART));
            if let Passed::Refused = self.pass_part(part, None).await {
                return self.not_taken(None).await;
            }
        }
        match write::end(self.session).await {
            Ok(()) => self.answered(),
            Err(_) => self.gone(),
        }
    }
}

/// How an answer came in.
enum Taken {
    Whole(Intake),
    /// It is not kept: what came of it, and its trailers where they have come too.
    Rest {
        parts: Vec<Bytes>,
        trailers: Option<HeaderMap>,
        feed: Feed,
    },
    Failed(Lead, Refusal),
    Gone,
}
