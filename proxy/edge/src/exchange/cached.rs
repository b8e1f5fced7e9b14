//! A request on a cached path: answered from what is kept, or the one that asks for all who wait. What may be kept is
//! decided in `cache`; here, and in `fill.rs`, it is carried out.

use super::{Done, Exchange, Stop, decided, uri_for};
use crate::cache::refresh::{self, Question};
use crate::cache::{
    Asked, Bypass, CacheUse, Entry, Forwarded, Landing, Lead, Look, ResponseCache, Standing, Waiter, Way,
    report_bypass, report_forwarded, report_hit, route,
};
use crate::deadline::until;
use crate::gate::{BodyPlan, Verdict};
use crate::protocol::Protocol;
use crate::trace::TRACEPARENT;
use crate::upstream::{Failure, Reply};
use http::HeaderMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// What the cache wants of the reply to a request that goes to the service.
#[derive(Debug, Default)]
pub(super) enum Cached {
    /// Nothing.
    #[default]
    No,
    /// It is told that the cache had no part in it.
    Bypass(Bypass),
    /// It is not kept.
    Alone,
    /// What is kept of this resource is not used any more once it is a good one.
    Changes(Arc<[u8]>),
    /// It is kept, if it may be.
    Fill(Box<Fill>),
}

/// A request that asks for all who wait.
#[derive(Debug)]
pub(super) struct Fill {
    pub(super) lead: Lead,
    pub(super) old: Option<Arc<Entry>>,
    pub(super) asked: Box<Asked>,
}

impl Exchange<'_> {
    /// Between the gate and the service: the cache's turn.
    pub(super) async fn by_cache(
        &mut self,
        plan: BodyPlan,
        idempotent: bool,
        headers: HeaderMap,
        authority: &str,
    ) -> Done {
        let shared = self.shared;
        let has_body = !self.session.is_body_empty();
        let way = shared.settings.cache.as_ref().and_then(|cache| {
            let way = route::way(&cache.rules, self.head(), &headers, authority, has_body)?;
            // RPCs by GET have headers of their own, which would have to be understood here.
            let carried = self.protocol == Protocol::Http || matches!(way, Way::Changes(_));
            carried.then(|| (cache.clone(), way))
        });
        match way {
            None => {}
            Some((cache, Way::Bypass(why))) => {
                cache.used(CacheUse::Bypass);
                self.cached = Cached::Bypass(why);
            }
            Some((_, Way::Changes(resource))) => self.cached = Cached::Changes(resource),
            Some((cache, Way::Asked(asked))) => return self.asked(&cache, asked, plan, idempotent).await,
        }
        self.go_on(plan, idempotent, headers, authority).await
    }

    async fn asked(
        &mut self,
        cache: &Arc<ResponseCache>,
        asked: Box<Asked>,
        plan: BodyPlan,
        idempotent: bool,
    ) -> Done {
        let patience = Instant::now() + cache.settings.lock_timeout;
        let mut waited = false;
        loop {
            let waiter = match cache.look(&asked, Instant::now() < patience, cache.now().since) {
                Look::Fresh(entry) => {
                    let what = if waited { CacheUse::Collapsed } else { CacheUse::Hit };
                    return self.hit(cache, &asked, &entry, what, plan).await;
                }
                Look::Stale(entry, lead) => {
                    if let Some(lead) = lead {
                        self.ask_again(&asked, &entry, lead);
                    }
                    return self.hit(cache, &asked, &entry, CacheUse::Stale, plan).await;
                }
                Look::Lead(lead, old) => {
                    let (mut headers, authority) = (asked.headers.clone(), asked.authority.clone());
                    for (name, value) in old.iter().flat_map(|old| old.validators()) {
                        headers.insert(name, value.clone());
                    }
                    self.cached = Cached::Fill(Box::new(Fill { lead, old, asked }));
                    return self.go_on(plan, idempotent, headers, &authority).await;
                }
                Look::Alone => None,
                Look::Wait(waiter) => Some(waiter),
            };
            let landing = match waiter {
                Some(waiter) => self.landing(waiter, patience).await,
                None => Ok(Landing::Alone),
            };
            match landing {
                Ok(Landing::Answer(entry)) => {
                    let fresh = entry.standing(cache.now().since) == Standing::Fresh;
                    let what = if fresh { CacheUse::Collapsed } else { CacheUse::Error };
                    return self.hit(cache, &asked, &entry, what, plan).await;
                }
                Ok(Landing::Again) => waited = true,
                Ok(Landing::Alone) => {
                    cache.used(CacheUse::Alone);
                    self.cached = Cached::Alone;
                    return self.go_on(plan, idempotent, asked.headers, &asked.authority).await;
                }
                Err(stop) => return stop.into_done(self).await,
            }
        }
    }

    /// Waits for the answer to another request, for as long as it may.
    async fn landing(&mut self, mut waiter: Waiter, patience: Instant) -> Result<Landing, Stop> {
        // Cancel-safe: whichever branch wins, the place among those who wait is given back.
        tokio::select! {
            biased;
            landing = waiter.landing() => Ok(landing),
            _ = self.session.read_body_or_idle(true) => Err(Stop::Gone),
            () = until(self.deadline.for_head()) => Err(Stop::Late),
            () = sleep_until(patience) => Ok(Landing::Alone),
        }
    }

    fn ask_again(&self, asked: &Asked, entry: &Arc<Entry>, lead: Lead) {
        let encrypted = self.shared.settings.upstream.tls.is_some();
        let Some(uri) = uri_for(self.head(), &asked.authority, encrypted) else { return };
        let mut headers = asked.headers.clone();
        // A question of its own, not this client's.
        headers.insert(TRACEPARENT.clone(), self.shared.traces.make().1);
        let upstream = self.shared.upstream.clone();
        let time = self.shared.settings.requests.default_timeout;
        refresh::spawn(Question { upstream, uri, headers, old: entry.clone(), time }, lead);
    }

    /// Answers with what is kept, within the caller's limits.
    async fn hit(
        &mut self,
        cache: &ResponseCache,
        asked: &Asked,
        entry: &Entry,
        what: CacheUse,
        plan: BodyPlan,
    ) -> Done {
        if plan == BodyPlan::Hold
            && let Err(stop) = self.judged_kept().await
        {
            return stop.into_done(self).await;
        }
        cache.used(what);
        let now = cache.now().since;
        let mut headers = entry.headers.clone();
        match what {
            CacheUse::Collapsed => {
                let forwarded = Forwarded { why: "uri-miss", status: None, stored: false, collapsed: true };
                report_forwarded(&mut headers, forwarded, Some((entry, now)));
            }
            CacheUse::Error => report_hit(&mut headers, entry, Some("stale-if-error"), now),
            _ => report_hit(&mut headers, entry, None, now),
        }
        self.give(asked, entry, headers).await
    }

    /// Asks the gate about a request that the service will not see.
    async fn judged_kept(&mut self) -> Result<(), Stop> {
        let Some(call) = self.ending.call() else { return Ok(()) };
        let decision = call.kept();
        match decided(decision, self.session, self.deadline).await? {
            Verdict::Refuse(refusal) => Err(Stop::Refuse(refusal)),
            _ => Ok(()),
        }
    }

    /// What the cache says of the service's reply: it is to be kept, or passes as it comes.
    pub(super) fn replied(&mut self, reply: &mut Reply) -> Option<Box<Fill>> {
        match std::mem::take(&mut self.cached) {
            Cached::No => {}
            Cached::Bypass(why) => report_bypass(&mut reply.head.headers, why),
            Cached::Alone => miss(&mut reply.head.headers, "uri-miss"),
            Cached::Changes(resource) => {
                let status = reply.head.status;
                if let Some(cache) = &self.shared.settings.cache
                    && (status.is_success() || status.is_redirection())
                {
                    cache.changed(&resource, cache.now().since);
                }
            }
            Cached::Fill(fill) => return Some(fill),
        }
        None
    }

    /// There is no reply.
    pub(super) async fn failed(&mut self, failure: &Failure) -> Done {
        let fill = match std::mem::take(&mut self.cached) {
            Cached::Fill(fill) => *fill,
            _ => return self.refuse(&failure.refusal()).await,
        };
        fill.lead.cache().used(CacheUse::Miss);
        match self.covered(fill).await {
            Ok(done) => done,
            Err(lead) => {
                lead.failed();
                self.refuse(&failure.refusal()).await
            }
        }
    }

    /// Answers with an old answer, where it may be used although the service failed.
    pub(super) async fn covered(&mut self, fill: Fill) -> Result<Done, Lead> {
        let cache = fill.lead.cache().clone();
        let now = cache.now().since;
        let Some(old) = fill.old.filter(|old| old.covers_errors(now) && !fill.lead.is_purged()) else {
            return Err(fill.lead);
        };
        fill.lead.covered(&old);
        Ok(self.hit(&cache, &fill.asked, &old, CacheUse::Error, BodyPlan::Stream).await)
    }
}

/// Tells that the service answered, and nothing is kept.
pub(super) fn miss(headers: &mut HeaderMap, why: &'static str) {
    report_forwarded(headers, Forwarded { why, status: None, stored: false, collapsed: false }, None);
}
