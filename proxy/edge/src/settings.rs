//! What an operator may choose for one RPC and HTTP listener. Every bound has a name, a default and a reason here; the
//! configuration's keys bear the same names.

use crate::cache::ResponseCache;
use crate::upstream::UpstreamTls;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::rpc::eject::EjectRules;
use weir_engine::settings::Address;
use weir_engine::units::Span;

/// The largest window of HTTP/2 (RFC 9113, 6.9.1).
const MAX_WINDOW: u32 = 0x7fff_ffff;

/// One listener and what is behind it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The listener's name, for labels and messages.
    pub name: Arc<str>,
    /// What one client may do.
    pub clients: ClientLimits,
    /// What one request may do.
    pub requests: RequestLimits,
    /// The service.
    pub upstream: UpstreamSettings,
    /// Answers of the service that are kept; `None`: none. Edges of one service may share it.
    pub cache: Option<Arc<ResponseCache>>,
}

impl Settings {
    /// A listener with every default.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, upstream: UpstreamSettings) -> Settings {
        Settings {
            name: name.into(),
            clients: ClientLimits::default(),
            requests: RequestLimits::default(),
            upstream,
            cache: None,
        }
    }
}

/// Bounds on clients' connections. Pingora itself has none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLimits {
    /// Connections at once. Those on top are closed at once.
    pub max_connections: usize,
    /// Time for the first bytes, and for the TLS handshake.
    pub opening_timeout: Duration,
    /// A connection on which nothing is asked for this long is closed. Full seconds count.
    pub idle_timeout: Duration,
    /// Requests on one connection, after which it is ended in its protocol's own way (`Connection: close`, GOAWAY).
    pub requests_per_connection: u32,
    /// Requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Bytes that a client may send on one HTTP/2 stream before they are read.
    pub stream_window: u32,
    /// Bytes that a client may send on all streams of one HTTP/2 connection before they are read.
    pub connection_window: u32,
    /// Reply bytes kept for one HTTP/2 stream whose client does not read.
    pub send_buffer: usize,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            max_connections: 10_000,
            opening_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            requests_per_connection: 1_000_000,
            max_streams: 250,
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            send_buffer: 256 << 10,
        }
    }
}

/// Bounds on one request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLimits {
    /// Bytes of the names and values of all headers.
    pub header_bytes: usize,
    /// Headers.
    pub headers: usize,
    /// Bytes of one body that is held until it was judged.
    pub body_bytes: u64,
    /// Bytes of all bodies that are held at once.
    pub held_bytes: u64,
    /// Bytes of one body that passes as it comes. Streams of RPCs, which may go on for ever, have their service's bounds.
    pub upload_bytes: u64,
    /// Bytes of the replies of all parts of one split call. How many such calls gather replies at once is for the gate.
    pub split_reply_bytes: u64,
    /// Time for a body to arrive whole.
    pub body_timeout: Duration,
    /// How long an RPC may take whose client names no limit, and an HTTP request up to its answer's head.
    pub default_timeout: Duration,
    /// The longest that a client may name.
    pub max_timeout: Duration,
    /// How long one write to a client that does not read may wait.
    pub write_timeout: Duration,
    /// How long the service may be silent in the middle of an HTTP reply. (An RPC has its deadline.)
    pub read_timeout: Duration,
    /// How long requests that are under way when the listener drains may go on.
    pub drain_timeout: Duration,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            header_bytes: 64 << 10,
            headers: 128,
            body_bytes: 32 << 20,
            held_bytes: 256 << 20,
            upload_bytes: 1 << 30,
            split_reply_bytes: 64 << 20,
            body_timeout: Duration::from_secs(30),
            default_timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// What the service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamProtocol {
    /// HTTP/2, without TLS by prior knowledge: many requests on one connection. What gRPC needs.
    Http2,
    /// HTTP/1.1 with connections kept.
    Http1,
}

/// A service: addresses that answer alike, and how they are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamSettings {
    /// Where it listens. A host name is resolved at each dial.
    pub addresses: Vec<Address>,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// Connections to each address: so many are kept with HTTP/2, and never more are open with HTTP/1.1.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection. A service that allows fewer has the rest wait here.
    pub streams_per_connection: usize,
    /// Requests that may wait for a place.
    pub max_waiting: usize,
    /// How long one may wait for a place; then it is refused.
    pub queue_timeout: Duration,
    /// Time for one dial, and how long a request waits while no connection is there.
    pub connect_timeout: Duration,
    /// The longest pause between dials of an address that does not answer.
    pub max_backoff: Duration,
    /// An HTTP/2 PING so often ...
    pub ping_interval: Duration,
    /// ... and the connection is cut when no answer came for this long.
    pub ping_timeout: Duration,
    /// An HTTP/1.1 connection that nobody used for this long is closed.
    pub idle_timeout: Duration,
    /// Bytes that the service may send on one HTTP/2 stream before a client has read them.
    pub stream_window: u32,
    /// Bytes of one reply's headers.
    pub header_bytes: u32,
    /// How often one request may be sent again.
    pub max_retries: u32,
    /// Of 1,000 requests, so many may be sent again.
    pub retry_permille: u32,
    /// So many may be sent again at once, after a time without any.
    pub retry_burst: u32,
    /// What else is asked of an address, besides being connected.
    pub health: Option<HealthCheck>,
    /// When an address is left out because calls fail there.
    pub eject: EjectRules,
    /// Connections are encrypted.
    pub tls: Option<UpstreamTls>,
}

impl UpstreamSettings {
    /// A service that speaks HTTP/2 (gRPC) with every default: two connections to each address.
    #[must_use]
    pub fn http2(addresses: Vec<Address>) -> UpstreamSettings {
        UpstreamSettings {
            addresses,
            protocol: UpstreamProtocol::Http2,
            connections: 2,
            streams_per_connection: 256,
            max_waiting: 1_024,
            queue_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            max_backoff: Duration::from_secs(2),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            stream_window: 256 << 10,
            header_bytes: 64 << 10,
            max_retries: 1,
            retry_permille: 100,
            retry_burst: 10,
            health: None,
            eject: EjectRules { failures: 5, time: Span::secs(10), time_max: Span::secs(300) },
            tls: None,
        }
    }

    /// A service that speaks HTTP/1.1, with every default: at most 64 connections to each address.
    #[must_use]
    pub fn http1(addresses: Vec<Address>) -> UpstreamSettings {
        UpstreamSettings {
            protocol: UpstreamProtocol::Http1,
            connections: 64,
            ..UpstreamSettings::http2(addresses)
        }
    }

    /// Bytes that the service may send on one connection before clients have read them: what all its streams may together.
    /// With less, replies that nobody reads would hold back those of everybody else.
    #[must_use]
    pub fn connection_window(&self) -> u32 {
        let streams = u32::try_from(self.streams_per_connection).unwrap_or(u32::MAX);
        self.stream_window.saturating_mul(streams).min(MAX_WINDOW)
    }

    /// Requests that may be under way at once.
    #[must_use]
    pub fn places(&self) -> usize {
        let per_connection = match self.protocol {
            UpstreamProtocol::Http2 => self.streams_per_connection,
            UpstreamProtocol::Http1 => 1,
        };
        self.addresses.len() * self.connections * per_connection
    }
}

/// A question to each address, again and again, on the connections that requests use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What is asked.
    pub ask: HealthQuestion,
    /// The pause between two.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Bad answers in a row after which an address gets no requests.
    pub fall: u32,
    /// Good answers in a row after which it gets them again.
    pub rise: u32,
}

impl HealthCheck {
    /// Every two seconds, two in a row either way.
    #[must_use]
    pub fn new(ask: HealthQuestion) -> HealthCheck {
        HealthCheck {
            ask,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthQuestion {
    /// A connection, with a TLS handshake where there is TLS; it is closed at once. With HTTP/2 connections are always
    /// there, and this asks whether another one would be taken.
    Connect,
    /// `GET` of this path; 200 to 299 is good.
    Get(Arc<str>),
    /// `grpc.health.v1.Health/Check` of this service name (empty: the whole server); SERVING is good.
    Grpc(Arc<str>),
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// What is wrong with its value.
    pub what: &'static str,
}

impl Settings {
    /// Finds values that no listener can run with.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Settings { clients, requests, upstream, .. } = self;
        let positive = [
            ("max_connections", clients.max_connections),
            ("requests_per_connection", clients.requests_per_connection as usize),
            ("max_streams", clients.max_streams as usize),
            ("header_bytes", requests.header_bytes),
            ("headers", requests.headers),
            ("addresses", upstream.addresses.len()),
            ("connections", upstream.connections),
            ("streams_per_connection", upstream.streams_per_connection),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(SettingsError { key, what: "must be at least 1" });
            }
        }
        let windows = [clients.stream_window, clients.connection_window, upstream.stream_window];
        if windows.iter().any(|window| !(65_535..=MAX_WINDOW).contains(window)) {
            return Err(SettingsError { key: "window", what: "must be from 65,535 to 2,147,483,647 bytes" });
        }
        if upstream.places() > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(SettingsError { key: "connections", what: "is far too many" });
        }
        if clients.idle_timeout < Duration::from_secs(1) {
            return Err(SettingsError { key: "idle_timeout", what: "must be at least 1 s" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_be_used_and_nonsense_is_named() {
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
        let mut settings = Settings::new("rpc", UpstreamSettings::http2(vec![address]));
        assert_eq!(settings.check(), Ok(()));
        assert_eq!(settings.upstream.places(), 512);
        assert_eq!(settings.upstream.connection_window(), 64 << 20);
        settings.upstream.streams_per_connection = 100_000;
        assert_eq!(settings.upstream.connection_window(), MAX_WINDOW);
        settings.clients.connection_window = 1;
        assert_eq!(settings.check().expect_err("a small window").key, "window");
        settings.upstream.addresses.clear();
        assert_eq!(settings.check().expect_err("no address").key, "addresses");
    }
}
