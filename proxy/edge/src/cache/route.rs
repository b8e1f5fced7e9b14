//! Which requests the cache is asked about, what makes their key, and what of them the service sees.
//!
//! On a cached path a request goes to the service with the headers that its key is made of and no others, so that nothing
//! else can change an answer that other clients get. What comes with credentials, or asks for a part, is passed on as it
//! is, and neither read from the cache nor kept in it.

use super::conditions::Conditions;
use super::control::{Control, items};
use super::settings::KEY_MAX;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, request};
use std::sync::Arc;

/// Why a request on a cached path is passed on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bypass {
    Credentials,
    Range,
    Condition,
    NoStore,
    Body,
    Target,
    KeyTooLarge,
}

impl Bypass {
    /// A word for `Cache-Status`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bypass::Credentials => "credentials",
            Bypass::Range => "range",
            Bypass::Condition => "condition",
            Bypass::NoStore => "no-store",
            Bypass::Body => "body",
            Bypass::Target => "target",
            Bypass::KeyTooLarge => "key",
        }
    }
}

/// What makes two requests the same. Kept and compared as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(super) Arc<[u8]>);

impl Key {
    /// The path that was asked for; empty where the key is none of [`way`]'s.
    pub(super) fn path(&self) -> &[u8] {
        let part = |bytes: &'_ [u8]| {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let length = u32::from_be_bytes(*length) as usize;
            (length <= rest.len()).then_some(length)
        };
        let path = || {
            let host = part(&self.0)?;
            let rest = &self.0[4 + host..];
            Some(&rest[4..4 + part(rest)?])
        };
        path().unwrap_or_default()
    }
}

/// A path, or one below it.
pub(super) fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || prefix.ends_with(b"/"),
        None => false,
    }
}

/// A request that the cache may answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: Key,
    /// Host, path and query alone: what a change of the resource is known by.
    pub(crate) resource: Arc<[u8]>,
    /// What the service gets of the headers.
    pub(crate) headers: HeaderMap,
    /// The host as the service gets it.
    pub(crate) authority: String,
    /// What the client has already.
    pub(crate) conditions: Conditions,
    /// The client wants the head alone.
    pub(crate) head_only: bool,
}

/// What the cache has to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// It may answer.
    Asked(Box<Asked>),
    /// It looks on.
    Bypass(Bypass),
    /// The request may change the resource.
    Changes(Arc<[u8]>),
}

/// The way of a request; `None` on paths that are not cached. `headers` are those that would go to the service.
pub(crate) fn way(
    rules: &Rules,
    head: &request::Parts,
    headers: &HeaderMap,
    authority: &str,
    has_body: bool,
) -> Option<Way> {
    let path = head.uri.path();
    if !rules.covers(path) {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let query = head.uri.query();
    let mut key = Vec::with_capacity(256);
    add(&mut key, authority.as_bytes());
    add(&mut key, path.as_bytes());
    optional(&mut key, query.map(str::as_bytes));
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return match head.method {
            Method::OPTIONS | Method::TRACE => None,
            _ => Some(Way::Changes(key.into())),
        };
    }
    let bypass = |why| Some(Way::Bypass(why));
    // Looked for in what came, not in what would go on: a client can name headers away.
    let came = &head.headers;
    if CREDENTIALS.iter().any(|name| came.contains_key(*name)) {
        return bypass(Bypass::Credentials);
    }
    if came.contains_key(header::RANGE) || came.contains_key(header::IF_RANGE) {
        return bypass(Bypass::Range);
    }
    if came.contains_key(header::IF_MATCH) || came.contains_key(header::IF_UNMODIFIED_SINCE) {
        return bypass(Bypass::Condition);
    }
    // The only word of a client about caching that is heard: were `no-cache` and `max-age`, every client could make each of
    // its requests one to the service.
    if Control::of(came).no_store {
        return bypass(Bypass::NoStore);
    }
    if has_body {
        return bypass(Bypass::Body);
    }
    if !is_plain(path) || authority.contains('@') {
        return bypass(Bypass::Target);
    }
    let resource: Arc<[u8]> = key.as_slice().into();
    let mut kept = HeaderMap::new();
    let accept = accepted(headers);
    optional(&mut key, accept.as_ref().map(HeaderValue::as_bytes));
    if let Some(accept) = accept {
        kept.insert(header::ACCEPT, accept);
    }
    let encodings = encodings(headers);
    optional(&mut key, encodings.map(str::as_bytes));
    if let Some(encodings) = encodings {
        kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings));
    }
    for name in &rules.headers {
        let values = headers.get_all(name);
        add(&mut key, &u32::try_from(values.iter().count()).unwrap_or(u32::MAX).to_be_bytes());
        for value in values {
            add(&mut key, value.as_bytes());
            kept.append(name.clone(), value.clone());
        }
    }
    if key.len() > KEY_MAX {
        return bypass(Bypass::KeyTooLarge);
    }
    // Names the request in logs and on other legs. It has a fixed form, and is no part of the key.
    if let Some(trace) = headers.get(&crate::trace::TRACEPARENT) {
        kept.insert(crate::trace::TRACEPARENT.clone(), trace.clone());
    }
    Some(Way::Asked(Box::new(Asked {
        key: Key(key.into()),
        resource,
        headers: kept,
        authority,
        conditions: Conditions::of(came),
        head_only: head.method == Method::HEAD,
    })))
}

/// Headers that say on whose behalf a request is made. (`dpop` is a proof that goes with a token.)
const CREDENTIALS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "cookie2", "dpop"];

/// What does not change from request to request.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(super) paths: Vec<Arc<str>>,
    /// In their own order, each once.
    pub(super) headers: Vec<HeaderName>,
}

impl Rules {
    /// Names that are none are left out: [`super::CacheSettings::problems`] tells of them.
    pub(crate) fn of(settings: &super::CacheSettings) -> Rules {
        let names = settings.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let mut headers: Vec<_> = names.filter(|name| name != header::ACCEPT).collect();
        headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        headers.dedup();
        Rules { paths: settings.paths.clone(), headers }
    }

    fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|prefix| is_under(path.as_bytes(), prefix.as_bytes()))
    }

    /// Every answer that differs by these headers has a key of its own.
    pub(super) fn varies_by(&self, name: &[u8]) -> bool {
        let own = [b"accept".as_slice(), b"accept-encoding"];
        own.iter().any(|own| name.eq_ignore_ascii_case(own))
            || self.headers.iter().any(|own| name.eq_ignore_ascii_case(own.as_str().as_bytes()))
    }
}

/// A path that a service cannot take for another one: no dot segments, also escaped, no backslash, no empty segment.
pub(super) fn is_plain(path: &str) -> bool {
    let escapes = ["%2e", "%2f", "%5c", "%00"];
    let lower = path.to_ascii_lowercase();
    !path.split('/').any(|segment| matches!(segment, "." | ".."))
        && !path.contains("//")
        && !path.contains('\\')
        && !escapes.iter().any(|escape| lower.contains(escape))
}

/// `accept` as one value; everything is what nothing says.
fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let values: Vec<_> = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes).collect();
    let joined = values.join(&b", "[..]);
    if joined.is_empty() || joined == b"*/*" {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok()
}

/// The encodings that a client takes, of those in use, always in the same words: eight keys at most.
fn encodings(headers: &HeaderMap) -> Option<&'static str> {
    const NAMES: [&[u8]; 3] = [b"br", b"gzip", b"zstd"];
    const SETS: [&str; 8] =
        ["", "br", "gzip", "br, gzip", "zstd", "br, zstd", "gzip, zstd", "br, gzip, zstd"];
    let mut set = 0;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in items(value.as_bytes()) {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
                weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
            });
            if let Some(place) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known))
                && !refused
            {
                set |= 1 << place;
            }
        }
    }
    Some(SETS[set]).filter(|set| !set.is_empty())
}

/// With its length, so that no two lists of parts read alike.
fn add(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(part);
}

fn optional(key: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        Some(part) => {
            key.push(1);
            add(key, part);
        }
        None => key.push(0),
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
