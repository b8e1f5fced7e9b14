//! What a server is called on the ring. Its points are hashes of this name, so a colon too many moves every key.
//!
//! | server | libmemcached | twemproxy |
//! |---|---|---|
//! | TCP, port 11211 | `host` | `host` |
//! | TCP, another port | `host:port` | `host:port` |
//! | Unix socket | `/path:0` | `/path:` |
//! | with a `name` | the name | the name |
//!
//! The Unix rows were checked against libmemcached 1.1.4 and nutcracker 0.5.0 (three servers, 500 of 500 keys each). IPv6
//! hosts stand without brackets. libmemcached has no names of its own; weir takes one there too, for a server that
//! it reaches at another address than the clients did. twemproxy cuts `name-index` at 85 bytes and then hashes whatever
//! lies behind it: such long names have no map that could be kept.

use crate::settings::{Address, RingDialect, ServerSettings};

/// The port that both originals leave out of the name.
const DEFAULT_PORT: u16 = 11_211;

/// The name of `server` on a ring of this dialect.
pub(super) fn ring_name(dialect: RingDialect, server: &ServerSettings) -> String {
    if let Some(name) = &server.name {
        return name.to_string();
    }
    match &server.address {
        Address::Tcp { host, port: DEFAULT_PORT } => host.to_string(),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix { path } => match dialect {
            RingDialect::LibmemcachedWeighted | RingDialect::Libmemcached => format!("{path}:0"),
            RingDialect::TwemproxyMd5 | RingDialect::TwemproxyFnv1a64 => format!("{path}:"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RingDialect::{Libmemcached, LibmemcachedWeighted, TwemproxyFnv1a64, TwemproxyMd5};

    fn tcp(host: &str, port: u16, name: Option<&str>) -> ServerSettings {
        ServerSettings {
            address: Address::Tcp { host: host.into(), port },
            weight: 1,
            name: name.map(Into::into),
        }
    }

    #[test]
    fn the_default_port_is_left_out_and_ipv6_has_no_brackets() {
        for dialect in [LibmemcachedWeighted, Libmemcached, TwemproxyMd5, TwemproxyFnv1a64] {
            assert_eq!(ring_name(dialect, &tcp("10.0.0.1", 11211, None)), "10.0.0.1");
            assert_eq!(ring_name(dialect, &tcp("10.0.0.1", 11212, None)), "10.0.0.1:11212");
            assert_eq!(ring_name(dialect, &tcp("::1", 11211, None)), "::1");
            assert_eq!(ring_name(dialect, &tcp("10.0.0.1", 11212, Some("alpha"))), "alpha");
        }
    }

    #[test]
    fn unix_sockets_are_named_differently() {
        let server =
            ServerSettings { address: Address::Unix { path: "/run/m".into() }, weight: 1, name: None };
        assert_eq!(ring_name(LibmemcachedWeighted, &server), "/run/m:0");
        assert_eq!(ring_name(Libmemcached, &server), "/run/m:0");
        assert_eq!(ring_name(TwemproxyMd5, &server), "/run/m:");
        assert_eq!(ring_name(TwemproxyFnv1a64, &server), "/run/m:");
    }
}
