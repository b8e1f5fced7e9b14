//! Connections to one shard of a node: the shard-aware port gives a connection the shard `source port % shards`. On the
//! other port the node chooses. Either way it says which shard it was (`SCYLLA_SHARD` in the answer to OPTIONS): between
//! a NAT and a busy port the answer counts, not the wish.
//!
//! Bound: [`TRIES_MAX`] source ports per attempt. A port that somebody has, or that rests after a connection to the same
//! node, is passed over.

use super::{Handshake, unexpected, unreadable};
use crate::tls::ClientSide;
use crate::upstream::{ConnectError, dialled, failed};
use crate::worker::sockets::Stream;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use weir_cql::Cursor;
use weir_cql::envelope::Opcode;
use weir_cql::response::{supported as entries, tablet};
use weir_engine::cql::ShardDial;
use weir_engine::settings::Address;
use weir_telemetry::OpenResult;

/// Source ports tried per attempt.
const TRIES_MAX: usize = 64;

/// Where the next attempt begins in its shard's ports: two attempts do not fight for the same one.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Dials the shard-aware port from a port that leads to the shard, with TLS where there is a side of it.
pub(super) async fn dial(
    address: &Address,
    to: ShardDial,
    tls: Option<&ClientSide>,
) -> Result<Stream, ConnectError> {
    let Address::Tcp { host, .. } = address else { return super::dial(address, tls).await };
    let mut targets = lookup_host((&**host, to.port)).await.map_err(|error| failed(&error))?;
    let Some(target) = targets.next() else {
        return Err(ConnectError { result: OpenResult::Error, what: format!("{host} has no address") });
    };
    let count = to.source_ports.of_shard(to.shard, to.shards).count();
    let first = NEXT.fetch_add(1, Relaxed) % count.max(1);
    let ports = to.source_ports.of_shard(to.shard, to.shards).cycle().skip(first);
    for port in ports.take(count.min(TRIES_MAX)) {
        match dial_from(port, target).await {
            Ok(stream) => return dialled(stream, tls, host).await,
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    let what = format!(
        "no free source port for shard {} of {}: {count} of shard_ports lead to it, {} were tried",
        to.shard,
        to.shards,
        count.min(TRIES_MAX)
    );
    Err(ConnectError { result: OpenResult::NoPort, what })
}

async fn dial_from(port: u16, target: SocketAddr) -> io::Result<TcpStream> {
    let (socket, any) = match target {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    // the same port to another node, or after a connection that rests, is no conflict
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(any, port))?;
    socket.connect(target).await
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL))
}

/// What SUPPORTED tells of Scylla's extensions (docs/dev/protocol-extensions.md of scylladb).
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The shard that serves this connection.
    pub(super) shard: Option<u16>,
    /// It names at least one of the extensions.
    pub(super) scylla: bool,
    /// It can tell tablets in its answers.
    pub(super) tablets: bool,
}

/// How the names of Scylla's extensions begin.
const SCYLLA: &[u8] = b"SCYLLA_";

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<'_, S> {
    /// Asks what the node is.
    pub(super) async fn told(&mut self) -> Result<Told, ConnectError> {
        let answer = self.ask(Opcode::Options, |_| {}).await?;
        if answer.header.opcode != Opcode::Supported {
            return Err(unexpected(answer.header.opcode, "OPTIONS"));
        }
        let map = Cursor::new(&answer.body).string_multimap().map_err(|reason| unreadable(reason.label()))?;
        let mut told = Told::default();
        for (name, mut values) in entries(&answer.body, map) {
            told.scylla |= name.starts_with(SCYLLA);
            told.tablets |= name == tablet::OPTION.as_bytes();
            if name == b"SCYLLA_SHARD" {
                let value: Option<&[u8]> = Iterator::next(&mut values);
                told.shard = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            }
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;
    use tokio::net::TcpListener;
    use weir_engine::settings::ShardPorts;

    /// A range of free ports, as far as can be told.
    fn range() -> ShardPorts {
        let first = 20_000 + (std::process::id() % 500) as u16 * 40;
        ShardPorts { first, last: first + 19 }
    }

    #[tokio::test]
    async fn the_source_port_leads_to_the_shard_and_busy_ones_are_passed_over() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
        let shards = NonZeroU16::new(5).expect("five");
        let dial_shard =
            |shard| dial(&address, ShardDial { shard, shards, port, source_ports: range() }, None);
        let mut kept = Vec::new();
        for shard in 0..5 {
            // four ports lead to each shard; all of them can be had, then none
            for _ in 0..4 {
                kept.push(dial_shard(shard).await.expect("a free port"));
                let (accepted, from) = listener.accept().await.expect("a connection");
                assert_eq!(from.port() % 5, shard);
                kept.push(Stream::Tcp(accepted));
            }
            let refused = dial_shard(shard).await.expect_err("all are taken");
            assert_eq!(refused.result, OpenResult::NoPort);
            assert!(
                refused.what.contains(&format!("shard {shard} of 5: 4 of shard_ports")),
                "{}",
                refused.what
            );
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_told_as_such() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let ports = range();
        let source_ports = ShardPorts { first: ports.first + 20, last: ports.last + 20 };
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
        let shards = NonZeroU16::new(2).expect("two");
        let refused = dial(&address, ShardDial { shard: 0, shards, port, source_ports }, None).await;
        assert_eq!(refused.expect_err("nobody listens").result, OpenResult::Refused);
    }
}
