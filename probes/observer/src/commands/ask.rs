//! Asking a running `weir-probes` for a page. Whoever answers may be anybody: time and size are bounded.

use super::Failure;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// The longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer: the largest page of the catalogue's caps has a few million.
const PAGE_MAX: usize = 32 << 20;

/// The body of `http://ADDRESS/PATH`.
pub(super) async fn ask(address: &str, path: &str) -> Result<String, Failure> {
    let told = |why: String| Failure::new(format!("{address} does not answer as weir-probes does: {why}"));
    match tokio::time::timeout(TIMEOUT, fetch(address, path)).await {
        Ok(answer) => answer.map_err(told),
        Err(_) => Err(told(format!("no whole answer within {} s", TIMEOUT.as_secs()))),
    }
}

async fn fetch(address: &str, path: &str) -> Result<String, String> {
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
        let body = Limited::new(reply.into_body(), PAGE_MAX).collect().await.map_err(|error| text(&error))?;
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
