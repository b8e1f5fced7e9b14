//! What drivers see of the cluster: one node, at the address they dialled.
//!
//! Drivers learn addresses from `system.local` and `system.peers` and then dial those, past any proxy (measured with
//! the Rust driver: all data traffic went straight to the cluster). So rows of `system.local` are rewritten on their
//! way through, for QUERY and for EXECUTE, and `system.peers` has none. Everything that is no address stays real:
//! data centre, rack, release, partitioner, schema version.

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
    /// They are those of other nodes: none is left.
    Empty,
}

impl SystemTable {
    pub(super) fn rewrite(self) -> Rewrite {
        match self {
            SystemTable::Local => Rewrite::Local,
            SystemTable::Peers => Rewrite::Empty,
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

/// Whether rows of `system.local` asked like this could show an address in a form that cannot be rewritten.
pub(super) fn hides_addresses(select: &Select) -> bool {
    let computed = match &select.selection {
        Selection::All => false,
        Selection::Items(items) => items.iter().any(|item| item.column.is_none()),
    };
    select.json || (computed)
}

/// What stands in place of a cell of `system.local`; `None` where the real one stays.
pub(super) fn local_cell(column: &[u8], dialled: SocketAddr, host_id: &[u8; 16]) -> Option<Vec<u8>> {
    match column {
        b"rpc_address" | b"broadcast_address" | b"listen_address" | b"native_address" => {
            Some(address_bytes(dialled.ip()))
        }
        b"rpc_port" | b"native_port" => Some(i32::from(dialled.port()).to_be_bytes().to_vec()),
        b"host_id" => Some(host_id.to_vec()),
        // one token: all keys are here
        b"tokens" => {
            let mut set = Vec::with_capacity(9);
            set.extend_from_slice(&1i32.to_be_bytes());
            set.extend_from_slice(&1i32.to_be_bytes());
            set.push(b'0');
            Some(set)
        }
        _ => None,
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The host id shown at this address: the same after every restart of weir and whichever node answers. A name-based
/// UUID in form (RFC 9562 section 5.8, version 8: the hash is our own).
pub(super) fn host_id(cluster: &str, dialled: SocketAddr) -> [u8; 16] {
    use std::hash::BuildHasher as _;
    let half = |salt: u64| rustc_hash::FxBuildHasher.hash_one((salt, cluster, dialled));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half(1).to_be_bytes());
    id[8..].copy_from_slice(&half(2).to_be_bytes());
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

    #[test]
    fn host_ids_are_stable_uuids() {
        let at = "127.0.0.1:9042".parse().expect("an address");
        let id = host_id("main", at);
        assert_eq!(id, host_id("main", at));
        assert_ne!(id, host_id("other", at));
        assert_eq!((id[6] >> 4, id[8] >> 6), (8, 2));
    }

    #[test]
    fn addresses_are_those_dialled() {
        let at: SocketAddr = "127.0.0.9:9142".parse().expect("an address");
        let id = host_id("main", at);
        assert_eq!(local_cell(b"rpc_address", at, &id), Some(vec![127, 0, 0, 9]));
        assert_eq!(local_cell(b"rpc_port", at, &id), Some(vec![0, 0, 0x23, 0xb6]));
        assert_eq!(local_cell(b"tokens", at, &id), Some(vec![0, 0, 0, 1, 0, 0, 0, 1, b'0']));
        assert_eq!(local_cell(b"rack", at, &id), None);
    }
}
