//! TLS with the servers of a service: what is shown, what is asked, and that both sides agree on the HTTP they speak.

use crate::client::{Plain, Stream};
use crate::settings::UpstreamProtocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use weir_engine::settings::Address;

/// TLS with the servers of a service. Two are equal when they are the same one.
#[derive(Clone)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl UpstreamTls {
    /// Roots, certificate and the question about the name are those of `config`; its ALPN is not. `name`: what every
    /// certificate must bear; without it, the host that is dialled.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>, name: Option<ServerName<'static>>) -> UpstreamTls {
        UpstreamTls { config, name }
    }

    /// For the dials of one protocol, which is offered by ALPN, and no other.
    pub(super) fn offering(&self, protocol: UpstreamProtocol) -> Handshake {
        let mut config = ClientConfig::clone(&self.config);
        let (alpn, must_agree) = match protocol {
            UpstreamProtocol::Http2 => (&b"h2"[..], true),
            UpstreamProtocol::Http1 => (&b"http/1.1"[..], false),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        Handshake { connector: Arc::new(config).into(), name: self.name.clone(), must_agree }
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &UpstreamTls) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for UpstreamTls {}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a dial goes on with.
#[derive(Clone)]
pub(super) struct Handshake {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
    /// A server that names no protocol speaks HTTP/1.1, and is of no use here.
    must_agree: bool,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Handshake {
    pub(super) async fn shake(&self, plain: Plain, address: &Address) -> io::Result<Stream> {
        let name = match (&self.name, address) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp { host, .. }) => {
                ServerName::try_from(host.to_string()).map_err(io::Error::other)?
            }
            (None, other) => return Err(io::Error::other(format!("{other} has no name for a certificate"))),
        };
        let stream = self.connector.connect(name, plain).await?;
        if self.must_agree && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let error = rustls::Error::General("the server offers no HTTP/2 (h2 by ALPN)".to_owned());
            return Err(io::Error::other(error));
        }
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}
