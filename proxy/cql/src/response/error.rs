//! ERROR: every code of the specification with its fields, read and written.

use std::fmt;

use crate::error::Malformed;
use crate::read::{Consistency, Cursor};
use crate::version::Version;
use crate::write;

/// An error code. Servers have codes of their own (Scylla negotiates one for its rate limit): any number is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ErrorCode(pub i32);

impl ErrorCode {
    /// Something unexpected happened in the server.
    pub const SERVER_ERROR: Self = Self(0x0000);
    /// A message broke the protocol, or its version is not spoken.
    pub const PROTOCOL_ERROR: Self = Self(0x000A);
    /// Authentication failed.
    pub const BAD_CREDENTIALS: Self = Self(0x0100);
    /// Not enough replicas alive.
    pub const UNAVAILABLE: Self = Self(0x1000);
    /// Drivers retry it on the next host.
    pub const OVERLOADED: Self = Self(0x1001);
    /// The coordinator is still joining.
    pub const IS_BOOTSTRAPPING: Self = Self(0x1002);
    /// A truncation failed.
    pub const TRUNCATE_ERROR: Self = Self(0x1003);
    /// A write timed out.
    pub const WRITE_TIMEOUT: Self = Self(0x1100);
    /// A read timed out.
    pub const READ_TIMEOUT: Self = Self(0x1200);
    /// A read failed on replicas.
    pub const READ_FAILURE: Self = Self(0x1300);
    /// A user-defined function failed.
    pub const FUNCTION_FAILURE: Self = Self(0x1400);
    /// A write failed on replicas.
    pub const WRITE_FAILURE: Self = Self(0x1500);
    /// The change data capture has no room.
    pub const CDC_WRITE_FAILURE: Self = Self(0x1600);
    /// The outcome of a conditional write is not known (v5).
    pub const CAS_WRITE_UNKNOWN: Self = Self(0x1700);
    /// The statement does not parse.
    pub const SYNTAX_ERROR: Self = Self(0x2000);
    /// Not allowed.
    pub const UNAUTHORIZED: Self = Self(0x2100);
    /// The statement parses but cannot be run; drivers do not retry it.
    pub const INVALID: Self = Self(0x2200);
    /// A configuration stands against it.
    pub const CONFIG_ERROR: Self = Self(0x2300);
    /// Keyspace or table is there.
    pub const ALREADY_EXISTS: Self = Self(0x2400);
    /// The id is not that of a prepared statement.
    pub const UNPREPARED: Self = Self(0x2500);

    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SERVER_ERROR => "server_error",
            Self::PROTOCOL_ERROR => "protocol_error",
            Self::BAD_CREDENTIALS => "bad_credentials",
            Self::UNAVAILABLE => "unavailable",
            Self::OVERLOADED => "overloaded",
            Self::IS_BOOTSTRAPPING => "is_bootstrapping",
            Self::TRUNCATE_ERROR => "truncate_error",
            Self::WRITE_TIMEOUT => "write_timeout",
            Self::READ_TIMEOUT => "read_timeout",
            Self::READ_FAILURE => "read_failure",
            Self::FUNCTION_FAILURE => "function_failure",
            Self::WRITE_FAILURE => "write_failure",
            Self::CDC_WRITE_FAILURE => "cdc_write_failure",
            Self::CAS_WRITE_UNKNOWN => "cas_write_unknown",
            Self::SYNTAX_ERROR => "syntax_error",
            Self::UNAUTHORIZED => "unauthorized",
            Self::INVALID => "invalid",
            Self::CONFIG_ERROR => "config_error",
            Self::ALREADY_EXISTS => "already_exists",
            Self::UNPREPARED => "unprepared",
            _ => "other",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x} ({})", self.0, self.label())
    }
}

/// The body of an ERROR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorBody<'a> {
    /// What kind of error.
    pub code: ErrorCode,
    /// For people; need not be UTF-8. At most 65,535 bytes are written.
    pub message: &'a [u8],
    /// What the code adds.
    pub detail: ErrorDetail<'a>,
}

/// How many replicas were asked and answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acks {
    /// Level of the request.
    pub consistency: Consistency,
    /// Replicas that answered.
    pub received: i32,
    /// Replicas that had to.
    pub required: i32,
}

/// Which replicas failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failures<'a> {
    /// Up to v4: their number.
    Count(i32),
    /// v5: pairs of \[inetaddr\] and \[short\] reason, without their count.
    Reasons {
        /// Number of pairs.
        count: u32,
        /// The pairs.
        pairs: &'a [u8],
    },
}

/// What an error code adds to the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorDetail<'a> {
    /// Nothing, or nothing that is known: the bytes behind the message.
    Plain(&'a [u8]),
    /// UNAVAILABLE
    Unavailable {
        /// Level of the request.
        consistency: Consistency,
        /// Replicas it takes.
        required: i32,
        /// Replicas that live.
        alive: i32,
    },
    /// WRITE_TIMEOUT
    WriteTimeout {
        /// Who answered.
        acks: Acks,
        /// `SIMPLE`, `BATCH`, ...
        write_type: &'a [u8],
        /// v5, `CAS` only: rounds lost to others.
        contentions: Option<u16>,
    },
    /// READ_TIMEOUT
    ReadTimeout {
        /// Who answered.
        acks: Acks,
        /// The replica asked for the data has answered.
        data_present: bool,
    },
    /// READ_FAILURE
    ReadFailure {
        /// Who answered.
        acks: Acks,
        /// Who failed.
        failures: Failures<'a>,
        /// The replica asked for the data has answered.
        data_present: bool,
    },
    /// WRITE_FAILURE
    WriteFailure {
        /// Who answered.
        acks: Acks,
        /// Who failed.
        failures: Failures<'a>,
        /// `SIMPLE`, `BATCH`, ...
        write_type: &'a [u8],
    },
    /// CAS_WRITE_UNKNOWN
    CasWriteUnknown(Acks),
    /// FUNCTION_FAILURE
    FunctionFailure {
        /// Keyspace of the function.
        keyspace: &'a [u8],
        /// Its name.
        function: &'a [u8],
        /// The types of its arguments: a \[string list\] with its count.
        arguments: &'a [u8],
    },
    /// ALREADY_EXISTS
    AlreadyExists {
        /// The keyspace.
        keyspace: &'a [u8],
        /// The table; empty when it is the keyspace that exists.
        table: &'a [u8],
    },
    /// UNPREPARED: the id that is not known.
    Unprepared(&'a [u8]),
}

impl<'a> ErrorBody<'a> {
    /// An error without further fields.
    pub const fn plain(code: ErrorCode, message: &'a str) -> Self {
        Self { code, message: message.as_bytes(), detail: ErrorDetail::Plain(&[]) }
    }

    /// Reads an ERROR; `cursor` is over `body`.
    pub fn read(body: &'a [u8], cursor: &mut Cursor<'_>, version: Version) -> Result<Self, Malformed> {
        let code = ErrorCode(cursor.int()?);
        let message = cursor.string()?.of(body);
        let detail = ErrorDetail::read(code, body, cursor, version)?;
        Ok(Self { code, message, detail })
    }

    /// Writes the body of an ERROR. The fields must be those of the code; failures are written in the way of
    /// `version` (reasons become their number before v5, a number becomes no reasons in v5).
    pub fn write(&self, version: Version, out: &mut Vec<u8>) {
        write::int(out, self.code.0);
        write::short_bytes(out, self.message);
        self.detail.write(version, out);
    }
}

impl Acks {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self { consistency: cursor.consistency()?, received: cursor.int()?, required: cursor.int()? })
    }

    fn write(self, out: &mut Vec<u8>) {
        write::consistency(out, self.consistency);
        write::int(out, self.received);
        write::int(out, self.required);
    }
}

impl<'a> Failures<'a> {
    /// Bytes of the shortest pair: size, IPv4 address, reason.
    const PAIR_MIN: usize = 7;

    fn read(body: &'a [u8], cursor: &mut Cursor<'_>, version: Version) -> Result<Self, Malformed> {
        if version < Version::V5 {
            return cursor.int().map(Failures::Count);
        }
        let count = cursor.count(Self::PAIR_MIN)?;
        let start = cursor.position();
        for _ in 0..count {
            cursor.inet_address()?;
            cursor.short()?;
        }
        Ok(Failures::Reasons { count, pairs: cursor.since(start).of(body) })
    }

    fn write(self, version: Version, out: &mut Vec<u8>) {
        match (self, version >= Version::V5) {
            (Failures::Count(count), false) => write::int(out, count),
            (Failures::Count(_), true) => write::int(out, 0),
            (Failures::Reasons { count, .. }, false) => write::bits(out, count),
            (Failures::Reasons { count, pairs }, true) => {
                write::bits(out, count);
                out.extend_from_slice(pairs);
            }
        }
    }
}

impl<'a> ErrorDetail<'a> {
    fn read(
        code: ErrorCode,
        body: &'a [u8],
        cursor: &mut Cursor<'_>,
        version: Version,
    ) -> Result<Self, Malformed> {
        Ok(match code {
            ErrorCode::UNAVAILABLE => ErrorDetail::Unavailable {
                consistency: cursor.consistency()?,
                required: cursor.int()?,
                alive: cursor.int()?,
            },
            ErrorCode::WRITE_TIMEOUT => {
                let acks = Acks::read(cursor)?;
                let write_type = cursor.string()?.of(body);
                let told = version >= Version::V5 && write_type == b"CAS" && cursor.remaining() >= 2;
                let contentions = if told { Some(cursor.short()?) } else { None };
                ErrorDetail::WriteTimeout { acks, write_type, contentions }
            }
            ErrorCode::READ_TIMEOUT => {
                ErrorDetail::ReadTimeout { acks: Acks::read(cursor)?, data_present: cursor.byte()? != 0 }
            }
            ErrorCode::READ_FAILURE => ErrorDetail::ReadFailure {
                acks: Acks::read(cursor)?,
                failures: Failures::read(body, cursor, version)?,
                data_present: cursor.byte()? != 0,
            },
            ErrorCode::WRITE_FAILURE => ErrorDetail::WriteFailure {
                acks: Acks::read(cursor)?,
                failures: Failures::read(body, cursor, version)?,
                write_type: cursor.string()?.of(body),
            },
            ErrorCode::CAS_WRITE_UNKNOWN => ErrorDetail::CasWriteUnknown(Acks::read(cursor)?),
            ErrorCode::FUNCTION_FAILURE => ErrorDetail::FunctionFailure {
                keyspace: cursor.string()?.of(body),
                function: cursor.string()?.of(body),
                arguments: cursor.string_list()?.of(body),
            },
            ErrorCode::ALREADY_EXISTS => ErrorDetail::AlreadyExists {
                keyspace: cursor.string()?.of(body),
                table: cursor.string()?.of(body),
            },
            ErrorCode::UNPREPARED => ErrorDetail::Unprepared(cursor.string()?.of(body)),
            _ => ErrorDetail::Plain(cursor.rest().of(body)),
        })
    }

    fn write(self, version: Version, out: &mut Vec<u8>) {
        match self {
            ErrorDetail::Plain(rest) => out.extend_from_slice(rest),
            ErrorDetail::Unavailable { consistency, required, alive } => {
                write::consistency(out, consistency);
                write::int(out, required);
                write::int(out, alive);
            }
            ErrorDetail::WriteTimeout { acks, write_type, contentions } => {
                acks.write(out);
                write::short_bytes(out, write_type);
                if let Some(contentions) = contentions.filter(|_| version >= Version::V5) {
                    write::short(out, contentions);
                }
            }
            ErrorDetail::ReadTimeout { acks, data_present } => {
                acks.write(out);
                write::byte(out, data_present.into());
            }
            ErrorDetail::ReadFailure { acks, failures, data_present } => {
                acks.write(out);
                failures.write(version, out);
                write::byte(out, data_present.into());
            }
            ErrorDetail::WriteFailure { acks, failures, write_type } => {
                acks.write(out);
                failures.write(version, out);
                write::short_bytes(out, write_type);
            }
            ErrorDetail::CasWriteUnknown(acks) => acks.write(out),
            ErrorDetail::FunctionFailure { keyspace, function, arguments } => {
                write::short_bytes(out, keyspace);
                write::short_bytes(out, function);
                out.extend_from_slice(arguments);
            }
            ErrorDetail::AlreadyExists { keyspace, table } => {
                write::short_bytes(out, keyspace);
                write::short_bytes(out, table);
            }
            ErrorDetail::Unprepared(id) => write::short_bytes(out, id),
        }
    }
}
