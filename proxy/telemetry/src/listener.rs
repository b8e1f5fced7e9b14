//! What is counted per listener: client connections, how they end, how short-lived they are, and requests that
//! memcached itself would not take.

use crate::catalogue::CAUSES;
use crate::families::Families;
use crate::labels::{BoundedNames, Label, OTHER};
use crate::vocabulary::{CloseHow, HandshakeResult, TokenResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::{Arc, OnceLock};

/// The handles of one listener. Shared by all workers.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: Label,
    families: Arc<Families>,
    connections: Gauge,
    accepts: Counter,
    closes: [Counter; CloseHow::COUNT],
    short: Counter,
    invalid: BoundedNames<Counter>,
    /// From the first handshake on: a listener without TLS has no series of it.
    tls: OnceLock<([Counter; HandshakeResult::COUNT], Gauge)>,
    /// From the first token on that is looked at.
    tokens: OnceLock<TokenMetrics>,
}

/// What came of the service tokens of one listener.
#[derive(Debug)]
struct TokenMetrics {
    results: [Counter; TokenResult::COUNT],
    checks: Counter,
    remembered: Gauge,
}

impl ListenerMetrics {
    /// Every series but those of invalid requests starts at zero.
    pub(crate) fn new(name: Label, families: Arc<Families>) -> ListenerMetrics {
        let closes = std::array::from_fn(|how| {
            families.client_closes.series([name.clone(), CloseHow::ALL[how].name().into()])
        });
        let other = Arc::new(families.invalid_requests.series([name.clone(), OTHER.into()]));
        ListenerMetrics {
            connections: families.client_connections.series([name.clone()]),
            accepts: families.client_accepts.series([name.clone()]),
            short: families.client_short_connections.series([name.clone()]),
            invalid: BoundedNames::new(CAUSES, other, None, families.overflow("cause")),
            tls: OnceLock::new(),
            tokens: OnceLock::new(),
            closes,
            families,
            name,
        }
    }

    /// The label value: the name as configured, or `_other`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// A client connection was accepted; it is counted as open until the guard is closed or dropped.
    #[must_use]
    pub fn accepted(self: &Arc<Self>) -> ClientConnection {
        self.accepts.inc();
        self.connections.inc();
        ClientConnection { listener: self.clone(), open: true }
    }

    /// A client's TLS handshake begins; it is under way until the guard says how it ended, or is dropped.
    #[must_use]
    pub fn tls_handshake(self: &Arc<Self>) -> TlsHandshake {
        let (_, under_way) = self.tls();
        under_way.inc();
        TlsHandshake { listener: self.clone(), under_way: true }
    }

    fn tls(&self) -> &([Counter; HandshakeResult::COUNT], Gauge) {
        self.tls.get_or_init(|| {
            let counter = |result: usize| {
                let result = HandshakeResult::ALL[result].name().into();
                self.families.tls_handshakes.series([self.name.clone(), result])
            };
            (std::array::from_fn(counter), self.families.tls_handshakes_under_way.series([self.name.clone()]))
        })
    }

    /// A request came with a service token. `checked`: its signature was looked at; `remembered`: results that are, now.
    pub fn token(&self, result: TokenResult, checked: bool, remembered: usize) {
        let tokens = self.tokens.get_or_init(|| {
            let name = || self.name.clone();
            let counter =
                |at: usize| self.families.tokens.series([name(), TokenResult::ALL[at].name().into()]);
            TokenMetrics {
                results: std::array::from_fn(counter),
                checks: self.families.token_checks.series([name()]),
                remembered: self.families.tokens_remembered.series([name()]),
            }
        });
        tokens.results[result.index()].inc();
        tokens.checks.inc_by(u64::from(checked));
        tokens.remembered.set(i64::try_from(remembered).unwrap_or(i64::MAX));
    }

    /// So many requests that no server would take. `cause` is a fixed word of the codec. Takes a lock: once per fold and
    /// cause.
    pub fn invalid(&self, cause: &'static str, count: u64) {
        let make = |_, _| self.families.invalid_requests.series([self.name.clone(), cause.into()]);
        self.invalid.resolve(cause, make).inc_by(count);
    }
}

/// One TLS handshake of a client.
#[derive(Debug)]
pub struct TlsHandshake {
    listener: Arc<ListenerMetrics>,
    under_way: bool,
}

impl TlsHandshake {
    /// How it ended.
    pub fn ended(mut self, result: HandshakeResult) {
        self.end(result);
    }

    fn end(&mut self, result: HandshakeResult) {
        if std::mem::take(&mut self.under_way) {
            let (results, under_way) = self.listener.tls();
            under_way.dec();
            results[result.index()].inc();
        }
    }
}

impl Drop for TlsHandshake {
    /// Only a panic drops one without a word.
    fn drop(&mut self) {
        self.end(HandshakeResult::Error);
    }
}

/// One open client connection.
#[derive(Debug)]
pub struct ClientConnection {
    listener: Arc<ListenerMetrics>,
    open: bool,
}

impl ClientConnection {
    /// The connection has closed after carrying this many requests. At most one makes it a short one: a client that
    /// dials per call.
    pub fn closed(mut self, how: CloseHow, requests: u64) {
        if requests <= 1 {
            self.listener.short.inc();
        }
        self.end(how);
    }

    fn end(&mut self, how: CloseHow) {
        if std::mem::take(&mut self.open) {
            self.listener.connections.dec();
            self.listener.closes[how.index()].inc();
        }
    }
}

impl Drop for ClientConnection {
    /// Only a panic drops a connection without a word.
    fn drop(&mut self) {
        self.end(CloseHow::Panic);
    }
}
