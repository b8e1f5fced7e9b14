//! What a statement is: the types that [`read`](super::read) gives. All places are byte ranges in the text that was
//! read; a shape outlives the text and must be used with the same bytes.

use std::borrow::Cow;
use std::ops::Range;

use super::function::Functions;

/// What a statement does: a closed set, usable as a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// `SELECT`
    Select,
    /// `INSERT`
    Insert,
    /// `UPDATE`
    Update,
    /// `DELETE`
    Delete,
    /// `BEGIN ... APPLY BATCH`
    Batch,
    /// `USE`
    Use,
    /// `TRUNCATE`
    Truncate,
    /// `CREATE`, `ALTER` and `DROP` of anything.
    Schema,
    /// `GRANT`, `REVOKE`, `LIST`.
    Access,
    /// `DESCRIBE`
    Describe,
    /// Scylla's `PRUNE MATERIALIZED VIEW`.
    Prune,
    /// None of these, or not even readable.
    Unknown,
}

impl Kind {
    /// Every kind, so that its counter can exist before the first statement.
    pub const ALL: [Kind; 12] = [
        Kind::Select,
        Kind::Insert,
        Kind::Update,
        Kind::Delete,
        Kind::Batch,
        Kind::Use,
        Kind::Truncate,
        Kind::Schema,
        Kind::Access,
        Kind::Describe,
        Kind::Prune,
        Kind::Unknown,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Batch => "batch",
            Kind::Use => "use",
            Kind::Truncate => "truncate",
            Kind::Schema => "schema",
            Kind::Access => "access",
            Kind::Describe => "describe",
            Kind::Prune => "prune",
            Kind::Unknown => "unknown",
        }
    }
}

/// Why a statement passes through untouched. A closed set: it is a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum OpaqueCause {
    /// A kind that weir does not read: schema, access and the like.
    NotRead,
    /// Over [`STATEMENT_MAX`](super::STATEMENT_MAX) bytes.
    TooLong,
    /// Bytes that are no token of CQL, or that servers could read differently.
    Lexical,
    /// A form that is not fully understood.
    Unfamiliar,
    /// Brackets nested deeper than [`NESTING_MAX`](super::NESTING_MAX).
    TooDeep,
    /// More names, relations or markers than the named bounds.
    TooMany,
    /// Two markers of one name: Cassandra counts two values, newer Scylla counts one.
    DuplicateMarker,
}

impl OpaqueCause {
    /// Every cause.
    pub const ALL: [OpaqueCause; 7] = [
        OpaqueCause::NotRead,
        OpaqueCause::TooLong,
        OpaqueCause::Lexical,
        OpaqueCause::Unfamiliar,
        OpaqueCause::TooDeep,
        OpaqueCause::TooMany,
        OpaqueCause::DuplicateMarker,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            OpaqueCause::NotRead => "not_read",
            OpaqueCause::TooLong => "too_long",
            OpaqueCause::Lexical => "lexical",
            OpaqueCause::Unfamiliar => "unfamiliar",
            OpaqueCause::TooDeep => "too_deep",
            OpaqueCause::TooMany => "too_many",
            OpaqueCause::DuplicateMarker => "duplicate_marker",
        }
    }
}

/// A byte range of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// The range for indexing.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes; empty when `text` is not the text that was read.
    pub fn bytes(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }
}

/// A name as written: unquoted names mean lower case, quoted ones themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Where it stands, quotes included.
    pub span: Span,
    /// Whether it is in double quotes.
    pub quoted: bool,
}

impl Name {
    /// The name the server sees: without quotes, lower case unless quoted. Allocates only when it must.
    pub fn normal(self, text: &[u8]) -> Cow<'_, [u8]> {
        let bytes = self.span.bytes(text);
        if self.quoted {
            let inner =
                bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
            if !inner.contains(&b'"') {
                return Cow::Borrowed(inner);
            }
            // The lexer saw quotes in pairs only: the second of each pair goes.
            let mut previous = false;
            let keep = |byte: &&u8| {
                let second = **byte == b'"' && previous;
                previous = **byte == b'"' && !second;
                !second
            };
            return Cow::Owned(inner.iter().filter(keep).copied().collect());
        }
        if bytes.iter().any(u8::is_ascii_uppercase) {
            return Cow::Owned(bytes.to_ascii_lowercase());
        }
        Cow::Borrowed(bytes)
    }

    /// Whether the server's name for it is `name` (as in result metadata).
    pub fn is(self, text: &[u8], name: &str) -> bool {
        self.normal(text).as_ref() == name.as_bytes()
    }
}

/// A table as named in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// `None`: the connection's or the request's keyspace.
    pub keyspace: Option<Name>,
    /// The table, view or index table.
    pub name: Name,
}

/// A literal's form. The column type decides what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiteralKind {
    /// `'...'` or `$$...$$`
    String,
    /// `-12`
    Integer,
    /// `1.5`
    Float,
    /// A UUID.
    Uuid,
    /// `0x...`
    Blob,
    /// A duration.
    Duration,
    /// `true`, `false`, `NaN`, `Infinity`.
    Constant,
    /// `null`
    Null,
}

/// One value in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// `?` or `:name`: the position among the bound values, from 0 in text order.
    Bind(u16),
    /// One literal and where it stands.
    Literal(LiteralKind, Span),
    /// Anything else: a function, a collection, arithmetic, a cast.
    Term(Span),
}

/// The values of `IN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InValues {
    /// `IN ?` or `IN :name`: one bound list, at this position.
    List(u16),
    /// `IN (?, ?, ?)`: only markers, at consecutive positions. Zero for `IN ()`.
    Markers {
        /// Position of the first.
        first: u16,
        /// How many.
        count: u32,
    },
    /// Only literals, or tuples of literals.
    Literals {
        /// How many, duplicates counted.
        count: u32,
    },
    /// Markers, literals and terms mixed.
    Mixed {
        /// How many.
        count: u32,
    },
}

impl InValues {
    /// How many values there are; `None` where the bound list says it.
    pub fn count(self) -> Option<u32> {
        match self {
            InValues::List(_) => None,
            InValues::Markers { count, .. } | InValues::Literals { count } | InValues::Mixed { count } => {
                Some(count)
            }
        }
    }
}

/// One `IN` relation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct In {
    /// One column, or those of `(a, b) IN ...`.
    pub columns: Vec<Name>,
    /// Whether the columns are in brackets, so that each value is a tuple: `(a) IN ?` too.
    pub tuple: bool,
    /// What it is compared with.
    pub values: InValues,
    /// The values as written: the marker, or the list with its brackets. Replacing it by `?` gives the form with one
    /// bound list.
    pub span: Span,
}

/// A column bound to one value: in `WHERE` by `=`, in `INSERT` by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Equal {
    /// The column.
    pub column: Name,
    /// Its value.
    pub value: Value,
}

/// The relations of a `WHERE` clause, joined by `AND`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Where {
    /// `column = value`; for `INSERT` the columns and their values.
    pub equal: Vec<Equal>,
    /// `IN` relations.
    pub ins: Vec<In>,
    /// Whether `token(...)` is restricted.
    pub token: bool,
    /// How many relations of other forms: ranges, tuples, `CONTAINS`, `LIKE`, elements of maps, custom indexes.
    pub others: u16,
}

impl Where {
    /// The value of `column`, when it is bound by exactly one `=` and by no `IN`.
    pub fn value_of(&self, text: &[u8], column: &str) -> Option<Value> {
        if self.ins.iter().flat_map(|relation| &relation.columns).any(|name| name.is(text, column)) {
            return None;
        }
        let mut found = self.equal.iter().filter(|equal| equal.column.is(text, column));
        let first = found.next()?;
        found.next().is_none().then_some(first.value)
    }

    /// The `IN` on `column` alone, when no other relation restricts the column by `=` or `IN`.
    pub fn in_of(&self, text: &[u8], column: &str) -> Option<&In> {
        let mut found =
            self.ins.iter().filter(|relation| relation.columns.iter().any(|name| name.is(text, column)));
        let first = found.next()?;
        if self.equal.iter().any(|equal| equal.column.is(text, column)) {
            return None;
        }
        (found.next().is_none() && !first.tuple).then_some(first)
    }
}

/// One selected item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selected {
    /// The column, when the item is just one column.
    pub column: Option<Name>,
    /// The name behind `AS`.
    pub alias: Option<Name>,
    /// The item as written, without its alias.
    pub span: Span,
}

/// What a `SELECT` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// `*`
    All,
    /// A list, at most [`ITEMS_MAX`](super::ITEMS_MAX).
    Items(Vec<Selected>),
}

/// How rows are ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By the clustering columns' own order: no `ORDER BY`.
    Natural,
    /// `ORDER BY` columns.
    Columns,
    /// `ORDER BY column ANN OF vector`.
    Ann,
}

/// A `SELECT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Select {
    /// Read from.
    pub table: Table,
    /// `SELECT JSON`
    pub json: bool,
    /// `SELECT DISTINCT`
    pub distinct: bool,
    /// What is asked for.
    pub selection: Selection,
    /// Functions called in the selection.
    pub functions: Functions,
    /// The `WHERE` clause.
    pub filter: Where,
    /// `GROUP BY`
    pub group_by: bool,
    /// `ORDER BY`
    pub order: Order,
    /// `PER PARTITION LIMIT`
    pub per_partition_limit: Option<Value>,
    /// `LIMIT`
    pub limit: Option<Value>,
    /// `ALLOW FILTERING`
    pub allow_filtering: bool,
    /// Scylla's `BYPASS CACHE`
    pub bypass_cache: bool,
    /// Scylla's `USING TIMEOUT`
    pub timeout: Option<Value>,
}

/// A condition: a lightweight transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// None.
    Always,
    /// `IF EXISTS`
    Exists,
    /// `IF NOT EXISTS`
    NotExists,
    /// `IF column ...`
    Columns,
}

/// Whether running a write twice leaves what running it once leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idempotence {
    /// It does, for the same timestamp.
    Safe,
    /// A lightweight transaction.
    Conditional,
    /// `c = c + x`, `c += x`, `c = [x] + c`: a counter, or an append to a list.
    Incremental,
    /// An element by its place, which may be a list's.
    ListElement,
    /// `now()`, `uuid()` and other functions of which the result may change, or unknown ones.
    NotDeterministic,
    /// A counter batch.
    Counter,
}

/// An `INSERT`, `UPDATE` or `DELETE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Modify {
    /// Which of the three.
    pub kind: Kind,
    /// Written to.
    pub table: Table,
    /// The columns and values of an `INSERT`, the `WHERE` clause of the others.
    pub filter: Where,
    /// `INSERT ... JSON`: the columns are in this value.
    pub json: Option<Value>,
    /// `IF`
    pub condition: Condition,
    /// `USING TIMESTAMP`
    pub timestamp: Option<Value>,
    /// `USING TTL`
    pub ttl: Option<Value>,
    /// Scylla's `USING TIMEOUT`
    pub timeout: Option<Value>,
    /// Whether it may be sent again.
    pub idempotence: Idempotence,
}

/// What `BEGIN` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchKind {
    /// `BEGIN BATCH`
    Logged,
    /// `BEGIN UNLOGGED BATCH`
    Unlogged,
    /// `BEGIN COUNTER BATCH`
    Counter,
}

/// A `BATCH` in text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Logged, unlogged or counter.
    pub kind: BatchKind,
    /// `USING TIMESTAMP` of the batch.
    pub timestamp: Option<Value>,
    /// Its statements, at most [`BATCH_MAX`](super::BATCH_MAX).
    pub statements: Vec<Modify>,
}

/// The part of a statement that depends on its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Understood.
    Select(Box<Select>),
    /// Understood: `INSERT`, `UPDATE`, `DELETE`.
    Modify(Box<Modify>),
    /// Understood.
    Batch(Box<Batch>),
    /// Understood: the keyspace.
    Use(Name),
    /// To be passed through untouched.
    Opaque(OpaqueCause),
}

/// A statement as far as it was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Known for opaque statements too, as far as the first word says it.
    pub kind: Kind,
    /// The rest.
    pub body: Body,
    /// How many values must be bound. 0 for opaque statements: ask the PREPARED metadata.
    pub markers: u16,
    /// The markers written `:name`, with their positions: values may be bound by these names.
    pub marker_names: Vec<(u16, Name)>,
    /// Whether the same values always give the same result or write: no `now()`, `uuid()`, unknown functions.
    /// `false` for opaque statements.
    pub deterministic: bool,
    /// Of an opaque statement over the length cap: one more than its commas, an upper bound of keys asked.
    pub arity_at_most: Option<u32>,
}
