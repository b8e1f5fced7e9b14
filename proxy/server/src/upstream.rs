//! One connection to a server: dial, sign in, and how long to wait before the next attempt. What must be said before
//! the first request differs by protocol: `memcached` and `cql`.
//!
//! Bounds: `connect_timeout` for name resolution, dialling and signing in together; waits between `reconnect_min` and
//! `reconnect_max`, doubling, with jitter so that many sidecars do not return to a server in step.

pub mod cql;
pub(crate) mod credentials;
pub mod memcached;

use crate::tls::{ClientSide, TlsStream};
use crate::worker::sockets::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use weir_engine::settings::Address;
use weir_engine::units::Span;
use weir_telemetry::OpenResult;

/// An attempt under way. Dropping it gives the attempt up.
pub struct Connecting(Pin<Box<dyn Future<Output = Result<Connected, ConnectError>> + Send>>);

impl std::fmt::Debug for Connecting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connecting")
    }
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub struct Connected {
    /// The socket.
    pub stream: Stream,
    /// Bytes that came before anything was asked, as if they were read next.
    pub early: Vec<u8>,
    /// The shard of the node that serves it, where it tells.
    pub shard: Option<u16>,
    /// CQL: whether the node says that it is Scylla, where it was asked.
    pub scylla: Option<bool>,
    /// CQL: the node agreed to tell tablets in its answers.
    pub tablets: bool,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    /// The kind, for the metric.
    pub result: OpenResult,
    /// In words, for the operator.
    pub what: String,
}

impl Connecting {
    /// Starts an attempt that is given up after `timeout`. Nothing happens before it is polled, inside a runtime.
    fn within<F>(timeout: Span, attempt: F) -> Connecting
    where
        F: Future<Output = Result<Connected, ConnectError>> + Send + 'static,
    {
        Connecting(Box::pin(within(timeout, attempt)))
    }

    /// Goes on with the attempt.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Connected, ConnectError>> {
        self.0.as_mut().poll(cx)
    }
}

/// An attempt that is given up after `timeout`.
async fn within<T, F>(timeout: Span, attempt: F) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, ConnectError>>,
{
    match tokio::time::timeout(Duration::from_micros(timeout.0), attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError {
            result: OpenResult::Timeout,
            what: format!("no connection within {} ms (connect_timeout)", timeout.0 / 1_000),
        }),
    }
}

/// Dials, with TLS where there is a side of it.
async fn dial(address: &Address, tls: Option<&ClientSide>) -> Result<Stream, ConnectError> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| failed(&error))?;
            dialled(stream, tls, host).await
        }
        Address::Unix { path } => {
            Ok(Stream::Unix(UnixStream::connect(&**path).await.map_err(|error| failed(&error))?))
        }
        other => {
            let what = format!("{other} is not an address weir can connect to");
            Err(ConnectError { result: OpenResult::Error, what })
        }
    }
}

/// A TCP connection that stands, with TLS where there is a side of it. `host`: what was dialled.
async fn dialled(stream: TcpStream, tls: Option<&ClientSide>, host: &str) -> Result<Stream, ConnectError> {
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let Some(side) = tls else { return Ok(Stream::Tcp(stream)) };
    match TlsStream::connect(stream, side, host).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => {
            Err(ConnectError { result: OpenResult::Tls, what: format!("no TLS connection: {error}") })
        }
    }
}

fn failed(error: &io::Error) -> ConnectError {
    let result = match error.raw_os_error() {
        _ if is_tls(error) => OpenResult::Tls,
        Some(libc::ECONNREFUSED | libc::ENOENT) => OpenResult::Refused,
        Some(libc::ETIMEDOUT) => OpenResult::Timeout,
        Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL) => OpenResult::NoPort,
        Some(libc::EMFILE | libc::ENFILE) => OpenResult::NoDescriptor,
        _ => OpenResult::Error,
    };
    ConnectError { result, what: error.to_string() }
}

/// Whether it is TLS that says no: a node may refuse weir's certificate after weir has taken the node's.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn auth_failed(what: impl Into<String>) -> ConnectError {
    ConnectError { result: OpenResult::Auth, what: what.into() }
}

/// How long to wait before the next attempt.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// The first attempt is at once. `seed` keeps lanes from waiting in step.
    #[must_use]
    pub fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, random: seed | 1 }
    }

    /// An attempt succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether nothing failed since the last success.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.failures == 0
    }

    /// The wait after a failed attempt: `min` doubled per failure up to `max`, of which the second half is random.
    pub fn failed(&mut self, min: Span, max: Span) -> Span {
        let doubled = min.0.max(1_000).saturating_mul(1 << self.failures.min(20));
        let whole = doubled.min(max.0.max(min.0).max(1_000));
        self.failures = self.failures.saturating_add(1);
        // xorshift64: nobody must be unable to guess this
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Span(whole / 2 + self.random % (whole / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_with_jitter() {
        let (min, max) = (Span::millis(50), Span::secs(2));
        let mut backoff = Backoff::new(7);
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed(min, max).0 / 1_000).collect();
        assert!((25..=50).contains(&waits[0]), "{waits:?}");
        assert!((50..=100).contains(&waits[1]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 2_000), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| *wait >= 1_000), "{waits:?}");
        backoff.succeeded();
        assert!(backoff.failed(min, max) <= min);
        let other: Vec<u64> = {
            let mut backoff = Backoff::new(8);
            (0..12).map(|_| backoff.failed(min, max).0 / 1_000).collect()
        };
        assert_ne!(waits, other, "two lanes do not wait in step");
    }
}
