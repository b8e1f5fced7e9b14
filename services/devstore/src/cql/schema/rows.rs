//! The rows of the system's tables, made when they are asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;

use weir_cql::key::composite;
use weir_cql::write;

use super::system::{CLUSTER, DATA_CENTER, RACK, RELEASE, System};
use super::{Catalog, Place, Table, key_type};
use crate::cql::refusal::Refusal;
use crate::cql::store::row::{Cell, Content, Marker, Row};
use crate::cql::store::{Counters, Source, Visit, key};

/// Rows in memory, read as those of the store are.
#[derive(Debug, Default)]
pub struct Made(BTreeMap<Vec<u8>, Vec<u8>>);

impl Source for Made {
    fn scan(&self, start: &[u8], end: &[u8], reversed: bool, visit: &mut Visit<'_>) -> Result<(), Refusal> {
        if start >= end {
            return Ok(());
        }
        let range = self.0.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        let mut visit = |(key, record): (&Vec<u8>, &Vec<u8>)| visit(key, record);
        let mut forwards = range.clone();
        let mut backwards = range.rev();
        loop {
            let next = if reversed { backwards.next() } else { forwards.next() };
            match next {
                Some(found) if visit(found)? => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Names and values of one row.
type Fields<'a> = [(&'a str, Option<Vec<u8>>)];

impl Made {
    fn put(&mut self, table: &Table, fields: &Fields<'_>) {
        let field = |name: &str| {
            fields.iter().find(|(other, _)| *other == name).and_then(|(_, value)| value.as_deref())
        };
        let keys: Vec<&[u8]> =
            table.partition_columns().iter().map(|column| field(&column.name).unwrap_or_default()).collect();
        let Some(partition) = composite(&keys) else { return };
        let mut clustering = Vec::new();
        for column in table.clustering_columns() {
            if let Some(kind) = key_type(&column.kind.cql) {
                key::push(kind, false, field(&column.name).unwrap_or_default(), &mut clustering);
            }
        }
        let mut row = Row { marker: Some(Marker { timestamp: 0, expiry: None }), ..Row::default() };
        for column in table.regular_columns() {
            if let Some(value) = field(&column.name) {
                let content = Content::Value(value.to_vec(), None);
                row.cells.insert(column.id, Cell { timestamp: 0, content });
            }
        }
        self.0.insert(key::row(&key::partition(&partition), &clustering), row.write());
    }
}

/// The rows of a table; `dialled` is the address the client has used.
pub fn of(table: &Table, catalog: &Catalog, dialled: SocketAddr, counters: &Counters) -> Made {
    let mut made = Made::default();
    match (table.keyspace.as_str(), table.name.as_str()) {
        ("system", "local") => made.put(table, &local(catalog, dialled)),
        ("system_schema", "keyspaces") => keyspaces(&mut made, table, catalog),
        ("system_schema", "tables") => {
            all_tables(catalog).for_each(|each| made.put(table, &table_fields(each)));
        }
        ("system_schema", "columns") => all_tables(catalog).for_each(|each| columns(&mut made, table, each)),
        ("system_views", "embedded_development_store") => figures(&mut made, table, catalog, counters),
        _ => {}
    }
    made
}

fn all_tables(catalog: &Catalog) -> impl Iterator<Item = &Table> {
    let own = catalog.keyspaces.values().flat_map(|keyspace| keyspace.tables.values());
    own.chain(catalog.system.tables()).map(|table| &**table)
}

fn text(value: &str) -> Option<Vec<u8>> {
    Some(value.as_bytes().to_vec())
}

fn int(value: i32) -> Option<Vec<u8>> {
    Some(value.to_be_bytes().to_vec())
}

fn boolean(value: bool) -> Option<Vec<u8>> {
    Some(vec![u8::from(value)])
}

fn double(value: f64) -> Option<Vec<u8>> {
    Some(value.to_be_bytes().to_vec())
}

fn inet(address: IpAddr) -> Option<Vec<u8>> {
    Some(match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    })
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Vec<u8>> {
    let values: Vec<&str> = values.into_iter().collect();
    let mut out = Vec::new();
    write::bits(&mut out, values.len() as u32);
    values.iter().for_each(|value| write::bytes(&mut out, value.as_bytes()));
    Some(out)
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Vec<u8>> {
    let pairs: BTreeMap<&str, &str> = pairs.into_iter().collect();
    let mut out = Vec::new();
    write::bits(&mut out, pairs.len() as u32);
    for (key, value) in pairs {
        write::bytes(&mut out, key.as_bytes());
        write::bytes(&mut out, value.as_bytes());
    }
    Some(out)
}

fn local(catalog: &Catalog, dialled: SocketAddr) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let address = dialled.ip().to_canonical();
    let port = i32::from(dialled.port());
    vec![
        ("key", text("local")),
        ("bootstrapped", text("COMPLETED")),
        ("broadcast_address", inet(address)),
        ("broadcast_port", int(port)),
        ("cluster_name", text(CLUSTER)),
        ("cql_version", text("3.4.7")),
        ("data_center", text(DATA_CENTER)),
        ("gossip_generation", int(1)),
        ("host_id", Some(catalog.system.node.host_id.to_vec())),
        ("listen_address", inet(address)),
        ("listen_port", int(port)),
        ("native_protocol_version", text("5")),
        ("partitioner", text("org.apache.cassandra.dht.Murmur3Partitioner")),
        ("rack", text(RACK)),
        ("release_version", text(RELEASE)),
        ("rpc_address", inet(address)),
        ("rpc_port", int(port)),
        ("schema_version", Some(catalog.version().to_vec())),
        ("tokens", texts(["0"])),
    ]
}

fn keyspaces(made: &mut Made, table: &Table, catalog: &Catalog) {
    for keyspace in catalog.keyspaces.values() {
        let replication = keyspace.replication.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let fields = [
            ("keyspace_name", text(&keyspace.name)),
            ("durable_writes", boolean(keyspace.durable_writes)),
            ("replication", map(replication)),
        ];
        made.put(table, &fields);
    }
    for name in System::keyspaces() {
        let replication = [("class", "org.apache.cassandra.locator.LocalStrategy")];
        let fields = [
            ("keyspace_name", text(name)),
            ("durable_writes", boolean(true)),
            ("replication", map(replication)),
        ];
        made.put(table, &fields);
    }
}

fn table_fields(table: &Table) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let options = &table.options;
    let maps = |name: &str, default: &[(&str, &str)]| match options.maps.get(name) {
        Some(pairs) => map(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
        None => map(default.iter().copied()),
    };
    let plain = |name: &str, default: &'static str| match options.plain.get(name) {
        Some(value) => text(value),
        None => text(default),
    };
    let number = |name: &str, default: f64| {
        double(options.plain.get(name).and_then(|value| value.parse().ok()).unwrap_or(default))
    };
    let whole = |name: &str, default: i32| {
        int(options.plain.get(name).and_then(|value| value.parse().ok()).unwrap_or(default))
    };
    let flags: &[&str] = if table.is_counter() { &["compound", "counter"] } else { &["compound"] };
    vec![
        ("keyspace_name", text(&table.keyspace)),
        ("table_name", text(&table.name)),
        ("additional_write_policy", plain("additional_write_policy", "99p")),
        ("bloom_filter_fp_chance", number("bloom_filter_fp_chance", 0.01)),
        ("caching", maps("caching", &[("keys", "ALL"), ("rows_per_partition", "NONE")])),
        ("comment", text(&options.comment)),
        (
            "compaction",
            maps(
                "compaction",
                &[("class", "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy")],
            ),
        ),
        ("compression", maps("compression", &[("enabled", "false")])),
        ("crc_check_chance", number("crc_check_chance", 1.0)),
        ("dclocal_read_repair_chance", double(0.0)),
        ("default_time_to_live", int(i32::try_from(options.ttl).unwrap_or(i32::MAX))),
        ("extensions", map([])),
        ("flags", texts(flags.iter().copied())),
        ("gc_grace_seconds", int(options.grace.unwrap_or(crate::cql::store::GRACE))),
        ("id", Some(table.id.to_vec())),
        ("max_index_interval", whole("max_index_interval", 2048)),
        ("memtable_flush_period_in_ms", whole("memtable_flush_period_in_ms", 0)),
        ("min_index_interval", whole("min_index_interval", 128)),
        ("read_repair", plain("read_repair", "BLOCKING")),
        ("read_repair_chance", double(0.0)),
        ("speculative_retry", plain("speculative_retry", "99p")),
    ]
}

fn columns(made: &mut Made, into: &Table, table: &Table) {
    for column in &table.columns {
        let (kind, position, order) = match column.place {
            Place::Partition(at) => ("partition_key", i32::from(at), "none"),
            Place::Clustering { at, descending: false } => ("clustering", i32::from(at), "asc"),
            Place::Clustering { at, descending: true } => ("clustering", i32::from(at), "desc"),
            Place::Regular => ("regular", -1, "none"),
        };
        let fields = [
            ("keyspace_name", text(&table.keyspace)),
            ("table_name", text(&table.name)),
            ("column_name", text(&column.name)),
            ("clustering_order", text(order)),
            ("column_name_bytes", text(&column.name)),
            ("kind", text(kind)),
            ("position", int(position)),
            ("type", text(&column.kind.to_string())),
        ];
        made.put(into, &fields);
    }
}

/// The metrics of the store.
fn figures(made: &mut Made, table: &Table, catalog: &Catalog, counters: &Counters) {
    use std::sync::atomic::Ordering::Relaxed;
    let figures = [
        ("commits", counters.commits.load(Relaxed)),
        ("commit_failures", counters.failures.load(Relaxed)),
        ("keyspaces", catalog.keyspaces.len() as u64),
        ("tables", catalog.tables() as u64),
        ("writes", counters.jobs.load(Relaxed)),
    ];
    for (name, value) in figures {
        let value = i64::try_from(value).unwrap_or(i64::MAX).to_be_bytes().to_vec();
        made.put(table, &[("name", text(name)), ("value", Some(value))]);
    }
}
