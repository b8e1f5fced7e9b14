//! `SELECT`

use weir_cql::statement::lexer::TokenKind;

use super::Parser;
use super::ast::{Select, Selector, Statement, Term};
use crate::cql::refusal::Refusal;

impl Parser<'_> {
    pub(super) fn select(&mut self) -> Result<Statement, Refusal> {
        self.take()?;
        let follows = |parser: &Self| {
            parser.ahead().is_some_and(|next| {
                !matches!(next.kind, TokenKind::Sign(b',' | b'('))
                    && !next.bytes(parser.text).eq_ignore_ascii_case(b"from")
                    && !next.bytes(parser.text).eq_ignore_ascii_case(b"as")
            })
        };
        if self.at_word("json") && follows(self) {
            return Err(Refusal::unsupported("SELECT JSON"));
        }
        let distinct = self.at_word("distinct") && follows(self);
        if distinct {
            self.take()?;
        }
        let columns = if self.eat(b'*')? { None } else { Some(self.list(Self::selected)?) };
        self.expect_word("from")?;
        let table = self.table()?;
        let relations = if self.eat_word("where")? { self.relations()? } else { Vec::new() };
        if self.at_word("group") {
            return Err(Refusal::unsupported("GROUP BY"));
        }
        let mut order = Vec::new();
        if self.eat_word("order")? {
            self.expect_word("by")?;
            order = self.list(|parser| {
                let name = parser.name()?;
                if parser.at_word("ann") {
                    return Err(Refusal::unsupported("ANN OF"));
                }
                Ok((name, parser.direction()?))
            })?;
        }
        let mut per_partition = None;
        if self.eat_word("per")? {
            self.expect_word("partition")?;
            self.expect_word("limit")?;
            per_partition = Some(self.limit()?);
        }
        let limit = if self.eat_word("limit")? { Some(self.limit()?) } else { None };
        let allow_filtering = self.eat_word("allow")?;
        if allow_filtering {
            self.expect_word("filtering")?;
        }
        if self.at_word("bypass") || self.at_word("using") {
            return Err(self.unexpected("the end of the statement"));
        }
        Ok(Statement::Select(Box::new(Select {
            table,
            distinct,
            columns,
            relations,
            order,
            per_partition,
            limit,
            allow_filtering,
        })))
    }

    /// A whole number or a marker.
    fn limit(&mut self) -> Result<Term, Refusal> {
        if self.at_marker() || self.token.kind == TokenKind::Integer {
            return self.term();
        }
        Err(self.unexpected("a number"))
    }

    /// `ASC`, `DESC` or nothing; whether it is descending.
    pub(super) fn direction(&mut self) -> Result<bool, Refusal> {
        if self.eat_word("desc")? {
            return Ok(true);
        }
        self.eat_word("asc")?;
        Ok(false)
    }

    fn selected(&mut self) -> Result<(Selector, Option<String>), Refusal> {
        let selector = self.selector()?;
        let alias = if self.eat_word("as")? { Some(self.name()?) } else { None };
        Ok((selector, alias))
    }

    fn selector(&mut self) -> Result<Selector, Refusal> {
        let is_call = self.ahead().is_some_and(|next| next.kind == TokenKind::Sign(b'('));
        if self.token.kind == TokenKind::Word && self.at_word("token") && is_call {
            self.take()?;
            self.expect(b'(')?;
            let names = self.list(Self::name)?;
            self.expect(b')')?;
            return Ok(Selector::Token(names));
        }
        if !matches!(self.token.kind, TokenKind::Word | TokenKind::Quoted) {
            return Err(Refusal::unsupported("a literal or marker among the selected columns"));
        }
        let name = self.name()?;
        if self.at(b'[') || self.at(b'.') {
            return Err(Refusal::unsupported("a part of a column among the selected columns"));
        }
        if !self.eat(b'(')? {
            return Ok(Selector::Column(name));
        }
        let found = match name.as_str() {
            "count" => {
                let one = self.token.bytes(self.text) == b"1";
                if !self.at(b'*') && !one {
                    return Err(Refusal::unsupported("COUNT of a column"));
                }
                self.take()?;
                Selector::Count
            }
            "writetime" => Selector::Writetime(self.name()?),
            "ttl" => Selector::Ttl(self.name()?),
            _ => return Err(Refusal::unsupported(format!("the function {name} among the selected columns"))),
        };
        self.expect(b')')?;
        Ok(found)
    }
}
