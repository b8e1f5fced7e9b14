//! DDL: the catalog before, the catalog after, and what is told of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    COLUMNS_MAX, Catalog, Column, ColumnType, Keyspace, NAME_MAX, Place, TABLES_MAX, Table, TableOptions,
};
use super::{kind, options, system};
use crate::cql::parse::TableName;
use crate::cql::parse::ast::{CreateTable, Ddl};
use crate::cql::refusal::Refusal;

/// What a schema change is, as RESULT and EVENT tell it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// `CREATED`, `UPDATED`, `DROPPED`
    pub change: &'static str,
    /// The keyspace.
    pub keyspace: String,
    /// The table; `None` when it is the keyspace itself.
    pub table: Option<String>,
}

/// What a DDL statement comes to.
#[derive(Debug)]
pub struct Changed {
    /// The catalog from now on.
    pub catalog: Catalog,
    /// What is told; `None` for a truncation, and where there was nothing to do.
    pub told: Option<Told>,
    /// Keyspaces whose record is to be written, or removed where they are gone.
    pub keyspaces: Vec<String>,
    /// Storages that are to be removed.
    pub removed: Vec<u64>,
}

/// The keyspace of a table: its own, or the connection's.
///
/// # Errors
/// Invalid when there is neither.
pub fn keyspace_of<'a>(table: &'a TableName, used: Option<&'a str>) -> Result<&'a str, Refusal> {
    table.keyspace.as_deref().or(used).ok_or_else(|| {
        Refusal::invalid(
            "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename",
        )
    })
}

/// Finds a table.
///
/// # Errors
/// Invalid when it is not there.
pub fn find<'a>(
    catalog: &'a Catalog,
    table: &TableName,
    used: Option<&str>,
) -> Result<&'a Arc<Table>, Refusal> {
    let keyspace = keyspace_of(table, used)?;
    if !catalog.has_keyspace(keyspace) {
        return Err(Refusal::invalid(format!("keyspace {keyspace} does not exist")));
    }
    let missing = || Refusal::invalid(format!("table {} does not exist", table.name));
    catalog.table(keyspace, &table.name).ok_or_else(missing)
}

/// Applies `ddl`; `used` is the keyspace of unqualified names, `id` the id of a new table.
///
/// # Errors
/// Those of Cassandra: what is there already or not there at all, columns that are not there.
pub fn apply(catalog: &Catalog, ddl: &Ddl, used: Option<&str>, id: [u8; 16]) -> Result<Changed, Refusal> {
    let mut changed =
        Changed { catalog: catalog.clone(), told: None, keyspaces: Vec::new(), removed: Vec::new() };
    match ddl {
        Ddl::CreateKeyspace { name, options, if_not_exists } => {
            let (replication, durable_writes) = options::keyspace(options, None)?;
            writable(name).map_err(|refusal| Refusal::invalid(refusal.message))?;
            check_name("keyspace", name)?;
            if catalog.has_keyspace(name) {
                return if *if_not_exists { Ok(changed) } else { Err(Refusal::already_exists(name, "")) };
            }
            let tables = std::collections::BTreeMap::new();
            changed.put(Keyspace { name: name.clone(), replication, durable_writes, tables });
            changed.tell("CREATED", name, None);
        }
        Ddl::AlterKeyspace { name, options } => {
            writable(name)?;
            let mut keyspace = keyspace(catalog, name)?;
            let before = Some((keyspace.replication, keyspace.durable_writes));
            (keyspace.replication, keyspace.durable_writes) = options::keyspace(options, before)?;
            changed.put(keyspace);
            changed.tell("UPDATED", name, None);
        }
        Ddl::DropKeyspace { name, if_exists } => {
            writable(name)?;
            let Some(keyspace) = changed.catalog.keyspaces.remove(name) else {
                let missing = Refusal::invalid(format!("Keyspace '{name}' doesn't exist"));
                return if *if_exists { Ok(changed) } else { Err(missing) };
            };
            changed.removed.extend(keyspace.tables.values().map(|table| table.storage));
            changed.keyspaces.push(name.clone());
            changed.tell("DROPPED", name, None);
        }
        Ddl::CreateTable(create) => create_table(catalog, create, used, id, &mut changed)?,
        Ddl::AlterTable { table, add, drop, options } => {
            let mut keyspace = writable_keyspace(catalog, table, used)?;
            let mut altered = (**find(catalog, table, used)?).clone();
            for (name, kind) in add {
                add_column(&mut altered, name, kind)?;
            }
            for name in drop {
                let found = altered.column(name).map(|(at, column)| (at, column.place));
                match found {
                    Some((at, Place::Regular)) => {
                        altered.columns.remove(at);
                    }
                    Some(_) => {
                        return Err(Refusal::invalid(format!("Cannot drop PRIMARY KEY column {name}")));
                    }
                    None => return Err(unknown_column(name, &altered)),
                }
            }
            altered.options = altered.options.with(options)?;
            altered.sort();
            counters(&altered).map_err(|refusal| {
                Refusal::new(weir_cql::response::ErrorCode::CONFIG_ERROR, refusal.message)
            })?;
            keyspace.tables.insert(altered.name.clone(), Arc::new(altered));
            changed.tell("UPDATED", &keyspace.name, Some(&table.name));
            changed.put(keyspace);
        }
        Ddl::DropTable { table, if_exists } => {
            let name = keyspace_of(table, used)?;
            if *if_exists && catalog.table(name, &table.name).is_none() {
                return Ok(changed);
            }
            let mut keyspace = writable_keyspace(catalog, table, used)?;
            let dropped = keyspace
                .tables
                .remove(&table.name)
                .ok_or_else(|| Refusal::invalid(format!("Table '{name}.{}' doesn't exist", table.name)))?;
            changed.removed.push(dropped.storage);
            changed.tell("DROPPED", name, Some(&table.name));
            changed.put(keyspace);
        }
        Ddl::Truncate(table) => {
            let mut keyspace = writable_keyspace(catalog, table, used)?;
            let mut emptied = (**find(catalog, table, used)?).clone();
            changed.removed.push(emptied.storage);
            emptied.storage = changed.storage();
            keyspace.tables.insert(emptied.name.clone(), Arc::new(emptied));
            changed.put(keyspace);
        }
    }
    changed.catalog.generation += 1;
    Ok(changed)
}

impl Changed {
    fn put(&mut self, keyspace: Keyspace) {
        self.keyspaces.push(keyspace.name.clone());
        self.catalog.keyspaces.insert(keyspace.name.clone(), Arc::new(keyspace));
    }

    fn tell(&mut self, change: &'static str, keyspace: &str, table: Option<&str>) {
        self.told = Some(Told { change, keyspace: keyspace.into(), table: table.map(str::to_owned) });
    }

    fn storage(&mut self) -> u64 {
        self.catalog.next_storage += 1;
        self.catalog.next_storage
    }
}

/// The keyspaces of the system are told, not written.
fn writable(keyspace: &str) -> Result<(), Refusal> {
    if system::is_system(keyspace) {
        return Err(Refusal::new(
            weir_cql::response::ErrorCode::UNAUTHORIZED,
            format!("{keyspace} keyspace is not user-modifiable."),
        ));
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let fits = name.len() <= NAME_MAX
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "{what} name must not be empty, more than {NAME_MAX} characters long, or contain non-alphanumeric-underscore \
         characters (got \"{name}\")"
    )))
}

fn keyspace(catalog: &Catalog, name: &str) -> Result<Keyspace, Refusal> {
    let missing = || Refusal::invalid(format!("Keyspace '{name}' doesn't exist"));
    catalog.keyspaces.get(name).map(|keyspace| (**keyspace).clone()).ok_or_else(missing)
}

fn writable_keyspace(catalog: &Catalog, table: &TableName, used: Option<&str>) -> Result<Keyspace, Refusal> {
    let name = keyspace_of(table, used)?;
    writable(name)?;
    keyspace(catalog, name)
}

fn unknown_column(name: &str, table: &Table) -> Refusal {
    Refusal::invalid(format!("Column {name} was not found in table {}.{}", table.keyspace, table.name))
}

fn create_table(
    catalog: &Catalog,
    create: &CreateTable,
    used: Option<&str>,
    id: [u8; 16],
    changed: &mut Changed,
) -> Result<(), Refusal> {
    let mut keyspace = writable_keyspace(catalog, &create.table, used)?;
    let name = &create.table.name;
    check_name("table", name)?;
    if keyspace.tables.contains_key(name) {
        return match create.if_not_exists {
            true => Ok(()),
            false => Err(Refusal::already_exists(&keyspace.name, name)),
        };
    }
    if catalog.tables() >= TABLES_MAX {
        return Err(Refusal::unsupported(format!("more than {TABLES_MAX} tables")));
    }
    let table = table(create, &keyspace.name, id, changed.storage())?;
    keyspace.tables.insert(name.clone(), Arc::new(table));
    changed.tell("CREATED", &keyspace.name, Some(name));
    changed.put(keyspace);
    Ok(())
}

/// A table of the system: its key may be of types that no other's is.
pub(super) fn system_table(create: &CreateTable, keyspace: &str, id: [u8; 16]) -> Result<Table, Refusal> {
    assemble(create, keyspace, id, 0)
}

/// A new table as it is written.
fn table(create: &CreateTable, keyspace: &str, id: [u8; 16], storage: u64) -> Result<Table, Refusal> {
    let made = assemble(create, keyspace, id, storage)?;
    made.columns[..made.partition + made.clustering].iter().try_for_each(key_column)?;
    counters(&made)?;
    if made.is_counter() && made.options.ttl > 0 {
        return Err(Refusal::invalid("Cannot set default_time_to_live on a table with counters"));
    }
    Ok(made)
}

fn assemble(create: &CreateTable, keyspace: &str, id: [u8; 16], storage: u64) -> Result<Table, Refusal> {
    if create.partition.is_empty() {
        return Err(Refusal::invalid("No PRIMARY KEY specified for table (exactly one required)"));
    }
    let mut seen = BTreeSet::new();
    if let Some((name, _)) = create.columns.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Refusal::invalid(format!("Duplicate column '{name}' declaration for table")));
    }
    let mut keys = BTreeSet::new();
    let names = || create.partition.iter().chain(&create.clustering);
    if let Some(name) = names().find(|name| !keys.insert(*name)) {
        return Err(Refusal::invalid(format!("Duplicate column '{name}' in PRIMARY KEY clause for table")));
    }
    if let Some(name) = names().find(|name| !seen.contains(name)) {
        return Err(Refusal::invalid(format!("Unknown column '{name}' referenced in PRIMARY KEY for table")));
    }
    let ordered = create.order.iter().zip(&create.clustering).all(|((name, _), column)| name == column);
    if !create.order.is_empty() && (!ordered || create.order.len() != create.clustering.len()) {
        return Err(Refusal::invalid(
            "Clustering key columns must exactly match columns in CLUSTERING ORDER BY directive",
        ));
    }
    let mut made = Table {
        keyspace: keyspace.into(),
        name: create.table.name.clone(),
        id,
        storage,
        columns: Vec::new(),
        partition: create.partition.len(),
        clustering: create.clustering.len(),
        next_column: 0,
        options: TableOptions::default().with(&create.options)?,
    };
    for (name, kind) in &create.columns {
        add_column(&mut made, name, kind)?;
    }
    for column in &mut made.columns {
        let at = |names: &[String]| names.iter().position(|name| *name == column.name);
        if let Some(at) = at(&create.partition) {
            column.place = Place::Partition(at as u16);
        } else if let Some(at) = at(&create.clustering) {
            let descending = create.order.get(at).is_some_and(|(_, descending)| *descending);
            column.place = Place::Clustering { at: at as u16, descending };
        }
    }
    made.sort();
    Ok(made)
}

fn key_column(column: &Column) -> Result<(), Refusal> {
    let name = &column.name;
    if column.kind.is_counter() {
        return Err(Refusal::invalid(format!(
            "counter type is not supported for PRIMARY KEY column '{name}'"
        )));
    }
    if column.kind.is_multi_cell() {
        return Err(Refusal::invalid(format!(
            "Invalid non-frozen collection type for PRIMARY KEY column '{name}'"
        )));
    }
    if kind::key_type(&column.kind.cql).is_none() {
        return Err(Refusal::unsupported(format!("the type {} in a primary key", column.kind)));
    }
    Ok(())
}

/// All or none of the columns outside of the key are counters.
fn counters(table: &Table) -> Result<(), Refusal> {
    let regular = table.regular_columns();
    let counters = regular.iter().filter(|column| column.kind.is_counter()).count();
    if counters > 0 && counters < regular.len() {
        return Err(Refusal::invalid("Cannot mix counter and non counter columns in the same table"));
    }
    Ok(())
}

fn add_column(table: &mut Table, name: &str, kind: &ColumnType) -> Result<(), Refusal> {
    if table.column(name).is_some() {
        return Err(Refusal::invalid(format!("Column with name '{name}' already exists")));
    }
    if table.columns.len() >= COLUMNS_MAX || table.next_column == u16::MAX {
        return Err(Refusal::unsupported(format!("more than {COLUMNS_MAX} columns")));
    }
    if let weir_cql::CqlType::Set(key) | weir_cql::CqlType::Map(key, _) = &kind.cql
        && kind::key_type(key).is_none()
    {
        return Err(Refusal::unsupported(format!("a collection as an element or key of {kind}")));
    }
    let id = table.next_column;
    table.next_column += 1;
    table.columns.push(Column { name: name.into(), id, kind: kind.clone(), place: Place::Regular });
    Ok(())
}
