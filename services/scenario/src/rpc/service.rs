//! `rpc-service`: a data plane that knows every key. gRPC by tonic over HTTP/2 without TLS, and Connect's unary calls over
//! HTTP/1.1 and HTTP/2, on one port and one thread; with `--key-micros` it works per key (`workers.rs`).

use super::messages::reply_to;
use super::workers::Workers;
use super::{CONNECTION_WINDOW, METHOD, STREAM_WINDOW};
use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use clap::Args;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Largest message either way: the calls of April with room.
const MESSAGE_MAX: usize = 64 << 20;

/// Options of `rpc-service`.
#[derive(Args, Debug)]
pub struct RpcService {
    /// Where clients come in
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Time a worker needs for a key; 0 answers at once, without workers
    #[arg(long, default_value_t = 0, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    key_micros: u32,
    /// Workers, each with one call at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    workers: u32,
}

/// Serves until it is ended. Its connections are bounded by the limit on open files.
///
/// # Errors
/// When it cannot listen.
pub fn serve(options: &RpcService) -> Result<()> {
    crate::usage::raise_open_files(20_000);
    let per_key = Duration::from_micros(options.key_micros.into());
    let workers = match options.key_micros {
        0 => None,
        _ => Some(Workers::start(options.workers, per_key)?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await.context("listen")?;
        let mut http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        http.http2()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(1_000);
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of files: those that are served go on.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            stream.set_nodelay(true)?;
            let (http, workers) = (http.clone(), workers.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, workers.clone()));
                // A client that leaves is its own business.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

type Reply = Response<tonic::body::Body>;

async fn answer(request: Request<Incoming>, workers: Option<Workers>) -> Result<Reply, Infallible> {
    let kind = request.headers().get("content-type").map(|kind| kind.as_bytes().to_vec());
    let found = request.uri().path() == METHOD;
    match kind.as_deref() {
        Some(b"application/grpc" | b"application/grpc+proto") => {
            let grpc = tonic::server::Grpc::new(Raw);
            let mut grpc = grpc.apply_max_message_size_config(Some(MESSAGE_MAX), Some(MESSAGE_MAX));
            let unary = tower::service_fn(move |request: tonic::Request<Bytes>| {
                let workers = workers.clone();
                async move {
                    if !found {
                        return Err(Status::unimplemented("no such method"));
                    }
                    work(request.get_ref(), workers.as_ref()).await.map(tonic::Response::new)
                }
            });
            Ok(grpc.unary(unary, request).await)
        }
        Some(b"application/proto") if found => Ok(connect(request, workers.as_ref()).await),
        _ => Ok(plain(StatusCode::NOT_FOUND, "text/plain", "no such method".into())),
    }
}

/// A unary call of Connect: body in, body out.
async fn connect(request: Request<Incoming>, workers: Option<&Workers>) -> Reply {
    let Ok(body) = request.into_body().collect().await else {
        return plain(StatusCode::BAD_REQUEST, "text/plain", "the body broke off".into());
    };
    match work(&body.to_bytes(), workers).await {
        Ok(message) => plain(StatusCode::OK, "application/proto", message),
        Err(status) => {
            let text = serde_json::json!({ "code": "internal", "message": status.message() }).to_string();
            plain(StatusCode::INTERNAL_SERVER_ERROR, "application/json", text.into())
        }
    }
}

fn plain(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(tonic::body::Body::new(http_body_util::Full::new(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    reply
}

async fn work(request: &[u8], workers: Option<&Workers>) -> Result<Bytes, Status> {
    let (reply, keys) = reply_to(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if let Some(workers) = workers {
        workers.work(keys).await.map_err(|error| Status::internal(error.to_string()))?;
    }
    Ok(reply)
}

/// A codec whose messages are bytes as they are.
#[derive(Clone, Copy, Debug)]
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
