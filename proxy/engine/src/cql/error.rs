//! What weir answers when something goes wrong: one place maps each failure to an ERROR of the protocol (native
//! protocol v5, section 9). The codes are chosen by what drivers do on them: none of these makes a driver retry at once
//! on the same connection; those that let it go to another host are named in docs/cql.md.

use crate::error::LimitKind;
use crate::ledger::Outcome;
use crate::units::Operations;
use std::fmt::Write as _;
use weir_cql::Consistency;
use weir_cql::response::{Acks, ErrorBody, ErrorCode, ErrorDetail};

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No node can be reached: nothing was sent.
    NoNode,
    /// The connection was lost before the request was sent.
    NotSent,
    /// The connection was lost after the request was sent.
    OutcomeUnknown,
    /// No reply within `request_timeout`.
    TimedOut,
    /// Waited longer than `queue_timeout` in weir.
    QueueTimeout,
    /// What the node sent could not be read.
    BadReply,
}

impl Failure {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Failure::TimedOut | Failure::QueueTimeout => Outcome::Timeout,
            _ => Outcome::BackendLost,
        }
    }

    /// The ERROR, as seen by a reader, or a writer of this type (`write`); `node` is where it happened; `before`: it was sent
    /// to a node earlier, which may have carried it out.
    pub(super) fn body<'a>(
        self,
        node: &str,
        write: Option<&'static [u8]>,
        consistency: Consistency,
        before: bool,
        text: &'a mut String,
    ) -> ErrorBody<'a> {
        let sent = match (before, write) {
            (false, _) => "nothing was sent",
            (true, Some(_)) => "outcome unknown: it was sent before",
            (true, None) => "it was sent before and not answered",
        };
        let _ = match self {
            Failure::NoNode => write!(text, "weir: no node of {node} can be reached; {sent}"),
            Failure::NotSent => write!(text, "weir: the connection to {node} was lost; {sent}"),
            Failure::OutcomeUnknown => {
                write!(text, "weir: the connection to {node} was lost; outcome unknown, not retried")
            }
            Failure::TimedOut => write!(text, "weir: {node} did not answer within request_timeout"),
            Failure::QueueTimeout => {
                write!(text, "weir: waited longer than queue_timeout for {node}; {sent}")
            }
            Failure::BadReply => write!(text, "weir: the reply of {node} could not be read"),
        };
        let acks = Acks { consistency, received: 0, required: 1 };
        let (code, detail) = match self {
            Failure::TimedOut => match write {
                None => (ErrorCode::READ_TIMEOUT, ErrorDetail::ReadTimeout { acks, data_present: false }),
                Some(write_type) => (
                    ErrorCode::WRITE_TIMEOUT,
                    ErrorDetail::WriteTimeout { acks, write_type, contentions: None },
                ),
            },
            _ => (ErrorCode::SERVER_ERROR, ErrorDetail::Plain(&[])),
        };
        ErrorBody { code, message: text.as_bytes(), detail }
    }
}

/// The message a refused request is answered with: limit, ask and ceiling. Goes out as Invalid, which no driver
/// retries, or as `refuse_rate_as` says.
pub(super) fn refusal(kind: LimitKind, caller: &str, asked: Operations, ceiling: u64) -> String {
    format!(
        "weir: {} limit of {caller}: asked {}, ceiling {ceiling}; do not retry at once",
        kind.label(),
        asked.0
    )
}
