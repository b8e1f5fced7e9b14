//! `Cache-Status` (RFC 9211) and `Age`: what the client is told of the cache's part in its answer.

use super::entry::Entry;
use super::route::Bypass;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::fmt::Write as _;
use std::time::Duration;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went to the service, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded {
    /// `uri-miss`, `stale` or `bypass`.
    pub(crate) why: &'static str,
    /// The service's status, where the client gets another one.
    pub(crate) status: Option<u16>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
}

/// Adds this cache's word after those of caches before it.
fn add(headers: &mut HeaderMap, word: &str) {
    if let Ok(value) = HeaderValue::from_str(word) {
        headers.append(CACHE_STATUS, value);
    }
}

/// An answer that was kept.
pub(crate) fn report_hit(headers: &mut HeaderMap, entry: &Entry, detail: Option<&str>, now: Duration) {
    let mut word = format!("weir; hit; ttl={}", entry.ttl(now));
    if let Some(detail) = detail {
        let _ = write!(word, "; detail={detail}");
    }
    add(headers, &word);
    set_age(headers, entry, now);
}

/// An answer that the service has just given.
pub(crate) fn report_forwarded(
    headers: &mut HeaderMap,
    forwarded: Forwarded,
    entry: Option<(&Entry, Duration)>,
) {
    let mut word = format!("weir; fwd={}", forwarded.why);
    if let Some(status) = forwarded.status {
        let _ = write!(word, "; fwd-status={status}");
    }
    if let Some((entry, now)) = entry.filter(|_| forwarded.stored) {
        let _ = write!(word, "; stored; ttl={}", entry.ttl(now));
    }
    if forwarded.collapsed {
        word.push_str("; collapsed");
    }
    add(headers, &word);
    if let Some((entry, now)) = entry {
        set_age(headers, entry, now);
    }
}

/// An answer that the cache had no part in.
pub(crate) fn report_bypass(headers: &mut HeaderMap, why: Bypass) {
    add(headers, &format!("weir; fwd=bypass; detail={}", why.name()));
}

fn set_age(headers: &mut HeaderMap, entry: &Entry, now: Duration) {
    headers.insert(header::AGE, entry.age(now).as_secs().into());
}
