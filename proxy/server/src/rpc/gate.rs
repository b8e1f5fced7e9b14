//! The head of a call: who calls, what, and whether it may begin.

use super::answers;
use super::askers::{Signs, Verified};
use super::call::{Counting, RpcCall};
use super::desk::{Desk, State};
use super::tokens::Tokens;
use super::visits::Entrance;
use crate::config::{Config, PrincipalKind};
use crate::tls::{INVALID, caller_of};
use http::{HeaderMap, Method, header};
use std::sync::Arc;
use std::time::Duration;
use weir_edge::{
    BodyPlan, Client, Gate, Head, Opening, Peer, Plan, Protocol, Reason, Refusal, TimeoutPlan, Visit,
    declared,
};
use weir_engine::correlate::CorrelationId;
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{self, method_of_path};
use weir_engine::settings::{Address, Backend};
use weir_engine::units::{Instant, ListenerId, Span};
use weir_rpc::{Codec, ContentType, Counter, Wire, connect_get, count::Direction};

/// One listener's gate.
pub(super) struct ListenerGate {
    pub(super) listener: ListenerId,
    pub(super) desk: Arc<Desk>,
    pub(super) tokens: Tokens,
    pub(super) entrance: Arc<Entrance>,
}

impl Gate for ListenerGate {
    fn visit(&self, peer: Peer) -> Option<Box<dyn Visit>> {
        self.entrance.enter(peer)
    }

    fn refused(&self, refusal: &Refusal) {
        // Limits, deadlines, lost servers and replies that cannot be passed on are counted by outcome.
        let elsewhere = matches!(
            refusal.reason,
            Reason::Limit
                | Reason::Deadline
                | Reason::Unreachable
                | Reason::Broken
                | Reason::ReplyTooLarge
                | Reason::Merge
        );
        if !elsewhere {
            self.entrance.metrics.invalid(refusal.cause, 1);
        }
    }

    fn open(&self, head: &Head<'_>) -> Opening {
        let desk = &self.desk;
        // Before the lock: a signature may have to be checked.
        let vouched = self.tokens.caller(head, desk.clock);
        // So is what a query holds: base64, JSON.
        let queried = self.queried(head);
        let opened = desk.with(|state, now| self.begin(state, head, vouched, queried, now));
        // From here to the call's end the engine has a deadline to look at: the end needs no word of its own.
        desk.news.notify_one();
        let Opened { mut call, upgrade, time } = match opened {
            Ok(opened) => opened,
            Err(refusal) => return Opening::Refuse(refusal),
        };
        let (holds, trusted) = (call.counting.holds, call.asker.trusted);
        if !holds && let Err(refusal) = call.admit_at_once() {
            call.over(Outcome::Refused, 0, 0);
            return Opening::Refuse(refusal);
        }
        if upgrade {
            // What follows is no call any more, and has no end that the engine could wait for.
            call.over(Outcome::Ok, 0, 0);
        }
        let mut plan = Plan::pass(head.method, call);
        plan.body = if holds { BodyPlan::Hold } else { BodyPlan::Stream };
        plan.trusts_caller = trusted;
        // As the engine has it: what the edge was made with may be changed by a reload.
        let time = TimeoutPlan::Of(Duration::from_micros(time.0));
        plan.timeout = if upgrade { TimeoutPlan::None } else { time };
        Opening::Pass(plan)
    }

    fn server_is(&self, server: &Address, up: bool) {
        self.desk.with(|state, now| {
            if let Backend::Service(service) =
                state.in_force.settings.listeners[self.listener.0 as usize].backend
            {
                state.engine.server_is(service, server, up, now);
            }
        });
        self.desk.news.notify_one();
    }
}

/// What a query says.
#[derive(Default)]
struct Queried {
    /// The message of a Connect GET, counted.
    message: Option<Counter>,
    /// Keys, where no description says what is asked.
    keys: u64,
}

/// A call that was begun.
struct Opened {
    call: Box<RpcCall>,
    /// It becomes another protocol.
    upgrade: bool,
    /// How long it may take.
    time: Span,
}

impl ListenerGate {
    /// Reads the query, without the lock.
    fn queried(&self, head: &Head<'_>) -> Result<Queried, Refusal> {
        if head.query.is_empty() {
            return Ok(Queried::default());
        }
        let config = self.desk.with(|state, _| state.in_force.config.clone());
        let Backend::Service(service) = config.settings.listeners[self.listener.0 as usize].backend else {
            return Ok(Queried::default());
        };
        let Some((edge, table)) = config.services.get(service.0 as usize) else {
            return Ok(Queried::default());
        };
        let most = u32::try_from(edge.request_max.0).unwrap_or(u32::MAX);
        match (table.0.find(head.path), head.method) {
            (Some(method), &Method::GET) => {
                Ok(Queried { message: get_counter(method, head.query, most)?, keys: 0 })
            }
            (Some(_), _) => Ok(Queried::default()),
            (None, _) => {
                let keys = edge.query_plan().count(head.query.as_bytes()).total();
                Ok(Queried { message: None, keys })
            }
        }
    }

    /// Asks the engine whether a call may begin. `vouched`: the caller that its token names; `queried`: what its query says.
    fn begin(
        &self,
        state: &mut State,
        head: &Head<'_>,
        vouched: Option<Arc<str>>,
        queried: Result<Queried, Refusal>,
        now: Instant,
    ) -> Result<Opened, Refusal> {
        let State { engine, in_force, askers, .. } = state;
        let own = &in_force.settings.listeners[self.listener.0 as usize];
        let Backend::Service(service) = own.backend else { return Err(answers::late()) };
        let Some((edge, table)) = in_force.config.services.get(service.0 as usize) else {
            return Err(answers::late());
        };
        let name = vouched.or_else(|| certified(&in_force.config, self.listener, head.client));
        let verified = match (&name, head.client.peer()) {
            (Some(name), _) => Verified::Name(name),
            (None, Peer::Unix { uid, .. }) => Verified::Connection(uid),
            (None, _) => Verified::Connection(None),
        };
        let declared = declared(head.headers).map(http::HeaderValue::as_bytes);
        let asker = askers.of(Signs { listener: self.listener, verified, declared }, in_force);
        let method = table.0.find(head.path).cloned();
        let asked = rpc::Head {
            identity: &asker.identity,
            protocol: answers::protocol(head.protocol),
            method: method_of_path(head.path),
            deadline: answers::deadline(head.protocol, head.headers, now),
        };
        let begun = engine.begin(&asked, now).map_err(|refusal| answers::refusal(&refusal))?;
        let queried = match queried {
            Ok(queried) => queried,
            Err(refusal) => {
                let end = rpc::End { outcome: Outcome::Invalid, reply_keys: 0, bytes: 0 };
                engine.answered(begun.call, &end, now);
                return Err(refusal);
            }
        };
        let upgrade = head.headers.contains_key(header::UPGRADE);
        let streams = match &method {
            Some(method) => method.streaming,
            None => !matches!(*head.method, Method::GET | Method::HEAD),
        };
        let most = u32::try_from(edge.request_max.0).unwrap_or(u32::MAX);
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|value| ContentType::parse(value.as_bytes()));
        let request = match (&method, head.method) {
            (None, _) => None,
            (Some(_), &Method::GET) => queried.message,
            (Some(method), _) => kind.map(|kind| {
                let encoded = is_encoded(head.headers, head.protocol);
                Counter::new(method, Direction::Request, kind, encoded, most)
            }),
        };
        let holds = !streams && !upgrade;
        let refuse_above = asker.refuse_above;
        let splits_as = kind.filter(|kind| kind.wire != Wire::GrpcWebText && kind.codec != Codec::Other);
        let splits_as = splits_as.filter(|_| head.protocol.can_be_split() && *head.method == Method::POST);
        let splits = in_force.settings.services.get(service.0 as usize);
        let call = Box::new(RpcCall {
            desk: self.desk.clone(),
            id: begun.call,
            trace: CorrelationId(head.trace.0),
            asker,
            protocol: head.protocol,
            service,
            splits_as: splits_as.map(|kind| kind.codec),
            split_above: splits.filter(|own| own.split).map(|own| own.chunk_keys),
            method,
            counting: Counting { request, reply: None, query: queried.keys, keys: None, refuse_above, holds },
            began: false,
        });
        Ok(Opened { call, upgrade, time: begun.deadline.since(now) })
    }
}

/// The name in the certificate that the client showed, where callers of the listener go by it.
fn certified(config: &Config, listener: ListenerId, client: &Client) -> Option<Arc<str>> {
    let goes_by_it = config.doors[listener.0 as usize].principal == PrincipalKind::Certificate;
    goes_by_it.then(|| client.certificate().map_or_else(|| INVALID.into(), |shown| caller_of(shown)))
}

/// Counts the message in the query of a Connect GET, which is there as a whole: what is wrong with it is told when the call
/// is judged, as of a body. `None`: there is none in it.
fn get_counter(method: &weir_rpc::Method, query: &str, most: u32) -> Result<Option<Counter>, Refusal> {
    let message = connect_get::message(query.as_bytes());
    let message = message.map_err(|cause| Refusal::new(Reason::Malformed, cause.to_string()))?;
    Ok(message.map(|message| {
        let kind = ContentType { wire: Wire::Unary, codec: message.codec };
        let mut counter = Counter::new(method, Direction::Request, kind, message.compressed, most);
        // An error stays, and is told at the end.
        let _ = counter.feed(&message.bytes);
        counter
    }))
}

/// The body as a whole is compressed. (gRPC says it of each message.)
fn is_encoded(headers: &HeaderMap, protocol: Protocol) -> bool {
    let said = |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    // of a stream each message says it
    protocol != Protocol::ConnectStream && headers.get(header::CONTENT_ENCODING).is_some_and(said)
}

/// The reply's side of the same.
pub(super) fn reply_counter(
    method: &weir_rpc::Method,
    headers: &HeaderMap,
    protocol: Protocol,
) -> Option<Counter> {
    let kind = ContentType::parse(headers.get(header::CONTENT_TYPE)?.as_bytes())?;
    // What is too long for the edge's own bounds is the client's matter; nothing of it is kept here.
    Some(Counter::new(method, Direction::Reply, kind, is_encoded(headers, protocol), u32::MAX))
}
