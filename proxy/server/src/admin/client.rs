//! Asks a running weir over its control socket.

use super::peer::Token;
use crate::config::address::parse_address;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use weir_engine::settings::Address;

/// Bytes of an answer: a snapshot of 1,024 callers is well below.
const ANSWER_MAX: usize = 64 << 20;
/// The longest wait for an answer; longer than the server's own time-out, so that its words arrive.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where the running weir is, and what lets us in.
#[derive(Debug)]
pub struct Client {
    address: Address,
    token: Option<Token>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no weir answers at {address}: {why}{}", hint(.address))]
    Unreachable {
        /// Where it was looked for.
        address: Address,
        /// What the system says.
        why: String,
    },
    /// It answers with a refusal.
    #[error("{message}")]
    Refused {
        /// The status.
        status: u16,
        /// In words.
        message: String,
    },
    /// It answers with something that is not understood: another version, or no weir.
    #[error("{address} does not answer like a weir: {why}")]
    Strange {
        /// Where.
        address: Address,
        /// What is strange.
        why: String,
    },
    /// The token file is of no use.
    #[error("{0}")]
    Token(#[from] std::io::Error),
}

fn hint(address: &Address) -> &'static str {
    match address {
        Address::Unix { .. } => " (name its socket with --admin unix:/path or WEIR_ADMIN)",
        _ => " (name it with --admin host:port or WEIR_ADMIN)",
    }
}

impl Client {
    /// A client of the weir at `address`, or at the place where one is by default.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn new(address: Option<&Address>, token_file: Option<&Path>) -> Result<Client, ClientError> {
        let address = match address {
            Some(address) => address.clone(),
            None => default_address()?,
        };
        Ok(Client { address, token: token_file.map(Token::read).transpose()? })
    }

    /// Where the weir is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.strange(error.to_string()))?;
        self.ask(method, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = async {
            match &self.address {
                Address::Tcp { host, port } => {
                    let stream = TcpStream::connect((&**host, *port)).await;
                    self.exchange(stream.map_err(|error| self.unreachable(&error))?, method, path, body).await
                }
                Address::Unix { path: socket } => {
                    let stream = UnixStream::connect(&**socket).await;
                    self.exchange(stream.map_err(|error| self.unreachable(&error))?, method, path, body).await
                }
                _ => Err(self.unreachable(&"this kind of address is not known")),
            }
        };
        // Dropping the exchange closes its connection; the server finishes a change it has begun.
        let (status, bytes) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| self.unreachable(&"it takes too long"))??;
        if !status.is_success() {
            #[derive(serde::Deserialize)]
            struct Refusal {
                error: String,
            }
            let message = serde_json::from_slice(&bytes)
                .map_or_else(|_| format!("weir answers {status}"), |refusal: Refusal| refusal.error);
            return Err(ClientError::Refused { status: status.as_u16(), message });
        }
        serde_json::from_slice(&bytes).map_err(|error| self.strange(error.to_string()))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| self.strange("a path of ours".to_owned()))?;
        let headers = request.headers_mut();
        let host = match &self.address {
            Address::Tcp { .. } => HeaderValue::from_str(&self.address.to_string()),
            _ => Ok(HeaderValue::from_static("localhost")),
        };
        headers.insert(HOST, host.map_err(|_| self.strange("the address is no host".to_owned()))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(header) = self.token.as_ref().and_then(Token::header) {
            headers.insert(AUTHORIZATION, header);
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let conversation = async {
            let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await
                .map_err(|error| self.strange(error.to_string()))?;
            drop(sender);
            Ok((status, body.to_bytes()))
        };
        // The connection must be driven while the conversation waits; its own end is told by the conversation.
        let (answer, _) = tokio::join!(conversation, connection);
        answer
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { address: self.address.clone(), why: why.to_string() }
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::Strange { address: self.address.clone(), why }
    }
}

fn default_address() -> Result<Address, ClientError> {
    let path = crate::config::host::default_admin_path();
    parse_address(&format!("unix:{}", path.display()))
        .map_err(|why| ClientError::Token(std::io::Error::other(why)))
}
