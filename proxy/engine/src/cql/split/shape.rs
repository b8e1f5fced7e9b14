//! Which prepared statements may be cut: exactly one `IN ?` on the partition key, and nothing that looks at rows of more
//! than one partition.
//!
//! weir has no schema of its own at this place, so whether a column *is* the partition key is concluded from what a
//! server accepts and tells. Each line was seen with Cassandra 5.0.9 (`tests/cql_split_order.rs` in `proxy/server` asks
//! again), with columns that have no index, an index of the old kind and a storage-attached one:
//!
//! | statement, without `ALLOW FILTERING` | PREPARE |
//! |---|---|
//! | `pk IN ?` | accepted, no key indices, marker named `in(pk)` |
//! | `x IN ?` alone, `x` a clustering, static, regular or indexed column or a part of the partition key | refused |
//! | `pk IN ? AND ck = ?`, `pk IN ? AND ck > ?` | accepted, no key indices |
//! | `p1 = ? AND p2 IN ?`, `p1 IN ? AND p2 = ?` of the key `(p1, p2)`, also with `ck = ?` | accepted, no key indices |
//! | `pk = ? AND ck IN ?` | accepted, key indices |
//! | `pk = 3 AND ck IN ?` | accepted, **no** key indices: so a value that is not a marker means whole |
//! | `v = ? AND x IN ?`, `v > ? AND x IN ?` with `v` indexed, `x` any other column | refused |
//! | the same with `ALLOW FILTERING` | accepted, no key indices: so it means whole |
//! | `token(pk) > 0 AND pk IN ?` | accepted: so `token` means whole |
//! | `pk IN ? AND pk > 3`, `(pk) IN ?` | refused |
//!
//! Hence: one `IN ?` of one column and no `ALLOW FILTERING` and no `token`; either nothing else is restricted, or every
//! `=` binds a marker and the server (v4 and later, where it tells) gives no key indices. A clustering column can then
//! not be meant: it needs the whole partition key bound by `=`, and that has indices. In v3 the server tells none, so
//! there only the bare `pk IN ?` is taken. Where the partition key's columns are known they decide instead.
//!
//! Of a key of several columns one column has `IN` and the others one value each, so the order of the keys is the order
//! of that column.

use weir_cql::key::KeyType;
use weir_cql::response::Prepared;
use weir_cql::statement::{Body, InValues, LiteralKind, Name, Order, Select, Statement, Value};
use weir_cql::{CqlType, Version};

/// Why a statement or one execution of it is not split. A closed set: it is a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Whole {
    /// No `SELECT`, or one that is not understood.
    NotSelect,
    /// No `IN`.
    NoIn,
    /// More than one `IN`, or `IN` of several columns.
    ManyIn,
    /// `IN (?, ?)` or `IN` of literals.
    NotOneList,
    /// It may be another column than one of the partition key.
    NotTheKey,
    /// `token(...)` is restricted.
    Token,
    /// `ALLOW FILTERING`.
    Filtering,
    /// Aggregates, `GROUP BY`, or a function that may be an aggregate.
    Aggregate,
    /// `ORDER BY`.
    Ordered,
    /// `DISTINCT` with `LIMIT`.
    Distinct,
    /// Functions that give another value each time.
    Volatile,
    /// `USING TIMEOUT`: it is meant for the whole.
    Timeout,
    /// A table of the system's: its rows need not come in the order of keys.
    System,
    /// The key's type has no order that is known here.
    KeyType,
    /// A limit that is no number above zero, or pages of no rows: the server says what is wrong with it.
    Limit,
    /// Not the values the statement asks for: the server says so.
    Values,
    /// Values are bound by name.
    Named,
    /// Keys that cannot be put in order: null, too long, no value of the type, or different bytes of equal value.
    Keys,
    /// Serial consistency.
    Serial,
    /// The request is traced: one trace holds one request.
    Traced,
    /// The request has a custom payload.
    Payload,
    /// Fewer keys than two chunks.
    Small,
    /// The page state is the server's own: it began unsplit.
    ServersPages,
}

impl Whole {
    /// Every reason, so that its counter can exist before the first.
    pub const ALL: [Whole; 23] = [
        Whole::NotSelect,
        Whole::NoIn,
        Whole::ManyIn,
        Whole::NotOneList,
        Whole::NotTheKey,
        Whole::Token,
        Whole::Filtering,
        Whole::Aggregate,
        Whole::Ordered,
        Whole::Distinct,
        Whole::Volatile,
        Whole::Timeout,
        Whole::System,
        Whole::KeyType,
        Whole::Limit,
        Whole::Values,
        Whole::Named,
        Whole::Keys,
        Whole::Serial,
        Whole::Traced,
        Whole::Payload,
        Whole::Small,
        Whole::ServersPages,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Whole::NotSelect => "not_select",
            Whole::NoIn => "no_in",
            Whole::ManyIn => "many_in",
            Whole::NotOneList => "not_one_list",
            Whole::NotTheKey => "not_the_key",
            Whole::Token => "token",
            Whole::Filtering => "filtering",
            Whole::Aggregate => "aggregate",
            Whole::Ordered => "order_by",
            Whole::Distinct => "distinct_limit",
            Whole::Volatile => "volatile_function",
            Whole::Timeout => "timeout",
            Whole::System => "system_table",
            Whole::KeyType => "key_type",
            Whole::Limit => "limit",
            Whole::Values => "values",
            Whole::Named => "named_values",
            Whole::Keys => "keys",
            Whole::Serial => "serial",
            Whole::Traced => "traced",
            Whole::Payload => "custom_payload",
            Whole::Small => "small",
            Whole::ServersPages => "servers_pages",
        }
    }
}

/// Where a statement's `LIMIT` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// It has none.
    None,
    /// In the text; above zero.
    Literal(u32),
    /// The value bound at this position.
    Bound(u16),
}

/// How a prepared statement is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InSplit {
    /// Position of the bound list.
    pub list: u16,
    /// The order of its elements.
    pub kind: KeyType,
    /// How many values must be bound.
    pub values: u16,
    /// `LIMIT`.
    pub limit: Limit,
}

impl InSplit {
    /// Decides for a statement as it was prepared: its text and what was read from it, and the server's answer
    /// (`prepared`, located in `body`, in this `version`). `key` are the names of the partition key's columns as the
    /// server has them, where they are known.
    ///
    /// # Errors
    /// Why it must be sent whole.
    pub fn of(
        text: &[u8],
        statement: &Statement,
        body: &[u8],
        prepared: &Prepared,
        version: Version,
        key: Option<&[&str]>,
    ) -> Result<InSplit, Whole> {
        let Body::Select(select) = &statement.body else { return Err(Whole::NotSelect) };
        let (column, list) = the_list(select)?;
        row_wise(select, statement)?;
        if u32::from(statement.markers) != prepared.markers.count {
            return Err(Whole::NotTheKey);
        }
        match key {
            Some(key) => is_the_key(text, select, column, key)?,
            None => must_be_the_key(text, select, column, prepared, version)?,
        }
        let marker = prepared.markers.iter(body).nth(usize::from(list)).ok_or(Whole::NotTheKey)?;
        if marker.table.keyspace.of(body).starts_with(b"system") {
            return Err(Whole::System);
        }
        // a marker without a name of its own is named for the column
        let name = marker.name.of(body);
        if let Some(inner) = name.strip_prefix(b"in(").and_then(|rest| rest.strip_suffix(b")"))
            && inner != &*column.normal(text)
        {
            return Err(Whole::NotTheKey);
        }
        let kind = match CqlType::at(body, marker.kind) {
            Ok(CqlType::List(element)) => match *element {
                CqlType::Native(native) => KeyType::from_option_id(native as u16),
                _ => None,
            },
            _ => None,
        };
        Ok(InSplit {
            list,
            kind: kind.ok_or(Whole::KeyType)?,
            values: statement.markers,
            limit: limit(text, select.limit)?,
        })
    }
}

/// The column of the only `IN`, and the position of the list it is compared with.
fn the_list(select: &Select) -> Result<(Name, u16), Whole> {
    let relation = match &*select.filter.ins {
        [] => return Err(Whole::NoIn),
        [relation] => relation,
        _ => return Err(Whole::ManyIn),
    };
    let (InValues::List(list), &[column], false) = (relation.values, &*relation.columns, relation.tuple)
    else {
        let one = relation.columns.len() == 1 && !relation.tuple;
        return Err(if one { Whole::NotOneList } else { Whole::ManyIn });
    };
    Ok((column, list))
}

/// Whether each row of the answer depends on one partition only.
pub(super) fn row_wise(select: &Select, statement: &Statement) -> Result<(), Whole> {
    if select.filter.token {
        Err(Whole::Token)
    } else if select.allow_filtering {
        Err(Whole::Filtering)
    } else if select.group_by || !select.functions.row_wise() {
        Err(Whole::Aggregate)
    } else if select.order != Order::Natural {
        Err(Whole::Ordered)
    } else if select.distinct && select.limit.is_some() {
        Err(Whole::Distinct)
    } else if !statement.deterministic || select.functions.volatile {
        Err(Whole::Volatile)
    } else if select.timeout.is_some() {
        Err(Whole::Timeout)
    } else {
        Ok(())
    }
}

/// With a schema: one column of the partition key has the `IN`, each other one value.
fn is_the_key(text: &[u8], select: &Select, column: Name, key: &[&str]) -> Result<(), Whole> {
    let listed = key.iter().filter(|name| column.is(text, name)).count() == 1;
    let others = key.iter().filter(|name| !column.is(text, name));
    let bound = others.into_iter().all(|name| select.filter.value_of(text, name).is_some());
    let twice = select.filter.equal.iter().any(|equal| equal.column.normal(text) == column.normal(text));
    if listed && bound && !twice { Ok(()) } else { Err(Whole::NotTheKey) }
}

/// Without one: see the table at the head of this module.
fn must_be_the_key(
    text: &[u8],
    select: &Select,
    column: Name,
    prepared: &Prepared,
    version: Version,
) -> Result<(), Whole> {
    let filter = &select.filter;
    let bare = filter.equal.is_empty() && filter.others == 0;
    let bound = filter.equal.iter().all(|equal| {
        matches!(equal.value, Value::Bind(_)) && equal.column.normal(text) != column.normal(text)
    });
    let told = version >= Version::V4 && prepared.key_indices.is_empty();
    if prepared.key_indices.is_empty() && (bare || (bound && told)) { Ok(()) } else { Err(Whole::NotTheKey) }
}

fn limit(text: &[u8], limit: Option<Value>) -> Result<Limit, Whole> {
    match limit {
        None => Ok(Limit::None),
        Some(Value::Bind(position)) => Ok(Limit::Bound(position)),
        Some(Value::Literal(LiteralKind::Integer, span)) => {
            let digits = std::str::from_utf8(span.bytes(text)).ok();
            let limit = digits.and_then(|digits| digits.parse::<i32>().ok()).filter(|limit| *limit > 0);
            limit.map(|limit| Limit::Literal(limit.cast_unsigned())).ok_or(Whole::Limit)
        }
        Some(_) => Err(Whole::Limit),
    }
}
