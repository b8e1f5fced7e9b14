//! The table as it is written: TOML, one entry per method.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Problem;

/// Entries by method: `package.Service/Method`.
pub type Entries = BTreeMap<String, MethodEntry>;

/// What the table says of a method. Fields are named by the names in their .proto file, inside messages by paths: `a.b`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MethodEntry {
    /// Repeated fields of the request whose elements are keys.
    pub keys: Vec<String>,
    /// Repeated fields of the reply whose elements are rows. Default: every repeated field of the reply itself.
    pub rows: Option<Vec<String>>,
    /// The key field that a large request is cut at. Without it the method is never split.
    pub split: Option<String>,
    /// Reply fields with one element per key, in the order of the keys.
    pub positional: Vec<String>,
    /// How the parts of every other reply field become one.
    pub merge: BTreeMap<String, MergeEntry>,
    /// Keys that do not exist; each is a problem.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Ignored>,
}

/// A value that is not read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignored;

impl PartialEq for Ignored {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// How the parts of a reply field become one ([`crate::split::Rule`]).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeEntry {
    /// All elements, part by part.
    Concat,
    /// The value of the first part that has one.
    First,
    /// The sum.
    Sum,
    /// One value in all parts.
    Equal,
    /// All elements, without those whose field at this path has come before; an empty path compares whole elements.
    Distinct(String),
}

/// Keys of an entry.
pub(super) const KEYS: [&str; 5] = ["keys", "rows", "split", "positional", "merge"];

/// Reads `[method."package.Service/Method"]` tables. All entries that cannot be read are reported, the others are not lost
/// sight of: their own problems come with [`super::Table::check`].
pub fn parse(text: &str) -> Result<Entries, Vec<Problem>> {
    let document: toml::Table =
        text.parse().map_err(|error: toml::de::Error| vec![Problem::new("table", "", error.to_string())])?;
    let (mut entries, mut problems) = (Entries::new(), Vec::new());
    for (key, value) in document {
        let toml::Value::Table(methods) = value else {
            problems.push(Problem::new(&key, "", "is not a table of methods").like(&key, ["method"]));
            continue;
        };
        if key != "method" {
            problems.push(Problem::new(&key, "", "is no part of a method table").like(&key, ["method"]));
            continue;
        }
        for (name, value) in methods {
            match MethodEntry::deserialize(value) {
                Ok(entry) => drop(entries.insert(name, entry)),
                Err(error) => problems.push(Problem::new(&name, "", error.message())),
            }
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems) }
}
