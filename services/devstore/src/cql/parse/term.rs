//! Terms, relations and types: the parts that statements share.

use weir_cql::statement::LiteralKind;
use weir_cql::statement::lexer::TokenKind;
use weir_cql::{CqlType, Native};

use super::Parser;
use super::ast::{InTerms, Operator, Relation, Term};
use crate::cql::refusal::Refusal;
use crate::cql::schema::ColumnType;

impl Parser<'_> {
    pub(super) fn at_marker(&self) -> bool {
        self.token.kind == TokenKind::Question || self.at(b':')
    }

    /// `?` or `:name`
    pub(super) fn marker(&mut self) -> Result<u16, Refusal> {
        let position = u16::try_from(self.markers.len())
            .ok()
            .filter(|position| *position < u16::MAX)
            .ok_or_else(|| Refusal::invalid("more than 65,535 markers"))?;
        let named = self.at(b':');
        self.take()?;
        let name = if named { Some(self.name()?) } else { None };
        self.markers.push(name);
        Ok(position)
    }

    pub(super) fn term(&mut self) -> Result<Term, Refusal> {
        if self.at_marker() {
            return self.marker().map(Term::Bind);
        }
        let form = match self.token.kind {
            TokenKind::String => LiteralKind::String,
            TokenKind::Integer => LiteralKind::Integer,
            TokenKind::Float => LiteralKind::Float,
            TokenKind::Uuid => LiteralKind::Uuid,
            TokenKind::Blob => LiteralKind::Blob,
            TokenKind::Duration => LiteralKind::Duration,
            TokenKind::Constant => LiteralKind::Constant,
            TokenKind::Sign(b'[') => {
                self.deeper()?;
                self.take()?;
                let items = if self.at(b']') { Vec::new() } else { self.list(Self::term)? };
                self.expect(b']')?;
                self.shallower();
                return Ok(Term::List(items));
            }
            TokenKind::Sign(b'(') => {
                self.deeper()?;
                self.take()?;
                let items = self.list(Self::term)?;
                self.expect(b')')?;
                self.shallower();
                return Ok(Term::Tuple(items));
            }
            TokenKind::Sign(b'{') => return self.braces(),
            TokenKind::Word if self.at_word("null") => {
                self.take()?;
                return Ok(Term::Null);
            }
            TokenKind::Word => return self.call(),
            _ => return Err(self.unexpected("a value")),
        };
        let token = self.take()?;
        Ok(Term::Literal(form, token.bytes(self.text).to_vec()))
    }

    /// `{}`, `{a, b}`, `{a: b}`
    fn braces(&mut self) -> Result<Term, Refusal> {
        self.deeper()?;
        self.take()?;
        let mut set = Vec::new();
        let mut map = Vec::new();
        while !self.at(b'}') {
            if set.len() + map.len() > 0 {
                self.expect(b',')?;
            }
            let key = self.term()?;
            if map.is_empty() && !self.at(b':') {
                set.push(key);
            } else {
                if !set.is_empty() {
                    return Err(self.unexpected("','"));
                }
                self.expect(b':')?;
                map.push((key, self.term()?));
            }
        }
        self.expect(b'}')?;
        self.shallower();
        Ok(if map.is_empty() { Term::Set(set) } else { Term::Map(map) })
    }

    fn call(&mut self) -> Result<Term, Refusal> {
        // `token` is reserved, and a function
        let name = match self.at_word("token") {
            true => self.word_text(),
            false => self.name()?,
        };
        if name == "token" {
            self.take()?;
        }
        if !self.at(b'(') {
            return Err(self.unexpected("a value"));
        }
        self.deeper()?;
        self.take()?;
        let arguments = if self.at(b')') { Vec::new() } else { self.list(Self::term)? };
        self.expect(b')')?;
        self.shallower();
        Ok(Term::Call(name, arguments))
    }

    pub(super) fn operator(&mut self) -> Result<Operator, Refusal> {
        let token = self.token;
        let found = match (token.kind, token.bytes(self.text)) {
            (TokenKind::Sign(b'='), _) => Operator::Equal,
            (TokenKind::Sign(b'<'), _) => Operator::Less,
            (TokenKind::Sign(b'>'), _) => Operator::Greater,
            (TokenKind::Compare, b"<=") => Operator::LessOrEqual,
            (TokenKind::Compare, b">=") => Operator::GreaterOrEqual,
            (TokenKind::Compare, _) => Operator::NotEqual,
            _ if self.at_word("contains") => return Err(Refusal::unsupported("CONTAINS")),
            _ if self.at_word("like") => return Err(Refusal::unsupported("LIKE")),
            _ if self.at_word("is") => return Err(Refusal::unsupported("IS NOT NULL")),
            _ => return Err(self.unexpected("an operator")),
        };
        self.take()?;
        Ok(found)
    }

    pub(super) fn relations(&mut self) -> Result<Vec<Relation>, Refusal> {
        let mut relations = vec![self.relation()?];
        while self.eat_word("and")? {
            if relations.len() >= super::ITEMS_MAX {
                return Err(Refusal::invalid("too many relations"));
            }
            relations.push(self.relation()?);
        }
        Ok(relations)
    }

    fn relation(&mut self) -> Result<Relation, Refusal> {
        if self.at_word("token") {
            self.take()?;
            self.expect(b'(')?;
            let names = self.list(Self::name)?;
            self.expect(b')')?;
            let operator = self.operator()?;
            return Ok(Relation::Token(names, operator, self.term()?));
        }
        if self.eat(b'(')? {
            let names = self.list(Self::name)?;
            self.expect(b')')?;
            if self.at_word("in") {
                return Err(Refusal::unsupported("IN of several columns"));
            }
            let operator = self.operator()?;
            return Ok(Relation::Tuple(names, operator, self.term()?));
        }
        let name = self.name()?;
        if self.at(b'[') {
            return Err(Refusal::unsupported("a relation on an element of a collection"));
        }
        if self.eat_word("in")? {
            if self.at_marker() {
                return Ok(Relation::In(name, InTerms::Bind(self.marker()?)));
            }
            self.expect(b'(')?;
            let terms = if self.at(b')') { Vec::new() } else { self.list(Self::term)? };
            self.expect(b')')?;
            return Ok(Relation::In(name, InTerms::Each(terms)));
        }
        let operator = self.operator()?;
        Ok(Relation::Compare(name, operator, self.term()?))
    }

    /// A type. A collection inside of another must be frozen, unless the other is.
    pub(super) fn column_type(&mut self) -> Result<ColumnType, Refusal> {
        self.type_within(false)
    }

    fn type_within(&mut self, frozen: bool) -> Result<ColumnType, Refusal> {
        self.deeper()?;
        let name = match self.token.kind {
            TokenKind::String => return Err(Refusal::unsupported("a type by its class name")),
            TokenKind::Quoted => return Err(Refusal::unsupported("a user-defined type")),
            // `set` is reserved, and a type
            TokenKind::Word => {
                let word = self.word_text();
                self.take()?;
                word
            }
            _ => return Err(self.unexpected("a type")),
        };
        let found = match name.as_str() {
            "frozen" => {
                self.expect(b'<')?;
                let inner = self.type_within(true)?;
                self.expect(b'>')?;
                ColumnType { frozen: true, ..inner }
            }
            "list" | "set" => {
                self.expect(b'<')?;
                let element = Box::new(self.inner_type(frozen)?);
                self.expect(b'>')?;
                let cql = if name == "list" { CqlType::List(element) } else { CqlType::Set(element) };
                ColumnType { cql, frozen: false }
            }
            "map" => {
                self.expect(b'<')?;
                let key = Box::new(self.inner_type(frozen)?);
                self.expect(b',')?;
                let value = Box::new(self.inner_type(frozen)?);
                self.expect(b'>')?;
                ColumnType { cql: CqlType::Map(key, value), frozen: false }
            }
            name => {
                let native = native(name).ok_or_else(|| Refusal::unsupported(format!("the type {name}")))?;
                ColumnType { cql: CqlType::Native(native), frozen: false }
            }
        };
        self.shallower();
        Ok(found)
    }

    fn inner_type(&mut self, frozen: bool) -> Result<CqlType, Refusal> {
        let inner = self.type_within(frozen)?;
        if inner.cql == CqlType::Native(Native::Counter) {
            return Err(Refusal::invalid("Counters are not allowed inside collections"));
        }
        if inner.is_multi_cell() && !frozen {
            return Err(Refusal::invalid("Non-frozen collections are not allowed inside collections"));
        }
        Ok(inner.cql)
    }
}

/// The types without parts that this store has.
fn native(name: &str) -> Option<Native> {
    Some(match name {
        "ascii" => Native::Ascii,
        "bigint" => Native::Bigint,
        "blob" => Native::Blob,
        "boolean" => Native::Boolean,
        "counter" => Native::Counter,
        "date" => Native::Date,
        "double" => Native::Double,
        "float" => Native::Float,
        "inet" => Native::Inet,
        "int" => Native::Int,
        "smallint" => Native::Smallint,
        "text" | "varchar" => Native::Varchar,
        "time" => Native::Time,
        "timestamp" => Native::Timestamp,
        "timeuuid" => Native::Timeuuid,
        "tinyint" => Native::Tinyint,
        "uuid" => Native::Uuid,
        _ => return None,
    })
}
