//! Cut and merge in the encoding of a call.

use std::sync::Arc;

use super::{Cut, CutLimits, JsonCut, JsonMerge, Merge, MergeError, NoSplit, SplitPlan};
use crate::content::Codec;

/// A request that has been cut, in whatever encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AnyCut {
    /// Protobuf.
    Proto(Cut),
    /// JSON.
    Json(JsonCut),
}

impl AnyCut {
    /// Finds the parts of `message`. A method whose messages cannot be split in this encoding is [`NoSplit::Encoding`].
    pub fn new(plan: &SplitPlan, codec: Codec, message: &[u8], limits: CutLimits) -> Result<Self, NoSplit> {
        match (codec, &plan.json) {
            (Codec::Proto, _) => Cut::new(plan, message, limits).map(AnyCut::Proto),
            (Codec::Json, Some(json)) => JsonCut::new(json, message, limits).map(AnyCut::Json),
            _ => Err(NoSplit::Encoding),
        }
    }

    /// Number of parts; at least two.
    pub const fn len(&self) -> usize {
        match self {
            AnyCut::Proto(cut) => cut.len(),
            AnyCut::Json(cut) => cut.len(),
        }
    }

    /// Never: a request of one part is not cut.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys of each part, in their order.
    pub fn keys(&self) -> Vec<usize> {
        match self {
            AnyCut::Proto(cut) => cut.keys().collect(),
            AnyCut::Json(cut) => cut.keys().collect(),
        }
    }

    /// Appends the message of one part. `message` is the one that was cut.
    pub fn write(&self, part: usize, message: &[u8], out: &mut Vec<u8>) {
        match self {
            AnyCut::Proto(cut) => cut.write(part, message, out),
            AnyCut::Json(cut) => cut.write(part, message, out),
        }
    }
}

/// The replies of one call, in the encoding of its request.
#[derive(Clone, Debug)]
pub enum AnyMerge<B> {
    /// Protobuf.
    Proto(Merge<B>),
    /// JSON.
    Json(JsonMerge<B>),
}

impl<B: AsRef<[u8]>> AnyMerge<B> {
    /// For the replies to the parts of `cut`. `bytes_max`: most bytes of all replies together.
    pub fn new(plan: &Arc<SplitPlan>, cut: &AnyCut, bytes_max: usize) -> Self {
        let (own, keys) = (Arc::clone(plan), cut.keys());
        match (cut, &plan.json) {
            (AnyCut::Json(_), Some(json)) => {
                AnyMerge::Json(JsonMerge::new(own, Arc::clone(json), keys, bytes_max))
            }
            _ => AnyMerge::Proto(Merge::new(own, keys, bytes_max)),
        }
    }

    /// Number of parts whose reply has not come.
    pub const fn missing(&self) -> usize {
        match self {
            AnyMerge::Proto(merge) => merge.missing(),
            AnyMerge::Json(merge) => merge.missing(),
        }
    }

    /// Takes the reply of a part, in any order of the parts. After an error the call has failed.
    pub fn add(&mut self, part: usize, reply: B) -> Result<(), MergeError> {
        match self {
            AnyMerge::Proto(merge) => merge.add(part, reply),
            AnyMerge::Json(merge) => merge.add(part, reply),
        }
    }

    /// The answer, once every part is there.
    pub fn finish(self) -> Result<Vec<u8>, MergeError> {
        match self {
            AnyMerge::Proto(merge) => merge.finish(),
            AnyMerge::Json(merge) => merge.finish(),
        }
    }
}
