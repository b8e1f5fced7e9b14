//! A bsky.Service that answers each key of GetPostRecords, whose calls of more than one key can be held, and which knows
//! what it was sent. gRPC, and Connect's unary calls.

use super::runtime;
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Keys that begin like this have an empty record.
pub const MISSING: &str = "missing:";

/// A field of bytes.
fn write(number: u8, value: &[u8], into: &mut Vec<u8>) {
    weir_rpc::wire::write_len(number.into(), value, into);
}

/// A request for these keys, with a field beside them.
pub fn request(keys: &[String]) -> Bytes {
    let mut message = Vec::new();
    keys.iter().for_each(|key| write(1, key.as_bytes(), &mut message));
    write(3, b"did:plc:viewer", &mut message);
    message.into()
}

/// The values of one field of a message.
pub fn fields(message: &Bytes, number: u32) -> Vec<Bytes> {
    let all = weir_rpc::wire::Fields::new(message).map(|field| field.expect("protobuf"));
    all.filter(|field| field.tag.number == number).map(|field| message.slice(field.value)).collect()
}

/// What it says to a request: records and metadata in the order of the keys; a thread for those in one.
fn reply(message: &Bytes) -> Result<Vec<u8>, &'static str> {
    assert_eq!(fields(message, 3), ["did:plc:viewer"], "every part has what stands beside the keys");
    let (mut records, mut rest) = (Vec::new(), Vec::new());
    for key in fields(message, 1) {
        let mut record = Vec::new();
        if key == "fail" {
            return Err("this key");
        }
        if !key.starts_with(MISSING.as_bytes()) {
            write(1, &[b"record of ", &key[..]].concat(), &mut record);
        }
        write(1, &record, &mut records);
        write(2, &[0x10, u8::from(key.len() % 2 == 0)], &mut rest);
    }
    if fields(message, 1).iter().any(|key| key == "unknown") {
        write(9, b"new in this version", &mut rest);
    }
    records.extend(rest);
    Ok(records)
}

#[derive(Default)]
struct Told {
    calls: Mutex<Vec<usize>>,
    now: AtomicUsize,
}

/// The service, on a thread of its own.
pub struct Keyed {
    pub port: u16,
    /// Most calls of more than one key at once.
    pub most: Arc<AtomicUsize>,
    told: Arc<Told>,
    hold: watch::Sender<bool>,
    end: watch::Sender<bool>,
}

impl Drop for Keyed {
    fn drop(&mut self) {
        self.end.send_replace(true);
    }
}

impl Keyed {
    pub fn start() -> Keyed {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (end, mut ended) = watch::channel(false);
        let (hold, held) = watch::channel(false);
        let (told, most): (Arc<Told>, Arc<AtomicUsize>) = Default::default();
        let ours = (told.clone(), most.clone());
        std::thread::spawn(move || {
            runtime().block_on(async move {
                listener.set_nonblocking(true).expect("non-blocking");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    // Cancel-safe: a connection that was not taken waits.
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.expect("a connection").0,
                        _ = ended.wait_for(|end| *end) => return,
                    };
                    let (told, most, held) = (ours.0.clone(), ours.1.clone(), held.clone());
                    tokio::spawn(async move {
                        let service = service_fn(move |request| {
                            answer(request, told.clone(), most.clone(), held.clone())
                        });
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        // A client that leaves is no error of the test.
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        Keyed { port, most, told, hold, end }
    }

    /// Calls of more than one key are kept from now on, or go on.
    pub fn hold(&self, on: bool) {
        self.hold.send_replace(on);
    }

    /// Calls of more than one key that are not answered.
    pub fn parts_held(&self) -> usize {
        self.told.now.load(Ordering::Relaxed)
    }

    /// Keys of each call, in their order.
    pub fn calls(&self) -> Vec<usize> {
        self.told.calls.lock().expect("no panic").clone()
    }
}

/// Counts one call while it is there, also one that is cancelled.
struct Here(Arc<Told>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

type Reply = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    told: Arc<Told>,
    most: Arc<AtomicUsize>,
    mut held: watch::Receiver<bool>,
) -> Result<hyper::Response<Reply>, hyper::Error> {
    let (head, body) = request.into_parts();
    let kind = head.headers["content-type"].clone();
    let grpc = kind == "application/grpc";
    let mut message = body.collect().await?.to_bytes();
    if grpc {
        message.advance(5);
    }
    let keys = fields(&message, 1).len();
    told.calls.lock().expect("no panic").push(keys);
    if keys > 1 {
        let now = told.now.fetch_add(1, Ordering::Relaxed) + 1;
        most.fetch_max(now, Ordering::Relaxed);
        let _here = Here(told);
        let _ = held.wait_for(|held| !held).await;
    }
    let (message, status) = match reply(&message) {
        Ok(message) => (message, Ok(())),
        Err(words) => (Vec::new(), Err(words)),
    };
    let response = hyper::Response::builder().header("content-type", kind);
    let body = match (grpc, status) {
        (false, _) => http_body_util::Full::new(Bytes::from(message)).boxed(),
        (true, Ok(())) => {
            let mut framed = vec![0];
            framed.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
            framed.extend(message);
            http_body_util::Full::new(Bytes::from(framed)).with_trailers(trailers(0, "")).boxed()
        }
        (true, Err(words)) => http_body_util::Full::default().with_trailers(trailers(15, words)).boxed(),
    };
    Ok(response.body(body).expect("a response"))
}

async fn trailers(status: u32, words: &'static str) -> Option<Result<hyper::HeaderMap, Infallible>> {
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    if !words.is_empty() {
        trailers.insert("grpc-message", words.parse().expect("a value"));
    }
    Some(Ok(trailers))
}

/// One HTTP/1.1 request on a connection of its own: head and body of the answer, the latter without marks of chunks.
pub fn http1(port: u16, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let head =
        format!("{head}\r\nhost: weir.test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = answer.split_off(end);
    let head = String::from_utf8(answer).expect("text");
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n");
    (head, if chunked { unchunked(&body) } else { body })
}

/// A body that ends in its middle is what came of it.
fn unchunked(mut left: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = left.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&left[..line]).expect("a size");
        let chunk = &left[line + 2..];
        let size = usize::from_str_radix(size, 16).expect("a size").min(chunk.len());
        body.extend_from_slice(&chunk[..size]);
        left = chunk.get(size + 2..).unwrap_or_default();
    }
    body
}
