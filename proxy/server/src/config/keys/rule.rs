//! Keys of `[cluster.NAME.rule.RULE]`.

use crate::config::schema::{Absent, Key, Kind, Tighter, Worded};
use crate::config_key as key;
use std::sync::Arc;
use weir_engine::settings::{Rule, SplitChoice, Subject};
use weir_engine::units::Span;

const SPLIT: &[(&str, &str)] = &[
    ("auto", "where it is known to help, which is on Cassandra"),
    ("on", "wherever it can be done"),
    ("off", "never"),
];

/// A rule while it is read.
#[derive(Clone, Debug, Default)]
pub struct RuleDraft {
    /// `keyspace.table`.
    pub table: Option<Arc<str>>,
    /// 16 hexadecimal digits.
    pub fingerprint: Option<Arc<str>>,
    /// See [`Rule::split`].
    pub split: SplitChoice,
    /// See [`Rule::split_batches`].
    pub split_batches: bool,
    /// See [`Rule::stamp_timestamps`].
    pub stamp_timestamps: bool,
    /// See [`Rule::join_in_flight`].
    pub join_in_flight: bool,
    /// See [`Rule::cache_ttl`].
    pub cache_ttl: Option<Span>,
}

impl RuleDraft {
    /// As it would be written.
    #[must_use]
    pub fn of(rule: &Rule) -> RuleDraft {
        let (table, fingerprint) = match &rule.subject {
            Subject::Table { keyspace, table } => (Some(format!("{keyspace}.{table}").into()), None),
            Subject::Statement(hash) => (None, Some(format!("{hash:016x}").into())),
        };
        let Rule { split, split_batches, stamp_timestamps, join_in_flight, cache_ttl, .. } = *rule;
        RuleDraft { table, fingerprint, split, split_batches, stamp_timestamps, join_in_flight, cache_ttl }
    }

    /// What it is for; nothing when the file does not say, or says it twice.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        match (&self.table, &self.fingerprint) {
            (Some(both), None) => {
                let (keyspace, table) = both.split_once('.')?;
                Some(Subject::Table { keyspace: keyspace.into(), table: table.into() })
            }
            (None, Some(hash)) => u64::from_str_radix(hash, 16).ok().map(Subject::Statement),
            _ => None,
        }
    }
}

impl Worded for SplitChoice {
    const WORDS: &'static [(&'static str, SplitChoice)] =
        &[("auto", SplitChoice::Auto), ("on", SplitChoice::On), ("off", SplitChoice::Off)];
}

/// Keys of a rule.
pub static RULE: &[Key<RuleDraft>] = &[
    key!(
        RuleDraft,
        "table",
        table,
        Kind::Table,
        Absent::Words("none"),
        Tighter::Neither,
        "Whose statements it is for, chosen by `USE` or not. Names as the server stores them: in lower case unless they \
         were made with quotes. Either this or `fingerprint`."
    ),
    key!(
        RuleDraft,
        "fingerprint",
        fingerprint,
        Kind::Fingerprint,
        Absent::Words("none"),
        Tighter::Neither,
        "The one statement it is for, as `weir fingerprint` prints it. It goes before a rule for the table."
    ),
    key!(
        RuleDraft,
        "split",
        split,
        Kind::Word(SPLIT),
        Absent::Default,
        Tighter::Neither,
        "Whether requests for many keys are split."
    ),
    key!(
        RuleDraft,
        "split_batches",
        split_batches,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "UNLOGGED batches of more than `chunk_statements` statements are sent in parts, by partition, where all of their \
         statements are under such a rule and the client gives a timestamp. What a node would refuse as a whole may then \
         be carried out in part (docs/cql.md)."
    ),
    key!(
        RuleDraft,
        "stamp_timestamps",
        stamp_timestamps,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "A batch to be split that has no timestamp of the client's is given one by this host's clock, the same for all \
         its parts; otherwise it is sent whole. Where all statements of the batch are under such a rule."
    ),
    key!(
        RuleDraft,
        "join_in_flight",
        join_in_flight,
        Kind::Flag,
        Absent::Default,
        Tighter::Neither,
        "A read may join an identical one that was sent already. Its answer may then be older than a write of another \
         client that ended before the read began; never older than a write of its own client."
    ),
    key!(
        RuleDraft,
        "cache_ttl",
        cache_ttl,
        Kind::Duration(Span::millis(1), Span::secs(60)),
        Absent::Default,
        Tighter::Neither,
        "How long the answer of a read may be given again to the same principal. Writes that pass through this weir \
         end it at once; others are not seen before it ends (docs/cql.md)."
    ),
];
