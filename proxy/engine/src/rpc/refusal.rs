//! What a call is told that is not carried out: who asked, for how much, what the ceiling is and when to ask again.
//!
//! gRPC and Connect get RESOURCE_EXHAUSTED with RetryInfo, HTTP 429 with Retry-After, never UNAVAILABLE or ABORTED: the
//! clients of record send those three times at once (docs/decisions), so that turning a caller down would triple it.

use crate::error::LimitKind;
use crate::units::Span;
use std::fmt;
use std::sync::Arc;

/// What is too large for its ceiling will be refused again: who asks all the same should not do it more often than this.
pub const NEVER_FITS: Span = Span::secs(60);
/// What found everything taken may ask again after this.
pub const CROWDED: Span = Span::secs(1);

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A limit of its caller.
    Limit(LimitKind),
    /// Its method is switched off for a while; the operator's reason.
    Denied(Arc<str>),
    /// As many calls as may be are under way at its service (`calls_max`).
    CallsMax,
    /// It waited in weir for longer than `queue_timeout`.
    QueueTimeout,
}

/// A call that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Who asked, by name.
    pub caller: Arc<str>,
    /// What was asked for: the method's name, or `_other`.
    pub method: Arc<str>,
    /// Operations asked; 0 where nobody has counted.
    pub asked: u64,
    /// The ceiling, in the unit of `why`; 0 where there is none.
    pub ceiling: u64,
    /// How long the client is asked to wait.
    pub retry_after: Span,
}

impl Refusal {
    /// Milliseconds the client is asked to wait, at least 1.
    #[must_use]
    pub fn retry_after_ms(&self) -> u64 {
        self.retry_after.0.div_ceil(1_000).max(1)
    }
}

impl Refusal {
    /// The text of the answer where only a part of the body had come: more was asked than could be counted.
    #[must_use]
    pub fn of_a_part(&self) -> String {
        self.to_string().replacen(
            &format!(" asked {}, ", self.asked),
            &format!(" asked {} or more, ", self.asked),
            1,
        )
    }
}

/// The text of the answer. Everything in it is weir's, an operator's or a checked name.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { why, caller, method, asked, ceiling, .. } = self;
        match why {
            Why::Limit(kind) => write!(
                f,
                "weir: {} limit of {caller}: {method} asked {asked}, ceiling {ceiling}; do not retry at once",
                kind.label()
            ),
            Why::Denied(reason) if reason.is_empty() => {
                write!(f, "weir: {method} is switched off for now; do not retry at once")
            }
            Why::Denied(reason) => {
                write!(f, "weir: {method} is switched off for now: {reason}; do not retry at once")
            }
            Why::CallsMax => {
                write!(f, "weir: {ceiling} calls are under way (calls_max); do not retry at once")
            }
            Why::QueueTimeout => {
                write!(f, "weir: {method} waited for too long (queue_timeout); do not retry at once")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_who_what_and_how_much() {
        let refusal = Refusal {
            why: Why::Limit(LimitKind::OperationsPerRequest),
            caller: "feedgen".into(),
            method: "bsky.Service/GetPostRecords".into(),
            asked: 15_000,
            ceiling: 2_000,
            retry_after: Span(1),
        };
        assert_eq!(
            refusal.to_string(),
            "weir: operations_per_request limit of feedgen: bsky.Service/GetPostRecords asked 15000, ceiling 2000; \
             do not retry at once"
        );
        assert!(
            refusal.of_a_part().contains("GetPostRecords asked 15000 or more, ceiling 2000;"),
            "{}",
            refusal.of_a_part()
        );
        assert_eq!(refusal.retry_after_ms(), 1, "never 0: that would be at once");
    }
}
