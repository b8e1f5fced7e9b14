//! Answers that the edge gives itself, each in the protocol of its client. The one place where a reason becomes a status.
//!
//! A limit is RESOURCE_EXHAUSTED or 429, never UNAVAILABLE or ABORTED: clients send those again at once, several times.
//! A request of which nobody knows whether it was carried out is INTERNAL or 502 for the same reason: were it the request
//! that brings the service down, its repetition would do so again. UNAVAILABLE says that the service has seen nothing.

use crate::protocol::Protocol;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::fmt::Write as _;
use std::time::Duration;

/// Why the edge, and not the service, answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A caller's limit, or a method that is switched off.
    Limit,
    /// The body is larger than the edge holds.
    BodyTooLarge,
    /// More header bytes or headers than allowed.
    HeadersTooLarge,
    /// Too much is held or waits already.
    Overloaded,
    /// The request makes no sense.
    Malformed,
    /// The edge does not carry this.
    Unsupported,
    /// The replies of a split call are larger than the edge holds.
    ReplyTooLarge,
    /// The replies of a split call do not fit together.
    Merge,
    /// The body did not come in time.
    SlowBody,
    /// Its time is over.
    Deadline,
    /// The service cannot be reached and has seen nothing.
    Unreachable,
    /// The service broke off: what it did is unknown.
    Broken,
}

impl Reason {
    /// The value of a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Limit => "limit",
            Reason::BodyTooLarge => "body_too_large",
            Reason::HeadersTooLarge => "headers_too_large",
            Reason::Overloaded => "overloaded",
            Reason::Malformed => "malformed",
            Reason::Unsupported => "unsupported",
            Reason::ReplyTooLarge => "reply_too_large",
            Reason::Merge => "merge",
            Reason::SlowBody => "slow_body",
            Reason::Deadline => "deadline",
            Reason::Unreachable => "unreachable",
            Reason::Broken => "broken",
        }
    }

    /// gRPC's number and Connect's name of the same code.
    fn rpc_code(self) -> (u32, &'static str) {
        match self {
            Reason::Limit
            | Reason::BodyTooLarge
            | Reason::ReplyTooLarge
            | Reason::HeadersTooLarge
            | Reason::Overloaded => (8, "resource_exhausted"),
            Reason::Malformed => (3, "invalid_argument"),
            Reason::Unsupported => (12, "unimplemented"),
            Reason::SlowBody | Reason::Deadline => (4, "deadline_exceeded"),
            Reason::Unreachable => (14, "unavailable"),
            Reason::Broken | Reason::Merge => (13, "internal"),
        }
    }

    fn http_status(self) -> StatusCode {
        match self {
            Reason::Limit => StatusCode::TOO_MANY_REQUESTS,
            Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reason::Overloaded | Reason::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Malformed => StatusCode::BAD_REQUEST,
            Reason::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Reason::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Reason::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Reason::Broken | Reason::Merge | Reason::ReplyTooLarge => StatusCode::BAD_GATEWAY,
        }
    }

    /// What the Connect protocol says an error's HTTP status is.
    fn connect_status(self) -> StatusCode {
        match self.rpc_code().0 {
            8 => StatusCode::TOO_MANY_REQUESTS,
            3 => StatusCode::BAD_REQUEST,
            12 => StatusCode::NOT_IMPLEMENTED,
            4 => StatusCode::GATEWAY_TIMEOUT,
            14 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A request that ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// For the reader of the client's log: one sentence.
    pub message: String,
    /// When to come again, where that can be told.
    pub retry_after: Option<Duration>,
    /// What exactly, for whoever counts: a label.
    pub cause: &'static str,
}

impl Refusal {
    /// A refusal that says nothing about when to come again.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal { reason, message: message.into(), retry_after: None, cause: reason.name() }
    }

    /// The same with a finer cause than the reason's name.
    #[must_use]
    pub fn caused_by(self, cause: &'static str) -> Refusal {
        Refusal { cause, ..self }
    }

    /// The same with a time.
    #[must_use]
    pub fn retry_after(self, time: Duration) -> Refusal {
        Refusal { retry_after: Some(time), ..self }
    }

    /// The gRPC status that stands for it.
    #[must_use]
    pub fn grpc_status(&self) -> u32 {
        self.reason.rpc_code().0
    }
}

/// An answer, ready to be written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The answer for a client that has got nothing yet.
pub(crate) fn whole(refusal: &Refusal, protocol: Protocol, content_type: Option<&HeaderValue>) -> Answer {
    let mut headers = HeaderMap::new();
    let (status, body) = match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => {
            // Trailers-only: the status is in the one block of headers there is.
            let kept = content_type.cloned().unwrap_or(HeaderValue::from_static("application/grpc"));
            headers.insert(header::CONTENT_TYPE, kept);
            add_status(&mut headers, refusal);
            (StatusCode::OK, Bytes::new())
        }
        Protocol::ConnectUnary => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            (refusal.reason.connect_status(), connect_error(refusal).to_string().into())
        }
        Protocol::ConnectStream => {
            let kept = content_type.cloned().unwrap_or(HeaderValue::from_static("application/connect+proto"));
            headers.insert(header::CONTENT_TYPE, kept);
            (StatusCode::OK, connect_end(refusal))
        }
        Protocol::Http => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            (refusal.reason.http_status(), format!("weir: {}\n", refusal.message).into())
        }
    };
    if !matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb)
        && let Some(time) = refusal.retry_after
    {
        // Whole seconds, and not too early.
        headers.insert(header::RETRY_AFTER, (time.as_millis().div_ceil(1_000) as u64).into());
    }
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-weir-reason", HeaderValue::from_static(refusal.reason.name()));
    Answer { status, headers, body }
}

/// The trailers for a gRPC client that has got the head of a reply already.
pub(crate) fn trailers(refusal: &Refusal) -> HeaderMap {
    let mut headers = HeaderMap::new();
    add_status(&mut headers, refusal);
    headers
}

fn add_status(headers: &mut HeaderMap, refusal: &Refusal) {
    headers.insert("grpc-status", refusal.grpc_status().into());
    let message = format!("weir: {}", refusal.message);
    if let Ok(value) = HeaderValue::try_from(percent(&message)) {
        headers.insert("grpc-message", value);
    }
    if let Some(time) = refusal.retry_after {
        let details = status_message(refusal.grpc_status(), &message, &retry_info(time));
        if let Ok(value) = HeaderValue::try_from(STANDARD_NO_PAD.encode(details)) {
            headers.insert("grpc-status-details-bin", value);
        }
    }
}

/// What gRPC says about `grpc-message`: printable ASCII but `%` stands for itself.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn connect_error(refusal: &Refusal) -> serde_json::Value {
    let mut error = serde_json::json!({
        "code": refusal.reason.rpc_code().1,
        "message": format!("weir: {}", refusal.message),
    });
    if let Some(time) = refusal.retry_after {
        let value = STANDARD_NO_PAD.encode(retry_info(time));
        error["details"] = serde_json::json!([{ "type": "google.rpc.RetryInfo", "value": value }]);
    }
    error
}

/// The last envelope of a Connect stream.
pub(crate) fn connect_end(refusal: &Refusal) -> Bytes {
    let text = serde_json::json!({ "error": connect_error(refusal) }).to_string();
    let mut envelope = BytesMut::with_capacity(5 + text.len());
    envelope.put_u8(2);
    // A message of this edge is a few hundred bytes.
    envelope.put_u32(text.len() as u32);
    envelope.put_slice(text.as_bytes());
    envelope.freeze()
}

/// `google.rpc.RetryInfo { retry_delay = 1: google.protobuf.Duration { seconds = 1, nanos = 2 } }`
fn retry_info(time: Duration) -> Vec<u8> {
    let mut duration = Vec::new();
    put_number(&mut duration, 1, time.as_secs());
    put_number(&mut duration, 2, u64::from(time.subsec_nanos()));
    let mut info = Vec::new();
    put_bytes(&mut info, 1, &duration);
    info
}

/// `google.rpc.Status { code = 1, message = 2, details = 3: google.protobuf.Any { type_url = 1, value = 2 } }`
fn status_message(code: u32, message: &str, retry_info: &[u8]) -> Vec<u8> {
    let mut any = Vec::new();
    put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
    put_bytes(&mut any, 2, retry_info);
    let mut status = Vec::new();
    put_number(&mut status, 1, u64::from(code));
    put_bytes(&mut status, 2, message.as_bytes());
    put_bytes(&mut status, 3, &any);
    status
}

fn put_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3);
        put_varint(out, number);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Refusal {
        Refusal::new(Reason::Limit, "20,000 keys; 100 % of 2,000 é").retry_after(Duration::from_millis(1_500))
    }

    #[test]
    fn a_limit_is_never_what_clients_send_again_at_once() {
        let reasons = [Reason::Limit, Reason::BodyTooLarge, Reason::HeadersTooLarge, Reason::Overloaded];
        for reason in reasons {
            assert_eq!(reason.rpc_code(), (8, "resource_exhausted"), "{reason:?}");
        }
    }

    #[test]
    fn grpc_reads_status_message_and_retry_info() {
        let answer =
            whole(&limit(), Protocol::Grpc, Some(&HeaderValue::from_static("application/grpc+proto")));
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["content-type"], "application/grpc+proto");
        assert_eq!(answer.headers["grpc-status"], "8");
        assert_eq!(answer.headers["grpc-message"], "weir: 20,000 keys; 100 %25 of 2,000 %C3%A9");
        let details = STANDARD_NO_PAD.decode(&answer.headers["grpc-status-details-bin"]).expect("base64");
        // By hand: a Duration of 8 bytes, 1 s and 500,000,000 ns.
        let retry: &[u8] = &[0x0a, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01];
        assert!(details.ends_with(retry), "{details:02x?}");
        assert_eq!(details[..2], [0x08, 8]);
        assert!(answer.headers.get("retry-after").is_none());
    }

    #[test]
    fn the_others_read_theirs() {
        let answer = whole(&limit(), Protocol::Http, None);
        assert_eq!((answer.status.as_u16(), &answer.headers["retry-after"]), (429, &"2".parse().expect("2")));
        assert!(answer.body.starts_with(b"weir: 20,000 keys"));

        let answer = whole(&limit(), Protocol::ConnectUnary, None);
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let error: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(error["code"], "resource_exhausted");
        assert_eq!(error["details"][0]["type"], "google.rpc.RetryInfo");
        assert_eq!(error["details"][0]["value"], "CggIARCAyrXuAQ");

        let answer = whole(&limit(), Protocol::ConnectStream, None);
        assert_eq!((answer.status, answer.body[0]), (StatusCode::OK, 2));
        assert_eq!(answer.body[1..5], u32::try_from(answer.body.len() - 5).expect("short").to_be_bytes());
        let end: serde_json::Value = serde_json::from_slice(&answer.body[5..]).expect("JSON");
        assert_eq!(end["error"]["code"], "resource_exhausted");
    }
}
