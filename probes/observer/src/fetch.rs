//! A page of another process over HTTP/1.1. Whoever answers may be anybody: time and size are bounded.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest wait for the whole of it.
    pub timeout: Duration,
    /// Bytes of its body.
    pub most: usize,
}

/// The body of `http://ADDRESS/PATH`, as text.
///
/// # Errors
/// Why there is none, in words.
pub async fn page(address: &str, path: &str, bounds: Bounds) -> Result<String, String> {
    match tokio::time::timeout(bounds.timeout, fetch(address, path, bounds.most)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no whole answer within {:?}", bounds.timeout)),
    }
}

async fn fetch(address: &str, path: &str, most: usize) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(ACCEPT, "text/plain")
        .body(Empty::<Bytes>::new())
        .map_err(|error| text(&error))?;
    let answered = async move {
        let reply = sender.send_request(request).await.map_err(|error| text(&error))?;
        if reply.status() != StatusCode::OK {
            return Err(format!("status {}", reply.status()));
        }
        let body = Limited::new(reply.into_body(), most).collect().await.map_err(|error| text(&error))?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| "the page is no UTF-8".to_owned())
    };
    // The connection moves the bytes; it ends after the answer, or the answer says why it did not come.
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        _ = &mut connection => answered.await,
    }
}
