//! Whether an answer may be kept, and for how long (RFC 9111, 3 and 4.2; RFC 5861). Stricter than the RFC where it leaves
//! a choice: the service must say `public` and a time, in so many words.

use super::control::{Control, items, seconds};
use super::entry::Moment;
use super::route::Rules;
use super::settings::CacheSettings;
use http::{HeaderMap, StatusCode, header};
use std::time::Duration;

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unfit {
    /// Its status is none that is kept.
    Status,
    /// It is not `public`, or `private`, `no-store` or `no-cache`.
    NotPublic,
    /// It says no time.
    NoLifetime,
    /// It is stale when it comes.
    Stale,
    /// It sets a cookie, or is one client's in another way.
    Personal,
    /// It differs by a header that is not in the key.
    Vary,
    /// It is encoded in a way that was not asked for.
    Encoding,
    /// It is larger than `entry_max`.
    TooLarge,
    /// It is a part, or has trailers.
    Partial,
    /// There is no room for answers on their way (`fill_bytes_max`).
    Full,
    /// The resource was changed while it came.
    Changed,
}

impl Unfit {
    /// Every cause.
    pub const ALL: [Unfit; 11] = [
        Unfit::Status,
        Unfit::NotPublic,
        Unfit::NoLifetime,
        Unfit::Stale,
        Unfit::Personal,
        Unfit::Vary,
        Unfit::Encoding,
        Unfit::TooLarge,
        Unfit::Partial,
        Unfit::Full,
        Unfit::Changed,
    ];

    /// The next request will most probably fare alike.
    pub(super) fn lasts(self) -> bool {
        !matches!(self, Unfit::Full | Unfit::Changed)
    }
}

/// For how long an answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How old it was when it came.
    pub(super) age: Duration,
    /// From then on: fresh.
    pub(super) fresh: Duration,
    /// After that: while it is asked for again.
    pub(super) while_revalidate: Duration,
    /// After being fresh: where the service fails.
    pub(super) if_error: Duration,
}

/// What is kept, among the statuses that are final and whole by themselves.
const KEPT: [StatusCode; 6] = [
    StatusCode::OK,
    StatusCode::NON_AUTHORITATIVE_INFORMATION,
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::PERMANENT_REDIRECT,
    StatusCode::NOT_FOUND,
    StatusCode::GONE,
];

/// Headers of answers that are for one client.
const PERSONAL: [&str; 5] =
    ["set-cookie", "set-cookie2", "www-authenticate", "authentication-info", "dpop-nonce"];

/// Judges an answer by its head. `sent` is what the service was asked with, `delay` how long its answer took.
pub(crate) fn judge(
    settings: &CacheSettings,
    rules: &Rules,
    sent: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    delay: Duration,
    now: Moment,
) -> Result<Terms, Unfit> {
    if !KEPT.contains(&status) {
        return Err(Unfit::Status);
    }
    let control = Control::of(headers);
    if !control.public || control.private || control.no_store || control.no_cache {
        return Err(Unfit::NotPublic);
    }
    if PERSONAL.iter().any(|name| headers.contains_key(*name)) {
        return Err(Unfit::Personal);
    }
    let mut varies = headers.get_all(header::VARY).iter().flat_map(|value| items(value.as_bytes()));
    if !varies.all(|name| rules.varies_by(name)) {
        return Err(Unfit::Vary);
    }
    if headers.contains_key(header::CONTENT_RANGE) || headers.contains_key(header::TRAILER) {
        return Err(Unfit::Partial);
    }
    if !encoding_was_asked_for(sent, headers) {
        return Err(Unfit::Encoding);
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| seconds_u64(value.as_bytes()));
    if length.is_some_and(|length| length > settings.entry_max) {
        return Err(Unfit::TooLarge);
    }
    let lifetime = Duration::from_secs(control.lifetime().ok_or(Unfit::NoLifetime)?);
    let age = age(headers, delay, now);
    if age >= lifetime {
        return Err(Unfit::Stale);
    }
    let stale = |seconds: Option<u64>| match control.forbids_stale() {
        true => Duration::ZERO,
        false => Duration::from_secs(seconds.unwrap_or(0)).min(settings.stale_max),
    };
    let fresh = (lifetime - age).min(settings.ttl_max);
    let (while_revalidate, if_error) = (stale(control.while_revalidate), stale(control.if_error));
    Ok(Terms { age, fresh, while_revalidate, if_error })
}

/// RFC 9111, 4.2.3.
fn age(headers: &HeaderMap, delay: Duration, now: Moment) -> Duration {
    let date =
        headers.get(header::DATE).and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
    let apparent = date.and_then(|date| now.wall.duration_since(date).ok()).unwrap_or_default();
    let told = headers.get(header::AGE).and_then(|value| seconds(value.as_bytes())).unwrap_or(0);
    // Dates have full seconds: a fraction of one is no age.
    Duration::from_secs(apparent.as_secs()).max(Duration::from_secs(told) + delay)
}

fn encoding_was_asked_for(sent: &HeaderMap, headers: &HeaderMap) -> bool {
    let asked = sent.get(header::ACCEPT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|value| items(value.as_bytes())).all(|coding| {
        coding.eq_ignore_ascii_case(b"identity")
            || items(asked).any(|asked| asked.eq_ignore_ascii_case(coding))
    })
}

fn seconds_u64(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;
