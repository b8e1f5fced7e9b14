//! Requests out, replies in, each checked against what was asked.
//!
//! A reply must carry the keys asked for in the order asked (misses left out), with the length, flags and body that
//! follow from the key, and end exactly once. Values are checked as they arrive, in whatever pieces; nothing is
//! kept but an unfinished line.

use crate::clock::Nanos;
use crate::faults::Faults;
use crate::keys::{KeyIndex, KeySet};
use crate::values::Values;
use memchr::memchr;
use std::collections::VecDeque;
use std::io::Write;

/// Longest reply line that is waited for, bytes.
const LINE_MAX: usize = 64 << 10;

/// The keys and values of a run.
pub struct World {
    /// Every key.
    pub keys: KeySet,
    /// Its value.
    pub values: Values,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `get` of one or more keys
    Get,
    /// `set` of one key
    Set,
}

/// A request that was sent and is not answered.
struct Pending {
    operation: Operation,
    started: Nanos,
    /// Keys not yet answered or skipped; they are at the front of `asked` when the request is.
    left: u32,
    result: Finished,
}

/// A request that ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// What it was.
    pub operation: Operation,
    /// When it was due or sent, as given with the request.
    pub started: Nanos,
    /// Keys asked for or stored.
    pub keys: u32,
    /// Values that came and are right.
    pub hits: u32,
    /// Keys never stored, rightly not answered.
    pub absent: u32,
    /// Stored keys that were not answered although the request ended well.
    pub missing: u32,
    /// Values that came and are wrong.
    pub wrong: u32,
    /// It ended in an error, of the server or of the connection.
    pub failed: bool,
}

/// What one connection waits for.
#[derive(Default)]
pub struct Expected {
    asked: VecDeque<KeyIndex>,
    pending: VecDeque<Pending>,
}

impl Expected {
    /// Requests not answered.
    pub fn depth(&self) -> usize {
        self.pending.len()
    }

    /// When the oldest unanswered request started.
    pub fn oldest(&self) -> Option<Nanos> {
        self.pending.front().map(|pending| pending.started)
    }

    /// Writes a `get` of these keys; nothing when there are none.
    pub fn get(
        &mut self,
        world: &World,
        keys: impl Iterator<Item = KeyIndex>,
        started: Nanos,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(b"get");
        let mut count = 0;
        for key in keys {
            out.push(b' ');
            out.extend_from_slice(world.keys.bytes(key));
            self.asked.push_back(key);
            count += 1;
        }
        if count == 0 {
            return out.truncate(start);
        }
        out.extend_from_slice(b"\r\n");
        self.push(Operation::Get, count, started);
    }

    /// Writes a `set` of this key.
    pub fn set(&mut self, world: &World, key: KeyIndex, started: Nanos, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(world.keys.bytes(key));
        // Writing to a Vec cannot fail.
        let _ = write!(out, " {} 0 {}\r\n", world.values.flags(key), world.values.length(key));
        world.values.write(key, out);
        out.extend_from_slice(b"\r\n");
        self.asked.push_back(key);
        self.push(Operation::Set, 1, started);
    }

    fn push(&mut self, operation: Operation, keys: u32, started: Nanos) {
        let result =
            Finished { operation, started, keys, hits: 0, absent: 0, missing: 0, wrong: 0, failed: false };
        self.pending.push_back(Pending { operation, started, left: keys, result });
    }

    /// Ends every request as failed (the connection is gone).
    pub fn fail_all(&mut self, finished: &mut Vec<Finished>) -> usize {
        let count = self.pending.len();
        finished.extend(self.pending.drain(..).map(|pending| Finished { failed: true, ..pending.result }));
        self.asked.clear();
        count
    }

    /// Takes keys from the front of the oldest request up to `key`; the ones before it were left out by the server.
    fn take(&mut self, world: &World, key: &[u8]) -> Option<KeyIndex> {
        let Self { asked, pending } = self;
        let current = pending.front_mut()?;
        let place =
            asked.iter().take(current.left as usize).position(|index| world.keys.bytes(*index) == key)?;
        for skipped in asked.drain(..place) {
            current.skip(world, skipped);
        }
        current.left -= place as u32 + 1;
        asked.pop_front()
    }

    /// Ends the oldest request.
    fn end(&mut self, world: &World, failed: bool, finished: &mut Vec<Finished>) {
        let Some(mut current) = self.pending.pop_front() else { return };
        for key in self.asked.drain(..current.left as usize) {
            if !failed && current.operation == Operation::Get {
                current.skip(world, key);
            }
        }
        current.result.failed = failed;
        finished.push(current.result);
    }

    fn current(&mut self) -> Option<&mut Finished> {
        self.pending.front_mut().map(|pending| &mut pending.result)
    }
}

impl Pending {
    fn skip(&mut self, world: &World, key: KeyIndex) {
        match world.keys.is_stored(key) {
            true => self.result.missing += 1,
            false => self.result.absent += 1,
        }
    }
}

/// Where the reader is in the byte stream.
#[derive(Clone, Copy)]
enum State {
    Line,
    /// In a value: `at` of `length + 2` bytes have come.
    Body {
        key: Option<KeyIndex>,
        length: usize,
        at: usize,
        good: bool,
    },
}

/// Reads the replies of one connection.
pub struct Reader {
    state: State,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { state: State::Line, line: Vec::new() }
    }
}

/// The connection cannot go on: the server's bytes fit nothing that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// What a reader needs besides the bytes.
pub struct Context<'a> {
    /// Keys and values.
    pub world: &'a World,
    /// Gets the requests that ended.
    pub finished: &'a mut Vec<Finished>,
    /// Gets the texts of errors.
    pub faults: &'a mut Faults,
}

impl Reader {
    /// Forgets what was read of an unfinished reply.
    pub fn reset(&mut self) {
        self.state = State::Line;
        self.line.clear();
    }

    /// Takes all of `input`.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        expected: &mut Expected,
        to: &mut Context<'_>,
    ) -> Result<(), Broken> {
        while !input.is_empty() {
            match self.state {
                State::Line => {
                    let Some(end) = memchr(b'\n', input) else {
                        self.line.extend_from_slice(input);
                        return match self.line.len() > LINE_MAX {
                            true => Err(Broken("reply: no line end in 64 KiB")),
                            false => Ok(()),
                        };
                    };
                    let (line, rest) = input.split_at(end + 1);
                    input = rest;
                    if self.line.is_empty() {
                        self.state = on_line(line, expected, to)?;
                    } else {
                        let mut whole = std::mem::take(&mut self.line);
                        whole.extend_from_slice(line);
                        self.state = on_line(&whole, expected, to)?;
                        whole.clear();
                        self.line = whole;
                    }
                }
                State::Body { key, length, at, good } => {
                    let (part, rest) = input.split_at((length + 2 - at).min(input.len()));
                    input = rest;
                    let good = good && body_matches(key, length, at, part, to.world);
                    let at = at + part.len();
                    self.state = State::Body { key, length, at, good };
                    if at == length + 2 {
                        on_value(good, expected, to);
                        self.state = State::Line;
                    }
                }
            }
        }
        Ok(())
    }
}

fn body_matches(key: Option<KeyIndex>, length: usize, at: usize, part: &[u8], world: &World) -> bool {
    let Some(key) = key else { return false };
    let (body, end) = part.split_at(length.saturating_sub(at).min(part.len()));
    let end_at = at.saturating_sub(length);
    world.values.matches(key, at, body) && end == &b"\r\n"[end_at..end_at + end.len()]
}

fn on_value(good: bool, expected: &mut Expected, to: &mut Context<'_>) {
    let Some(current) = expected.current() else { return };
    if good {
        current.hits += 1;
    } else {
        current.wrong += 1;
        to.faults.note("wrong value", 1);
    }
}

fn on_line(line: &[u8], expected: &mut Expected, to: &mut Context<'_>) -> Result<State, Broken> {
    let line = line.strip_suffix(b"\r\n").ok_or(Broken("reply: a line ends without CR"))?;
    let Some(current) = expected.current() else { return Err(Broken("reply: nothing was asked")) };
    if current.operation == Operation::Get
        && let Some(header) = line.strip_prefix(b"VALUE ")
    {
        return on_header(header, expected, to);
    }
    let well = match current.operation {
        Operation::Get => line == b"END",
        Operation::Set => line == b"STORED",
    };
    if !well {
        to.faults.note_line(line);
    } else if current.operation == Operation::Set {
        current.hits = 1;
    }
    expected.end(to.world, !well, to.finished);
    Ok(State::Line)
}

/// `<key> <flags> <bytes>`
fn on_header(header: &[u8], expected: &mut Expected, to: &mut Context<'_>) -> Result<State, Broken> {
    const MALFORMED: Broken = Broken("reply: malformed VALUE line");
    let mut words = header.split(|byte| *byte == b' ');
    let (Some(key), Some(flags), Some(length)) =
        (words.next(), words.next().and_then(number), words.next().and_then(number))
    else {
        return Err(MALFORMED);
    };
    let Some(index) = expected.take(to.world, key) else {
        to.faults.note("wrong key", 1);
        return Ok(State::Body { key: None, length: length as usize, at: 0, good: false });
    };
    let values = &to.world.values;
    let mut good = to.world.keys.is_stored(index);
    if !good {
        to.faults.note("a value for a key never stored", 1);
    }
    if u64::from(values.flags(index)) != flags {
        to.faults.note("wrong flags", 1);
        good = false;
    }
    if u64::from(values.length(index)) != length {
        to.faults.note("wrong length", 1);
        good = false;
    }
    Ok(State::Body { key: Some(index), length: length as usize, at: 0, good })
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
