//! `INSERT`, `UPDATE` and `DELETE` against the schema: names are looked up, and what cannot be is refused.

use std::sync::Arc;

use weir_cql::{CqlType, Native};

use super::modify::{ModifyPlan, Verb, WritePlan};
use super::prepare::Markers;
use super::restrict::{KeyPlan, Restriction, undefined};
use crate::cql::parse::ast::{Assignment, Change, Condition, Modify, Operator, Relation, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Catalog, Column, Place, Table, change, system};

/// Looks up what a modification names.
pub fn plan(
    statement: &Modify,
    catalog: &Catalog,
    used: Option<&str>,
    markers: &mut Markers,
) -> Result<ModifyPlan, Refusal> {
    let table = Arc::clone(change::find(catalog, &statement.table, used)?);
    if system::is_system(&table.keyspace) {
        return Err(Refusal::new(
            weir_cql::response::ErrorCode::UNAUTHORIZED,
            format!("{} keyspace is not user-modifiable.", table.keyspace),
        ));
    }
    // the markers of USING stand before those of SET and WHERE in the text, but each knows its own place
    if let Some(term) = &statement.ttl {
        markers.note(term, "[ttl]", &CqlType::Native(Native::Int))?;
    }
    if let Some(term) = &statement.timestamp {
        markers.note(term, "[timestamp]", &CqlType::Native(Native::Bigint))?;
    }
    if table.is_counter() && (statement.ttl.is_some() || statement.timestamp.is_some()) {
        return Err(Refusal::invalid("Cannot provide custom timestamp or TTL for counter updates"));
    }
    let (verb, relations, writes) = match &statement.change {
        Change::Insert(values) => insert(&table, values, markers)?,
        Change::Update(sets) => (Verb::Update, statement.relations.clone(), update(&table, sets, markers)?),
        Change::Delete(targets) => {
            (Verb::Delete, statement.relations.clone(), delete(&table, targets, markers)?)
        }
    };
    if let Some(Relation::Token(..)) =
        relations.iter().find(|relation| matches!(relation, Relation::Token(..)))
    {
        return Err(Refusal::invalid(
            "The token function cannot be used in WHERE clauses for UPDATE and DELETE statements",
        ));
    }
    let outside = relations.iter().find_map(|relation| match relation {
        Relation::Compare(name, ..) | Relation::In(name, _) => {
            table.column(name).filter(|(_, column)| column.place == Place::Regular).map(|_| name)
        }
        _ => None,
    });
    if let Some(name) = outside {
        return Err(Refusal::invalid(format!("Non PRIMARY KEY columns found in where clause: {name} ")));
    }
    let key =
        KeyPlan::of(&relations, &table, markers).map_err(|refusal| partly(&relations, &table, refusal))?;
    if key.partition.is_empty() {
        return Err(missing(&relations, &table));
    }
    let ranged = key.clustering.len() < table.clustering;
    if ranged && verb != Verb::Delete {
        if key.lower.is_some() || key.upper.is_some() {
            return Err(Refusal::invalid(
                "Slice restrictions are not supported on the clustering columns in UPDATE statements",
            ));
        }
        return Err(missing(&relations, &table));
    }
    if ranged && !writes.is_empty() {
        return Err(Refusal::invalid("Range deletions are not supported for specific columns"));
    }
    let conditional = statement.condition != Condition::None;
    if conditional {
        condition(statement, &table, &key, ranged, markers)?;
    }
    Ok(ModifyPlan {
        table,
        key,
        verb,
        writes,
        ttl: statement.ttl.clone(),
        timestamp: statement.timestamp.clone(),
        condition: statement.condition.clone(),
    })
}

/// For modifications a key that is not whole is not a matter of filtering.
fn partly(relations: &[Relation], table: &Table, refusal: Refusal) -> Refusal {
    let some = !relations.is_empty() && refusal.message.starts_with("Cannot execute this query");
    if some { missing(relations, table) } else { refusal }
}

fn missing(relations: &[Relation], table: &Table) -> Refusal {
    let restricted = |name: &str| {
        relations.iter().any(|relation| match relation {
            Relation::Compare(other, ..) | Relation::In(other, _) => other == name,
            Relation::Tuple(others, ..) => others.iter().any(|other| other == name),
            Relation::Token(..) => false,
        })
    };
    let keys = table.partition_columns().iter().chain(table.clustering_columns());
    let names: Vec<&str> = keys.map(|column| column.name.as_str()).filter(|name| !restricted(name)).collect();
    Refusal::invalid(format!("Some partition key or clustering parts are missing: {}", names.join(", ")))
}

fn condition(
    statement: &Modify,
    table: &Table,
    key: &KeyPlan,
    ranged: bool,
    markers: &mut Markers,
) -> Result<(), Refusal> {
    if table.is_counter() {
        return Err(Refusal::invalid("Conditional updates are not supported on counter tables"));
    }
    if statement.timestamp.is_some() {
        return Err(Refusal::invalid("Cannot provide custom timestamp for conditional updates"));
    }
    let many = key
        .partition
        .iter()
        .chain(&key.clustering)
        .any(|restriction| matches!(restriction, Restriction::In(_)));
    if many {
        return Err(Refusal::invalid("IN on the partition key is not supported with conditional updates"));
    }
    if ranged {
        return Err(Refusal::invalid(
            "DELETE statements must restrict all PRIMARY KEY columns with equality relations",
        ));
    }
    if let Condition::Columns(columns) = &statement.condition {
        for (name, _, term) in columns {
            let (_, column) = table.column(name).ok_or_else(|| undefined(table, name))?;
            if column.place != Place::Regular {
                return Err(Refusal::invalid(format!(
                    "PRIMARY KEY column '{name}' cannot have IF conditions"
                )));
            }
            if column.kind.is_multi_cell() {
                return Err(Refusal::unsupported("a condition on a collection"));
            }
            markers.note(term, name, &column.kind.cql)?;
        }
    }
    Ok(())
}

type Planned = (Verb, Vec<Relation>, Vec<(usize, WritePlan)>);

/// The key columns of `INSERT` are relations, the others writes.
fn insert(table: &Table, values: &[(String, Term)], markers: &mut Markers) -> Result<Planned, Refusal> {
    if table.is_counter() {
        return Err(Refusal::invalid(
            "INSERT statements are not allowed on counter tables, use UPDATE instead",
        ));
    }
    let (mut relations, mut writes) = (Vec::new(), Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    for (name, term) in values {
        let (at, column) = table.column(name).ok_or_else(|| undefined(table, name))?;
        if !seen.insert(at) {
            return Err(Refusal::invalid("The column names contains duplicates"));
        }
        if column.place == Place::Regular {
            markers.note(term, name, &column.kind.cql)?;
            writes.push((at, WritePlan::Set(term.clone())));
        } else {
            relations.push(Relation::Compare(name.clone(), Operator::Equal, term.clone()));
        }
    }
    Ok((Verb::Insert, relations, writes))
}

fn update(
    table: &Table,
    sets: &[(String, Assignment)],
    markers: &mut Markers,
) -> Result<Vec<(usize, WritePlan)>, Refusal> {
    let mut writes: Vec<(usize, WritePlan)> = Vec::new();
    for (name, assignment) in sets {
        let (at, column) = table.column(name).ok_or_else(|| undefined(table, name))?;
        if column.place != Place::Regular {
            return Err(Refusal::invalid(format!("PRIMARY KEY part {name} found in SET part")));
        }
        let element = matches!(assignment, Assignment::Element(..));
        let twice = writes
            .iter()
            .any(|(other, write)| *other == at && !(element && matches!(write, WritePlan::Element(..))));
        if twice {
            return Err(Refusal::syntax(format!("Multiple incompatible setting of column {name}")));
        }
        writes.push((at, assign(column, assignment, markers)?));
    }
    Ok(writes)
}

fn assign(column: &Column, assignment: &Assignment, markers: &mut Markers) -> Result<WritePlan, Refusal> {
    let (name, kind) = (column.name.as_str(), &column.kind.cql);
    let invalid = |what: &str| {
        Err(Refusal::invalid(format!(
            "Invalid operation ({name} {what}) for column {name} of type {}",
            column.kind
        )))
    };
    if column.kind.is_counter() && !matches!(assignment, Assignment::Add(_) | Assignment::Subtract(_)) {
        return Err(Refusal::invalid(format!(
            "Cannot set the value of counter column {name} (counters can only be incremented/decremented, not set)"
        )));
    }
    let can_change = column.kind.is_counter() || column.kind.is_multi_cell();
    match assignment {
        Assignment::Set(term) => {
            markers.note(term, name, kind)?;
            Ok(WritePlan::Set(term.clone()))
        }
        Assignment::Add(_) | Assignment::Subtract(_) | Assignment::Prepend(_) | Assignment::Element(..)
            if !can_change =>
        {
            invalid("is one cell")
        }
        Assignment::Add(term) => {
            markers.note(term, name, kind)?;
            Ok(WritePlan::Add(term.clone()))
        }
        Assignment::Prepend(term) => {
            if !matches!(kind, CqlType::List(_)) {
                return invalid("is no list");
            }
            markers.note(term, name, kind)?;
            Ok(WritePlan::Prepend(term.clone()))
        }
        Assignment::Subtract(term) => {
            let of = match kind {
                CqlType::Map(key, _) => CqlType::Set(key.clone()),
                kind => kind.clone(),
            };
            markers.note(term, name, &of)?;
            Ok(WritePlan::Subtract(term.clone()))
        }
        Assignment::Element(at, term) => {
            match kind {
                CqlType::Map(key, element) => {
                    markers.note(at, &format!("key({name})"), key)?;
                    markers.note(term, &format!("value({name})"), element)?;
                }
                CqlType::List(element) => {
                    markers.note(at, &format!("idx({name})"), &CqlType::Native(Native::Int))?;
                    markers.note(term, &format!("value({name})"), element)?;
                }
                _ => return invalid("has no elements with a key"),
            }
            Ok(WritePlan::Element(at.clone(), term.clone()))
        }
    }
}

fn delete(
    table: &Table,
    targets: &[(String, Option<Term>)],
    markers: &mut Markers,
) -> Result<Vec<(usize, WritePlan)>, Refusal> {
    let mut writes = Vec::new();
    for (name, element) in targets {
        let (at, column) = table.column(name).ok_or_else(|| undefined(table, name))?;
        if column.place != Place::Regular {
            return Err(Refusal::invalid(format!(
                "Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)"
            )));
        }
        let Some(term) = element else {
            writes.push((at, WritePlan::Delete));
            continue;
        };
        if !column.kind.is_multi_cell() {
            return Err(Refusal::invalid(format!(
                "Invalid deletion operation for non collection column {name}"
            )));
        }
        match &column.kind.cql {
            CqlType::Map(key, _) => markers.note(term, &format!("key({name})"), key)?,
            CqlType::Set(key) => markers.note(term, &format!("value({name})"), key)?,
            _ => markers.note(term, &format!("idx({name})"), &CqlType::Native(Native::Int))?,
        }
        writes.push((at, WritePlan::DeleteElement(term.clone())));
    }
    Ok(writes)
}
