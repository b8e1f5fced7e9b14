//! A node that answers: what a row says follows from its table and key, what was written is noted. It forgets prepared
//! statements when told to.

use crate::wire::{Answer, flagged};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use weir_cql::envelope::{Flags, Opcode};
use weir_cql::request::{Batch, Parameters, Request, Values, list_elements};
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};
use weir_cql::statement::{self, Body, Equal, InValues, Kind, Statement, Value};
use weir_cql::{CqlType, Dialect, Native, Version, write};

/// The address a real node shows in its own tables.
pub const REAL: [u8; 4] = [10, 9, 8, 7];

/// What the nodes of a cluster share.
#[derive(Default)]
pub struct Data {
    pub keyspaces: BTreeSet<String>,
    /// How often each `table/key` was written.
    pub writes: BTreeMap<String, u32>,
    /// The default timestamps of the batches it was written in.
    pub stamps: BTreeMap<String, BTreeSet<Option<i64>>>,
}

/// A statement a node has prepared: keyspace and text.
type Prepared = (Option<String>, Vec<u8>);

#[derive(Default)]
pub struct Node {
    pub prepared: BTreeMap<Vec<u8>, Prepared>,
    /// PREPAREs it was sent.
    pub prepares: usize,
    /// Statements it was told, resolved: kind and text.
    pub heard: Vec<String>,
    /// How many keys each read of rows asked for.
    pub keys_read: Vec<usize>,
    /// The rows of each BATCH that it carried out.
    pub batches: Vec<Vec<String>>,
    /// A read of this key, or a batch that writes it, is answered with this error.
    pub refuse_key: Option<(i32, &'static str)>,
    /// The next PREPARE is answered with this error.
    pub refuse_prepare: Option<&'static str>,
    /// PREPAREs of statements of weir's own are answered with this error.
    pub refuse_own: Option<ErrorCode>,
}

/// The id the nodes give to a text in a keyspace.
pub fn statement_id(keyspace: Option<&str>, text: &[u8]) -> Vec<u8> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    hasher.hash_one((keyspace, text)).to_be_bytes().repeat(2)
}

/// What [`Node::refuse_own`] is answered with.
pub const REFUSED_OWN: &str = "not this one";

/// Whether a text is one that weir made of a list of markers: no test writes it like this.
pub fn is_own(text: &str) -> bool {
    text.contains("IN  ? ")
}

pub fn row_value(table: &str, key: i32) -> String {
    format!("{table}/{key}")
}

fn error(code: ErrorCode, message: &str) -> (Opcode, Vec<u8>) {
    let mut body = Vec::new();
    ErrorBody::plain(code, message).write(Version::V4, &mut body);
    (Opcode::Error, body)
}

fn void() -> (Opcode, Vec<u8>) {
    (Opcode::Result, 1i32.to_be_bytes().to_vec())
}

const NO_KEYSPACE: &str =
    "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename";

/// A column: name and type.
type Column<'a> = (&'a str, CqlType);

fn write_columns(out: &mut Vec<u8>, keyspace: &str, table: &str, columns: &[Column<'_>]) {
    write::string(out, keyspace);
    write::string(out, table);
    for (name, kind) in columns {
        write::string(out, name);
        kind.write(out);
    }
}

pub fn rows(
    table: (&str, &str),
    columns: &[Column<'_>],
    skip: bool,
    rows: &[Vec<Vec<u8>>],
) -> (Opcode, Vec<u8>) {
    let mut out = 2i32.to_be_bytes().to_vec();
    write::bits(&mut out, if skip { 4 } else { 1 });
    write::int(&mut out, columns.len() as i32);
    if !skip {
        write_columns(&mut out, table.0, table.1, columns);
    }
    write::int(&mut out, rows.len() as i32);
    rows.iter().flatten().for_each(|cell| write::bytes(&mut out, cell));
    (Opcode::Result, out)
}

impl Node {
    /// The whole answer to a request, under the stream it came on.
    pub fn answer(&mut self, request: &Answer, data: &mut Data) -> Vec<u8> {
        let (opcode, body) = self.answer_to(request, data);
        flagged(request.header.version, request.stream(), opcode, Flags::default(), &body)
    }

    fn answer_to(&mut self, request: &Answer, data: &mut Data) -> (Opcode, Vec<u8>) {
        let (header, body) = (&request.header, &request.body[..]);
        assert!(!header.flags.has(Flags::COMPRESSED), "weir agreed on no compression");
        let dialect = Dialect::of(header.version);
        match Request::locate(header, body, dialect).expect("weir passes on what can be read") {
            Request::Query(query) => {
                let keyspace = query.parameters.keyspace.map(|span| text(span.of(body)));
                self.run(
                    query.text.of(body),
                    keyspace,
                    &query.parameters.values,
                    &query.parameters,
                    body,
                    data,
                )
            }
            Request::Prepare(prepare) => {
                let keyspace = prepare.keyspace.map(|span| text(span.of(body)));
                self.prepare(prepare.text.of(body), keyspace, dialect)
            }
            Request::Execute(execute) => {
                let id = execute.id.of(body);
                let Some((keyspace, statement)) = self.prepared.get(id).cloned() else {
                    return unprepared(id);
                };
                let parameters = &execute.parameters;
                self.run(&statement, keyspace, &parameters.values, parameters, body, data)
            }
            Request::Batch(batch) => self.batch(&batch, body, data),
            other => panic!("never sent to a node: {other:?}"),
        }
    }

    fn prepare(&mut self, statement: &[u8], keyspace: Option<String>, dialect: Dialect) -> (Opcode, Vec<u8>) {
        self.prepares += 1;
        if let Some(message) = self.refuse_prepare {
            return error(ErrorCode::INVALID, message);
        }
        if let Some(code) = self.refuse_own.filter(|_| is_own(&text(statement))) {
            return error(code, REFUSED_OWN);
        }
        let read = statement::read(statement);
        let Some((space, table)) = resolved(&read, statement, keyspace.as_deref()) else {
            return error(ErrorCode::INVALID, NO_KEYSPACE);
        };
        let id = statement_id(keyspace.as_deref(), statement);
        let mut out = 4i32.to_be_bytes().to_vec();
        write::short_bytes(&mut out, &id);
        if dialect.metadata_ids {
            write::short_bytes(&mut out, b"meta");
        }
        let markers: Vec<_> = (0..read.markers).map(|marker| marker_of(&read, statement, marker)).collect();
        let markers: Vec<_> = markers.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
        write::bits(&mut out, u32::from(!markers.is_empty()));
        write::int(&mut out, markers.len() as i32);
        if dialect.version >= Version::V4 {
            let keys = key_positions(&read, statement, &table);
            write::int(&mut out, keys.len() as i32);
            keys.iter().for_each(|position| write::short(&mut out, *position));
        }
        if !markers.is_empty() {
            write_columns(&mut out, &space, &table, &markers);
        }
        if let Body::Select(_) = read.body {
            let columns = columns_of(&read, statement, &space, &table);
            write::bits(&mut out, 1);
            write::int(&mut out, columns.len() as i32);
            let named: Vec<_> = columns.iter().map(|(name, _, kind)| (name.as_str(), kind.clone())).collect();
            write_columns(&mut out, &space, &table, &named);
        } else {
            write::bits(&mut out, 4);
            write::int(&mut out, 0);
        }
        self.prepared.insert(id, (keyspace, statement.to_vec()));
        (Opcode::Result, out)
    }

    fn run(
        &mut self,
        statement: &[u8],
        keyspace: Option<String>,
        values: &Values,
        parameters: &Parameters,
        body: &[u8],
        data: &mut Data,
    ) -> (Opcode, Vec<u8>) {
        self.heard.push(match &keyspace {
            Some(keyspace) => format!("[{keyspace}] {}", text(statement)),
            None => text(statement),
        });
        let read = statement::read(statement);
        assert_ne!(read.kind, Kind::Use, "USE is never sent to a node");
        if read.kind == Kind::Schema {
            return schema_change(&text(statement), keyspace);
        }
        let Some((space, table)) = resolved(&read, statement, keyspace.as_deref()) else {
            return error(ErrorCode::INVALID, NO_KEYSPACE);
        };
        match &read.body {
            Body::Select(select) if space == "system_schema" => {
                let literal = match select.filter.equal.first() {
                    Some(Equal { value: Value::Literal(_, span), .. }) => text(span.bytes(statement)),
                    _ => String::new(),
                };
                let name = literal.trim_matches('\'').replace("''", "'");
                let found = data.keyspaces.contains(&name).then(|| vec![name.into_bytes()]);
                let columns = [("keyspace_name", CqlType::Native(Native::Varchar))];
                rows((&space, &table), &columns, false, &found.into_iter().collect::<Vec<_>>())
            }
            Body::Select(_) if space == "system" => {
                let columns = columns_of(&read, statement, &space, &table);
                let row: Vec<_> = columns.iter().map(|(_, real, _)| system_cell(real)).collect();
                let named: Vec<_> =
                    columns.iter().map(|(name, _, kind)| (name.as_str(), kind.clone())).collect();
                let skip = parameters.flags.has(2);
                rows(
                    (&space, &table),
                    &named,
                    skip,
                    &if table == "local" { vec![row] } else { vec![row.clone(), row] },
                )
            }
            Body::Select(_) => {
                let keys = keys_of(&read, statement, values, body);
                self.keys_read.push(keys.len());
                if let Some((key, message)) = self.refuse_key
                    && keys.contains(&key)
                {
                    return error(ErrorCode::INVALID, message);
                }
                let name = format!("{space}.{table}");
                let found = if table == "hot" {
                    // what was written, and the timestamp of who asks
                    let asked = parameters.timestamp.map_or(0, |timestamp| timestamp.value);
                    let row = |key: i32| {
                        let value = row_value(&name, key);
                        let writes = data.writes.get(&value).copied().unwrap_or_default();
                        vec![key.to_be_bytes().to_vec(), format!("{value}#{writes}@{asked}").into_bytes()]
                    };
                    keys.into_iter().map(row).collect()
                } else {
                    rows_of(&read, statement, values, body, &name, keys)
                };
                page((&space, &table), found, parameters, body)
            }
            Body::Modify(_) => {
                for key in keys_of(&read, statement, values, body) {
                    *data.writes.entry(row_value(&format!("{space}.{table}"), key)).or_default() += 1;
                }
                void()
            }
            _ => error(ErrorCode::SYNTAX_ERROR, "line 1:0 no viable alternative"),
        }
    }

    fn batch(&mut self, batch: &Batch, body: &[u8], data: &mut Data) -> (Opcode, Vec<u8>) {
        let keyspace = batch.keyspace.map(|span| text(span.of(body)));
        let mut keys = Vec::new();
        for part in batch.statements(body) {
            let source = part.source.of(body);
            let (keyspace, statement) = if part.prepared {
                match self.prepared.get(source) {
                    Some(prepared) => prepared.clone(),
                    None => return unprepared(source),
                }
            } else {
                (keyspace.clone(), source.to_vec())
            };
            self.heard.push(text(&statement));
            let read = statement::read(&statement);
            let Some((space, table)) = resolved(&read, &statement, keyspace.as_deref()) else {
                return error(ErrorCode::INVALID, NO_KEYSPACE);
            };
            let of = keys_of(&read, &statement, &part.values, body);
            if let Some((key, message)) = self.refuse_key
                && of.contains(&key)
            {
                return error(ErrorCode::INVALID, message);
            }
            keys.extend(of.into_iter().map(|key| row_value(&format!("{space}.{table}"), key)));
        }
        self.batches.push(keys.clone());
        for key in keys {
            data.stamps.entry(key.clone()).or_default().insert(batch.timestamp.map(|place| place.value));
            *data.writes.entry(key).or_default() += 1;
        }
        void()
    }
}

/// Columns of a table's partition key: all tables have one, but those named `trio` three.
pub fn key_columns(table: &str) -> &'static [&'static str] {
    if table == "trio" { &["a", "b", "c"] } else { &["k"] }
}

/// Positions of the markers that bind the partition key; none unless all of it is bound.
fn key_positions(read: &Statement, statement: &[u8], table: &str) -> Vec<u16> {
    let filter = match &read.body {
        Body::Select(select) => &select.filter,
        Body::Modify(modify) => &modify.filter,
        _ => return Vec::new(),
    };
    // as Cassandra does: the last marker of `IN (?, ?)` counts as the column's
    let last = |column: &str| {
        let of = |relation: &&statement::In| relation.columns.iter().any(|name| name.is(statement, column));
        match filter.ins.iter().find(of)?.values {
            InValues::Markers { first, count } => Some(first + count as u16 - 1),
            _ => None,
        }
    };
    let position = |column: &&str| match filter.value_of(statement, column) {
        Some(Value::Bind(index)) => Some(index),
        _ => last(column),
    };
    key_columns(table).iter().map(position).collect::<Option<_>>().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn unprepared(id: &[u8]) -> (Opcode, Vec<u8>) {
    let mut body = Vec::new();
    let detail = ErrorDetail::Unprepared(id);
    ErrorBody { code: ErrorCode::UNPREPARED, message: b"not prepared", detail }.write(Version::V4, &mut body);
    (Opcode::Error, body)
}

fn schema_change(statement: &str, keyspace: Option<String>) -> (Opcode, Vec<u8>) {
    let name = statement.split([' ', '(']).nth(2).unwrap_or_default();
    let (space, table) = match (name.split_once('.'), keyspace) {
        (Some((space, table)), _) => (space.to_owned(), table),
        (None, Some(keyspace)) => (keyspace, name),
        (None, None) => return error(ErrorCode::INVALID, NO_KEYSPACE),
    };
    let mut out = 5i32.to_be_bytes().to_vec();
    for part in ["CREATED", "TABLE", &space, table] {
        write::string(&mut out, part);
    }
    (Opcode::Result, out)
}

/// Keyspace and table of a statement, as a server resolves them.
fn resolved(read: &Statement, text_read: &[u8], keyspace: Option<&str>) -> Option<(String, String)> {
    let table = match &read.body {
        Body::Select(select) => &select.table,
        Body::Modify(modify) => &modify.table,
        _ => return Some(("none".to_owned(), "none".to_owned())),
    };
    let own = table.keyspace.map(|name| text(&name.normal(text_read)));
    Some((own.or(keyspace.map(str::to_owned))?, text(&table.name.normal(text_read))))
}

/// Name and type of a marker of a statement about the key `k`.
fn marker_of(read: &Statement, statement: &[u8], marker: u16) -> (String, CqlType) {
    let int = CqlType::Native(Native::Int);
    let own = read.marker_names.iter().find(|(at, _)| *at == marker).map(|(_, name)| *name);
    let filter = match &read.body {
        Body::Select(select) => Some(&select.filter),
        Body::Modify(modify) => Some(&modify.filter),
        _ => None,
    };
    let column = filter
        .and_then(|filter| filter.equal.iter().find(|equal| equal.value == Value::Bind(marker)))
        .map(|equal| equal.column);
    if let Some(name) = own.or(column) {
        return (text(&name.normal(statement)), int);
    }
    let Body::Select(select) = &read.body else { return ("k".to_owned(), int) };
    let list = |relation: &statement::In| relation.values == InValues::List(marker);
    match select.limit {
        Some(Value::Bind(limit)) if limit == marker => ("[limit]".to_owned(), int),
        _ if select.filter.ins.iter().any(list) => ("in(k)".to_owned(), CqlType::List(int.into())),
        _ => ("k".to_owned(), int),
    }
}

/// The rows of these keys as a server gives them: keys in order and once each, up to the limit. Of a table whose name
/// has `holes` every fifth key is not there, of one with `wide` each key has three rows.
fn rows_of(
    read: &Statement,
    statement: &[u8],
    values: &Values,
    body: &[u8],
    table: &str,
    mut keys: Vec<i32>,
) -> Vec<Vec<Vec<u8>>> {
    let Body::Select(select) = &read.body else { return Vec::new() };
    if !select.filter.ins.is_empty() {
        keys.sort_unstable();
        keys.dedup();
    }
    let limit = match select.limit {
        None => usize::MAX,
        Some(Value::Bind(index)) => {
            let bytes = values.get(body, index).and_then(|value| value.of(body)).expect("a limit");
            i32::from_be_bytes(bytes.try_into().expect("four bytes")) as usize
        }
        Some(Value::Literal(_, span)) => digits(span.bytes(statement))[0] as usize,
        Some(_) => panic!("a limit that is read"),
    };
    let each = if table.contains("wide") { 3 } else { 1 };
    let there = |key: &i32| !(table.contains("holes") && key % 5 == 0);
    let cells = |key: i32| vec![key.to_be_bytes().to_vec(), row_value(table, key).into_bytes()];
    let rows = keys.into_iter().filter(there).flat_map(|key| std::iter::repeat_n(key, each)).map(cells);
    rows.take(limit).collect()
}

/// One page of rows; the state is how many were given before.
fn page(
    table: (&str, &str),
    found: Vec<Vec<Vec<u8>>>,
    parameters: &Parameters,
    body: &[u8],
) -> (Opcode, Vec<u8>) {
    let columns = [("k", CqlType::Native(Native::Int)), ("v", CqlType::Native(Native::Varchar))];
    let given = parameters.paging_state.and_then(|state| state.of(body));
    let given = given.map_or(0, |state| {
        assert_eq!(state.len(), 4, "a state of this node's, not of weir's");
        u32::from_be_bytes(state.try_into().expect("four bytes")) as usize
    });
    let size = parameters.page_size.map_or(usize::MAX, |size| size.value as usize);
    let end = found.len().min(given.saturating_add(size));
    let skip = parameters.flags.has(2);
    let (opcode, bytes) = rows(table, &columns, skip, &found[given.min(end)..end]);
    if end == found.len() {
        return (opcode, bytes);
    }
    // the state stands behind the number of columns
    let mut out = bytes[..4].to_vec();
    write::bits(&mut out, if skip { 4 } else { 1 } | 2);
    out.extend_from_slice(&bytes[8..12]);
    write::bytes(&mut out, &(end as u32).to_be_bytes());
    out.extend_from_slice(&bytes[12..]);
    (opcode, out)
}

/// The integer keys a statement names.
fn keys_of(read: &Statement, statement: &[u8], values: &Values, body: &[u8]) -> Vec<i32> {
    let bound = |index: u16| values.get(body, index).and_then(|value| value.of(body));
    let number = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let filter = match &read.body {
        Body::Select(select) => &select.filter,
        Body::Modify(modify) if modify.kind == Kind::Insert => {
            return match bound(0) {
                Some(bytes) => vec![number(bytes)],
                None => digits(statement).into_iter().take(1).collect(),
            };
        }
        Body::Modify(modify) => &modify.filter,
        _ => return Vec::new(),
    };
    if let Some(relation) = filter.ins.first() {
        return match relation.values {
            InValues::List(index) => {
                let list = bound(index).expect("a list");
                list_elements(list).expect("a list").flatten().map(number).collect()
            }
            InValues::Markers { first, count } => {
                (first..first + count as u16).filter_map(bound).map(number).collect()
            }
            _ => digits(&statement[relation.span.range()]),
        };
    }
    match filter.equal.first() {
        Some(Equal { value: Value::Bind(index), .. }) => bound(*index).map(number).into_iter().collect(),
        Some(Equal { value: Value::Literal(_, span), .. }) => digits(span.bytes(statement)),
        _ => (0..3).collect(),
    }
}

fn digits(bytes: &[u8]) -> Vec<i32> {
    let text = String::from_utf8_lossy(bytes);
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// Columns of the rows of a SELECT: the name shown, the real name, the type.
fn columns_of(
    read: &Statement,
    statement: &[u8],
    space: &str,
    table: &str,
) -> Vec<(String, String, CqlType)> {
    let Body::Select(select) = &read.body else { return Vec::new() };
    if (space, table) == ("system", "local") || space == "system" {
        let all: &[&str] = match table {
            "peers" => &PEERS,
            "peers_v2" => &PEERS_V2,
            _ => &LOCAL,
        };
        let named: Vec<(String, String)> = match &select.selection {
            statement::Selection::All => {
                all.iter().map(|name| (name.to_string(), name.to_string())).collect()
            }
            statement::Selection::Items(items) => {
                let real = |item: &statement::Selected| item.column.map(|name| text(&name.normal(statement)));
                let shown = |item: &statement::Selected| item.alias.map(|name| text(&name.normal(statement)));
                let both = |item| real(item).map(|real| (shown(item).unwrap_or(real.clone()), real));
                items.iter().filter_map(both).collect()
            }
        };
        return named.into_iter().map(|(shown, real)| (shown, real.clone(), system_type(&real))).collect();
    }
    let column = |name: &str, kind| (name.to_owned(), name.to_owned(), CqlType::Native(kind));
    vec![column("k", Native::Int), column("v", Native::Varchar)]
}

/// Columns of `system.local`, as far as they matter.
pub const LOCAL: [&str; 11] = [
    "key",
    "rpc_address",
    "broadcast_address",
    "rpc_port",
    "host_id",
    "tokens",
    "rack",
    "broadcast_port",
    "data_center",
    "release_version",
    "schema_version",
];
/// Those of `system.peers`.
pub const PEERS: [&str; 9] = [
    "peer",
    "data_center",
    "host_id",
    "preferred_ip",
    "rack",
    "release_version",
    "rpc_address",
    "schema_version",
    "tokens",
];
/// Those of `system.peers_v2`.
pub const PEERS_V2: [&str; 9] = [
    "peer",
    "peer_port",
    "data_center",
    "host_id",
    "native_address",
    "native_port",
    "rack",
    "schema_version",
    "tokens",
];

fn system_type(column: &str) -> CqlType {
    match column {
        "rpc_address" | "broadcast_address" | "peer" | "preferred_ip" | "native_address" => {
            CqlType::Native(Native::Inet)
        }
        "rpc_port" | "broadcast_port" | "peer_port" | "native_port" => CqlType::Native(Native::Int),
        "host_id" | "schema_version" => CqlType::Native(Native::Uuid),
        "tokens" => CqlType::Set(Box::new(CqlType::Native(Native::Varchar))),
        _ => CqlType::Native(Native::Varchar),
    }
}

fn system_cell(column: &str) -> Vec<u8> {
    match column {
        "rpc_address" | "broadcast_address" | "peer" | "preferred_ip" | "native_address" => REAL.to_vec(),
        "rpc_port" | "native_port" => 9042i32.to_be_bytes().to_vec(),
        "broadcast_port" | "peer_port" => 7000i32.to_be_bytes().to_vec(),
        "host_id" => vec![7; 16],
        "schema_version" => vec![9; 16],
        "tokens" => [&2i32.to_be_bytes()[..], &1i32.to_be_bytes(), b"5", &1i32.to_be_bytes(), b"9"].concat(),
        other => format!("real {other}").into_bytes(),
    }
}
