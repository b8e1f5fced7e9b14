//! What is deleted for longer than the grace of its table goes, when the store is opened: the file is not read twice a
//! day for it, and a development store is started often enough.

use anyhow::Result;
use redb::{ReadableDatabase, ReadableTable, TableError};

use super::head::Head;
use super::row::Row;
use super::{Records, Store, key, records_name};
use crate::cql::schema::Catalog;

/// Seconds a tombstone is kept where the table says nothing: ten days, as in Cassandra.
pub const GRACE: i32 = 864_000;
/// Records removed in one transaction.
const TOGETHER: usize = 50_000;

impl Store {
    /// Takes out what was deleted or has expired for longer than its table's grace; how many records went. `now` is
    /// seconds since 1970.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn sweep(&self, catalog: &Catalog, now: u32) -> Result<u64> {
        let mut removed = 0;
        for table in catalog.keyspaces.values().flat_map(|keyspace| keyspace.tables.values()) {
            let grace = table.options.grace.unwrap_or(GRACE).unsigned_abs();
            let before = now.saturating_sub(grace);
            let name = records_name(table.storage);
            let read = self.database()?.begin_read()?;
            let records = match read.open_table(Records::new(&name)) {
                Ok(records) => records,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut gone = Vec::new();
            for entry in records.iter()? {
                let (found, record) = entry?;
                let is_row = key::split(found.value()).is_ok_and(|(_, _, clustering)| clustering.is_some());
                let empty = match is_row {
                    true => Row::read(record.value()).is_ok_and(|mut row| row.purge(before)),
                    false => Head::read(record.value()).is_ok_and(|mut head| head.purge(before)),
                };
                if empty {
                    gone.push(found.value().to_vec());
                }
            }
            for some in gone.chunks(TOGETHER) {
                let write = self.database()?.begin_write()?;
                {
                    let mut records = write.open_table(Records::new(&name))?;
                    for key in some {
                        records.remove(key.as_slice())?;
                    }
                }
                write.commit()?;
                removed += some.len() as u64;
            }
        }
        Ok(removed)
    }
}
