//! How long a request may take: what its client says (`grpc-timeout`, `connect-timeout-ms`), cut to the listener's most;
//! without it, what the method or the listener says. What is left is told to the service, in the same words.

use crate::gate::TimeoutPlan;
use crate::protocol::Protocol;
use crate::settings::RequestLimits;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

/// Header of gRPC and gRPC-web.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Header of Connect.
static CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// When a request is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    /// It ends the whole exchange; otherwise only the wait for the reply's head.
    whole: bool,
}

impl Deadline {
    /// Of a request whose head came at `start`.
    pub(crate) fn of(
        protocol: Protocol,
        headers: &HeaderMap,
        plan: TimeoutPlan,
        limits: &RequestLimits,
        start: Instant,
    ) -> Deadline {
        let asked = asked(protocol, headers);
        let time = match (asked, plan) {
            (Some(asked), TimeoutPlan::Of(most)) => Some(asked.min(limits.max_timeout).min(most)),
            (Some(asked), _) => Some(asked.min(limits.max_timeout)),
            (None, TimeoutPlan::Default) => Some(limits.default_timeout),
            (None, TimeoutPlan::Of(time)) => Some(time),
            (None, TimeoutPlan::None) => None,
        };
        Deadline { at: time.and_then(|time| start.checked_add(time)), whole: protocol.is_rpc() }
    }

    /// For the wait until the reply's head is there.
    pub(crate) fn for_head(self) -> Option<Instant> {
        self.at
    }

    /// For all that follows.
    pub(crate) fn for_rest(self) -> Option<Instant> {
        self.at.filter(|_| self.whole)
    }

    /// Tells the service what is left.
    pub(crate) fn write(self, protocol: Protocol, headers: &mut HeaderMap, now: Instant) {
        let Some(at) = self.at else { return };
        let left = at.saturating_duration_since(now);
        match protocol {
            Protocol::Grpc | Protocol::GrpcWeb => {
                let mut value = grpc_timeout(left);
                // Never the same twice: the table of a connection's headers has no use for it.
                value.set_sensitive(true);
                headers.insert(GRPC_TIMEOUT.clone(), value);
            }
            Protocol::ConnectUnary | Protocol::ConnectStream => {
                let millis = left.as_millis().clamp(1, 9_999_999_999) as u64;
                headers.insert(CONNECT_TIMEOUT.clone(), millis.into());
            }
            Protocol::Http => {}
        }
    }
}

/// Sleeps until then, for ever without a time. Cancel-safe.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn asked(protocol: Protocol, headers: &HeaderMap) -> Option<Duration> {
    match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => read_grpc(headers.get(&GRPC_TIMEOUT)?.as_bytes()),
        Protocol::ConnectUnary | Protocol::ConnectStream => {
            digits(headers.get(&CONNECT_TIMEOUT)?.as_bytes(), 10).map(Duration::from_millis)
        }
        Protocol::Http => None,
    }
}

/// One to eight digits and a unit. What is malformed counts as absent, as servers of gRPC treat it.
fn read_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, number) = value.split_last()?;
    let number = digits(number, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

fn digits(text: &[u8], most: usize) -> Option<u64> {
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter()
        .try_fold(0, |number: u64, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

fn grpc_timeout(left: Duration) -> HeaderValue {
    /// Eight digits.
    const MOST: u128 = 99_999_999;
    let (mut number, unit) = match (left.as_micros(), left.as_millis()) {
        (micros, _) if micros <= MOST => (micros, b'u'),
        (_, millis) if millis <= MOST => (millis, b'm'),
        _ => (MOST.min(left.as_secs().into()), b'S'),
    };
    let mut text = [b'0', b'0', b'0', b'0', b'0', b'0', b'0', b'0', unit];
    let mut at = text.len() - 1;
    for digit in text[..at].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        (number, at) = (number / 10, at - 1);
        if number == 0 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).unwrap_or_else(|_| HeaderValue::from_static("1S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocols_say() {
        let good = [
            ("1H", 3_600_000_000_000),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("99999999m", 99_999_999_000_000),
            ("5u", 5_000),
            ("7n", 7),
            ("0S", 0),
        ];
        for (text, nanos) in good {
            assert_eq!(read_grpc(text.as_bytes()), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "1.5S", "S1"] {
            assert_eq!(read_grpc(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(digits(b"9999999999", 10), Some(9_999_999_999));
        assert_eq!(digits(b"99999999999", 10), None);
    }

    #[test]
    fn what_is_left_is_written_so_that_it_reads_the_same() {
        for time in [0, 1, 999, 30_000, 99_999, 100_000, 99_999_999, 100_000_000, 9_000_000_000] {
            let time = Duration::from_millis(time);
            let value = grpc_timeout(time);
            let read = read_grpc(value.as_bytes()).expect("well-formed");
            assert!(read <= time && time - read < Duration::from_secs(1), "{time:?} {value:?}");
        }
    }

    #[test]
    fn the_client_s_word_counts_up_to_the_listener_s_most() {
        let limits = RequestLimits::default();
        let start = Instant::now();
        let left = |protocol, headers: &[(&'static str, &'static str)], plan| {
            let pairs = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let deadline = Deadline::of(protocol, &pairs.collect(), plan, &limits, start);
            deadline.for_rest().map(|at| at - start)
        };
        let grpc = |headers: &[_], plan| left(Protocol::Grpc, headers, plan);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(grpc(&[], TimeoutPlan::Default), seconds(30));
        assert_eq!(grpc(&[], TimeoutPlan::Of(Duration::from_secs(3))), seconds(3));
        assert_eq!(grpc(&[("grpc-timeout", "2S")], TimeoutPlan::Of(Duration::from_secs(3))), seconds(2));
        assert_eq!(grpc(&[("grpc-timeout", "4S")], TimeoutPlan::Of(Duration::from_secs(3))), seconds(3));
        assert_eq!(grpc(&[], TimeoutPlan::None), None);
        assert_eq!(grpc(&[("grpc-timeout", "2S")], TimeoutPlan::None), seconds(2));
        assert_eq!(grpc(&[("grpc-timeout", "9H")], TimeoutPlan::None), seconds(600));
        assert_eq!(grpc(&[("grpc-timeout", "soon")], TimeoutPlan::Default), seconds(30));
        let connect = [("connect-timeout-ms", "4000"), ("grpc-timeout", "1S")];
        assert_eq!(left(Protocol::ConnectUnary, &connect, TimeoutPlan::Default), seconds(4));
        assert_eq!(left(Protocol::Http, &[], TimeoutPlan::Default), None, "only up to the head");
    }
}
