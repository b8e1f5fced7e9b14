//! The schema in the file: one record per keyspace, and a few facts of the store itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::Store;
use crate::cql::plan::value::uuid;
use crate::cql::schema::system::{Node, System};
use crate::cql::schema::{Catalog, Keyspace};

/// Keyspaces by their names, as JSON.
const KEYSPACES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("keyspaces");
/// Facts by their names.
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");
/// The layout of everything else; another one is refused.
const LAYOUT: &[u8] = b"1";

impl Store {
    /// Reads the schema, or begins with none. `node` says where the store listens; it gets its id here.
    ///
    /// # Errors
    /// When the file is of another layout or cannot be read.
    pub fn load(&self, mut node: Node) -> Result<Catalog> {
        let read = self.database()?.begin_read()?;
        let facts = match read.open_table(FACTS) {
            Ok(facts) => facts,
            Err(TableError::TableDoesNotExist(_)) => {
                let write = self.database()?.begin_write()?;
                {
                    let mut facts = write.open_table(FACTS)?;
                    facts.insert("layout", LAYOUT)?;
                    facts.insert("host id", uuid().as_slice())?;
                    write.open_table(KEYSPACES)?;
                }
                write.commit()?;
                return self.load(node);
            }
            Err(error) => return Err(error.into()),
        };
        let fact = |name: &str| -> Result<Option<Vec<u8>>> {
            Ok(facts.get(name)?.map(|found| found.value().to_vec()))
        };
        if fact("layout")?.as_deref() != Some(LAYOUT) {
            bail!("the file is of another version of this store");
        }
        if let Some(id) = fact("host id")?.and_then(|id| id.try_into().ok()) {
            node.host_id = id;
        }
        let number = |name: &str| -> Result<u64> {
            Ok(fact(name)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
        };
        let mut keyspaces = BTreeMap::new();
        for entry in read.open_table(KEYSPACES)?.iter()? {
            let (name, json) = entry?;
            let keyspace: Keyspace =
                serde_json::from_slice(json.value()).with_context(|| format!("keyspace {}", name.value()))?;
            keyspaces.insert(name.value().to_owned(), Arc::new(keyspace));
        }
        Ok(Catalog {
            keyspaces,
            generation: number("generation")?,
            next_storage: number("next storage")?,
            system: Arc::new(System::new(node)?),
        })
    }
}

/// Writes what changed of the schema.
pub(super) fn save(write: &WriteTransaction, catalog: &Catalog, changed: &[String]) -> Result<()> {
    let mut keyspaces = write.open_table(KEYSPACES)?;
    for name in changed {
        match catalog.keyspaces.get(name) {
            Some(keyspace) => {
                keyspaces.insert(name.as_str(), serde_json::to_vec(&**keyspace)?.as_slice())?;
            }
            None => {
                keyspaces.remove(name.as_str())?;
            }
        }
    }
    let mut facts = write.open_table(FACTS)?;
    facts.insert("generation", catalog.generation.to_be_bytes().as_slice())?;
    facts.insert("next storage", catalog.next_storage.to_be_bytes().as_slice())?;
    Ok(())
}
