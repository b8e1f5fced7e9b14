//! Addresses and sockets: dial without blocking, optionally from an explicit source address, and name what failed
//! as the system call and its errno, since that pair is what an on-call engineer greps for.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SocketAddrUnix, SocketFlags, SocketType, bind, connect, ipproto, socket_with,
    sockopt,
};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err("a Unix socket is written unix:/path".into()),
            };
        }
        let mut found =
            text.to_socket_addrs().map_err(|e| format!("expected host:port or unix:/path ({e})"))?;
        found.next().map(Self::Tcp).ok_or_else(|| "the name has no address".into())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What to dial, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub server: Address,
    /// Bind to this address (port 0) before connecting, as a dialer with an explicit source does. The kernel then
    /// reserves a port for the source alone, and a port in TIME_WAIT is not used again.
    pub source: Option<IpAddr>,
    /// SO_RCVBUF in bytes, set before connecting.
    pub receive_buffer: Option<usize>,
}

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `socket`, `bind`, `connect`, `read`, `write`
    pub call: &'static str,
    /// Its error.
    pub errno: Errno,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match errno_name(self.errno) {
            Some(name) => write!(f, "{}: {name}", self.call),
            None => write!(f, "{}: errno {}", self.call, self.errno.raw_os_error()),
        }
    }
}

/// The symbol of the errors that dialling and talking bring.
fn errno_name(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::AGAIN => "EAGAIN",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::ACCESS => "EACCES",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NFILE => "ENFILE",
        Errno::NOBUFS => "ENOBUFS",
        Errno::NOENT => "ENOENT",
        Errno::NOMEM => "ENOMEM",
        Errno::NOTCONN => "ENOTCONN",
        Errno::PERM => "EPERM",
        Errno::PIPE => "EPIPE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return None,
    })
}

/// Starts a connection. `true`: it is up already (Unix sockets); `false`: wait until the socket is writable.
pub fn dial(target: &Target) -> Result<(OwnedFd, bool), Failure> {
    let fail = |call| move |errno| Failure { call, errno };
    let family = match &target.server {
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol: Option<Protocol> = (family != AddressFamily::UNIX).then_some(ipproto::TCP);
    let socket = socket_with(family, SocketType::STREAM, flags, protocol).map_err(fail("socket"))?;
    if let Some(bytes) = target.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes).map_err(fail("setsockopt"))?;
    }
    let result = match &target.server {
        Address::Tcp(address) => {
            sockopt::set_tcp_nodelay(&socket, true).map_err(fail("setsockopt"))?;
            if let Some(source) = target.source {
                bind(&socket, &SocketAddr::new(source, 0)).map_err(fail("bind"))?;
            }
            connect(&socket, address)
        }
        Address::Unix(path) => {
            let address = SocketAddrUnix::new(path.as_path()).map_err(fail("connect"))?;
            connect(&socket, &address)
        }
    };
    match result {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(Failure { call: "connect", errno }),
    }
}

/// How a started connection ended, asked once its socket is writable.
pub fn dialled(socket: &OwnedFd) -> Result<(), Failure> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(Failure { call: "connect", errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_written() {
        for text in ["127.0.0.1:11211", "[::1]:11211", "unix:/run/weir/memcached.sock"] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
        for text in ["unix:relative", "11211", "127.0.0.1", ""] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refused_connection_is_named() {
        let closed =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let target = Target { server: Address::Tcp(closed), source: None, receive_buffer: None };
        let failure = match dial(&target) {
            Err(failure) => failure,
            Ok((socket, _)) => dialled(&socket).expect_err("nobody listens"),
        };
        assert_eq!(failure.to_string(), "connect: ECONNREFUSED");
    }
}
