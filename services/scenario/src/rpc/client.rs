//! One connection of a client, and one call on it.

use super::messages::{prefix, unframed};
use super::{CONNECTION_WINDOW, METHOD, PREFIX, STREAM_WINDOW};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A way to send a call. Of HTTP/2 it can be cloned: calls share the connection.
pub enum Sender {
    /// gRPC.
    Http2(http2::SendRequest<Full<Bytes>>),
    /// Connect.
    Http1(http1::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// Dials, and says HTTP/2 (gRPC) or HTTP/1.1 (Connect). The connection lives in a task of its own.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn dial(server: SocketAddr, connect: bool) -> Result<Sender> {
        let stream = TcpStream::connect(server).await.context("connect")?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        Ok(if connect {
            let (sender, connection) = http1::handshake(stream).await?;
            // Its end is seen by the calls on it.
            tokio::spawn(connection);
            Sender::Http1(sender)
        } else {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(stream)
                .await?;
            // The same.
            tokio::spawn(connection);
            Sender::Http2(sender)
        })
    }

    /// One more on the same connection.
    pub fn another(&self) -> Option<Sender> {
        match self {
            Sender::Http2(sender) => Some(Sender::Http2(sender.clone())),
            Sender::Http1(_) => None,
        }
    }

    /// Room in front of a message for what this protocol puts there.
    pub fn room(&self) -> usize {
        match self {
            Sender::Http2(_) => PREFIX,
            Sender::Http1(_) => 0,
        }
    }

    /// Calls the method of `rpc-load` with a message that stands behind its [`Sender::room`]; returns the reply's message.
    ///
    /// # Errors
    /// When the connection ends, or the answer is an error: the text says which.
    pub async fn call(&mut self, server: &str, body: BytesMut) -> Result<Bytes> {
        self.call_path(server, METHOD, &[], body).await
    }

    /// Calls the method of this path, with these headers besides.
    ///
    /// # Errors
    /// As above; a status of gRPC is a [`GrpcStatus`].
    pub async fn call_path(
        &mut self,
        server: &str,
        path: &str,
        headers: &[(&str, &str)],
        mut body: BytesMut,
    ) -> Result<Bytes> {
        let mut request = Request::post(match self {
            Sender::Http2(_) => format!("http://{server}{path}"),
            Sender::Http1(_) => path.to_owned(),
        });
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match self {
            Sender::Http2(sender) => {
                let length = body.len() - PREFIX;
                body[..PREFIX].copy_from_slice(&prefix(length));
                let request =
                    request.header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
                let request = request.body(Full::new(body.freeze()))?;
                sender.ready().await?;
                let reply = sender.send_request(request).await?;
                let early = said(reply.headers());
                let collected = reply.into_body().collect().await?;
                let status = collected.trailers().and_then(said).or(early);
                match status {
                    Some((0, _)) => unframed(collected.to_bytes()),
                    Some((code, text)) => Err(GrpcStatus { code, text }.into()),
                    None => bail!("no gRPC status"),
                }
            }
            Sender::Http1(sender) => {
                let request = request
                    .header(header::HOST, server)
                    .header(header::CONTENT_TYPE, "application/proto")
                    .header("connect-protocol-version", "1")
                    .body(Full::new(body.freeze()))?;
                sender.ready().await?;
                let reply = sender.send_request(request).await?;
                let status = reply.status();
                let body = reply.into_body().collect().await?.to_bytes();
                ensure!(status == StatusCode::OK, "HTTP status {status}: {}", String::from_utf8_lossy(&body));
                Ok(body)
            }
        }
    }
}

/// An answer of gRPC that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// As gRPC numbers them.
    pub code: u32,
    /// What is said besides.
    pub text: String,
}

impl std::fmt::Display for GrpcStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gRPC status {}: {}", self.code, self.text)
    }
}

impl std::error::Error for GrpcStatus {}

/// The status and the text of headers or trailers of gRPC.
fn said(headers: &header::HeaderMap) -> Option<(u32, String)> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let text = headers.get("grpc-message").map_or("", |text| text.to_str().unwrap_or_default());
    Some((status, text.to_owned()))
}
