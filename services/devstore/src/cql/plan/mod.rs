//! A statement against the schema: names are looked up, markers get types, restrictions become ranges of keys.
//!
//! [`prepare()`] is done once per statement and catalog; running a [`Plan`] needs only the bound values.

mod change;
mod limits;
mod modify;
mod prepare;
mod restrict;
mod select;
pub mod time;
pub mod value;

use std::sync::Arc;

use weir_cql::CqlType;
use weir_cql::request::BatchKind;

pub use limits::timestamp;
pub use modify::{Guard, ModifyPlan, Mutation, Target, Write, WritePlan};
pub use prepare::prepare;
pub use select::{Scan, SelectPlan, Selected, What};
pub use value::{Env, Value};

use super::parse::ast::{Ddl, Term};
use super::schema::Table;

/// A bind marker, as PREPARED tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: CqlType,
}

/// What a statement does.
#[derive(Debug)]
pub enum Action {
    /// `SELECT`
    Select(Box<SelectPlan>),
    /// `INSERT`, `UPDATE`, `DELETE`
    Modify(Box<ModifyPlan>),
    /// `BATCH` as text.
    Batch {
        /// Its type.
        kind: BatchKind,
        /// Its statements.
        statements: Vec<ModifyPlan>,
        /// `USING TIMESTAMP`
        timestamp: Option<Term>,
    },
    /// `USE`
    Use(String),
    /// What changes the schema.
    Ddl(Ddl),
}

/// A statement that is ready to run.
#[derive(Debug)]
pub struct Plan {
    /// What it does.
    pub action: Action,
    /// Its markers in order.
    pub markers: Vec<Marker>,
    /// For each column of the partition key, the marker it is bound by; empty when one is not.
    pub key_markers: Vec<u16>,
    /// The table of its markers and columns.
    pub table: Option<Arc<Table>>,
    /// The columns of its result.
    pub columns: Vec<(String, CqlType)>,
    /// The generation of the catalog it was made with.
    pub generation: u64,
}
