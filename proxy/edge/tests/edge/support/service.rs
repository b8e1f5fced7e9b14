//! A scripted service: tonic's server of gRPC behind hyper's connections, which count what reaches them. The method says
//! what it does.

use super::codec::Raw;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::{Code, Status};
use weir_engine::settings::Address;

/// What reached the service of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    /// Bytes of its body, once it was read to its end.
    pub body: Option<usize>,
}

/// What a service has seen.
#[derive(Debug, Default)]
pub struct Log {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Calls whose work was dropped before its end.
    pub cancelled: AtomicU64,
    /// `/health` answers 503.
    pub sick: std::sync::atomic::AtomicBool,
    /// Messages of streams produced.
    pub produced: AtomicU64,
    pub seen: Mutex<Vec<Seen>>,
}

impl Log {
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request reached the service")
    }
}

/// A service that runs. Dropping it kills it: its connections are cut.
pub struct Service {
    pub address: Address,
    pub log: Arc<Log>,
    accepting: AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

/// At a free TCP port, HTTP/2.
pub async fn start() -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    at_tcp(listener, Speaks::Http2)
}

pub fn at_tcp(listener: TcpListener, speaks: Speaks) -> Service {
    let address = listener.local_addr().expect("its address").into();
    let log = Arc::new(Log::default());
    let kept = log.clone();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, kept.clone(), speaks));
        }
    });
    Service { address, log, accepting: accepting.abort_handle() }
}

/// At a free TCP port, with TLS.
pub async fn at_tls(config: Arc<rustls::ServerConfig>, speaks: Speaks) -> Service {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").into();
    let log = Arc::new(Log::default());
    let kept = log.clone();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), kept.clone());
            connections.spawn(async move {
                // A handshake that fails is the test's to see at the other end.
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, log, speaks).await;
                }
            });
        }
    });
    Service { address, log, accepting: accepting.abort_handle() }
}

/// At a Unix socket, HTTP/2.
pub fn at_unix(path: &std::path::Path) -> Service {
    let listener = UnixListener::bind(path).expect("a socket");
    let address = Address::Unix { path: path.to_str().expect("text").into() };
    let log = Arc::new(Log::default());
    let kept = log.clone();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, kept.clone(), Speaks::Http2));
        }
    });
    Service { address, log, accepting: accepting.abort_handle() }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, log: Arc<Log>, speaks: Speaks) {
    log.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(move |request| answer(request, log.clone()));
    let io = TokioIo::new(stream);
    // A client that leaves is no error of the test.
    match speaks {
        Speaks::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(Local);
            let _ = builder.serve_connection(io, service).await;
        }
        Speaks::Http1 => {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    }
}

/// Tasks of a connection; they end with its streams.
#[derive(Clone, Copy)]
struct Local;

impl<F: std::future::Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        TokioExecutor::new().execute(future);
    }
}

async fn answer(request: Request<Incoming>, log: Arc<Log>) -> Result<Response<Body>, Infallible> {
    let index = {
        let mut seen = log.seen.lock().expect("no panic");
        let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
        seen.push(Seen { path, headers, body: None });
        seen.len() - 1
    };
    let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    Ok(if grpc { rpc(request, log, index).await } else { plain(request, log, index).await })
}

/// Notes that a call's work was dropped, unless it ended.
struct Work(Arc<Log>, bool);

impl Work {
    fn end(mut self) {
        self.1 = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn rpc(request: Request<Incoming>, log: Arc<Log>, index: usize) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let mut grpc =
        tonic::server::Grpc::new(Raw).apply_max_message_size_config(Some(64 << 20), Some(64 << 20));
    if method == "Bidi" {
        let echo = tower::service_fn(|request: tonic::Request<tonic::Streaming<Bytes>>| async move {
            Ok::<_, Status>(tonic::Response::new(request.into_inner()))
        });
        return grpc.streaming(echo, request).await;
    }
    if method.starts_with("Stream") {
        let stream = tower::service_fn(move |request: tonic::Request<Bytes>| {
            let (log, method) = (log.clone(), method.clone());
            async move {
                let count: u64 = text(request.get_ref()).parse().expect("a number");
                let work = Work(log.clone(), false);
                let messages = tokio_stream::iter(0..count).throttle(Duration::from_millis(2));
                let messages = messages.map(move |number| {
                    let _held = &work;
                    log.produced.fetch_add(1, Ordering::Relaxed);
                    Ok(Bytes::from(number.to_string()))
                });
                let end: Vec<Result<Bytes, Status>> = match method.as_str() {
                    "StreamFails" => vec![Err(Status::new(Code::DataLoss, "after all of them"))],
                    _ => Vec::new(),
                };
                Ok::<_, Status>(tonic::Response::new(messages.chain(tokio_stream::iter(end))))
            }
        });
        return grpc.server_streaming(stream, request).await;
    }
    let unary = tower::service_fn(move |request: tonic::Request<Bytes>| {
        let (log, method) = (log.clone(), method.clone());
        async move {
            let message = request.into_inner();
            log.seen.lock().expect("no panic")[index].body = Some(message.len());
            match method.as_str() {
                "Echo" => Ok(tonic::Response::new(message)),
                "Big" => Ok(tonic::Response::new(vec![7; text(&message).parse().expect("a number")].into())),
                "Fail" => Err(Status::new(Code::NotFound, "no such thing: \u{e9}")),
                "Slow" => {
                    let work = Work(log, false);
                    tokio::time::sleep(Duration::from_millis(text(&message).parse().expect("a number")))
                        .await;
                    work.end();
                    Ok(tonic::Response::new(Bytes::from_static(b"at last")))
                }
                other => Err(Status::unimplemented(other.to_owned())),
            }
        }
    });
    grpc.unary(unary, request).await
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// Echoes the body, unless the path is a status.
async fn plain(request: Request<Incoming>, log: Arc<Log>, index: usize) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Response::new(Body::empty());
    };
    let body = body.to_bytes();
    log.seen.lock().expect("no panic")[index].body = Some(body.len());
    let mut response = Response::builder();
    if let Some(kind) = head.headers.get("content-type") {
        response = response.header("content-type", kind);
    }
    if head.uri.path() == "/health" && log.sick.load(Ordering::Relaxed) {
        response = response.status(503);
    }
    if let Ok(status) = head.uri.path().trim_start_matches('/').parse::<u16>() {
        response = response.status(status);
    }
    response.header("x-service", "yes").body(Body::new(Full::new(body))).expect("a response")
}
