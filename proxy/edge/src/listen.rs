//! Taking connections. The listening sockets come bound (the owner opens Unix sockets with mode 0660 in a directory of its
//! own, and knows about socket activation); here they are accepted from, within `max_connections`.

use crate::client::{Peer, Plain};
use crate::edge::Edge;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long accepting rests after descriptors or memory ran out.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections taken in a row before others have their turn.
const IN_A_ROW: usize = 64;

/// A listening socket.
#[derive(Debug)]
pub struct Door {
    socket: DoorSocket,
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Debug)]
enum DoorSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    /// A TCP socket that listens.
    #[must_use]
    pub fn tcp(socket: TcpListener) -> Door {
        Door { socket: DoorSocket::Tcp(socket), tls: None }
    }

    /// A Unix socket that listens.
    #[must_use]
    pub fn unix(socket: UnixListener) -> Door {
        Door { socket: DoorSocket::Unix(socket), tls: None }
    }

    /// Clients must encrypt. HTTP/2 is offered by ALPN, before HTTP/1.1.
    #[must_use]
    pub fn with_tls(self, config: &rustls::ServerConfig) -> Door {
        Door { tls: Some(crate::open::with_alpn(config)), ..self }
    }
}

enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Listening {
    fn new(socket: DoorSocket) -> io::Result<Listening> {
        Ok(match socket {
            DoorSocket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Listening::Tcp(tokio::net::TcpListener::from_std(socket)?)
            }
            DoorSocket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Listening::Unix(tokio::net::UnixListener::from_std(socket)?)
            }
        })
    }

    /// The next client. Cancel-safe: one that was not taken waits.
    async fn next(&self) -> io::Result<(Plain, Peer)> {
        match self {
            Listening::Tcp(socket) => {
                let (stream, from) = socket.accept().await?;
                // One that is dead already may refuse it.
                let _ = stream.set_nodelay(true);
                Ok((Plain::Tcp(stream), Peer::Tcp(from)))
            }
            Listening::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let credentials = stream.peer_cred().ok();
                let uid = credentials.map(|credentials| credentials.uid());
                let pid = credentials.and_then(|credentials| credentials.pid());
                Ok((Plain::Unix(stream), Peer::Unix { uid, pid }))
            }
        }
    }
}

/// Accepts until draining begins; who waits then is still let in.
pub(crate) async fn accept(edge: Edge, door: Door, mut drain: watch::Receiver<bool>) {
    let Door { socket, tls } = door;
    let Ok(listening) = Listening::new(socket) else {
        edge.stats().accept_pauses.add();
        return;
    };
    let mut taken = 0;
    let told = drain.clone();
    loop {
        // Cancel-safe on both sides.
        let next = tokio::select! {
            biased;
            next = listening.next() => next,
            _ = drain.wait_for(|drain| *drain) => break,
        };
        match next {
            Ok((plain, peer)) => edge.take(plain, peer, tls.clone(), told.clone()),
            Err(error) if concerns_one_connection(&error) => {}
            Err(_) => {
                edge.stats().accept_pauses.add();
                sleep(PAUSE).await;
            }
        }
        taken += 1;
        if taken % IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut,
    };
    let kinds =
        [ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, TimedOut];
    kinds.contains(&error.kind())
}
