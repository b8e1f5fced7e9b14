//! `flush_all = "prefix:..."`: only the keys that start with the pool's prefix are deleted.
//!
//! memcached has no such command, so weir lists the keys of each server (`lru_crawler metadump all`) and deletes the ones
//! that match (`md` in quiet batches). This is maintenance, not traffic: it runs on one connection of its own per server,
//! one server after the other, under a deadline, and never on the shared lanes, whose neighbours would wait behind the
//! listing. Keys stored while it runs may or may not be deleted; that is true of `flush_all` too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use weir_engine::settings::Address;

/// Keys deleted with one round trip.
const BATCH: usize = 512;
/// Longest line of a listing that is believed: a URL-encoded key of 250 bytes and its fields.
const LINE_MAX: usize = 2_048;

/// Deletes every key with `prefix` on every server. Returns how many deletes were sent.
///
/// # Errors
/// What went wrong, at which server; servers before it are done.
pub async fn flush_prefix(servers: &[Address], prefix: &[u8], deadline: Duration) -> Result<u64, String> {
    let all = async {
        let mut deleted = 0;
        for server in servers {
            deleted += one_server(server, prefix).await.map_err(|error| format!("{server}: {error}"))?;
        }
        Ok(deleted)
    };
    match tokio::time::timeout(deadline, all).await {
        Ok(result) => result,
        Err(_) => Err(format!("not done after {} s", deadline.as_secs())),
    }
}

async fn one_server(server: &Address, prefix: &[u8]) -> io::Result<u64> {
    let keys = list(connect(server).await?, prefix).await?;
    let mut stream = BufReader::new(connect(server).await?);
    for batch in keys.chunks(BATCH) {
        let mut lines = Vec::with_capacity(batch.len() * 64);
        for key in batch {
            lines.extend_from_slice(b"md ");
            lines.extend_from_slice(STANDARD.encode(key).as_bytes());
            lines.extend_from_slice(b" b q\r\n");
        }
        lines.extend_from_slice(b"mn\r\n");
        stream.write_all(&lines).await?;
        // a key that expired meanwhile answers NF; MN ends the batch
        while read_line(&mut stream).await? != b"MN" {}
    }
    Ok(keys.len() as u64)
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

async fn connect(server: &Address) -> io::Result<Box<dyn Socket>> {
    Ok(match server {
        Address::Tcp { host, port } => Box::new(TcpStream::connect((&**host, *port)).await?),
        Address::Unix { path } => Box::new(UnixStream::connect(&**path).await?),
        _ => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this kind of address cannot be flushed"));
        }
    })
}

async fn list(stream: Box<dyn Socket>, prefix: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"lru_crawler metadump all\r\n").await?;
    let mut keys = Vec::new();
    loop {
        let line = read_line(&mut stream).await?;
        if line == b"END" {
            return Ok(keys);
        }
        let Some(rest) = line.strip_prefix(b"key=") else {
            let text = String::from_utf8_lossy(&line).into_owned();
            return Err(io::Error::other(format!("the server does not list its keys: {text}")));
        };
        let encoded = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
        let key = url_decoded(encoded);
        if key.starts_with(prefix) {
            keys.push(key);
        }
    }
}

async fn read_line(stream: &mut BufReader<Box<dyn Socket>>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut limited = tokio::io::AsyncReadExt::take(stream, LINE_MAX as u64);
    limited.read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the listing ended early"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn url_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = match text[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            None => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_url_decoded() {
        assert_eq!(url_decoded(b"at%3A%2F%2Fdid%3aplc"), b"at://did:plc");
        assert_eq!(url_decoded(b"100%"), b"100%", "an incomplete escape is itself");
        assert_eq!(url_decoded(b"%zz%41"), b"%zzA");
    }
}
