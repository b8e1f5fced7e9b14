//! `CREATE`, `ALTER`, `DROP` and `TRUNCATE`.

use weir_cql::statement::lexer::TokenKind;

use super::Parser;
use super::ast::{CreateTable, Ddl, OptionValue, Term};
use crate::cql::refusal::Refusal;

impl Parser<'_> {
    pub(super) fn ddl(&mut self) -> Result<Ddl, Refusal> {
        let verb = self.word_text();
        self.take()?;
        if verb == "truncate" {
            let _optional = self.eat_word("table")? || self.eat_word("columnfamily")?;
            return Ok(Ddl::Truncate(self.table()?));
        }
        let what = self.word_text();
        match (verb.as_str(), what.as_str()) {
            ("create", "keyspace" | "schema") => {
                self.take()?;
                let if_not_exists = self.if_not_exists()?;
                let name = self.name()?;
                self.expect_word("with")?;
                Ok(Ddl::CreateKeyspace { name, options: self.options()?, if_not_exists })
            }
            ("alter", "keyspace" | "schema") => {
                self.take()?;
                self.if_exists()?;
                let name = self.name()?;
                self.expect_word("with")?;
                Ok(Ddl::AlterKeyspace { name, options: self.options()? })
            }
            ("drop", "keyspace" | "schema") => {
                self.take()?;
                let if_exists = self.if_exists()?;
                Ok(Ddl::DropKeyspace { name: self.name()?, if_exists })
            }
            ("create", "table" | "columnfamily") => {
                self.take()?;
                self.create_table().map(|table| Ddl::CreateTable(Box::new(table)))
            }
            ("alter", "table" | "columnfamily") => {
                self.take()?;
                self.alter_table()
            }
            ("drop", "table" | "columnfamily") => {
                self.take()?;
                let if_exists = self.if_exists()?;
                Ok(Ddl::DropTable { table: self.table()?, if_exists })
            }
            (
                verb,
                "index" | "custom" | "materialized" | "type" | "function" | "aggregate" | "role" | "user"
                | "trigger" | "or" | "identity",
            ) => {
                let what = if what == "custom" { "custom index" } else { &what };
                Err(Refusal::unsupported(format!("{verb} {what}").to_ascii_uppercase()))
            }
            _ => Err(self.unexpected("KEYSPACE or TABLE")),
        }
    }

    fn create_table(&mut self) -> Result<CreateTable, Refusal> {
        let if_not_exists = self.if_not_exists()?;
        let table = self.table()?;
        let mut made = CreateTable {
            table,
            columns: Vec::new(),
            partition: Vec::new(),
            clustering: Vec::new(),
            order: Vec::new(),
            options: Vec::new(),
            if_not_exists,
        };
        self.expect(b'(')?;
        let mut keys = 0;
        while !self.at(b')') {
            if !made.columns.is_empty() {
                self.expect(b',')?;
                // a comma may stand behind the last column
                if self.at(b')') {
                    break;
                }
            }
            if made.columns.len() > super::ITEMS_MAX {
                return Err(Refusal::invalid("too many columns"));
            }
            if self.at_word("primary") {
                keys += 1;
                self.take()?;
                self.expect_word("key")?;
                self.primary_key(&mut made)?;
                continue;
            }
            let name = self.name()?;
            let kind = self.column_type()?;
            if self.at_word("static") {
                return Err(Refusal::unsupported("a static column"));
            }
            if self.at_word("mask") || self.at_word("masked") {
                return Err(Refusal::unsupported("a masked column"));
            }
            if self.eat_word("primary")? {
                keys += 1;
                self.expect_word("key")?;
                made.partition = vec![name.clone()];
            }
            made.columns.push((name, kind));
        }
        self.expect(b')')?;
        if keys > 1 {
            return Err(Refusal::invalid(
                "Multiple PRIMARY KEY specified for the table (exactly one required)",
            ));
        }
        if self.eat_word("with")? {
            loop {
                if self.at_word("clustering") {
                    self.take()?;
                    self.expect_word("order")?;
                    self.expect_word("by")?;
                    self.expect(b'(')?;
                    made.order = self.list(|parser| Ok((parser.name()?, parser.direction()?)))?;
                    self.expect(b')')?;
                } else if self.at_word("compact") {
                    return Err(Refusal::unsupported("COMPACT STORAGE"));
                } else {
                    made.options.push(self.option()?);
                }
                if !self.eat_word("and")? {
                    break;
                }
            }
        }
        Ok(made)
    }

    /// `(a, b)` or `((a, b), c)`
    fn primary_key(&mut self, made: &mut CreateTable) -> Result<(), Refusal> {
        self.expect(b'(')?;
        if self.eat(b'(')? {
            made.partition = self.list(Self::name)?;
            self.expect(b')')?;
        } else {
            made.partition = vec![self.name()?];
        }
        if self.eat(b',')? {
            made.clustering = self.list(Self::name)?;
        }
        self.expect(b')')
    }

    fn alter_table(&mut self) -> Result<Ddl, Refusal> {
        self.if_exists()?;
        let table = self.table()?;
        let (mut add, mut drop, mut options) = (Vec::new(), Vec::new(), Vec::new());
        if self.eat_word("add")? {
            if self.at_word("if") {
                return Err(Refusal::unsupported("ALTER TABLE ADD IF NOT EXISTS"));
            }
            let bracket = self.eat(b'(')?;
            add = self.list(|parser| Ok((parser.name()?, parser.column_type()?)))?;
            if bracket {
                self.expect(b')')?;
            }
            if self.at_word("static") {
                return Err(Refusal::unsupported("a static column"));
            }
        } else if self.eat_word("drop")? {
            let bracket = self.eat(b'(')?;
            drop = self.list(Self::name)?;
            if bracket {
                self.expect(b')')?;
            }
        } else if self.eat_word("with")? {
            options = self.options()?;
        } else if self.at_word("rename") {
            return Err(Refusal::unsupported("ALTER TABLE RENAME"));
        } else {
            return Err(self.unexpected("ADD, DROP or WITH"));
        }
        Ok(Ddl::AlterTable { table, add, drop, options })
    }

    fn options(&mut self) -> Result<Vec<(String, OptionValue)>, Refusal> {
        let mut options = vec![self.option()?];
        while self.eat_word("and")? {
            options.push(self.option()?);
        }
        Ok(options)
    }

    fn option(&mut self) -> Result<(String, OptionValue), Refusal> {
        let name = self.name()?;
        self.expect(b'=')?;
        if matches!(self.token.kind, TokenKind::Sign(b'{')) {
            return match self.term()? {
                Term::Set(items) if items.is_empty() => Ok((name, OptionValue::Map(Vec::new()))),
                Term::Map(pairs) => {
                    let pairs = pairs.iter().map(|(key, value)| Ok((plain(key)?, plain(value)?)));
                    Ok((name, OptionValue::Map(pairs.collect::<Result<_, Refusal>>()?)))
                }
                _ => Err(Refusal::syntax(format!("the option {name} is no map"))),
            };
        }
        let value = plain(&self.term()?)?;
        Ok((name, OptionValue::Plain(value)))
    }
}

/// The text of a literal, without its quotes.
fn plain(term: &Term) -> Result<String, Refusal> {
    let Term::Literal(_, text) = term else {
        return Err(Refusal::syntax("an option is a literal"));
    };
    let text = String::from_utf8_lossy(text);
    Ok(match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => text.into_owned(),
    })
}
