//! What went wrong with a request to the service, and what the service knows of it: that decides whether the request may
//! be sent again, and what its client is told.

use super::Request;
use crate::answer::{Reason, Refusal};
use std::error::Error;

/// What the service knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing, because the edge had no room for it.
    Overloaded,
    /// Nothing, because no server could be reached for as long as a request waits for one: waiting again helps nobody.
    Nowhere,
    /// Nothing.
    No,
    /// It has said that it did nothing with it (REFUSED_STREAM, GOAWAY).
    Unprocessed,
    /// Perhaps everything.
    Unknown,
}

/// A request that got no reply, or half of one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) sent: Sent,
    pub(crate) what: String,
    /// It speaks against the server: nobody takes connections there, or what was sent got no reply.
    pub(super) against: bool,
    /// The request, where it came back untouched.
    pub(super) request: Option<Box<Request>>,
}

impl Failure {
    pub(super) fn overloaded(what: &str) -> Failure {
        Failure { sent: Sent::Overloaded, what: what.to_owned(), against: false, request: None }
    }

    pub(super) fn unreachable(what: String) -> Failure {
        Failure { sent: Sent::Nowhere, what, against: false, request: None }
    }

    /// The connection took no more requests.
    pub(super) fn not_sent(what: String, request: Box<Request>) -> Failure {
        Failure { sent: Sent::No, what, against: false, request: Some(request) }
    }

    /// There is no connection to be had for it.
    pub(super) fn not_dialled(error: &std::io::Error, request: Box<Request>) -> Failure {
        let against = error.kind() != std::io::ErrorKind::WouldBlock;
        Failure { against, ..Failure::not_sent(error.to_string(), request) }
    }

    /// The request was handed to the connection, and no head came back.
    pub(super) fn before_reply(error: &(dyn Error + 'static)) -> Failure {
        let sent = if is_unprocessed(error) { Sent::Unprocessed } else { Sent::Unknown };
        Failure { sent, what: in_words(error), against: sent == Sent::Unknown, request: None }
    }

    /// The connection took it and ended before a byte of it was written.
    pub(super) fn unopened(error: &h2::Error) -> Failure {
        Failure { sent: Sent::Unprocessed, what: in_words(error), against: false, request: None }
    }

    /// The reply was cut.
    pub(super) fn in_reply(error: &(dyn Error + 'static)) -> Failure {
        Failure { sent: Sent::Unknown, what: in_words(error), against: true, request: None }
    }

    /// What the client is told.
    pub(crate) fn refusal(&self) -> Refusal {
        match self.sent {
            Sent::Overloaded => Refusal::new(Reason::Overloaded, self.what.clone()),
            Sent::Nowhere | Sent::No => {
                Refusal::new(Reason::Unreachable, format!("the service cannot be reached: {}", self.what))
            }
            Sent::Unprocessed => {
                Refusal::new(Reason::Unreachable, format!("the service takes no requests: {}", self.what))
            }
            Sent::Unknown => Refusal::new(
                Reason::Broken,
                format!("the service broke off ({}); what it did is unknown", self.what),
            ),
        }
    }
}

fn http2<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    error.downcast_ref().or_else(|| error.source()?.downcast_ref())
}

/// RFC 9113, 8.7: such a request was not acted on. (A GOAWAY ends only the streams above the last one it names.)
fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    http2(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (refused || left)
    })
}

fn in_words(error: &(dyn Error + 'static)) -> String {
    match http2(error).and_then(h2::Error::reason) {
        Some(reason) => format!("{reason:?}"),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
