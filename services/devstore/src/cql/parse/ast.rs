//! Statements as they are written: names are not looked up yet, terms have no type yet.

use weir_cql::statement::LiteralKind;

use crate::cql::schema::ColumnType;

/// A table, with its keyspace where one is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableName {
    /// The keyspace.
    pub keyspace: Option<String>,
    /// The table.
    pub name: String,
}

/// A value as it is written.
#[derive(Clone, PartialEq, Debug)]
pub enum Term {
    /// The marker at this position.
    Bind(u16),
    /// `null`
    Null,
    /// A literal with its text, quotes included.
    Literal(LiteralKind, Vec<u8>),
    /// `[a, b]`
    List(Vec<Term>),
    /// `{a, b}`, and `{}`, which is also a map.
    Set(Vec<Term>),
    /// `{a: b}`
    Map(Vec<(Term, Term)>),
    /// `(a, b)`
    Tuple(Vec<Term>),
    /// `name(a, b)`
    Call(String, Vec<Term>),
}

/// How a column is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// The values of `IN`.
#[derive(Clone, PartialEq, Debug)]
pub enum InTerms {
    /// `IN (a, b)`
    Each(Vec<Term>),
    /// `IN ?`
    Bind(u16),
}

/// One relation of `WHERE`.
#[derive(Clone, PartialEq, Debug)]
pub enum Relation {
    /// `column op term`
    Compare(String, Operator, Term),
    /// `column IN ...`
    In(String, InTerms),
    /// `(a, b) op (x, y)`
    Tuple(Vec<String>, Operator, Term),
    /// `token(a, b) op term`
    Token(Vec<String>, Operator, Term),
}

/// What a column of a result is.
#[derive(Clone, PartialEq, Debug)]
pub enum Selector {
    /// A column.
    Column(String),
    /// `COUNT(*)`
    Count,
    /// `WRITETIME(column)`
    Writetime(String),
    /// `TTL(column)`
    Ttl(String),
    /// `token(a, b)`
    Token(Vec<String>),
}

/// `SELECT`
#[derive(Clone, PartialEq, Debug)]
pub struct Select {
    /// From where.
    pub table: TableName,
    /// One row per partition.
    pub distinct: bool,
    /// What, each with its `AS`; `None` is `*`.
    pub columns: Option<Vec<(Selector, Option<String>)>>,
    /// `WHERE`
    pub relations: Vec<Relation>,
    /// `ORDER BY`: columns, and whether each is descending.
    pub order: Vec<(String, bool)>,
    /// `PER PARTITION LIMIT`
    pub per_partition: Option<Term>,
    /// `LIMIT`
    pub limit: Option<Term>,
    /// `ALLOW FILTERING`
    pub allow_filtering: bool,
}

/// `IF ...` of a modification.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// There is none.
    None,
    /// `IF NOT EXISTS`
    NotExists,
    /// `IF EXISTS`
    Exists,
    /// `IF column op term AND ...`
    Columns(Vec<(String, Operator, Term)>),
}

/// One assignment of `UPDATE ... SET`.
#[derive(Clone, PartialEq, Debug)]
pub enum Assignment {
    /// `c = term`
    Set(Term),
    /// `c = c + term`, `c += term`
    Add(Term),
    /// `c = term + c`
    Prepend(Term),
    /// `c = c - term`, `c -= term`
    Subtract(Term),
    /// `c[key] = term`
    Element(Term, Term),
}

/// What a modification does.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// `INSERT`: columns and values.
    Insert(Vec<(String, Term)>),
    /// `UPDATE`
    Update(Vec<(String, Assignment)>),
    /// `DELETE`: columns, each with the key of its element; none: the row, or a range of rows.
    Delete(Vec<(String, Option<Term>)>),
}

/// `INSERT`, `UPDATE`, `DELETE`
#[derive(Clone, PartialEq, Debug)]
pub struct Modify {
    /// Where.
    pub table: TableName,
    /// What.
    pub change: Change,
    /// `WHERE`; none for `INSERT`.
    pub relations: Vec<Relation>,
    /// `USING TTL`
    pub ttl: Option<Term>,
    /// `USING TIMESTAMP`
    pub timestamp: Option<Term>,
    /// `IF`
    pub condition: Condition,
}

/// A value of `WITH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OptionValue {
    /// A number, a text without its quotes, a constant.
    Plain(String),
    /// `{...}`
    Map(Vec<(String, String)>),
}

/// `CREATE TABLE`
#[derive(Clone, PartialEq, Debug)]
pub struct CreateTable {
    /// Its name.
    pub table: TableName,
    /// Names and types.
    pub columns: Vec<(String, ColumnType)>,
    /// The partition key.
    pub partition: Vec<String>,
    /// The clustering columns.
    pub clustering: Vec<String>,
    /// `CLUSTERING ORDER BY`: columns, and whether each is descending.
    pub order: Vec<(String, bool)>,
    /// The other options.
    pub options: Vec<(String, OptionValue)>,
    /// `IF NOT EXISTS`
    pub if_not_exists: bool,
}

/// What changes the schema.
#[derive(Clone, PartialEq, Debug)]
pub enum Ddl {
    /// `CREATE KEYSPACE`
    CreateKeyspace {
        /// Its name.
        name: String,
        /// `WITH`
        options: Vec<(String, OptionValue)>,
        /// `IF NOT EXISTS`
        if_not_exists: bool,
    },
    /// `ALTER KEYSPACE`
    AlterKeyspace {
        /// Its name.
        name: String,
        /// `WITH`
        options: Vec<(String, OptionValue)>,
    },
    /// `DROP KEYSPACE`
    DropKeyspace {
        /// Its name.
        name: String,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// `CREATE TABLE`
    CreateTable(Box<CreateTable>),
    /// `ALTER TABLE`
    AlterTable {
        /// The table.
        table: TableName,
        /// `ADD`
        add: Vec<(String, ColumnType)>,
        /// `DROP`
        drop: Vec<String>,
        /// `WITH`
        options: Vec<(String, OptionValue)>,
    },
    /// `DROP TABLE`
    DropTable {
        /// The table.
        table: TableName,
        /// `IF EXISTS`
        if_exists: bool,
    },
    /// `TRUNCATE`
    Truncate(TableName),
}

/// The type of a batch in text.
pub type BatchKind = weir_cql::request::BatchKind;

/// One statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Statement {
    /// `SELECT`
    Select(Box<Select>),
    /// `INSERT`, `UPDATE`, `DELETE`
    Modify(Box<Modify>),
    /// `BEGIN BATCH ... APPLY BATCH`
    Batch {
        /// Its type.
        kind: BatchKind,
        /// Its statements.
        statements: Vec<Modify>,
        /// `USING TIMESTAMP`
        timestamp: Option<Term>,
    },
    /// `USE`
    Use(String),
    /// What changes the schema or empties a table.
    Ddl(Ddl),
}

/// A statement with the names of its markers.
#[derive(Clone, PartialEq, Debug)]
pub struct Parsed {
    /// What it says.
    pub statement: Statement,
    /// For each marker in order: its name, where it is written `:name`.
    pub markers: Vec<Option<String>>,
}
