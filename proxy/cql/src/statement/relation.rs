//! `WHERE` and `IF`: relations, the shapes of `IN`, conditions.

use super::ITEMS_MAX;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use super::shape::{Condition, Equal, In, InValues, Name, OpaqueCause, Span, Where};
use super::term::{Names, Piece};

impl Parser<'_> {
    /// The relations behind `WHERE`.
    pub(crate) fn relations(&mut self) -> Parsed<Where> {
        let mut found = Where::default();
        loop {
            self.relation(&mut found)?;
            if found.equal.len() + found.ins.len() > ITEMS_MAX {
                return Err(OpaqueCause::TooMany);
            }
            if !self.eat_word("and")? {
                return Ok(found);
            }
        }
    }

    fn relation(&mut self, found: &mut Where) -> Parsed<()> {
        if self.at_word("token") {
            self.take()?;
            self.expect_sign(b'(')?;
            self.more_names(Vec::new())?;
            found.token = true;
            return self.range_or_between();
        }
        if self.eat_sign(b'(')? {
            if self.at_sign(b'(') || self.at_word("token") {
                return self.relation_in_brackets(found, None);
            }
            let first = self.name()?;
            if !(self.at_sign(b',') || self.at_sign(b')')) {
                return self.relation_in_brackets(found, Some(first));
            }
            let mut columns = vec![first];
            if self.eat_sign(b',')? {
                columns = self.more_names(columns)?;
            } else {
                self.expect_sign(b')')?;
            }
            return self.tuple_relation(columns, found);
        }
        let column = self.name()?;
        self.column_relation(column, found)
    }

    /// Behind `(` of `(a = 1)`; `column` when the first name was already taken.
    fn relation_in_brackets(&mut self, found: &mut Where, column: Option<Name>) -> Parsed<()> {
        self.deeper()?;
        match column {
            Some(column) => self.column_relation(column, found)?,
            None => self.relation(found)?,
        }
        self.shallower();
        self.expect_sign(b')')
    }

    fn tuple_relation(&mut self, columns: Vec<Name>, found: &mut Where) -> Parsed<()> {
        if self.eat_word("in")? {
            let (values, span) = self.in_values()?;
            found.ins.push(In { columns, tuple: true, values, span });
            return Ok(());
        }
        found.others = found.others.saturating_add(1);
        self.range_or_between()
    }

    fn column_relation(&mut self, column: Name, found: &mut Where) -> Parsed<()> {
        if self.eat_sign(b'=')? {
            let value = self.value()?;
            found.equal.push(Equal { column, value });
            return Ok(());
        }
        if self.eat_word("in")? {
            let (values, span) = self.in_values()?;
            found.ins.push(In { columns: vec![column], tuple: false, values, span });
            return Ok(());
        }
        found.others = found.others.saturating_add(1);
        if self.at_sign(b'(') && !column.quoted && column.is(self.text, "expr") {
            self.take()?;
            self.table()?;
            self.expect_sign(b',')?;
            self.value()?;
            return self.expect_sign(b')');
        }
        if self.eat_sign(b'[')? {
            self.value()?;
            self.expect_sign(b']')?;
            return self.range_or_between();
        }
        if self.eat_word("like")? {
            return self.value().map(|_| ());
        }
        if self.eat_word("is")? {
            self.expect_word("not")?;
            return self.expect_word("null");
        }
        if self.eat_word("not")? {
            if self.eat_word("in")? {
                return self.in_values().map(|_| ());
            }
            return self.contains();
        }
        if self.at_word("contains") {
            return self.contains();
        }
        self.range_or_between()
    }

    fn contains(&mut self) -> Parsed<()> {
        self.expect_word("contains")?;
        // KEY is no reserved word, but a value is never a bare name.
        self.eat_word("key")?;
        self.value().map(|_| ())
    }

    /// A comparison and its value, or `BETWEEN a AND b`.
    fn range_or_between(&mut self) -> Parsed<()> {
        if self.eat_word("between")? {
            self.value()?;
            self.expect_word("and")?;
        } else if matches!(self.token.kind, TokenKind::Compare | TokenKind::Sign(b'=' | b'<' | b'>')) {
            self.take()?;
        } else {
            return Err(OpaqueCause::Unfamiliar);
        }
        self.value().map(|_| ())
    }

    /// Names up to the closing bracket, added to `names`.
    pub(crate) fn more_names(&mut self, mut names: Vec<Name>) -> Parsed<Vec<Name>> {
        loop {
            if names.len() >= ITEMS_MAX {
                return Err(OpaqueCause::TooMany);
            }
            names.push(self.name()?);
            if !self.eat_sign(b',')? {
                break;
            }
        }
        self.expect_sign(b')')?;
        Ok(names)
    }

    /// What stands behind `IN`.
    fn in_values(&mut self) -> Parsed<(InValues, Span)> {
        let start = self.token.start;
        if self.at_marker() {
            let values = InValues::List(self.marker()?);
            return Ok((values, self.span_from(start)));
        }
        self.expect_sign(b'(')?;
        let first = self.markers;
        let (mut count, mut markers, mut literals) = (0_u32, 0_u32, 0_u32);
        if !self.at_sign(b')') {
            loop {
                let piece = self.expression(Names::Refused)?;
                count += 1;
                markers += u32::from(matches!(piece, Piece::Bind(_)));
                literals += u32::from(piece.is_literal());
                if !self.eat_sign(b',')? {
                    break;
                }
            }
        }
        self.expect_sign(b')')?;
        let values = if markers == count {
            InValues::Markers { first, count }
        } else if literals == count {
            InValues::Literals { count }
        } else {
            InValues::Mixed { count }
        };
        Ok((values, self.span_from(start)))
    }

    /// `IF EXISTS` or `IF column ...` behind an `UPDATE` or `DELETE`.
    pub(crate) fn condition(&mut self) -> Parsed<Condition> {
        if !self.eat_word("if")? {
            return Ok(Condition::Always);
        }
        let first = self.name()?;
        let operator =
            matches!(self.token.kind, TokenKind::Compare | TokenKind::Sign(b'=' | b'<' | b'>' | b'[' | b'.'))
                || self.at_word("in")
                || self.at_word("contains");
        if !operator && !first.quoted && first.is(self.text, "exists") {
            return Ok(Condition::Exists);
        }
        self.column_condition()?;
        while self.eat_word("and")? {
            self.name()?;
            self.column_condition()?;
        }
        Ok(Condition::Columns)
    }

    fn column_condition(&mut self) -> Parsed<()> {
        if self.eat_sign(b'[')? {
            self.value()?;
            self.expect_sign(b']')?;
        } else if self.eat_sign(b'.')? {
            self.name()?;
        } else if self.at_word("contains") {
            return self.contains();
        }
        if self.eat_word("in")? {
            return self.in_values().map(|_| ());
        }
        if self.eat_word("like")? {
            return self.value().map(|_| ());
        }
        self.range_or_between()
    }
}
