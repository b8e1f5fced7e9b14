//! RESULT: rows, prepared statements and schema changes, as bytes.

use md5::{Digest, Md5};
use weir_cql::envelope::Open;
use weir_cql::response::{ErrorBody, ErrorCode, Event, SchemaChange, Target};
use weir_cql::{CqlType, Dialect, Flags, Malformed, Opcode, StreamId, Version, own, write};

use super::plan::{Marker, Plan};
use super::read::Page;
use super::refusal::Refusal;
use super::schema::change::Told;

const ROWS: i32 = 2;
const PREPARED: i32 = 4;
const SCHEMA_CHANGE: i32 = 5;
const GLOBAL_TABLE: u32 = 0x0001;
const HAS_MORE_PAGES: u32 = 0x0002;
const NO_METADATA: u32 = 0x0004;
const METADATA_CHANGED: u32 = 0x0008;

/// Where answers go.
pub struct Reply<'o> {
    /// The connection's unsent bytes.
    pub out: &'o mut Vec<u8>,
    /// What the connection has agreed on.
    pub dialect: Dialect,
    /// The stream of the request.
    pub stream: StreamId,
}

/// What the columns of a result are of.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Their keyspace.
    pub keyspace: String,
    /// Their table.
    pub table: String,
    /// Names and types.
    pub each: Vec<(String, CqlType)>,
}

impl Columns {
    /// Those of a plan's result.
    pub fn of(plan: &Plan) -> Self {
        let (keyspace, table) = names(plan);
        Self { keyspace: keyspace.into(), table: table.into(), each: plan.columns.clone() }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write::string(out, &self.keyspace);
        write::string(out, &self.table);
        for (name, kind) in &self.each {
            write::string(out, name);
            kind.write(out);
        }
    }

    /// What a client of v5 knows the columns by.
    pub fn id(&self) -> [u8; 16] {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        Md5::digest(&bytes).into()
    }
}

fn names(plan: &Plan) -> (&str, &str) {
    plan.table.as_ref().map_or(("", ""), |table| (&table.keyspace, &table.name))
}

/// How the columns are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// All of them.
    Columns,
    /// The client knows them.
    Nothing,
    /// The client knows others: all of them, with their new id.
    Changed,
}

impl Reply<'_> {
    fn result(self, fill: impl FnOnce(&mut Vec<u8>, Dialect)) {
        let open = Open::new(self.out, self.dialect.version, Flags::default(), self.stream, Opcode::Result);
        fill(self.out, self.dialect);
        if let Err(Malformed::TooLarge) = open.close(self.out) {
            own::error(
                self.out,
                self.dialect.version,
                self.stream,
                &ErrorBody::plain(ErrorCode::INVALID, "an answer that is too long for an envelope"),
            );
        }
    }

    /// ERROR.
    pub fn refusal(self, refusal: &Refusal) {
        own::error(self.out, self.dialect.version, self.stream, &refusal.body());
    }

    /// RESULT Void.
    pub fn void(self) {
        own::void(self.out, self.dialect.version, self.stream);
    }

    /// RESULT Set_keyspace.
    pub fn keyspace(self, name: &str) {
        own::set_keyspace(self.out, self.dialect.version, self.stream, name.as_bytes());
    }

    /// RESULT Rows.
    pub fn rows(self, columns: &Columns, page: &Page, tell: Tell) {
        self.result(|out, _| {
            let mut flags = if tell == Tell::Nothing { NO_METADATA } else { GLOBAL_TABLE };
            if page.state.is_some() {
                flags |= HAS_MORE_PAGES;
            }
            if tell == Tell::Changed {
                flags |= METADATA_CHANGED;
            }
            write::int(out, ROWS);
            write::bits(out, flags);
            write::bits(out, columns.each.len() as u32);
            if let Some(state) = &page.state {
                write::bytes(out, state);
            }
            if tell == Tell::Changed {
                write::short_bytes(out, &columns.id());
            }
            if tell != Tell::Nothing {
                columns.write(out);
            }
            write::bits(out, page.count);
            out.extend_from_slice(&page.content);
        });
    }

    /// RESULT Prepared.
    pub fn prepared(self, id: &[u8], plan: &Plan) {
        self.result(|out, dialect| {
            let columns = Columns::of(plan);
            write::int(out, PREPARED);
            write::short_bytes(out, id);
            if dialect.metadata_ids {
                write::short_bytes(out, &columns.id());
            }
            markers(out, dialect, plan);
            match columns.each.is_empty() {
                true => {
                    write::bits(out, NO_METADATA);
                    write::bits(out, 0);
                }
                false => {
                    write::bits(out, GLOBAL_TABLE);
                    write::bits(out, columns.each.len() as u32);
                    columns.write(out);
                }
            }
        });
    }

    /// RESULT Schema_change.
    pub fn schema_change(self, told: &Told) {
        self.result(|out, _| {
            write::int(out, SCHEMA_CHANGE);
            change_of(told).write(out);
        });
    }
}

/// The bind markers of PREPARED.
fn markers(out: &mut Vec<u8>, dialect: Dialect, plan: &Plan) {
    let (keyspace, table) = names(plan);
    write::bits(out, if plan.markers.is_empty() { 0 } else { GLOBAL_TABLE });
    write::bits(out, plan.markers.len() as u32);
    if dialect.version >= Version::V4 {
        write::bits(out, plan.key_markers.len() as u32);
        plan.key_markers.iter().for_each(|at| write::short(out, *at));
    }
    if !plan.markers.is_empty() {
        write::string(out, keyspace);
        write::string(out, table);
    }
    for Marker { name, kind } in &plan.markers {
        write::string(out, name);
        kind.write(out);
    }
}

fn change_of(told: &Told) -> SchemaChange<'_> {
    SchemaChange {
        change: told.change.as_bytes(),
        target: told.table.as_ref().map_or(Target::Keyspace, |table| Target::Table(table.as_bytes())),
        keyspace: told.keyspace.as_bytes(),
    }
}

/// EVENT of a schema change.
pub fn event(out: &mut Vec<u8>, version: Version, told: &Told) {
    own::event(out, version, &Event::Schema(change_of(told)));
}
