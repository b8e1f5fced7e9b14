//! The body of a request on its way to the service.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// The client broke off in the middle of its body: the service must see that, and not an end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client broke off")]
pub(crate) struct CutShort;

/// A body.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// It is there.
    Whole {
        /// What is not sent yet.
        parts: VecDeque<Bytes>,
        /// Bytes of it.
        left: u64,
    },
    /// It passes as it comes. The sender's end is the body's end; [`CutShort`] is not.
    Stream(mpsc::Receiver<Result<Bytes, CutShort>>),
}

impl Outgoing {
    pub(crate) fn whole(parts: VecDeque<Bytes>) -> Outgoing {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Outgoing::Whole { parts, left }
    }

    pub(crate) fn empty() -> Outgoing {
        Outgoing::whole(VecDeque::new())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match self.get_mut() {
            Outgoing::Whole { parts, left } => {
                let part = parts.pop_front();
                *left -= part.as_ref().map_or(0, |part| part.len() as u64);
                Poll::Ready(part.map(|part| Ok(Frame::data(part))))
            }
            Outgoing::Stream(parts) => parts.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::Whole { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole { left, .. } => SizeHint::with_exact(*left),
            Outgoing::Stream(_) => SizeHint::default(),
        }
    }
}
