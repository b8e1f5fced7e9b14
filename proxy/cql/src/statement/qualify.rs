//! Writing the keyspace before unqualified tables, so that `USE` stays with the client and no upstream connection needs
//! a keyspace of its own.
//!
//! Functions and user types that are not qualified need nothing: servers look them up in the keyspace of the table.

use std::borrow::Cow;

use super::lexer::is_reserved;
use super::shape::{Body, Statement, Table};

/// The text with every table qualified, `keyspace` in the server's spelling (no quotes). Borrowed when nothing is to be
/// done; `None` when the statement is opaque or `USE`, or `text` is not what was read.
pub fn qualify<'a>(statement: &Statement, text: &'a [u8], keyspace: &str) -> Option<Cow<'a, [u8]>> {
    let tables: Vec<&Table> = match &statement.body {
        Body::Select(select) => vec![&select.table],
        Body::Modify(modify) => vec![&modify.table],
        Body::Batch(batch) => batch.statements.iter().map(|modify| &modify.table).collect(),
        Body::Use(_) | Body::Opaque(_) => return None,
    };
    let mut bare = tables.into_iter().filter(|table| table.keyspace.is_none()).peekable();
    if bare.peek().is_none() {
        return Some(Cow::Borrowed(text));
    }
    let prefix = written(keyspace);
    let mut out = Vec::with_capacity(text.len() + prefix.len() + 1);
    let mut copied = 0;
    for table in bare {
        let start = table.name.span.start as usize;
        out.extend_from_slice(text.get(copied..start)?);
        out.extend_from_slice(prefix.as_bytes());
        out.push(b'.');
        copied = start;
    }
    out.extend_from_slice(text.get(copied..)?);
    Some(Cow::Owned(out))
}

/// A name as it must be written: in quotes unless the server would read it the same without.
fn written(name: &str) -> Cow<'_, str> {
    if is_plain(name.as_bytes()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    }
}

/// Whether the name means the same with and without quotes.
pub(super) fn is_plain(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_lowercase)
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_')
        && !is_reserved(name)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn done(text: &str, keyspace: &str) -> Option<String> {
        let statement = read(text.as_bytes());
        qualify(&statement, text.as_bytes(), keyspace).map(|out| String::from_utf8(out.into_owned()).unwrap())
    }

    #[test]
    fn every_bare_table_and_nothing_else() {
        for (text, keyspace, want) in [
            ("SELECT t FROM t WHERE t = ?", "ks", "SELECT t FROM ks.t WHERE t = ?"),
            ("SELECT a FROM x.t", "ks", "SELECT a FROM x.t"),
            ("select a from \"T\"", "My\"Ks", "select a from \"My\"\"Ks\".\"T\""),
            ("insert into t(a) values (1)", "table", "insert into \"table\".t(a) values (1)"),
            (
                "BEGIN BATCH UPDATE a SET x = 1 WHERE k = 1; DELETE FROM o.b WHERE k = 1 INSERT INTO c(k) VALUES (1) APPLY BATCH",
                "k1",
                "BEGIN BATCH UPDATE k1.a SET x = 1 WHERE k = 1; DELETE FROM o.b WHERE k = 1 INSERT INTO k1.c(k) VALUES (1) APPLY BATCH",
            ),
        ] {
            let out = done(text, keyspace).unwrap();
            assert_eq!(out, want);
            // Qualified once, it is qualified for good, and means the same.
            assert_eq!(done(&out, "other").as_deref(), Some(want));
        }
        assert_eq!(done("USE a", "ks"), None);
        assert_eq!(done("SELECT a FROM t WHERE", "ks"), None);
    }

    #[test]
    fn another_text_than_the_one_read_is_refused() {
        let statement = read(b"SELECT something FROM t");
        assert_eq!(qualify(&statement, b"SELECT", "ks"), None);
    }
}
