//! Accepts admin connections, and bounds them.

use super::listen::{AdminListener, Door, Socket};
use super::peer::Peer;
use super::plane::Plane;
use super::routes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

/// Connections of one door at once. More wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's body.
pub const BODY_MAX: usize = 16 << 10;
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// The longest wait for the (next) head of a connection, so that an idle one gives its place back.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest time for one request, body and answer included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest life of a connection: a peer that takes no byte of an answer cannot keep its place.
const LIFETIME: Duration = Duration::from_secs(300);
/// The wait after an accept that failed (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a listener until the future is dropped; then its connections end too. Nothing in it spins or spawns without
/// bound: a connection holds one of [`CONNECTIONS_MAX`] permits.
pub async fn serve(listener: AdminListener, plane: Arc<dyn Plane>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Cancel-safe: a permit that was taken is given back on drop, and a connection accepted but not yet served is
        // closed by its drop.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let door = listener.door.clone();
        let plane = plane.clone();
        match accept(&listener.socket).await {
            Ok(Accepted::Tcp(stream)) => {
                connections.spawn(async move {
                    connection(stream, door, Peer::of_tcp(), plane).await;
                    drop(permit);
                });
            }
            Ok(Accepted::Unix(stream)) => {
                // Without credentials nobody is let in; the connection closes.
                let Ok(peer) = Peer::of_unix(&stream) else { continue };
                connections.spawn(async move {
                    connection(stream, door, peer, plane).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn accept(socket: &Socket) -> io::Result<Accepted> {
    match socket {
        Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
        Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
    }
}

async fn connection<S>(stream: S, door: Door, peer: Peer, plane: Arc<dyn Plane>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (door, peer, plane) = (&door, &peer, &plane);
        async move {
            let answer =
                tokio::time::timeout(REQUEST_TIMEOUT, routes::answer(door, peer, plane, request)).await;
            Ok::<Response<_>, Infallible>(answer.unwrap_or_else(|_| routes::timed_out()))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection of the admin server ends is of no interest: the peer sees it, and nothing is owed.
    let _ = tokio::time::timeout(LIFETIME, served).await;
}
