//! `INSERT`, `UPDATE`, `DELETE` and `BEGIN BATCH`.

use weir_cql::statement::lexer::TokenKind;

use super::ast::{Assignment, BatchKind, Change, Condition, Modify, Statement, Term};
use super::{ITEMS_MAX, Parser};
use crate::cql::refusal::Refusal;

/// `USING`: TTL and timestamp.
type Using = (Option<Term>, Option<Term>);

impl Parser<'_> {
    pub(super) fn modify(&mut self) -> Result<Modify, Refusal> {
        if self.eat_word("insert")? {
            return self.insert();
        }
        if self.eat_word("update")? {
            return self.update();
        }
        self.expect_word("delete")?;
        self.delete()
    }

    pub(super) fn batch(&mut self) -> Result<Statement, Refusal> {
        self.take()?;
        let kind = if self.eat_word("unlogged")? {
            BatchKind::Unlogged
        } else if self.eat_word("counter")? {
            BatchKind::Counter
        } else {
            BatchKind::Logged
        };
        self.expect_word("batch")?;
        let (ttl, timestamp) = self.using()?;
        if ttl.is_some() {
            return Err(Refusal::invalid("Global TTL on the BATCH statement is not supported."));
        }
        let mut statements = Vec::new();
        while !self.at_word("apply") {
            if statements.len() >= ITEMS_MAX {
                return Err(Refusal::invalid("too many statements in a batch"));
            }
            statements.push(self.modify()?);
            while self.eat(b';')? {}
        }
        self.take()?;
        self.expect_word("batch")?;
        Ok(Statement::Batch { kind, statements, timestamp })
    }

    fn insert(&mut self) -> Result<Modify, Refusal> {
        self.expect_word("into")?;
        let table = self.table()?;
        if self.at_word("json") {
            return Err(Refusal::unsupported("INSERT JSON"));
        }
        self.expect(b'(')?;
        let names = self.list(Self::name)?;
        self.expect(b')')?;
        self.expect_word("values")?;
        self.expect(b'(')?;
        let values = self.list(Self::term)?;
        self.expect(b')')?;
        if names.len() != values.len() {
            return Err(Refusal::invalid("Unmatched column names/values"));
        }
        let condition = if self.if_not_exists()? { Condition::NotExists } else { Condition::None };
        let (ttl, timestamp) = self.using()?;
        let change = Change::Insert(names.into_iter().zip(values).collect());
        Ok(Modify { table, change, relations: Vec::new(), ttl, timestamp, condition })
    }

    fn update(&mut self) -> Result<Modify, Refusal> {
        let table = self.table()?;
        let (ttl, timestamp) = self.using()?;
        self.expect_word("set")?;
        let sets = self.list(Self::assignment)?;
        self.expect_word("where")?;
        let relations = self.relations()?;
        let condition = self.condition()?;
        Ok(Modify { table, change: Change::Update(sets), relations, ttl, timestamp, condition })
    }

    fn delete(&mut self) -> Result<Modify, Refusal> {
        let targets = if self.at_word("from") {
            Vec::new()
        } else {
            self.list(|parser| {
                let name = parser.name()?;
                if !parser.eat(b'[')? {
                    return Ok((name, None));
                }
                let key = parser.term()?;
                parser.expect(b']')?;
                Ok((name, Some(key)))
            })?
        };
        self.expect_word("from")?;
        let table = self.table()?;
        let (ttl, timestamp) = self.using()?;
        if ttl.is_some() {
            return Err(self.unexpected("TIMESTAMP"));
        }
        self.expect_word("where")?;
        let relations = self.relations()?;
        let condition = self.condition()?;
        Ok(Modify { table, change: Change::Delete(targets), relations, ttl: None, timestamp, condition })
    }

    fn condition(&mut self) -> Result<Condition, Refusal> {
        if !self.eat_word("if")? {
            return Ok(Condition::None);
        }
        let is_end = self.ahead().is_none_or(|next| {
            matches!(next.kind, TokenKind::End | TokenKind::Sign(b';'))
                || (next.kind == TokenKind::Word && next.bytes(self.text).eq_ignore_ascii_case(b"apply"))
        });
        if self.at_word("exists") && is_end {
            self.take()?;
            return Ok(Condition::Exists);
        }
        let mut columns = Vec::new();
        loop {
            let name = self.name()?;
            if self.at(b'[') || self.at(b'.') {
                return Err(Refusal::unsupported("a condition on a part of a column"));
            }
            if self.at_word("in") {
                return Err(Refusal::unsupported("IN in a condition"));
            }
            let operator = self.operator()?;
            columns.push((name, operator, self.term()?));
            if columns.len() > ITEMS_MAX || !self.eat_word("and")? {
                return Ok(Condition::Columns(columns));
            }
        }
    }

    /// `USING TTL a AND TIMESTAMP b`, in any order.
    fn using(&mut self) -> Result<Using, Refusal> {
        let (mut ttl, mut timestamp) = (None, None);
        if !self.eat_word("using")? {
            return Ok((ttl, timestamp));
        }
        loop {
            let place = if self.eat_word("ttl")? {
                &mut ttl
            } else if self.eat_word("timestamp")? {
                &mut timestamp
            } else {
                return Err(self.unexpected("TTL or TIMESTAMP"));
            };
            *place = Some(match self.token.kind {
                TokenKind::Integer | TokenKind::Question | TokenKind::Sign(b':') => self.term()?,
                _ => return Err(self.unexpected("a number")),
            });
            if !self.eat_word("and")? {
                return Ok((ttl, timestamp));
            }
        }
    }

    fn assignment(&mut self) -> Result<(String, Assignment), Refusal> {
        let column = self.name()?;
        if self.eat(b'[')? {
            let key = self.term()?;
            self.expect(b']')?;
            self.expect(b'=')?;
            return Ok((column, Assignment::Element(key, self.term()?)));
        }
        if self.token.kind == TokenKind::Assign {
            let add = self.token.bytes(self.text) == b"+=";
            self.take()?;
            let term = self.term()?;
            return Ok((column, if add { Assignment::Add(term) } else { Assignment::Subtract(term) }));
        }
        if self.at(b'.') {
            return Err(Refusal::unsupported("a field of a user-defined type"));
        }
        self.expect(b'=')?;
        let is_name = matches!(self.token.kind, TokenKind::Word | TokenKind::Quoted)
            && !self.at_word("null")
            && self.ahead().is_none_or(|next| next.kind != TokenKind::Sign(b'('));
        if is_name {
            let other = self.name()?;
            if other != column {
                return Err(Refusal::invalid("Only expressions of the form X = X + <value> are supported."));
            }
            if self.eat(b'+')? {
                return Ok((column, Assignment::Add(self.term()?)));
            }
            // `c = c -1`: the minus belongs to the number
            if self.token.kind == TokenKind::Integer && self.token.bytes(self.text).starts_with(b"-") {
                return Ok((column, Assignment::Add(self.term()?)));
            }
            self.expect(b'-')?;
            return Ok((column, Assignment::Subtract(self.term()?)));
        }
        let term = self.term()?;
        if self.eat(b'+')? {
            let other = self.name()?;
            if other != column {
                return Err(Refusal::invalid("Only expressions of the form X = <value> + X are supported."));
            }
            return Ok((column, Assignment::Prepend(term)));
        }
        Ok((column, Assignment::Set(term)))
    }
}
