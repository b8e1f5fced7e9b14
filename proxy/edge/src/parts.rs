//! A call in parts: what the edge asks of whoever cuts requests and puts replies together ([`Parts`]), and how one call
//! becomes several here. The way of a part is in `exchange/split.rs`.
//!
//! **What a part inherits:** method, path and every header of the call (the trace too: parts are one request), its deadline
//! as it stands when the part is sent, and its end: a client that leaves, a deadline, a part that fails or replies that do
//! not fit together take every other part back from the service.
//!
//! **What it does not:** length and compression of the whole. Parts are sent plain and ask for plain replies, because nobody
//! can put compressed ones together.
//!
//! **Whose head the client gets:** the rule `first part` ([`first_part`]): head and trailers of the part with index 0,
//! whichever part was answered first. Of metadata that a service makes per call (a trace, a time) the others' are dropped.

use crate::answer::Refusal;
use bytes::Bytes;
use http::{HeaderMap, header};
use std::sync::Arc;
use std::task::{Context, Poll};
use weir_engine::settings::Address;

/// Cuts one call and puts its replies together, and says which part is sent when.
///
/// The edge calls it from one task, never blocks in it, and drops it as soon as the call is over, whatever the end: no part
/// is under way any more by then, as far as the edge can tell (the service has been told to stop those that were).
pub trait Parts: Send {
    /// Which part is sent next. Polled until the call is over: answers [`Poll::Pending`] while there is no room for another
    /// part, and after the last one, and wakes the context when that changes.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Order>;

    /// The message of a part, without framing. Asked once for each that is sent; the bytes are kept until the part is
    /// answered, because it may have to be sent again.
    fn write(&mut self, part: u32) -> Bytes;

    /// The reply message of a part has come, without framing: at most once for each part.
    ///
    /// # Errors
    /// When it fits nowhere: the call fails with this, and nothing more is asked.
    fn answered(&mut self, part: u32, message: Bytes) -> Result<Progress, Refusal>;

    /// A part has failed for good: the call fails with it, and nothing more is asked.
    fn failed(&mut self, part: u32, why: PartFailed) {
        let _ = (part, why);
    }

    /// The reply to the whole, without framing. Asked after [`Progress::Complete`].
    ///
    /// # Errors
    /// When the replies do not fit together: the call fails with this.
    fn merged(&mut self) -> Result<Bytes, Refusal>;

    /// Who says whether this part may be sent again; `None`: the edge's own budget.
    fn retries(&self, part: u32) -> Option<Arc<dyn Retries>> {
        let _ = part;
        None
    }
}

/// What the edge is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Send this part now. Never the same one twice.
    Send(u32),
    /// The call is over (its time in a queue is): answer it with this.
    End(Refusal),
}

/// Where a call stands after the reply of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others are missing.
    More,
    /// It was the last one.
    Complete,
}

/// Why a part failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartFailed {
    /// The service answered it with an error: this gRPC status, or 2 (UNKNOWN) where it gave none (Connect, HTTP).
    Error {
        /// The number of the status.
        grpc_status: u32,
    },
    /// The service has seen nothing of it.
    Unreachable,
    /// The service broke off.
    Broken,
    /// The replies of the call are larger together than `split_reply_bytes`.
    TooLarge,
    /// The reply has not one plain message and a status. The next one would not either: do not split this method.
    Unreadable,
}

/// Decides where a request goes, and whether what a service has not answered may be sent again: that is asked for what can
/// be repeated without harm only, at most `max_retries` times a request.
pub trait Retries: Send + Sync {
    /// One more time. A `true` is spent.
    fn may_send_again(&self) -> bool;

    /// The server that is to have it now: asked before each try, where there are several. `None`: the edge chooses.
    fn server(&self) -> Option<Address> {
        None
    }

    /// That one could not be reached, and this one is sent it.
    fn went(&self, to: &Address) {
        let _ = to;
    }
}

/// What of the call's headers goes with a part.
pub(crate) fn headers_of_part(whole: &HeaderMap) -> HeaderMap {
    let mut headers = whole.clone();
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ACCEPT_ENCODING] {
        headers.remove(name);
    }
    for name in ["grpc-encoding", "grpc-accept-encoding"] {
        headers.remove(name);
    }
    headers
}

/// The rule `first part`: of the part with index 0, what is said of the whole. Length and compression are said anew.
pub(crate) fn first_part(headers: &mut HeaderMap) {
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG] {
        headers.remove(name);
    }
    headers.remove("grpc-encoding");
}
