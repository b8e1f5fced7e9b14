//! What an operator may choose for the cache of one service.

use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a key: host, path, query and the values of headers. A request with more is passed on as it is.
pub(super) const KEY_MAX: usize = 16 << 10;

/// A key whose answer turned out to be none for the cache is not waited for during this time: its requests go on at once,
/// all of them, instead of one after the other.
pub(super) const UNFIT_FOR: Duration = Duration::from_secs(10);

/// Places for the last change of a resource, by its hash. Resources that share one are asked for once too often.
pub(super) const CHANGES: usize = 4_096;

/// A cache: which requests it answers, and every bound of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Paths, each with all below it. `/a/b` is `/a/b` and `/a/b/c`, not `/a/bc`.
    pub paths: Vec<Arc<str>>,
    /// Headers that make a difference to an answer, besides `accept` and `accept-encoding`. Others are not passed on.
    pub headers: Vec<Arc<str>>,
    /// Bytes of all answers that are kept, their heads and keys included.
    pub bytes_max: u64,
    /// Bytes of one answer's body. A larger one passes and is not kept.
    pub entry_max: u64,
    /// Answers that are kept.
    pub entries_max: u32,
    /// Bytes of answers that are on their way into the cache, or out of it and still being read.
    pub fill_bytes_max: u64,
    /// The longest that an answer is fresh, whatever the service says.
    pub ttl_max: Duration,
    /// The longest that an answer is used after it was fresh, whatever the service says.
    pub stale_max: Duration,
    /// Requests that wait for the answer to another one, of all keys. One more goes on by itself.
    pub waiters_max: u32,
    /// How long a request waits for another one, and how long others begin to wait for one.
    pub lock_timeout: Duration,
    /// Answers that are asked for again at once while clients get the old ones.
    pub refreshes_max: u32,
}

impl Default for CacheSettings {
    fn default() -> CacheSettings {
        CacheSettings {
            paths: Vec::new(),
            headers: Vec::new(),
            bytes_max: 64 << 20,
            entry_max: 1 << 20,
            entries_max: 10_000,
            fill_bytes_max: 32 << 20,
            ttl_max: Duration::from_secs(600),
            stale_max: Duration::from_secs(600),
            waiters_max: 1_024,
            lock_timeout: Duration::from_secs(5),
            refreshes_max: 16,
        }
    }
}

/// Headers that no key may name: credentials, which are never cached, and what frames, routes or qualifies a message.
const NEVER: [&str; 30] = [
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "dpop",
    "expect",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-weir-caller",
];

impl CacheSettings {
    /// Everything that is wrong with it: the key, and what.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for path in &self.paths {
            if !path.starts_with('/') || !super::route::is_plain(path) || path.contains(['?', '#']) {
                found.push((
                    "paths",
                    format!("{path:?} is no path without dots, escapes of them, and a query"),
                ));
            }
        }
        for name in &self.headers {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                found.push(("headers", format!("{name:?} is not the name of a header")));
            } else if NEVER.contains(&name.to_ascii_lowercase().as_str()) {
                found.push(("headers", format!("{name} cannot be a part of a key")));
            }
        }
        // What is larger would push out nearly everything else, and S3-FIFO's queues have a share of the whole each.
        if self.entry_max > self.bytes_max / 8 {
            found.push(("entry_max", "an answer may take an eighth of bytes_max at most".to_owned()));
        }
        if self.fill_bytes_max < self.entry_max {
            found.push(("fill_bytes_max", "one answer of entry_max must fit into it".to_owned()));
        }
        if self.entries_max == 0 || self.lock_timeout.is_zero() {
            found.push(("entries_max", "entries_max and lock_timeout must be at least 1".to_owned()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let good = CacheSettings { paths: vec!["/xrpc/".into()], ..CacheSettings::default() };
        assert_eq!(good.problems(), []);
        let bad = CacheSettings {
            paths: vec!["xrpc".into(), "/a/../b".into(), "/a?b".into()],
            headers: vec!["Cookie".into(), "a b".into(), "accept-language".into()],
            entry_max: 32 << 20,
            fill_bytes_max: 1 << 20,
            entries_max: 0,
            ..CacheSettings::default()
        };
        let keys: Vec<_> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            ["paths", "paths", "paths", "headers", "headers", "entry_max", "fill_bytes_max", "entries_max"]
        );
    }
}
