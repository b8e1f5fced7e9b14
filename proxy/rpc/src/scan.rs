//! Counts the elements of repeated fields in a message that arrives in pieces, before anything else looks at it.
//!
//! A [`ScanPlan`] is made once from the fields to count; a [`Scan`] is the state of one message: a few hundred bytes
//! whatever the message says, nothing allocated by its lengths. What is not in the plan is passed over by its wire type.
//! Packed and unpacked numbers count alike, and a field inside messages counts over all of them.

mod counts;
mod plan;

use std::sync::Arc;

pub use self::counts::Counts;
pub use self::plan::{COUNTS_MAX, DEPTH_MAX, PlanError, ScanPlan, Step};
use crate::error::Malformed;
use crate::wire::{Elements, LENGTH_MAX, Tag, VarintParts, WireType};

/// A message whose fields are read: the outermost, or one that a path goes into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Level {
    node: u8,
    /// Offset in the outermost message after its last byte; unknown (`u64::MAX`) for the outermost.
    end: u64,
}

const OUTERMOST: Level = Level { node: 0, end: u64::MAX };

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Tag,
    /// A varint that nobody needs, perhaps counted.
    Number,
    Length(Tag),
    /// Bytes to pass over.
    Skip(u64),
    /// Bytes of a packed run of varints, counted in the slot.
    Packed(u64, u8),
}

/// The state of one message.
#[derive(Clone, Debug)]
pub struct Scan {
    plan: Arc<ScanPlan>,
    /// Bytes read.
    at: u64,
    state: State,
    varint: VarintParts,
    levels: [Level; DEPTH_MAX + 1],
    /// Index of the innermost level.
    depth: usize,
    counts: Counts,
    failed: Option<Malformed>,
}

impl Scan {
    /// At the first byte of a message.
    pub fn new(plan: Arc<ScanPlan>) -> Self {
        let counts = Counts::zero(&plan);
        let levels = [OUTERMOST; DEPTH_MAX + 1];
        let (varint, state) = (VarintParts::default(), State::Tag);
        Self { plan, at: 0, state, varint, levels, depth: 0, counts, failed: None }
    }

    /// At the first byte of another message of the same plan.
    pub fn restart(&mut self) {
        (self.at, self.state, self.varint) = (0, State::Tag, VarintParts::default());
        // Levels above the depth are written before they are read.
        (self.levels[0], self.depth) = (OUTERMOST, 0);
        (self.counts, self.failed) = (Counts::zero(&self.plan), None);
    }

    /// Bytes of the message so far.
    pub const fn bytes(&self) -> u64 {
        self.at
    }

    /// What was counted so far. True of what was read whatever follows: a limit may be held against it at once.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reads the next piece. After an error every further piece has the same error.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        let fed = self.advance(piece);
        self.failed = fed.err();
        fed
    }

    /// To be asked when the message has ended: its counts, if it ended where a field ended.
    pub fn finish(&mut self) -> Result<Counts, Malformed> {
        if let Some(cause) = self.failed {
            return Err(cause);
        }
        self.leave_messages();
        let complete = self.state == State::Tag && !self.varint.begun() && self.depth == 0;
        if complete { Ok(self.counts) } else { Err(Malformed::Truncated) }
    }

    fn advance(&mut self, mut piece: &[u8]) -> Result<(), Malformed> {
        loop {
            match self.state {
                State::Tag => {
                    self.leave_messages();
                    let Some(varint) = self.varint(&mut piece)? else { return Ok(()) };
                    self.tag(Tag::parse(varint)?)?;
                }
                State::Number => {
                    if self.varint(&mut piece)?.is_none() {
                        return Ok(());
                    }
                    self.state = State::Tag;
                }
                State::Length(tag) => {
                    let Some(length) = self.varint(&mut piece)? else { return Ok(()) };
                    self.length(tag, length)?;
                }
                State::Skip(0) => self.state = State::Tag,
                State::Packed(0, _) => {
                    if self.varint.begun() {
                        return Err(Malformed::Truncated);
                    }
                    self.state = State::Tag;
                }
                State::Skip(_) | State::Packed(..) if piece.is_empty() => return Ok(()),
                State::Skip(left) => {
                    let run = take(&mut piece, left);
                    self.at += run.len() as u64;
                    self.state = State::Skip(left - run.len() as u64);
                }
                State::Packed(left, slot) => {
                    let run = take(&mut piece, left);
                    for byte in run {
                        if self.varint.push(*byte)?.is_some() {
                            self.counts.add(usize::from(slot), 1);
                        }
                    }
                    self.at += run.len() as u64;
                    self.state = State::Packed(left - run.len() as u64, slot);
                }
            }
        }
    }

    /// Bytes from here to the end of the innermost message.
    const fn left(&self) -> u64 {
        self.levels[self.depth].end.saturating_sub(self.at)
    }

    fn leave_messages(&mut self) {
        while self.depth > 0 && self.left() == 0 && !self.varint.begun() {
            self.depth -= 1;
        }
    }

    /// A varint that lies in the innermost message; `None` when more bytes are needed.
    #[inline]
    fn varint(&mut self, piece: &mut &[u8]) -> Result<Option<u64>, Malformed> {
        while let Some((byte, rest)) = piece.split_first() {
            if self.left() == 0 {
                return Err(Malformed::Truncated);
            }
            *piece = rest;
            self.at += 1;
            if let Some(value) = self.varint.push(*byte)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn tag(&mut self, tag: Tag) -> Result<(), Malformed> {
        let action = self.plan.find(self.levels[self.depth].node, tag.number);
        if let Some(action) = action {
            if tag.wire == action.elements.wire() {
                if let Some(slot) = action.slot {
                    self.counts.add(usize::from(slot), 1);
                }
            } else if tag.wire != WireType::Len {
                return Err(Malformed::OtherWireType);
            }
        }
        self.state = match tag.wire {
            WireType::Varint => State::Number,
            WireType::Len => State::Length(tag),
            WireType::I64 => self.fixed(8)?,
            WireType::I32 => self.fixed(4)?,
        };
        Ok(())
    }

    const fn fixed(&self, width: u64) -> Result<State, Malformed> {
        if self.left() < width { Err(Malformed::Truncated) } else { Ok(State::Skip(width)) }
    }

    fn length(&mut self, tag: Tag, length: u64) -> Result<(), Malformed> {
        if length > LENGTH_MAX {
            return Err(Malformed::LengthTooLarge);
        }
        if length > self.left() {
            return Err(Malformed::LengthBeyondEnd);
        }
        self.state = State::Skip(length);
        let Some(action) = self.plan.find(self.levels[self.depth].node, tag.number).copied() else {
            return Ok(());
        };
        let (width, slot) = match (action.elements, action.slot) {
            (Elements::Delimited, _) => {
                if let (Some(node), Some(level)) = (action.inside, self.levels.get_mut(self.depth + 1)) {
                    *level = Level { node, end: self.at + length };
                    self.depth += 1;
                    self.state = State::Tag;
                }
                return Ok(());
            }
            (_, None) => return Ok(()),
            (Elements::Varint, Some(slot)) => {
                self.state = State::Packed(length, slot);
                return Ok(());
            }
            (Elements::Fixed32, Some(slot)) => (4, slot),
            (Elements::Fixed64, Some(slot)) => (8, slot),
        };
        if !length.is_multiple_of(width) {
            return Err(Malformed::PackedLength);
        }
        self.counts.add(usize::from(slot), length / width);
        Ok(())
    }
}

/// At most `left` bytes off the front of `piece`.
#[inline]
fn take<'p>(piece: &mut &'p [u8], left: u64) -> &'p [u8] {
    let (head, rest) = piece.split_at(piece.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
    *piece = rest;
    head
}

#[cfg(test)]
mod tests;
