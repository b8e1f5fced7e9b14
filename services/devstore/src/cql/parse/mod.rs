//! CQL text to a [`Statement`]: recursive descent over the lexer of `weir-cql`.
//!
//! weir itself reads only the shape of a statement (`weir_cql::statement`); a server has to know every term, so the
//! grammar is here and the tokens are shared. What Cassandra has and this store has not is refused by name.
//!
//! Bounds: [`TEXT_MAX`] bytes, [`NESTING_MAX`] brackets, [`ITEMS_MAX`] names, relations or terms of one clause.

pub mod ast;
mod create;
mod modify;
mod select;
mod term;

use weir_cql::statement::lexer::{Lexer, Token, TokenKind, is_reserved};

use super::refusal::Refusal;
pub use ast::{Parsed, Statement, TableName};

/// Longest text, bytes.
pub const TEXT_MAX: usize = 1 << 20;
/// Most brackets open at once.
pub const NESTING_MAX: u32 = 16;
/// Most items of one clause; the markers of a statement are at most 65,535 anyway.
pub const ITEMS_MAX: usize = 65_535;

/// Reads one statement.
///
/// # Errors
/// A syntax error, or Invalid for what is not supported.
pub fn statement(text: &[u8]) -> Result<Parsed, Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal::invalid(format!("a statement of more than {TEXT_MAX} bytes")));
    }
    let mut parser = Parser::new(text)?;
    let statement = parser.statement()?;
    while parser.eat(b';')? {}
    if parser.token.kind != TokenKind::End {
        return Err(parser.unexpected("the end of the statement"));
    }
    Ok(Parsed { statement, markers: parser.markers })
}

/// Reads a type as CQL writes it.
///
/// # Errors
/// As [`statement`].
pub fn column_type(text: &str) -> Result<super::schema::ColumnType, Refusal> {
    let mut parser = Parser::new(text.as_bytes())?;
    let kind = parser.column_type()?;
    if parser.token.kind != TokenKind::End {
        return Err(parser.unexpected("the end of the type"));
    }
    Ok(kind)
}

struct Parser<'a> {
    text: &'a [u8],
    lexer: Lexer<'a>,
    token: Token,
    markers: Vec<Option<String>>,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8]) -> Result<Self, Refusal> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next().map_err(|_| Refusal::syntax("line 1:0 no viable alternative at input"))?;
        Ok(Self { text, lexer, token, markers: Vec::new(), depth: 0 })
    }

    fn statement(&mut self) -> Result<Statement, Refusal> {
        if self.token.kind != TokenKind::Word {
            return Err(self.unexpected("a statement"));
        }
        let word = self.word_text();
        match word.as_str() {
            "select" => self.select(),
            "insert" | "update" | "delete" => Ok(Statement::Modify(Box::new(self.modify()?))),
            "begin" => self.batch(),
            "use" => {
                self.take()?;
                Ok(Statement::Use(self.name()?))
            }
            "create" | "alter" | "drop" | "truncate" => self.ddl().map(Statement::Ddl),
            "grant" | "revoke" | "list" | "describe" | "desc" => {
                Err(Refusal::unsupported(word.to_ascii_uppercase()))
            }
            _ => Err(Refusal::syntax(format!("line 1:0 no viable alternative at input '{word}'"))),
        }
    }

    fn unexpected(&self, expected: &str) -> Refusal {
        let found = match self.token.kind {
            TokenKind::End => "the end".to_owned(),
            _ => format!("'{}'", String::from_utf8_lossy(self.token.bytes(self.text))),
        };
        Refusal::syntax(format!("at byte {}: expected {expected}, found {found}", self.token.start))
    }

    fn take(&mut self) -> Result<Token, Refusal> {
        let taken = self.token;
        self.token = self
            .lexer
            .next()
            .map_err(|_| Refusal::syntax(format!("behind byte {}: not a token of CQL", taken.end)))?;
        Ok(taken)
    }

    /// The token behind the current one.
    fn ahead(&self) -> Option<Token> {
        self.lexer.clone().next().ok()
    }

    fn at(&self, sign: u8) -> bool {
        self.token.kind == TokenKind::Sign(sign)
    }

    fn eat(&mut self, sign: u8) -> Result<bool, Refusal> {
        let found = self.at(sign);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn expect(&mut self, sign: u8) -> Result<(), Refusal> {
        if self.eat(sign)? { Ok(()) } else { Err(self.unexpected(&format!("'{}'", char::from(sign)))) }
    }

    /// The current token in lower case.
    fn word_text(&self) -> String {
        String::from_utf8_lossy(self.token.bytes(self.text)).to_ascii_lowercase()
    }

    fn at_word(&self, word: &str) -> bool {
        self.token.kind == TokenKind::Word
            && self.token.bytes(self.text).eq_ignore_ascii_case(word.as_bytes())
    }

    fn eat_word(&mut self, word: &str) -> Result<bool, Refusal> {
        let found = self.at_word(word);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn expect_word(&mut self, word: &str) -> Result<(), Refusal> {
        if self.eat_word(word)? { Ok(()) } else { Err(self.unexpected(&word.to_ascii_uppercase())) }
    }

    /// A name: in lower case unless quoted.
    fn name(&mut self) -> Result<String, Refusal> {
        match self.token.kind {
            TokenKind::Word if !is_reserved(self.token.bytes(self.text)) => {
                let name = self.word_text();
                self.take()?;
                Ok(name)
            }
            TokenKind::Quoted => {
                let token = self.take()?;
                let text = String::from_utf8(token.bytes(self.text).to_vec())
                    .map_err(|_| Refusal::syntax("a name that is not UTF-8"))?;
                Ok(text[1..text.len() - 1].replace("\"\"", "\""))
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    fn table(&mut self) -> Result<TableName, Refusal> {
        let first = self.name()?;
        if self.eat(b'.')? {
            return Ok(TableName { keyspace: Some(first), name: self.name()? });
        }
        Ok(TableName { keyspace: None, name: first })
    }

    /// `IF NOT EXISTS`
    fn if_not_exists(&mut self) -> Result<bool, Refusal> {
        if !self.eat_word("if")? {
            return Ok(false);
        }
        self.expect_word("not")?;
        self.expect_word("exists")?;
        Ok(true)
    }

    /// `IF EXISTS`
    fn if_exists(&mut self) -> Result<bool, Refusal> {
        if !self.eat_word("if")? {
            return Ok(false);
        }
        self.expect_word("exists")?;
        Ok(true)
    }

    /// `item, item ...`, at least one.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
        let mut items = vec![item(self)?];
        while self.eat(b',')? {
            if items.len() >= ITEMS_MAX {
                return Err(Refusal::invalid(format!("more than {ITEMS_MAX} items in one clause")));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn deeper(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Refusal::invalid(format!("more than {NESTING_MAX} brackets open at once")));
        }
        Ok(())
    }

    fn shallower(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}
