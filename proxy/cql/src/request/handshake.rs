//! STARTUP, REGISTER and AUTH_RESPONSE.

use crate::error::Malformed;
use crate::read::{Cursor, Span, Value, string_pairs, strings};
use crate::write;

/// STARTUP: a \[string map\] of options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Startup {
    /// The map with its count.
    pub options: Span,
}

impl Startup {
    pub(super) fn locate(body: &[u8], message: Span) -> Result<Self, Malformed> {
        Ok(Self { options: Cursor::within(body, message).string_map()? })
    }

    /// The options in the order of the client.
    pub fn options(self, body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        string_pairs(body, self.options)
    }

    /// The value of one option; of the first, should it be there twice.
    pub fn get<'a>(self, body: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.options(body).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// Writes the body of a STARTUP of weir's own.
    pub fn write<'a>(options: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
        write::string_map(out, options);
    }
}

/// REGISTER: a \[string list\] of event types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// The list with its count.
    pub events: Span,
}

impl Register {
    pub(super) fn locate(body: &[u8], message: Span) -> Result<Self, Malformed> {
        Ok(Self { events: Cursor::within(body, message).string_list()? })
    }

    /// `TOPOLOGY_CHANGE`, `STATUS_CHANGE`, `SCHEMA_CHANGE`, or whatever the client wrote.
    pub fn events(self, body: &[u8]) -> impl Iterator<Item = &[u8]> {
        strings(body, self.events)
    }

    /// Writes the body of a REGISTER of weir's own.
    pub fn write<'a>(events: impl IntoIterator<Item = &'a str>, out: &mut Vec<u8>) {
        write::string_list(out, events);
    }
}

/// AUTH_RESPONSE: a token. Secret: no `Debug` of the bytes, only where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthResponse {
    /// The token; null is allowed.
    pub token: Value,
}

impl AuthResponse {
    pub(super) fn locate(body: &[u8], message: Span) -> Result<Self, Malformed> {
        Ok(Self { token: Cursor::within(body, message).bytes()? })
    }

    /// User and password of the SASL PLAIN mechanism (`[authzid] NUL user NUL password`), which
    /// `PasswordAuthenticator` uses; `None` for a token of another form.
    pub fn plain(self, body: &[u8]) -> Option<(&[u8], &[u8])> {
        let mut parts = self.token.of(body)?.split(|byte| *byte == 0);
        let (_authorize_as, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        parts.next().is_none().then_some((user, password))
    }

    /// Writes the body of an AUTH_RESPONSE of weir's own.
    pub fn write(token: Option<&[u8]>, out: &mut Vec<u8>) {
        write::nullable(out, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &[u8]) -> Span {
        Cursor::new(body).rest()
    }

    #[test]
    fn options_are_found() {
        let mut body = Vec::new();
        Startup::write([("CQL_VERSION", "3.0.0"), ("COMPRESSION", "lz4")], &mut body);
        let startup = Startup::locate(&body, whole(&body)).expect("valid");
        assert_eq!(startup.get(&body, "COMPRESSION"), Some(b"lz4".as_slice()));
        assert_eq!(startup.get(&body, "compression"), None);
        assert_eq!(startup.options(&body).count(), 2);
        assert_eq!(Startup::locate(&body[..9], whole(&body[..9])), Err(Malformed::Truncated));
    }

    #[test]
    fn plain_tokens() {
        for (token, expected) in [
            (b"\0user\0pass".as_slice(), Some((b"user".as_slice(), b"pass".as_slice()))),
            (b"as\0user\0", Some((b"user", b""))),
            (b"user", None),
            (b"\0a\0b\0c", None),
        ] {
            let mut body = Vec::new();
            AuthResponse::write(Some(token), &mut body);
            let response = AuthResponse::locate(&body, whole(&body)).expect("valid");
            assert_eq!(response.plain(&body), expected, "{token:?}");
        }
    }
}
