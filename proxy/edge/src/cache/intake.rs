//! The body of an answer that may be kept, until it is there as a whole. Nothing of it is kept before, nor given to anybody:
//! an answer that breaks off was none.

use super::entry::{Entry, KeptBody, copied};
use super::flights::Lead;
use super::terms::{Terms, Unfit, judge};
use crate::body::HeldShare;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// An answer on its way into the cache.
#[derive(Debug)]
pub(crate) struct Intake {
    lead: Lead,
    terms: Terms,
    share: HeldShare,
    parts: Vec<Bytes>,
    len: u64,
    unfit: Option<Unfit>,
}

impl Intake {
    /// Of an answer whose head is fit.
    ///
    /// # Errors
    /// When there is no room, with the lead that was given.
    pub(crate) fn new(lead: Lead, terms: Terms, headers: &HeaderMap) -> Result<Intake, Lead> {
        let mut share = lead.cache().held.share();
        if !share.take(Entry::head_bytes(headers, lead.key_bytes())) {
            return Err(lead);
        }
        Ok(Intake { lead, terms, share, parts: Vec::new(), len: 0, unfit: None })
    }

    /// Takes a part; `false` when the answer will not be kept. What came so far is here in any case.
    pub(crate) fn push(&mut self, part: Bytes) -> bool {
        self.len += part.len() as u64;
        if self.len > self.lead.cache().settings.entry_max {
            self.unfit = Some(Unfit::TooLarge);
        } else if !self.share.take(part.len() as u64) {
            self.unfit = Some(Unfit::Full);
        }
        self.parts.push(part);
        self.unfit.is_none()
    }

    /// It is whole: kept, and given to those who waited. `Err` where the resource was changed meanwhile: it is an answer to
    /// its own client only.
    pub(crate) fn finish(self, status: StatusCode, headers: &HeaderMap) -> Result<Arc<Entry>, Arc<Entry>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        self.parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let body = KeptBody::new(bytes.into(), self.share);
        let (cache, at) = (self.lead.cache().clone(), self.lead.cache().now().since);
        let entry = Entry {
            status,
            headers: copied(headers),
            body,
            terms: self.terms,
            at,
            asked_at: self.lead.asked_at,
        };
        let entry = Arc::new(entry);
        match self.lead.keep(&entry) {
            Ok(()) => Ok(entry),
            Err(why) => {
                cache.unfit(why);
                Err(entry)
            }
        }
    }

    /// It is not to be kept: what came of it so far.
    pub(crate) fn give_up(self, why: Option<Unfit>) -> Vec<Bytes> {
        let now = self.lead.cache().now().since;
        match why.or(self.unfit) {
            Some(why) => self.lead.unfit(why, now),
            None => self.lead.failed(),
        }
        self.parts
    }

    /// It broke off, or nobody waits for it here: the lead, for another word.
    pub(crate) fn into_lead(self) -> Lead {
        self.lead
    }
}

/// What is to be done after the head of an answer.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Its body is to be taken in.
    Body(Intake),
    /// The old answer holds, with a new head (`Err`: which is not kept).
    Confirmed(Result<Arc<Entry>, Arc<Entry>>),
    /// The service failed. What is kept may do.
    Failed(Lead),
    /// It is none for the cache; those who waited are let go.
    Unfit,
    /// It confirms what nobody asked about.
    Strange,
}

/// Looks at the head of an answer. `sent` is what the service was asked with, `old` what it was asked about.
pub(crate) fn begin(
    lead: Lead,
    old: Option<&Entry>,
    sent: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
) -> Begun {
    let cache = lead.cache().clone();
    let now = cache.now();
    let delay = now.since.saturating_sub(lead.asked_at);
    let judged =
        |status, headers: &HeaderMap| judge(&cache.settings, &cache.rules, sent, status, headers, delay, now);
    if status == StatusCode::NOT_MODIFIED {
        let Some((old, merged)) = old.and_then(|old| Some((old, old.confirmed(headers)?))) else {
            lead.unfit(Unfit::Status, now.since);
            return Begun::Strange;
        };
        let terms = judged(old.status, &merged);
        return Begun::Confirmed(confirm(lead, old, &merged, terms));
    }
    if status.is_server_error() {
        return Begun::Failed(lead);
    }
    match judged(status, headers) {
        Ok(terms) => match Intake::new(lead, terms, headers) {
            Ok(intake) => Begun::Body(intake),
            Err(lead) => {
                lead.unfit(Unfit::Full, now.since);
                Begun::Unfit
            }
        },
        Err(why) => {
            lead.unfit(why, now.since);
            Begun::Unfit
        }
    }
}

/// An old answer that the service has confirmed, with its new head; kept where there is room.
///
/// # Errors
/// Where it is not kept: an answer to its own client only.
fn confirm(
    lead: Lead,
    old: &Entry,
    headers: &HeaderMap,
    terms: Result<Terms, Unfit>,
) -> Result<Arc<Entry>, Arc<Entry>> {
    let cache = lead.cache().clone();
    let now = cache.now().since;
    let head = copied(headers);
    let make = |terms| {
        let body = old.body.clone();
        Arc::new(Entry { status: old.status, headers: head, body, terms, at: now, asked_at: lead.asked_at })
    };
    match terms {
        Ok(terms) => {
            let entry = make(terms);
            match lead.keep(&entry) {
                Ok(()) => Ok(entry),
                Err(why) => {
                    cache.unfit(why);
                    Err(entry)
                }
            }
        }
        Err(why) => {
            let entry = make(old.terms);
            lead.unfit(why, now);
            Err(entry)
        }
    }
}
