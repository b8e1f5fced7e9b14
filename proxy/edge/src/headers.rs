//! What of a head goes on. Headers of one connection end with it (RFC 9110, 7.6.1); callers' names that nobody vouches
//! for are removed; the rest passes as it came.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

/// Headers in which a caller names itself; the first that is there counts.
pub const CALLER_HEADERS: [&str; 2] = ["x-weir-caller", "x-atlantis-caller"];

/// Bound on names in `Connection`: more than a client ever needs.
const NOMINATED_MAX: usize = 16;

/// What ends at the edge, in either direction. (`te` is looked at by itself.)
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Bytes of all names and values.
pub(crate) fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The name that the caller of a request gives itself, as it came.
#[must_use]
pub fn declared(headers: &HeaderMap) -> Option<&HeaderValue> {
    CALLER_HEADERS.iter().find_map(|name| headers.get(*name))
}

/// What there is in a head that may not go on as it came: mostly `te` and nothing else, and then nothing is looked up.
#[derive(Default)]
struct Found {
    hop_by_hop: bool,
    te: bool,
    /// Said to the edge: `expect` and `host`.
    own: bool,
    caller: bool,
}

impl Found {
    fn of(headers: &HeaderMap) -> Found {
        let mut found = Found::default();
        for name in headers.keys() {
            match name.as_str() {
                "te" => found.te = true,
                "expect" | "host" => found.own = true,
                name if CALLER_HEADERS.contains(&name) => found.caller = true,
                name if HOP_BY_HOP.contains(&name) => found.hop_by_hop = true,
                _ => {}
            }
        }
        found
    }
}

/// The headers of a request for the service. `None` when `Connection` names what it must not, or too much.
pub(crate) fn to_service(from: &HeaderMap, trusts_caller: bool) -> Option<HeaderMap> {
    let mut headers = from.clone();
    let found = Found::of(from);
    if found.hop_by_hop {
        remove_nominated(&mut headers, from)?;
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
    if found.te && (found.hop_by_hop || !is_only(from, header::TE, "trailers")) {
        headers.remove(header::TE);
        let names = from.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        if names.map(<[u8]>::trim_ascii).any(|name| name == b"trailers") {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if found.own {
        // The edge reads the body itself.
        headers.remove(header::EXPECT);
        headers.remove(header::HOST);
    }
    if found.caller {
        // Vouched for is the one name that was looked at: another one beside it is nobody's word.
        let vouched = declared(from).filter(|_| trusts_caller);
        for name in CALLER_HEADERS {
            if from.get_all(name).iter().any(|said| Some(said) != vouched) {
                headers.remove(name);
            }
        }
    }
    Some(headers)
}

/// A header is there once, with this value.
fn is_only(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|first| first == value) && values.next().is_none()
}

/// The headers of a reply for the client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    let found = Found::of(headers);
    if found.hop_by_hop {
        if headers.contains_key(header::CONNECTION) {
            let from = headers.clone();
            // A service that names too much gets its names ignored, not its reply lost.
            let _ = remove_nominated(headers, &from);
        }
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
    if found.te {
        headers.remove(header::TE);
    }
}

fn remove_nominated(headers: &mut HeaderMap, from: &HeaderMap) -> Option<()> {
    let mut left = NOMINATED_MAX;
    for value in from.get_all(header::CONNECTION) {
        for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if name.is_empty() {
                continue;
            }
            left = left.checked_sub(1)?;
            let name = HeaderName::from_bytes(name).ok()?;
            // What frames or routes the message cannot be taken out of it by naming it.
            let protected =
                [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION];
            if protected.contains(&name) {
                return None;
            }
            headers.remove(name);
        }
    }
    Some(())
}

/// A reply with this status to this method has no body.
pub(crate) fn is_bodiless(method: &http::Method, status: StatusCode) -> bool {
    method == http::Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Says where a body ends, which HTTP/2 needs no header for: one of unknown length is sent in chunks, where the client's
/// version knows them; an empty one has length 0 (without a word the connection would have to end with it).
pub(crate) fn frame_for(version: Version, headers: &mut HeaderMap, empty: bool) {
    if version > Version::HTTP_11 || headers.contains_key(header::CONTENT_LENGTH) {
        return;
    }
    if empty {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    } else if version == Version::HTTP_11 {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            map.append(name, value);
        });
        map
    }

    #[test]
    fn headers_of_the_connection_end_here() {
        let from = map(&[
            ("connection", "close, X-Secret"),
            ("connection", "keep-alive"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip, trailers"),
            ("expect", "100-continue"),
            ("host", "h"),
            ("x-weir-caller", "me"),
            ("x-atlantis-caller", "me"),
            ("content-type", "application/grpc"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        let kept = to_service(&from, false).expect("well-formed");
        let wanted = map(&[
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        assert_eq!(kept, wanted);
        let trusted = to_service(&from, true).expect("well-formed");
        assert!(CALLER_HEADERS.iter().all(|name| trusted[*name] == "me"), "{trusted:?}");
    }

    #[test]
    fn one_name_is_vouched_for_and_no_other_beside_it() {
        let kept = |pairs: &[(&'static str, &'static str)]| {
            let kept = to_service(&map(pairs), true).expect("well-formed");
            CALLER_HEADERS.map(|name| kept.get_all(name).iter().count())
        };
        assert_eq!(kept(&[("x-weir-caller", "a"), ("x-atlantis-caller", "b")]), [1, 0]);
        assert_eq!(
            kept(&[("x-weir-caller", "a"), ("x-weir-caller", "b"), ("x-atlantis-caller", "a")]),
            [0, 1]
        );
        assert_eq!(kept(&[("x-atlantis-caller", "b")]), [0, 1]);
        assert_eq!(kept(&[]), [0, 0]);
    }

    #[test]
    fn what_frames_a_message_cannot_be_named_away() {
        for bad in ["host", "Content-Length", "authorization", "\"x\"", "a b"] {
            let mut from = HeaderMap::new();
            from.insert("connection", HeaderValue::from_str(bad).expect("a value"));
            assert!(to_service(&from, false).is_none(), "{bad}");
        }
        let many: Vec<_> = (0..=NOMINATED_MAX).map(|number| format!("x-{number}")).collect();
        let mut from = HeaderMap::new();
        from.insert("connection", HeaderValue::from_str(&many.join(",")).expect("a value"));
        assert!(to_service(&from, false).is_none());
    }
}
