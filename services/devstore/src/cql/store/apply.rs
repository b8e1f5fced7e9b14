//! A mutation into the records: read, merge, put back.
//!
//! One job's rows are merged in memory first and written together when all of it has succeeded, so that a job that is
//! refused half way (a place that a list has not) leaves nothing.

use std::collections::{BTreeMap, HashMap};

use redb::{ReadableTable, Table, WriteTransaction};

use super::key::{self, Damaged};
use super::row::{Cell, Content, Deletion, Row, Seconds};
use super::{Records, head, records_name};
use crate::cql::parse::ast::Operator;
use crate::cql::plan::{Guard, Mutation, Target, Write};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Table as Schema, key_type};

/// Rows one statement may delete by a range or a partition: they are merged in memory.
pub const DELETED_MAX: usize = 1_000_000;

type Opened<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The tables of a transaction, and what the job in hand has changed.
pub(super) struct Merge<'t> {
    write: &'t WriteTransaction,
    tables: HashMap<u64, Opened<'t>>,
    /// Rows of the job in hand; by storage and key.
    rows: BTreeMap<(u64, Vec<u8>), Row>,
    /// Records of what was deleted, of the job in hand.
    heads: BTreeMap<(u64, Vec<u8>), head::Head>,
    /// Never twice the same: where an element of a list stands.
    tick: i64,
}

impl<'t> Merge<'t> {
    pub(super) fn new(write: &'t WriteTransaction, tick: i64) -> Self {
        Self { write, tables: HashMap::new(), rows: BTreeMap::new(), heads: BTreeMap::new(), tick }
    }

    /// The last tick given.
    pub(super) const fn tick(&self) -> i64 {
        self.tick
    }

    fn table(&mut self, storage: u64) -> Result<&mut Opened<'t>, Refusal> {
        match self.tables.entry(storage) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                let name = records_name(storage);
                let opened = self.write.open_table(Records::new(&name)).map_err(Refusal::storage)?;
                Ok(place.insert(opened))
            }
        }
    }

    /// Forgets the job in hand.
    pub(super) fn abandon(&mut self) {
        self.rows.clear();
        self.heads.clear();
    }

    /// Writes the job in hand.
    pub(super) fn keep(&mut self) -> Result<(), Refusal> {
        for ((storage, key), head) in std::mem::take(&mut self.heads) {
            let record = head.write();
            self.table(storage)?.insert(key.as_slice(), record.as_slice()).map_err(Refusal::storage)?;
        }
        for ((storage, key), row) in std::mem::take(&mut self.rows) {
            let table = self.table(storage)?;
            if row == Row::default() {
                table.remove(key.as_slice()).map_err(Refusal::storage)?;
            } else {
                let record = row.write();
                table.insert(key.as_slice(), record.as_slice()).map_err(Refusal::storage)?;
            }
        }
        Ok(())
    }

    /// Before a storage is removed.
    pub(super) fn close(&mut self, storage: u64) {
        self.tables.remove(&storage);
    }

    /// Before the transaction is committed: gives the tables back.
    pub(super) fn finish(self) {
        debug_assert!(self.rows.is_empty() && self.heads.is_empty());
    }

    /// The row under this key as it is now, with what was deleted around it.
    fn row(&mut self, storage: u64, partition: &[u8], key: &[u8]) -> Result<&mut Row, Refusal> {
        let place = (storage, key.to_vec());
        if !self.rows.contains_key(&place) {
            let found = self.table(storage)?.get(key).map_err(Refusal::storage)?;
            let read = found.map(|record| Row::read(record.value())).transpose().map_err(damaged)?;
            let row = match read {
                Some(row) => row,
                None => Row { deletion: self.head(storage, partition)?.covering(key), ..Row::default() },
            };
            self.rows.insert(place.clone(), row);
        }
        self.rows.get_mut(&place).ok_or_else(|| Refusal::storage("a row that was just put there is gone"))
    }

    fn head(&mut self, storage: u64, partition: &[u8]) -> Result<&mut head::Head, Refusal> {
        let key = key::head(partition);
        let place = (storage, key.clone());
        if !self.heads.contains_key(&place) {
            let found = self.table(storage)?.get(key.as_slice()).map_err(Refusal::storage)?;
            let head = found.map(|record| head::Head::read(record.value())).transpose().map_err(damaged)?;
            self.heads.insert(place.clone(), head.unwrap_or_default());
        }
        self.heads.get_mut(&place).ok_or_else(|| Refusal::storage("a record that was just put there is gone"))
    }

    /// Merges a mutation into the job in hand; `storage` is where its table's rows are by now.
    pub(super) fn apply(&mut self, mutation: &Mutation, storage: u64) -> Result<(), Refusal> {
        match &mutation.target {
            Target::Row { clustering, deletion, marker, writes } => {
                let key = key::row(&mutation.partition, clustering);
                let mut tick = self.tick;
                let row = self.row(storage, &mutation.partition, &key)?;
                if let Some(deletion) = deletion {
                    row.delete(*deletion);
                }
                if let Some(marker) = marker {
                    row.mark(*marker);
                }
                for write in writes {
                    put(row, write, mutation.timestamp, &mut tick)?;
                }
                self.tick = tick;
                Ok(())
            }
            Target::Partition(deletion) => {
                self.head(storage, &mutation.partition)?.delete_all(*deletion);
                let start = key::row(&mutation.partition, &[]);
                let end = key::after(&mutation.partition, &[]);
                self.delete_range(storage, &start, &end, *deletion)
            }
            Target::Range(start, end, deletion) => {
                if start >= end {
                    return Ok(());
                }
                self.head(storage, &mutation.partition)?.delete_range(start, end, *deletion);
                self.delete_range(storage, start, end, *deletion)
            }
        }
    }

    /// Deletes what is there; the record of the partition remembers it for what comes later.
    fn delete_range(
        &mut self,
        storage: u64,
        start: &[u8],
        end: &[u8],
        deletion: Deletion,
    ) -> Result<(), Refusal> {
        let mut found = Vec::new();
        let range = self.table(storage)?.range(start..end).map_err(Refusal::storage)?;
        for entry in range {
            let (key, record) = entry.map_err(Refusal::storage)?;
            found.push((key.value().to_vec(), Row::read(record.value()).map_err(damaged)?));
            if found.len() > DELETED_MAX {
                return Err(Refusal::unsupported(format!("deleting more than {DELETED_MAX} rows at once")));
            }
        }
        for (key, row) in found {
            self.rows.entry((storage, key)).or_insert(row);
        }
        for (_, row) in self.rows.range_mut((storage, start.to_vec())..(storage, end.to_vec())) {
            row.delete(deletion);
            let only = Row { deletion: Some(deletion), ..Row::default() };
            if *row == only {
                *row = Row::default();
            }
        }
        Ok(())
    }

    /// Whether a condition holds; and the row, where it does not and there is one.
    pub(super) fn holds(
        &mut self,
        guard: &Guard,
        mutation: &Mutation,
        storage: u64,
        now: Seconds,
    ) -> Result<(bool, Option<Row>), Refusal> {
        let Target::Row { clustering, .. } = &mutation.target else {
            return Err(Refusal::unsupported("a condition on more than a row"));
        };
        let key = key::row(&mutation.partition, clustering);
        let row = self.row(storage, &mutation.partition, &key)?.clone();
        let there = row.is_live(now);
        let holds = match guard {
            Guard::NotExists => !there,
            Guard::Exists => there,
            Guard::Columns(columns) => columns.iter().all(|(at, operator, want)| {
                let is = there.then(|| row.cells.get(&mutation.table.columns[*at].id)?.live(now)).flatten();
                compare(&mutation.table, *at, *operator, is, want.as_deref())
            }),
        };
        Ok((holds, (!holds && there).then_some(row)))
    }
}

fn damaged(damaged: Damaged) -> Refusal {
    Refusal::storage(damaged)
}

/// A condition on a column: null is equal to null only, and is not less or greater than anything.
fn compare(table: &Schema, at: usize, operator: Operator, is: Option<&[u8]>, want: Option<&[u8]>) -> bool {
    let (Some(is), Some(want)) = (is, want) else {
        return match operator {
            Operator::Equal => is == want,
            Operator::NotEqual => is != want,
            _ => false,
        };
    };
    let order = match key_type(&table.columns[at].kind.cql) {
        Some(kind) => kind.compare(is, want),
        None => is.cmp(want),
    };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

fn next(tick: &mut i64) -> i64 {
    *tick = tick.saturating_add(1);
    *tick
}

/// A place in a list: bytes that sort as numbers do.
fn list_path(place: i64) -> Vec<u8> {
    (place ^ i64::MIN).to_be_bytes().to_vec()
}

fn put(row: &mut Row, write: &Write, timestamp: i64, tick: &mut i64) -> Result<(), Refusal> {
    match write {
        Write::Put(column, cell) => row.put(*column, cell.clone()),
        Write::Clear(column, deletion) => row.clear(*column, *deletion),
        Write::Element(column, path, cell) => row.put_element(*column, path.clone(), cell.clone()),
        Write::Append { column, cells, front: false } => {
            for cell in cells {
                row.put_element(*column, list_path(next(tick)), cell.clone());
            }
        }
        Write::Append { column, cells, front: true } => {
            for cell in cells.iter().rev() {
                row.put_element(*column, list_path(-next(tick)), cell.clone());
            }
        }
        Write::At(column, place, cell) => {
            let now = match cell.content {
                Content::Deleted(at) => at,
                Content::Value(_, expiry) => expiry.map_or(0, |expiry| expiry.at.saturating_sub(expiry.ttl)),
            };
            let all: Vec<Vec<u8>> = row.elements(*column, now).map(|(path, _)| path.to_vec()).collect();
            let found = usize::try_from(*place).ok().and_then(|place| all.get(place));
            let path = found.ok_or_else(|| match all.len() {
                0 => Refusal::invalid("Attempted to set an element on a list which is null"),
                size => Refusal::invalid(format!("List index {place} out of bound, list has size {size}")),
            })?;
            row.put_element(*column, path.clone(), cell.clone());
        }
        Write::Discard(column, values, deletion) => {
            let of = |value: &[u8]| values.iter().any(|other| other == value);
            let found: Vec<Vec<u8>> = row
                .elements(*column, deletion.at)
                .filter(|(_, value)| of(value))
                .map(|(path, _)| path.to_vec())
                .collect();
            for path in found {
                let cell = Cell { timestamp: deletion.timestamp, content: Content::Deleted(deletion.at) };
                row.put_element(*column, path, cell);
            }
        }
        Write::Count(column, by) => count(row, *column, *by, timestamp),
    }
    Ok(())
}

/// Adds to a counter. Its timestamp is the server's, so that a later addition is never older than a deletion.
fn count(row: &mut Row, column: u16, by: i64, timestamp: i64) {
    let old = row.cells.get(&column);
    let sum = old
        .and_then(|cell| cell.live(0))
        .and_then(|value| value.try_into().ok())
        .map_or(0, i64::from_be_bytes);
    let latest = old.map_or(timestamp, |cell| cell.timestamp.max(timestamp));
    let gone = row.deletion.is_some_and(|deletion| latest <= deletion.timestamp);
    let tombstone =
        old.is_some_and(|cell| matches!(cell.content, Content::Deleted(_)) && cell.timestamp >= timestamp);
    if !gone && !tombstone {
        let value = sum.wrapping_add(by).to_be_bytes().to_vec();
        row.cells.insert(column, Cell { timestamp: latest, content: Content::Value(value, None) });
    }
}
