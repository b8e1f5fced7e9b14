//! The method table: what is counted in each method's messages, and which methods may be split.
//!
//! A table is a schema (descriptors) and an entry per method (configuration); [`Table::check`] holds one against the other
//! and reports every problem at once. Methods without an entry are known by name and counted in replies.

mod check;
mod file;
mod json;
mod preset;
mod problem;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::file::{Entries, MergeEntry, MethodEntry, parse};
pub use self::preset::{PRESETS, Preset, preset};
pub use self::problem::Problem;
use crate::json::JsonPlan;
use crate::scan::ScanPlan;
use crate::schema::Schema;
use crate::split::SplitPlan;

/// What is known of one method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Method {
    /// `package.Service/Method`.
    pub name: Box<str>,
    /// Paths of the fields whose elements are the keys of a request, in the order of its counts.
    pub keys: Vec<Box<str>>,
    /// Counts them in protobuf.
    pub request: Arc<ScanPlan>,
    /// Counts them in JSON.
    pub request_json: Arc<JsonPlan>,
    /// Paths of the fields whose elements are the rows of a reply; the largest count is the number of rows.
    pub rows: Vec<Box<str>>,
    /// Counts them in protobuf.
    pub reply: Arc<ScanPlan>,
    /// Counts them in JSON.
    pub reply_json: Arc<JsonPlan>,
    /// How it is split; `None`: never.
    pub split: Option<Arc<SplitPlan>>,
    /// Whether either side sends a stream of messages.
    pub streaming: bool,
}

/// Methods by name.
#[derive(Clone, Debug, Default)]
pub struct Table {
    methods: BTreeMap<Box<str>, Arc<Method>>,
}

impl Table {
    /// Holds `entries` against `schema`. Every problem of every entry is reported.
    pub fn check(schema: &Schema, entries: &Entries) -> Result<Self, Vec<Problem>> {
        check::check(schema, entries).map(|methods| Self { methods })
    }

    /// The method of an HTTP path (`/package.Service/Method`, with or without its slash). `None`: the path names no method
    /// of the table, and must not become a label.
    pub fn find(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path.strip_prefix('/').unwrap_or(path))
    }

    /// Every method, by name.
    pub fn methods(&self) -> impl ExactSizeIterator<Item = &Arc<Method>> {
        self.methods.values()
    }
}
