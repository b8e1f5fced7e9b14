//! Pingora's side of the clients' connections, and what a reload may change of them: a connection has what holds when it
//! comes.

use crate::exchange::Shared;
use crate::service::Service;
use crate::settings::Settings;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use rustls::ServerConfig;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long clients may take. A connection keeps those it began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimes {
    /// [`crate::ClientLimits::opening_timeout`].
    pub opening: Duration,
    /// [`crate::ClientLimits::idle_timeout`]; at least a second.
    pub idle: Duration,
}

/// Serves connections that came while these times held.
pub(crate) struct Front {
    pub(crate) proxy: Arc<HttpProxy<Service>>,
    pub(crate) times: ClientTimes,
}

/// The one for new connections, and those that old ones still have.
pub(crate) struct Fronts {
    shared: Arc<Shared>,
    service: Service,
    state: Mutex<State>,
}

struct State {
    /// In the place of what the doors were opened with.
    tls: Option<Arc<ServerConfig>>,
    now: Arc<Front>,
    before: Vec<Weak<Front>>,
}

impl Fronts {
    pub(crate) fn new(shared: Arc<Shared>, service: Service) -> Fronts {
        let clients = &shared.settings.clients;
        let times = ClientTimes { opening: clients.opening_timeout, idle: clients.idle_timeout };
        let now = make(&shared.settings, service.clone(), times);
        Fronts { shared, service, state: Mutex::new(State { tls: None, now, before: Vec::new() }) }
    }

    /// For a connection that comes now.
    pub(crate) fn now(&self) -> Arc<Front> {
        self.state().now.clone()
    }

    /// These times hold from now on.
    pub(crate) fn apply(&self, times: ClientTimes) {
        let times = ClientTimes { idle: times.idle.max(Duration::from_secs(1)), ..times };
        let mut state = self.state();
        if state.now.times == times {
            return;
        }
        let fresh = make(&self.shared.settings, self.service.clone(), times);
        let old = std::mem::replace(&mut state.now, fresh);
        state.before.retain(|front| front.strong_count() > 0);
        state.before.push(Arc::downgrade(&old));
    }

    /// Clients of doors with TLS are shown this from now on.
    pub(crate) fn apply_tls(&self, config: &ServerConfig) {
        self.state().tls = Some(crate::open::with_alpn(config));
    }

    /// What a client of a door with TLS is shown.
    pub(crate) fn tls(&self, first: Option<Arc<ServerConfig>>) -> Option<Arc<ServerConfig>> {
        let first = first?;
        Some(self.state().tls.clone().unwrap_or(first))
    }

    /// All that have connections.
    pub(crate) fn all(&self) -> Vec<Arc<Front>> {
        let state = self.state();
        state.before.iter().filter_map(Weak::upgrade).chain([state.now.clone()]).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole whenever it is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(settings: &Settings, service: Service, times: ClientTimes) -> Arc<Front> {
    let clients = &settings.clients;
    let conf = ServerConf {
        threads: 1,
        // A try is a try; what may be sent again is decided in `upstream`.
        max_retries: 1,
        upstream_keepalive_pool_size: 1,
        ..ServerConf::default()
    };
    let mut proxy = http_proxy(&Arc::new(conf), service);
    let mut options = HttpServerOptions::default();
    options.keepalive_request_limit = Some(clients.requests_per_connection);
    options.h2_idle_timeout = Some(times.idle);
    proxy.server_options = Some(options);
    let mut http2 = H2Options::new();
    http2
        .max_concurrent_streams(clients.max_streams)
        .max_header_list_size(header_bytes(settings))
        .initial_window_size(clients.stream_window)
        .initial_connection_window_size(clients.connection_window)
        .max_send_buffer_size(clients.send_buffer);
    proxy.h2_options = Some(http2);
    Arc::new(Front { proxy: Arc::new(proxy), times })
}

/// HTTP/2's own bound on headers, a little above ours: those in between get an answer that says what is wrong.
fn header_bytes(settings: &Settings) -> u32 {
    // The list's size counts 32 bytes for each header (RFC 9113, 6.5.2).
    let bytes =
        settings.requests.header_bytes.saturating_mul(2).saturating_add(32 * settings.requests.headers);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
