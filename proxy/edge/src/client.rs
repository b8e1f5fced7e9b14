//! A client's connection: who is at the other end, and the socket as pingora takes it.

use bytes::{Buf as _, Bytes};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::ALPN;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use pingora_http::ResponseHeader;
use rustls::pki_types::CertificateDer;
use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsStream;

/// Small writes of an HTTP/1.1 reply (head, chunk sizes) leave together.
const WRITE_BUFFER: usize = 4 << 10;

/// The client has closed its side.
const CLOSED: u8 = 1;
/// Reading or writing failed.
const BROKEN: u8 = 2;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket; the kernel's word on the process that connected, where it gives one.
    Unix {
        /// Its user.
        uid: Option<u32>,
        /// Its process id.
        pid: Option<i32>,
    },
}

/// One connection of a client, shared by its requests.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    certificate: Option<CertificateDer<'static>>,
    over_tls: bool,
    opened: Instant,
    /// Requests so far.
    requests: AtomicU32,
    /// Requests under way.
    under_way: AtomicU32,
    /// Microseconds after `opened`, and one, at which the first byte of a head came; 0 while none is being read.
    head_since: AtomicU64,
    /// Microseconds after `opened` at which the last request ended.
    quiet_since: AtomicU64,
    /// What the socket has said: 0 nothing yet, [`CLOSED`] or [`BROKEN`].
    end: AtomicU8,
    leave: watch::Sender<bool>,
}

impl Client {
    pub(crate) fn new(peer: Peer, over_tls: bool, certificate: Option<CertificateDer<'static>>) -> Client {
        Client {
            peer,
            certificate,
            over_tls,
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            under_way: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            quiet_since: AtomicU64::new(0),
            end: AtomicU8::new(0),
            leave: watch::Sender::new(false),
        }
    }

    /// Who connected.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The certificate that the client showed and the listener verified.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// The connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.over_tls
    }

    /// Told to end after what is under way: GOAWAY, `Connection: close`.
    pub(crate) fn leave(&self) {
        self.leave.send_replace(true);
    }

    pub(crate) fn leaving(&self) -> watch::Receiver<bool> {
        self.leave.subscribe()
    }

    /// A request's head is there. Says the how manieth it is.
    pub(crate) fn began(&self) -> u32 {
        self.head_since.store(0, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn ended(&self) {
        self.quiet_since.store(self.opened.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// For how long no request has been under way; nothing while one is.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        let since = Duration::from_micros(self.quiet_since.load(Ordering::Relaxed));
        let quiet = self.under_way.load(Ordering::Relaxed) == 0;
        quiet.then(|| self.opened.elapsed().saturating_sub(since))
    }

    /// What the socket has said of its end: closed by the client, or broken. The first word counts.
    pub(crate) fn end_seen(&self) -> Option<Result<(), ()>> {
        match self.end.load(Ordering::Relaxed) {
            CLOSED => Some(Ok(())),
            BROKEN => Some(Err(())),
            _ => None,
        }
    }

    /// A read of the socket ended so, having read so many bytes.
    fn heard(&self, read: &Poll<io::Result<()>>, bytes: usize) {
        match read {
            Poll::Ready(Ok(())) if bytes == 0 => self.saw(CLOSED),
            // TLS without its farewell: most clients just close.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.saw(CLOSED),
            Poll::Ready(Err(_)) => self.saw(BROKEN),
            _ => {}
        }
    }

    fn saw(&self, end: u8) {
        let _ = self.end.compare_exchange(0, end, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Bytes came that belong to the head of an HTTP/1.1 request, unless one is under way.
    fn head_bytes(&self) {
        if self.under_way.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            let now = self.opened.elapsed().as_micros() as u64 + 1;
            self.head_since.store(now, Ordering::Relaxed);
        }
    }

    /// For how long the head that is being read has been on its way.
    pub(crate) fn head_takes(&self) -> Option<Duration> {
        let since = self.head_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.opened.elapsed().saturating_sub(Duration::from_micros(since)))
    }
}

/// A socket without encryption.
#[derive(Debug)]
pub(crate) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Plain {
    fn fd(&self) -> i32 {
        match self {
            Plain::Tcp(stream) => stream.as_raw_fd(),
            Plain::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// A client's socket or one to a service, or what is above it.
pub(crate) enum Stream {
    Plain(Plain),
    Tls(Box<TlsStream<Plain>>),
}

macro_rules! on_each {
    ($self:ident, $stream:ident => $does:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $does,
            Self::Unix($stream) => $does,
        }
    };
}

impl AsyncRead for Plain {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

macro_rules! above {
    ($self:ident, $stream:ident => $does:expr) => {
        match $self.get_mut() {
            Self::Plain($stream) => $does,
            Self::Tls($stream) => $does,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        above!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        above!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        above!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        above!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        above!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A client's connection as pingora takes it. Which HTTP it speaks is known already: pingora is told by the ALPN answer,
/// and never looks for itself (its own look waits for 24 bytes without a time limit).
pub(crate) struct Socket {
    stream: BufWriter<Stream>,
    /// Bytes that were read to learn what it speaks.
    front: Bytes,
    http2: bool,
    fd: i32,
    client: Arc<Client>,
    digest: Arc<ProxyDigest>,
}

impl Socket {
    pub(crate) fn new(stream: Stream, front: Bytes, http2: bool, client: Arc<Client>) -> Socket {
        let fd = match &stream {
            Stream::Plain(plain) => plain.fd(),
            Stream::Tls(tls) => tls.get_ref().0.fd(),
        };
        if !front.is_empty() && !http2 {
            client.head_bytes();
        }
        // Pingora hands this to each request; the reply in it is one of a proxy that is not there.
        let nothing = ResponseHeader::from(http::Response::new(()).into_parts().0);
        let digest = Arc::new(ProxyDigest::new(Box::new(nothing), Some(Box::new(client.clone()))));
        Socket { stream: BufWriter::with_capacity(WRITE_BUFFER, stream), front, http2, fd, client, digest }
    }
}

/// The client of a pingora session.
pub(crate) fn of_digest(user_data: Option<&(dyn Any + Send + Sync)>) -> Option<Arc<Client>> {
    user_data?.downcast_ref::<Arc<Client>>().cloned()
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("peer", &self.client.peer).field("http2", &self.http2).finish()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.front.is_empty() {
            let most = buf.remaining().min(self.front.len());
            buf.put_slice(&self.front[..most]);
            self.front.advance(most);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let room = buf.remaining() > 0;
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if room {
            self.client.heard(&read, buf.filled().len() - before);
        }
        if !self.http2 && buf.filled().len() > before {
            self.client.head_bytes();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        if matches!(wrote, Poll::Ready(Err(_))) {
            self.client.saw(BROKEN);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Err(_))) {
            self.client.saw(BROKEN);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait::async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // Whoever is gone cannot be told.
        let _ = self.stream.shutdown().await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.fd
    }
}

impl Ssl for Socket {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Socket {}
