//! `SELECT`.

use super::ITEMS_MAX;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};
use super::shape::{OpaqueCause, Order, Select, Selected, Selection, Where};
use super::term::{Names, Piece};

impl Parser<'_> {
    /// Everything behind `SELECT`. Clauses stand in one order only.
    pub(crate) fn select(&mut self) -> Parsed<Select> {
        let json = self.selection_keyword("json")?;
        let distinct = self.selection_keyword("distinct")?;
        let selection = self.selection()?;
        let functions = self.take_functions();
        self.expect_word("from")?;
        let mut select = Select {
            table: self.table()?,
            json,
            distinct,
            selection,
            functions,
            filter: Where::default(),
            group_by: false,
            order: Order::Natural,
            per_partition_limit: None,
            limit: None,
            allow_filtering: false,
            bypass_cache: false,
            timeout: None,
        };
        if self.eat_word("where")? {
            select.filter = self.relations()?;
        }
        if self.eat_word("group")? {
            self.expect_word("by")?;
            select.group_by = true;
            self.several(|parser| parser.expression(Names::Columns).map(|_| ()))?;
        }
        if self.eat_word("order")? {
            self.expect_word("by")?;
            select.order = Order::Columns;
            let mut ann = false;
            self.several(|parser| {
                ann |= parser.order_item()?;
                Ok(())
            })?;
            if ann {
                select.order = Order::Ann;
            }
        }
        if self.eat_word("per")? {
            self.expect_word("partition")?;
            self.expect_word("limit")?;
            select.per_partition_limit = Some(self.int_value()?);
        }
        if self.eat_word("limit")? {
            select.limit = Some(self.int_value()?);
        }
        if self.eat_word("allow")? {
            self.expect_word("filtering")?;
            select.allow_filtering = true;
        }
        if self.eat_word("bypass")? {
            self.expect_word("cache")?;
            select.bypass_cache = true;
        }
        if self.eat_word("using")? {
            self.expect_word("timeout")?;
            select.timeout = Some(self.value()?);
        }
        Ok(select)
    }

    fn several(&mut self, mut one: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        loop {
            one(self)?;
            if !self.eat_sign(b',')? {
                return Ok(());
            }
        }
    }

    /// `JSON` and `DISTINCT` are columns' names too: a keyword only before something that is selected.
    fn selection_keyword(&mut self, word: &str) -> Parsed<bool> {
        if !self.at_word(word) {
            return Ok(false);
        }
        let next = self.ahead()?;
        match next.kind {
            TokenKind::Sign(b',' | b'.') => Ok(false),
            TokenKind::Sign(b'*') | TokenKind::Quoted => self.eat_word(word),
            TokenKind::Word => {
                let next = next.bytes(self.text);
                if next.eq_ignore_ascii_case(b"from") {
                    Ok(false)
                } else if next.eq_ignore_ascii_case(b"as") {
                    Err(OpaqueCause::Unfamiliar)
                } else {
                    self.eat_word(word)
                }
            }
            _ => Err(OpaqueCause::Unfamiliar),
        }
    }

    fn selection(&mut self) -> Parsed<Selection> {
        if self.eat_sign(b'*')? {
            return Ok(Selection::All);
        }
        let mut items = Vec::new();
        loop {
            if items.len() >= ITEMS_MAX {
                return Err(OpaqueCause::TooMany);
            }
            let start = self.token.start;
            let column = match self.expression(Names::Columns)? {
                Piece::Column(name) => Some(name),
                _ => None,
            };
            let span = self.span_from(start);
            let alias = if self.eat_word("as")? { Some(self.name()?) } else { None };
            items.push(Selected { column, alias, span });
            if !self.eat_sign(b',')? {
                return Ok(Selection::Items(items));
            }
        }
    }

    /// One item of `ORDER BY`; whether it is `ANN OF`.
    fn order_item(&mut self) -> Parsed<bool> {
        self.name()?;
        let ann = self.eat_word("ann")?;
        if ann {
            self.expect_word("of")?;
            self.value()?;
        }
        if !self.eat_word("asc")? {
            self.eat_word("desc")?;
        }
        Ok(ann)
    }
}
