//! Counts array elements in JSON that arrives in pieces: bodies of Connect calls and of plain HTTP.
//!
//! The document is read to its end, with a stack of bounded depth and the current name as the only memory. A name counts
//! however it is escaped (`"\u0075ris"` is `uris`), and a name that comes twice counts twice: a count is what a service
//! may see at most. `null` counts as nothing, a single value in place of an array as one, an object by its members.

mod number;
mod plan;

use std::fmt;
use std::sync::Arc;

use self::number::Number;
use self::plan::Target;
pub use self::plan::{JsonPlan, NAME_MAX};
use crate::scan::Counts;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 128;

/// Why a document cannot be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum JsonError {
    /// It is no JSON.
    Syntax,
    /// It is nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// It ends too early.
    Truncated,
}

impl JsonError {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            JsonError::Syntax => "json_syntax",
            JsonError::TooDeep => "json_depth",
            JsonError::Truncated => "json_truncated",
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Syntax => f.write_str("the body is not JSON"),
            JsonError::TooDeep => write!(f, "the body is nested deeper than {DEPTH_MAX} levels"),
            JsonError::Truncated => f.write_str("the body ends within its JSON"),
        }
    }
}

impl std::error::Error for JsonError {}

/// An array or object whose end has not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Level {
    object: bool,
    target: Target,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A value.
    Value,
    /// A value, or the end of an array that has begun.
    FirstElement,
    /// A name, or the end of an object that has begun.
    FirstName,
    /// A name.
    Name,
    Colon,
    /// A comma, or the end of the array or object.
    Next,
    /// Bytes of a text; `name`: of a member's name.
    Text {
        name: bool,
    },
    /// The byte after a backslash.
    Escape {
        name: bool,
    },
    /// Hexadecimal digits of `\u`, most significant first.
    Unicode {
        name: bool,
        digits: u8,
        value: u16,
    },
    Number(Number),
    /// What must follow of `true`, `false` or `null`.
    Literal(&'static [u8]),
    /// Nothing but white space.
    Done,
}

/// A member's name as far as it came, with escapes undone.
#[derive(Clone, Copy, Debug)]
struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
    /// Too long, or with characters that no configured name has: matches nothing.
    other: bool,
}

impl Name {
    const EMPTY: Self = Self { bytes: [0; NAME_MAX], len: 0, other: false };

    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.other = true,
        }
    }

    fn push_unit(&mut self, unit: u16) {
        // Half of a surrogate pair is no character; no configured name is outside the basic plane.
        match char::from_u32(u32::from(unit)) {
            Some(character) => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| self.push(byte)),
            None => self.other = true,
        }
    }

    fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len).filter(|_| !self.other)
    }
}

/// The state of one document.
#[derive(Clone, Debug)]
pub struct JsonScan {
    plan: Arc<JsonPlan>,
    state: State,
    levels: [Level; DEPTH_MAX],
    depth: usize,
    /// What the value that comes next is.
    target: Target,
    name: Name,
    counts: Counts,
    bytes: u64,
    failed: Option<JsonError>,
}

impl JsonScan {
    /// At the first byte of a document.
    pub fn new(plan: Arc<JsonPlan>) -> Self {
        Self {
            counts: plan.zero(),
            plan,
            state: State::Value,
            levels: [Level::default(); DEPTH_MAX],
            depth: 0,
            target: Target::DOCUMENT,
            name: Name::EMPTY,
            bytes: 0,
            failed: None,
        }
    }

    /// At the first byte of another document of the same plan.
    pub fn restart(&mut self) {
        *self = Self::new(Arc::clone(&self.plan));
    }

    /// Bytes of the document so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What was counted so far; true of what was read whatever follows.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reads the next piece. After an error every further piece has the same error.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), JsonError> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        let fed = self.advance(piece);
        self.failed = fed.err();
        fed
    }

    /// To be asked when the document has ended: its counts, if it was whole. A body of no byte counts as an empty object.
    pub fn finish(&mut self) -> Result<Counts, JsonError> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        let whole = match self.state {
            State::Done => true,
            State::Number(number) => self.depth == 0 && number.may_end(),
            State::Value => self.bytes == 0,
            _ => false,
        };
        if whole { Ok(self.counts) } else { Err(JsonError::Truncated) }
    }

    fn advance(&mut self, piece: &[u8]) -> Result<(), JsonError> {
        let mut rest = piece;
        while let Some((byte, after)) = rest.split_first() {
            if let State::Text { name: false } = self.state {
                // Most bytes of a document are in texts that nobody needs.
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' '));
                let plain = plain.unwrap_or(rest.len());
                if plain > 0 {
                    rest = &rest[plain..];
                    continue;
                }
            }
            // A number ends with the byte after it, which is read again.
            if self.byte(*byte)? {
                rest = after;
            }
        }
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        Ok(())
    }

    /// Takes one byte; false: it was not used up.
    fn byte(&mut self, byte: u8) -> Result<bool, JsonError> {
        match self.state {
            State::Text { name } => self.text(byte, name)?,
            State::Escape { name } => self.escape(byte, name)?,
            State::Unicode { name, digits, value } => self.unicode(byte, name, digits, value)?,
            State::Number(number) => match number.push(byte) {
                Some(number) => self.state = State::Number(number),
                None if number.may_end() => {
                    self.value_ended();
                    return Ok(false);
                }
                None => return Err(JsonError::Syntax),
            },
            State::Literal(expected) => match expected.split_first() {
                Some((first, [])) if *first == byte => self.value_ended(),
                Some((first, rest)) if *first == byte => self.state = State::Literal(rest),
                _ => return Err(JsonError::Syntax),
            },
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => (),
            State::FirstElement if byte == b']' => self.leave(),
            State::FirstElement | State::Value => self.value(byte)?,
            State::FirstName if byte == b'}' => self.leave(),
            State::FirstName | State::Name => {
                if byte != b'"' {
                    return Err(JsonError::Syntax);
                }
                self.name = Name::EMPTY;
                self.state = State::Text { name: true };
            }
            State::Colon => {
                if byte != b':' {
                    return Err(JsonError::Syntax);
                }
                self.state = State::Value;
            }
            State::Next => self.next(byte)?,
            State::Done => return Err(JsonError::Syntax),
        }
        Ok(true)
    }

    fn innermost(&self) -> Option<Level> {
        self.levels.get(self.depth.checked_sub(1)?).copied()
    }

    /// The first byte of a value whose place is `self.target`.
    fn value(&mut self, byte: u8) -> Result<(), JsonError> {
        // An element of a counted array, or the single value in place of one.
        let array = self.innermost().filter(|level| !level.object);
        if let Some(array) = array {
            self.count(array.target.slot);
            self.target = Target { slot: None, node: array.target.node };
        }
        let target = std::mem::take(&mut self.target);
        self.state = match byte {
            b'[' => return self.enter(Level { object: false, target }, State::FirstElement),
            b'{' => return self.enter(Level { object: true, target }, State::FirstName),
            b'n' => State::Literal(b"ull"),
            b't' => State::Literal(b"rue"),
            b'f' => State::Literal(b"alse"),
            b'"' => State::Text { name: false },
            _ => State::Number(Number::start(byte).ok_or(JsonError::Syntax)?),
        };
        if byte != b'n' {
            self.count(target.slot);
        }
        Ok(())
    }

    fn count(&mut self, slot: Option<u8>) {
        if let Some(slot) = slot {
            self.counts.add(usize::from(slot), 1);
        }
    }

    fn enter(&mut self, level: Level, state: State) -> Result<(), JsonError> {
        *self.levels.get_mut(self.depth).ok_or(JsonError::TooDeep)? = level;
        self.depth += 1;
        self.state = state;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.value_ended();
    }

    const fn value_ended(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::Next };
    }

    fn next(&mut self, byte: u8) -> Result<(), JsonError> {
        let object = self.innermost().is_some_and(|level| level.object);
        match (byte, object) {
            (b',', true) => self.state = State::Name,
            (b',', false) => self.state = State::Value,
            (b'}', true) | (b']', false) => self.leave(),
            _ => return Err(JsonError::Syntax),
        }
        Ok(())
    }

    fn text(&mut self, byte: u8, name: bool) -> Result<(), JsonError> {
        match byte {
            b'"' if name => self.named(),
            b'"' => self.value_ended(),
            b'\\' => self.state = State::Escape { name },
            ..b' ' => return Err(JsonError::Syntax),
            _ if name => self.name.push(byte),
            _ => (),
        }
        Ok(())
    }

    /// The name of a member is whole: what its value is.
    fn named(&mut self) {
        let object = self.innermost().map(|level| level.target).unwrap_or_default();
        self.count(object.slot);
        self.target = match (object.node, self.name.get()) {
            (Some(node), Some(name)) => self.plan.find(node, name),
            _ => Target::default(),
        };
        self.state = State::Colon;
    }

    fn escape(&mut self, byte: u8, name: bool) -> Result<(), JsonError> {
        let meant = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode { name, digits: 0, value: 0 };
                return Ok(());
            }
            _ => return Err(JsonError::Syntax),
        };
        if name {
            self.name.push(meant);
        }
        self.state = State::Text { name };
        Ok(())
    }

    fn unicode(&mut self, byte: u8, name: bool, digits: u8, value: u16) -> Result<(), JsonError> {
        let digit = (byte as char).to_digit(16).ok_or(JsonError::Syntax)?;
        let (digits, value) = (digits + 1, value << 4 | digit as u16);
        self.state = State::Unicode { name, digits, value };
        if digits == 4 {
            if name {
                self.name.push_unit(value);
            }
            self.state = State::Text { name };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
