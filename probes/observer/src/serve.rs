//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1: for anybody who reaches the port, so nothing here changes anything,
//! and everything is bounded.

use crate::looker::Board;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at once. More wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// The longest wait for the (next) head of a connection, so that an idle one gives its place back. Prometheus keeps its
/// connection between two scrapes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest life of a connection: a peer that takes no byte of an answer cannot keep its place.
const LIFETIME: Duration = Duration::from_secs(300);
/// The wait after an accept that failed (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves a listener until the future is dropped; then its connections end too.
pub async fn serve(listener: TcpListener, board: Arc<Board>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a permit that was taken is given back on drop, and a connection accepted but not yet served is
        // closed by its drop.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                connections.spawn(async move {
                    connection(stream, board).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, board: Arc<Board>) {
    let service = service_fn(|request| {
        let answer = answer(&board, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ends is of no interest: the peer sees it, and nothing is owed.
    let _ = tokio::time::timeout(LIFETIME, served).await;
}

/// Answers one request; a body is not read. Generic over it so that tests need no socket.
fn answer<B: Body>(board: &Board, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/metrics", "/healthz", "/readyz"].contains(&path) {
        return reply(StatusCode::NOT_FOUND, TEXT, "there is /metrics, /healthz and /readyz\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this page takes GET and HEAD\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    let trouble = |why: String| reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, why + "\n");
    match path {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let page = board.render(accept);
            reply(StatusCode::OK, page.content_type, page.body)
        }
        "/healthz" => board.healthy().map_or_else(trouble, |()| reply(StatusCode::OK, TEXT, "ok\n")),
        _ if board.age().is_none() => trouble("the first picture is being taken".to_owned()),
        _ => board.healthy().map_or_else(trouble, |()| reply(StatusCode::OK, TEXT, "ready\n")),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Picture;
    use http_body_util::{BodyExt as _, Empty};
    use std::time::Instant;
    use weir_telemetry::ProbesTelemetry;

    fn ask(board: &Board, method: Method, path: &str) -> (u16, String) {
        let request =
            Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).expect("a request");
        let reply = answer(board, &request);
        let status = reply.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = runtime.block_on(reply.into_body().collect()).expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[test]
    fn three_pages_and_nothing_else() {
        let board = Board::new(ProbesTelemetry::new("0", "unknown"), Duration::from_secs(5));
        assert_eq!(ask(&board, Method::GET, "/healthz"), (200, "ok\n".to_owned()));
        let waiting = "the first picture is being taken\n".to_owned();
        assert_eq!(ask(&board, Method::GET, "/readyz"), (503, waiting));
        board.show(&Picture::default(), Instant::now());
        assert_eq!(ask(&board, Method::GET, "/readyz"), (200, "ready\n".to_owned()));
        let (status, page) = ask(&board, Method::GET, "/metrics");
        assert!(status == 200 && page.contains("weir_probes_picture_age_seconds "), "{page}");
        assert_eq!(ask(&board, Method::POST, "/metrics").0, 405);
        for path in ["/", "/metrics/", "/snapshot", "/debug", "/%6detrics"] {
            assert_eq!(ask(&board, Method::GET, path).0, 404, "{path}");
        }
    }
}
