//! Replies of the parts put together again, byte for byte where that is possible.
//!
//! A reply is checked when it arrives and then kept as it is; the whole is written once, field by field in the order of
//! their numbers, as protobuf runtimes write it. Messages, strings and bytes are copied with their tags; packed numbers get
//! one run. Memory: the replies, the answer, and a few words per field and part.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::positional::Filled;
use super::{ReplyField, Rule, SplitPlan};
use crate::error::Malformed;
use crate::scan::Step;
use crate::wire::{Elements, Field, Fields, Tag, WireType, write_varint};

/// Why replies cannot be put together. The call fails: there is no answer of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MergeError {
    /// A field that the plan does not know: the service is newer than its descriptor.
    UnknownField {
        /// Its number.
        number: u32,
    },
    /// A positional field has another number of elements than its part has keys.
    LengthMismatch {
        /// Its name.
        field: Box<str>,
        /// Keys of the part.
        keys: usize,
        /// Elements in the reply.
        elements: u64,
    },
    /// A field that is the same for all keys differs between parts.
    NotEqual {
        /// Its name.
        field: Box<str>,
    },
    /// A sum that its type cannot hold.
    SumTooLarge {
        /// Its name.
        field: Box<str>,
    },
    /// The same of a reply in JSON.
    UnknownName {
        /// Its name; a long one is cut.
        name: Box<str>,
    },
    /// A reply that cannot be read.
    Malformed(Malformed),
    /// A reply that is no JSON object with each field once and lists as arrays.
    NotJson,
    /// The replies are larger together than allowed.
    TooLarge {
        /// What is allowed, bytes.
        max: usize,
    },
    /// The reply of a part is missing, came twice, or belongs to no part: a fault of the caller.
    Parts,
}

impl MergeError {
    /// Whether the method must not be split any more: its description is wrong, and the next call would fail alike. False
    /// for a limit.
    pub const fn stops_splitting(&self) -> bool {
        !matches!(self, MergeError::TooLarge { .. } | MergeError::Parts)
    }

    /// A bounded label for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            MergeError::UnknownField { .. } | MergeError::UnknownName { .. } => "unknown_field",
            MergeError::LengthMismatch { .. } => "length_mismatch",
            MergeError::NotEqual { .. } => "not_equal",
            MergeError::SumTooLarge { .. } => "sum_too_large",
            MergeError::Malformed(_) | MergeError::NotJson => "malformed",
            MergeError::TooLarge { .. } => "reply_too_large",
            MergeError::Parts => "parts",
        }
    }
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::UnknownField { number } => {
                write!(f, "the reply has a field {number} that is not in its descriptor")
            }
            MergeError::UnknownName { name } => {
                write!(f, "the reply has a field {name:?} that is not in its descriptor")
            }
            MergeError::LengthMismatch { field, keys, elements } => {
                write!(f, "{field} has {elements} elements for {keys} keys")
            }
            MergeError::NotEqual { field } => write!(f, "{field} differs between parts"),
            MergeError::SumTooLarge { field } => write!(f, "the sum of {field} does not fit its type"),
            MergeError::Malformed(cause) => write!(f, "a reply cannot be read: {cause}"),
            MergeError::NotJson => {
                f.write_str("a reply is not one JSON object with each field once and lists as arrays")
            }
            MergeError::TooLarge { max } => write!(f, "the replies have more than {max} bytes together"),
            MergeError::Parts => f.write_str("not exactly one reply for each part"),
        }
    }
}

impl std::error::Error for MergeError {}

impl From<Malformed> for MergeError {
    fn from(cause: Malformed) -> Self {
        MergeError::Malformed(cause)
    }
}

/// The reply of one part.
#[derive(Clone, Debug)]
struct Part<B> {
    reply: B,
    /// Where each field of the plan lies, if fields come in the order of their numbers (what runtimes write); else they
    /// are looked for.
    places: Option<Vec<Range<usize>>>,
}

impl<B: AsRef<[u8]>> Part<B> {
    /// The occurrences of the field at `index` of the plan, which has passed the check.
    fn fields(&self, index: usize, number: u32) -> impl Iterator<Item = (Field, &[u8])> {
        let reply = self.reply.as_ref();
        let place = match &self.places {
            Some(places) => places.get(index).cloned().unwrap_or_default(),
            None => 0..reply.len(),
        };
        let within = reply.get(..place.end).unwrap_or_default();
        let fields = Fields::starting(within, place.start).flatten();
        fields.filter(move |field| field.tag.number == number).map(move |field| {
            let bytes = within.get(field.range()).unwrap_or_default();
            (field, bytes)
        })
    }

    /// The same as one piece, where they lie together.
    fn together(&self, index: usize) -> Option<&[u8]> {
        let place = self.places.as_ref()?.get(index)?.clone();
        self.reply.as_ref().get(place)
    }

    fn value(&self, field: &Field) -> &[u8] {
        self.reply.as_ref().get(field.value.clone()).unwrap_or_default()
    }
}

/// The replies of one call. `B` is how the caller keeps bytes.
#[derive(Clone, Debug)]
pub struct Merge<B> {
    plan: Arc<SplitPlan>,
    /// Keys of each part.
    keys: Vec<usize>,
    parts: Vec<Option<Part<B>>>,
    /// By field of the plan.
    filled: Vec<Filled>,
    missing: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<B: AsRef<[u8]>> Merge<B> {
    /// `keys`: of each part, as [`super::Cut::keys`] says. `bytes_max`: most bytes of all replies together.
    pub fn new(plan: Arc<SplitPlan>, keys: impl IntoIterator<Item = usize>, bytes_max: usize) -> Self {
        let keys: Vec<usize> = keys.into_iter().collect();
        let filled = vec![Filled::Unknown; plan.reply.len()];
        let parts = keys.iter().map(|_| None).collect();
        Self { plan, missing: keys.len(), keys, parts, filled, bytes: 0, bytes_max }
    }

    /// Number of parts whose reply has not come.
    pub const fn missing(&self) -> usize {
        self.missing
    }

    /// Bytes of the replies that have come.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the reply of a part, in any order of the parts. After an error the call has failed.
    pub fn add(&mut self, part: usize, reply: B) -> Result<(), MergeError> {
        let (Some(None), Some(keys)) = (self.parts.get(part), self.keys.get(part).copied()) else {
            return Err(MergeError::Parts);
        };
        let bytes = self.bytes.saturating_add(reply.as_ref().len());
        if bytes > self.bytes_max {
            return Err(MergeError::TooLarge { max: self.bytes_max });
        }
        let places = self.check(reply.as_ref(), keys)?;
        if let Some(place) = self.parts.get_mut(part) {
            *place = Some(Part { reply, places });
        }
        self.bytes = bytes;
        self.missing -= 1;
        Ok(())
    }

    /// Holds a reply against the plan. Returns where its fields lie if they come in order.
    fn check(&mut self, reply: &[u8], keys: usize) -> Result<Option<Vec<Range<usize>>>, MergeError> {
        let fields = &self.plan.reply;
        let mut counts = vec![0_u64; fields.len()];
        let mut places = vec![0..0; fields.len()];
        let (mut in_order, mut last) = (true, 0);
        for field in Fields::new(reply) {
            let field = field?;
            let number = field.tag.number;
            // Mostly the field of the element before.
            let known = fields.get(last).filter(|known| known.step.number == number).map(|_| last);
            let known = known.or_else(|| fields.iter().position(|known| known.step.number == number));
            let index = known.ok_or(MergeError::UnknownField { number })?;
            in_order &= index >= last;
            last = index;
            let (Some(known), Some(count), Some(place)) =
                (fields.get(index), counts.get_mut(index), places.get_mut(index))
            else {
                return Err(MergeError::UnknownField { number });
            };
            let value = reply.get(field.value.clone()).unwrap_or_default();
            let elements = known.step.elements.in_field(field.tag.wire, value)?;
            if !known.repeated && field.tag.wire != known.step.elements.wire() {
                return Err(Malformed::OtherWireType.into());
            }
            *count += elements;
            *place = if place.end == 0 { field.range() } else { place.start..field.value.end };
        }
        for ((field, elements), filled) in fields.iter().zip(counts).zip(&mut self.filled) {
            if field.rule == Rule::Positional {
                filled.hold(&field.name, keys, elements)?;
            }
        }
        Ok(in_order.then_some(places))
    }

    /// The answer, once every part is there.
    pub fn finish(self) -> Result<Vec<u8>, MergeError> {
        let parts: Vec<Part<B>> = self.parts.into_iter().collect::<Option<_>>().ok_or(MergeError::Parts)?;
        let mut out = Vec::with_capacity(self.bytes);
        for (index, field) in self.plan.reply.iter().enumerate() {
            match &field.rule {
                Rule::Positional | Rule::Concat => concatenate(&parts, index, field, &mut out),
                Rule::Distinct(key) => distinct(&parts, index, field, key, &mut out)?,
                Rule::First => {
                    let number = field.step.number;
                    let first = parts.iter().find(|part| part.fields(index, number).next().is_some());
                    first.into_iter().for_each(|part| copy(part, index, number, &mut out));
                }
                Rule::Equal => equal(&parts, index, field, &mut out)?,
                Rule::Sum(number) => {
                    let (mut sum, mut any) = (number.zero(), false);
                    for part in &parts {
                        // Of several occurrences the last one counts.
                        if let Some((last, _)) = part.fields(index, field.step.number).last() {
                            number.add(&mut sum, part.value(&last))?;
                            any = true;
                        }
                    }
                    if any {
                        let written = number.write(field.step, sum, &mut out);
                        written.ok_or_else(|| MergeError::SumTooLarge { field: field.name.clone() })?;
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Every occurrence in one part, as it is.
fn copy<B: AsRef<[u8]>>(part: &Part<B>, index: usize, number: u32, out: &mut Vec<u8>) {
    match part.together(index) {
        Some(bytes) => out.extend_from_slice(bytes),
        None => part.fields(index, number).for_each(|(_, bytes)| out.extend_from_slice(bytes)),
    }
}

fn concatenate<B: AsRef<[u8]>>(parts: &[Part<B>], index: usize, field: &ReplyField, out: &mut Vec<u8>) {
    let number = field.step.number;
    if field.step.elements == Elements::Delimited {
        return parts.iter().for_each(|part| copy(part, index, number, out));
    }
    // Numbers, packed or not, become one packed run: a value has the same bytes in both.
    let values = || {
        let fields =
            parts.iter().flat_map(|part| part.fields(index, number).map(move |(field, _)| (part, field)));
        fields.map(|(part, field)| part.value(&field))
    };
    let length: usize = values().map(<[u8]>::len).sum();
    if length > 0 {
        Tag { number, wire: WireType::Len }.write(out);
        write_varint(length as u64, out);
        values().for_each(|value| out.extend_from_slice(value));
    }
}

fn equal<B: AsRef<[u8]>>(
    parts: &[Part<B>],
    index: usize,
    field: &ReplyField,
    out: &mut Vec<u8>,
) -> Result<(), MergeError> {
    let start = out.len();
    let mut other = Vec::new();
    for (nth, part) in parts.iter().enumerate() {
        if nth == 0 {
            copy(part, index, field.step.number, out);
            continue;
        }
        other.clear();
        copy(part, index, field.step.number, &mut other);
        if out.get(start..) != Some(&*other) {
            return Err(MergeError::NotEqual { field: field.name.clone() });
        }
    }
    Ok(())
}

fn distinct<B: AsRef<[u8]>>(
    parts: &[Part<B>],
    index: usize,
    field: &ReplyField,
    key: &[Step],
    out: &mut Vec<u8>,
) -> Result<(), MergeError> {
    let mut seen = BTreeSet::new();
    for part in parts {
        for (element, bytes) in part.fields(index, field.step.number) {
            if seen.insert(value_at(part.value(&element), key)?) {
                out.extend_from_slice(bytes);
            }
        }
    }
    Ok(())
}

/// The value of the field at `path` in `message`, of several the last; empty if it is absent, as its default is.
fn value_at<'m>(mut message: &'m [u8], path: &[Step]) -> Result<&'m [u8], Malformed> {
    for step in path {
        let mut found: &[u8] = &[];
        for field in Fields::new(message) {
            let field = field?;
            if field.tag.number == step.number {
                if field.tag.wire != step.elements.wire() {
                    return Err(Malformed::OtherWireType);
                }
                found = message.get(field.value).unwrap_or_default();
            }
        }
        message = found;
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
