//! One request, from its head to its end. The files are its stages:
//!
//! `mod.rs` bounds and the gate's first word -> `hold.rs` the body before the service -> the gate's second word ->
//! `cached.rs` the cache's turn, `fill.rs` the reply that it may keep -> `feed.rs` the body that passes as it comes -> `relay.rs` the reply (or `split.rs`, `part.rs`, `envelope.rs` and `web.rs`: in parts) -> `ending.rs` the gate's last word, always.
//!
//! A client that leaves is noticed in each stage, and takes its request back from the service.
//!
//! A future is as large as the largest of its stages, and is moved when it is made: what few requests come to (the cache, parts, a
//! refusal, a wait) is boxed where it begins, so that all others stay small.

mod cached;
mod ending;
mod envelope;
mod feed;
mod fill;
mod hold;
mod part;
mod relay;
mod split;
mod web;
mod write;

pub(crate) use ending::Ending;

use crate::answer::{Reason, Refusal};
use crate::body::HeldBytes;
use crate::client::{self, Client};
use crate::deadline::{self, Deadline};
use crate::gate::{BodyPlan, Decision, Gate, Head, Opening, Outcome, Plan, Verdict};
use crate::headers;
use crate::protocol::Protocol;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::trace::{self, TraceIds};
use crate::upstream::{Outgoing, Upstream};
use cached::Cached;
use feed::{Feed, Step};
use hold::Hold;
use http::{Version, header, request::Parts};
use pingora_proxy::Session;
use std::sync::Arc;
use tokio::time::Instant;

/// What all requests of an edge share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) held: Arc<HeldBytes>,
    pub(crate) traces: TraceIds,
}

/// What is left to do with a session.
pub(crate) enum Done {
    /// The client has its answer.
    Written,
    /// It is to be broken off: it has half an answer, or has left.
    Abort,
    /// It becomes another protocol; from here on bytes pass as they are.
    Upgrade,
}

/// A request being carried.
struct Exchange<'a> {
    shared: &'a Shared,
    session: &'a mut Session,
    ending: &'a mut Ending,
    protocol: Protocol,
    deadline: Deadline,
    /// What the cache wants of the reply.
    cached: Cached,
}

/// The client of a session.
pub(crate) fn client_of(session: &Session) -> Option<Arc<Client>> {
    let digest = session.digest()?.proxy_digest.as_ref()?;
    client::of_digest(digest.user_data.as_deref())
}

/// Carries a request. `ending` hears how it ended, also when this is dropped on the way.
pub(crate) async fn carry(
    shared: &Shared,
    client: &Client,
    session: &mut Session,
    ending: &mut Ending,
) -> Done {
    let limits = &shared.settings.requests;
    let head: &Parts = session.req_header();
    let query = head.uri.query().unwrap_or_default();
    let protocol = Protocol::of(&head.method, query, &head.headers);
    let authority = authority_of(head).to_owned();
    let trace = trace::read(&head.headers);
    let (trace, traceparent) = match trace {
        Some(trace) => (trace, None),
        None => {
            let (trace, header) = shared.traces.make();
            (trace, Some(header))
        }
    };
    let wrong = refused_at_once(shared, session, head, protocol, &authority);
    let asked = Head {
        client,
        protocol,
        method: &head.method,
        path: head.uri.path(),
        query,
        authority: &authority,
        headers: &head.headers,
        trace,
    };
    let opening = match wrong {
        Some(refusal) => Opening::Refuse(refusal),
        None => shared.gate.open(&asked),
    };
    let start = ending.start();
    let (plan, refusal) = match opening {
        Opening::Pass(plan) => (Some(plan), None),
        Opening::Refuse(refusal) => (None, Some(refusal)),
    };
    let timeout = plan.as_ref().map_or(crate::gate::TimeoutPlan::Default, |plan| plan.timeout);
    let deadline = Deadline::of(protocol, &head.headers, timeout, limits, start);
    let cached = Cached::No;
    let mut exchange = Exchange { shared, session, ending, protocol, deadline, cached };
    if let Some(refusal) = refusal {
        return exchange.refuse(&refusal).await;
    }
    let Some(Plan { body, idempotent, trusts_caller, call, .. }) = plan else { return Done::Abort };
    exchange.ending.ask(call);
    let Some(mut headers) = headers::to_service(&exchange.head().headers, trusts_caller) else {
        return exchange
            .refuse(&Refusal::new(Reason::Malformed, "the Connection header names what it must not"))
            .await;
    };
    if let Some(traceparent) = traceparent {
        headers.insert(trace::TRACEPARENT.clone(), traceparent);
    }
    if exchange.session.is_upgrade_req() {
        exchange.ending.set(Outcome::Upgraded, 0);
        return Done::Upgrade;
    }
    if shared.settings.cache.is_none() {
        return exchange.go_on(body, idempotent, headers, &authority).await;
    }
    Box::pin(exchange.by_cache(body, idempotent, headers, &authority)).await
}

impl Exchange<'_> {
    /// The request's head, as the client sent it.
    fn head(&self) -> &Parts {
        self.session.req_header()
    }

    async fn go_on(
        &mut self,
        plan: BodyPlan,
        idempotent: bool,
        headers: http::HeaderMap,
        authority: &str,
    ) -> Done {
        let empty = self.session.is_body_empty();
        // Held until the reply's head is there, because the request may have to be sent again.
        let mut held = None;
        let mut feed = Feed::none();
        let mut stream = None;
        let mut parts = None;
        if plan == BodyPlan::Hold {
            match self.hold().await {
                Hold::Whole(body, share) => held = Some((body, share)),
                Hold::Refuse(refusal) => return self.refuse(&refusal).await,
                Hold::Gone => return self.gone(),
            }
            if let Some((body, _)) = &held {
                match self.judged(body).await {
                    Ok(cut) => parts = cut,
                    Err(done) => return done.into_done(self).await,
                }
            }
        } else if !empty {
            let most = self.upload_bytes();
            if hold::announced(self.head()).is_some_and(|length| length > most) {
                return self.refuse(&hold::too_large(most)).await;
            }
            if !self.go_ahead().await {
                return self.gone();
            }
            let (fed, outgoing) = Feed::new(most);
            feed = fed;
            stream = Some(outgoing);
        }
        let encrypted = self.shared.settings.upstream.tls.is_some();
        let Some(uri) = uri_for(self.head(), authority, encrypted) else {
            return self.refuse(&Refusal::new(Reason::Malformed, "the request's target is none")).await;
        };
        if let Some(parts) = parts {
            // Whoever cuts the request has its bytes; its share stays taken until the end.
            let _share = held.map(|(_, share)| share);
            return Box::pin(self.split(parts, idempotent, uri, &headers)).await;
        }
        let (method, protocol, deadline) = (self.head().method.clone(), self.protocol, self.deadline);
        let make = |body: Outgoing, now: Instant| {
            let mut request = http::Request::new(body);
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            deadline.write(protocol, request.headers_mut(), now);
            request
        };
        let repeatable = stream.is_none();
        let body_again = || match &held {
            Some((body, _)) => Outgoing::whole(body.queue()),
            None => Outgoing::empty(),
        };
        let sent_at = Instant::now();
        let first = make(stream.take().unwrap_or_else(body_again), sent_at);
        let again = || repeatable.then(|| make(body_again(), Instant::now()));
        let retries = self.ending.call().and_then(|call| call.retries());
        let called = {
            let (by, retries) = (deadline.for_head(), retries.as_deref());
            let call = self.shared.upstream.call(first, idempotent, by, retries, again);
            let mut call = std::pin::pin!(call);
            loop {
                // Every branch is cancel-safe: a part that was read is kept in `feed`.
                tokio::select! {
                    biased;
                    called = &mut call => break Ok(called),
                    step = feed.watch(self.session, self.ending) => match step {
                        Step::Moved => {}
                        Step::Refuse(refusal) => break Err(Stop::Refuse(refusal)),
                        Step::Gone => break Err(Stop::Gone),
                    },
                    () = deadline::until(deadline.for_head()) => break Err(Stop::Late),
                }
            }
            // Here the call is dropped: without a reply, the service is told that nobody waits for one.
        };
        let (replied, retries) = match called {
            Ok(called) => called,
            Err(stop) => return stop.into_done(self).await,
        };
        self.ending.served(sent_at.elapsed(), retries);
        match replied {
            Ok(mut reply) => {
                drop(held.take());
                match self.replied(&mut reply) {
                    Some(fill) => Box::pin(self.fill(*fill, reply, feed)).await,
                    None => self.relay(reply, feed).await,
                }
            }
            Err(failure) => Box::pin(self.failed(&failure)).await,
        }
    }

    /// Asks the gate about a body that is there. Whole, or in parts?
    async fn judged(&mut self, body: &crate::body::Body) -> Result<Option<Box<dyn crate::Parts>>, Stop> {
        let Some(call) = self.ending.call() else { return Ok(None) };
        let decision = call.whole(body);
        match decided(decision, self.session, self.deadline).await? {
            Verdict::Admit => Ok(None),
            Verdict::Split(parts) => Ok(Some(parts)),
            Verdict::Refuse(refusal) => Err(Stop::Refuse(refusal)),
        }
    }

    /// Bytes of a body that passes as it comes.
    fn upload_bytes(&self) -> u64 {
        match self.protocol {
            Protocol::Http | Protocol::ConnectUnary => self.shared.settings.requests.upload_bytes,
            // Each of their messages is the service's to bound.
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::ConnectStream => u64::MAX,
        }
    }

    /// The client has left.
    fn gone(&mut self) -> Done {
        self.ending.set(Outcome::ClientGone, 0);
        Done::Abort
    }

    async fn late(&mut self) -> Done {
        self.refuse(&Refusal::new(Reason::Deadline, "the request's time is over")).await
    }
}

/// Why a request does not go on.
enum Stop {
    Refuse(Refusal),
    Gone,
    Late,
}

impl Stop {
    async fn into_done(self, exchange: &mut Exchange<'_>) -> Done {
        match self {
            Stop::Refuse(refusal) => exchange.refuse(&refusal).await,
            Stop::Gone => exchange.gone(),
            Stop::Late => exchange.late().await,
        }
    }
}

/// The gate's word, for as long as the client waits for it.
async fn decided(decision: Decision<'_>, session: &mut Session, deadline: Deadline) -> Result<Verdict, Stop> {
    let later = match decision {
        Decision::Now(verdict) => return Ok(verdict),
        Decision::Later(later) => later,
    };
    // Few decisions wait: boxed, so that the others do not carry the room for it.
    let waited = Box::pin(async move {
        // Cancel-safe: the gate's answer is asked once, and whichever branch wins ends the question.
        tokio::select! {
            biased;
            verdict = later => Ok(verdict),
            _ = session.read_body_or_idle(true) => Err(Stop::Gone),
            () = deadline::until(deadline.for_head()) => Err(Stop::Late),
        }
    });
    waited.await
}

/// What no gate is asked about.
fn refused_at_once(
    shared: &Shared,
    session: &Session,
    head: &Parts,
    protocol: Protocol,
    authority: &str,
) -> Option<Refusal> {
    let limits = &shared.settings.requests;
    let size = headers::size(&head.headers) + head.uri.path().len() + head.uri.query().map_or(0, str::len);
    if size > limits.header_bytes || head.headers.len() > limits.headers {
        let (bytes, count) = (limits.header_bytes, limits.headers);
        let message = format!("more than {bytes} bytes of headers, or more than {count} of them");
        return Some(Refusal::new(Reason::HeadersTooLarge, message));
    }
    if !session.req_header().raw_path_is_utf8() || authority.is_empty() {
        return Some(Refusal::new(Reason::Malformed, "no authority, or a target that is not UTF-8"));
    }
    // Its status comes in trailers, which pingora does not write to HTTP/1.1 clients: without them a client would read
    // a reply that never says how it ended.
    if protocol == Protocol::Grpc && head.version != Version::HTTP_2 {
        let message =
            "gRPC is carried over HTTP/2 only; this client speaks HTTP/1.1 (Connect and gRPC-web may)";
        return Some(Refusal::new(Reason::Unsupported, message));
    }
    None
}

fn authority_of(head: &Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

/// The target, in the form that HTTP/2 sends; HTTP/1.1 takes its parts.
fn uri_for(head: &Parts, authority: &str, encrypted: bool) -> Option<http::Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if encrypted { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = match head.uri.authority() {
        Some(own) if own.as_str() == authority => Some(own.clone()),
        _ => Some(authority.parse().ok()?),
    };
    let path = head.uri.path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or(http::uri::PathAndQuery::from_static("/")));
    http::Uri::from_parts(parts).ok()
}
