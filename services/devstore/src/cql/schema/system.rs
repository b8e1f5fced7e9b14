//! The keyspaces of the system: their tables, of which [`super::rows`] makes the rows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Table, change};
use crate::cql::parse::{self, Statement, ast::Ddl};
use crate::cql::refusal::Refusal;

/// What the store says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its id, the same for the life of the file.
    pub host_id: [u8; 16],
    /// Where it listens.
    pub address: SocketAddr,
}

/// The name of the cluster; what a person sees in a driver's log.
pub const CLUSTER: &str = "embedded development store (weir-devstore)";
/// The version of Cassandra whose tables of the system these are: drivers choose their queries by it.
pub const RELEASE: &str = "5.0.0";
/// The only data centre.
pub const DATA_CENTER: &str = "datacenter1";
/// The only rack.
pub const RACK: &str = "rack1";

const KEYSPACES: [&str; 6] =
    ["system", "system_auth", "system_schema", "system_traces", "system_virtual_schema", "system_views"];

/// Whether a keyspace is the system's.
pub fn is_system(keyspace: &str) -> bool {
    KEYSPACES.contains(&keyspace)
}

/// Collections are written as frozen: their rows are made in one piece.
const TABLES: &str = "
system.local (key text PRIMARY KEY, bootstrapped text, broadcast_address inet, broadcast_port int, cluster_name text,
  cql_version text, data_center text, gossip_generation int, host_id uuid, listen_address inet, listen_port int,
  native_protocol_version text, partitioner text, rack text, release_version text, rpc_address inet, rpc_port int,
  schema_version uuid, tokens frozen<set<text>>, truncated_at frozen<map<uuid, blob>>);
system.peers (peer inet PRIMARY KEY, data_center text, host_id uuid, preferred_ip inet, rack text,
  release_version text, rpc_address inet, schema_version uuid, tokens frozen<set<text>>);
system.peers_v2 (peer inet, peer_port int, data_center text, host_id uuid, native_address inet, native_port int,
  preferred_ip inet, preferred_port int, rack text, release_version text, schema_version uuid,
  tokens frozen<set<text>>, PRIMARY KEY (peer, peer_port));
system_schema.keyspaces (keyspace_name text PRIMARY KEY, durable_writes boolean, replication frozen<map<text, text>>);
system_schema.tables (keyspace_name text, table_name text, additional_write_policy text, allow_auto_snapshot boolean,
  bloom_filter_fp_chance double, caching frozen<map<text, text>>, cdc boolean, comment text,
  compaction frozen<map<text, text>>, compression frozen<map<text, text>>, crc_check_chance double,
  dclocal_read_repair_chance double, default_time_to_live int, extensions frozen<map<text, blob>>,
  flags frozen<set<text>>, gc_grace_seconds int, id uuid, incremental_backups boolean, max_index_interval int,
  memtable text, memtable_flush_period_in_ms int, min_index_interval int, read_repair text, read_repair_chance double,
  speculative_retry text, PRIMARY KEY (keyspace_name, table_name));
system_schema.columns (keyspace_name text, table_name text, column_name text, clustering_order text,
  column_name_bytes blob, kind text, position int, type text, PRIMARY KEY (keyspace_name, table_name, column_name));
system_schema.column_masks (keyspace_name text, table_name text, column_name text, function_name text,
  PRIMARY KEY (keyspace_name, table_name, column_name));
system_schema.dropped_columns (keyspace_name text, table_name text, column_name text, dropped_time timestamp,
  kind text, type text, PRIMARY KEY (keyspace_name, table_name, column_name));
system_schema.views (keyspace_name text, view_name text, additional_write_policy text, base_table_id uuid,
  base_table_name text, bloom_filter_fp_chance double, caching frozen<map<text, text>>, cdc boolean, comment text,
  compaction frozen<map<text, text>>, compression frozen<map<text, text>>, crc_check_chance double,
  dclocal_read_repair_chance double, default_time_to_live int, extensions frozen<map<text, blob>>, gc_grace_seconds int,
  id uuid, include_all_columns boolean, max_index_interval int, memtable_flush_period_in_ms int, min_index_interval int,
  read_repair text, read_repair_chance double, speculative_retry text, where_clause text,
  PRIMARY KEY (keyspace_name, view_name));
system_schema.types (keyspace_name text, type_name text, field_names frozen<list<text>>, field_types frozen<list<text>>,
  PRIMARY KEY (keyspace_name, type_name));
system_schema.functions (keyspace_name text, function_name text, argument_types frozen<list<text>>,
  argument_names frozen<list<text>>, body text, called_on_null_input boolean, language text, return_type text,
  PRIMARY KEY (keyspace_name, function_name, argument_types));
system_schema.aggregates (keyspace_name text, aggregate_name text, argument_types frozen<list<text>>, final_func text,
  initcond text, return_type text, state_func text, state_type text,
  PRIMARY KEY (keyspace_name, aggregate_name, argument_types));
system_schema.triggers (keyspace_name text, table_name text, trigger_name text, options frozen<map<text, text>>,
  PRIMARY KEY (keyspace_name, table_name, trigger_name));
system_schema.indexes (keyspace_name text, table_name text, index_name text, kind text,
  options frozen<map<text, text>>, PRIMARY KEY (keyspace_name, table_name, index_name));
system_virtual_schema.keyspaces (keyspace_name text PRIMARY KEY);
system_virtual_schema.tables (keyspace_name text, table_name text, comment text,
  PRIMARY KEY (keyspace_name, table_name));
system_virtual_schema.columns (keyspace_name text, table_name text, column_name text, clustering_order text,
  column_name_bytes blob, kind text, position int, type text, PRIMARY KEY (keyspace_name, table_name, column_name));
system_views.embedded_development_store (name text PRIMARY KEY, value bigint);
";

/// The tables of the system.
#[derive(Clone, Debug)]
pub struct System {
    /// What the store says of itself.
    pub node: Node,
    tables: BTreeMap<(String, String), Arc<Table>>,
}

impl System {
    /// For a store.
    ///
    /// # Errors
    /// Never, unless the tables above are no CQL.
    pub fn new(node: Node) -> Result<Self, Refusal> {
        let mut tables = BTreeMap::new();
        for (nth, text) in TABLES.split(';').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
            let made = parse::statement(format!("CREATE TABLE {text}").as_bytes())?;
            let Statement::Ddl(Ddl::CreateTable(create)) = made.statement else { continue };
            let keyspace = create.table.keyspace.clone().unwrap_or_default();
            let mut id = [0; 16];
            id[15] = nth as u8;
            let table = change::system_table(&create, &keyspace, id)?;
            tables.insert((keyspace, table.name.clone()), Arc::new(table));
        }
        Ok(Self { node, tables })
    }

    /// A table.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(&(keyspace.to_owned(), name.to_owned()))
    }

    /// All of them.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// The names of the keyspaces.
    pub fn keyspaces() -> impl Iterator<Item = &'static str> {
        KEYSPACES.into_iter()
    }
}
