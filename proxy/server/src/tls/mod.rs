//! TLS on either side (rustls, with ring): a TCP socket that encrypts ([`TlsStream`]), what a listener shows its clients
//! ([`ServerSide`]), what weir asks of a node ([`ClientSide`]), and the files both are read from (`files`),
//! and who a client is by its certificate (`names`).
//!
//! TLS 1.2 and 1.3 with rustls' own choice of cipher suites. A socket without TLS never comes here.

mod files;
mod names;
mod outcome;
mod stream;
mod verify;

pub use files::{ClientFiles, FileProblem, ServerFiles, client_side, server_side};
pub use names::{INVALID, caller_of};
pub use outcome::outcome;
pub use stream::TlsStream;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// What a listener shows its clients and asks of them. Two are equal when they are the same one.
#[derive(Clone, Debug)]
pub struct ServerSide(Arc<ServerConfig>);

impl ServerSide {
    /// The same for another library that accepts.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.0
    }
}

impl PartialEq for ServerSide {
    fn eq(&self, other: &ServerSide) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What weir shows the nodes of a cluster, or the servers of a service, and asks of them. Two are equal when they are the
/// same one.
#[derive(Clone, Debug)]
pub struct ClientSide {
    config: Arc<ClientConfig>,
    /// What looks at certificates in `config`.
    verifier: Arc<dyn ServerCertVerifier>,
    /// The name that certificates must bear; without it, the one that was dialled.
    name: Option<ServerName<'static>>,
}

impl PartialEq for ClientSide {
    fn eq(&self, other: &ClientSide) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl ClientSide {
    /// The same for the edge, which dials by itself.
    #[must_use]
    pub fn for_edge(&self) -> weir_edge::UpstreamTls {
        weir_edge::UpstreamTls::new(self.config.clone(), self.name.clone())
    }

    /// The same for a library that dials addresses and cannot be told a name: roots, certificate and the question about
    /// the name are those of every other connection to the cluster.
    #[must_use]
    pub fn for_addresses(&self) -> Arc<ClientConfig> {
        let Some(name) = &self.name else { return self.config.clone() };
        let mut config = ClientConfig::clone(&self.config);
        let verifier = verify::OwnName { verifier: self.verifier.clone(), name: name.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }
}
