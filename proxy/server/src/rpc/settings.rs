//! A listener of a service as the edge is told of it.

use crate::config::{Checked, Config, ServiceDraft, Speaks};
use crate::tls::ClientSide;
use std::sync::Arc;
use std::time::Duration;
use weir_edge::{ClientLimits, ClientTimes, Edge, HealthCheck, HealthQuestion, Settings, UpstreamSettings};
use weir_engine::rpc::eject::EjectRules;
use weir_engine::units::{ListenerId, ServiceId, Span};

/// The largest `max_connections` that a file may ask for.
const CONNECTIONS_MAX: usize = 1_000_000;
/// An idle connection that is never closed is closed after this.
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// The longest time that a server is left out, in multiples of the first.
const EJECT_TIMES_MAX: u64 = 30;

/// The edge's settings for one listener in front of one service.
pub(super) fn edge(config: &Config, listener: ListenerId, service: &ServiceDraft) -> Settings {
    let own = &config.settings.listeners[listener.0 as usize];
    let mut settings = Settings::new(own.name.clone(), upstream(service));
    // Who comes in is decided by `visits`, under what is in force then; the edge's own bound is never the smaller one.
    settings.clients.max_connections = CONNECTIONS_MAX;
    let times = times(config, listener);
    (settings.clients.opening_timeout, settings.clients.idle_timeout) = (times.opening, times.idle);
    settings.clients.max_streams = service.client_streams_max;
    let requests = &mut settings.requests;
    requests.body_bytes = service.request_max.0;
    requests.held_bytes = service.held_bytes_max.0;
    requests.upload_bytes = service.upload_max.0;
    requests.header_bytes = usize::try_from(service.header_bytes_max.0).unwrap_or(usize::MAX);
    requests.headers = service.headers_max as usize;
    requests.body_timeout = time(service.body_timeout);
    requests.write_timeout = time(service.write_timeout);
    requests.read_timeout = time(service.read_timeout);
    requests.split_reply_bytes = service.split_reply_max.0;
    requests.default_timeout = time(service.settings.request_timeout);
    // The engine bounds what a client asks for, by what is in force then.
    requests.max_timeout = NEVER;
    requests.drain_timeout = time(config.process.drain_timeout);
    settings
}

/// How long clients may take. A reload may change it.
pub(super) fn times(config: &Config, listener: ListenerId) -> ClientTimes {
    let tls = &config.doors[listener.0 as usize].tls;
    let opening = match tls.side {
        Some(_) => time(tls.handshake_timeout),
        None => ClientLimits::default().opening_timeout,
    };
    let idle = match config.settings.listeners[listener.0 as usize].idle_timeout {
        Span(0) => NEVER,
        idle => time(idle).max(Duration::from_secs(1)),
    };
    ClientTimes { opening, idle }
}

/// Tells a running edge what another configuration says of it.
pub(super) fn renew(edge: &Edge, (old, new): (&Config, &Config), listener: ListenerId, service: ServiceId) {
    edge.take_times(times(new, listener));
    if let Some(service) = new.settings.services.get(service.0 as usize) {
        edge.take_waiting(service.calls_max as usize, time(service.queue_timeout));
    }
    let side = |config: &Config| config.doors[listener.0 as usize].tls.side.clone();
    if let Some(side) = side(new).filter(|now| side(old).as_ref() != Some(now)) {
        edge.take_tls(side.config());
    }
}

fn upstream(service: &ServiceDraft) -> UpstreamSettings {
    let own = &service.settings;
    let addresses = own.servers.clone();
    let mut upstream = match service.speaks {
        Speaks::Http2 => UpstreamSettings::http2(addresses),
        Speaks::Http1 => UpstreamSettings::http1(addresses),
    };
    if let Some(connections) = service.connections {
        upstream.connections = connections as usize;
    }
    upstream.streams_per_connection = service.streams_per_connection as usize;
    upstream.header_bytes = u32::try_from(service.header_bytes_max.0).unwrap_or(u32::MAX);
    upstream.max_waiting = own.calls_max as usize;
    upstream.queue_timeout = time(own.queue_timeout);
    upstream.connect_timeout = time(service.connect_timeout);
    upstream.retry_permille = own.retry_percent * 10;
    if own.retry_percent == 0 {
        upstream.max_retries = 0;
    }
    let question = match service.health {
        Checked::None => None,
        Checked::Connect => Some(HealthQuestion::Connect),
        Checked::Grpc => {
            let asked = service.health_service.clone().unwrap_or_else(|| Arc::from(""));
            Some(HealthQuestion::Grpc(asked))
        }
        Checked::Http => Some(HealthQuestion::Get(service.health_path.clone())),
    };
    upstream.health = question.map(|ask| {
        let mut check = HealthCheck::new(ask);
        check.interval = time(service.health_interval);
        check.timeout = time(service.health_timeout);
        (check.fall, check.rise) = (service.health_fall, service.health_rise);
        check
    });
    upstream.eject = EjectRules {
        failures: service.eject_failures,
        time: service.eject_time,
        time_max: Span(service.eject_time.0.saturating_mul(EJECT_TIMES_MAX)),
    };
    upstream.tls = service.tls_side.as_ref().map(ClientSide::for_edge);
    upstream
}

fn time(span: Span) -> Duration {
    Duration::from_micros(span.0)
}
