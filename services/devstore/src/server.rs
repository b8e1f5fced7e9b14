//! Listeners and connections on one tokio thread; every answer comes from [`Service`].
//!
//! Bounds: connections at once, bytes of one line and value (the codec's), and [`REPLY_BUFFER`] unsent bytes per
//! connection, beyond which a connection is not read until its client has read. A large multiget is answered in
//! pieces of that size.

use anyhow::{Context, Result, bail};
use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use weir_devstore::statistics::BANNER;
use weir_devstore::{Now, Service, Then};
use weir_memcached::{DecodeLimits, Request, RequestDecoder, Step, text};

/// Unsent bytes after which a connection waits for its client.
const REPLY_BUFFER: usize = 256 << 10;
/// Bytes read at once.
const READ_SIZE: usize = 64 << 10;
/// Connections the kernel may keep waiting (it cuts this to net.core.somaxconn).
const BACKLOG: i32 = 16_384;

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Address {
    /// `host:port`
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        match given.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err("a Unix socket is written unix:/path".into()),
            None => {
                let mut found =
                    given.to_socket_addrs().map_err(|e| format!("expected host:port or unix:/path ({e})"))?;
                found.next().map(Self::Tcp).ok_or_else(|| "the name has no address".into())
            }
        }
    }
}

/// What the process may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of items.
    pub memory: usize,
    /// Connections at once.
    pub connections: u32,
}

/// The process.
pub struct Server {
    service: Rc<RefCell<Service>>,
    limits: Limits,
}

impl Server {
    /// With an empty store.
    pub fn new(limits: Limits) -> Self {
        let mut service = Service::new(limits.memory, now());
        service.connections.most = u64::from(limits.connections);
        Self { service: Rc::new(RefCell::new(service)), limits }
    }

    /// Listens, says so, and serves until a signal ends it.
    pub async fn serve(self, addresses: &[Address]) -> Result<()> {
        raise_open_files(u64::from(self.limits.connections) + 64);
        let mut names = Vec::new();
        let mut sockets = Vec::new();
        for address in addresses {
            match address {
                Address::Tcp(address) => {
                    let listener =
                        tcp_listener(*address).with_context(|| format!("cannot listen on {address}"))?;
                    names.push(listener.local_addr().context("asking for the address")?.to_string());
                    tokio::task::spawn_local(accept_tcp(listener, Rc::clone(&self.service)));
                }
                Address::Unix(path) => {
                    let name = format!("unix:{}", path.display());
                    let listener = unix_listener(path).with_context(|| format!("cannot listen on {name}"))?;
                    names.push(name);
                    sockets.push(path.clone());
                    tokio::task::spawn_local(accept_unix(listener, Rc::clone(&self.service)));
                }
            }
        }
        let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
        let memory = self.limits.memory >> 20;
        // A reader that went away is no reason to end.
        let mut out = std::io::stdout();
        let _ = writeln!(
            out,
            "weir-devstore: {BANNER} (in memory, {memory} MiB, not for production), memcached on {} ready",
            names.join(" ")
        );
        let _ = out.flush();
        // Both are safe to drop: a signal that was not waited for is only not seen.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        for path in sockets {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

async fn accept_tcp(listener: TcpListener, service: Rc<RefCell<Service>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Fails only on a socket that is gone already.
                let _ = stream.set_nodelay(true);
                admit(stream, &service);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, service: Rc<RefCell<Service>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &service),
            // No descriptors left, most likely: wait for some to come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn admit(mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static, service: &Rc<RefCell<Service>>) {
    let service = Rc::clone(service);
    let full = {
        let mut service = service.borrow_mut();
        let full = service.connections.current >= service.connections.most;
        match full {
            true => service.counters.rejected_connections += 1,
            false => {
                service.connections.current += 1;
                service.counters.total_connections += 1;
            }
        }
        full
    };
    tokio::task::spawn_local(async move {
        if full {
            let _ = stream.write_all(b"ERROR Too many open connections\r\n").await;
            return;
        }
        // The client is gone: nobody is left to be told.
        let _ = talk(&mut stream, &service).await;
        service.borrow_mut().connections.current -= 1;
    });
}

/// One connection, to its end.
async fn talk(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    service: &RefCell<Service>,
) -> std::io::Result<()> {
    let mut decoder = RequestDecoder::new(DecodeLimits::default());
    let (mut input, mut out) = (Vec::new(), Vec::new());
    loop {
        input.reserve(READ_SIZE);
        let count = stream.read_buf(&mut input).await?;
        if count == 0 {
            return Ok(());
        }
        service.borrow_mut().counters.bytes_read += count as u64;
        let (mut start, mut then) = (0, Then::Continue);
        while then == Then::Continue {
            let rest = &input[start..];
            let consumed = match decoder.decode(rest) {
                Step::Incomplete { .. } => break,
                Step::Swallowed { consumed } => consumed,
                Step::Reject { reply, consumed } => {
                    then = service.borrow_mut().refuse(reply, rest, now(), &mut out);
                    consumed
                }
                Step::Binary { reply } => {
                    out.extend_from_slice(&reply);
                    then = Then::Close;
                    0
                }
                Step::Request { request: Request::Retrieve(retrieve), consumed } => {
                    for key in retrieve.keys {
                        service.borrow_mut().retrieve(retrieve.verb, retrieve.exptime, key, now(), &mut out);
                        if out.len() >= REPLY_BUFFER {
                            send(stream, &mut out, service).await?;
                        }
                    }
                    out.extend_from_slice(text::END);
                    consumed
                }
                Step::Request { request, consumed } => {
                    then = service.borrow_mut().answer(&request, now(), &mut out);
                    consumed
                }
            };
            start += consumed;
            if out.len() >= REPLY_BUFFER {
                send(stream, &mut out, service).await?;
            }
        }
        send(stream, &mut out, service).await?;
        if then == Then::Close {
            return stream.shutdown().await;
        }
        input.drain(..start);
        if input.is_empty() && input.capacity() > 2 * READ_SIZE {
            // An idle client owns no large buffer.
            input = Vec::new();
        }
    }
}

async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    out: &mut Vec<u8>,
    service: &RefCell<Service>,
) -> std::io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    service.borrow_mut().counters.bytes_written += out.len() as u64;
    stream.write_all(out).await?;
    out.clear();
    if out.capacity() > 2 * REPLY_BUFFER {
        *out = Vec::new();
    }
    Ok(())
}

fn now() -> Now {
    // A clock before 1970 is no reason to panic.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn tcp_listener(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn unix_listener(path: &Path) -> Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("somebody is listening there");
        }
        std::fs::remove_file(path).context("removing the socket that an earlier process left")?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from_std(socket.into())?)
}

/// Raises the soft limit of open files as far as allowed.
fn raise_open_files(want: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let goal = limit.maximum.map_or(want, |hard| hard.min(want));
    if limit.current.is_some_and(|soft| soft < goal) {
        // With fewer descriptors fewer connections are accepted; that is all.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(goal), maximum: limit.maximum });
    }
}
