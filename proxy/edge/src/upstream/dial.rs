//! Dialling one address.

use super::tls::Handshake;
use crate::client::{Plain, Stream};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use weir_engine::settings::Address;

/// Connects within a time, the TLS handshake included.
pub(super) async fn dial(address: &Address, tls: Option<&Handshake>, time: Duration) -> io::Result<Stream> {
    let dialled = async {
        let plain = match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                Plain::Tcp(stream)
            }
            Address::Unix { path } => Plain::Unix(UnixStream::connect(&**path).await?),
            other => return Err(io::Error::other(format!("{other} cannot be dialled"))),
        };
        match tls {
            Some(tls) => tls.shake(plain, address).await,
            None => Ok(Stream::Plain(plain)),
        }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {time:?}"));
    timeout(time, dialled).await.unwrap_or_else(|_| Err(late()))
}
