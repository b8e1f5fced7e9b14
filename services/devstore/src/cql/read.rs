//! `SELECT`: ranges of keys to a page of rows.
//!
//! A page ends when it has as many rows as were asked for; its paging state says where the next goes on: which of the
//! statement's ranges, behind which key, and how many rows the limits still allow. As in Cassandra, a full page has a
//! state even if nothing follows it, unless a limit is reached or the last partition can have no more rows.

use weir_cql::{CqlType, Cursor, write};

use super::plan::{Env, Scan, SelectPlan, What};
use super::refusal::Refusal;
use super::schema::{Column, Place, Table, key_type};
use super::store::row::{Row, Seconds};
use super::store::{Source, key};

/// Most bytes of the rows of one answer: without paging a table could be of any size.
pub const PAGE_MAX: usize = 64 << 20;

/// How much is asked for, and from where on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging<'a> {
    /// Rows per page.
    pub size: Option<u32>,
    /// The state of the page before.
    pub state: Option<&'a [u8]>,
}

/// Rows as they are sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// One row after the other.
    pub content: Vec<u8>,
    /// How many.
    pub count: u32,
    /// Where the next page goes on.
    pub state: Option<Vec<u8>>,
}

/// Where a page goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Position {
    /// Which range.
    scan: u32,
    /// Rows that `LIMIT` still allows.
    left: u32,
    /// Rows that `PER PARTITION LIMIT` still allows in the partition of `key`.
    left_here: u32,
    /// The last key that was answered.
    key: Vec<u8>,
}

/// First byte of a paging state.
const STATE: u8 = 1;

impl Position {
    fn write(&self) -> Vec<u8> {
        let mut out = vec![STATE];
        for number in [self.scan, self.left, self.left_here] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.key);
        out
    }

    fn read(bytes: &[u8], scans: &[Scan]) -> Result<Self, Refusal> {
        let wrong = || Refusal::protocol("Invalid value for the paging state");
        let mut cursor = Cursor::new(bytes);
        if cursor.byte().map_err(|_| wrong())? != STATE {
            return Err(wrong());
        }
        let mut number = || cursor.bits().map_err(|_| wrong());
        let (scan, left, left_here) = (number()?, number()?, number()?);
        let key = cursor.rest().of(bytes).to_vec();
        let range = scans.get(scan as usize).ok_or_else(wrong)?;
        if key < range.start || key >= range.end || key::split(&key).is_err() {
            return Err(wrong());
        }
        Ok(Self { scan, left, left_here, key })
    }
}

/// Reads a page.
///
/// # Errors
/// Those of the bound values, of the paging state and of the storage; Invalid for an answer above [`PAGE_MAX`].
pub fn select(
    plan: &SelectPlan,
    env: &Env<'_>,
    source: &dyn Source,
    paging: Paging<'_>,
) -> Result<Page, Refusal> {
    let (limit, per_partition) = plan.limits(env)?;
    let scans = plan.scans(env)?;
    let size = paging.size.filter(|size| *size > 0 && *size < limit && !plan.is_count());
    let sorted = plan.ordered > 0 && plan.key.has_partition_in();
    // whatever the limit: all of it is read before it is sorted and cut
    if sorted && !scans.is_empty() && paging.size.is_some_and(|size| size > 0) {
        return Err(Refusal::invalid(
            "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must either remove \
             the ORDER BY or the IN and sort client side, or disable paging for this query",
        ));
    }
    let position = match paging.state.filter(|state| !state.is_empty()) {
        Some(state) => Some(Position::read(state, &scans)?),
        None => None,
    };
    let mut reader = Reader {
        plan,
        now: env.seconds(),
        page: Page::default(),
        left: position.as_ref().map_or(limit, |position| position.left.min(limit)),
        per_partition,
        left_here: per_partition,
        room: size.unwrap_or(u32::MAX),
        partition: Vec::new(),
        last: None,
        sorted: sorted.then(Vec::new),
        behind: scans.last().map(|scan| scan.start.clone()).unwrap_or_default(),
    };
    if plan.is_count() || sorted {
        reader.left = u32::MAX;
    }
    let first = position.as_ref().map_or(0, |position| position.scan);
    for (at, scan) in scans.iter().enumerate().skip(first as usize) {
        let mut scan = scan.clone();
        if let Some(position) = position.as_ref().filter(|_| at == first as usize) {
            reader.resume(position)?;
            match plan.reversed {
                true => scan.end = position.key.clone(),
                false => {
                    scan.start = position.key.clone();
                    scan.start.push(0);
                }
            }
        }
        source
            .scan(&scan.start, &scan.end, plan.reversed, &mut |key, record| reader.visit(at, key, record))?;
        if reader.is_full() {
            break;
        }
    }
    reader.finish(limit, size)
}

struct Reader<'a> {
    plan: &'a SelectPlan,
    now: Seconds,
    page: Page,
    /// Rows that `LIMIT` still allows.
    left: u32,
    per_partition: u32,
    left_here: u32,
    /// Rows that the page still has room for.
    room: u32,
    /// What the keys of the partition in hand begin with.
    partition: Vec<u8>,
    /// The last row answered: its range and key.
    last: Option<(usize, Vec<u8>)>,
    /// Rows that are still to be sorted, by their clustering.
    sorted: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Where the last range begins: its partition is the last.
    behind: Vec<u8>,
}

impl Reader<'_> {
    fn is_full(&self) -> bool {
        self.left == 0 || self.room == 0
    }

    fn resume(&mut self, position: &Position) -> Result<(), Refusal> {
        let (partition, ..) = key::split(&position.key).map_err(Refusal::storage)?;
        self.partition = partition.to_vec();
        self.left_here = position.left_here.min(self.per_partition);
        if self.plan.distinct {
            self.left_here = 0;
        }
        Ok(())
    }

    /// Looks at a record; whether there is room for more.
    fn visit(&mut self, scan: usize, key: &[u8], record: &[u8]) -> Result<bool, Refusal> {
        let (partition, partition_key, clustering) = key::split(key).map_err(Refusal::storage)?;
        let Some(clustering) = clustering else { return Ok(true) };
        if partition != self.partition {
            self.partition = partition.to_vec();
            self.left_here = if self.plan.distinct { 1 } else { self.per_partition };
        }
        if self.left_here == 0 {
            return Ok(true);
        }
        let row = Row::read(record).map_err(Refusal::storage)?;
        if !is_live(&self.plan.table, &row, self.now) {
            return Ok(true);
        }
        self.left_here -= 1;
        self.left -= 1;
        self.room -= 1;
        self.page.count += 1;
        if !self.plan.is_count() {
            let found = Found { partition: &partition_key, clustering, row: &row, now: self.now };
            let before = self.page.content.len();
            for column in &self.plan.columns {
                self.put(column.what, key, &found)?;
            }
            if let Some(sorted) = &mut self.sorted {
                let compared = compared(self.plan, clustering)?;
                sorted.push((clustering[..compared].to_vec(), self.page.content.split_off(before)));
            } else {
                self.last = Some((scan, key.to_vec()));
            }
            if self.page.content.len() > PAGE_MAX {
                return Err(Refusal::invalid(format!(
                    "an answer of more than {PAGE_MAX} bytes: ask for pages"
                )));
            }
        }
        Ok(!self.is_full())
    }

    fn put(&mut self, what: What, key: &[u8], found: &Found<'_>) -> Result<(), Refusal> {
        let out = &mut self.page.content;
        let table = &self.plan.table;
        match what {
            What::Column(at) => write::nullable(out, found.value(table, at)?.as_deref()),
            What::Token => {
                let token = key::token(key).map_err(Refusal::storage)?;
                write::bytes(out, &token.to_be_bytes());
            }
            What::Writetime(at) => {
                let cell =
                    found.row.cells.get(&table.columns[at].id).filter(|cell| cell.live(self.now).is_some());
                write::nullable(
                    out,
                    cell.map(|cell| cell.timestamp.to_be_bytes()).as_ref().map(|bytes| &bytes[..]),
                );
            }
            What::Ttl(at) => {
                let cell =
                    found.row.cells.get(&table.columns[at].id).filter(|cell| cell.live(self.now).is_some());
                let left = cell.and_then(|cell| cell.ttl(self.now)).map(u32::to_be_bytes);
                write::nullable(out, left.as_ref().map(|bytes| &bytes[..]));
            }
            What::Count => {}
        }
        Ok(())
    }

    /// Nothing can follow in the last partition: it has one row at most, or as many as are allowed were answered. Tables
    /// that are read whole have no last partition.
    fn is_last(&self) -> bool {
        let done = self.left_here == 0 || self.plan.table.clustering == 0;
        !self.plan.key.partition.is_empty() && done && self.behind.starts_with(&self.partition)
    }

    fn finish(mut self, limit: u32, size: Option<u32>) -> Result<Page, Refusal> {
        if self.plan.is_count() {
            let mut content = Vec::new();
            write::bytes(&mut content, &i64::from(self.page.count).to_be_bytes());
            return Ok(Page { content, count: 1, state: None });
        }
        if let Some(mut sorted) = self.sorted {
            sorted.sort_by(|one, other| match self.plan.reversed {
                true => other.0.cmp(&one.0),
                false => one.0.cmp(&other.0),
            });
            sorted.truncate(limit as usize);
            self.page.count = sorted.len() as u32;
            self.page.content = sorted.into_iter().flat_map(|(_, row)| row).collect();
            return Ok(self.page);
        }
        let more = size.is_some() && self.room == 0 && self.left > 0 && !self.is_last();
        if let Some((scan, key)) = self.last.filter(|_| more) {
            let scan = u32::try_from(scan).unwrap_or(u32::MAX);
            let position = Position { scan, left: self.left, left_here: self.left_here, key };
            self.page.state = Some(position.write());
        }
        Ok(self.page)
    }
}

/// Bytes of a clustering that `ORDER BY` compares; rows that are equal in them stay as they were read.
fn compared(plan: &SelectPlan, clustering: &[u8]) -> Result<usize, Refusal> {
    let mut at = 0;
    for column in plan.table.clustering_columns().iter().take(plan.ordered) {
        let Some(kind) = key_type(&column.kind.cql) else { break };
        let descending = matches!(column.place, Place::Clustering { descending: true, .. });
        at += key::pull(kind, descending, &clustering[at..]).map_err(Refusal::storage)?.1;
    }
    Ok(at)
}

/// Whether a reader sees the row: columns that were dropped do not count.
pub fn is_live(table: &Table, row: &Row, now: Seconds) -> bool {
    let known = |id: &u16| table.regular_columns().iter().any(|column| column.id == *id);
    let marked = Row { marker: row.marker, ..Row::default() };
    marked.is_live(now)
        || row.cells.iter().any(|(id, cell)| cell.live(now).is_some() && known(id))
        || row.collections.keys().any(|id| known(id) && row.elements(*id, now).next().is_some())
}

/// A row with its key.
pub struct Found<'a> {
    /// The serialized partition key.
    pub partition: &'a [u8],
    /// The clustering, as components.
    pub clustering: &'a [u8],
    /// Its cells.
    pub row: &'a Row,
    /// Now.
    pub now: Seconds,
}

impl Found<'_> {
    /// The value of the column at this place of the table.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn value(&self, table: &Table, at: usize) -> Result<Option<Vec<u8>>, Refusal> {
        let column = &table.columns[at];
        match column.place {
            Place::Partition(_) if table.partition == 1 => Ok(Some(self.partition.to_vec())),
            Place::Partition(nth) => component_of(self.partition, nth).map(Some),
            Place::Clustering { at, .. } => {
                let mut rest = self.clustering;
                let mut value = None;
                for column in table.clustering_columns().iter().take(usize::from(at) + 1) {
                    let Some(kind) = key_type(&column.kind.cql) else { break };
                    let descending = matches!(column.place, Place::Clustering { descending: true, .. });
                    let (found, length) = key::pull(kind, descending, rest).map_err(Refusal::storage)?;
                    rest = &rest[length..];
                    value = Some(found);
                }
                Ok(value)
            }
            Place::Regular if column.kind.is_multi_cell() => self.collection(column),
            Place::Regular => {
                Ok(self.row.cells.get(&column.id).and_then(|cell| cell.live(self.now)).map(<[u8]>::to_vec))
            }
        }
    }

    /// A collection as it is serialized; an empty one is null.
    fn collection(&self, column: &Column) -> Result<Option<Vec<u8>>, Refusal> {
        let mut out = vec![0; 4];
        let mut count = 0_u32;
        for (path, value) in self.row.elements(column.id, self.now) {
            count += 1;
            match &column.kind.cql {
                CqlType::Set(kind) => write::bytes(&mut out, &element(kind, path)?),
                CqlType::Map(kind, _) => {
                    write::bytes(&mut out, &element(kind, path)?);
                    write::bytes(&mut out, value);
                }
                _ => write::bytes(&mut out, value),
            }
        }
        out[..4].copy_from_slice(&count.to_be_bytes());
        Ok((count > 0).then_some(out))
    }
}

/// What a path stands for.
fn element(kind: &CqlType, path: &[u8]) -> Result<Vec<u8>, Refusal> {
    match key_type(kind) {
        Some(kind) => key::pull(kind, false, path).map(|(value, _)| value).map_err(Refusal::storage),
        None => Ok(path.to_vec()),
    }
}

/// The nth value of a composite key.
fn component_of(key: &[u8], nth: u16) -> Result<Vec<u8>, Refusal> {
    let mut cursor = Cursor::new(key);
    let mut found = Vec::new();
    for _ in 0..=nth {
        let span = cursor.string().map_err(Refusal::storage)?;
        found = span.of(key).to_vec();
        cursor.byte().map_err(Refusal::storage)?;
    }
    Ok(found)
}
