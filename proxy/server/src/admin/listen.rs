//! The sockets of the admin server.
//!
//! A control socket lives in a directory that only its user may enter when weir makes it, has mode 0600 from its first
//! moment on, and takes the place of a socket that nobody listens at any more; a living one is never pushed aside.

use super::peer::{Guard, Token};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use weir_engine::settings::Address;

/// What a listener serves.
#[derive(Clone, Debug)]
pub enum Door {
    /// /metrics, /healthz and /readyz, for anybody.
    Metrics,
    /// Everything, for whoever the guard lets in.
    Control(Guard),
}

/// An open socket of the admin server. A Unix socket's file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    pub(super) socket: Socket,
    pub(super) door: Door,
    address: Address,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AdminListener {
    /// Opens a metrics listener. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says, with the address.
    pub async fn metrics(address: &Address) -> io::Result<AdminListener> {
        let socket = open(address).await.map_err(|error| named(address, &error))?;
        Ok(AdminListener { socket, door: Door::Metrics, address: address.clone() })
    }

    /// Opens a control listener; over TCP, `token_file` is needed. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says, with the address; or what is wrong with the token.
    pub async fn control(address: &Address, token_file: Option<&Path>) -> io::Result<AdminListener> {
        let guard = match address {
            Address::Unix { .. } => Guard::Peer { own_uid: rustix::process::geteuid().as_raw() },
            _ => {
                let file = token_file.ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("control over TCP ({address}) needs a token file"),
                    )
                })?;
                Guard::Token(Arc::new(Token::read(file)?))
            }
        };
        let socket = open(address).await.map_err(|error| named(address, &error))?;
        Ok(AdminListener { socket, door: Door::Control(guard), address: address.clone() })
    }

    /// Where it listens, as it was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The port it got, on TCP.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Socket::Unix(..) => None,
        }
    }
}

fn named(address: &Address, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address} cannot be opened: {error}"))
}

async fn open(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp { host, port } => TcpListener::bind((&**host, *port)).await.map(Socket::Tcp),
        Address::Unix { path } => open_unix(Path::new(&**path)),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "this kind of address is not known")),
    }
}

fn open_unix(path: &Path) -> io::Result<Socket> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    remove_stale(path)?;
    // Bound under a name of its own first, so that nobody can connect between bind and chmod.
    let beside = path.with_file_name(format!(".weir-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let listener = std::os::unix::net::UnixListener::bind(&beside)?;
    let placed = std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&beside);
        return Err(error);
    }
    let file = SocketFile(path.to_owned());
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(UnixListener::from_std(listener)?, file))
}

/// Removes a socket that nobody listens at. Anything else of this name stays, and is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"))
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}
