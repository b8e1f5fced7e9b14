//! The head of a call: who calls, what, and whether it may begin.

use super::answers;
use super::call::{Counting, RpcCall};
use super::desk::Desk;
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
use weir_engine::caller::Identity;
use weir_engine::correlate::CorrelationId;
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{self, method_of_path};
use weir_engine::settings::{Address, Backend, LimitMode, Settings};
use weir_engine::units::ListenerId;
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
        let vouched = self.tokens.caller(head, desk.clock.now());
        let opened = desk.with(|state, now| {
            let (settings, config) = (state.in_force.settings.clone(), state.in_force.config.clone());
            let own = &settings.listeners[self.listener.0 as usize];
            let Backend::Service(service) = own.backend else { return Err(answers::late()) };
            let Some((edge, table)) = config.services.get(service.0 as usize) else {
                return Err(answers::late());
            };
            let declared = declared(head.headers).map(http::HeaderValue::as_bytes);
            let principal = vouched.map(|caller| (caller, true));
            let principal = principal.unwrap_or_else(|| principal_of(&config, self.listener, head.client));
            let (identity, trusted) = who(&settings, self.listener, principal, declared);
            let identity = Arc::new(identity);
            let method = table.0.find(head.path).cloned();
            let asked = rpc::Head {
                identity: &identity,
                protocol: answers::protocol(head.protocol),
                method: method_of_path(head.path),
                deadline: answers::deadline(head.protocol, head.headers, now),
            };
            let begun = state.engine.begin(&asked, now).map_err(|refusal| answers::refusal(&refusal))?;
            let limits = identity.budget(&settings).limits;
            let refuse_above = limits
                .operations_per_request
                .filter(|_| limits.mode == LimitMode::Refuse && own.switches.limits)
                .map(|most| most.0);
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
                (Some(method), &Method::GET) => match get_counter(method, head.query, most) {
                    Ok(counter) => counter,
                    Err(refusal) => {
                        let end = rpc::End { outcome: Outcome::Invalid, reply_keys: 0, bytes: 0 };
                        state.engine.answered(begun.call, &end, now);
                        return Err(refusal);
                    }
                },
                (Some(method), _) => kind.map(|kind| {
                    let encoded = is_encoded(head.headers, head.protocol);
                    Counter::new(method, Direction::Request, kind, encoded, most)
                }),
            };
            let query =
                if method.is_some() { 0 } else { edge.query_plan().count(head.query.as_bytes()).total() };
            let name = method.as_ref().map_or(rpc::methods::OTHER, |method| &method.name);
            let counting =
                Counting { request, reply: None, query, refuse_above, holds: !streams && !upgrade };
            let protobuf = kind.is_some_and(|kind| kind.codec == Codec::Proto);
            let call = RpcCall {
                desk: desk.clone(),
                id: begun.call,
                trace: CorrelationId(head.trace.0),
                caller: identity.name.clone(),
                name: name.into(),
                protocol: head.protocol,
                service,
                can_be_split: protobuf && head.protocol.can_be_split(),
                method,
                counting,
                began: false,
            };
            Ok((call, trusted, upgrade, begun.deadline.since(now)))
        });
        desk.news.notify_one();
        let (mut call, trusted, upgrade, time) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return Opening::Refuse(refusal),
        };
        let holds = call.counting.holds;
        if !holds && let Err(refusal) = call.admit_at_once() {
            call.over(Outcome::Refused, 0, 0);
            return Opening::Refuse(refusal);
        }
        if upgrade {
            // What follows is no call any more, and has no end that the engine could wait for.
            call.over(Outcome::Ok, 0, 0);
        }
        let mut plan = Plan::pass(head.method, Box::new(call));
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

/// What weir can verify of a connection, and whether that is a name of its own: one of the configuration or of a
/// certificate, and not just the listener or a number.
fn principal_of(config: &Config, listener: ListenerId, client: &Client) -> (Arc<str>, bool) {
    if config.doors[listener.0 as usize].principal == PrincipalKind::Certificate {
        let name = client.certificate().map_or_else(|| INVALID.into(), |certificate| caller_of(certificate));
        return (name, true);
    }
    let uid = match client.peer() {
        Peer::Unix { uid, .. } => uid,
        _ => None,
    };
    let principal = config.principal_of(listener, uid);
    let named = config.principals.iter().any(|rule| rule.caller == principal);
    (principal, named)
}

/// Who calls, and whether the service may believe the name: the verified principal, and within it the name that the client
/// declares, unless the principal has a better one of its own.
fn who(
    settings: &Settings,
    listener: ListenerId,
    (principal, named): (Arc<str>, bool),
    declared: Option<&[u8]>,
) -> (Identity, bool) {
    let identity = rpc::identity(listener, &principal, declared);
    let trusted = settings.listeners[listener.0 as usize].trusted_names.contains(&identity.name);
    if trusted || !named {
        return (identity, trusted);
    }
    (Identity { listener, name: principal.clone(), principal }, false)
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
    let name =
        if protocol == Protocol::ConnectStream { "connect-content-encoding" } else { "content-encoding" };
    // of a stream each message says it
    protocol != Protocol::ConnectStream
        && headers.get(name).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
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
