//! `raw-proxy`: bytes in, bytes out, one upstream socket per client socket: the least that a proxy in user space costs.
//! For benchmarks, and for servers outside a network namespace (a Unix socket is the same inside and outside); it knows no
//! protocol. Its connections are bounded by the limit on open files.

use crate::net::Address;
use anyhow::{Context, Result};
use clap::Args;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Options of `raw-proxy`.
#[derive(Args, Debug)]
pub struct RawProxy {
    /// Where clients come in: host:port or unix:/path
    #[arg(long, value_name = "ADDR")]
    listen: Address,
    /// The server: host:port or unix:/path
    #[arg(long, value_name = "ADDR")]
    server: Address,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves until it is ended.
pub fn serve(options: &RawProxy) -> Result<()> {
    crate::usage::raise_open_files(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = match &options.listen {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Address::Unix(path) => UnixListener::bind(path).map(Listener::Unix),
        };
        let listener = listener.context("listen")?;
        loop {
            let server = options.server.clone();
            let accepted = match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(client, _)| {
                    // A socket that is gone already says so when it is read.
                    let _ = client.set_nodelay(true);
                    drop(tokio::spawn(relay(client, server)));
                }),
                Listener::Unix(listener) => {
                    listener.accept().await.map(|(client, _)| drop(tokio::spawn(relay(client, server))))
                }
            };
            if accepted.is_err() {
                // Out of files: those that are served go on.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
}

/// Ends with whoever closes first; what went wrong is the sockets' business.
async fn relay(mut client: impl AsyncRead + AsyncWrite + Unpin, server: Address) -> std::io::Result<()> {
    match server {
        Address::Tcp(address) => {
            let mut upstream = TcpStream::connect(address).await?;
            upstream.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
        }
        Address::Unix(path) => {
            let mut upstream = UnixStream::connect(path).await?;
            copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
        }
    }
}
