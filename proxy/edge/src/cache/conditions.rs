//! What a client has already (RFC 9110, 13): answered from what is kept, never passed on.

use super::control::items;
use http::{HeaderMap, HeaderValue, header};

/// `If-None-Match`, or without it `If-Modified-Since`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    none_match: Vec<HeaderValue>,
    modified_since: Option<HeaderValue>,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Conditions {
        let none_match: Vec<_> = headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect();
        let since = headers.get(header::IF_MODIFIED_SINCE).filter(|_| none_match.is_empty());
        Conditions { modified_since: since.cloned(), none_match }
    }

    /// The client has what these headers belong to.
    pub(crate) fn are_met_by(&self, headers: &HeaderMap) -> bool {
        if !self.none_match.is_empty() {
            let own = headers.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
            return self.none_match.iter().flat_map(|list| items(list.as_bytes())).any(|tag| {
                // `*` is true of whatever there is.
                tag == b"*" || own.is_some_and(|own| own == opaque(tag))
            });
        }
        let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
        let since = self.modified_since.as_ref().and_then(date);
        let modified = headers.get(header::LAST_MODIFIED).and_then(date);
        matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
    }
}

/// For the weak comparison, which is the one for GET.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let old = "Sun, 06 Nov 1994 08:49:37 GMT";
        let new = "Mon, 07 Nov 1994 08:49:37 GMT";
        let kept = map(&[("etag", "\"a,b\""), ("last-modified", old)]);
        for (asked, met) in [
            (&[][..], false),
            (&[("if-none-match", "\"x\", W/\"a,b\"")], true),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")], true),
            (&[("if-none-match", "*")], true),
            (&[("if-none-match", "\"a\"")], false),
            (&[("if-none-match", "a,b")], false),
            (&[("if-modified-since", old)], true),
            (&[("if-modified-since", new)], true),
            (&[("if-modified-since", "nonsense")], false),
            (&[("if-none-match", "\"x\""), ("if-modified-since", new)], false),
        ] {
            assert_eq!(Conditions::of(&map(asked)).are_met_by(&kept), met, "{asked:?}");
        }
        let since = Conditions::of(&map(&[("if-modified-since", old)]));
        assert!(!since.are_met_by(&map(&[("last-modified", new)])) && !since.are_met_by(&map(&[])));
    }
}
