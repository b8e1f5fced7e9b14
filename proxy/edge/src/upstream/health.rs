//! Health checks: the same question again and again, over the connections that requests use, or a connection of its own
//! each time ([`HealthQuestion::Connect`]).

use super::dial::dial;
use super::endpoint::Endpoint;
use super::outgoing::Outgoing;
use super::tls::Handshake;
use super::{Reply, Request};
use crate::settings::{HealthCheck, HealthQuestion, SettingsError, UpstreamSettings};
use crate::stats::Stats;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, header};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 4 << 10;

/// A question that can be asked.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// Whether somebody takes connections, with a handshake where there is TLS.
    Dial(Option<Handshake>),
    /// A request.
    Ask(Ask),
}

/// A request that is a question.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    uri: http::Uri,
    body: Bytes,
    grpc: bool,
}

impl Question {
    pub(super) fn new(ask: &HealthQuestion, settings: &UpstreamSettings) -> Result<Question, SettingsError> {
        let bad = |_| SettingsError { key: "health", what: "the path is none" };
        // The authority is nobody's name: whoever is asked was dialled by address.
        Ok(match ask {
            HealthQuestion::Connect => {
                Question::Dial(settings.tls.as_ref().map(|tls| tls.offering(settings.protocol)))
            }
            HealthQuestion::Get(path) => Question::Ask(Ask {
                method: Method::GET,
                uri: format!("http://weir-health{path}").parse().map_err(bad)?,
                body: Bytes::new(),
                grpc: false,
            }),
            HealthQuestion::Grpc(service) => Question::Ask(Ask {
                method: Method::POST,
                uri: http::Uri::from_static("http://weir-health/grpc.health.v1.Health/Check"),
                body: health_request(service)?,
                grpc: true,
            }),
        })
    }
}

impl Ask {
    fn request(&self) -> Request {
        let mut request = Request::new(match self.body.is_empty() {
            true => Outgoing::empty(),
            false => Outgoing::whole([self.body.clone()].into()),
        });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, header::HeaderValue::from_static("weir-health"));
        if self.grpc {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
        }
        request
    }
}

/// A length-prefixed `grpc.health.v1.HealthCheckRequest { service = 1 }`.
fn health_request(service: &str) -> Result<Bytes, SettingsError> {
    let Some(length) = u8::try_from(service.len()).ok().filter(|length| *length < 126) else {
        return Err(SettingsError { key: "health", what: "the service's name is longer than 125 bytes" });
    };
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    if length == 0 {
        bytes.put_u32(0);
    } else {
        bytes.put_u32(u32::from(length) + 2);
        bytes.put_slice(&[0x0a, length]);
        bytes.put_slice(service.as_bytes());
    }
    Ok(bytes.freeze())
}

/// Asks for ever.
pub(super) async fn ask_on(
    endpoint: Arc<Endpoint>,
    check: HealthCheck,
    question: Question,
    stats: Arc<Stats>,
) {
    // A question needs no place among the requests: one for each address, one at a time.
    let places = Arc::new(Semaphore::new(1));
    let mut tick = interval(check.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut row = 0_u32;
    loop {
        tick.tick().await;
        let good = match &question {
            Question::Dial(tls) => dial(&endpoint.address, tls.as_ref(), check.timeout).await.is_ok(),
            // Not connected, or busy: that is known without asking.
            Question::Ask(_) if !endpoint.can_take() => continue,
            Question::Ask(ask) => {
                let Ok(permit) = places.clone().acquire_owned().await else { return };
                // Whatever it answers says nothing about calls: it is counted here only.
                let answer = timeout(check.timeout, endpoint.send(Box::new(ask.request()), permit)).await;
                match answer {
                    Ok(Ok(reply)) => is_good(reply, ask.grpc, check.timeout).await,
                    _ => false,
                }
            }
        };
        if !good {
            stats.health_failures.add();
            endpoint.standing.check_failed();
        }
        if good == endpoint.standing.is_good() {
            row = 0;
            continue;
        }
        row += 1;
        if row >= if good { check.rise } else { check.fall } {
            endpoint.standing.judge(good);
            row = 0;
        }
    }
}

async fn is_good(reply: Reply, grpc: bool, time: Duration) -> bool {
    let status = reply.head.status;
    let early = reply.head.headers.get("grpc-status").cloned();
    let Some((body, trailers)) = reply.body.whole(ANSWER_MAX, time).await else { return false };
    if !grpc {
        return status.is_success();
    }
    let code = trailers.get("grpc-status").or(early.as_ref());
    // HealthCheckResponse { status = 1: SERVING = 1 }, after five bytes of framing.
    code.is_some_and(|code| code == "0") && body.get(5..7) == Some(&[0x08, 1])
}
