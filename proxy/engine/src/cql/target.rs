//! Which partition a request is about: the table and the token of its key, where they can be told.
//!
//! Of EXECUTE the PREPARED metadata says which bound values are the key (v4 and later); of QUERY, of v3 and of
//! statements with parts of the key in their text, the statement reader does, with the column names and types that the
//! placement knows; of BATCH its first statement counts. What is not certain has no target and goes to any node.
//!
//! Nothing here allocates per request but the bytes of a literal; without a placement nothing is computed at all.

use super::Cluster;
use super::placement::{PartitionKeyColumn, Placement};
use super::prepared::Prepared;
use super::statements::Known;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use weir_cql::key::{Token, append_component, from_literal, token};
use weir_cql::request::{Batch, Parameters, Values};
use weir_cql::statement::{Body, Table, Value, Where};
use weir_cql::{Span, response};

/// Tables whose names are kept per cluster and worker; more, and the list is begun anew.
const TABLES_MAX: usize = 4_096;
/// Longest partition key that is hashed, in bytes. Servers refuse keys over 65,535.
const KEY_MAX: usize = 64 << 10;

/// A partition.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) table: Arc<TableName>,
    pub(super) token: Token,
}

/// A table by the names the server gives it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TableName {
    pub(super) keyspace: Box<str>,
    pub(super) name: Box<str>,
}

/// The key of a prepared statement: bound values at these positions.
#[derive(Debug)]
pub(super) struct BoundKey {
    table: Arc<TableName>,
    columns: Box<[Marker]>,
}

/// A marker of a prepared statement.
#[derive(Debug)]
struct Marker {
    index: u16,
    /// What a value is called that is bound to it by name.
    name: Box<[u8]>,
}

impl BoundKey {
    /// As PREPARED tells; `None` where it names no position.
    pub(super) fn of(prepared: &response::Prepared, body: &[u8]) -> Option<BoundKey> {
        let marker = |index: u16| {
            let column = prepared.markers.iter(body).nth(usize::from(index))?;
            Some(Marker { index, name: column.name.of(body).into() })
        };
        let columns = prepared.key_indices(body).map(marker).collect::<Option<Box<[Marker]>>>()?;
        let column = prepared.markers.iter(body).nth(usize::from(columns.first()?.index))?;
        let text = |span: Span| std::str::from_utf8(span.of(body)).ok().map(Box::from);
        let table = TableName { keyspace: text(column.table.keyspace)?, name: text(column.table.table)? };
        Some(BoundKey { table: Arc::new(table), columns })
    }

    /// The table it is a key of.
    pub(super) const fn table(&self) -> &Arc<TableName> {
        &self.table
    }
}

/// Names of tables, so that a request need not own its own copy.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_name: FxHashMap<Box<str>, FxHashMap<Box<str>, Arc<TableName>>>,
    count: usize,
}

impl Tables {
    fn get(&mut self, keyspace: &str, name: &str) -> Arc<TableName> {
        if let Some(known) = self.by_name.get(keyspace).and_then(|tables| tables.get(name)) {
            return known.clone();
        }
        if self.count >= TABLES_MAX {
            *self = Tables::default();
        }
        let table = Arc::new(TableName { keyspace: keyspace.into(), name: name.into() });
        self.by_name.entry(keyspace.into()).or_default().insert(name.into(), table.clone());
        self.count += 1;
        table
    }
}

/// Finds the targets of one cluster's requests.
pub(super) struct Finder<'a> {
    placement: &'a dyn Placement,
    tables: &'a mut Tables,
    /// Room for a key of several columns.
    key: &'a mut Vec<u8>,
}

impl<'a> Finder<'a> {
    /// `None` while nobody has told where data lies. `key` is room to work in, kept between calls.
    pub(super) fn new(cluster: &'a mut Cluster, key: &'a mut Vec<u8>) -> Option<Finder<'a>> {
        let Cluster { placement, tables, .. } = cluster;
        key.clear();
        Some(Finder { placement: placement.as_deref()?, tables, key })
    }

    /// Of a QUERY with this text, in this keyspace where the text names none.
    pub(super) fn query(
        self,
        known: &Known,
        text: &[u8],
        keyspace: Option<&[u8]>,
        parameters: &Parameters,
        body: &[u8],
    ) -> Option<Target> {
        self.written(known, text, keyspace, &parameters.values, body)
    }

    /// Of an EXECUTE of this statement with these values.
    pub(super) fn execute(mut self, prepared: &Prepared, values: &Values, body: &[u8]) -> Option<Target> {
        let Some(key) = &prepared.key else {
            let keyspace = prepared.keyspace.as_deref().map(str::as_bytes);
            return self.written(&prepared.known, &prepared.text, keyspace, values, body);
        };
        let bound = |marker: &Marker| bound(values, body, marker.index, &marker.name);
        let token = match &*key.columns {
            [only] => token(bound(only)?),
            several => {
                for marker in several {
                    self.add(bound(marker)?)?;
                }
                token(self.key)
            }
        };
        Some(Target { table: key.table.clone(), token })
    }

    /// Of the first statement of a BATCH: `prepared` where that is one, else `known`.
    pub(super) fn batch(
        self,
        batch: &Batch,
        first: &First,
        keyspace: Option<&[u8]>,
        body: &[u8],
    ) -> Option<Target> {
        let part = batch.statements(body).next()?;
        match first {
            First::Prepared(prepared) => self.execute(prepared, &part.values, body),
            First::Text(known) => {
                let keyspace = batch.keyspace.map(|span| span.of(body)).or(keyspace);
                self.written(known, part.source.of(body), keyspace, &part.values, body)
            }
        }
    }

    /// Of a text whose key columns are all bound by `=`.
    fn written(
        self,
        known: &Known,
        text: &[u8],
        keyspace: Option<&[u8]>,
        values: &Values,
        body: &[u8],
    ) -> Option<Target> {
        let (table, filter) = written(known)?;
        let own = table.keyspace.map(|name| name.normal(text));
        let keyspace = std::str::from_utf8(own.as_deref().or(keyspace)?).ok()?;
        let name = table.name.normal(text);
        let name = std::str::from_utf8(&name).ok()?;
        let columns = self.placement.partition_key(keyspace, name)?;
        append_key(columns, known, filter, text, values, body, self.key)?;
        Some(Target { table: self.tables.get(keyspace, name), token: token(self.key) })
    }

    /// The table and the partition key of a text whose key columns are all bound by `=`.
    pub(super) fn key_written(
        placement: &dyn Placement,
        known: &Known,
        text: &[u8],
        keyspace: Option<&[u8]>,
        values: &Values,
        body: &[u8],
    ) -> Option<(TableName, Vec<u8>)> {
        let (table, filter) = written(known)?;
        let own = table.keyspace.map(|name| name.normal(text));
        let keyspace = std::str::from_utf8(own.as_deref().or(keyspace)?).ok()?;
        let name = table.name.normal(text);
        let name = std::str::from_utf8(&name).ok()?;
        let columns = placement.partition_key(keyspace, name)?;
        let mut key = Vec::new();
        append_key(columns, known, filter, text, values, body, &mut key)?;
        Some((TableName { keyspace: keyspace.into(), name: name.into() }, key))
    }

    fn add(&mut self, value: &[u8]) -> Option<()> {
        append_component(self.key, value)
    }
}

/// Appends the bytes of a partition key whose columns are all bound by `=`, to a marker or a plain literal.
fn append_key(
    columns: &[PartitionKeyColumn],
    known: &Known,
    filter: &Where,
    text: &[u8],
    values: &Values,
    body: &[u8],
    key: &mut Vec<u8>,
) -> Option<()> {
    for column in columns {
        let literal;
        let value = match filter.value_of(text, &column.name)? {
            Value::Bind(index) => {
                let names = &known.statement.marker_names;
                let own = names.iter().find(|(at, _)| *at == index).map(|(_, name)| name.normal(text));
                // a `?` is called as the column
                bound(values, body, index, own.as_deref().unwrap_or(column.name.as_bytes()))?
            }
            Value::Literal(form, span) => {
                literal = from_literal(column.kind?, form, span.bytes(text))?;
                &literal
            }
            Value::Term(_) => return None,
        };
        match columns.len() {
            1 if value.len() > KEY_MAX => return None,
            1 => key.extend_from_slice(value),
            _ => append_component(key, value)?,
        }
    }
    (!columns.is_empty()).then_some(())
}

/// The first statement of a BATCH.
pub(super) enum First {
    /// By its id.
    Prepared(Arc<Prepared>),
    /// By its text.
    Text(Arc<Known>),
}

/// The value of the marker at `index`: where values have names, the first that is called `name`, as servers do it.
pub(super) fn bound<'a>(values: &Values, body: &'a [u8], index: u16, name: &[u8]) -> Option<&'a [u8]> {
    let value = match values.named {
        true => values.iter(body).find(|(own, _)| *own == name)?.1,
        false => values.get(body, index)?,
    };
    value.of(body)
}

/// Table and relations of a text; of a `BATCH` in text, of its first statement.
fn written(known: &Known) -> Option<(&Table, &Where)> {
    match &known.statement.body {
        Body::Select(select) => Some((&select.table, &select.filter)),
        Body::Modify(modify) if modify.json.is_none() => Some((&modify.table, &modify.filter)),
        Body::Batch(batch) => batch
            .statements
            .first()
            .filter(|first| first.json.is_none())
            .map(|first| (&first.table, &first.filter)),
        _ => None,
    }
}
