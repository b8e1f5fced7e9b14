//! An answer that is kept.

use super::terms::Terms;
use crate::body::HeldShare;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What an answer costs besides its bytes, and a header besides its: maps, pointers, the cache's own books.
const OWN: usize = 640;
const OF_HEADER: usize = 112;

/// A point in time, told by whoever has the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the cache began.
    pub(crate) since: Duration,
    /// What `Date` is compared with.
    pub(crate) wall: SystemTime,
}

/// A body, with its share of what may be held. Shared by an answer and its confirmations.
#[derive(Debug)]
pub(crate) struct KeptBody {
    pub(crate) bytes: Bytes,
    _share: HeldShare,
}

impl KeptBody {
    pub(super) fn new(bytes: Bytes, share: HeldShare) -> Arc<KeptBody> {
        Arc::new(KeptBody { bytes, _share: share })
    }
}

/// An answer that is kept, or is just being given to those who waited for it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Arc<KeptBody>,
    pub(super) terms: Terms,
    /// When it came.
    pub(super) at: Duration,
    /// When it was asked for.
    pub(super) asked_at: Duration,
}

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Fresh,
    /// It may be used while it is asked for again.
    Revalidate,
    /// It may be used where the service fails, if at all.
    Stale,
}

impl Entry {
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        let over = now.saturating_sub(self.at).checked_sub(self.terms.fresh);
        match over {
            None => Standing::Fresh,
            Some(over) if over < self.terms.while_revalidate => Standing::Revalidate,
            Some(_) => Standing::Stale,
        }
    }

    /// It may be used although the service failed.
    pub(crate) fn covers_errors(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < self.terms.fresh + self.terms.if_error
    }

    /// For the header of this name.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        self.terms.age + now.saturating_sub(self.at)
    }

    /// Seconds that it is fresh; below zero: since it was.
    pub(crate) fn ttl(&self, now: Duration) -> i64 {
        let of = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let until = self.at + self.terms.fresh;
        match until.checked_sub(now) {
            Some(left) => of(left),
            None => -of(now - until),
        }
    }

    /// It can be asked about again without its body.
    pub(crate) fn validators(&self) -> impl Iterator<Item = (header::HeaderName, &HeaderValue)> {
        let pairs =
            [(header::IF_NONE_MATCH, header::ETAG), (header::IF_MODIFIED_SINCE, header::LAST_MODIFIED)];
        pairs.into_iter().filter_map(|(asks, name)| Some((asks, self.headers.get(name)?)))
    }

    /// Bytes that it costs, body aside.
    pub(super) fn head_bytes(headers: &HeaderMap, key: usize) -> u64 {
        let bytes = crate::headers::size(headers) + headers.len() * OF_HEADER + key + OWN;
        bytes as u64
    }

    /// Bytes that it costs.
    pub(super) fn weight(&self, key: usize) -> u64 {
        Entry::head_bytes(&self.headers, key) + self.body.bytes.len() as u64
    }

    /// Headers of this answer as a confirmation (304) of it changes them (RFC 9111, 3.2); `None` when the confirmation is
    /// of something else.
    pub(crate) fn confirmed(&self, by: &HeaderMap) -> Option<HeaderMap> {
        if let (Some(own), Some(other)) = (self.headers.get(header::ETAG), by.get(header::ETAG))
            && own != other
        {
            return None;
        }
        // Of the body that is kept, which this says nothing of.
        let fixed =
            [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::CONTENT_TYPE];
        let mut merged = self.headers.clone();
        // How old the old answer was says nothing of the new one.
        merged.remove(header::AGE);
        for name in by.keys().filter(|name| !fixed.contains(name)) {
            merged.remove(name);
            for value in by.get_all(name) {
                merged.append(name.clone(), value.clone());
            }
        }
        Some(merged)
    }
}

/// What is kept of an answer's headers. Their bytes are copied: as they came they hold on to all that was read with them.
pub(super) fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // Written anew by each use.
        if *name == header::AGE || *name == header::CONTENT_LENGTH {
            continue;
        }
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.append(name.clone(), value);
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::HeldBytes;

    fn entry(headers: &[(&'static str, &'static str)]) -> Entry {
        let second = Duration::from_secs(1);
        let terms = Terms {
            age: 2 * second,
            fresh: 10 * second,
            while_revalidate: 5 * second,
            if_error: 20 * second,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let body = KeptBody::new(Bytes::from_static(b"x"), HeldBytes::new(1).share());
        Entry { status: StatusCode::OK, headers: map, body, terms, at: 100 * second, asked_at: 99 * second }
    }

    #[test]
    fn it_is_fresh_then_stale_and_its_age_goes_on() {
        let entry = entry(&[]);
        let at = Duration::from_secs_f64;
        for (now, standing, errors, ttl, age) in [
            (100.0, Standing::Fresh, true, 10, 2),
            (109.9, Standing::Fresh, true, 0, 11),
            (110.0, Standing::Revalidate, true, 0, 12),
            (114.5, Standing::Revalidate, true, -4, 16),
            (115.0, Standing::Stale, true, -5, 17),
            (130.0, Standing::Stale, false, -20, 32),
            (0.0, Standing::Fresh, true, 110, 2),
        ] {
            let now = at(now);
            let found =
                (entry.standing(now), entry.covers_errors(now), entry.ttl(now), entry.age(now).as_secs());
            assert_eq!(found, (standing, errors, ttl, age), "{now:?}");
        }
    }

    #[test]
    fn a_confirmation_changes_the_head_and_not_what_is_said_of_the_body() {
        let old = entry(&[
            ("etag", "\"a\""),
            ("x", "1"),
            ("x", "2"),
            ("content-type", "a/b"),
            ("cache-control", "max-age=1"),
        ]);
        let mut by = HeaderMap::new();
        by.insert("x", HeaderValue::from_static("3"));
        by.insert("content-type", HeaderValue::from_static("c/d"));
        by.insert("cache-control", HeaderValue::from_static("max-age=9"));
        let merged = old.confirmed(&by).expect("nothing speaks against it");
        assert_eq!((merged.get_all("x").iter().count(), &merged["x"]), (1, &HeaderValue::from_static("3")));
        assert_eq!(
            (merged["content-type"].as_bytes(), merged["cache-control"].as_bytes()),
            (&b"a/b"[..], &b"max-age=9"[..])
        );
        by.insert("etag", HeaderValue::from_static("\"b\""));
        assert!(old.confirmed(&by).is_none(), "of another body");
    }
}
