//! What `INSERT`, `UPDATE` and `DELETE` write: a plan and bound values to mutations. [`super::change`] makes the plan.

use std::sync::Arc;

use weir_cql::{CqlType, Native};

use super::limits;
use super::restrict::{KeyPlan, undefined};
use super::value::{Env, Value, elements, pairs, present, value};
use crate::cql::parse::ast::{Condition, Operator, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Column, Table, key_type};
use crate::cql::store::key;
use crate::cql::store::row::{Cell, Content, Deletion, Expiry, Marker};

/// What is done to a column.
#[derive(Clone, PartialEq, Debug)]
pub enum WritePlan {
    /// `c = term`
    Set(Term),
    /// `c = c + term`
    Add(Term),
    /// `c = term + c`
    Prepend(Term),
    /// `c = c - term`
    Subtract(Term),
    /// `c[key] = term`
    Element(Term, Term),
    /// `DELETE c`
    Delete,
    /// `DELETE c[key]`
    DeleteElement(Term),
}

/// The verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
}

/// `INSERT`, `UPDATE`, `DELETE`, ready to run.
#[derive(Debug)]
pub struct ModifyPlan {
    /// Where.
    pub table: Arc<Table>,
    /// Which rows.
    pub key: KeyPlan,
    /// Which of the three.
    pub(super) verb: Verb,
    /// What is done to columns, by their places.
    pub(super) writes: Vec<(usize, WritePlan)>,
    /// `USING TTL`
    pub(super) ttl: Option<Term>,
    /// `USING TIMESTAMP`
    pub(super) timestamp: Option<Term>,
    /// `IF`
    pub(super) condition: Condition,
}

/// What is done to one column of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// A cell.
    Put(u16, Cell),
    /// The end of all elements of a collection.
    Clear(u16, Deletion),
    /// An element of a set or map.
    Element(u16, Vec<u8>, Cell),
    /// Elements behind (or, `front`, before) those of a list.
    Append {
        /// The column.
        column: u16,
        /// The elements in their order in the list.
        cells: Vec<Cell>,
        /// Before the others.
        front: bool,
    },
    /// The element at a place of a list; a cell that deletes takes it out.
    At(u16, i32, Cell),
    /// Every element of a list with one of these values.
    Discard(u16, Vec<Vec<u8>>, Deletion),
    /// A counter, by so much.
    Count(u16, i64),
}

/// What a mutation is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// One row.
    Row {
        /// Its clustering, as components.
        clustering: Vec<u8>,
        /// The whole row is deleted.
        deletion: Option<Deletion>,
        /// It is there from now on.
        marker: Option<Marker>,
        /// What is done to its columns.
        writes: Vec<Write>,
    },
    /// All rows from a key to before another are deleted.
    Range(Vec<u8>, Vec<u8>, Deletion),
    /// The partition is deleted.
    Partition(Deletion),
}

/// One change of one partition.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Where.
    pub table: Arc<Table>,
    /// What its keys begin with.
    pub partition: Vec<u8>,
    /// What is done.
    pub target: Target,
    /// Microseconds.
    pub timestamp: i64,
}

/// The condition of a modification, with its values.
#[derive(Clone, PartialEq, Debug)]
pub enum Guard {
    /// There must be no row.
    NotExists,
    /// There must be a row.
    Exists,
    /// Columns (by their places) compared with values; `None` is null.
    Columns(Vec<(usize, Operator, Option<Vec<u8>>)>),
}

impl ModifyPlan {
    /// Whether there is an `IF`.
    pub fn is_conditional(&self) -> bool {
        self.condition != Condition::None
    }

    /// The condition with its values; `None` where there is none.
    ///
    /// # Errors
    /// Those of the bound values.
    pub fn guard(&self, env: &Env<'_>) -> Result<Option<Guard>, Refusal> {
        Ok(match &self.condition {
            Condition::None => None,
            Condition::NotExists => Some(Guard::NotExists),
            Condition::Exists => Some(Guard::Exists),
            Condition::Columns(columns) => {
                let mut found = Vec::new();
                for (name, operator, term) in columns {
                    let (at, column) = self.table.column(name).ok_or_else(|| undefined(&self.table, name))?;
                    found.push((at, *operator, value(term, &column.kind.cql, name, env)?.bytes()));
                }
                Some(Guard::Columns(found))
            }
        })
    }

    /// What it writes. `default_timestamp` is that of the request.
    ///
    /// # Errors
    /// Those of the bound values.
    pub fn mutations(&self, env: &Env<'_>, default_timestamp: i64) -> Result<Vec<Mutation>, Refusal> {
        let timestamp = limits::timestamp(self.timestamp.as_ref(), env)?.unwrap_or(default_timestamp);
        let ttl = limits::ttl(self.ttl.as_ref(), self.table.options.ttl, env)?;
        let deletion = Deletion { timestamp, at: env.seconds() };
        let make = Maker {
            timestamp,
            expiry: (ttl > 0).then(|| Expiry { ttl, at: env.seconds().saturating_add(ttl) }),
            seconds: env.seconds(),
        };
        let mut mutations = Vec::new();
        let prefixes = self.key.prefixes(&self.table, env)?;
        let whole = self.key.clustering.len() == self.table.clustering;
        let mut writes = Vec::new();
        for (at, write) in &self.writes {
            make.write(&self.table.columns[*at], write, env, &mut writes)?;
        }
        let is_delete = self.verb == Verb::Delete;
        for partition in self.key.partitions(&self.table, env)? {
            let partition = key::partition(&partition);
            for prefix in &prefixes {
                let target = if whole {
                    Target::Row {
                        clustering: prefix.clone(),
                        deletion: (is_delete && self.writes.is_empty()).then_some(deletion),
                        marker: (self.verb == Verb::Insert)
                            .then_some(Marker { timestamp, expiry: make.expiry }),
                        writes: writes.clone(),
                    }
                } else if self.key.clustering.is_empty()
                    && self.key.lower.is_none()
                    && self.key.upper.is_none()
                {
                    Target::Partition(deletion)
                } else {
                    let (start, end) = self.key.range(&self.table, &partition, prefix, env)?;
                    Target::Range(start, end, deletion)
                };
                mutations.push(Mutation {
                    table: Arc::clone(&self.table),
                    partition: partition.clone(),
                    target,
                    timestamp,
                });
            }
        }
        Ok(mutations)
    }
}

/// Makes cells with the timestamp and time to live of a statement.
struct Maker {
    timestamp: i64,
    expiry: Option<Expiry>,
    seconds: u32,
}

impl Maker {
    fn cell(&self, value: Vec<u8>) -> Cell {
        Cell { timestamp: self.timestamp, content: Content::Value(value, self.expiry) }
    }

    fn tombstone(&self) -> Cell {
        Cell { timestamp: self.timestamp, content: Content::Deleted(self.seconds) }
    }

    fn deletion(&self) -> Deletion {
        Deletion { timestamp: self.timestamp, at: self.seconds }
    }

    fn write(
        &self,
        column: &Column,
        plan: &WritePlan,
        env: &Env<'_>,
        out: &mut Vec<Write>,
    ) -> Result<(), Refusal> {
        let (id, kind, name) = (column.id, &column.kind.cql, column.name.as_str());
        let multi = column.kind.is_multi_cell();
        let path =
            |term: &Term, kind: &CqlType| present(term, kind, name, env).map(|bytes| path_of(kind, &bytes));
        match plan {
            WritePlan::Set(term) if multi => {
                let found = value(term, kind, name, env)?;
                if found == Value::Unset {
                    return Ok(());
                }
                // one before: what is written by the same statement stays
                let before = Deletion { timestamp: self.timestamp.saturating_sub(1), at: self.seconds };
                out.push(Write::Clear(id, before));
                if let Value::Bytes(bytes) = found {
                    self.elements(column, &bytes, false, out)?;
                }
            }
            WritePlan::Set(term) => match value(term, kind, name, env)? {
                Value::Unset => {}
                Value::Null => out.push(Write::Put(id, self.tombstone())),
                Value::Bytes(bytes) => out.push(Write::Put(id, self.cell(bytes))),
            },
            WritePlan::Add(term) | WritePlan::Subtract(term) if column.kind.is_counter() => {
                let by = match value(term, kind, name, env)? {
                    Value::Unset => return Ok(()),
                    Value::Null => {
                        return Err(Refusal::invalid("Invalid null value for counter increment/decrement"));
                    }
                    Value::Bytes(bytes) => bytes.try_into().map(i64::from_be_bytes),
                };
                let by = by.map_err(|_| Refusal::invalid("Invalid counter value"))?;
                let negative = matches!(plan, WritePlan::Subtract(_));
                out.push(Write::Count(id, if negative { by.wrapping_neg() } else { by }));
            }
            WritePlan::Add(term) | WritePlan::Prepend(term) => {
                if let Value::Bytes(bytes) = value(term, kind, name, env)? {
                    self.elements(column, &bytes, matches!(plan, WritePlan::Prepend(_)), out)?;
                }
            }
            WritePlan::Subtract(term) => self.subtract(column, term, env, out)?,
            WritePlan::Element(at, term) => {
                if let CqlType::Map(key, element) = kind {
                    let path = path(at, key)?;
                    match value(term, element, name, env)? {
                        Value::Unset => {}
                        Value::Null => out.push(Write::Element(id, path, self.tombstone())),
                        Value::Bytes(bytes) => out.push(Write::Element(id, path, self.cell(bytes))),
                    }
                } else if let CqlType::List(element) = kind {
                    let place = place(at, name, env)?;
                    match value(term, element, name, env)? {
                        Value::Unset => {}
                        Value::Null => out.push(Write::At(id, place, self.tombstone())),
                        Value::Bytes(bytes) => out.push(Write::At(id, place, self.cell(bytes))),
                    }
                }
            }
            WritePlan::Delete if multi => out.push(Write::Clear(id, self.deletion())),
            WritePlan::Delete => out.push(Write::Put(id, self.tombstone())),
            WritePlan::DeleteElement(at) => match kind {
                CqlType::Map(key, _) | CqlType::Set(key) => {
                    out.push(Write::Element(id, path(at, key)?, self.tombstone()));
                }
                _ => out.push(Write::At(id, place(at, name, env)?, self.tombstone())),
            },
        }
        Ok(())
    }

    /// The elements of a serialized collection, one cell each.
    fn elements(
        &self,
        column: &Column,
        bytes: &[u8],
        front: bool,
        out: &mut Vec<Write>,
    ) -> Result<(), Refusal> {
        let wrong = || Refusal::invalid(format!("Invalid collection for {}", column.name));
        match &column.kind.cql {
            CqlType::Set(kind) => {
                for element in elements(bytes).ok_or_else(wrong)? {
                    out.push(Write::Element(column.id, path_of(kind, element), self.cell(Vec::new())));
                }
            }
            CqlType::Map(kind, _) => {
                for (key, element) in pairs(bytes).ok_or_else(wrong)? {
                    out.push(Write::Element(column.id, path_of(kind, key), self.cell(element.to_vec())));
                }
            }
            _ => {
                let all = elements(bytes).ok_or_else(wrong)?;
                let cells = all.into_iter().map(|element| self.cell(element.to_vec())).collect();
                out.push(Write::Append { column: column.id, cells, front });
            }
        }
        Ok(())
    }

    fn subtract(
        &self,
        column: &Column,
        term: &Term,
        env: &Env<'_>,
        out: &mut Vec<Write>,
    ) -> Result<(), Refusal> {
        let wrong = || Refusal::invalid(format!("Invalid collection for {}", column.name));
        // keys of a map are taken out by a set of them
        let (kind, of) = match &column.kind.cql {
            CqlType::Map(key, _) => (key, CqlType::Set(key.clone())),
            CqlType::Set(element) => (element, CqlType::Set(element.clone())),
            kind @ CqlType::List(element) => (element, kind.clone()),
            _ => return Err(wrong()),
        };
        let Value::Bytes(bytes) = value(term, &of, &column.name, env)? else { return Ok(()) };
        let found = elements(&bytes).ok_or_else(wrong)?;
        if matches!(column.kind.cql, CqlType::List(_)) {
            let values = found.into_iter().map(<[u8]>::to_vec).collect();
            out.push(Write::Discard(column.id, values, self.deletion()));
            return Ok(());
        }
        for element in found {
            out.push(Write::Element(column.id, path_of(kind, element), self.tombstone()));
        }
        Ok(())
    }
}

/// An element's path: bytes that sort as the elements do.
pub fn path_of(kind: &CqlType, element: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    match key_type(kind) {
        Some(kind) => key::push(kind, false, element, &mut path),
        None => path.extend_from_slice(element),
    }
    path
}

fn place(term: &Term, name: &str, env: &Env<'_>) -> Result<i32, Refusal> {
    let bytes = present(term, &CqlType::Native(Native::Int), name, env)?;
    bytes.try_into().map(i32::from_be_bytes).map_err(|_| Refusal::invalid("Invalid list index"))
}
