//! Status codes of gRPC and Connect, and their HTTP neighbours.
//!
//! The codes are those of gRPC; Connect spells them in lower case and maps them to HTTP statuses, gRPC does the reverse
//! for answers that did not come from a gRPC server.

use std::fmt;

/// A status code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Code {
    /// Not an error.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// An error of unknown kind.
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// Time ran out.
    DeadlineExceeded = 4,
    /// No such thing.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit: what weir answers above a ceiling. Clients do not try again by themselves.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// A conflict. Some clients try again at once: never for a limit.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// The server is broken.
    Internal = 13,
    /// The server cannot be reached. Clients try again at once: never for a limit.
    Unavailable = 14,
    /// Data is lost.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// Every code; the index is its number.
    pub const ALL: [Self; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The number in `grpc-status`.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Reads the value of `grpc-status`. What is no code is [`Code::Unknown`], as gRPC says.
    pub fn parse(value: &[u8]) -> Self {
        let digits = value.iter().take(3).try_fold(0_usize, |number, digit| {
            let digit = (*digit as char).to_digit(10)?;
            Some(number * 10 + digit as usize)
        });
        let number = digits.filter(|_| (1..=2).contains(&value.len()));
        number.and_then(|number| Self::ALL.get(number).copied()).unwrap_or(Code::Unknown)
    }

    /// The name of gRPC; also a bounded label.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The name of Connect: lower case, and `canceled` with one l.
    pub const fn connect_name(self) -> &'static str {
        match self {
            Code::Ok => "ok",
            Code::Cancelled => "canceled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }
    }

    /// The code of a Connect name; `None` for what is no error of Connect (`ok` is none).
    pub fn from_connect_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().skip(1).find(|code| code.connect_name() == name)
    }

    /// HTTP status of a unary Connect answer with this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::Ok => 200,
            Code::Cancelled => 499,
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound => 404,
            Code::AlreadyExists | Code::Aborted => 409,
            Code::ResourceExhausted => 429,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
            Code::DeadlineExceeded => 504,
            Code::Unknown | Code::Internal | Code::DataLoss => 500,
        }
    }

    /// What a client of gRPC or Connect makes of an HTTP status without a status of its own.
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_grpc() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(Code::parse(number.to_string().as_bytes()), code);
            if code != Code::Ok {
                assert_eq!(Code::from_connect_name(code.connect_name()), Some(code));
            }
            if code != Code::Cancelled {
                assert_eq!(code.name().to_ascii_lowercase(), code.connect_name());
            }
        }
        for wrong in [&b""[..], b"17", b"-1", b"008", b"1000000000000000000000", b" 8", b"x"] {
            assert_eq!(Code::parse(wrong), Code::Unknown, "{wrong:?}");
        }
        assert_eq!(Code::parse(b"08"), Code::ResourceExhausted);
        assert_eq!(Code::from_connect_name("ok"), None);
    }

    #[test]
    fn a_limit_is_429_and_nothing_that_is_tried_again() {
        assert_eq!(Code::ResourceExhausted.http_status(), 429);
        assert_eq!(Code::ResourceExhausted.number(), 8);
        // A bare 429 reads as UNAVAILABLE, which is tried again: a refusal needs a status of its own.
        assert_eq!(Code::from_http_status(429), Code::Unavailable);
        assert_eq!(Code::from_http_status(404), Code::Unimplemented);
        assert_eq!(Code::from_http_status(200), Code::Unknown);
    }
}
