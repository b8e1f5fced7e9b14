//! Between the engine's words and the edge's.

use std::time::Duration;
use weir_edge::{End, Outcome as EdgeOutcome, Protocol, Reason, Refusal};
use weir_engine::ledger::Outcome;
use weir_engine::rpc;
use weir_engine::units::{Instant, Span};
use weir_rpc::{Code, CountError};

/// What the engine refuses. The edge says it in the client's protocol: RESOURCE_EXHAUSTED with RetryInfo, or 429.
pub(super) fn refusal(refusal: &rpc::Refusal) -> Refusal {
    limit(refusal, &refusal.to_string())
}

/// The same where the rest of the body was not waited for.
pub(super) fn refusal_of_a_part(refusal: &rpc::Refusal) -> Refusal {
    limit(refusal, &refusal.of_a_part())
}

fn limit(refusal: &rpc::Refusal, text: &str) -> Refusal {
    // the edge begins every answer of its own with the same word
    let text = text.strip_prefix("weir: ").unwrap_or(text);
    Refusal::new(Reason::Limit, text).retry_after(Duration::from_millis(refusal.retry_after_ms()))
}

/// A call that would have to wait where nothing can wait: its body passes as it comes.
pub(super) fn not_now(after: Span) -> Refusal {
    let wait = Duration::from_micros(after.0.max(1_000));
    Refusal::new(Reason::Limit, "there is no room for this call now; do not retry at once").retry_after(wait)
}

/// A body that cannot be counted.
pub(super) fn uncountable(cause: CountError) -> Refusal {
    let reason = if cause.is_limit() { Reason::BodyTooLarge } else { Reason::Malformed };
    Refusal::new(reason, format!("the request cannot be read: {cause}")).caused_by(cause.label())
}

/// A call whose time is over.
pub(super) fn late() -> Refusal {
    Refusal::new(Reason::Deadline, "the request's time is over")
}

/// Which of the ledger's protocols it is.
pub(super) fn protocol(protocol: Protocol) -> rpc::Protocol {
    match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => rpc::Protocol::Grpc,
        Protocol::ConnectUnary | Protocol::ConnectStream => rpc::Protocol::Connect,
        _ => rpc::Protocol::Http,
    }
}

/// Whether a gRPC status is the service's own failure. The others answer the client's question as the service wanted
/// (NOT_FOUND, INVALID_ARGUMENT ...), and cost no error budget (OpenTelemetry, semantic conventions for gRPC servers).
fn is_service_error(status: u32) -> bool {
    const OWN: [Code; 6] = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];
    // a number that is no status is treated as UNKNOWN, as clients do
    status >= Code::ALL.len() as u32 || OWN.iter().any(|code| *code as u32 == status)
}

/// How a call ended, for the ledger.
pub(super) fn outcome(end: &End, protocol: Protocol) -> Outcome {
    match end.outcome {
        EdgeOutcome::Answered => {
            let good = match (end.grpc_status, protocol) {
                (Some(status), _) => !is_service_error(status),
                // gRPC without a status was broken off
                (None, Protocol::Grpc) => false,
                (None, _) => end.status < 500,
            };
            if good { Outcome::Ok } else { Outcome::Error }
        }
        EdgeOutcome::Upgraded => Outcome::Ok,
        EdgeOutcome::Refused => Outcome::Refused,
        EdgeOutcome::Deadline => Outcome::Timeout,
        EdgeOutcome::ClientGone => Outcome::ClientGone,
        _ => Outcome::BackendLost,
    }
}

/// The time a client allows, from now.
pub(super) fn deadline(protocol: Protocol, headers: &http::HeaderMap, now: Instant) -> Option<Instant> {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    let time = match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => weir_rpc::headers::parse_grpc_timeout(value("grpc-timeout")?)?,
        Protocol::ConnectUnary | Protocol::ConnectStream => {
            weir_rpc::headers::parse_connect_timeout(value("connect-timeout-ms")?)?
        }
        _ => return None,
    };
    Some(now.after(Span(u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::error::LimitKind;

    #[test]
    fn what_the_service_answers_on_purpose_is_no_error() {
        let failures: Vec<u32> = (0..18).filter(|status| is_service_error(*status)).collect();
        assert_eq!(failures, [2, 4, 12, 13, 14, 15, 17]);
    }

    #[test]
    fn a_limit_says_who_and_when_to_come_again() {
        let told = refusal(&rpc::Refusal {
            why: rpc::Why::Limit(LimitKind::OperationsPerRequest),
            caller: "feedgen".into(),
            method: "a.S/M".into(),
            asked: 15_000,
            ceiling: 2_000,
            retry_after: Span::secs(60),
        });
        assert_eq!((told.reason, told.retry_after), (Reason::Limit, Some(Duration::from_secs(60))));
        assert!(told.message.starts_with("operations_per_request limit of feedgen"), "{}", told.message);
        assert_eq!(told.grpc_status(), 8);
    }

    #[test]
    fn a_client_s_time_is_read_in_its_protocol() {
        let now = Instant(1_000_000);
        let mut headers = http::HeaderMap::new();
        headers.insert("grpc-timeout", "2S".parse().expect("a value"));
        assert_eq!(deadline(Protocol::Grpc, &headers, now), Some(Instant(3_000_000)));
        assert_eq!(deadline(Protocol::ConnectUnary, &headers, now), None);
        headers.insert("connect-timeout-ms", "500".parse().expect("a value"));
        assert_eq!(deadline(Protocol::ConnectUnary, &headers, now), Some(Instant(1_500_000)));
        assert_eq!(deadline(Protocol::Http, &headers, now), None);
    }
}
