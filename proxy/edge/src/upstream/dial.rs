//! Dialling one address.

use crate::client::Plain;
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use weir_engine::settings::Address;

/// Connects within a time.
pub(super) async fn dial(address: &Address, time: Duration) -> io::Result<Plain> {
    let dialled = async {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Plain::Tcp(stream))
            }
            Address::Unix { path } => Ok(Plain::Unix(UnixStream::connect(&**path).await?)),
            other => Err(io::Error::other(format!("{other} cannot be dialled"))),
        }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {time:?}"));
    timeout(time, dialled).await.unwrap_or_else(|_| Err(late()))
}
