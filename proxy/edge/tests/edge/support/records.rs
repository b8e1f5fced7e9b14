//! A data plane behind a socket: gRPC, gRPC-web and Connect's unary calls of the preset's methods, in protobuf and JSON,
//! answered as `data_plane` says. Keys that are words of [`script`] make it do something else.

use crate::data_plane::{answer, methods};
use crate::json::{self, Spelling};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use weir_engine::settings::Address;
use weir_rpc::Method;
use weir_rpc::schema::prost_reflect::MethodDescriptor;

type Known = HashMap<String, (Arc<Method>, MethodDescriptor)>;

/// The methods, by path.
pub static METHODS: LazyLock<Known> = LazyLock::new(|| {
    let named = methods().into_iter().map(|(method, descriptor)| {
        let path = format!("/{}", method.name);
        (path, (method, descriptor))
    });
    named.collect()
});

/// What keys may tell it to do, anywhere in a request.
pub mod script {
    /// Work until the client is gone.
    pub const HANG: &str = "at://hang/";
    /// Fail with the status that follows, in two digits, once as many requests came as [`super::Log::fails_after`] says.
    pub const FAIL: &str = "at://fail/";
    /// Answer with one record more than there are keys.
    pub const LOSES: &str = "at://loses/";
    /// Say that the message is compressed.
    pub const COMPRESSED: &str = "at://compressed/";
    /// Break the stream off the first time.
    pub const FLAKY: &str = "at://flaky/";
    /// Answer with 1,000 bytes for each key.
    pub const BIG: &str = "at://big/";
}

#[derive(Debug, Default)]
pub struct Log {
    pub cancelled: AtomicU64,
    pub now: AtomicU64,
    pub most: AtomicU64,
    pub fails_after: AtomicU64,
    pub flakes: AtomicU64,
    pub seen: Mutex<Vec<HeaderMap>>,
}

impl Log {
    pub fn seen(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// One that runs. Dropping it kills it.
pub struct Records {
    pub address: Address,
    pub log: Arc<Log>,
    pub accepting: AbortHandle,
}

impl Drop for Records {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub async fn start() -> Records {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").into();
    let log = Arc::new(Log::default());
    let kept = log.clone();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let log = kept.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| respond(request, log.clone()));
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A client that leaves is no error of the test.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Records { address, log, accepting: accepting.abort_handle() }
}

/// Work on a request; dropped before its end it was cancelled.
struct Work(Arc<Log>, bool);

impl Work {
    fn begin(log: &Arc<Log>) -> Work {
        let now = log.now.fetch_add(1, Ordering::Relaxed) + 1;
        log.most.fetch_max(now, Ordering::Relaxed);
        Work(log.clone(), false)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        self.0.cancelled.fetch_add(u64::from(!self.1), Ordering::Relaxed);
    }
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

async fn respond(request: Request<Incoming>, log: Arc<Log>) -> io::Result<Reply> {
    let (head, body) = request.into_parts();
    log.seen.lock().expect("no panic").push(head.headers.clone());
    let mut work = Work::begin(&log);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let kind = head.headers["content-type"].to_str().expect("text").to_owned();
    let web = kind.starts_with("application/grpc-web");
    let grpc = kind.starts_with("application/grpc") && !web;
    let in_json = kind.ends_with("json");
    let message = if grpc || web { body.slice(5..) } else { body };
    let after = |word: &str| {
        let at = message.windows(word.len()).position(|window| window == word.as_bytes())?;
        Some(message.slice(at + word.len()..))
    };
    if after(script::HANG).is_some() {
        std::future::pending::<()>().await;
    }
    if after(script::FLAKY).is_some() && log.flakes.fetch_add(1, Ordering::Relaxed) == 0 {
        return Err(io::Error::other("a flake"));
    }
    if let Some(rest) = after(script::FAIL) {
        let status = std::str::from_utf8(&rest[..2]).expect("text").parse().expect("a number");
        while (log.seen() as u64) < log.fails_after.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        work.1 = true;
        return Ok(match (grpc, web) {
            (true, _) => grpc_error(status),
            (_, true) => web_error(status),
            _ => connect_error(status),
        });
    }
    let keys = message.windows(5).filter(|window| window == b"at://").count();
    let mut reply = if after(script::BIG).is_some() {
        // Field 1, 1,000 bytes.
        (0..keys).flat_map(|_| [&[0x0A, 0xE8, 0x07][..], &[0x5A; 1_000]].concat()).collect()
    } else {
        let (method, descriptor) = METHODS.get(head.uri.path()).expect("a method of the preset");
        match in_json {
            true => json::answer(method, descriptor, &message, Spelling::Camel),
            false => answer(method, descriptor, &message),
        }
    };
    if after(script::LOSES).is_some() && in_json {
        let text = String::from_utf8(reply).expect("text");
        reply = text.replacen("\"records\":[", "\"records\":[{},", 1).into_bytes();
    } else if after(script::LOSES).is_some() {
        reply.extend_from_slice(&[0x0A, 0]);
    }
    work.1 = true;
    let first = head.headers.get("x-asked").cloned();
    let mut response = Response::builder().header("x-keys", keys.to_string());
    if let Some(first) = first {
        response = response.header("x-asked", first);
    }
    let flags = u8::from(after(script::COMPRESSED).is_some());
    let prefixed = |reply: &[u8]| {
        let length = u32::try_from(reply.len()).expect("short").to_be_bytes();
        [&[flags], &length[..], reply].concat()
    };
    let response = response.header("content-type", kind);
    let response = if grpc {
        let body = prefixed(&reply);
        // In frames whose ends are nowhere near those of messages.
        let frames = body.chunks(10_007).map(|part| Frame::data(Bytes::copy_from_slice(part)));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        trailers.insert("x-keys-again", keys.into());
        let frames: Vec<_> = frames.chain([Frame::trailers(trailers)]).map(Ok).collect();
        response.body(StreamBody::new(tokio_stream::iter(frames)).boxed())
    } else if web {
        let body = [prefixed(&reply), web_trailers(&format!("grpc-status: 0\r\nx-keys-again: {keys}\r\n"))];
        let body = body.concat();
        let frames: Vec<_> =
            body.chunks(10_007).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
        response.body(StreamBody::new(tokio_stream::iter(frames)).boxed())
    } else {
        response.body(Full::new(reply.into()).boxed())
    };
    Ok(response.expect("a response"))
}

/// The last message of a gRPC-web body.
fn web_trailers(lines: &str) -> Vec<u8> {
    let length = u32::try_from(lines.len()).expect("short").to_be_bytes();
    [&[0x80], &length[..], lines.as_bytes()].concat()
}

/// With the status in the body, or for even ones in the head.
fn web_error(status: u8) -> Reply {
    let mut response = Response::builder().header("content-type", "application/grpc-web+proto");
    let body = if status.is_multiple_of(2) {
        let message = format!("no. {status}");
        response = response.header("grpc-status", status.to_string()).header("grpc-message", message);
        Vec::new()
    } else {
        web_trailers(&format!(
            "Grpc-Status: {status}\r\nGrpc-Message: no. {status}\r\nx-why: the part says\r\n"
        ))
    };
    response.body(Full::new(body.into()).boxed()).expect("a response")
}

/// With the status in the trailers, or for even ones in the head (trailers-only).
fn grpc_error(status: u8) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", u16::from(status).into());
    headers.insert("grpc-message", format!("no. {status}").parse().expect("text"));
    headers.insert("x-why", "the part says".parse().expect("text"));
    let mut response = Response::builder().header("content-type", "application/grpc");
    let body = if status.is_multiple_of(2) {
        response.headers_mut().expect("so far good").extend(headers);
        Full::default().boxed()
    } else {
        StreamBody::new(tokio_stream::iter([Ok(Frame::trailers(headers))])).boxed()
    };
    response.body(body).expect("a response")
}

fn connect_error(status: u8) -> Reply {
    let text = format!("{{\"code\":\"not_found\",\"message\":\"no. {status}\"}}");
    let response = Response::builder().status(404).header("content-type", "application/json");
    response.header("x-why", "the part says").body(Full::new(text.into()).boxed()).expect("a response")
}
