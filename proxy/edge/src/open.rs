//! The first bytes of a client's connection: the TLS handshake, and which HTTP it speaks. Plain connections tell by their
//! first bytes (RFC 9113, 3.4), encrypted ones by ALPN. Bounded in time.

use crate::client::{Plain, Stream};
use bytes::Bytes;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// What a client of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is known well enough to be served.
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// What was read of it.
    pub(crate) front: Bytes,
    pub(crate) http2: bool,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    pub(crate) over_tls: bool,
}

/// Why a connection was not opened.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// The client sent nothing, or too slowly.
    Late,
    /// It left, or its TLS handshake failed.
    Failed(io::Error),
}

/// The client's first bytes, and what they say.
pub(crate) async fn open(
    plain: Plain,
    tls: Option<Arc<ServerConfig>>,
    time: Duration,
) -> Result<Opened, NotOpened> {
    let opened = async {
        match tls {
            Some(config) => encrypted(plain, config).await,
            None => told_by_bytes(plain).await,
        }
    };
    timeout(time, opened).await.map_err(|_| NotOpened::Late)?.map_err(NotOpened::Failed)
}

async fn encrypted(plain: Plain, config: Arc<ServerConfig>) -> io::Result<Opened> {
    let stream = TlsAcceptor::from(config).accept(plain).await?;
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let certificate = session.peer_certificates().and_then(|all| all.first()).cloned();
    let certificate = certificate.map(CertificateDer::into_owned);
    Ok(Opened {
        stream: Stream::Tls(Box::new(stream.into())),
        front: Bytes::new(),
        http2,
        certificate,
        over_tls: true,
    })
}

async fn told_by_bytes(mut plain: Plain) -> io::Result<Opened> {
    let mut read = Vec::with_capacity(PREFACE.len());
    let http2 = loop {
        // No more than the preface: what is left belongs to whoever reads on.
        let mut most = (&mut plain).take((PREFACE.len() - read.len()) as u64);
        if most.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&read) {
            break false;
        }
        if read.len() == PREFACE.len() {
            break true;
        }
    };
    Ok(Opened { stream: Stream::Plain(plain), front: read.into(), http2, certificate: None, over_tls: false })
}

/// A listener's TLS as the edge needs it: HTTP/2 is offered before HTTP/1.1.
#[must_use]
pub fn with_alpn(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
