//! Statement and catalog to [`Plan`].

use std::sync::Arc;

use weir_cql::{CqlType, Native};

use super::value::{NOTHING_BOUND, is_constant, value};
use super::{Action, Marker, Plan, change, select};
use crate::cql::parse::Parsed;
use crate::cql::parse::ast::{Statement, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::{Catalog, Table};

/// The markers of a statement while it is being looked at.
pub struct Markers {
    given: Vec<Option<String>>,
    found: Vec<Option<Marker>>,
}

impl Markers {
    fn new(given: &[Option<String>]) -> Self {
        Self { given: given.to_vec(), found: vec![None; given.len()] }
    }

    /// Notes what `term` is for: its markers get this name and type, and a term without markers must be a value of it.
    ///
    /// # Errors
    /// Invalid when it is not.
    pub fn note(&mut self, term: &Term, name: &str, kind: &CqlType) -> Result<(), Refusal> {
        match (term, kind) {
            (Term::Bind(at), _) => self.set(*at, name, kind.clone()),
            (Term::List(items), CqlType::List(element)) | (Term::Set(items), CqlType::Set(element)) => {
                items.iter().try_for_each(|item| self.note(item, &format!("value({name})"), element))?;
            }
            (Term::Map(pairs), CqlType::Map(key, element)) => {
                for (at, item) in pairs {
                    self.note(at, &format!("key({name})"), key)?;
                    self.note(item, &format!("value({name})"), element)?;
                }
            }
            (Term::Tuple(items), _) if items.len() == 1 => self.note(&items[0], name, kind)?,
            _ => {}
        }
        if is_constant(term) {
            value(term, kind, name, &NOTHING_BOUND)?;
        } else if !matches!(term, Term::Bind(_)) && !matches!(kind, CqlType::Native(_)) {
            // the shape fits, the markers have their types
            let fits = matches!(
                (term, kind),
                (Term::List(_), CqlType::List(_))
                    | (Term::Set(_), CqlType::Set(_))
                    | (Term::Map(_), CqlType::Map(..))
                    | (Term::Tuple(_), _)
            );
            if !fits {
                return Err(Refusal::invalid(format!("Invalid literal for {name}")));
            }
        } else if !matches!(term, Term::Bind(_) | Term::Tuple(_)) {
            return Err(Refusal::unsupported("a marker inside of a function"));
        }
        Ok(())
    }

    /// Notes one marker.
    pub fn set(&mut self, at: u16, name: &str, kind: CqlType) {
        let at = usize::from(at);
        let given = self.given.get(at).cloned().flatten();
        if let Some(place) = self.found.get_mut(at) {
            *place = Some(Marker { name: given.unwrap_or_else(|| name.to_owned()), kind });
        }
    }

    fn done(self) -> Vec<Marker> {
        let text = CqlType::Native(Native::Varchar);
        let unknown = || Marker { name: String::new(), kind: text.clone() };
        self.found.into_iter().map(|marker| marker.unwrap_or_else(unknown)).collect()
    }
}

/// Looks up what `parsed` names; `used` is the keyspace of unqualified names.
///
/// # Errors
/// Invalid for what is not there, what cannot be done and what is not supported.
pub fn prepare(parsed: Parsed, catalog: &Catalog, used: Option<&str>) -> Result<Plan, Refusal> {
    let mut markers = Markers::new(&parsed.markers);
    let mut table: Option<Arc<Table>> = None;
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    let action = match parsed.statement {
        Statement::Select(statement) => {
            let plan = select::plan(&statement, catalog, used, &mut markers)?;
            columns = plan.columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect();
            table = Some(Arc::clone(&plan.table));
            keys = plan.key.markers();
            Action::Select(Box::new(plan))
        }
        Statement::Modify(statement) => {
            let plan = change::plan(&statement, catalog, used, &mut markers)?;
            table = Some(Arc::clone(&plan.table));
            keys = plan.key.markers();
            Action::Modify(Box::new(plan))
        }
        Statement::Batch { kind, statements, timestamp } => {
            let bigint = CqlType::Native(Native::Bigint);
            if let Some(term) = &timestamp {
                markers.note(term, "[timestamp]", &bigint)?;
            }
            let mut plans = Vec::new();
            for statement in &statements {
                if timestamp.is_some() && statement.timestamp.is_some() {
                    return Err(Refusal::invalid(
                        "Timestamp must be set either on BATCH or individual statements",
                    ));
                }
                plans.push(change::plan(statement, catalog, used, &mut markers)?);
            }
            table = plans.first().map(|plan| Arc::clone(&plan.table));
            keys = plans.first().map(|plan| plan.key.markers()).unwrap_or_default();
            Action::Batch { kind, statements: plans, timestamp }
        }
        Statement::Use(name) => {
            if !catalog.has_keyspace(&name) {
                return Err(Refusal::invalid(format!("Keyspace '{name}' does not exist")));
            }
            Action::Use(name)
        }
        Statement::Ddl(ddl) => Action::Ddl(ddl),
    };
    if matches!(action, Action::Ddl(_) | Action::Use(_)) && !parsed.markers.is_empty() {
        return Err(Refusal::invalid("bind markers in a statement that takes none"));
    }
    Ok(Plan {
        action,
        markers: markers.done(),
        key_markers: keys,
        table,
        columns,
        generation: catalog.generation,
    })
}
