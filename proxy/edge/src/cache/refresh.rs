//! Asking again for an answer that clients get meanwhile: by nobody's request, so nobody is charged for it. At most
//! `refreshes_max` at once, one for each key.

use super::counts::Refreshed;
use super::entry::Entry;
use super::flights::Lead;
use super::intake::{Begun, begin};
use crate::headers;
use crate::upstream::{Outgoing, Reply, Request, Upstream};
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What is asked, and of whom.
pub(crate) struct Question {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) uri: http::Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) old: Arc<Entry>,
    /// For the whole answer.
    pub(crate) time: Duration,
}

/// Asks in a task of its own. It ends with the runtime, or when its time is over.
pub(crate) fn spawn(question: Question, lead: Lead) {
    tokio::spawn(async move {
        let cache = lead.cache().clone();
        let by = Instant::now() + question.time;
        // Dropping it takes the question back, and another request may ask.
        let how = timeout_at(by, ask(question, lead, by)).await.unwrap_or(Refreshed::Failed);
        cache.refreshed(how);
    });
}

async fn ask(question: Question, lead: Lead, by: Instant) -> Refreshed {
    let make = || {
        let mut request = Request::new(Outgoing::empty());
        *request.uri_mut() = question.uri.clone();
        *request.headers_mut() = question.headers.clone();
        for (name, value) in question.old.validators() {
            request.headers_mut().insert(name, value.clone());
        }
        request
    };
    let (replied, _) = question.upstream.call(make(), true, Some(by), None, || Some(make())).await;
    let Ok(Reply { mut head, mut body }) = replied else {
        lead.failed();
        return Refreshed::Failed;
    };
    headers::to_client(&mut head.headers);
    let mut intake = match begin(lead, Some(&question.old), &question.headers, head.status, &head.headers) {
        Begun::Body(intake) => intake,
        Begun::Confirmed(kept) => {
            // Its end, so that the connection can be used again.
            while let Some(Ok(_)) = body.frame().await {}
            return if kept.is_ok() { Refreshed::Kept } else { Refreshed::Unfit };
        }
        Begun::Failed(lead) => {
            lead.failed();
            return Refreshed::Failed;
        }
        Begun::Unfit | Begun::Strange => return Refreshed::Unfit,
    };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            intake.into_lead().failed();
            return Refreshed::Failed;
        };
        let fits = match frame.into_data() {
            Ok(part) => intake.push(part),
            Err(_) => false,
        };
        if !fits {
            intake.give_up(None);
            return Refreshed::Unfit;
        }
    }
    match intake.finish(head.status, &head.headers) {
        Ok(_) => Refreshed::Kept,
        Err(_) => Refreshed::Unfit,
    }
}
