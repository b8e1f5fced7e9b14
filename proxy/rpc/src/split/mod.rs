//! A large request in parts: cut at its key field, and the replies of the parts put together again.
//!
//! What stays as it is: order and duplicates of the keys, every other field of the request (also unknown ones) byte for
//! byte in every part, every element of a reply byte for byte. What is never guessed: a reply with a field that the plan
//! does not know, or with another number of elements than keys, is an error that says to stop splitting the method
//! ([`MergeError::stops_splitting`]): a wrong place in an array would hand out somebody else's record.

mod any;
mod cut;
mod json;
mod merge;
mod positional;
mod sum;
mod sum_json;

use std::sync::Arc;

pub use self::any::{AnyCut, AnyMerge};
pub use self::cut::{Cut, CutLimits, NoSplit};
pub use self::json::{JsonCut, JsonField, JsonMerge, JsonSplit, Names};
pub use self::merge::{Merge, MergeError};
pub use self::sum::Number;
use crate::scan::Step;

/// Most fields of a reply that is put together.
pub const REPLY_FIELDS_MAX: usize = 64;

/// How the parts of one reply field become one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// One element per key, in the order of the keys: concatenated, and counted against the keys. A field that is absent
    /// from every part stays absent (a service that does not fill it).
    Positional,
    /// Elements of the first part, then of the second, ...
    Concat,
    /// The same without those whose field at this path has come before. Equal elements may be in several parts, because
    /// they belong to several keys.
    Distinct(Vec<Step>),
    /// The value of the first part that has one.
    First,
    /// The sum of the parts.
    Sum(Number),
    /// The value that all parts have in common; an error if they differ.
    Equal,
}

/// A field of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyField {
    /// Its number and how its elements stand on the wire.
    pub step: Step,
    /// Its name, for errors.
    pub name: Box<str>,
    /// Whether it may have more than one element.
    pub repeated: bool,
    /// How its parts become one.
    pub rule: Rule,
}

/// How requests of a method are cut and replies put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitPlan {
    /// The repeated field of the request whose elements are the keys.
    pub key: Step,
    /// Every field of the reply, in the order of their numbers; at most [`REPLY_FIELDS_MAX`].
    pub reply: Vec<ReplyField>,
    /// The same for messages in JSON; `None`: they go whole.
    pub json: Option<Arc<JsonSplit>>,
}
