//! What keyspaces and tables there are. Read by every request as one [`Catalog`] that never changes; a schema change
//! makes the next one.

pub mod change;
mod kind;
pub mod options;
pub mod rows;
pub mod system;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use kind::ColumnType;
pub use options::TableOptions;

/// Longest name of a keyspace or table, as Cassandra has it.
pub const NAME_MAX: usize = 48;
/// Most tables of all keyspaces.
pub const TABLES_MAX: usize = 1_000;
/// Most columns of a table.
pub const COLUMNS_MAX: usize = 1_000;

/// Where a column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Place {
    /// The nth of the partition key.
    Partition(u16),
    /// The nth of the clustering columns.
    Clustering {
        /// Which.
        at: u16,
        /// Its order is reversed.
        descending: bool,
    },
    /// Neither.
    Regular,
}

/// A column.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its cells are stored under; never given to another column of the table.
    pub id: u16,
    /// Its type.
    pub kind: ColumnType,
    /// Where it stands.
    pub place: Place,
}

/// A table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Its id, a UUID.
    pub id: [u8; 16],
    /// Where its rows are; another after a truncation.
    pub storage: u64,
    /// Partition key, clustering columns, then the others by name: the order of `SELECT *`.
    pub columns: Vec<Column>,
    /// How many columns are the partition key.
    pub partition: usize,
    /// How many are clustering columns.
    pub clustering: usize,
    /// The id of the next column that is added.
    pub next_column: u16,
    /// `WITH`
    pub options: TableOptions,
}

impl Table {
    /// The partition key.
    pub fn partition_columns(&self) -> &[Column] {
        &self.columns[..self.partition]
    }

    /// The clustering columns.
    pub fn clustering_columns(&self) -> &[Column] {
        &self.columns[self.partition..self.partition + self.clustering]
    }

    /// The others.
    pub fn regular_columns(&self) -> &[Column] {
        &self.columns[self.partition + self.clustering..]
    }

    /// A column by its name, with its place in `columns`.
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }

    /// Its columns are counters.
    pub fn is_counter(&self) -> bool {
        self.regular_columns().iter().any(|column| column.kind.is_counter())
    }

    /// Puts the columns in order.
    fn sort(&mut self) {
        self.columns.sort_by(|left, right| {
            let rank = |column: &Column| match column.place {
                Place::Partition(at) => (0, at),
                Place::Clustering { at, .. } => (1, at),
                Place::Regular => (2, 0),
            };
            rank(left).cmp(&rank(right)).then_with(|| left.name.cmp(&right.name))
        });
    }
}

/// A keyspace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    /// As `system_schema.keyspaces` tells it: the class by its full name.
    pub replication: BTreeMap<String, String>,
    /// As `system_schema.keyspaces` tells it.
    pub durable_writes: bool,
    /// Its tables.
    pub tables: BTreeMap<String, Arc<Table>>,
}

/// Everything there is, at one moment.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The keyspaces, without those of the system.
    pub keyspaces: BTreeMap<String, Arc<Keyspace>>,
    /// Grows with every change.
    pub generation: u64,
    /// Where the next table's rows will be.
    pub next_storage: u64,
    /// Tables of the system.
    pub system: Arc<system::System>,
}

impl Catalog {
    /// A keyspace of users or of the system.
    pub fn has_keyspace(&self, name: &str) -> bool {
        self.keyspaces.contains_key(name) || system::is_system(name)
    }

    /// A table of users or of the system.
    pub fn table(&self, keyspace: &str, name: &str) -> Option<&Arc<Table>> {
        if system::is_system(keyspace) {
            return self.system.table(keyspace, name);
        }
        self.keyspaces.get(keyspace)?.tables.get(name)
    }

    /// How many tables users have.
    pub fn tables(&self) -> usize {
        self.keyspaces.values().map(|keyspace| keyspace.tables.len()).sum()
    }

    /// What drivers compare between nodes: a UUID of version 3's form made of the generation.
    pub fn version(&self) -> [u8; 16] {
        let mut uuid = [0x5a; 16];
        uuid[8..].copy_from_slice(&self.generation.to_be_bytes());
        uuid[6] = 0x30;
        uuid[8] = 0x80 | (uuid[8] & 0x3f);
        uuid
    }
}

/// A type's name in CQL.
pub use kind::{key_type, name as type_name};
