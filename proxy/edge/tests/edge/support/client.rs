//! Real clients: tonic for gRPC, hyper for the rest.

use super::codec::Raw;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

/// A gRPC client on one connection.
#[derive(Clone)]
pub struct Grpc(tonic::client::Grpc<Channel>);

pub async fn over_tcp(port: u16) -> Grpc {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    of(endpoint.connect().await.expect("a connection"))
}

pub async fn over_unix(path: &std::path::Path) -> Grpc {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://weir.test");
    of(endpoint.connect_with_connector(connect).await.expect("a connection"))
}

fn of(channel: Channel) -> Grpc {
    let grpc = tonic::client::Grpc::new(channel);
    Grpc(grpc.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20))
}

fn path(method: &str) -> PathAndQuery {
    format!("/weir.test.Service/{method}").parse().expect("a path")
}

impl Grpc {
    pub async fn unary(
        &mut self,
        method: &str,
        message: impl Into<tonic::Request<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        self.unary_at(path(method), message).await
    }

    pub async fn unary_at(
        &mut self,
        path: PathAndQuery,
        message: impl Into<tonic::Request<Bytes>>,
    ) -> Result<Response<Bytes>, Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        self.0.unary(message.into(), path, Raw).await
    }

    pub async fn stream(&mut self, method: &str, message: &str) -> Result<Streaming<Bytes>, Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let request = tonic::Request::new(Bytes::from(message.to_owned()));
        Ok(self.0.server_streaming(request, path(method), Raw).await?.into_inner())
    }

    pub async fn bidi(
        &mut self,
        messages: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        self.0.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        let request = tonic::Request::new(messages);
        Ok(self.0.streaming(request, path("Bidi"), Raw).await?.into_inner())
    }
}

/// An HTTP answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    pub trailers: Option<http::HeaderMap>,
}

pub type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// One request on a connection of its own.
pub async fn http1(port: u16, request: http::Request<Body>) -> Answer {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    read(sender.send_request(request).await.expect("a reply")).await
}

/// A connection that speaks HTTP/2 at once.
pub async fn http2(port: u16) -> hyper::client::conn::http2::SendRequest<Body> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

pub async fn read(reply: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, body) = reply.into_parts();
    let body = body.collect().await.expect("a whole reply");
    let trailers = body.trailers().cloned();
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers }
}

pub fn post(path: &str, content_type: &str, body: Body) -> http::Request<Body> {
    http::Request::post(path)
        .header("host", "weir.test")
        .header("content-type", content_type)
        .body(body)
        .expect("a request")
}
