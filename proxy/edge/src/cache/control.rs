//! `Cache-Control` (RFC 9111, 5.2), as far as a shared cache that wants explicit words needs it.

use http::{HeaderMap, header};

/// The largest number of seconds (RFC 9111, 1.2.2).
const MOST: u64 = 1 << 31;

/// What a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) public: bool,
    pub(super) private: bool,
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub(super) revalidate: bool,
    /// Seconds. Of a directive that is there twice, the smaller.
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    /// RFC 5861.
    pub(super) while_revalidate: Option<u64>,
    pub(super) if_error: Option<u64>,
    /// A number that is none: such an answer counts as stale (RFC 9111, 4.2.1).
    pub(super) malformed: bool,
}

impl Control {
    pub(super) fn of(headers: &HeaderMap) -> Control {
        let mut control = Control::default();
        for value in headers.get_all(header::CACHE_CONTROL) {
            for directive in items(value.as_bytes()) {
                control.take(directive);
            }
        }
        control
    }

    fn take(&mut self, directive: &[u8]) {
        let (name, argument) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            None => (directive, None),
        };
        let name = name.trim_ascii().to_ascii_lowercase();
        let place = match name.as_slice() {
            b"public" => return self.public = true,
            // Also where it names fields only: to keep the rest is allowed, and nobody has to.
            b"private" => return self.private = true,
            b"no-store" => return self.no_store = true,
            b"no-cache" => return self.no_cache = true,
            b"must-revalidate" | b"proxy-revalidate" => return self.revalidate = true,
            b"max-age" => &mut self.max_age,
            b"s-maxage" => &mut self.s_maxage,
            b"stale-while-revalidate" => &mut self.while_revalidate,
            b"stale-if-error" => &mut self.if_error,
            _ => return,
        };
        match argument.and_then(seconds) {
            Some(number) => *place = Some(place.map_or(number, |other| other.min(number))),
            None => self.malformed = true,
        }
    }

    /// How long an answer is fresh in a shared cache, by its own word.
    pub(super) fn lifetime(&self) -> Option<u64> {
        self.s_maxage.or(self.max_age).filter(|_| !self.malformed)
    }

    /// No answer may be used once it is stale. (RFC 9111, 5.2.2.10: `s-maxage` says so too.)
    pub(super) fn forbids_stale(&self) -> bool {
        self.revalidate || self.s_maxage.is_some() || self.no_cache
    }
}

/// A number, quoted or not.
pub(super) fn seconds(argument: &[u8]) -> Option<u64> {
    let argument = argument.trim_ascii();
    let digits = match argument {
        [b'"', digits @ .., b'"'] => digits,
        digits => digits,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |number: u64, digit: &u8| (number * 10 + u64::from(digit - b'0')).min(MOST);
    Some(digits.iter().fold(0, number))
}

/// The elements of a list, cut at commas outside of quotes.
pub(super) fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    list.split(move |byte| {
        let cut = *byte == b',' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        cut
    })
    .map(<[u8]>::trim_ascii)
    .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Control {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CACHE_CONTROL, value.parse().expect("a value"));
        }
        Control::of(&headers)
    }

    #[test]
    fn directives_are_read_over_all_fields_in_either_case() {
        let read = of(&[
            "PUBLIC , max-age=60",
            "stale-while-revalidate=\"5\",, Stale-If-Error = 7, x=\"a, private\"",
        ]);
        let wanted = Control {
            public: true,
            max_age: Some(60),
            while_revalidate: Some(5),
            if_error: Some(7),
            ..Control::default()
        };
        assert_eq!(read, wanted);
        assert!(of(&["private=\"x-y\""]).private && of(&["no-cache=\"set-cookie\""]).no_cache);
    }

    #[test]
    fn numbers_are_the_smaller_of_two_and_never_more_than_they_may_be() {
        assert_eq!(of(&["max-age=60, max-age=5"]).lifetime(), Some(5));
        assert_eq!(of(&["max-age=60, s-maxage=0"]).lifetime(), Some(0));
        assert_eq!(of(&["max-age=99999999999999999999999999"]).lifetime(), Some(MOST));
        for bad in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age='1'",
            "max-age=1;2",
            "max-age=5, s-maxage=x",
        ] {
            assert_eq!(of(&[bad]).lifetime(), None, "{bad}");
        }
        assert_eq!(of(&["\"max-age=5\""]).lifetime(), None, "a name in quotes is another name");
    }
}
