//! Replies in JSON put together again: members by the numbers of their fields, under the names that the service gave them,
//! elements as they came.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::{JsonField, JsonSplit, Names, NotJson, elements, members, place};
use crate::split::positional::Filled;
use crate::split::{MergeError, Rule, SplitPlan};

/// Longest name of a member in an error, bytes.
const NAME_SHOWN: usize = 64;

const NULL: &str = "null";

/// A member of a reply: where its value lies.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    /// Under which of its names.
    by_proto_name: bool,
    value: Range<usize>,
    /// Of a list: from its first element to its last.
    inside: Range<usize>,
}

/// The reply of one part.
#[derive(Clone, Debug)]
struct Part<B> {
    reply: B,
    /// By field of the plan.
    places: Vec<Option<Place>>,
}

impl<B: AsRef<[u8]>> Part<B> {
    /// The value of a member, which has passed the check.
    fn value(&self, index: usize) -> Option<&str> {
        self.at(&self.places.get(index)?.as_ref()?.value)
    }

    /// The elements of a list, with what stands between them.
    fn inside(&self, index: usize) -> Option<&str> {
        self.at(&self.places.get(index)?.as_ref()?.inside)
    }

    fn at(&self, place: &Range<usize>) -> Option<&str> {
        std::str::from_utf8(self.reply.as_ref().get(place.clone())?).ok()
    }
}

/// The replies of one call, in JSON. `B` is how the caller keeps bytes.
#[derive(Clone, Debug)]
pub struct JsonMerge<B> {
    plan: Arc<SplitPlan>,
    split: Arc<JsonSplit>,
    /// Keys of each part.
    keys: Vec<usize>,
    parts: Vec<Option<Part<B>>>,
    /// By field of the plan.
    filled: Vec<Filled>,
    missing: usize,
    bytes: usize,
    bytes_max: usize,
}

impl<B: AsRef<[u8]>> JsonMerge<B> {
    /// `split`: that of `plan`. `keys`: of each part. `bytes_max`: most bytes of all replies together.
    pub fn new(
        plan: Arc<SplitPlan>,
        split: Arc<JsonSplit>,
        keys: impl IntoIterator<Item = usize>,
        bytes_max: usize,
    ) -> Self {
        let keys: Vec<usize> = keys.into_iter().collect();
        let filled = vec![Filled::Unknown; plan.reply.len()];
        let parts = keys.iter().map(|_| None).collect();
        Self { plan, split, missing: keys.len(), keys, parts, filled, bytes: 0, bytes_max }
    }

    /// Number of parts whose reply has not come.
    pub const fn missing(&self) -> usize {
        self.missing
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

    /// Holds a reply against the plan. Returns where its members lie.
    fn check(&mut self, reply: &[u8], keys: usize) -> Result<Vec<Option<Place>>, MergeError> {
        let text = std::str::from_utf8(reply).map_err(|_| MergeError::NotJson)?;
        let (named, fields) = (&self.split.reply, &self.plan.reply);
        let mut places: Vec<Option<Place>> = vec![None; fields.len()];
        let mut wrong = None;
        members(text, |name, value| {
            if wrong.is_none() {
                wrong = take(text, &name, value, named, &mut places).err();
            }
        })?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        for ((field, place), filled) in fields.iter().zip(&mut places).zip(&mut self.filled) {
            let mut count = 0;
            let value = place.as_ref().and_then(|place| text.get(place.value.clone()));
            if value == Some(NULL) {
                // As good as absent. (Above it was there: a member twice is one too many, whatever it says.)
                *place = None;
            }
            if field.repeated
                && let (Some(place), Some(array)) = (place, value)
            {
                (place.inside, count) = inside(text, array)?;
            }
            if field.rule == Rule::Positional {
                filled.hold(&field.name, keys, count)?;
            }
        }
        Ok(places)
    }

    /// The answer, once every part is there.
    pub fn finish(self) -> Result<Vec<u8>, MergeError> {
        let parts: Vec<Part<B>> = self.parts.into_iter().collect::<Option<_>>().ok_or(MergeError::Parts)?;
        let mut out = Vec::with_capacity(self.bytes);
        out.push(b'{');
        for (index, (field, json)) in self.plan.reply.iter().zip(&self.split.reply).enumerate() {
            let first = parts.iter().find_map(|part| part.places.get(index)?.as_ref());
            let Some(first) = first else { continue };
            if out.len() > 1 {
                out.push(b',');
            }
            let name = if first.by_proto_name { &json.names.proto } else { &json.names.json };
            out.extend_from_slice(serde_json::Value::from(&**name).to_string().as_bytes());
            out.push(b':');
            match &field.rule {
                Rule::Positional | Rule::Concat => {
                    list(parts.iter().filter_map(|part| part.inside(index)), &mut out);
                }
                Rule::Distinct(_) => list(distinct(&parts, index, &json.path)?.into_iter(), &mut out),
                Rule::First => out.extend_from_slice(first_of(&parts, index, json).as_bytes()),
                Rule::Equal => out.extend_from_slice(equal(&parts, index, &field.name)?.as_bytes()),
                Rule::Sum(number) => {
                    let mut sum = number.zero();
                    for value in parts.iter().filter_map(|part| part.value(index)) {
                        number.add_json(&mut sum, value).ok_or(MergeError::NotJson)?;
                    }
                    let written = number.json(sum);
                    let too_large = || MergeError::SumTooLarge { field: field.name.clone() };
                    out.extend_from_slice(written.ok_or_else(too_large)?.as_bytes());
                }
            }
        }
        out.push(b'}');
        Ok(out)
    }
}

/// Notes a member of a reply.
fn take(
    text: &str,
    name: &str,
    value: &str,
    fields: &[JsonField],
    places: &mut [Option<Place>],
) -> Result<(), MergeError> {
    let mut known = fields.iter().zip(places).filter(|(field, _)| field.names.is(name));
    let Some((field, place_of)) = known.next() else {
        let name = name.get(..name.floor_char_boundary(NAME_SHOWN)).unwrap_or_default().into();
        return Err(MergeError::UnknownName { name });
    };
    if place_of.is_some() {
        return Err(MergeError::NotJson);
    }
    let start = place(text, value);
    let by_proto_name = *field.names.json != *name;
    *place_of = Some(Place { by_proto_name, value: start..start + value.len(), inside: start..start });
    Ok(())
}

/// From the first element of `array`, which is a piece of `text`, to the last; and how many there are.
fn inside(text: &str, array: &str) -> Result<(Range<usize>, u64), NotJson> {
    let start = place(text, array);
    let (mut range, mut count) = (start..start, 0);
    elements(array, |element| {
        let start = place(text, element);
        if count == 0 {
            range.start = start;
        }
        range.end = start + element.len();
        count += 1;
    })?;
    Ok((range, count))
}

/// An array of these elements, or runs of them; an empty one is none.
fn list<'v>(runs: impl Iterator<Item = &'v str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, run) in runs.filter(|run| !run.is_empty()).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(run.as_bytes());
    }
    out.push(b']');
}

/// The elements whose value at the path has not come before.
fn distinct<'p, B: AsRef<[u8]>>(
    parts: &'p [Part<B>],
    index: usize,
    path: &[Names],
) -> Result<Vec<&'p str>, MergeError> {
    let (mut seen, mut kept, mut wrong) = (BTreeSet::new(), Vec::new(), None);
    for array in parts.iter().filter_map(|part| part.value(index)) {
        elements(array, |element| match value_at(element, path) {
            Ok(value) => {
                if seen.insert(value) {
                    kept.push(element);
                }
            }
            Err(error) => wrong = Some(error),
        })?;
    }
    match wrong {
        Some(NotJson) => Err(MergeError::NotJson),
        None => Ok(kept),
    }
}

/// What the value at `path` in an element means; an absent one means the empty text, its default.
fn value_at(element: &str, path: &[Names]) -> Result<String, NotJson> {
    let mut value = element;
    for names in path {
        let mut found = NULL;
        if value != NULL {
            members(value, |name, member| {
                if names.is(&name) {
                    found = member;
                }
            })?;
        }
        value = found;
    }
    if value == NULL || value == "\"\"" {
        return Ok(String::new());
    }
    meaning(value)
}

/// The same text for values that differ in white space, escapes or the order of members only.
fn meaning(value: &str) -> Result<String, NotJson> {
    let value: serde_json::Value = serde_json::from_str(value).map_err(|_| NotJson)?;
    Ok(value.to_string())
}

/// The value of the first part that has one; of a field without presence one that is not its default, if there is any.
fn first_of<'p, B: AsRef<[u8]>>(parts: &'p [Part<B>], index: usize, field: &JsonField) -> &'p str {
    let is_default = |value: &str| {
        let zero = field.zero.as_deref() == Some(value);
        !field.presence && (zero || matches!(value, "\"\"" | "0" | "\"0\"" | "0.0" | "false"))
    };
    let values: Vec<&str> = parts.iter().filter_map(|part| part.value(index)).collect();
    let first = values.iter().find(|value| !is_default(value)).or_else(|| values.first());
    first.copied().unwrap_or(NULL)
}

/// The value that all parts have in common.
fn equal<'p, B: AsRef<[u8]>>(parts: &'p [Part<B>], index: usize, name: &str) -> Result<&'p str, MergeError> {
    let mut values = parts.iter().map(|part| part.value(index).unwrap_or(NULL));
    let first = values.next().unwrap_or(NULL);
    let wanted = meaning(first)?;
    for value in values {
        if value != first && meaning(value)? != wanted {
            return Err(MergeError::NotEqual { field: name.into() });
        }
    }
    Ok(first)
}

impl From<NotJson> for MergeError {
    fn from(NotJson: NotJson) -> Self {
        MergeError::NotJson
    }
}
