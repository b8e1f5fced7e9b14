//! What drivers see of the cluster: one node, at the address they dialled, and beside it the second weir, where the
//! listener names one.
//!
//! Drivers learn addresses from `system.local` and `system.peers` and then dial those, past any proxy (measured with
//! the Rust driver: all data traffic went straight to the cluster). So rows of `system.local` are rewritten on their
//! way through, for QUERY and for EXECUTE, and `system.peers` has none but that of the second weir ([`super::second`]).
//! Everything that is no address stays real: data centre, rack, release, partitioner, schema version.

use md5::{Digest as _, Md5};
use std::net::{IpAddr, SocketAddr};
use weir_cql::statement::{Body, Name, Select, Selection, Statement, Table};

/// A table whose rows name addresses of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SystemTable {
    /// `system.local`: the node itself.
    Local,
    /// `system.peers` and `system.peers_v2`: the others.
    Peers,
    /// Any other table of `system`, `system_schema` and the like: passed through.
    Other,
}

/// What happens to the rows of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// Nothing.
    #[default]
    None,
    /// They are those of `system.local`.
    Local,
    /// They are those of other nodes: none is left, or that of the second weir.
    Peers,
}

impl SystemTable {
    pub(super) fn rewrite(self) -> Rewrite {
        match self {
            SystemTable::Local => Rewrite::Local,
            SystemTable::Peers => Rewrite::Peers,
            SystemTable::Other => Rewrite::None,
        }
    }
}

const SYSTEM: &[u8] = b"system";

/// Which system table this is; an unqualified name is asked again once the keyspace is known
/// ([`system_table_in`]).
pub(super) fn system_table(text: &[u8], table: &Table) -> Option<SystemTable> {
    let keyspace = table.keyspace?;
    system_table_in(&keyspace.normal(text), &table.name.normal(text))
}

/// Which system table `keyspace.table` is.
pub(super) fn system_table_in(keyspace: &[u8], table: &[u8]) -> Option<SystemTable> {
    if keyspace == SYSTEM {
        return Some(match table {
            b"local" => SystemTable::Local,
            b"peers" | b"peers_v2" => SystemTable::Peers,
            _ => SystemTable::Other,
        });
    }
    let known = [
        b"system_schema".as_slice(),
        b"system_virtual_schema",
        b"system_views",
        b"system_auth",
        b"system_traces",
        b"system_distributed",
    ];
    known.contains(&keyspace).then_some(SystemTable::Other)
}

/// The server's name of each column of the rows this statement selects, where the text tells (aliases hide it);
/// empty for `*`: then the reply's metadata names them.
pub(super) fn selected(text: &[u8], statement: &Statement) -> Vec<Option<Box<[u8]>>> {
    let Body::Select(select) = &statement.body else { return Vec::new() };
    let Selection::Items(items) = &select.selection else { return Vec::new() };
    let name = |column: Name| column.normal(text).into_owned().into_boxed_slice();
    items.iter().map(|item| item.column.map(name)).collect()
}

/// Whether rows asked like this could show an address in a form that cannot be rewritten.
pub(super) fn hides_addresses(select: &Select) -> bool {
    let computed = match &select.selection {
        Selection::All => false,
        Selection::Items(items) => items.iter().any(|item| item.column.is_none()),
    };
    select.json || computed
}

/// One weir as drivers see it: a node. Each of two that name each other tells the same of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) at: SocketAddr,
    pub(super) host_id: [u8; 16],
    /// The only token: with one node all keys are here, with two each has half of them (of Murmur3's).
    pub(super) token: &'static str,
}

const LOW_TOKEN: &str = "0";
const HIGH_TOKEN: &str = "9223372036854775807";

impl Shown {
    /// The weir that was dialled, which names that `second`.
    pub(super) fn own(dialled: SocketAddr, second: Option<SocketAddr>) -> Shown {
        Shown::of(plain(dialled), second.map(plain))
    }

    /// The second weir; `None` where none is named, or the one that was dialled.
    pub(super) fn second(dialled: SocketAddr, second: Option<SocketAddr>) -> Option<Shown> {
        let (own, second) = (plain(dialled), plain(second?));
        (own != second).then(|| Shown::of(second, Some(own)))
    }

    fn of(at: SocketAddr, other: Option<SocketAddr>) -> Shown {
        let token = if other.is_some_and(|other| other < at) { HIGH_TOKEN } else { LOW_TOKEN };
        Shown { at, host_id: host_id(at), token }
    }

    pub(super) fn address(&self) -> Vec<u8> {
        address_bytes(self.at.ip())
    }

    pub(super) fn port(&self) -> Vec<u8> {
        i32::from(self.at.port()).to_be_bytes().to_vec()
    }

    /// A set of one token.
    pub(super) fn tokens(&self) -> Vec<u8> {
        let mut set = Vec::with_capacity(8 + self.token.len());
        set.extend_from_slice(&1i32.to_be_bytes());
        weir_cql::write::bytes(&mut set, self.token.as_bytes());
        set
    }
}

/// An IPv4 address that came as IPv6 is one all the same.
fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// What stands in place of a cell of `system.local`; `None` where the real one stays.
pub(super) fn local_cell(column: &[u8], own: &Shown) -> Option<Vec<u8>> {
    match column {
        b"rpc_address" | b"broadcast_address" | b"listen_address" | b"native_address" => Some(own.address()),
        b"rpc_port" | b"native_port" => Some(own.port()),
        b"host_id" => Some(own.host_id.to_vec()),
        b"tokens" => Some(own.tokens()),
        _ => None,
    }
}

/// An `inet`.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The host id shown at this address: the same after every restart, in every weir and whichever node answers. A
/// name-based UUID in form (RFC 9562 section 5.8, version 8: MD5 of a text of our own).
fn host_id(at: SocketAddr) -> [u8; 16] {
    let mut id: [u8; 16] = Md5::digest(format!("weir {at}").as_bytes()).into();
    id[6] = (id[6] & 0x0f) | 0x80;
    id[8] = (id[8] & 0x3f) | 0x80;
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_apart() {
        assert_eq!(system_table_in(b"system", b"local"), Some(SystemTable::Local));
        assert_eq!(system_table_in(b"system", b"peers_v2"), Some(SystemTable::Peers));
        assert_eq!(system_table_in(b"system_schema", b"tables"), Some(SystemTable::Other));
        assert_eq!(system_table_in(b"shop", b"local"), None);
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn host_ids_are_stable_uuids() {
        let id = Shown::own(at("127.0.0.1:9042"), None).host_id;
        assert_eq!((id[6] >> 4, id[8] >> 6), (8, 2));
        // as written here it stays: drivers take another id for another node
        assert_eq!(id[..4], [0x17, 0xbc, 0x82, 0x4a]);
        assert_ne!(id, Shown::own(at("127.0.0.1:9043"), None).host_id);
        assert_eq!(id, Shown::own(at("[::ffff:127.0.0.1]:9042"), None).host_id);
    }

    #[test]
    fn addresses_are_those_dialled() {
        let own = Shown::own(at("127.0.0.9:9142"), None);
        assert_eq!(local_cell(b"rpc_address", &own), Some(vec![127, 0, 0, 9]));
        assert_eq!(local_cell(b"rpc_port", &own), Some(vec![0, 0, 0x23, 0xb6]));
        assert_eq!(local_cell(b"tokens", &own), Some(vec![0, 0, 0, 1, 0, 0, 0, 1, b'0']));
        assert_eq!(local_cell(b"rack", &own), None);
    }

    #[test]
    fn two_weirs_tell_the_same_of_each_other() {
        let (one, two) = (at("10.0.0.2:9142"), at("10.0.0.10:9142"));
        for (here, there) in [(one, two), (two, one)] {
            assert_eq!(Shown::own(here, Some(there)), Shown::second(there, Some(here)).expect("the other"));
        }
        assert_ne!(Shown::own(one, Some(two)).token, Shown::own(two, Some(one)).token);
        assert_eq!(Shown::second(one, Some(one)), None, "its own address is no second weir's");
        assert_eq!(Shown::second(one, None), None);
    }
}
