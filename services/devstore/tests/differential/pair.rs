//! Two connections that are asked the same.

use std::net::SocketAddr;

use weir_cql::response::ResultBody;
use weir_cql::{CqlType, Opcode, Response, Version, write};

use crate::support::answer::Answer;
use crate::support::raw::{Cql, With};

/// Most pages of one statement.
const PAGES: usize = 200;

/// Differences that a failed test shows.
const SHOWN: usize = 40;

/// Statements shown before them, the first three apart.
const LAST: usize = 10;

/// Characters shown before a difference, and as many behind.
const BEFORE: usize = 200;

/// The store and the real one.
pub struct Pair {
    own: Cql,
    real: Cql,
    what: String,
    /// Answers that were the same.
    pub compared: u64,
    said: Vec<String>,
    differences: Vec<String>,
}

impl Pair {
    pub fn open(own: SocketAddr, real: SocketAddr, version: Version, what: &str) -> Self {
        let (own, real) = (Cql::open(own, version), Cql::open(real, version));
        Self { own, real, what: what.to_owned(), compared: 0, said: Vec::new(), differences: Vec::new() }
    }

    /// Fails with the first differences, and what was said before them, if there are any.
    pub fn finish(&self) {
        let shown = self.differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        let (head, rest) = self.said.split_at(self.said.len().min(3));
        let before = [head, &rest[rest.len().saturating_sub(LAST)..]].concat().join(";\n");
        let count = self.differences.len();
        assert!(
            count == 0,
            "{}: {count} differences\n{before};\n-- {count} differences:\n{shown}",
            self.what
        );
    }

    fn same(&mut self, statement: &str, own: &Answer, real: &Answer) {
        let (own, real) = (told(own), told(real));
        if own != real {
            // from a little before the first difference on
            let same = own.bytes().zip(real.bytes()).take_while(|(one, other)| one == other).count();
            let from = |text: &str| {
                text.chars().skip(same.saturating_sub(BEFORE)).take(2 * BEFORE).collect::<String>()
            };
            self.differences.push(format!(
                "{statement}\n  store     {}\n  cassandra {}",
                from(&own),
                from(&real)
            ));
        }
        self.compared += 1;
    }

    /// A statement as text.
    pub fn both(&mut self, statement: &str) {
        let (own, real) = (self.own.query(statement), self.real.query(statement));
        self.same(statement, &own, &real);
        if own.error().is_none() && !statement.starts_with("SELECT") {
            self.said.push(statement.to_owned());
        }
    }

    /// A batch as a message of its own; `kind` is 0 (logged), 1 (unlogged) or 2 (counters).
    pub fn batch(&mut self, kind: u8, statements: &[String]) {
        let mut body = vec![kind];
        write::short(&mut body, statements.len() as u16);
        for statement in statements {
            write::byte(&mut body, 0);
            write::bytes(&mut body, statement.as_bytes());
            write::short(&mut body, 0);
        }
        // ONE, no flags: an int of them in v5
        write::short(&mut body, 1);
        match self.own.version {
            Version::V5 => write::int(&mut body, 0),
            _ => write::byte(&mut body, 0),
        }
        let (own, real) = (self.own.ask(Opcode::Batch, &body), self.real.ask(Opcode::Batch, &body));
        self.same(&format!("batch message {kind}: {}", statements.join("; ")), &own, &real);
    }

    /// A statement page by page.
    pub fn pages(&mut self, statement: &str, size: Option<i32>) {
        let (mut own_state, mut real_state) = (None, None);
        for _ in 0..PAGES {
            let with = |state: &Option<Vec<u8>>| With {
                page_size: size,
                page_state: state.clone(),
                ..With::default()
            };
            let own = self.own.query_with(statement, &with(&own_state));
            let real = self.real.query_with(statement, &with(&real_state));
            self.same(&format!("{statement} -- pages of {size:?}"), &own, &real);
            (own_state, real_state) = (state(&own), state(&real));
            if own_state.is_none() {
                return;
            }
        }
        panic!("{}: more than {PAGES} pages of {statement}", self.what);
    }

    /// What PREPARE tells.
    pub fn prepared(&mut self, statement: &str) {
        let (own, real) = (self.own.prepare(statement), self.real.prepare(statement));
        self.same(&format!("PREPARE {statement}"), &own, &real);
    }
}

fn state(answer: &Answer) -> Option<Vec<u8>> {
    match answer.read() {
        Response::Result(ResultBody::Rows(rows)) => {
            rows.metadata.paging_state.and_then(|state| state.of(&answer.body).map(<[u8]>::to_vec))
        }
        _ => None,
    }
}

/// An answer without what is each server's own: ids, words, paging states.
fn told(answer: &Answer) -> String {
    let body = &answer.body;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let columns = |columns: &weir_cql::response::Columns| -> Vec<String> {
        let each = columns.iter(body).map(|column| {
            let kind = CqlType::at(body, column.kind).expect("a type");
            format!(
                "{}.{} {} {kind:?}",
                text(column.table.keyspace.of(body)),
                text(column.table.table.of(body)),
                text(column.name.of(body))
            )
        });
        each.collect()
    };
    match answer.read() {
        // the words are each server's own
        Response::Error(error) => format!("error {}", error.code),
        Response::Result(ResultBody::Rows(rows)) => {
            let more = rows.metadata.paging_state.is_some();
            format!("rows {:?} more {more}\n{:x?}", columns(&rows.metadata.columns), answer.rows())
        }
        Response::Result(ResultBody::Prepared(prepared)) => format!(
            "prepared {:?} keys {:?} result {:?}",
            columns(&prepared.markers),
            prepared.key_indices(body).collect::<Vec<_>>(),
            columns(&prepared.result.columns)
        ),
        Response::Result(ResultBody::SetKeyspace(name)) => format!("keyspace {}", text(name.of(body))),
        Response::Result(result @ ResultBody::SchemaChange(_)) => format!("{:?}", result.schema_change(body)),
        Response::Result(ResultBody::Void) => "void".to_owned(),
        other => format!("{other:?}"),
    }
}
