//! What statements ask for, remembered by their text: a text is read once, not once per request.
//!
//! Bounds: [`KEPT`] texts of at most [`TEXT_MAX`] bytes each; a longer one is read every time. When the table is full
//! it is emptied: texts in use come back at the price of one reading each.

use super::face::{SystemTable, system_table};
use super::method::Method;
use super::rules::RememberedRule;
use crate::ledger::{self, Form};
use crate::units::Operations;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use weir_cql::request::{Values, list_count};
use weir_cql::statement::{self, Body, In, InValues, Modify, Name, OpaqueCause, Statement, Table, Where};

/// Texts remembered per worker (`super::Bound::StatementTexts`).
pub(super) const KEPT: usize = 4_096;
/// Longest text that is remembered, bytes.
pub(super) const TEXT_MAX: usize = 8 << 10;

/// How the work of a statement is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// One partition, as far as the text tells.
    One,
    /// So many keys stand in the text.
    Keys(u64),
    /// The list bound at this position says how many.
    List(u16),
    /// No column is bound by `=` or `IN`: all of the table, or a range of tokens.
    Scan,
}

/// A text that was read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) statement: Statement,
    pub(super) method: Method,
    pub(super) work: Work,
    /// May be sent twice.
    pub(super) idempotent: bool,
    /// Names a table without its keyspace: it means another one after `USE`.
    pub(super) unqualified: bool,
    /// A lightweight transaction.
    pub(super) conditional: bool,
    pub(super) system: Option<SystemTable>,
    pub(super) opaque: Option<OpaqueCause>,
    /// The rule it was found to be under.
    pub(super) rule: RememberedRule,
    /// What the ledger knows it by.
    pub(super) form: Arc<Form>,
}

impl Known {
    /// It as the ledger has it, asked with this keyspace chosen.
    pub(super) fn named(&self, keyspace: Option<Arc<str>>) -> ledger::Statement {
        ledger::Statement { form: self.form.clone(), keyspace: keyspace.filter(|_| self.unqualified) }
    }

    pub(super) fn read(text: &[u8]) -> Known {
        let statement = statement::read(text);
        let mut method = Method::of(statement.kind);
        let mut known = Known {
            work: Work::One,
            idempotent: false,
            unqualified: false,
            conditional: false,
            system: None,
            opaque: None,
            rule: RememberedRule::default(),
            form: Arc::new(form(text, &statement)),
            method,
            statement: statement.clone(),
        };
        match &statement.body {
            Body::Select(select) => {
                known.system = system_table(text, &select.table);
                if known.system.is_some() {
                    method = Method::System;
                }
                known.idempotent = true;
                known.unqualified = select.table.keyspace.is_none();
                known.work = if known.system.is_some() { Work::One } else { work(&select.filter) };
            }
            Body::Modify(modify) => {
                known.idempotent = is_safe(modify);
                known.unqualified = modify.table.keyspace.is_none();
                known.conditional = is_conditional(modify);
                known.work = match work(&modify.filter) {
                    Work::Scan => Work::One,
                    other => other,
                };
            }
            Body::Batch(batch) => {
                known.unqualified = batch.statements.iter().any(|modify| modify.table.keyspace.is_none());
                known.idempotent = batch.statements.iter().all(is_safe);
                known.conditional = batch.statements.iter().any(is_conditional);
                known.work = Work::Keys(batch.statements.len().max(1) as u64);
            }
            Body::Use(_) => {}
            Body::Opaque(cause) => {
                known.opaque = Some(*cause);
                if let Some(arity) = statement.arity_at_most {
                    known.work = Work::Keys(arity.into());
                }
            }
        }
        known.method = method;
        known
    }

    /// Operations this text asks for with these values, counted in constant time: the length of a bound list is its
    /// first four bytes.
    pub(super) fn operations(&self, values: &Values, body: &[u8], scan: Operations) -> Operations {
        Operations(match self.work {
            Work::One => 1,
            Work::Keys(keys) => keys.max(1),
            Work::List(index) => values
                .get(body, index)
                .and_then(|value| list_count(value.of(body)?))
                .map_or(1, |count| u64::from(count).max(1)),
            Work::Scan => scan.0.max(1),
        })
    }
}

fn is_safe(modify: &Modify) -> bool {
    modify.idempotence == statement::Idempotence::Safe
}

fn is_conditional(modify: &Modify) -> bool {
    modify.condition != statement::Condition::Always
}

/// The widest `IN` decides; several multiply on the server, which only a schema could tell apart.
fn work(filter: &Where) -> Work {
    let widest = filter.ins.iter().max_by_key(|relation| match relation.values {
        InValues::List(_) => u64::MAX,
        _ => u64::from(relation.values.count().unwrap_or(0)),
    });
    match widest {
        Some(In { values: InValues::List(index), .. }) => Work::List(*index),
        Some(relation) => Work::Keys(relation.values.count().unwrap_or(1).into()),
        None if filter.equal.is_empty() => Work::Scan,
        None => Work::One,
    }
}

/// The texts a worker remembers.
#[derive(Debug, Default)]
pub(super) struct Statements {
    by_text: FxHashMap<Box<[u8]>, Arc<Known>>,
    /// How often all of them were forgotten for want of room, since somebody looked.
    pub(super) forgotten: u64,
}

impl Statements {
    /// The same, without remembering it.
    pub(super) fn peek(&self, text: &[u8]) -> Arc<Known> {
        self.by_text.get(text).cloned().unwrap_or_else(|| Arc::new(Known::read(text)))
    }

    pub(super) fn read(&mut self, text: &[u8]) -> Arc<Known> {
        if let Some(known) = self.by_text.get(text) {
            return known.clone();
        }
        let known = Arc::new(Known::read(text));
        if text.len() <= TEXT_MAX {
            if self.by_text.len() >= KEPT {
                self.by_text.clear();
                self.forgotten += 1;
            }
            self.by_text.insert(text.into(), known.clone());
        }
        known
    }
}

/// Bytes of a text that its form is made of; what is longer is a list of values, mostly, and is read anew every time.
const FORM_OF: usize = TEXT_MAX;

/// The form of a text: without its values, and with the table of its (first) statement.
fn form(text: &[u8], statement: &Statement) -> Form {
    let mut of = text;
    if text.len() > FORM_OF {
        // between two elements of a list, so that the length of the list does not matter
        let start = &text[..FORM_OF];
        of = &start[..start.iter().rposition(|byte| *byte == b',').unwrap_or(FORM_OF)];
    }
    let found = statement::fingerprint(of);
    let whole = of.len() == text.len();
    let shown = if whole { &*found.text } else { found.text.strip_suffix(", ?").unwrap_or(&found.text) };
    let table = tables(statement).next().map_or_else(String::new, |table| named(table, text));
    Form::new(shown, found.hash, &table, found.complete && whole)
}

fn named(table: &Table, text: &[u8]) -> String {
    let name = |name: Name| String::from_utf8_lossy(&name.normal(text)).into_owned();
    match table.keyspace {
        Some(keyspace) => format!("{}.{}", name(keyspace), name(table.name)),
        None => name(table.name),
    }
}

/// The tables a text names, for the face.
pub(super) fn tables(statement: &Statement) -> impl Iterator<Item = &Table> {
    let (one, many) = match &statement.body {
        Body::Select(select) => (Some(&select.table), None),
        Body::Modify(modify) => (Some(&modify.table), None),
        Body::Batch(batch) => (None, Some(batch.statements.iter().map(|modify| &modify.table))),
        Body::Use(_) | Body::Opaque(_) => (None, None),
    };
    one.into_iter().chain(many.into_iter().flatten())
}
