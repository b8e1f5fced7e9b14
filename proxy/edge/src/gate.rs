//! Where the edge asks what to do. The edge carries requests; whether one may pass, what it counts and what becomes of it
//! is decided behind [`Gate`].
//!
//! One request is asked about three times: at its head ([`Gate::open`]), when its body is there and the service has seen
//! nothing of it yet ([`Call::whole`]), and when it is over ([`Call::end`], always and once). In between the gate sees
//! the bytes of both directions as they pass.

use crate::answer::Refusal;
use crate::body::Body;
use crate::client::{Client, Peer};
use crate::parts::{Parts, Retries};
use crate::protocol::Protocol;
use crate::trace::TraceId;
use crate::visit::{Unwatched, Visit};
use http::{HeaderMap, Method};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::settings::Address;

/// Decides about requests. One for a listener.
pub trait Gate: Send + Sync + 'static {
    /// A request's head is here. Must not block.
    fn open(&self, head: &Head<'_>) -> Opening;

    /// Calls are to go to a server of the service from now on, or not any more: it can be reached, its health checks are
    /// good, and calls do not fail there one after the other; or not all of that. Must not block.
    fn server_is(&self, server: &Address, up: bool) {
        let _ = (server, up);
    }

    /// A request is refused: by the edge itself, also before [`Gate::open`], or in this gate's own words.
    fn refused(&self, refusal: &Refusal) {
        let _ = refusal;
    }

    /// A client has connected. `None` closes its connection at once. Must not block.
    fn visit(&self, peer: Peer) -> Option<Box<dyn Visit>> {
        let _ = peer;
        Some(Box::new(Unwatched))
    }
}

/// What is known of a request when its head is here.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Head<'a> {
    /// The connection it came on.
    pub client: &'a Client,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its method.
    pub method: &'a Method,
    /// Its path, without the query. Of an RPC: `/package.Service/Method`.
    pub path: &'a str,
    /// Its query, empty where there is none.
    pub query: &'a str,
    /// Its authority (`Host`).
    pub authority: &'a str,
    /// Its headers, as the client sent them, callers' names ([`crate::CALLER_HEADERS`]) included.
    pub headers: &'a HeaderMap,
    /// The id that ties together all that comes of it: the client's own (traceparent) or a new one.
    pub trace: TraceId,
}

/// The answer to a head.
pub enum Opening {
    /// It goes on.
    Pass(Plan),
    /// It ends here.
    Refuse(Refusal),
}

/// How a request goes on.
pub struct Plan {
    /// What becomes of its body.
    pub body: BodyPlan,
    /// It may be sent again when it is unknown whether the service has carried it out.
    pub idempotent: bool,
    /// How long it may take.
    pub timeout: TimeoutPlan,
    /// The service sees the name that the caller gives itself ([`crate::declared`]). Without it the headers of
    /// [`crate::CALLER_HEADERS`] are removed.
    pub trusts_caller: bool,
    /// Asked from here on.
    pub call: Box<dyn Call>,
}

impl Plan {
    /// What is done with a request nobody has an opinion about: passed as it comes, sent again only when its HTTP method
    /// says that it may be, its caller's name removed.
    #[must_use]
    pub fn pass(method: &Method, call: Box<dyn Call>) -> Plan {
        Plan {
            body: BodyPlan::Stream,
            idempotent: method.is_idempotent(),
            timeout: TimeoutPlan::Default,
            trusts_caller: false,
            call,
        }
    }
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// It is held until it is there as a whole and [`Call::whole`] has admitted it; the service sees nothing before,
    /// not even the head.
    Hold,
    /// It passes as it comes: methods that stream, and what is not counted. [`Call::whole`] is not asked.
    Stream,
}

/// How long a request may take: where its client names no limit, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPlan {
    /// As the listener says.
    Default,
    /// This long, also where its client allows more.
    Of(Duration),
    /// Without an end: subscriptions.
    None,
}

/// One request on its way.
pub trait Call: Send + Sync {
    /// A part of the request's body has come.
    ///
    /// # Errors
    /// To refuse the request without waiting for the rest. (Where the body is not held, the service may have seen what
    /// came before; it sees the request cut.)
    fn part(&mut self, part: &[u8]) -> Result<(), Refusal> {
        let _ = part;
        Ok(())
    }

    /// The whole body is there. The answer may take its time (pacing); the client's deadline goes on, and a client that
    /// leaves drops the question.
    fn whole<'a>(&'a mut self, body: &'a Body) -> Decision<'a> {
        let _ = body;
        Decision::Now(Verdict::Admit)
    }

    /// Its answer is kept, and the service will not be asked: only the caller's limits speak. Asked instead of
    /// [`Call::whole`], of requests whose body is held. [`Verdict::Split`] means nothing here.
    fn kept(&mut self) -> Decision<'_> {
        Decision::Now(Verdict::Admit)
    }

    /// Who says whether the request may be sent again; `None`: the edge's own budget. Asked once, before it is sent. (Of a
    /// split call: [`Parts::retries`].)
    fn retries(&self) -> Option<Arc<dyn Retries>> {
        None
    }

    /// The head of the reply passes. Of a split call: of the reply to the whole.
    fn reply_head(&mut self, status: http::StatusCode, headers: &HeaderMap) {
        let _ = (status, headers);
    }

    /// A part of the reply passes.
    fn reply_part(&mut self, part: &[u8]) {
        let _ = part;
    }

    /// The request is over. Called once, whatever happened.
    fn end(&mut self, end: &End) {
        let _ = end;
    }
}

/// An answer that may wait.
pub enum Decision<'a> {
    /// It is known: the usual case, for which nothing is allocated.
    Now(Verdict),
    /// It takes its time. Dropped when the client leaves or the request's time is over.
    Later(Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>),
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Now(verdict) => f.debug_tuple("Now").field(verdict).finish(),
            Decision::Later(_) => f.write_str("Later"),
        }
    }
}

/// What becomes of a request whose body is there.
#[non_exhaustive]
pub enum Verdict {
    /// To the service.
    Admit,
    /// To the service, in parts. Only where [`Protocol::can_be_split`]; any other request is refused with INTERNAL.
    Split(Box<dyn Parts>),
    /// It ends here.
    Refuse(Refusal),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Admit => f.write_str("Admit"),
            Verdict::Split(_) => f.write_str("Split"),
            Verdict::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// In a word.
    pub outcome: Outcome,
    /// The HTTP status that the client got; 0 where it got none.
    pub status: u16,
    /// The gRPC status in the reply, where there was one.
    pub grpc_status: Option<u32>,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the reply's body that were written.
    pub reply_bytes: u64,
    /// From the head to the end.
    pub took: Duration,
    /// From handing it to the service to the head of its reply; zero where it was not handed over.
    pub service: Duration,
    /// How often it, or a part of it, was sent again.
    pub retries: u32,
    /// Parts that were sent; 0 of a request that went whole.
    pub parts: u32,
}

/// How a request ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service answered, and the client has its whole answer.
    Answered,
    /// The gate or a bound of the edge refused it.
    Refused,
    /// Its time was over.
    Deadline,
    /// The client left.
    ClientGone,
    /// The service could not be reached: it has seen nothing.
    Unreachable,
    /// The service broke off: what it did is unknown.
    Broken,
    /// It was turned into another protocol (a WebSocket), which has ended.
    Upgraded,
}

impl Outcome {
    /// The name of a label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Deadline => "deadline",
            Outcome::ClientGone => "client_gone",
            Outcome::Unreachable => "unreachable",
            Outcome::Broken => "broken",
            Outcome::Upgraded => "upgraded",
        }
    }
}

/// A gate that lets everything pass as it comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

impl Gate for AdmitAll {
    fn open(&self, head: &Head<'_>) -> Opening {
        Opening::Pass(Plan::pass(head.method, Box::new(Silent)))
    }
}

/// A call about which nobody asks anything.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Call for Silent {}
