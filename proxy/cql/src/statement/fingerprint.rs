//! The fingerprint of a statement: its text without what changes from call to call.
//!
//! Literals and markers become `?`; white space, comments, case and needless quotes go; elements of `IN` lists,
//! collections and batches that repeat the one before them go. Works on tokens alone, so opaque statements have one too.

use super::lexer::{Lexer, Token, TokenKind, is_reserved};
use super::qualify::is_plain;
use super::shape::{Name, Span};

/// Longest fingerprint, in bytes; what is longer is cut and marked as incomplete.
pub const FINGERPRINT_MAX: usize = 2048;

/// Brackets inside of which elements are compared; deeper ones are only copied.
const FRAMES_MAX: usize = 32;

/// A statement's text without its values.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Fingerprint {
    /// The text, at most [`FINGERPRINT_MAX`] bytes.
    pub text: String,
    /// FNV-1a of the text: the same in every process and release.
    pub hash: u64,
    /// Whether the whole statement is in it: not too long, and tokens throughout.
    pub complete: bool,
}

/// Makes the fingerprint. Linear in the text; stops at the bound, or where the text is no CQL.
pub fn fingerprint(text: &[u8]) -> Fingerprint {
    let mut writer = Writer { text, out: Vec::with_capacity(text.len().min(256)), ..Writer::default() };
    let mut lexer = Lexer::new(text.get(..text.len().min(super::STATEMENT_MAX)).unwrap_or_default());
    let mut complete = text.len() <= super::STATEMENT_MAX;
    loop {
        match lexer.next() {
            Ok(token) => {
                writer.token(token);
                if token.kind == TokenKind::End {
                    break;
                }
            }
            Err(_) => {
                complete = false;
                break;
            }
        }
        if writer.out.len() > FINGERPRINT_MAX {
            complete = false;
            break;
        }
    }
    let mut out = String::from_utf8_lossy(&writer.out).into_owned();
    if out.len() > FINGERPRINT_MAX {
        complete = false;
        let cut = (0..=FINGERPRINT_MAX).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(cut);
    }
    out.truncate(out.trim_end_matches(' ').len());
    Fingerprint { hash: fnv1a(out.as_bytes()), text: out, complete }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What the token before was, as far as the next one needs it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Before {
    /// Nothing, an opening bracket, a dot, a comma: no space is due.
    #[default]
    Open,
    /// A word that may call: no space before `(`.
    Name,
    /// Another end of an operand: a keyword, value or closing bracket. A minus behind it is a subtraction.
    Operand,
    Operator,
}

/// A bracket, or a batch, whose elements are compared with the ones before them.
#[derive(Clone, Copy, Default)]
struct Frame {
    brace: bool,
    compares: bool,
    /// Where the current element begins in the output.
    element: usize,
    previous: Option<(usize, usize)>,
}

#[derive(Default)]
struct Writer<'a> {
    text: &'a [u8],
    out: Vec<u8>,
    before: Before,
    /// The word before was `IN`.
    after_in: bool,
    /// Signs of minus that may belong to a literal.
    minuses: usize,
    /// A colon that may begin a named marker.
    colon: bool,
    frames: Vec<Frame>,
    /// Brackets beyond [`FRAMES_MAX`].
    uncounted: usize,
    /// Set by `BEGIN`; its element is set once the first statement began.
    batch: Option<Frame>,
    in_statement: bool,
}

impl Writer<'_> {
    fn token(&mut self, token: Token) {
        // First of all: what stands on both its sides then is side by side, as when the result is read again.
        if token.kind == TokenKind::Sign(b';') {
            return;
        }
        let after_in = std::mem::take(&mut self.after_in);
        if std::mem::take(&mut self.colon) {
            if matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
                return self.value();
            }
            self.put(b":", Before::Operator);
        }
        let bytes = token.bytes(self.text);
        let literal = matches!(
            token.kind,
            TokenKind::String
                | TokenKind::Integer
                | TokenKind::Float
                | TokenKind::Uuid
                | TokenKind::Blob
                | TokenKind::Duration
                | TokenKind::Constant
        );
        if self.minuses > 0 && !literal && token.kind != TokenKind::Sign(b'-') {
            for _ in 0..std::mem::take(&mut self.minuses) {
                self.put(b"-", Before::Operator);
            }
        }
        match token.kind {
            _ if literal => {
                self.minuses = 0;
                if bytes.starts_with(b"-") && self.is_behind_operand() {
                    self.put(b"-", Before::Operator);
                }
                self.value();
            }
            TokenKind::Question => self.value(),
            TokenKind::Word => self.word(&bytes.to_ascii_lowercase()),
            TokenKind::Quoted => {
                let name = Name { span: Span { start: token.start, end: token.end }, quoted: true };
                let normal = name.normal(self.text);
                if is_plain(&normal) {
                    self.put(&normal, Before::Name);
                } else {
                    self.put(bytes, Before::Name);
                }
            }
            TokenKind::Sign(b'-') if self.is_behind_operand() => self.put(b"-", Before::Operator),
            TokenKind::Sign(b'-') => self.minuses += 1,
            TokenKind::Sign(b':') => {
                let brace = self.frames.last().is_some_and(|frame| frame.brace) && self.uncounted == 0;
                if brace && self.is_behind_operand() {
                    self.out.push(b':');
                    self.before = Before::Operator;
                } else {
                    self.colon = true;
                }
            }
            TokenKind::End => {}
            TokenKind::Sign(b',') => {
                self.finish_element();
                self.out.extend_from_slice(b", ");
                self.before = Before::Open;
                self.begin_element();
            }
            TokenKind::Sign(open @ (b'(' | b'[' | b'{')) => self.open(open, after_in),
            TokenKind::Sign(close @ (b')' | b']' | b'}')) => {
                self.finish_element();
                if self.uncounted > 0 {
                    self.uncounted -= 1;
                } else {
                    self.frames.pop();
                }
                self.out.push(close);
                self.before = Before::Operand;
            }
            TokenKind::Sign(b'.') | TokenKind::Range => {
                self.out.extend_from_slice(bytes);
                self.before = Before::Open;
            }
            _ => self.put(bytes, Before::Operator),
        }
    }

    fn is_behind_operand(&self) -> bool {
        matches!(self.before, Before::Name | Before::Operand)
    }

    fn put(&mut self, bytes: &[u8], before: Before) {
        if self.before != Before::Open {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(bytes);
        self.before = before;
    }

    fn value(&mut self) {
        self.put(b"?", Before::Operand);
    }

    fn word(&mut self, lower: &[u8]) {
        let top = self.frames.is_empty() && self.uncounted == 0;
        if top && matches!(lower, b"insert" | b"update" | b"delete" | b"apply") && self.batch.is_some() {
            self.batch_boundary();
        }
        self.after_in = lower == b"in";
        let spaced = (is_reserved(lower) && lower != b"token") || matches!(lower, b"values" | b"as");
        self.put(lower, if spaced { Before::Operand } else { Before::Name });
        if top && lower == b"begin" && self.batch.is_none() {
            self.batch = Some(Frame { compares: true, ..Frame::default() });
        }
    }

    fn batch_boundary(&mut self) {
        let Some(mut frame) = self.batch else { return };
        if self.in_statement {
            settle(&mut frame, &mut self.out);
        }
        if self.before != Before::Open {
            self.out.push(b' ');
            self.before = Before::Open;
        }
        self.in_statement = true;
        frame.element = self.out.len();
        self.batch = Some(frame);
    }

    fn open(&mut self, open: u8, after_in: bool) {
        let spaced = match self.before {
            Before::Open => false,
            Before::Name => open == b'{',
            Before::Operand => open != b'[',
            Before::Operator => true,
        };
        if spaced {
            self.out.push(b' ');
        }
        self.out.push(open);
        self.before = Before::Open;
        if self.frames.len() >= FRAMES_MAX || self.uncounted > 0 {
            self.uncounted += 1;
            return;
        }
        let compares = open != b'(' || after_in;
        self.frames.push(Frame { brace: open == b'{', compares, element: self.out.len(), previous: None });
    }

    fn finish_element(&mut self) {
        if self.uncounted == 0
            && let Some(frame) = self.frames.last_mut()
        {
            settle(frame, &mut self.out);
        }
    }

    fn begin_element(&mut self) {
        if self.uncounted == 0
            && let Some(frame) = self.frames.last_mut()
        {
            frame.element = self.out.len();
        }
    }
}

/// Takes the current element back when it repeats the one before it.
fn settle(frame: &mut Frame, out: &mut Vec<u8>) {
    if !frame.compares {
        return;
    }
    let current = out.get(frame.element..).unwrap_or_default();
    match frame.previous {
        Some((start, end)) if out.get(start..end) == Some(current) => out.truncate(end),
        _ => frame.previous = Some((frame.element, out.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        fingerprint(text.as_bytes()).text
    }

    #[test]
    fn forms() {
        for (text, want) in [
            ("SELECT * FROM t WHERE k = 1;", "select * from t where k = ?"),
            ("select\n*\tfrom  \"t\" -- c\nwhere K=:key", "select * from t where k = ?"),
            ("SELECT a FROM \"T\" WHERE k IN ('a', 'b','c')", "select a from \"T\" where k in (?)"),
            ("SELECT a FROM t WHERE k IN ?", "select a from t where k in ?"),
            ("SELECT a FROM t WHERE (k,l) IN ((1,2),(3,4))", "select a from t where (k, l) in ((?, ?))"),
            ("SELECT a FROM t WHERE k IN (1, f(2), 3)", "select a from t where k in (?, f(?), ?)"),
            ("INSERT INTO t (a, b) VALUES (1, [1,2,3])", "insert into t(a, b) values (?, [?])"),
            ("UPDATE t SET c = c - 1, d = -5 WHERE k = 0xff", "update t set c = c - ?, d = ? where k = ?"),
            ("UPDATE t SET c = c -1, d = - 5 WHERE k = 0xff", "update t set c = c - ?, d = ? where k = ?"),
            ("UPDATE t SET m = {'a': 1, 'b': :v} WHERE k = null", "update t set m = {?: ?} where k = null"),
            (
                "BEGIN BATCH INSERT INTO t(a) VALUES (1); INSERT INTO t(a) VALUES (2) APPLY BATCH",
                "begin batch insert into t(a) values (?) apply batch",
            ),
            ("SELECT m['a'], l[1..2], count(*) FROM t", "select m[?], l[?..?], count(*) from t"),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
    }

    #[test]
    fn bounded_and_stable() {
        let columns: Vec<String> = (0..1000).map(|at| format!("column_{at}")).collect();
        let long = fingerprint(format!("SELECT {} FROM t", columns.join(",")).as_bytes());
        assert!(!long.complete && long.text.len() <= FINGERPRINT_MAX);
        let broken = fingerprint(b"SELECT a FROM t WHERE k = 'open");
        assert_eq!((broken.text.as_str(), broken.complete), ("select a from t where k =", false));
        // The published test vector of FNV-1a: a release that changes it breaks everyone's dashboards.
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
