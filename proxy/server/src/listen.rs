//! Doors for clients: TCP and Unix listeners, and taking connections from them.
//!
//! Types of std are the interface; the worker wraps them as its runtime likes. `listen/unix.rs` is what a socket file
//! needs, `listen/accept.rs` takes connections until none waits (or no descriptor is left), `listen/inherited.rs` is
//! socket activation, `listen/limits.rs` raises the limit of open files.
//!
//! Bounds: the backlog, from the configuration ([`Door::backlog`], cut by the kernel to `somaxconn`, of which the check
//! of the configuration warns); connections per call of [`accept_all`].

mod accept;
mod inherited;
mod limits;
mod unix;

pub use accept::{Accepted, Next, PAUSE, Peer, Reserve, SHED_MAX, Shortage, accept_all, turn_all_away};
pub use inherited::{Inherited, inherited, take_matching};
pub use limits::raise_nofile;
pub use unix::{SocketFile, directory_warning};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::settings::Address;

/// A place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Where. A host name is resolved once; IPv4 goes before IPv6, because a client told `127.0.0.1` tries nothing else.
    /// `[::]` takes IPv4 clients too.
    pub address: Address,
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Permissions of a Unix socket's file. Connecting needs write permission.
    pub mode: u32,
    /// Group of a Unix socket's file: a name of /etc/group or a number. `None`: that of the process.
    pub group: Option<Arc<str>>,
}

impl Door {
    /// A door with every default: backlog 4096, mode 0660, the process's own group.
    #[must_use]
    pub fn new(address: Address) -> Door {
        Door { address, backlog: 4096, mode: 0o660, group: None }
    }
}

/// An open door. Dropping it closes it and removes the file of a Unix socket.
#[derive(Debug)]
pub struct Listener {
    /// The listening socket: non-blocking, close-on-exec.
    pub socket: ListenSocket,
    /// The file of a Unix socket that this process made (not of an inherited one).
    pub file: Option<SocketFile>,
}

/// The socket itself.
#[derive(Debug)]
pub enum ListenSocket {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, stream.
    Unix(UnixListener),
}

impl ListenSocket {
    /// The same socket for another worker. Each connection goes to one of them.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> io::Result<ListenSocket> {
        Ok(match self {
            ListenSocket::Tcp(socket) => ListenSocket::Tcp(socket.try_clone()?),
            ListenSocket::Unix(socket) => ListenSocket::Unix(socket.try_clone()?),
        })
    }

    /// The TCP address it is bound to, with the port that the system chose if 0 was asked for.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix(_) => None,
        }
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ListenSocket::Tcp(socket) => socket.as_fd(),
            ListenSocket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Why a door could not be opened: the door and one sentence.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {problem}")]
pub struct BindError {
    /// The door.
    pub address: Address,
    /// What is wrong, and what to do where that is known.
    pub problem: String,
}

impl BindError {
    fn new(door: &Door, problem: impl fmt::Display) -> BindError {
        BindError { address: door.address.clone(), problem: problem.to_string() }
    }
}

/// Opens a door.
///
/// # Errors
/// With a message fit for the operator: address in use, no such host, a file in the way, no permission.
pub fn bind(door: &Door) -> Result<Listener, BindError> {
    match &door.address {
        Address::Tcp { host, port } => {
            let socket = bind_tcp(door, host, *port)?;
            Ok(Listener { socket: ListenSocket::Tcp(socket), file: None })
        }
        Address::Unix { path } => {
            let (socket, file) =
                unix::bind(door, path.as_ref().as_ref()).map_err(|problem| BindError::new(door, problem))?;
            Ok(Listener { socket: ListenSocket::Unix(socket), file: Some(file) })
        }
        other => Err(BindError::new(door, format!("{other} is not an address weir can listen on"))),
    }
}

/// Makes a door of a socket that another process opened (socket activation).
///
/// # Errors
/// When it is not a listening TCP or Unix stream socket.
pub fn adopt(door: &Door, fd: OwnedFd) -> Result<Listener, BindError> {
    let wrong = |problem: &str| BindError::new(door, format!("the inherited socket {problem}"));
    let failed =
        |error: io::Error| BindError::new(door, format!("the inherited socket cannot be used: {error}"));
    let socket = Socket::from(fd);
    if !socket.is_listener().map_err(|_| wrong("is not a socket"))? {
        return Err(wrong("does not listen"));
    }
    if socket.r#type().map_err(failed)? != Type::STREAM {
        return Err(wrong("is not a stream socket"));
    }
    let domain = socket.domain().map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_cloexec(true).map_err(failed)?;
    // On a socket that listens already this only sets the backlog.
    socket.listen(backlog(door)).map_err(failed)?;
    let socket = match domain {
        Domain::UNIX => ListenSocket::Unix(OwnedFd::from(socket).into()),
        Domain::IPV4 | Domain::IPV6 => ListenSocket::Tcp(OwnedFd::from(socket).into()),
        _ => return Err(wrong("is neither TCP nor Unix")),
    };
    Ok(Listener { socket, file: None })
}

fn bind_tcp(door: &Door, host: &str, port: u16) -> Result<TcpListener, BindError> {
    let mut addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| BindError::new(door, format!("the host does not resolve: {error}")))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = BindError::new(door, "the host has no address");
    for address in addresses {
        match bind_tcp_address(door, address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = BindError::new(door, explained(&error, address)),
        }
    }
    Err(last)
}

fn bind_tcp_address(door: &Door, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Restarting must not wait for old connections in TIME_WAIT. (On Linux this never shares a port with a listener.)
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says: what the file says shall mean the same on every machine.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog(door))?;
    Ok(OwnedFd::from(socket).into())
}

fn explained(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is taken: another process listens on {address} (`ss -ltnp 'sport = :{}'` names it)",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => format!("{} is not an address of this machine", address.ip()),
        io::ErrorKind::PermissionDenied => {
            format!("no permission (ports below 1024 need CAP_NET_BIND_SERVICE): {error}")
        }
        _ => error.to_string(),
    }
}

fn backlog(door: &Door) -> i32 {
    i32::try_from(door.backlog).unwrap_or(i32::MAX)
}

/// Closes a TCP connection with RST instead of FIN, so that neither side keeps its port in TIME_WAIT. What was not sent
/// yet is lost, and so is what the peer has not read: only for a peer that has closed, with nothing in flight, unread or
/// unsent.
///
/// # Errors
/// When the option could not be set; the connection is then closed in the ordinary way.
pub fn close_with_reset(stream: impl AsFd) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests;
