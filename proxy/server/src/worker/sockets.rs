//! The sockets of one worker: a byte stream that is TCP or Unix, a client's, and a lane's.

use super::churn::ChurnId;
use super::ready::Source;
use crate::caps::Place;
use crate::caps::files::OpenFile;
use crate::close::client_end::ClientEnds;
use crate::upstream::{Backoff, Connecting};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use weir_engine::caller::Identity;
use weir_engine::units::{ClientId, Instant, ListenerId};
use weir_telemetry::{BackendConnection, BackendMetrics, ClientConnection};

/// A connected byte stream, registered with the worker's runtime.
#[derive(Debug)]
pub enum Stream {
    /// TCP, NODELAY.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

impl Stream {
    /// Takes over an accepted TCP socket (non-blocking). Must be called inside a runtime.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn tcp(fd: OwnedFd) -> io::Result<Stream> {
        TcpStream::from_std(fd.into()).map(Stream::Tcp)
    }

    /// Takes over an accepted Unix socket (non-blocking). Must be called inside a runtime.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn unix(fd: OwnedFd) -> io::Result<Stream> {
        UnixStream::from_std(fd.into()).map(Stream::Unix)
    }

    /// Reads into `scratch`: how many bytes, 0 at the end of the stream. A short read also says that nothing more is
    /// there: tokio clears readiness then, and the next call registers the waker without a system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        let outcome = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        outcome.map_ok(|()| buffer.filled().len())
    }

    /// Whether a client that has closed its sending side still reads, as far as the kernel says.
    pub fn still_reads(&self, ends: &mut ClientEnds) -> bool {
        let Stream::Tcp(stream) = self else { return true };
        match (stream.peer_addr(), stream.local_addr()) {
            (Ok(client), Ok(weir)) => ends.still_reads(client, weir) == Some(true),
            _ => false, // it is reset already
        }
    }

    /// Writes what the socket takes now.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

/// How a client's sending side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Read when readable.
    Open,
    /// The engine takes no more for now; not polled until it is dirty again.
    Paused,
    /// The client closed it.
    Ended,
}

/// One client connection.
#[derive(Debug)]
pub struct ClientSocket {
    /// Its name in the engine.
    pub id: ClientId,
    /// Who it belongs to, as far as is known.
    pub identity: Arc<Identity>,
    /// The door it came in by.
    pub listener: ListenerId,
    /// The socket.
    pub stream: Stream,
    /// Its place on the ready list.
    pub source: Source,
    /// How its sending side stands.
    pub reading: Reading,
    /// A TCP client of this machine.
    pub loopback: bool,
    /// Something was written to it after it had closed its sending side.
    pub answered_late: bool,
    /// When it last sent anything.
    pub heard: Instant,
    /// Where its principal's connections are counted.
    pub churn: ChurnId,
    /// Counted as open until it is closed.
    pub counted: ClientConnection,
    /// Its place under the caps.
    pub place: Place,
    /// Its place among the open files.
    pub file: OpenFile,
}

/// One upstream connection of the fixed set, connected or not.
#[derive(Debug)]
pub struct LaneSocket<L> {
    /// Where to, from the engine.
    pub info: L,
    /// The address as shown.
    pub name: Arc<str>,
    /// Its place on the ready list.
    pub source: Source,
    /// How it stands.
    pub link: Link,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// The settings no longer have it: it is not connected again.
    pub retired: bool,
    /// The backend's handles.
    pub backend: Arc<BackendMetrics>,
    /// Counted in its state.
    pub counted: Option<BackendConnection>,
    /// Attempts that succeeded.
    pub opens: u64,
    /// Attempts that failed.
    pub open_errors: u64,
    /// Why it was last lost or could not be had.
    pub last_error: Option<String>,
}

/// How an upstream connection stands.
#[derive(Debug)]
pub enum Link {
    /// Waits until it tries again.
    Waiting(Instant),
    /// Dialling or authenticating.
    Connecting(Connecting),
    /// In use.
    Up(Stream),
    /// Gone for good.
    Gone,
}
