//! `INSERT`, `UPDATE`, `DELETE` and `BATCH`.

use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use super::shape::{
    Batch, BatchKind, Condition, Equal, Idempotence, Kind, LiteralKind, Modify, OpaqueCause, Table, Value,
    Where,
};
use super::term::{Names, Piece};
use super::{BATCH_MAX, ITEMS_MAX};

impl Modify {
    fn new(kind: Kind, table: Table) -> Modify {
        Modify {
            kind,
            table,
            filter: Where::default(),
            json: None,
            condition: Condition::Always,
            timestamp: None,
            ttl: None,
            timeout: None,
            idempotence: Idempotence::Safe,
        }
    }
}

impl Parser<'_> {
    /// One of the three, from its verb on; `None` when none begins here.
    pub(crate) fn modify(&mut self) -> Parsed<Option<Modify>> {
        let mut modify = if self.eat_word("insert")? {
            self.insert()?
        } else if self.eat_word("update")? {
            self.update()?
        } else if self.eat_word("delete")? {
            self.delete()?
        } else {
            return Ok(None);
        };
        let functions = self.take_functions();
        if modify.condition != Condition::Always {
            modify.idempotence = Idempotence::Conditional;
        } else if !functions.deterministic() && modify.idempotence == Idempotence::Safe {
            modify.idempotence = Idempotence::NotDeterministic;
        }
        Ok(Some(modify))
    }

    fn insert(&mut self) -> Parsed<Modify> {
        self.expect_word("into")?;
        let mut modify = Modify::new(Kind::Insert, self.table()?);
        if self.eat_word("json")? {
            if !(self.at_marker() || self.token.kind == TokenKind::String) {
                return Err(OpaqueCause::Unfamiliar);
            }
            modify.json = Some(self.value()?);
            if self.eat_word("default")? && !self.eat_word("null")? {
                self.expect_word("unset")?;
            }
        } else {
            self.expect_sign(b'(')?;
            let columns = self.more_names(Vec::new())?;
            self.expect_word("values")?;
            self.expect_sign(b'(')?;
            let mut equal = Vec::with_capacity(columns.len());
            for (at, column) in columns.into_iter().enumerate() {
                if at > 0 {
                    self.expect_sign(b',')?;
                }
                equal.push(Equal { column, value: self.value()? });
            }
            self.expect_sign(b')')?;
            modify.filter.equal = equal;
        }
        if self.eat_word("if")? {
            self.expect_word("not")?;
            self.expect_word("exists")?;
            modify.condition = Condition::NotExists;
        }
        self.using(&mut modify)?;
        Ok(modify)
    }

    fn update(&mut self) -> Parsed<Modify> {
        let mut modify = Modify::new(Kind::Update, self.table()?);
        self.using(&mut modify)?;
        self.expect_word("set")?;
        let mut count = 0;
        loop {
            self.assignment(&mut modify)?;
            count += 1;
            if count > ITEMS_MAX {
                return Err(OpaqueCause::TooMany);
            }
            if !self.eat_sign(b',')? {
                break;
            }
        }
        self.expect_word("where")?;
        modify.filter = self.relations()?;
        modify.condition = self.condition()?;
        Ok(modify)
    }

    /// One `column = ...` behind `SET`.
    fn assignment(&mut self, modify: &mut Modify) -> Parsed<()> {
        let column = self.name()?;
        if self.token.kind == TokenKind::Assign {
            self.take()?;
            self.value()?;
            modify.idempotence = Idempotence::Incremental;
            return Ok(());
        }
        if self.eat_sign(b'[')? {
            let key = self.value()?;
            self.expect_sign(b']')?;
            self.expect_sign(b'=')?;
            self.value()?;
            self.note_element(key, modify);
            return Ok(());
        }
        if self.eat_sign(b'.')? {
            self.name()?;
            self.expect_sign(b'=')?;
            return self.value().map(|_| ());
        }
        self.expect_sign(b'=')?;
        let references = self.column_references;
        let piece = self.expression(Names::Columns)?;
        if let Piece::Column(other) = piece {
            // `c = c -1`: the lexer gives the minus to the number.
            let minus =
                self.token.kind == TokenKind::Integer && self.token.bytes(self.text).starts_with(b"-");
            if !minus || other.normal(self.text) != column.normal(self.text) {
                return Err(OpaqueCause::Unfamiliar);
            }
            self.take()?;
        }
        match self.column_references - references {
            0 => {}
            1 => modify.idempotence = Idempotence::Incremental,
            _ => return Err(OpaqueCause::Unfamiliar),
        }
        Ok(())
    }

    /// An element by a whole number or by a bound value may be a place in a list.
    fn note_element(&self, key: Value, modify: &mut Modify) {
        let map_key = matches!(key, Value::Literal(kind, _) if kind != LiteralKind::Integer);
        if !map_key && modify.idempotence == Idempotence::Safe {
            modify.idempotence = Idempotence::ListElement;
        }
    }

    fn delete(&mut self) -> Parsed<Modify> {
        let mut element = None;
        if !self.at_word("from") {
            loop {
                self.name()?;
                if self.eat_sign(b'[')? {
                    let key = self.value()?;
                    self.expect_sign(b']')?;
                    let map_key = matches!(key, Value::Literal(kind, _) if kind != LiteralKind::Integer);
                    if !map_key {
                        element = Some(key);
                    }
                } else if self.eat_sign(b'.')? {
                    self.name()?;
                }
                if !self.eat_sign(b',')? {
                    break;
                }
            }
        }
        self.expect_word("from")?;
        let mut modify = Modify::new(Kind::Delete, self.table()?);
        if let Some(key) = element {
            self.note_element(key, &mut modify);
        }
        self.using(&mut modify)?;
        self.expect_word("where")?;
        modify.filter = self.relations()?;
        modify.condition = self.condition()?;
        Ok(modify)
    }

    /// `USING TTL x AND TIMESTAMP y AND TIMEOUT z`, each at most once, in any order.
    fn using(&mut self, modify: &mut Modify) -> Parsed<()> {
        if !self.eat_word("using")? {
            return Ok(());
        }
        loop {
            let taken = if self.eat_word("ttl")? {
                let value = self.int_value()?;
                modify.ttl.replace(value)
            } else if self.eat_word("timestamp")? {
                let value = self.int_value()?;
                modify.timestamp.replace(value)
            } else if self.eat_word("timeout")? {
                let value = self.value()?;
                modify.timeout.replace(value)
            } else {
                return Err(OpaqueCause::Unfamiliar);
            };
            if taken.is_some() {
                return Err(OpaqueCause::Unfamiliar);
            }
            if !self.eat_word("and")? {
                return Ok(());
            }
        }
    }

    /// Everything behind `BEGIN`.
    pub(crate) fn batch(&mut self) -> Parsed<Batch> {
        let kind = if self.eat_word("unlogged")? {
            BatchKind::Unlogged
        } else if self.eat_word("counter")? {
            BatchKind::Counter
        } else {
            BatchKind::Logged
        };
        self.expect_word("batch")?;
        let mut timestamp = None;
        if self.eat_word("using")? {
            self.expect_word("timestamp")?;
            timestamp = Some(self.int_value()?);
        }
        let mut statements = Vec::new();
        while let Some(mut modify) = self.modify()? {
            if kind == BatchKind::Counter {
                modify.idempotence = Idempotence::Counter;
            }
            if statements.len() >= BATCH_MAX {
                return Err(OpaqueCause::TooMany);
            }
            statements.push(modify);
            self.eat_sign(b';')?;
        }
        self.expect_word("apply")?;
        self.expect_word("batch")?;
        Ok(Batch { kind, timestamp, statements })
    }
}
