//! HTTP/1.0, as much as asking for a page takes. Bounds: [`super::PATIENCE`] for bytes to come.

use super::place::{Place, Stream};
use std::io::{Read as _, Write as _};
use std::path::Path;

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// A page on loopback; `headers` are whole lines with their ends.
pub fn get(port: u16, path: &str, headers: &str) -> Page {
    try_get(port, path, headers).expect("an answer")
}

/// The same, `None` while nobody answers.
pub fn try_get(port: u16, path: &str, headers: &str) -> Option<Page> {
    exchange(&Stream::connect(&Place::local(port)).ok()?, path, headers)
}

/// A page of a control socket.
pub fn get_unix(socket: &Path, path: &str) -> Page {
    let stream = Stream::connect(&Place::Unix(socket.to_owned())).expect("connected");
    exchange(&stream, path, "").expect("an answer")
}

fn exchange(mut stream: &Stream, path: &str, headers: &str) -> Option<Page> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Page { status, head: head.to_owned(), body: body.to_owned() })
}
