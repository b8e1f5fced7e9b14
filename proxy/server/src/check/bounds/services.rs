//! Services and their listeners.

use super::list_of;
use crate::config::quantity::{show_bytes, show_count, show_span};
use crate::config::{Door, ServiceDraft};
use std::fmt::Write as _;
use weir_edge::{ClientLimits, RequestLimits};
use weir_engine::settings::{ListenerSettings, ServiceSettings};
use weir_engine::units::{Bytes, Span};

/// The cache of a service's answers.
pub(super) fn kept(text: &mut String, edge: &ServiceDraft) {
    let cache = edge.cache.settings();
    if cache.paths.is_empty() {
        return;
    }
    let span =
        |time: std::time::Duration| show_span(Span(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
    let _ = writeln!(
        text,
        "  keeps answers under {}: {} and {} on their way; {} answers of at most {}; fresh for {} at most, stale for {}",
        list_of(&cache.paths),
        show_bytes(Bytes(cache.bytes_max)),
        show_bytes(Bytes(cache.fill_bytes_max)),
        show_count(cache.entries_max.into()),
        show_bytes(Bytes(cache.entry_max)),
        span(cache.ttl_max),
        span(cache.stale_max)
    );
    let _ = writeln!(
        text,
        "  a key also has {}; {} requests wait for another one's answer, {} at most; {} answers asked for again at once",
        if cache.headers.is_empty() { "no more headers".to_owned() } else { list_of(&cache.headers) },
        show_count(cache.waiters_max.into()),
        span(cache.lock_timeout),
        show_count(cache.refreshes_max.into())
    );
}

/// A listener of a service: which keys of listeners mean something to it.
pub(super) fn listener(
    text: &mut String,
    (listener, door): (&ListenerSettings, &Door),
    service: Option<&ServiceSettings>,
    (behind, principals): (&str, &str),
) {
    let tls = match (&door.tls.cert, &door.tls.client_ca) {
        (None, _) => "",
        (Some(_), None) => "; TLS",
        (Some(_), Some(_)) => "; TLS, with certificates of clients",
    };
    let tokens = if door.tokens.audiences.is_empty() { "" } else { "; service tokens are read" };
    let _ = writeln!(
        text,
        "listener {}: {} -> {behind}; HTTP/1.1 and HTTP/2{tls}; {principals}{tokens}",
        listener.name, listener.address
    );
    let (clients, requests) = (ClientLimits::default(), RequestLimits::default());
    let idle = match listener.idle_timeout {
        Span(0) => "never closed for being idle".to_owned(),
        time => format!("closed after {} without a call", show_span(time)),
    };
    let _ = writeln!(
        text,
        "  at most {} connections ({} per principal), {idle}; {} calls under way, {} on one connection; headers of {}",
        show_count(listener.max_connections.into()),
        show_count(listener.max_connections_per_principal.min(listener.max_connections).into()),
        show_count(service.map_or(0, |service| service.calls_max).into()),
        show_count(clients.max_streams.into()),
        show_bytes(Bytes(requests.header_bytes as u64))
    );
}
