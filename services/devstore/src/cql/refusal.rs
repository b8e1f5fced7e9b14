//! Why a request is not done: an error of the protocol with its words.

use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};

/// An ERROR to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind of error.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    detail: Detail,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Detail {
    Plain,
    AlreadyExists { keyspace: String, table: String },
    Unprepared(Vec<u8>),
}

impl Refusal {
    /// An error without further fields.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: Detail::Plain }
    }

    /// The statement parses but cannot be run.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID, message)
    }

    /// The statement does not parse.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::SYNTAX_ERROR, message)
    }

    /// What Cassandra has and this store has not.
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::invalid(format!("{what}: not supported by the embedded development store"))
    }

    /// The message breaks the protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, message)
    }

    /// The store itself has failed: nothing the client can mend.
    pub fn storage(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::SERVER_ERROR, format!("storage: {error}"))
    }

    /// A keyspace (`table` empty) or table is there.
    pub fn already_exists(keyspace: &str, table: &str) -> Self {
        let message = match table {
            "" => format!("Cannot add existing keyspace \"{keyspace}\""),
            _ => format!("Cannot add already existing table \"{table}\" to keyspace \"{keyspace}\""),
        };
        let detail = Detail::AlreadyExists { keyspace: keyspace.into(), table: table.into() };
        Self { code: ErrorCode::ALREADY_EXISTS, message, detail }
    }

    /// The id is that of no prepared statement.
    pub fn unprepared(id: &[u8]) -> Self {
        let message = "Prepared query is not known: it is prepared again by the driver".to_owned();
        Self { code: ErrorCode::UNPREPARED, message, detail: Detail::Unprepared(id.into()) }
    }

    /// As the codec writes it.
    pub fn body(&self) -> ErrorBody<'_> {
        let detail = match &self.detail {
            Detail::Plain => ErrorDetail::Plain(&[]),
            Detail::AlreadyExists { keyspace, table } => {
                ErrorDetail::AlreadyExists { keyspace: keyspace.as_bytes(), table: table.as_bytes() }
            }
            Detail::Unprepared(id) => ErrorDetail::Unprepared(id),
        };
        ErrorBody { code: self.code, message: self.message.as_bytes(), detail }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
