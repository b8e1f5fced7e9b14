//! Tokens of CQL text: one pass, no allocation, tokens are byte ranges.
//!
//! What Cassandra's and Scylla's lexers could read differently from ours is an error, and so makes the statement opaque:
//! a number glued to letters (`10abc`), a word that only begins like an ISO duration (`P1Dx`), an empty quoted name, a
//! comment or string without its end.

use memchr::{memchr, memchr2, memmem};

/// What a token is. Words are keywords or names: only the grammar can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// An unquoted name or keyword.
    Word,
    /// A name in double quotes.
    Quoted,
    /// `'...'` or `$$...$$`.
    String,
    /// Digits, with a minus or without.
    Integer,
    /// Digits with a point or an exponent.
    Float,
    /// 36 characters.
    Uuid,
    /// `0x...`
    Blob,
    /// `1h30m`, `P1D`
    Duration,
    /// `true`, `false`, `NaN`, `-NaN`, `Infinity`, `-Infinity`.
    Constant,
    /// `?`
    Question,
    /// One byte of `, ( ) [ ] { } . * + - / % = < > : ;`
    Sign(u8),
    /// `<=`, `>=`, `!=`
    Compare,
    /// `+=`, `-=`
    Assign,
    /// `..`
    Range,
    /// After the last token.
    End,
}

/// One token: its kind and its byte range in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: u32,
    /// Offset behind its last byte.
    pub end: u32,
}

impl Token {
    /// Its bytes in the text it was read from.
    pub fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The text is no CQL that every server reads as we do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LexicalError;

/// A cursor over the text. The text is at most `u32::MAX` bytes: the caller's cap is far below.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Before the first token of a text.
    pub fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        // NUL stands for the end: it begins no token and continues none.
        self.text.get(at).copied().unwrap_or(0)
    }

    /// The next token; [`TokenKind::End`] again and again after the last.
    #[expect(clippy::should_implement_trait, reason = "the end is a token, and comes again and again")]
    pub fn next(&mut self) -> Result<Token, LexicalError> {
        self.skip_blank()?;
        let start = self.at;
        let Some(&first) = self.text.get(start) else {
            return Ok(self.token(TokenKind::End, start, start));
        };
        let (kind, end) = match first {
            b'\'' => (TokenKind::String, self.quoted(start, b'\'')?),
            b'"' => {
                let end = self.quoted(start, b'"')?;
                if end - start == 2 {
                    return Err(LexicalError);
                }
                (TokenKind::Quoted, end)
            }
            b'$' if self.byte(start + 1) == b'$' => {
                let rest = self.text.get(start + 2..).unwrap_or_default();
                let close = memmem::find(rest, b"$$").ok_or(LexicalError)?;
                (TokenKind::String, start + 2 + close + 2)
            }
            b'?' => (TokenKind::Question, start + 1),
            b'<' | b'>' | b'!' if self.byte(start + 1) == b'=' => (TokenKind::Compare, start + 2),
            b'+' if self.byte(start + 1) == b'=' => (TokenKind::Assign, start + 2),
            b'-' => self.minus(start)?,
            b'.' if self.byte(start + 1) == b'.' => (TokenKind::Range, start + 2),
            b',' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'.' | b'*' | b'+' | b'/' | b'%' | b'='
            | b'<' | b'>' | b':' | b';' => (TokenKind::Sign(first), start + 1),
            b'0'..=b'9' => self.number(start, start)?,
            b'a'..=b'z' | b'A'..=b'Z' => self.word(start)?,
            _ => return Err(LexicalError),
        };
        Ok(self.token(kind, start, end))
    }

    fn token(&mut self, kind: TokenKind, start: usize, end: usize) -> Token {
        self.at = end;
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Token { kind, start: place(start), end: place(end) }
    }

    /// White space and comments. A comment must end: at a line's end, or at `*/`.
    fn skip_blank(&mut self) -> Result<(), LexicalError> {
        loop {
            match self.byte(self.at) {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'-' | b'/' if self.byte(self.at + 1) == self.byte(self.at) => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    self.at += memchr2(b'\n', b'\r', rest).ok_or(LexicalError)? + 1;
                }
                b'/' if self.byte(self.at + 1) == b'*' => {
                    let rest = self.text.get(self.at + 2..).unwrap_or_default();
                    self.at += 2 + memmem::find(rest, b"*/").ok_or(LexicalError)? + 2;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Where a string or quoted name ends; the quote itself is written twice inside.
    fn quoted(&self, start: usize, quote: u8) -> Result<usize, LexicalError> {
        let mut at = start + 1;
        loop {
            let rest = self.text.get(at..).ok_or(LexicalError)?;
            at += memchr(quote, rest).ok_or(LexicalError)? + 1;
            if self.byte(at) != quote {
                return Ok(at);
            }
            at += 1;
        }
    }

    /// A minus belongs to the number, duration or constant right behind it, as in Cassandra's lexer.
    fn minus(&self, start: usize) -> Result<(TokenKind, usize), LexicalError> {
        match self.byte(start + 1) {
            b'=' => Ok((TokenKind::Assign, start + 2)),
            b'0'..=b'9' => self.number(start, start + 1),
            b'a'..=b'z' | b'A'..=b'Z' => {
                let end = self.run(start + 1, is_word);
                let word = self.text.get(start + 1..end).unwrap_or_default();
                if word.eq_ignore_ascii_case(b"nan") || word.eq_ignore_ascii_case(b"infinity") {
                    return Ok((TokenKind::Constant, end));
                }
                if starts_iso(word) {
                    return Ok((TokenKind::Duration, self.iso_duration(start + 1)?));
                }
                Ok((TokenKind::Sign(b'-'), start + 1))
            }
            _ => Ok((TokenKind::Sign(b'-'), start + 1)),
        }
    }

    /// Integer, float, blob, uuid or duration. `digits` is where the digits begin: behind a minus, if any.
    fn number(&self, start: usize, digits: usize) -> Result<(TokenKind, usize), LexicalError> {
        if start == digits {
            if let Some(end) = self.uuid(start) {
                return Ok((TokenKind::Uuid, end));
            }
            if self.byte(start) == b'0' && matches!(self.byte(start + 1), b'x' | b'X') {
                let end = self.run(start + 2, |byte| byte.is_ascii_hexdigit());
                return self.ends_clean(TokenKind::Blob, end);
            }
        }
        let mut end = self.run(digits, |byte| byte.is_ascii_digit());
        let mut kind = TokenKind::Integer;
        if self.byte(end) == b'.' && self.byte(end + 1) != b'.' {
            kind = TokenKind::Float;
            end = self.run(end + 1, |byte| byte.is_ascii_digit());
        }
        if matches!(self.byte(end), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(end + 1), b'+' | b'-'));
            let power = self.run(end + 1 + sign, |byte| byte.is_ascii_digit());
            if power == end + 1 + sign {
                return Err(LexicalError);
            }
            return self.ends_clean(TokenKind::Float, power);
        }
        if kind == TokenKind::Integer && (self.byte(end).is_ascii_alphabetic() || self.byte(end) == 0xc2) {
            return Ok((TokenKind::Duration, self.duration(digits)?));
        }
        self.ends_clean(kind, end)
    }

    /// `1y2mo3d`: digits and a unit, again and again.
    fn duration(&self, start: usize) -> Result<usize, LexicalError> {
        let mut at = start;
        loop {
            let digits = self.run(at, |byte| byte.is_ascii_digit());
            if digits == at {
                break;
            }
            let letters = self.run(digits, |byte| byte.is_ascii_alphabetic() || byte >= 0x80);
            let unit = self.text.get(digits..letters).unwrap_or_default();
            let known =
                [&b"y"[..], b"mo", b"w", b"d", b"h", b"m", b"s", b"ms", b"us", "\u{b5}s".as_bytes(), b"ns"]
                    .iter()
                    .any(|name| unit.eq_ignore_ascii_case(name));
            if !known {
                return Err(LexicalError);
            }
            at = letters;
        }
        self.ends_clean(TokenKind::Duration, at).map(|(_, end)| end)
    }

    fn word(&self, start: usize) -> Result<(TokenKind, usize), LexicalError> {
        if let Some(end) = self.uuid(start) {
            return Ok((TokenKind::Uuid, end));
        }
        let end = self.run(start, is_word);
        let word = self.text.get(start..end).unwrap_or_default();
        if starts_iso(word) {
            return Ok((TokenKind::Duration, self.iso_duration(start)?));
        }
        let constant = [&b"true"[..], b"false", b"nan", b"infinity"];
        if constant.iter().any(|name| word.eq_ignore_ascii_case(name)) {
            return Ok((TokenKind::Constant, end));
        }
        Ok((TokenKind::Word, end))
    }

    /// The end of an ISO 8601 duration, of which `P` and a digit (or `T`) were seen. Only designators in their order.
    fn iso_duration(&self, start: usize) -> Result<usize, LexicalError> {
        let shape = b"Pdddd-dd-ddTdd:dd:dd";
        let alternative = self.text.get(start..start + shape.len()).is_some_and(|bytes| {
            bytes.iter().zip(shape).all(|(byte, want)| match want {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            })
        });
        if alternative {
            return self.ends_clean(TokenKind::Duration, start + shape.len()).map(|(_, end)| end);
        }
        let end = self.run(start, |byte| byte.is_ascii_alphanumeric());
        let body = self.text.get(start + 1..end).unwrap_or_default();
        let (date, time) = match memchr(b'T', body) {
            Some(at) => (&body[..at], Some(&body[at + 1..])),
            None => (body, None),
        };
        let weeks = time.is_none() && designators(date, b"W") == Some(1);
        let dated = designators(date, b"YMD").is_some_and(|count| count > 0 || time.is_some());
        let timed = time.is_none_or(|time| designators(time, b"HMS").is_some_and(|count| count > 0));
        let clean = !is_word(self.byte(end));
        if clean && (weeks || (dated && timed)) { Ok(end) } else { Err(LexicalError) }
    }

    /// A token that ends with digits must not be glued to more of a word.
    fn ends_clean(&self, kind: TokenKind, end: usize) -> Result<(TokenKind, usize), LexicalError> {
        let next = self.byte(end);
        if is_word(next) || next >= 0x80 { Err(LexicalError) } else { Ok((kind, end)) }
    }

    fn uuid(&self, start: usize) -> Option<usize> {
        let bytes = self.text.get(start..start + 36)?;
        if bytes[8] != b'-' {
            return None;
        }
        let fits = bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
        (fits && !is_word(self.byte(start + 36))).then_some(start + 36)
    }

    fn run(&self, start: usize, accept: impl Fn(u8) -> bool) -> usize {
        let mut at = start;
        while self.text.get(at).is_some_and(|byte| accept(*byte)) {
            at += 1;
        }
        at
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether Cassandra may take the word for an ISO duration: a capital P before a digit, or before `T` and a digit.
fn starts_iso(word: &[u8]) -> bool {
    match word {
        [b'P', b'T', digit, ..] | [b'P', digit, ..] => digit.is_ascii_digit(),
        _ => false,
    }
}

/// How many `digits designator` pairs there are, when they come in the order given and nothing else is there.
fn designators(mut bytes: &[u8], order: &[u8]) -> Option<usize> {
    let mut order = order.iter();
    let mut count = 0;
    while !bytes.is_empty() {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let letter = bytes.get(digits)?;
        if digits == 0 || !order.any(|want| want == letter) {
            return None;
        }
        bytes = &bytes[digits + 1..];
        count += 1;
    }
    Some(count)
}

/// Words that Cassandra or Scylla reserve, in lower case and sorted: never a name unless quoted. `true`, `false`, `nan`,
/// `infinity` are tokens of their own and are listed because a quoted name with these letters must stay quoted.
pub(crate) const RESERVED: [&[u8]; 57] = [
    b"add",
    b"allow",
    b"alter",
    b"and",
    b"apply",
    b"asc",
    b"authorize",
    b"batch",
    b"begin",
    b"by",
    b"columnfamily",
    b"create",
    b"delete",
    b"desc",
    b"describe",
    b"drop",
    b"entries",
    b"execute",
    b"false",
    b"from",
    b"full",
    b"grant",
    b"if",
    b"in",
    b"index",
    b"infinity",
    b"insert",
    b"into",
    b"is",
    b"keyspace",
    b"limit",
    b"materialized",
    b"modify",
    b"nan",
    b"norecursive",
    b"not",
    b"null",
    b"of",
    b"on",
    b"or",
    b"order",
    b"primary",
    b"rename",
    b"revoke",
    b"schema",
    b"select",
    b"set",
    b"table",
    b"to",
    b"token",
    b"true",
    b"truncate",
    b"unlogged",
    b"update",
    b"use",
    b"using",
    b"where",
];

/// Also reserved; apart because they are rare and the list above is searched first.
const RESERVED_TOO: [&[u8]; 2] = [b"view", b"with"];

/// Longest reserved word.
const RESERVED_LEN: usize = 12;

/// Whether the word, in any case, is reserved.
pub fn is_reserved(word: &[u8]) -> bool {
    if word.len() > RESERVED_LEN {
        return false;
    }
    let mut lower = [0; RESERVED_LEN];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let lower = &*lower;
    RESERVED.binary_search(&lower).is_ok() || RESERVED_TOO.contains(&lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<TokenKind>, LexicalError> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut found = Vec::new();
        loop {
            let token = lexer.next()?;
            if token.kind == TokenKind::End {
                return Ok(found);
            }
            found.push(token.kind);
        }
    }

    #[test]
    fn one_token_each() {
        use TokenKind::*;
        for (text, kind) in [
            ("'it''s'", String),
            ("$$a 'b' $ c$$", String),
            ("\"A \"\" b\"", Quoted),
            ("-12", Integer),
            ("1.5e-3", Float),
            ("1.", Float),
            ("2E5", Float),
            ("0xCafe", Blob),
            ("0x", Blob),
            ("123e4567-e89b-12d3-a456-426614174000", Uuid),
            ("deadbeef-e89b-12d3-a456-426614174000", Uuid),
            ("1y2mo3w4d5h6m7s8ms9us10ns", Duration),
            ("-89h9m", Duration),
            ("5\u{b5}s", Duration),
            ("P1Y2M3DT4H5M6S", Duration),
            ("-P3W", Duration),
            ("PT5M", Duration),
            ("P0001-02-03T04:05:06", Duration),
            ("TRUE", Constant),
            ("-Infinity", Constant),
            ("nan", Constant),
            ("p1d", Word),
            ("Place", Word),
            ("PT", Word),
        ] {
            assert_eq!(kinds(text), Ok(vec![kind]), "{text}");
        }
    }

    #[test]
    fn what_others_could_read_differently_is_an_error() {
        for text in [
            "10abc",
            "1e",
            "0x1g",
            "P1Dx",
            "P1X",
            "PT5",
            "P1D2Y",
            "\"\"",
            "'open",
            "$$open",
            "\"open",
            "P0001-02-03",
            "-- to the end",
            "// to the end",
            "/* open",
            "a # b",
            "a @ b",
            "caf\u{e9}",
            "5 \u{b5}s",
            "a\u{0}b",
            "3\u{b5}",
        ] {
            assert_eq!(kinds(text), Err(LexicalError), "{text}");
        }
    }

    #[test]
    fn minus_dots_and_comments() {
        use TokenKind::*;
        assert_eq!(kinds("c-1"), Ok(vec![Word, Integer]));
        assert_eq!(kinds("c - 1"), Ok(vec![Word, Sign(b'-'), Integer]));
        assert_eq!(kinds("1..2"), Ok(vec![Integer, Range, Integer]));
        assert_eq!(kinds("a--b\n/* c */+= // d\r-="), Ok(vec![Word, Assign, Assign]));
    }

    #[test]
    fn the_reserved_words_are_sorted() {
        assert!(RESERVED.is_sorted());
        assert!(
            is_reserved(b"SeLect")
                && is_reserved(b"with")
                && !is_reserved(b"key")
                && !is_reserved(b"materializedd")
        );
    }
}
