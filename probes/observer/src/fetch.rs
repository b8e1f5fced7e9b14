//! A page of another process over HTTP/1.1. Whoever answers may be anybody: time and size are bounded.

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
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
    Peer::at(address).page(path, bounds).await
}

/// Somebody who is asked again and again, over one connection while it lasts: on a machine that has run out of local ports
/// a second one could not be opened.
#[derive(Debug)]
pub struct Peer {
    address: String,
    /// The connection, while nothing is asked over it.
    idle: Option<SendRequest<Empty<Bytes>>>,
}

impl Peer {
    /// At `HOST:PORT`; nothing is opened yet.
    #[must_use]
    pub fn at(address: &str) -> Peer {
        Peer { address: address.to_owned(), idle: None }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The body of a page, as text. Dropped before it is done, it leaves no connection behind.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn page(&mut self, path: &str, bounds: Bounds) -> Result<String, String> {
        match tokio::time::timeout(bounds.timeout, self.fetch(path, bounds.most)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no whole answer within {:?}", bounds.timeout)),
        }
    }

    async fn fetch(&mut self, path: &str, most: usize) -> Result<String, String> {
        // The other end may close an idle connection at any time: then there is a new one.
        if let Some(sender) = self.idle.take()
            && let Ok(page) = self.over(sender, path, most).await
        {
            return Ok(page);
        }
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It moves the bytes, and ends with the sender or with the other end; how, the answer says.
        tokio::spawn(connection);
        self.over(sender, path, most).await
    }

    async fn over(
        &mut self,
        mut sender: SendRequest<Empty<Bytes>>,
        path: &str,
        most: usize,
    ) -> Result<String, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        sender.ready().await.map_err(|error| text(&error))?;
        let request = Request::get(path)
            .header(HOST, &self.address)
            .header(ACCEPT, "text/plain")
            .body(Empty::<Bytes>::new())
            .map_err(|error| text(&error))?;
        let reply = sender.send_request(request).await.map_err(|error| text(&error))?;
        if reply.status() != StatusCode::OK {
            return Err(format!("status {}", reply.status()));
        }
        let body = Limited::new(reply.into_body(), most).collect().await.map_err(|error| text(&error))?;
        let page =
            String::from_utf8(body.to_bytes().into()).map_err(|_| "the page is no UTF-8".to_owned())?;
        self.idle = Some(sender);
        Ok(page)
    }
}
