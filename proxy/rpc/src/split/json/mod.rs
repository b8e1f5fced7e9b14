//! The same for messages in JSON (protobuf's mapping): requests cut at the array of their keys, replies put together member
//! by member. Elements are moved as they are; only what a rule compares or adds up is looked into.
//!
//! What the mapping leaves open is taken as runtimes take it: a member is known by its lowerCamelCase name and by that of
//! the .proto file, `null` is an absent member. What it does not (a member twice, one that nobody described, a list that is
//! no array) is never guessed: a request goes whole, a reply stops the splitting of its method.
//!
//! Memory: of a request the places of its parts, of a reply one place per field.

mod cut;
mod merge;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Deserialize, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use self::cut::JsonCut;
pub use self::merge::JsonMerge;

/// Both names of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// As JSON is written: lowerCamelCase, or what the .proto file says.
    pub json: Box<str>,
    /// As it stands in the .proto file; read, too.
    pub proto: Box<str>,
}

impl Names {
    /// Whether a member of this name is the field.
    pub fn is(&self, name: &str) -> bool {
        *self.json == *name || *self.proto == *name
    }

    /// Whether some member would be both fields.
    pub fn meets(&self, other: &Self) -> bool {
        self.is(&other.json) || self.is(&other.proto)
    }
}

/// A field of a reply, beside what [`super::ReplyField`] says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonField {
    /// What members it is.
    pub names: Names,
    /// Of [`super::Rule::Distinct`]: the names on its path.
    pub path: Vec<Names>,
    /// Whether being there with its default means something; else it is as good as absent.
    pub presence: bool,
    /// Of an enum: its default, as JSON has it (`"FEED_TYPE_UNSPECIFIED"`, with the quotes).
    pub zero: Option<Box<str>>,
}

/// What is asked of JSON to split a method.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonSplit {
    /// The member of the request whose elements are the keys.
    pub key: Names,
    /// Every field of the reply, in the order of [`super::SplitPlan::reply`].
    pub reply: Vec<JsonField>,
}

/// A text is no JSON of the kind that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotJson;

/// The name of a member, with its escapes undone.
struct Name<'t>(Cow<'t, str>);

impl<'t> Deserialize<'t> for Name<'t> {
    fn deserialize<D: serde::Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'t> Visitor<'t> for Text {
            type Value = Name<'t>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'t str) -> Result<Name<'t>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'t>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Hands on each member of an object.
struct Members<F>(F);

impl<'t, F: FnMut(Cow<'t, str>, &'t str)> Visitor<'t> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'t>>()? {
            let value: &'t RawValue = map.next_value()?;
            (self.0)(name, value.get());
        }
        Ok(())
    }
}

/// Hands on each element of an array.
struct Each<F>(F);

impl<'t, F: FnMut(&'t str)> Visitor<'t> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'t>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&'t RawValue>()? {
            (self.0)(element.get());
        }
        Ok(())
    }
}

/// Reads an object: names and values, as they stand in `text`. Nothing is kept.
fn members<'t>(text: &'t str, each: impl FnMut(Cow<'t, str>, &'t str)) -> Result<(), NotJson> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Members(each)).map_err(|_| NotJson)?;
    reader.end().map_err(|_| NotJson)
}

/// Reads an array: its elements, as they stand in `text`. Nothing is kept.
fn elements<'t>(text: &'t str, each: impl FnMut(&'t str)) -> Result<(), NotJson> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_seq(Each(each)).map_err(|_| NotJson)?;
    reader.end().map_err(|_| NotJson)
}

/// Where `inner`, which is a piece of `text`, begins in it.
fn place(text: &str, inner: &str) -> usize {
    inner.as_ptr().addr().wrapping_sub(text.as_ptr().addr())
}
