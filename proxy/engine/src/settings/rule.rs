//! What an operator chooses for single tables and statements of a cluster.

use crate::units::Span;
use std::sync::Arc;

/// Rules one cluster may have.
pub const RULES_MAX: usize = 256;

/// Choices for the statements of one table, or for one statement. What no rule is for has the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Config key; not a label.
    pub name: Arc<str>,
    /// What it is for.
    pub subject: Subject,
    /// Whether requests for many keys are split.
    pub split: SplitChoice,
    /// UNLOGGED batches are split by partition, where all of their statements are under such a rule.
    pub split_batches: bool,
    /// Batches to be split that have no timestamp of the client's are given one of weir's; without it they go whole.
    pub stamp_timestamps: bool,
    /// An identical read may be joined after it was sent: its answer can be older than a write of another client that
    /// ended before the joining read began.
    pub join_in_flight: bool,
    /// How long an answer may be given again. `None`: never. 1 ms to 60 s.
    pub cache_ttl: Option<Span>,
}

impl Rule {
    /// A rule with every default.
    #[must_use]
    pub fn new(name: &str, subject: Subject) -> Rule {
        Rule {
            name: name.into(),
            subject,
            split: SplitChoice::Auto,
            split_batches: false,
            stamp_timestamps: false,
            join_in_flight: false,
            cache_ttl: None,
        }
    }
}

/// What a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All statements of one table. Names as the server stores them: in lower case unless they were made with quotes.
    Table {
        /// Of the statement, or chosen by `USE`.
        keyspace: Arc<str>,
        /// The table.
        table: Arc<str>,
    },
    /// One statement: [`weir_cql::statement::Fingerprint::hash`] of its text with every table qualified. It goes before
    /// a rule for its table.
    Statement(u64),
}

/// Whether a request for many keys is split into smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum SplitChoice {
    /// Where it is known to help: on Cassandra, not on servers that announce shards.
    #[default]
    Auto,
    /// Wherever it can be done.
    On,
    /// Never.
    Off,
}
