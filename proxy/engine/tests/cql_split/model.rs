//! A server in memory that answers one prepared statement, `SELECT ... FROM ks.t WHERE k IN ? [AND c > ?] [LIMIT ...]`:
//! each key once, in the order of the type, `LIMIT`, pages of exactly the size asked for, states that are good for the
//! same request only.

use std::cmp::Ordering;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::key::KeyType;
use weir_cql::request::{Execute, QueryFlags, Request, list_elements};
use weir_cql::response::{Prefix, Prepared, Response, ResultBody, write_prefix};
use weir_cql::{Cursor, Dialect, StreamId, Value, Version, write};
use weir_engine::cql::split::{InSplit, Whole};

/// The columns: the key, a clustering column, a text.
const COLUMNS: [(&str, u16); 3] = [("k", 0), ("c", 0x09), ("v", 0x0d)];

/// Where the statement's limit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitForm {
    None,
    Literal(u32),
    Bound,
}

/// A row: its clustering column and its text.
#[derive(Clone, Debug)]
pub struct Row {
    pub c: i32,
    pub v: Vec<u8>,
}

/// A key and its rows, in their order.
#[derive(Clone, Debug)]
pub struct Partition {
    pub key: Vec<u8>,
    pub rows: Vec<Row>,
}

/// A row that is answered, with its key.
struct Found<'a> {
    key: &'a [u8],
    row: &'a Row,
}

/// Table and statement.
#[derive(Clone, Debug)]
pub struct Model {
    pub version: Version,
    pub kind: KeyType,
    /// In any order.
    pub table: Vec<Partition>,
    pub limit: LimitForm,
    /// Whether `AND c > ?` is there.
    pub range: bool,
    /// A warning for each answer that has a row whose clustering column is this.
    pub warn_at: i32,
}

/// What is asked besides the keys.
#[derive(Clone, Debug)]
pub struct Ask {
    pub keys: Vec<Option<Vec<u8>>>,
    /// The bound limit: `None` is "not set".
    pub limit: Option<i32>,
    pub above: i32,
    pub page_size: Option<i32>,
    pub skip_metadata: bool,
    pub timestamp: Option<i64>,
}

/// The id of the statement.
pub const ID: &[u8] = b"statement-id-016";
/// The id of the one with a marker for each key.
pub const MARKED_ID: &[u8] = b"with-markers-016";
/// v5: the id of its columns.
pub const COLUMNS_ID: &[u8] = b"columns-id";

pub fn option_id(kind: KeyType) -> u16 {
    (0..0x20).find(|id| KeyType::from_option_id(*id) == Some(kind)).expect("a type")
}

pub fn header(version: Version, opcode: Opcode, body: &[u8]) -> Header {
    Header { version, flags: Flags::default(), stream: StreamId(7), opcode, body_len: body.len() as u32 }
}

impl Model {
    pub fn dialect(&self) -> Dialect {
        Dialect::of(self.version)
    }

    pub fn text(&self) -> String {
        let range = if self.range { " AND c > ?" } else { "" };
        let limit = match self.limit {
            LimitForm::None => String::new(),
            LimitForm::Literal(limit) => format!(" LIMIT {limit}"),
            LimitForm::Bound => " LIMIT ?".into(),
        };
        format!("SELECT k, c, v FROM ks.t WHERE k IN ?{range}{limit}")
    }

    /// The body of the RESULT that PREPARE is answered with.
    pub fn prepared(&self) -> Vec<u8> {
        let mut markers: Vec<(&str, Vec<u16>)> = vec![("in(k)", vec![0x20, option_id(self.kind)])];
        markers.extend(self.range.then(|| ("c", vec![0x09])));
        markers.extend((self.limit == LimitForm::Bound).then(|| ("[limit]", vec![0x09])));
        prepared(self.dialect(), &[], &markers)
    }

    /// The decision for it, with the partition key known where the server of this version does not tell enough.
    pub fn shape(&self) -> Result<InSplit, Whole> {
        let known: Option<&[&str]> = (self.version == Version::V3).then_some(&["k"]);
        shape(&self.text(), &self.prepared(), self.version, known)
    }

    /// The text with a marker for each of so many keys.
    pub fn marked_text(&self, keys: usize) -> String {
        self.text().replace("IN ?", &format!("IN ({})", vec!["?"; keys].join(", ")))
    }

    /// The body of an EXECUTE.
    pub fn execute(&self, ask: &Ask, state: Option<&[u8]>) -> Vec<u8> {
        let mut list = Vec::new();
        write::int(&mut list, ask.keys.len() as i32);
        ask.keys.iter().for_each(|key| write::nullable(&mut list, key.as_deref()));
        let mut values = Vec::new();
        write::bytes(&mut values, &list);
        self.execute_with(ID, ask, state, 1, values)
    }

    /// The body of an EXECUTE of the statement with a marker for each key.
    pub fn execute_marked(&self, ask: &Ask, state: Option<&[u8]>) -> Vec<u8> {
        let mut values = Vec::new();
        ask.keys.iter().for_each(|key| write::nullable(&mut values, key.as_deref()));
        self.execute_with(MARKED_ID, ask, state, ask.keys.len() as u16, values)
    }

    /// The same with so many values for the keys.
    fn execute_with(
        &self,
        id: &[u8],
        ask: &Ask,
        state: Option<&[u8]>,
        keys: u16,
        mut values: Vec<u8>,
    ) -> Vec<u8> {
        if self.range {
            write::bytes(&mut values, &ask.above.to_be_bytes());
        }
        if self.limit == LimitForm::Bound {
            match ask.limit {
                Some(limit) => write::bytes(&mut values, &limit.to_be_bytes()),
                None => write::int(&mut values, -2),
            }
        }
        let count = keys + u16::from(self.range) + u16::from(self.limit == LimitForm::Bound);
        let mut flags = QueryFlags::VALUES;
        for (flag, on) in [
            (QueryFlags::SKIP_METADATA, ask.skip_metadata),
            (QueryFlags::PAGE_SIZE, ask.page_size.is_some()),
            (QueryFlags::PAGING_STATE, state.is_some()),
            (QueryFlags::SERIAL_CONSISTENCY, true),
            (QueryFlags::TIMESTAMP, ask.timestamp.is_some()),
        ] {
            flags |= if on { flag } else { 0 };
        }
        let mut body = Vec::new();
        write::short_bytes(&mut body, id);
        if self.dialect().metadata_ids {
            write::short_bytes(&mut body, COLUMNS_ID);
        }
        write::short(&mut body, 1);
        match self.version {
            Version::V5 => write::bits(&mut body, flags),
            _ => write::byte(&mut body, flags as u8),
        }
        write::short(&mut body, count);
        body.extend_from_slice(&values);
        ask.page_size.into_iter().for_each(|size| write::int(&mut body, size));
        state.into_iter().for_each(|state| write::bytes(&mut body, state));
        write::short(&mut body, 9);
        ask.timestamp.into_iter().for_each(|micros| write::long(&mut body, micros));
        body
    }

    /// Answers an EXECUTE: flags of the envelope, and the body.
    pub fn answer(&self, body: &[u8]) -> (Flags, Vec<u8>) {
        let execute = located(self.version, body);
        let parameters = &execute.parameters;
        let values: Vec<Value> = parameters.values.iter(body).map(|(_, value)| value).collect();
        let keys = self.keys(values[0].of(body).expect("a list"));
        let above = if self.range { int_of(values[1].of(body).expect("a value")) } else { i32::MIN };
        let limit = match self.limit {
            LimitForm::None => usize::MAX,
            LimitForm::Literal(limit) => limit as usize,
            LimitForm::Bound => match values.last().expect("a limit") {
                Value::Bytes(span) => usize::try_from(int_of(span.of(body))).expect("a limit above zero"),
                _ => usize::MAX,
            },
        };
        assert!(limit > 0);
        let all: Vec<Found<'_>> = keys
            .iter()
            .filter_map(|key| self.table.iter().find(|partition| partition.key == *key))
            .flat_map(|partition| partition.rows.iter().map(|row| Found { key: &partition.key, row }))
            .filter(|found| found.row.c > above)
            .collect();
        // as Cassandra does: a state carries how many rows are left, whatever the limit says now
        let (from, left) = match parameters.paging_state.and_then(|state| state.of(body)) {
            None => (0, limit),
            Some(state) => {
                let (of, rest) = state.split_at(8);
                assert_eq!(of, named(&keys, above), "a state of another list");
                let (from, left) = rest.split_at(8);
                (long_of(from) as usize, long_of(left) as usize)
            }
        };
        let end = all.len().min(from.saturating_add(left));
        let size = parameters.page_size.map_or(usize::MAX, |size| size.value.max(1) as usize);
        let stop = end.min(from.saturating_add(size));
        let state = (stop < end).then(|| {
            let left = left.saturating_sub(stop - from).min(i64::MAX as usize);
            [named(&keys, above), (stop as u64).to_be_bytes().to_vec(), (left as u64).to_be_bytes().to_vec()]
                .concat()
        });
        let rows = &all[from..stop];
        let skip = parameters.flags.has(QueryFlags::SKIP_METADATA);
        self.result(rows, skip, state.as_deref())
    }

    fn result(&self, rows: &[Found<'_>], skip: bool, state: Option<&[u8]>) -> (Flags, Vec<u8>) {
        let mut out = Vec::new();
        let warned = rows.iter().any(|found| found.row.c == self.warn_at);
        let warnings = warned.then_some(&b"a tombstone too many"[..]);
        let flags = write_prefix(&mut out, self.version, None, warnings, None);
        write::int(&mut out, 2);
        write::bits(&mut out, if skip { 4 } else { 1 } | u32::from(state.is_some()) << 1);
        write::int(&mut out, COLUMNS.len() as i32);
        state.into_iter().for_each(|state| write::bytes(&mut out, state));
        if !skip {
            write::string(&mut out, "ks");
            write::string(&mut out, "t");
            for (name, id) in COLUMNS {
                write::string(&mut out, name);
                write::short(&mut out, if id == 0 { option_id(self.kind) } else { id });
            }
        }
        write::int(&mut out, rows.len() as i32);
        for found in rows {
            write::bytes(&mut out, found.key);
            write::bytes(&mut out, &found.row.c.to_be_bytes());
            write::bytes(&mut out, &found.row.v);
        }
        (flags, out)
    }

    /// The keys of a list as the server takes them.
    fn keys(&self, list: &[u8]) -> Vec<Vec<u8>> {
        let elements = list_elements(list).expect("a list");
        let mut keys: Vec<Vec<u8>> = elements.map(|key| key.expect("no null").to_vec()).collect();
        keys.sort_by(|left, right| self.kind.compare(left, right));
        keys.dedup_by(|left, right| self.kind.compare(left, right) == Ordering::Equal);
        keys
    }
}

/// One answer as a client reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub cells: Vec<Vec<Option<Vec<u8>>>>,
    /// Names, table and types as bytes; empty when they were skipped.
    pub columns: Vec<u8>,
    pub column_count: u32,
    pub state: Option<Vec<u8>>,
    pub warnings: Vec<Vec<u8>>,
}

pub fn page(version: Version, flags: Flags, body: &[u8]) -> Page {
    let header = Header { flags, ..header(version, Opcode::Result, body) };
    let (prefix, response) = Response::locate(&header, body, Dialect::of(version)).expect("readable");
    let Response::Result(ResultBody::Rows(rows)) = response else { panic!("no rows: {response:?}") };
    let cells: Vec<Vec<Option<Vec<u8>>>> = rows
        .iter(body)
        .map(|row| row.values(body).map(|value| value.of(body).map(<[u8]>::to_vec)).collect())
        .collect();
    assert_eq!(cells.len(), rows.count as usize);
    let end = rows.iter(body).last().map_or(rows.content.start, |row| row.span.end);
    assert_eq!(end as usize, body.len(), "nothing behind the last row");
    Page {
        cells,
        columns: rows.metadata.columns.span.of(body).to_vec(),
        column_count: rows.metadata.column_count,
        state: rows.metadata.paging_state.map(|state| state.of(body).expect("a state").to_vec()),
        warnings: prefix.warnings(body).map(<[u8]>::to_vec).collect(),
    }
}

pub fn located(version: Version, body: &[u8]) -> Execute {
    let request = Request::locate(&header(version, Opcode::Execute, body), body, Dialect::of(version));
    match request.expect("readable") {
        Request::Execute(execute) => execute,
        other => panic!("{other:?}"),
    }
}

/// Decides for a text and the answer to its PREPARE.
pub fn shape(text: &str, body: &[u8], version: Version, key: Option<&[&str]>) -> Result<InSplit, Whole> {
    let prepared = located_prepared(body, version);
    let statement = weir_cql::statement::read(text.as_bytes());
    InSplit::of(text.as_bytes(), &statement, body, &prepared, version, key)
}

pub fn located_prepared(body: &[u8], version: Version) -> Prepared {
    let prefix = Prefix::locate(version, Flags::default(), body).expect("no prefix");
    match ResultBody::locate(&mut Cursor::within(body, prefix.message), Dialect::of(version)) {
        Ok(ResultBody::Prepared(prepared)) => prepared,
        other => panic!("{other:?}"),
    }
}

/// The answer to a PREPARE: indices of the key's markers, the markers with their types.
pub fn prepared(dialect: Dialect, indices: &[u16], markers: &[(&str, Vec<u16>)]) -> Vec<u8> {
    prepared_in("ks", dialect, indices, markers)
}

/// The same of a table in this keyspace.
pub fn prepared_in(
    keyspace: &str,
    dialect: Dialect,
    indices: &[u16],
    markers: &[(&str, Vec<u16>)],
) -> Vec<u8> {
    let mut out = Vec::new();
    write::int(&mut out, 4);
    write::short_bytes(&mut out, ID);
    if dialect.metadata_ids {
        write::short_bytes(&mut out, COLUMNS_ID);
    }
    write::bits(&mut out, 1);
    write::int(&mut out, markers.len() as i32);
    if dialect.version >= Version::V4 {
        write::int(&mut out, indices.len() as i32);
        indices.iter().for_each(|index| write::short(&mut out, *index));
    }
    write::string(&mut out, keyspace);
    write::string(&mut out, "t");
    for (name, kind) in markers {
        write::string(&mut out, name);
        kind.iter().for_each(|id| write::short(&mut out, *id));
    }
    write::bits(&mut out, 4); // no columns described
    write::int(&mut out, 3);
    out
}

fn named(keys: &[Vec<u8>], above: i32) -> Vec<u8> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (keys, above).hash(&mut hasher);
    hasher.finish().to_be_bytes().to_vec()
}

fn int_of(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("an int"))
}

fn long_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("a long"))
}
