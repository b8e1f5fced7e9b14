//! The files of both sides, in PEM: read when a configuration is read, so that `weir check`, the start and a reload tell
//! what is wrong with them, every file at once.
//!
//! Bound: [`FILE_MAX`] bytes of each.

use super::verify::AnyName;
use super::{ClientSide, ServerSide};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

/// Bytes of one file.
const FILE_MAX: u64 = 1 << 20;

/// The files of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerFiles<'a> {
    /// Its certificate, those that lead to the CA behind it.
    pub cert: &'a str,
    /// The key of the certificate.
    pub key: &'a str,
    /// CAs of which clients must show a certificate.
    pub client_ca: Option<&'a str>,
}

/// The files and choices of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClientFiles<'a> {
    /// CAs of which nodes must show a certificate.
    pub ca: &'a str,
    /// The certificate must bear the name: this one, or else the one that is dialled.
    pub verify_name: bool,
    /// The name.
    pub server_name: Option<&'a str>,
    /// What weir shows, certificate and key.
    pub own: Option<(&'a str, &'a str)>,
}

/// What is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// The configuration key that names it.
    pub key: &'static str,
    /// In words.
    pub what: String,
    /// It refuses the configuration.
    pub is_error: bool,
}

/// Everything that is found while files are read.
#[derive(Default)]
struct Found(Vec<FileProblem>);

impl Found {
    fn error(&mut self, key: &'static str, what: impl Into<String>) {
        self.0.push(FileProblem { key, what: what.into(), is_error: true });
    }

    fn read(&mut self, key: &'static str, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
        match read {
            Err(error) => self.error(key, format!("{path} cannot be read: {error}")),
            Ok(_) if bytes.len() as u64 > FILE_MAX => {
                self.error(key, format!("{path} is longer than {FILE_MAX} bytes"));
            }
            Ok(_) => return Some(bytes),
        }
        None
    }

    fn certificates(&mut self, key: &'static str, path: &str) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(key, path)?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Err(error) => self.error(key, format!("{path} is no PEM file: {error}")),
            Ok(all) if all.is_empty() => self.error(key, format!("{path} holds no certificate in PEM")),
            Ok(all) => return Some(all),
        }
        None
    }

    fn private_key(&mut self, key: &'static str, path: &str) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.read(key, path)?;
        if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
            let what = format!("every user of this machine can read the key {path}");
            self.0.push(FileProblem { key, what, is_error: false });
        }
        let read = PrivateKeyDer::from_pem_slice(&bytes);
        read.map_err(|error| self.error(key, format!("{path} holds no private key in PEM: {error}"))).ok()
    }

    /// CAs. One that rustls does not take refuses the file: it would be missed later.
    fn roots(&mut self, key: &'static str, path: &str) -> Option<Arc<RootCertStore>> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(key, path)? {
            if let Err(error) = roots.add(certificate) {
                self.error(key, format!("{path} holds a certificate that cannot be a CA: {error}"));
                return None;
            }
        }
        Some(Arc::new(roots))
    }

    /// `Some` when everything is there, with what is only worth a warning.
    fn end<T>(self, made: Option<T>) -> (Option<T>, Vec<FileProblem>) {
        let good = self.0.iter().all(|problem| !problem.is_error);
        (made.filter(|_| good), self.0)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads a listener's files. Nothing is made of files with an error; every problem is told.
#[must_use]
pub fn server_side(files: ServerFiles<'_>) -> (Option<ServerSide>, Vec<FileProblem>) {
    let mut found = Found::default();
    let chain = found.certificates("tls_cert", files.cert);
    let key = found.private_key("tls_key", files.key);
    let roots = files.client_ca.map(|path| found.roots("tls_client_ca", path));
    let made = make_server(&mut found, chain, key, roots);
    found.end(made)
}

fn make_server(
    found: &mut Found,
    chain: Option<Vec<CertificateDer<'static>>>,
    key: Option<PrivateKeyDer<'static>>,
    roots: Option<Option<Arc<RootCertStore>>>,
) -> Option<ServerSide> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| found.error("tls_cert", error.to_string()))
        .ok()?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots?, provider()).build();
            let verifier = verifier.map_err(|error| found.error("tls_client_ca", error.to_string())).ok()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let made = builder.with_single_cert(chain?, key?);
    made.map(|config| ServerSide(Arc::new(config)))
        .map_err(|error| found.error("tls_key", misfit(&error)))
        .ok()
}

/// Reads a cluster's files. Nothing is made of files with an error; every problem is told.
#[must_use]
pub fn client_side(files: ClientFiles<'_>) -> (Option<ClientSide>, Vec<FileProblem>) {
    let mut found = Found::default();
    let roots = found.roots("tls_ca", files.ca);
    let own = files.own.map(|(cert, key)| {
        (found.certificates("tls_client_cert", cert), found.private_key("tls_client_key", key))
    });
    let name = files.server_name.map(|name| {
        let read = ServerName::try_from(name.to_owned());
        read.map_err(|_| found.error("tls_server_name", format!("{name} is no host name and no address")))
            .ok()
    });
    let made = make_client(&mut found, roots, own, files.verify_name).map(|(config, verifier)| ClientSide {
        config: Arc::new(config),
        verifier,
        name: name.flatten(),
    });
    found.end(made)
}

type OwnFiles = (Option<Vec<CertificateDer<'static>>>, Option<PrivateKeyDer<'static>>);

fn make_client(
    found: &mut Found,
    roots: Option<Arc<RootCertStore>>,
    own: Option<OwnFiles>,
    verify_name: bool,
) -> Option<(ClientConfig, Arc<dyn ServerCertVerifier>)> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots?, provider()).build();
    let verifier = verifier.map_err(|error| found.error("tls_ca", error.to_string())).ok()?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| found.error("tls_ca", error.to_string()))
        .ok()?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if verify_name { verifier } else { Arc::new(AnyName(verifier)) };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier.clone());
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let made = builder.with_client_auth_cert(chain?, key?);
            made.map_err(|error| found.error("tls_client_key", misfit(&error))).ok()?
        }
    };
    Some((config, verifier))
}

fn misfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is not the certificate's".to_owned(),
        error => format!("certificate and key cannot be used: {error}"),
    }
}
