//! A TCP socket that encrypts: the same calls as a plain one, for the worker's loop and for an upstream handshake.
//!
//! The TLS handshake needs no state of its own: reading drives it, and nothing is delivered before it is done.
//!
//! Bounds: at most [`RECORDS_MAX`] plain bytes are encrypted ahead of the socket, and what a peer may send ahead of its
//! reader is one TLS record (16 KiB) beyond what the reader asked for.

use super::{ClientSide, ServerSide};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

/// Plain bytes that are encrypted before the socket has taken them.
const RECORDS_MAX: usize = 64 << 10;

/// A TCP socket that encrypts.
pub struct TlsStream {
    io: TcpStream,
    session: Connection,
    /// Plain bytes of the caller that are encrypted, and not reported as written before the socket has them.
    encrypted: usize,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("io", &self.io).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// The listener's end of an accepted socket. Its handshake happens while it is read.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn accept(io: TcpStream, side: &ServerSide) -> io::Result<TlsStream> {
        let session = ServerConnection::new(side.0.clone()).map_err(invalid)?;
        Ok(TlsStream::new(io, Connection::Server(session)))
    }

    /// Weir's end of a connection to a node, its handshake done. `host` is the name that was dialled. No time limit of its
    /// own: dropping the future gives it up.
    ///
    /// # Errors
    /// What the socket or TLS says, rustls' words included.
    pub async fn connect(io: TcpStream, side: &ClientSide, host: &str) -> io::Result<TlsStream> {
        let name = match &side.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error} (tls_server_name)"))
            })?,
        };
        let session = ClientConnection::new(side.config.clone(), name).map_err(invalid)?;
        let mut stream = TlsStream::new(io, Connection::Client(session));
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn new(io: TcpStream, mut session: Connection) -> TlsStream {
        session.set_buffer_limit(Some(RECORDS_MAX));
        TlsStream { io, session, encrypted: 0 }
    }

    /// The socket underneath.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.io
    }

    /// Whether the handshake is not done yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// The certificate that the peer showed and rustls believed (DER), once the handshake is done.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        if self.session.is_handshaking() {
            return None;
        }
        self.session.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Whether the peer has closed the socket, not only ended its session. For a socket that is about to be closed: a byte
    /// and the wakers may be lost.
    pub fn peer_closed(&mut self) -> bool {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.io).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        matches!(read, Poll::Ready(Ok(()))) && buffer.filled().is_empty()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_sent(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_records(cx))? == 0 {
                let what = "the peer closed the connection during the TLS handshake";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
            }
        }
    }

    /// Reads plain bytes, as many as are there and fit; 0 at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        while filled < into.len() {
            // Answers of the handshake; what does not fit into the socket goes when it is writable.
            if let Poll::Ready(sent) = self.poll_sent(cx) {
                sent?;
            }
            match self.session.reader().read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(length) => {
                    filled += length;
                    continue;
                }
                // An end without a word of TLS is an end: both protocols say how long their messages are.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_records(cx) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if filled > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(filled))
    }

    /// Writes plain bytes; those it reports are with the kernel, encrypted. After [`Poll::Pending`] the next call must begin
    /// with the same bytes: they may be encrypted already.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.session.is_handshaking() {
            return Poll::Pending; // reading goes on with it, and nobody is owed anything yet
        }
        ready!(self.poll_sent(cx))?;
        if self.encrypted == 0 {
            self.encrypted = self.session.writer().write(bytes)?;
            ready!(self.poll_sent(cx))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.encrypted)))
    }

    /// Writes encrypted bytes until none is left.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket { io: &mut self.io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once from the socket and opens what is whole; 0 at its end.
    fn poll_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.session.read_tls(&mut Socket { io: &mut self.io, cx }) {
            Ok(0) => Poll::Ready(Ok(0)),
            Ok(length) => match self.session.process_new_packets() {
                Ok(_) => Poll::Ready(Ok(length)),
                Err(error) => {
                    // The alert that tells the peer why: best effort, the connection is over.
                    let _ = self.poll_sent(cx);
                    Poll::Ready(Err(invalid(error)))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for TlsStream {
    /// Ends the session in TLS' own way, as far as the socket takes it at once.
    fn drop(&mut self) {
        if !self.session.is_handshaking() {
            self.session.send_close_notify();
            let _ = self.poll_sent(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The socket as rustls reads and writes it: what would have to wait is `WouldBlock`, and the waker is registered.
struct Socket<'s, 'c, 'w> {
    io: &'s mut TcpStream,
    cx: &'c mut Context<'w>,
}

fn now<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Socket<'_, '_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        now(Pin::new(&mut *self.io).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl io::Write for Socket<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.io).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.io).poll_write_vectored(self.cx, pieces))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
