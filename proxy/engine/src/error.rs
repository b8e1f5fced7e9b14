//! What weir answers itself: one place maps each failure to a line of memcached's protocol.
//!
//! Every line starts with SERVER_ERROR or CLIENT_ERROR, which clients know and none retries at once; the text says what
//! happened, where, and what to do.

use crate::units::Operations;
use std::fmt::Write;
use weir_memcached::Cause;

/// Why a request was not carried out (wholly).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, and none expected soon: nothing was sent.
    ServerDown,
    /// A connection is to be had, but signing in with the pool's `auth_file` failed: nothing was sent.
    SignInFailed,
    /// The connection was lost before the command was sent.
    NotSent,
    /// The connection was lost after a write was sent.
    OutcomeUnknown,
    /// The connection was lost before a read was answered, and the retry budget was spent.
    ReadLost,
    /// No whole reply within `request_timeout`.
    TimedOut,
    /// Waited longer than `queue_timeout` in weir.
    QueueTimeout,
    /// The server answered with an error line.
    ServerError,
    /// flush_all is refused here.
    FlushRefused,
    /// A flush by prefix did not end well: some keys may be gone, some not.
    FlushFailed,
}

impl Failure {
    /// Bounded label for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Failure::ServerDown => "server_down",
            Failure::SignInFailed => "sign_in_failed",
            Failure::NotSent => "not_sent",
            Failure::OutcomeUnknown => "outcome_unknown",
            Failure::ReadLost => "read_lost",
            Failure::TimedOut => "timed_out",
            Failure::QueueTimeout => "queue_timeout",
            Failure::ServerError => "server_error",
            Failure::FlushRefused => "flush_refused",
            Failure::FlushFailed => "flush_failed",
        }
    }

    /// The line for the client, `server` being where it happened.
    #[must_use]
    pub fn line(self, server: &str) -> Vec<u8> {
        let text = match self {
            Failure::ServerDown => format!("SERVER_ERROR weir: {server} is down; nothing was sent\r\n"),
            Failure::SignInFailed => {
                format!(
                    "SERVER_ERROR weir: cannot sign in to {server} (pool key auth_file); nothing was sent\r\n"
                )
            }
            Failure::NotSent => {
                format!("SERVER_ERROR weir: connection to {server} lost; nothing was sent\r\n")
            }
            Failure::OutcomeUnknown => {
                format!("SERVER_ERROR weir: connection to {server} lost; outcome unknown, not retried\r\n")
            }
            Failure::ReadLost => {
                format!("SERVER_ERROR weir: connection to {server} lost before it answered\r\n")
            }
            Failure::TimedOut => format!("SERVER_ERROR weir: {server} did not answer in time\r\n"),
            Failure::QueueTimeout => {
                format!("SERVER_ERROR weir: waited too long in the queue for {server}\r\n")
            }
            Failure::ServerError => {
                "SERVER_ERROR weir: a server of the pool answered with an error\r\n".to_string()
            }
            Failure::FlushFailed => {
                "SERVER_ERROR weir: not every key could be flushed; the log says why\r\n".to_string()
            }
            Failure::FlushRefused => {
                "SERVER_ERROR weir: flush_all is refused on this listener (pool key flush_all)\r\n"
                    .to_string()
            }
        };
        text.into_bytes()
    }
}

/// Why weir turned a request down, other than a limit of its caller or the policy for `flush_all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejected {
    /// It waited in weir for longer than `queue_timeout`.
    QueueTimeout,
    /// Its client left more replies unread than may be kept, or for too long, and was closed.
    BufferBound,
    /// A command that weir does not carry (`shutdown`, administration, the binary protocol).
    CommandPolicy,
    /// A line above its cap.
    LineTooLong,
    /// A value above the listener's cap.
    ValueTooLarge,
    /// weir shut down before it was answered.
    Draining,
    /// An operator switched its method off for a while (RPC).
    Denied,
    /// As many calls as may be were under way at its service (RPC).
    CallsMax,
}

impl Rejected {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Every reason, in the order of [`Rejected::index`].
    pub const ALL: [Rejected; Rejected::COUNT] = [
        Rejected::QueueTimeout,
        Rejected::BufferBound,
        Rejected::CommandPolicy,
        Rejected::LineTooLong,
        Rejected::ValueTooLarge,
        Rejected::Draining,
        Rejected::Denied,
        Rejected::CallsMax,
    ];

    /// Position in [`Rejected::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Bounded label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Rejected::QueueTimeout => "queue_timeout",
            Rejected::BufferBound => "buffer_bound",
            Rejected::CommandPolicy => "command_policy",
            Rejected::LineTooLong => "line_too_long",
            Rejected::ValueTooLarge => "value_too_large",
            Rejected::Draining => "draining",
            Rejected::Denied => "denied",
            Rejected::CallsMax => "calls_max",
        }
    }

    /// The reason for a refused line, where it is weir's and not a mistake in the line.
    #[must_use]
    pub(crate) fn of(cause: Cause) -> Option<Rejected> {
        match cause {
            Cause::AdminCommand => Some(Rejected::CommandPolicy),
            Cause::LineTooLong => Some(Rejected::LineTooLong),
            Cause::ValueTooLarge => Some(Rejected::ValueTooLarge),
            _ => None,
        }
    }
}

/// Which limit a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKind {
    /// Operations of one request.
    OperationsPerRequest,
    /// Operations per second.
    OperationsPerSecond,
    /// Operations under way at once.
    OperationsInFlight,
    /// Reply bytes under way at once.
    BytesInFlight,
}

impl LimitKind {
    /// Every kind, in the order of [`LimitKind::index`].
    pub const ALL: [LimitKind; 4] = [
        LimitKind::OperationsPerRequest,
        LimitKind::OperationsPerSecond,
        LimitKind::OperationsInFlight,
        LimitKind::BytesInFlight,
    ];

    /// Position in [`LimitKind::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The config key, which is the metric's label too.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            LimitKind::OperationsPerRequest => "operations_per_request",
            LimitKind::OperationsPerSecond => "operations_per_second",
            LimitKind::OperationsInFlight => "operations_in_flight",
            LimitKind::BytesInFlight => "bytes_in_flight",
        }
    }
}

/// The line a refused request is answered with: limit, ask and ceiling.
#[must_use]
pub fn refusal(kind: LimitKind, caller: &str, asked: Operations, ceiling: u64) -> Vec<u8> {
    let mut line = String::with_capacity(128);
    // writing to a String cannot fail
    let _ = write!(
        line,
        "SERVER_ERROR weir: {} limit of {caller}: asked {}, ceiling {ceiling}; do not retry at once\r\n",
        kind.label(),
        asked.0,
    );
    line.into_bytes()
}
