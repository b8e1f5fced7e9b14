//! What failed, and at which step.

use std::fmt;
use std::io;
use std::time::Duration;

/// What the kernel was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// All sockets that fit a filter.
    Dump,
    /// One socket by its addresses.
    Find,
    /// The end of one socket.
    Destroy,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Question::Dump => "list sockets",
            Question::Find => "look a socket up",
            Question::Destroy => "end a socket",
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No netlink socket is to be had.
    #[error("no NETLINK_SOCK_DIAG socket: {0}")]
    Open(#[source] io::Error),
    /// The question could not be sent.
    #[error("cannot ask the kernel to {0}: {1}")]
    Send(Question, #[source] io::Error),
    /// The answer could not be read.
    #[error("no answer from the kernel, asked to {0}: {1}")]
    Receive(Question, #[source] io::Error),
    /// The answer did not come, or not to its end, in time.
    #[error("the kernel did not finish within {1:?}, asked to {0}")]
    TimedOut(Question, Duration),
    /// The answer is not what the protocol says.
    #[error("unreadable answer of the kernel, asked to {0}: {1}")]
    Malformed(Question, String),
    /// The kernel said no.
    #[error("the kernel refuses to {0}: {1}")]
    Refused(Question, #[source] io::Error),
}

impl Error {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Open(error)
            | Error::Send(_, error)
            | Error::Receive(_, error)
            | Error::Refused(_, error) => error.raw_os_error(),
            Error::TimedOut(..) | Error::Malformed(..) => None,
        }
    }
}
