//! What the admin server answers.

use super::listen::Door;
use super::peer::Peer;
use super::plane::{Audit, Change, ClearLimits, ControlError, Deny, Plane, PurgeCache, SetLimits, Switch};
use super::serve::BODY_MAX;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use weir_engine::correlate::CorrelationId;

type Reply = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "\
/metrics /healthz /readyz
/snapshot /callers /expensive /statements /pools /config
/amplification /request?id=ID
/limits (GET; POST sets, DELETE clears) /switch (POST) /deny (POST) /cache/purge (POST) /reload (POST)
";

/// Every path, with the methods it takes. `true`: on the metrics door too.
const PATHS: &[(&str, &[Method], bool)] = &[
    ("/metrics", &[Method::GET, Method::HEAD], true),
    ("/healthz", &[Method::GET, Method::HEAD], true),
    ("/readyz", &[Method::GET, Method::HEAD], true),
    ("/", &[Method::GET], false),
    ("/snapshot", &[Method::GET], false),
    ("/callers", &[Method::GET], false),
    ("/expensive", &[Method::GET], false),
    ("/statements", &[Method::GET], false),
    ("/pools", &[Method::GET], false),
    ("/config", &[Method::GET], false),
    ("/amplification", &[Method::GET], false),
    ("/request", &[Method::GET], false),
    ("/limits", &[Method::GET, Method::POST, Method::DELETE], false),
    ("/switch", &[Method::POST], false),
    ("/deny", &[Method::POST], false),
    ("/cache/purge", &[Method::POST], false),
    ("/reload", &[Method::POST], false),
];

/// Answers one request. Generic over the body so that tests need no socket.
pub(super) async fn answer<B>(door: &Door, peer: &Peer, plane: &Arc<dyn Plane>, request: Request<B>) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let control = matches!(door, Door::Control(_));
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let changes = matches!(method, Method::POST | Method::DELETE);
    if let Door::Control(guard) = door
        && let Err((status, why)) = guard.admit(peer, &request)
    {
        let action = format!("{method} {}", shortened(&path));
        audit(plane, peer, action, "unauthorised", why);
        let mut reply = failure(status, "unauthorised", why);
        if status == StatusCode::UNAUTHORIZED {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        return reply;
    }
    let Some((_, methods, _)) = PATHS.iter().find(|(known, _, open)| *known == path && (control || *open))
    else {
        return failure(StatusCode::NOT_FOUND, "not_found", "there is no such page");
    };
    if !methods.contains(&method) {
        let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, "method", "this page takes another method");
        let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        if let Ok(allowed) = HeaderValue::from_str(&allowed) {
            reply.headers_mut().insert(ALLOW, allowed);
        }
        return reply;
    }
    if changes {
        return change(plane, peer, &path, &method, request).await;
    }
    match path.as_str() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let shown = plane.metrics(accept).await;
            reply(StatusCode::OK, shown.content_type, shown.body)
        }
        "/healthz" => reply(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match plane.ready() {
            Ok(()) => reply(StatusCode::OK, TEXT, "ready\n"),
            Err(why) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        "/snapshot" => json(&plane.snapshot().await),
        "/callers" => json(&plane.snapshot().await.callers),
        "/expensive" => json(&plane.snapshot().await.expensive),
        "/statements" => json(&plane.snapshot().await.statements),
        "/pools" => json(&plane.snapshot().await.pools),
        "/config" => json(&plane.config()),
        "/limits" => json(&plane.limits()),
        "/amplification" => json(&plane.snapshot().await.amplification),
        "/request" => one_request(plane, request.uri().query().unwrap_or_default()).await,
        _ => reply(StatusCode::OK, TEXT, INDEX),
    }
}

/// What one request of a service came to: `id=ID`.
async fn one_request(plane: &Arc<dyn Plane>, query: &str) -> Reply {
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
    let Some(id) = id.and_then(CorrelationId::parse) else {
        let why = "say id=ID: 32 hex digits, a traceparent, or the 22 characters that clients send";
        return failure(StatusCode::BAD_REQUEST, "invalid", why);
    };
    match plane.request(id).await {
        Some(report) => json(&report),
        None => {
            let why = "no request of this id is remembered (requests are for 30 s, the largest for 10 min)";
            failure(StatusCode::NOT_FOUND, "not_found", why)
        }
    }
}

/// What a request that took too long is told.
pub(super) fn timed_out() -> Reply {
    failure(StatusCode::GATEWAY_TIMEOUT, "timeout", "weir did not answer in time")
}

async fn change<B>(
    plane: &Arc<dyn Plane>,
    peer: &Peer,
    path: &str,
    method: &Method,
    request: Request<B>,
) -> Reply
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let change = match (path, method) {
        ("/reload", _) => Ok(Change::Reload),
        ("/switch", _) => parse(&head.headers, body).await.map(|it: Switch| Change::Switch(it)),
        ("/deny", _) => parse(&head.headers, body).await.map(|it: Deny| Change::Deny(it)),
        ("/cache/purge", _) => parse(&head.headers, body).await.map(|it: PurgeCache| Change::PurgeCache(it)),
        (_, &Method::DELETE) => {
            parse(&head.headers, body).await.map(|it: ClearLimits| Change::ClearLimits(it))
        }
        _ => parse(&head.headers, body).await.map(|it: SetLimits| Change::SetLimits(it)),
    };
    let change = match change {
        Ok(change) => change,
        Err((status, why)) => {
            audit(plane, peer, format!("{method} {path}"), "invalid", &why);
            return failure(status, "invalid", &why);
        }
    };
    let action = describe(&change);
    match plane.change(change, peer.who.clone()).await {
        Ok(outcome) => {
            audit(plane, peer, action, Audit::DONE, &outcome.summary);
            json(&outcome)
        }
        Err(error) => {
            audit(plane, peer, action, error.kind(), error.message());
            failure(status_of(&error), error.kind(), error.message())
        }
    }
}

fn status_of(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Invalid(_) => StatusCode::BAD_REQUEST,
        ControlError::NotFound(_) => StatusCode::NOT_FOUND,
        ControlError::Full(_) => StatusCode::CONFLICT,
        ControlError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ControlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A change as the audit log has it.
fn describe(change: &Change) -> String {
    match change {
        Change::SetLimits(set) => format!("limits set {}", as_json(set)),
        Change::ClearLimits(clear) => format!("limits clear {}", as_json(clear)),
        Change::Switch(switch) => format!("switch {}", as_json(switch)),
        Change::Deny(deny) => format!("deny {}", as_json(deny)),
        Change::PurgeCache(purge) => format!("cache purge {}", as_json(purge)),
        Change::Reload => "reload".to_owned(),
    }
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn audit(plane: &Arc<dyn Plane>, peer: &Peer, action: String, result: &str, answer: &str) {
    plane.audit(&Audit {
        who: peer.who.clone(),
        action,
        result: result.to_owned(),
        answer: answer.to_owned(),
    });
}

/// Reads a JSON body. The content type is asked for because a page in a browser cannot send it across origins.
async fn parse<B, T>(headers: &HeaderMap, body: B) -> Result<T, (StatusCode, String)>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T: DeserializeOwned,
{
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some(JSON) {
        let what = "the body must be application/json".to_owned();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let bytes = match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {BODY_MAX} bytes")));
        }
        Err(_) => return Err((StatusCode::BAD_REQUEST, "the body ended early".to_owned())),
    };
    serde_json::from_slice(&bytes).map_err(|error| (StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

fn shortened(path: &str) -> &str {
    path.char_indices().nth(100).map_or(path, |(end, _)| &path[..end])
}

fn json<T: Serialize>(value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            reply(StatusCode::OK, JSON, body)
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, "failed", &error.to_string()),
    }
}

fn failure(status: StatusCode, kind: &str, why: &str) -> Reply {
    let body = serde_json::json!({ "kind": kind, "error": why });
    reply(status, JSON, format!("{body}\n"))
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}
