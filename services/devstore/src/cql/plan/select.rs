//! `SELECT` against the schema.

use std::sync::Arc;

use weir_cql::{CqlType, Native};

use super::limits;
use super::prepare::Markers;
use super::restrict::{KeyPlan, Restriction, is_descending, undefined};
use super::value::Env;
use crate::cql::parse::ast::{Select, Selector, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Catalog, Place, Table, change};
use crate::cql::store::key;

/// What a column of the result is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// The column at this place of the table.
    Column(usize),
    /// Its timestamp.
    Writetime(usize),
    /// Its seconds left.
    Ttl(usize),
    /// The token of the partition key.
    Token,
    /// The number of rows.
    Count,
}

/// A column of the result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: CqlType,
    /// What it is made of.
    pub what: What,
}

/// A range of keys to be read: from `start` to before `end`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The first key.
    pub start: Vec<u8>,
    /// Behind the last.
    pub end: Vec<u8>,
}

/// `SELECT`, ready to run.
#[derive(Debug)]
pub struct SelectPlan {
    /// From where.
    pub table: Arc<Table>,
    /// What.
    pub columns: Vec<Selected>,
    /// One row per partition, of its key alone.
    pub distinct: bool,
    /// Which rows.
    pub key: KeyPlan,
    /// Backwards.
    pub reversed: bool,
    /// How many of the clustering columns `ORDER BY` compares; 0: there is none.
    pub ordered: usize,
    limit: Option<Term>,
    per_partition: Option<Term>,
}

impl SelectPlan {
    /// One row that tells how many there are.
    pub fn is_count(&self) -> bool {
        self.columns.iter().any(|column| column.what == What::Count)
    }

    /// Most rows in all, and most of one partition.
    ///
    /// # Errors
    /// Invalid unless they are above zero.
    pub fn limits(&self, env: &Env<'_>) -> Result<(u32, u32), Refusal> {
        let limit = limits::limit(self.limit.as_ref(), env)?.unwrap_or(u32::MAX);
        Ok((limit, limits::limit(self.per_partition.as_ref(), env)?.unwrap_or(u32::MAX)))
    }

    /// What is read, in the order of the answer.
    ///
    /// # Errors
    /// Those of the bound values.
    pub fn scans(&self, env: &Env<'_>) -> Result<Vec<Scan>, Refusal> {
        if self.key.partition.is_empty() {
            let (start, end) = self.key.tokens(env)?;
            return Ok(vec![Scan { start, end }]);
        }
        let mut prefixes = self.key.prefixes(&self.table, env)?;
        if self.reversed {
            prefixes.reverse();
        }
        // the same in every partition; where nothing can be, the partitions are not looked at, as in Cassandra
        let mut ranges = Vec::new();
        for prefix in &prefixes {
            let (start, end) = self.key.range(&self.table, &[], prefix, env)?;
            if start < end {
                ranges.push((start, end));
            }
        }
        let mut scans = Vec::new();
        if ranges.is_empty() {
            return Ok(scans);
        }
        for partition in self.key.partitions(&self.table, env)? {
            let partition = key::partition(&partition);
            for (start, end) in &ranges {
                let of = |behind: &[u8]| [&partition, behind].concat();
                scans.push(Scan { start: of(start), end: of(end) });
            }
            if scans.len() > super::restrict::KEYS_MAX {
                return Err(Refusal::unsupported("more ranges in one statement"));
            }
        }
        Ok(scans)
    }
}

/// Looks up what a `SELECT` names.
pub fn plan(
    statement: &Select,
    catalog: &Catalog,
    used: Option<&str>,
    markers: &mut Markers,
) -> Result<SelectPlan, Refusal> {
    let table = Arc::clone(change::find(catalog, &statement.table, used)?);
    let columns = columns(statement, &table)?;
    let key = KeyPlan::of(&statement.relations, &table, markers)?;
    let int = CqlType::Native(Native::Int);
    if let Some(term) = &statement.per_partition {
        markers.note(term, "[per_partition_limit]", &int)?;
    }
    if let Some(term) = &statement.limit {
        markers.note(term, "[limit]", &int)?;
    }
    let (reversed, ordered) = order(statement, &table, &key)?;
    if statement.distinct {
        let keys_only = columns.iter().all(|column| match column.what {
            What::Column(at) => at < table.partition,
            What::Token | What::Count => true,
            What::Writetime(_) | What::Ttl(_) => false,
        });
        if !keys_only {
            return Err(Refusal::invalid("SELECT DISTINCT queries must only request partition key columns"));
        }
        if !key.clustering.is_empty() || key.lower.is_some() || key.upper.is_some() {
            return Err(Refusal::invalid(
                "SELECT DISTINCT with WHERE clause only supports restriction by partition key",
            ));
        }
        if statement.per_partition.is_some() {
            return Err(Refusal::invalid("PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries"));
        }
    }
    let counted = columns.iter().any(|column| column.what == What::Count);
    if counted && columns.len() > 1 {
        return Err(Refusal::unsupported("COUNT(*) beside other columns"));
    }
    if counted && statement.per_partition.is_some() {
        return Err(Refusal::invalid("PER PARTITION LIMIT is not allowed with aggregate queries."));
    }
    Ok(SelectPlan {
        table,
        columns,
        distinct: statement.distinct,
        key,
        reversed,
        ordered,
        limit: statement.limit.clone(),
        per_partition: statement.per_partition.clone(),
    })
}

fn columns(statement: &Select, table: &Table) -> Result<Vec<Selected>, Refusal> {
    let native = CqlType::Native;
    let Some(selected) = &statement.columns else {
        let all = table.columns.iter().enumerate().take(match statement.distinct {
            true => table.partition,
            false => usize::MAX,
        });
        return Ok(all
            .map(|(at, column)| Selected {
                name: column.name.clone(),
                kind: column.kind.cql.clone(),
                what: What::Column(at),
            })
            .collect());
    };
    let mut columns = Vec::new();
    for (selector, alias) in selected {
        let find = |name: &str| table.column(name).ok_or_else(|| undefined(table, name));
        let cell = |function: &str, name: &str| -> Result<usize, Refusal> {
            let (at, column) = find(name)?;
            if column.place != Place::Regular {
                return Err(Refusal::invalid(format!(
                    "Cannot use selection function {function} on PRIMARY KEY part {name}"
                )));
            }
            if column.kind.is_multi_cell() {
                return Err(Refusal::unsupported(format!("{function} of a collection")));
            }
            Ok(at)
        };
        let (name, kind, what) = match selector {
            Selector::Column(name) => {
                let (at, column) = find(name)?;
                (name.clone(), column.kind.cql.clone(), What::Column(at))
            }
            Selector::Count => ("count".to_owned(), native(Native::Bigint), What::Count),
            Selector::Writetime(name) => (
                format!("writetime({name})"),
                native(Native::Bigint),
                What::Writetime(cell("writetime", name)?),
            ),
            Selector::Ttl(name) => {
                (format!("ttl({name})"), native(Native::Int), What::Ttl(cell("ttl", name)?))
            }
            Selector::Token(names) => {
                if !table.partition_columns().iter().map(|column| &column.name).eq(names) {
                    return Err(Refusal::invalid("The token function arguments must be the partition key"));
                }
                (format!("system.token({})", names.join(", ")), native(Native::Bigint), What::Token)
            }
        };
        columns.push(Selected { name: alias.clone().unwrap_or(name), kind, what });
    }
    Ok(columns)
}

/// Whether `ORDER BY` turns the order of the table over, and how many clustering columns it goes to.
fn order(statement: &Select, table: &Table, key: &KeyPlan) -> Result<(bool, usize), Refusal> {
    if statement.order.is_empty() {
        return Ok((false, 0));
    }
    if key.partition.is_empty() {
        return Err(Refusal::invalid(
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        ));
    }
    let mut turned = None;
    let mut next = 0;
    for (name, descending) in &statement.order {
        let (at, column) = table.column(name).ok_or_else(|| undefined(table, name))?;
        if !matches!(column.place, Place::Clustering { .. }) {
            return Err(Refusal::invalid(format!(
                "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got {name}"
            )));
        }
        // columns that are equal to one value may be left out
        while table.partition + next < at && matches!(key.clustering.get(next), Some(Restriction::Equal(_))) {
            next += 1;
        }
        if table.partition + next != at {
            return Err(Refusal::invalid(
                "Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY",
            ));
        }
        next += 1;
        let this = *descending != is_descending(column);
        if turned.is_some_and(|turned| turned != this) {
            return Err(Refusal::invalid("Unsupported order by relation"));
        }
        turned = Some(this);
    }
    Ok((turned.unwrap_or(false), next))
}
