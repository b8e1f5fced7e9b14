//! An edge between real clients and a scripted service, all on one runtime, over TCP or Unix sockets.

pub mod choice;
pub mod client;
pub mod codec;
pub mod gate;
pub mod origin;
pub mod records;
pub mod service;
pub mod tls;
pub mod window;

use service::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_edge::{AdmitAll, Counted, Door, Drained, Edge, Gate, Settings, UpstreamSettings};

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(10);

/// An edge that runs, at a TCP port and a Unix socket.
pub struct Running {
    pub edge: Edge,
    pub port: u16,
    pub socket: std::path::PathBuf,
    pub drain: watch::Sender<bool>,
    ended: JoinHandle<Drained>,
    _folder: tempfile::TempDir,
}

/// Starts one in front of `service`.
pub fn start(service: &Service) -> Running {
    start_with(settings(service), Arc::new(AdmitAll))
}

pub fn settings(service: &Service) -> Settings {
    let addresses = vec![service.address.clone()];
    Settings::new("test", UpstreamSettings::http2(addresses))
}

pub fn start_with(settings: Settings, gate: Arc<dyn Gate>) -> Running {
    start_at(settings, gate, |door| door)
}

pub fn start_at(settings: Settings, gate: Arc<dyn Gate>, tcp: impl Fn(Door) -> Door) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("edge.sock");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let unix = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let edge = Edge::new(settings, gate).expect("good settings");
    let (drain, drained) = watch::channel(false);
    let doors = vec![tcp(Door::tcp(listener)), Door::unix(unix)];
    let ended = tokio::spawn({
        let edge = edge.clone();
        async move { edge.run(doors, drained).await }
    });
    Running { edge, port, socket, drain, ended, _folder: folder }
}

impl Running {
    pub fn counted(&self) -> Counted {
        self.edge.counted()
    }

    /// Drains it, and says what was cut.
    pub async fn end(self) -> Drained {
        self.drain.send_replace(true);
        tokio::time::timeout(SOON * 2, self.ended).await.expect("it ends").expect("it does not panic")
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let late = tokio::time::Instant::now() + SOON;
    while !is() {
        assert!(tokio::time::Instant::now() < late, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
