//! Which rule of a cluster a statement is under ([`crate::settings::Rule`]).
//!
//! A statement is looked up once and remembered with it: by number in a prepared one; in a text together with the
//! keyspace that was chosen then. Every set of rules a worker takes over has a number of its own, so that what was
//! remembered under other rules, or for another cluster, is not taken for an answer.

use super::prepared::{Key, Prepared};
use super::statements::{Known, Statements, tables};
use crate::settings::{Rule, Subject};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use weir_cql::statement::{fingerprint, qualify};

/// Keyspace and table in the server's spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableName {
    pub(super) keyspace: Box<[u8]>,
    pub(super) table: Box<[u8]>,
}

/// The tables a text is about, given the keyspace for unqualified names; empty where one of them is not known.
pub(super) fn named(known: &Known, text: &[u8], keyspace: Option<&[u8]>) -> Box<[TableName]> {
    let name = |table: &weir_cql::statement::Table| {
        let own = table.keyspace.map(|keyspace| keyspace.normal(text).into_owned());
        let keyspace = own.or_else(|| keyspace.map(<[u8]>::to_vec))?;
        Some(TableName { keyspace: keyspace.into(), table: table.name.normal(text).into() })
    };
    tables(&known.statement).map(name).collect::<Option<Vec<_>>>().unwrap_or_default().into()
}

/// What a prepared statement is about, found out once.
#[derive(Debug, Default)]
pub(super) struct About {
    /// Empty where they are not known.
    pub(super) tables: Box<[TableName]>,
    /// Of each part of the partition key, the place of its value; empty where the statement does not bind all of it.
    pub(super) key_indices: Box<[u16]>,
    /// Of the text with every table qualified; `None` where it is too long or no CQL.
    pub(super) fingerprint: Option<u64>,
    /// Number of the rules it was looked up in, and the place of its rule in them, plus one.
    rule: AtomicU64,
}

impl About {
    /// `key` is what the statement was prepared with, `key_indices` what the node said of its values.
    pub(super) fn prepared(key: &Key, key_indices: Box<[u16]>, statements: &mut Statements) -> About {
        let known = statements.read(&key.text);
        let keyspace = key.keyspace.as_deref();
        About {
            tables: named(&known, &key.text, keyspace.map(str::as_bytes)),
            key_indices,
            fingerprint: qualified_fingerprint(&known, &key.text, keyspace),
            rule: AtomicU64::new(0),
        }
    }
}

fn qualified_fingerprint(known: &Known, text: &[u8], keyspace: Option<&str>) -> Option<u64> {
    let qualified = keyspace.and_then(|keyspace| qualify(&known.statement, text, keyspace));
    let print = fingerprint(qualified.as_deref().unwrap_or(text));
    print.complete.then_some(print.hash)
}

/// What a text was found to be under.
#[derive(Debug)]
pub(super) struct Remembered {
    rules: u32,
    keyspace: Option<Box<str>>,
    rule: Option<u16>,
}

/// Where a text keeps it. The lock is never waited for: one worker uses it.
pub(super) type RememberedRule = Mutex<Option<Remembered>>;

/// The rules of one cluster in force.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    number: u32,
    list: Arc<[Rule]>,
    by_table: FxHashMap<TableName, u16>,
    by_statement: FxHashMap<u64, u16>,
}

impl Rules {
    /// `number` is not that of any other rules of this worker, and not 0.
    pub(super) fn new(number: u32, list: Arc<[Rule]>) -> Rules {
        let (mut by_table, mut by_statement) = (FxHashMap::default(), FxHashMap::default());
        for (place, rule) in list.iter().enumerate() {
            let Ok(place) = u16::try_from(place) else { break }; // RULES_MAX is far below
            match &rule.subject {
                Subject::Table { keyspace, table } => {
                    let keyspace = keyspace.as_bytes().into();
                    by_table.insert(TableName { keyspace, table: table.as_bytes().into() }, place);
                }
                Subject::Statement(hash) => {
                    by_statement.insert(*hash, place);
                }
            }
        }
        Rules { number, list, by_table, by_statement }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The rules as they were given.
    pub(super) fn list(&self) -> &Arc<[Rule]> {
        &self.list
    }

    /// The rule a prepared statement is under. One of several tables is only under a rule of its own.
    pub(super) fn of_prepared(&self, prepared: &Prepared) -> Option<&Rule> {
        if self.list.is_empty() {
            return None;
        }
        let about = &prepared.about;
        let kept = about.rule.load(Ordering::Relaxed);
        let place = if kept >> 32 == u64::from(self.number) {
            kept & u64::from(u32::MAX)
        } else {
            let found = self.find(&about.tables, || about.fingerprint);
            let place = found.map_or(0, |place| u64::from(place) + 1);
            about.rule.store(u64::from(self.number) << 32 | place, Ordering::Relaxed);
            place
        };
        self.list.get(usize::try_from(place).ok()?.checked_sub(1)?)
    }

    /// The rule a text is under; `keyspace` is the one chosen for unqualified names.
    pub(super) fn of_text(&self, known: &Known, text: &[u8], keyspace: Option<&str>) -> Option<&Rule> {
        if self.list.is_empty() {
            return None;
        }
        let keyspace = keyspace.filter(|_| known.unqualified);
        let mut kept = known.rule.lock().ok()?;
        let same = |kept: &&Remembered| kept.rules == self.number && kept.keyspace.as_deref() == keyspace;
        let rule = match kept.as_ref().filter(same) {
            Some(kept) => kept.rule,
            None => {
                let tables = named(known, text, keyspace.map(str::as_bytes));
                let rule = self.find(&tables, || qualified_fingerprint(known, text, keyspace));
                *kept = Some(Remembered { rules: self.number, keyspace: keyspace.map(Box::from), rule });
                rule
            }
        };
        self.list.get(usize::from(rule?))
    }

    fn find(&self, tables: &[TableName], fingerprint: impl FnOnce() -> Option<u64>) -> Option<u16> {
        let statement = if self.by_statement.is_empty() { None } else { fingerprint() };
        let by_statement = statement.and_then(|hash| self.by_statement.get(&hash));
        let by_table = match tables {
            [table] => self.by_table.get(table),
            _ => None,
        };
        by_statement.or(by_table).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SplitChoice;
    use weir_cql::Version;

    fn rule(name: &str, subject: Subject) -> Rule {
        Rule { split: SplitChoice::Off, ..Rule::new(name, subject) }
    }

    fn table(keyspace: &str, table: &str) -> Subject {
        Subject::Table { keyspace: keyspace.into(), table: table.into() }
    }

    fn of_text(rules: &Rules, known: &Known, text: &str, keyspace: Option<&str>) -> Option<String> {
        rules.of_text(known, text.as_bytes(), keyspace).map(|rule| rule.name.to_string())
    }

    fn prepared(text: &str, keyspace: Option<&str>, statements: &mut Statements) -> Prepared {
        let key =
            Key { version: Version::V5, keyspace: keyspace.map(Arc::from), text: text.as_bytes().into() };
        Prepared {
            split: Err(super::super::split::Whole::NoIn),
            write: Err(super::super::split::BatchWhole::NotWrite),
            listed: None,
            yields: super::super::prepared::Yield::default(),
            id: [1].into(),
            keyspace: key.keyspace.clone(),
            text: (*key.text).into(),
            named: statements.read(text.as_bytes()).named(key.keyspace.clone()),
            known: statements.read(text.as_bytes()),
            rewrite: super::super::face::Rewrite::None,
            key: None,
            system: false,
            columns: Vec::new(),
            body: [].into(),
            version: Version::V5,
            about: About::prepared(&key, [].into(), statements),
        }
    }

    #[test]
    fn the_keyspace_decides() {
        let list = [rule("carts", table("shop", "carts")), rule("Quoted", table("Shop", "Carts"))];
        let (one, other) = (Rules::new(1, list.clone().into()), Rules::new(2, [list[1].clone()].into()));
        let mut statements = Statements::default();
        for (text, keyspace, name) in [
            ("SELECT a FROM carts WHERE k = ?", Some("shop"), Some("carts")),
            ("SELECT a FROM carts WHERE k = ?", Some("other"), None),
            ("SELECT a FROM carts WHERE k = ?", None, None),
            ("SELECT a FROM shop.Carts WHERE k = ?", Some("other"), Some("carts")),
            ("SELECT a FROM \"Shop\".\"Carts\" WHERE k = ?", None, Some("Quoted")),
            ("INSERT INTO carts (k) VALUES (1)", Some("shop"), Some("carts")),
            ("CREATE TABLE shop.carts (k int PRIMARY KEY)", Some("shop"), None),
        ] {
            let known = statements.read(text.as_bytes());
            let name = name.map(str::to_owned);
            for _ in 0..2 {
                assert_eq!(of_text(&one, &known, text, keyspace), name, "{text} in {keyspace:?}");
                let quoted = name.clone().filter(|name| name == "Quoted");
                assert_eq!(of_text(&other, &known, text, keyspace), quoted, "other rules: {text}");
            }
            let prepared = prepared(text, keyspace, &mut statements);
            for _ in 0..2 {
                let found = one.of_prepared(&prepared).map(|rule| rule.name.to_string());
                assert_eq!(found, name, "prepared: {text} in {keyspace:?}");
                let quoted = name.clone().filter(|name| name == "Quoted");
                assert_eq!(other.of_prepared(&prepared).map(|rule| rule.name.to_string()), quoted);
            }
        }
    }

    #[test]
    fn a_statement_goes_before_its_table() {
        let print = fingerprint(b"select * from shop.carts where k = 7");
        let list = [rule("table", table("shop", "carts")), rule("one", Subject::Statement(print.hash))];
        let rules = Rules::new(1, list.into());
        let mut statements = Statements::default();
        for (text, keyspace, name) in [
            ("SELECT * FROM carts WHERE k = ?", Some("shop"), "one"),
            ("SELECT * FROM shop.carts WHERE k = 'a'", None, "one"),
            ("SELECT a FROM carts WHERE k = ?", Some("shop"), "table"),
        ] {
            let known = statements.read(text.as_bytes());
            assert_eq!(of_text(&rules, &known, text, keyspace).as_deref(), Some(name), "{text}");
            let prepared = prepared(text, keyspace, &mut statements);
            assert_eq!(rules.of_prepared(&prepared).map(|rule| &*rule.name), Some(name), "{text}");
        }
    }
}
