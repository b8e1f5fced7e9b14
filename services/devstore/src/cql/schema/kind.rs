//! The type of a column, and its text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_cql::key::KeyType;
use weir_cql::{CqlType, Native};

/// The type of a column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnType {
    /// As the protocol writes it: nothing of "frozen".
    pub cql: CqlType,
    /// One cell, although it is a collection.
    pub frozen: bool,
}

impl ColumnType {
    /// A type without parts.
    pub const fn native(native: Native) -> Self {
        Self { cql: CqlType::Native(native), frozen: false }
    }

    /// A collection of which every element is a cell.
    pub fn is_multi_cell(&self) -> bool {
        !self.frozen && matches!(self.cql, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..))
    }

    /// `counter`
    pub fn is_counter(&self) -> bool {
        self.cql == CqlType::Native(Native::Counter)
    }
}

/// The order of a type; `None` for collections and counters.
pub fn key_type(kind: &CqlType) -> Option<KeyType> {
    match kind {
        CqlType::Native(native) => KeyType::from_option_id(*native as u16),
        _ => None,
    }
}

/// A type's name in CQL; inner collections are frozen.
pub fn name(kind: &CqlType, frozen: bool, out: &mut String) {
    let collection = matches!(kind, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..));
    if frozen && collection {
        out.push_str("frozen<");
    }
    match kind {
        CqlType::List(element) => {
            out.push_str("list<");
            name(element, true, out);
            out.push('>');
        }
        CqlType::Set(element) => {
            out.push_str("set<");
            name(element, true, out);
            out.push('>');
        }
        CqlType::Map(key, value) => {
            out.push_str("map<");
            name(key, true, out);
            out.push_str(", ");
            name(value, true, out);
            out.push('>');
        }
        CqlType::Native(native) => out.push_str(native_name(*native)),
        // no column has one of these
        CqlType::Custom(_) | CqlType::Udt { .. } | CqlType::Tuple(_) => out.push_str("blob"),
    }
    if frozen && collection {
        out.push('>');
    }
}

const fn native_name(native: Native) -> &'static str {
    match native {
        Native::Ascii => "ascii",
        Native::Bigint => "bigint",
        Native::Blob => "blob",
        Native::Boolean => "boolean",
        Native::Counter => "counter",
        Native::Decimal => "decimal",
        Native::Double => "double",
        Native::Float => "float",
        Native::Int => "int",
        Native::Text | Native::Varchar => "text",
        Native::Timestamp => "timestamp",
        Native::Uuid => "uuid",
        Native::Varint => "varint",
        Native::Timeuuid => "timeuuid",
        Native::Inet => "inet",
        Native::Date => "date",
        Native::Time => "time",
        Native::Smallint => "smallint",
        Native::Tinyint => "tinyint",
        Native::Duration => "duration",
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        name(&self.cql, self.frozen, &mut text);
        f.write_str(&text)
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::cql::parse::column_type(&text).map_err(serde::de::Error::custom)
    }
}
