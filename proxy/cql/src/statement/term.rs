//! Values and expressions: literals, markers, collections, functions, casts, arithmetic.
//!
//! One reader for terms (`WHERE`, `VALUES`) and selectors, a little wider than the servers': what they refuse they refuse
//! themselves. Where a form has two readings it is refused here.

use super::lexer::{TokenKind, is_reserved};
use super::parser::{Parsed, Parser};
use super::shape::{LiteralKind, Name, OpaqueCause, Span, Value};

/// Whether plain column names may stand in the expression.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Not: only values.
    Refused,
    /// As selectors.
    Columns,
}

/// What an expression turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    Bind(u16),
    Literal(LiteralKind),
    /// Literals only, in brackets of any sort.
    Literals,
    Column(Name),
    Other,
}

impl Piece {
    pub(crate) fn is_literal(self) -> bool {
        matches!(self, Piece::Literal(_) | Piece::Literals)
    }
}

impl Parser<'_> {
    /// One value without column names.
    pub(crate) fn value(&mut self) -> Parsed<Value> {
        let start = self.token.start;
        let piece = self.expression(Names::Refused)?;
        Ok(self.as_value(piece, start))
    }

    /// The value that the expression from `start` to here is.
    pub(crate) fn as_value(&self, piece: Piece, start: u32) -> Value {
        let span = self.span_from(start);
        match piece {
            Piece::Bind(position) => Value::Bind(position),
            Piece::Literal(kind) => Value::Literal(kind, span),
            Piece::Literals | Piece::Column(_) | Piece::Other => Value::Term(span),
        }
    }

    /// Operands joined by `+ - * / %`. Precedence does not matter: nothing is computed.
    pub(crate) fn expression(&mut self, names: Names) -> Parsed<Piece> {
        let mut piece = self.operand(names)?;
        while let TokenKind::Sign(b'+' | b'-' | b'*' | b'/' | b'%') = self.token.kind {
            self.take()?;
            self.operand(names)?;
            piece = Piece::Other;
        }
        Ok(piece)
    }

    fn operand(&mut self, names: Names) -> Parsed<Piece> {
        let mut negated = false;
        while self.eat_sign(b'-')? {
            negated = true;
        }
        let piece = self.primary(names)?;
        Ok(if negated { Piece::Other } else { piece })
    }

    fn primary(&mut self, names: Names) -> Parsed<Piece> {
        let literal = match self.token.kind {
            TokenKind::String => LiteralKind::String,
            TokenKind::Integer => LiteralKind::Integer,
            TokenKind::Float => LiteralKind::Float,
            TokenKind::Uuid => LiteralKind::Uuid,
            TokenKind::Blob => LiteralKind::Blob,
            TokenKind::Duration => LiteralKind::Duration,
            TokenKind::Constant => LiteralKind::Constant,
            TokenKind::Question | TokenKind::Sign(b':') => return self.marker().map(Piece::Bind),
            TokenKind::Sign(b'(') => return self.nested(names, Self::parenthesis),
            TokenKind::Sign(b'[') => return self.nested(names, Self::list),
            TokenKind::Sign(b'{') => return self.nested(names, Self::braces),
            TokenKind::Word if self.at_word("null") => LiteralKind::Null,
            TokenKind::Word | TokenKind::Quoted => return self.nested(names, Self::named),
            _ => return Err(OpaqueCause::Unfamiliar),
        };
        self.take()?;
        Ok(Piece::Literal(literal))
    }

    fn nested(&mut self, names: Names, inner: fn(&mut Self, Names) -> Parsed<Piece>) -> Parsed<Piece> {
        self.deeper()?;
        let piece = inner(self, names)?;
        self.shallower();
        Ok(piece)
    }

    /// A tuple, an expression in brackets, or a type hint before a value: `(int) 3`.
    fn parenthesis(&mut self, names: Names) -> Parsed<Piece> {
        self.expect_sign(b'(')?;
        let references = self.column_references;
        let mut literals = true;
        let mut count = 0_u32;
        let mut hint;
        loop {
            let piece = self.expression(Names::Columns)?;
            literals &= piece.is_literal();
            count += 1;
            hint = matches!(piece, Piece::Column(_)) && count == 1;
            if self.at_sign(b'<') && hint {
                self.type_arguments()?;
                self.expect_sign(b')')?;
                self.column_references = references;
                self.primary(names)?;
                return Ok(Piece::Other);
            }
            if !self.eat_sign(b',')? {
                break;
            }
        }
        self.expect_sign(b')')?;
        if hint {
            // `(a) 3` is a type hint; `(a)` alone a column in brackets; `(a) b` and `(a)[1]` could be both.
            let value_follows = matches!(
                self.token.kind,
                TokenKind::String
                    | TokenKind::Integer
                    | TokenKind::Float
                    | TokenKind::Uuid
                    | TokenKind::Blob
                    | TokenKind::Duration
                    | TokenKind::Constant
                    | TokenKind::Question
                    | TokenKind::Sign(b':' | b'(' | b'{')
            );
            let word_follows = match self.token.kind {
                TokenKind::Word => {
                    let word = self.token.bytes(self.text);
                    !is_reserved(word) || word.eq_ignore_ascii_case(b"null")
                }
                TokenKind::Quoted => true,
                _ => false,
            };
            if value_follows || (names == Names::Refused && (word_follows || self.at_sign(b'['))) {
                self.column_references = references;
                self.primary(names)?;
                return Ok(Piece::Other);
            }
            if word_follows || self.at_sign(b'[') {
                return Err(OpaqueCause::Unfamiliar);
            }
        }
        if names == Names::Refused && self.column_references != references {
            return Err(OpaqueCause::Unfamiliar);
        }
        Ok(if literals { Piece::Literals } else { Piece::Other })
    }

    /// `<int>`, `<text, frozen<list<int>>>`, `<float, 3>` behind a type's name.
    fn type_arguments(&mut self) -> Parsed<()> {
        let mut open = 0_u8;
        loop {
            match self.token.kind {
                TokenKind::Sign(b'<') if open < 16 => open += 1,
                TokenKind::Sign(b'>') => open -= 1,
                TokenKind::Word | TokenKind::Quoted | TokenKind::Integer | TokenKind::Sign(b',' | b'.') => {}
                TokenKind::String => {}
                _ => return Err(OpaqueCause::Unfamiliar),
            }
            self.take()?;
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn list(&mut self, names: Names) -> Parsed<Piece> {
        self.expect_sign(b'[')?;
        let mut literals = true;
        if !self.at_sign(b']') {
            loop {
                literals &= self.expression(names)?.is_literal();
                if !self.eat_sign(b',')? {
                    break;
                }
            }
        }
        self.expect_sign(b']')?;
        Ok(if literals { Piece::Literals } else { Piece::Other })
    }

    /// A set, a map, or a user type whose keys are field names.
    fn braces(&mut self, names: Names) -> Parsed<Piece> {
        self.expect_sign(b'{')?;
        let mut literals = true;
        if !self.at_sign(b'}') {
            loop {
                let references = self.column_references;
                let key = self.expression(Names::Columns)?;
                if self.eat_sign(b':')? {
                    if matches!(key, Piece::Column(_)) {
                        // A field's name, no column.
                        self.column_references = references;
                    } else {
                        literals &= key.is_literal();
                    }
                    literals &= self.expression(names)?.is_literal();
                } else {
                    literals &= key.is_literal();
                }
                if names == Names::Refused && self.column_references != references {
                    return Err(OpaqueCause::Unfamiliar);
                }
                if !self.eat_sign(b',')? {
                    break;
                }
            }
        }
        self.expect_sign(b'}')?;
        Ok(if literals { Piece::Literals } else { Piece::Other })
    }

    /// A function call, or a column with fields and elements behind it.
    fn named(&mut self, names: Names) -> Parsed<Piece> {
        let first = self.token;
        let is_token = self.at_word("token");
        let name = if is_token {
            self.take()?;
            Name { span: Span { start: first.start, end: first.end }, quoted: false }
        } else {
            self.name()?
        };
        if self.at_sign(b'(') {
            self.call(None, first);
            let cast = first.kind == TokenKind::Word && name.is(self.text, "cast");
            self.arguments(names, cast)?;
            return self.modifiers(names).map(|_| Piece::Other);
        }
        if is_token {
            return Err(OpaqueCause::Unfamiliar);
        }
        if self.eat_sign(b'.')? {
            let second = self.token;
            self.name()?;
            if self.at_sign(b'(') {
                self.call(Some(name), second);
                self.arguments(names, false)?;
                return self.modifiers(names).map(|_| Piece::Other);
            }
            if names == Names::Refused {
                return Err(OpaqueCause::Unfamiliar);
            }
            self.column_references += 1;
            return self.modifiers(names).map(|_| Piece::Other);
        }
        if names == Names::Refused {
            return Err(OpaqueCause::Unfamiliar);
        }
        self.column_references += 1;
        let modified = self.modifiers(names)?;
        Ok(if modified { Piece::Other } else { Piece::Column(name) })
    }

    /// `.field`, `[element]` and `[from..to]`, again and again; whether there was one.
    fn modifiers(&mut self, names: Names) -> Parsed<bool> {
        let mut any = false;
        if names == Names::Refused {
            return Ok(false);
        }
        loop {
            if self.eat_sign(b'.')? {
                self.name()?;
            } else if self.eat_sign(b'[')? {
                if self.token.kind != TokenKind::Range {
                    self.expression(Names::Refused)?;
                }
                if self.token.kind == TokenKind::Range {
                    self.take()?;
                    if !self.at_sign(b']') {
                        self.expression(Names::Refused)?;
                    }
                }
                self.expect_sign(b']')?;
            } else {
                return Ok(any);
            }
            any = true;
        }
    }

    /// `(...)` behind a function's name: nothing, `*`, a list, or `x AS type`.
    fn arguments(&mut self, names: Names, cast: bool) -> Parsed<()> {
        self.expect_sign(b'(')?;
        if self.eat_sign(b')')? {
            return Ok(());
        }
        if self.at_sign(b'*') {
            self.take()?;
            return self.expect_sign(b')');
        }
        loop {
            self.expression(names)?;
            if !self.eat_sign(b',')? {
                break;
            }
        }
        if cast {
            self.expect_word("as")?;
            self.name()?;
        }
        self.expect_sign(b')')
    }
}
