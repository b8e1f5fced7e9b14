//! The parser's cursor: current token, markers met so far, nesting, and the small parts every statement shares.

use super::function::Functions;
use super::lexer::{Lexer, Token, TokenKind, is_reserved};
use super::shape::{LiteralKind, Name, OpaqueCause, Span, Table, Value};
use super::{MARKER_NAMES_MAX, NESTING_MAX};

/// What a part of a statement is, or why the statement becomes opaque.
pub(crate) type Parsed<T> = Result<T, OpaqueCause>;

pub(crate) struct Parser<'a> {
    pub(crate) text: &'a [u8],
    lexer: Lexer<'a>,
    /// The token to be read next.
    pub(crate) token: Token,
    /// Where the last token taken ends.
    pub(crate) taken_end: u32,
    /// Markers met, in text order.
    pub(crate) markers: u16,
    pub(crate) marker_names: Vec<(u16, Name)>,
    /// Functions called since the last [`Parser::take_functions`].
    functions: Functions,
    /// Whether all functions taken so far are deterministic.
    deterministic: bool,
    /// Plain column names met in expressions.
    pub(crate) column_references: u32,
    depth: u8,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Parsed<Parser<'a>> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next().map_err(|_| OpaqueCause::Lexical)?;
        Ok(Parser {
            text,
            lexer,
            token,
            taken_end: 0,
            markers: 0,
            marker_names: Vec::new(),
            functions: Functions::default(),
            deterministic: true,
            column_references: 0,
            depth: 0,
        })
    }

    /// Takes the current token and reads the next.
    #[inline]
    pub(crate) fn take(&mut self) -> Parsed<Token> {
        let taken = self.token;
        self.token = self.lexer.next().map_err(|_| OpaqueCause::Lexical)?;
        self.taken_end = taken.end;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn at_sign(&self, sign: u8) -> bool {
        self.token.kind == TokenKind::Sign(sign)
    }

    pub(crate) fn eat_sign(&mut self, sign: u8) -> Parsed<bool> {
        let found = self.at_sign(sign);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    pub(crate) fn expect_sign(&mut self, sign: u8) -> Parsed<()> {
        if self.eat_sign(sign)? { Ok(()) } else { Err(OpaqueCause::Unfamiliar) }
    }

    pub(crate) fn at_word(&self, word: &str) -> bool {
        self.token.kind == TokenKind::Word
            && self.token.bytes(self.text).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(crate) fn eat_word(&mut self, word: &str) -> Parsed<bool> {
        let found = self.at_word(word);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    pub(crate) fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word)? { Ok(()) } else { Err(OpaqueCause::Unfamiliar) }
    }

    /// A name of a column, table or keyspace: quoted, or a word that is not reserved.
    pub(crate) fn name(&mut self) -> Parsed<Name> {
        let quoted = match self.token.kind {
            TokenKind::Quoted => true,
            TokenKind::Word if !is_reserved(self.token.bytes(self.text)) => false,
            _ => return Err(OpaqueCause::Unfamiliar),
        };
        let token = self.take()?;
        Ok(Name { span: Span { start: token.start, end: token.end }, quoted })
    }

    pub(crate) fn table(&mut self) -> Parsed<Table> {
        let first = self.name()?;
        if self.eat_sign(b'.')? {
            return Ok(Table { keyspace: Some(first), name: self.name()? });
        }
        Ok(Table { keyspace: None, name: first })
    }

    /// Whether a marker stands here. Where a map may stand the caller has eaten the colon between key and value.
    pub(crate) fn at_marker(&self) -> bool {
        self.token.kind == TokenKind::Question || self.at_sign(b':')
    }

    /// `?` or `:name`; its position.
    pub(crate) fn marker(&mut self) -> Parsed<u16> {
        let position = self.markers;
        self.markers = position.checked_add(1).ok_or(OpaqueCause::TooMany)?;
        if self.token.kind == TokenKind::Question {
            self.take()?;
            return Ok(position);
        }
        self.expect_sign(b':')?;
        let name = self.name()?;
        let normal = name.normal(self.text);
        if self.marker_names.iter().any(|(_, known)| known.normal(self.text) == normal) {
            return Err(OpaqueCause::DuplicateMarker);
        }
        if self.marker_names.len() >= MARKER_NAMES_MAX {
            return Err(OpaqueCause::TooMany);
        }
        self.marker_names.push((position, name));
        Ok(position)
    }

    /// A whole number or a marker, as `LIMIT`, `TTL` and `TIMESTAMP` take it.
    pub(crate) fn int_value(&mut self) -> Parsed<Value> {
        if self.at_marker() {
            return self.marker().map(Value::Bind);
        }
        if self.token.kind != TokenKind::Integer {
            return Err(OpaqueCause::Unfamiliar);
        }
        let token = self.take()?;
        Ok(Value::Literal(LiteralKind::Integer, Span { start: token.start, end: token.end }))
    }

    /// Goes one bracket deeper; every call is paired with [`Parser::shallower`] unless the statement becomes opaque.
    pub(crate) fn deeper(&mut self) -> Parsed<()> {
        if self.depth >= NESTING_MAX {
            return Err(OpaqueCause::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn shallower(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Notes a call of `name`, which `keyspace` may qualify.
    pub(crate) fn call(&mut self, keyspace: Option<Name>, name: Token) {
        let foreign = name.kind == TokenKind::Quoted
            || keyspace.is_some_and(|keyspace| !keyspace.is(self.text, "system"));
        self.functions.add(name.bytes(self.text), foreign);
    }

    /// The functions called since this was asked last.
    pub(crate) fn take_functions(&mut self) -> Functions {
        let taken = std::mem::take(&mut self.functions);
        self.deterministic &= taken.deterministic();
        taken
    }

    /// Whether every function of the statement is deterministic.
    pub(crate) fn all_deterministic(&self) -> bool {
        self.deterministic && self.functions.deterministic()
    }

    /// The token behind the current one.
    pub(crate) fn ahead(&self) -> Parsed<Token> {
        self.lexer.clone().next().map_err(|_| OpaqueCause::Lexical)
    }

    /// From `start` to the end of the last token taken.
    pub(crate) fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.taken_end.max(start) }
    }
}
