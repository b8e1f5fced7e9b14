//! What the tests of calls share: a scripted bsky.Service and a client, both tonic's, whose messages are bytes.

#![allow(dead_code, reason = "each test program is compiled with all of this and uses a part of it")]

pub mod keyed;
pub mod scripted;

use bytes::{Buf as _, BufMut as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io::{BufRead as _, Write as _};
use std::sync::{Arc, Mutex};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The method that most tests call.
pub const POSTS: &str = "bsky.Service/GetPostRecords";

/// A codec whose messages are bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A message with `count` elements of field 1: a request's `uris`, a reply's `records`.
pub fn elements(count: usize) -> Bytes {
    let mut message = Vec::new();
    for number in 0..count {
        let text = format!("at://did:plc:abc/app.bsky.feed.post/{number}");
        message.extend([0x0a, u8::try_from(text.len()).expect("short")]);
        message.extend(text.as_bytes());
    }
    message.into()
}

/// What reached the service of one call.
#[derive(Clone, Debug)]
pub struct Seen {
    pub headers: hyper::HeaderMap,
    pub bytes: usize,
}

/// A service that answers every call with as many records as its method's script says: on a thread of its own.
pub struct Service {
    pub port: u16,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    end: tokio::sync::watch::Sender<bool>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end.send_replace(true);
    }
}

impl Service {
    /// Replies have `rows` records. With the port of a memcached listener it first reads `key` there, and says the call's id.
    pub fn start(rows: usize, cache: Option<u16>) -> Service {
        Service::start_at(rows, cache, None)
    }

    /// The same with TLS.
    pub fn start_tls(rows: usize, tls: Arc<rustls::ServerConfig>) -> Service {
        Service::start_at(rows, None, Some(tls.into()))
    }

    fn start_at(rows: usize, cache: Option<u16>, tls: Option<tokio_rustls::TlsAcceptor>) -> Service {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (end, mut ended) = tokio::sync::watch::channel(false);
        let log = seen.clone();
        std::thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async move {
                listener.set_nonblocking(true).expect("non-blocking");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    // Cancel-safe: a connection that was not taken waits.
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.expect("a connection").0,
                        _ = ended.wait_for(|end| *end) => return,
                    };
                    let (log, tls) = (log.clone(), tls.clone());
                    tokio::spawn(async move {
                        let service = service_fn(move |request| answer(request, log.clone(), rows, cache));
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        // A client that leaves, or fails the handshake, is no error of the test.
                        match tls {
                            None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    drop(builder.serve_connection(TokioIo::new(stream), service).await);
                                }
                            }
                        }
                    });
                }
            });
        });
        Service { port, seen, end }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    log: Arc<Mutex<Vec<Seen>>>,
    rows: usize,
    cache: Option<u16>,
) -> Result<hyper::Response<tonic::body::Body>, Infallible> {
    let headers = request.headers().clone();
    let index = {
        let mut seen = log.lock().expect("no panic");
        seen.push(Seen { headers: headers.clone(), bytes: 0 });
        seen.len() - 1
    };
    if headers.get("content-type").is_none_or(|kind| kind != "application/grpc") {
        let body = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        log.lock().expect("no panic")[index].bytes = body;
        return Ok(hyper::Response::new(tonic::body::Body::empty()));
    }
    let mut grpc =
        tonic::server::Grpc::new(Raw).apply_max_message_size_config(Some(64 << 20), Some(64 << 20));
    let unary = tower::service_fn(move |request: tonic::Request<Bytes>| {
        log.lock().expect("no panic")[index].bytes = request.get_ref().len();
        if let Some(port) = cache {
            let trace = headers["traceparent"].to_str().expect("text").to_owned();
            read_cache(port, &trace);
        }
        async move { Ok::<_, Status>(tonic::Response::new(elements(rows))) }
    });
    Ok(grpc.unary(unary, request).await)
}

/// What a service does on a call's behalf: three reads, with the call's id as their opaque.
fn read_cache(port: u16, traceparent: &str) {
    let id = weir_engine::correlate::CorrelationId::parse(traceparent).expect("an id").short();
    let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let mut stream = std::io::BufReader::new(stream);
    for _ in 0..3 {
        stream.get_mut().write_all(format!("mg nobody v O{id}\r\n").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_line(&mut answer).expect("an answer");
        assert_eq!(answer, format!("EN O{id}\r\n"));
    }
}

/// A client on a connection and a runtime of its own.
pub struct Grpc {
    runtime: tokio::runtime::Runtime,
    grpc: tonic::client::Grpc<tonic::transport::Channel>,
}

impl Grpc {
    pub fn over_tcp(port: u16) -> Grpc {
        let runtime = runtime();
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
        let channel = runtime.block_on(endpoint.connect()).expect("a connection");
        Grpc::of(runtime, channel)
    }

    pub fn over_unix(path: &std::path::Path) -> Grpc {
        let (runtime, path) = (runtime(), path.to_owned());
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://weir.test");
        let channel = runtime.block_on(endpoint.connect_with_connector(connect)).expect("a connection");
        Grpc::of(runtime, channel)
    }

    fn of(runtime: tokio::runtime::Runtime, channel: tonic::transport::Channel) -> Grpc {
        let grpc = tonic::client::Grpc::new(channel);
        Grpc { runtime, grpc: grpc.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20) }
    }

    /// Calls a method, with these headers.
    pub fn call(
        &mut self,
        method: &str,
        message: Bytes,
        headers: &[(&'static str, &str)],
    ) -> Result<Bytes, Status> {
        let mut request = tonic::Request::new(message);
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().expect("a value"));
        }
        let path = format!("/{method}").parse().expect("a path");
        let grpc = &mut self.grpc;
        self.runtime.block_on(async move {
            grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
            grpc.unary(request, path, Raw).await.map(tonic::Response::into_inner)
        })
    }

    /// Reads so many messages of a stream, and leaves it, not the connection.
    pub fn stream_and_leave(&mut self, method: &str, count: usize) {
        let path = format!("/{method}").parse().expect("a path");
        let grpc = &mut self.grpc;
        self.runtime.block_on(async move {
            grpc.ready().await.expect("a connection");
            let stream = grpc.server_streaming(tonic::Request::new(Bytes::new()), path, Raw).await;
            let mut stream = stream.expect("a stream").into_inner();
            for _ in 0..count {
                stream.message().await.expect("no error").expect("a message");
            }
            drop(stream);
            // Its end leaves with the connection's next turn.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        });
    }

    /// Calls a method and leaves, connection and all, when `until` says so.
    pub fn call_and_leave(mut self, method: &str, message: Bytes, until: impl Fn() -> bool) {
        let path = format!("/{method}").parse().expect("a path");
        let grpc = &mut self.grpc;
        self.runtime.block_on(async move {
            grpc.ready().await.expect("a connection");
            let call = grpc.unary(tonic::Request::new(message), path, Raw);
            // Cancel-safe: the call is to be dropped.
            tokio::select! {
                _ = call => panic!("it was answered"),
                () = async {
                    while !until() {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                } => {}
            }
        });
    }
}
