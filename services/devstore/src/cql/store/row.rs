//! A row as a record: its cells with their timestamps, and how two writes of the same cell come to one.
//!
//! Everything has a timestamp (microseconds); the later wins, and of two that are equal the one Cassandra picks: a
//! deletion before a value that expires before one that does not, then the greater bytes. What was deleted stays as a
//! tombstone, so that a write with an older timestamp that comes later stays deleted.

use std::collections::BTreeMap;

use super::key::Damaged;

/// Seconds since 1970.
pub type Seconds = u32;

/// When a value that expires does so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// As it was written, seconds.
    pub ttl: u32,
    /// The moment.
    pub at: Seconds,
}

/// What a cell holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Deleted, at this moment.
    Deleted(Seconds),
    /// A value.
    Value(Vec<u8>, Option<Expiry>),
}

/// A cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cell {
    /// Microseconds.
    pub timestamp: i64,
    /// What it holds.
    pub content: Content,
}

impl Cell {
    /// The value, unless it is deleted or has expired.
    pub fn live(&self, now: Seconds) -> Option<&[u8]> {
        match &self.content {
            Content::Value(value, expiry) if expiry.is_none_or(|expiry| expiry.at > now) => Some(value),
            _ => None,
        }
    }

    /// Seconds left, where it expires.
    pub fn ttl(&self, now: Seconds) -> Option<u32> {
        match &self.content {
            Content::Value(_, Some(expiry)) => expiry.at.checked_sub(now),
            _ => None,
        }
    }

    /// Whether this one is kept and `other` is not.
    fn beats(&self, other: &Cell) -> bool {
        // rank: a deletion, a value that expires, a value; then when that is or was, then the bytes
        let rank = |cell: &Cell| match &cell.content {
            Content::Deleted(at) => (2, *at),
            Content::Value(_, Some(expiry)) => (1, expiry.at),
            Content::Value(_, None) => (0, 0),
        };
        let bytes = |cell: &Cell| match &cell.content {
            Content::Deleted(_) => Vec::new(),
            Content::Value(value, _) => value.clone(),
        };
        let first = self.timestamp.cmp(&other.timestamp).then_with(|| rank(self).cmp(&rank(other)));
        first.then_with(|| bytes(self).cmp(&bytes(other))).is_ge()
    }
}

/// A deletion of a row, a collection or a range: everything up to its timestamp is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// Microseconds.
    pub timestamp: i64,
    /// The moment.
    pub at: Seconds,
}

/// The later of two.
pub fn later(one: Option<Deletion>, other: Option<Deletion>) -> Option<Deletion> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.timestamp >= other.timestamp { one } else { other }),
        (one, other) => one.or(other),
    }
}

/// What `INSERT` leaves even where every column is null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker {
    /// Microseconds.
    pub timestamp: i64,
    /// Where it expires.
    pub expiry: Option<Expiry>,
}

impl Marker {
    fn is_live(&self, now: Seconds) -> bool {
        self.expiry.is_none_or(|expiry| expiry.at > now)
    }
}

/// The cells of one collection, by their path: what a set holds, a map's key, a list's place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collection {
    /// Of the whole.
    pub deletion: Option<Deletion>,
    /// The elements.
    pub elements: BTreeMap<Vec<u8>, Cell>,
}

/// A row. Columns are named by their ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// Of the whole row.
    pub deletion: Option<Deletion>,
    /// That it is there.
    pub marker: Option<Marker>,
    /// Columns of one cell.
    pub cells: BTreeMap<u16, Cell>,
    /// Collections.
    pub collections: BTreeMap<u16, Collection>,
}

impl Row {
    /// Whether a reader sees it, of the columns `known` still has.
    pub fn is_live(&self, now: Seconds) -> bool {
        self.marker.is_some_and(|marker| marker.is_live(now))
            || self.cells.values().any(|cell| cell.live(now).is_some())
            || self.collections.values().any(|all| all.elements.values().any(|cell| cell.live(now).is_some()))
    }

    /// Deletes everything up to the deletion's timestamp.
    pub fn delete(&mut self, deletion: Deletion) {
        self.deletion = later(Some(deletion), self.deletion);
        let gone = |timestamp: i64| timestamp <= deletion.timestamp;
        self.marker = self.marker.filter(|marker| !gone(marker.timestamp));
        self.cells.retain(|_, cell| !gone(cell.timestamp));
        self.collections.retain(|_, collection| {
            collection.deletion = collection.deletion.filter(|deletion| !gone(deletion.timestamp));
            collection.elements.retain(|_, cell| !gone(cell.timestamp));
            collection.deletion.is_some() || !collection.elements.is_empty()
        });
    }

    fn is_gone(&self, timestamp: i64) -> bool {
        self.deletion.is_some_and(|deletion| timestamp <= deletion.timestamp)
    }

    /// Says that the row is there.
    pub fn mark(&mut self, marker: Marker) {
        let rank = |marker: &Marker| (marker.timestamp, marker.expiry.map(|expiry| expiry.at));
        let wins = self.marker.is_none_or(|old| rank(&marker) >= rank(&old));
        if wins && !self.is_gone(marker.timestamp) {
            self.marker = Some(marker);
        }
    }

    /// Writes a cell, if it wins over the one that is there.
    pub fn put(&mut self, column: u16, cell: Cell) {
        if self.is_gone(cell.timestamp) {
            return;
        }
        if self.cells.get(&column).is_none_or(|old| cell.beats(old)) {
            self.cells.insert(column, cell);
        }
    }

    /// Deletes a collection up to the deletion's timestamp.
    pub fn clear(&mut self, column: u16, deletion: Deletion) {
        if self.is_gone(deletion.timestamp) {
            return;
        }
        let collection = self.collections.entry(column).or_default();
        collection.deletion = later(Some(deletion), collection.deletion);
        collection.elements.retain(|_, cell| cell.timestamp > deletion.timestamp);
    }

    /// Writes an element of a collection.
    pub fn put_element(&mut self, column: u16, path: Vec<u8>, cell: Cell) {
        if self.is_gone(cell.timestamp) {
            return;
        }
        let collection = self.collections.entry(column).or_default();
        if collection.deletion.is_some_and(|deletion| cell.timestamp <= deletion.timestamp) {
            return;
        }
        if collection.elements.get(&path).is_none_or(|old| cell.beats(old)) {
            collection.elements.insert(path, cell);
        }
    }

    /// The live elements of a collection, in order.
    pub fn elements(&self, column: u16, now: Seconds) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.collections.get(&column).into_iter().flat_map(|collection| &collection.elements);
        all.filter_map(move |(path, cell)| cell.live(now).map(|value| (&path[..], value)))
    }

    /// Takes out tombstones (and values that expired) from before `before`; whether nothing is left.
    pub fn purge(&mut self, before: Seconds) -> bool {
        let old = |cell: &Cell| match &cell.content {
            Content::Deleted(at) => *at < before,
            Content::Value(_, expiry) => expiry.is_some_and(|expiry| expiry.at < before),
        };
        self.deletion = self.deletion.filter(|deletion| deletion.at >= before);
        self.marker = self.marker.filter(|marker| marker.is_live(before));
        self.cells.retain(|_, cell| !old(cell));
        self.collections.retain(|_, collection| {
            collection.deletion = collection.deletion.filter(|deletion| deletion.at >= before);
            collection.elements.retain(|_, cell| !old(cell));
            collection.deletion.is_some() || !collection.elements.is_empty()
        });
        *self == Row::default()
    }

    /// As a record.
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_deletion(&mut out, self.deletion);
        match self.marker {
            None => out.push(0),
            Some(marker) => {
                out.push(1);
                out.extend_from_slice(&marker.timestamp.to_be_bytes());
                put_expiry(&mut out, marker.expiry);
            }
        }
        put_count(&mut out, self.cells.len());
        for (column, cell) in &self.cells {
            out.extend_from_slice(&column.to_be_bytes());
            put_cell(&mut out, cell);
        }
        put_count(&mut out, self.collections.len());
        for (column, collection) in &self.collections {
            out.extend_from_slice(&column.to_be_bytes());
            put_deletion(&mut out, collection.deletion);
            put_count(&mut out, collection.elements.len());
            for (path, cell) in &collection.elements {
                put_bytes(&mut out, path);
                put_cell(&mut out, cell);
            }
        }
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Damaged`] for bytes that [`Row::write`] does not write.
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut reader = Reader(bytes);
        if reader.byte()? != FORMAT {
            return Err(Damaged);
        }
        let mut row = Row { deletion: reader.deletion()?, ..Row::default() };
        if reader.byte()? == 1 {
            row.marker = Some(Marker { timestamp: reader.long()?, expiry: reader.expiry()? });
        }
        for _ in 0..reader.int()? {
            let column = reader.short()?;
            row.cells.insert(column, reader.cell()?);
        }
        for _ in 0..reader.int()? {
            let column = reader.short()?;
            let mut collection = Collection { deletion: reader.deletion()?, ..Collection::default() };
            for _ in 0..reader.int()? {
                let path = reader.bytes()?.to_vec();
                collection.elements.insert(path, reader.cell()?);
            }
            row.collections.insert(column, collection);
        }
        if reader.0.is_empty() { Ok(row) } else { Err(Damaged) }
    }
}

/// The first byte of a record.
const FORMAT: u8 = 1;
const DELETED: u8 = 0;
const PLAIN: u8 = 1;
const EXPIRING: u8 = 2;

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_deletion(out: &mut Vec<u8>, deletion: Option<Deletion>) {
    out.push(u8::from(deletion.is_some()));
    if let Some(deletion) = deletion {
        out.extend_from_slice(&deletion.timestamp.to_be_bytes());
        out.extend_from_slice(&deletion.at.to_be_bytes());
    }
}

fn put_expiry(out: &mut Vec<u8>, expiry: Option<Expiry>) {
    out.push(u8::from(expiry.is_some()));
    if let Some(expiry) = expiry {
        out.extend_from_slice(&expiry.ttl.to_be_bytes());
        out.extend_from_slice(&expiry.at.to_be_bytes());
    }
}

fn put_cell(out: &mut Vec<u8>, cell: &Cell) {
    out.extend_from_slice(&cell.timestamp.to_be_bytes());
    match &cell.content {
        Content::Deleted(at) => {
            out.push(DELETED);
            out.extend_from_slice(&at.to_be_bytes());
        }
        Content::Value(value, None) => {
            out.push(PLAIN);
            put_bytes(out, value);
        }
        Content::Value(value, Some(expiry)) => {
            out.push(EXPIRING);
            out.extend_from_slice(&expiry.ttl.to_be_bytes());
            out.extend_from_slice(&expiry.at.to_be_bytes());
            put_bytes(out, value);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    fn int(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Result<i64, Damaged> {
        self.array().map(i64::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.int()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn deletion(&mut self) -> Result<Option<Deletion>, Damaged> {
        Ok(match self.byte()? {
            0 => None,
            _ => Some(Deletion { timestamp: self.long()?, at: self.int()? }),
        })
    }

    fn expiry(&mut self) -> Result<Option<Expiry>, Damaged> {
        Ok(match self.byte()? {
            0 => None,
            _ => Some(Expiry { ttl: self.int()?, at: self.int()? }),
        })
    }

    fn cell(&mut self) -> Result<Cell, Damaged> {
        let timestamp = self.long()?;
        let content = match self.byte()? {
            DELETED => Content::Deleted(self.int()?),
            PLAIN => Content::Value(self.bytes()?.to_vec(), None),
            EXPIRING => {
                let expiry = Expiry { ttl: self.int()?, at: self.int()? };
                Content::Value(self.bytes()?.to_vec(), Some(expiry))
            }
            _ => return Err(Damaged),
        };
        Ok(Cell { timestamp, content })
    }
}
