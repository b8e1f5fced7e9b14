//! The sockets of one worker: a byte stream that is TCP or Unix, a client's, and a lane's.

use super::churn::ChurnId;
use super::handshakes::Handshake;
use super::ready::Source;
use crate::caps::Place;
use crate::caps::files::OpenFile;
use crate::close::client_end::ClientEnds;
use crate::tls::{ServerSide, TlsStream};
use crate::upstream::{Backoff, Connecting};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
    /// TCP, NODELAY, encrypted.
    Tls(Box<TlsStream>),
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

    /// Takes over an accepted TCP socket whose client is to speak TLS. Must be called inside a runtime.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub fn tls(fd: OwnedFd, side: &ServerSide) -> io::Result<Stream> {
        TlsStream::accept(TcpStream::from_std(fd.into())?, side).map(|stream| Stream::Tls(Box::new(stream)))
    }

    /// The TCP socket, encrypted or not.
    #[must_use]
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.tcp()),
            Stream::Unix(_) => None,
        }
    }

    /// Whether a TLS handshake has begun and is not done.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.is_handshaking())
    }

    /// The certificate (DER) that the peer showed and TLS believed, once there is one.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Tls(stream) => stream.peer_certificate(),
            _ => None,
        }
    }

    /// Whether a client at the end of whose stream weir is has also closed its socket. Asked when weir is about to close.
    pub fn peer_closed(&mut self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => true,
            Stream::Tls(stream) => stream.peer_closed(),
        }
    }

    /// Reads into `scratch`: how many bytes, 0 at the end of the stream. A short read also says that nothing more is
    /// there: tokio clears readiness then, and the next call registers the waker without a system call.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        let outcome = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Stream::Tls(stream) => return stream.poll_read(cx, scratch),
        };
        outcome.map_ok(|()| buffer.filled().len())
    }

    /// Whether a client that has closed its sending side still reads, as far as the kernel says.
    pub fn still_reads(&self, ends: &mut ClientEnds) -> bool {
        let Some(stream) = self.as_tcp() else { return true };
        match (stream.peer_addr(), stream.local_addr()) {
            (Ok(client), Ok(weir)) => ends.still_reads(client, weir) == Some(true),
            _ => false, // it is reset already
        }
    }

    /// Writes what the socket takes now. After [`Poll::Pending`] the next call must begin with the same bytes.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }
}

/// For what is said before the first request.
impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Stream::poll_read(self.get_mut(), cx, into.initialize_unfilled());
        read.map_ok(|length| into.advance(length))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Stream::poll_write(self.get_mut(), cx, bytes)
    }

    /// What was reported as written is with the kernel.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(_) => Poll::Ready(Ok(())), // dropping it says so
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.as_fd(),
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
    /// Its TLS handshake, while it lasts.
    pub handshake: Option<Handshake>,
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
