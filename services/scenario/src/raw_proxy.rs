//! `raw-proxy`: bytes in, bytes out, one upstream socket per client socket: the least that a proxy in user space costs.
//! For benchmarks; it knows no protocol. Its connections are bounded by the limit on open files.

use anyhow::{Context, Result};
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Options of `raw-proxy`.
#[derive(Args, Debug)]
pub struct RawProxy {
    /// Where clients come in
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The server
    #[arg(long, value_name = "ADDR")]
    server: SocketAddr,
}

/// Serves until it is ended.
pub fn serve(options: &RawProxy) -> Result<()> {
    crate::usage::raise_open_files(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(options.listen).await.context("listen")?;
        let server = options.server;
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(tokio::spawn(relay(client, server))),
                // Out of files: those that are served go on.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    })
}

/// Ends with whoever closes first; what went wrong is the sockets' business.
async fn relay(mut client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
}
