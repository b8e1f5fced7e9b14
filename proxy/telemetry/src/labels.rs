//! Label values that come from outside: the rule for names, and the cap on how many of them become series.
//!
//! A label value is never free text. A name that breaks the rule becomes [`INVALID`]; a name beyond the cap becomes
//! [`OTHER`] and is counted in `weir_label_overflow_total{label}`. Configured names get their slot first, so that no
//! crowd of strangers can push them out. Slots are kept for the life of the process: a series never changes meaning.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stands for every name beyond the cap.
pub const OTHER: &str = "_other";
/// Stands for every name that breaks [`is_valid_name`].
pub const INVALID: &str = "_invalid";
/// Longest name, in bytes.
pub const NAME_MAX: usize = 64;

/// Whether a name from outside may be a label value: `[A-Za-z0-9._:/@-]{1,64}`, and none of weir's own two words.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'/' | b'@' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed) && name != OTHER && name != INVALID
}

/// One label value. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub enum Label {
    /// From a closed list.
    Fixed(&'static str),
    /// From outside, already through the rule and the cap.
    Name(Arc<str>),
}

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Label::Fixed(text) => text,
            Label::Name(text) => text,
        }
    }
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Label {
        Label::Fixed(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// Equal by text: whether a value was interned says nothing about the series.
impl PartialEq for Label {
    fn eq(&self, other: &Label) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Label {}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Label) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Label) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Label {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

/// A bounded table from name to handle. Resolving takes a lock: do it once per connection, never per request.
#[derive(Debug)]
pub struct BoundedNames<H> {
    cap: usize,
    state: Mutex<Names<H>>,
    other: Arc<H>,
    invalid: Option<Arc<H>>,
    overflow: Counter,
}

#[derive(Debug)]
struct Names<H> {
    by_name: HashMap<Arc<str>, Arc<H>>,
    in_order: Vec<Arc<H>>,
}

impl<H> BoundedNames<H> {
    /// A table of at most `cap` names, plus `other`, plus `invalid` where names from outside must obey the rule
    /// (without it, any text is taken: names an operator wrote, such as a backend's address).
    pub fn new(cap: usize, other: Arc<H>, invalid: Option<Arc<H>>, overflow: Counter) -> BoundedNames<H> {
        let names = Names { by_name: HashMap::new(), in_order: Vec::new() };
        BoundedNames { cap, state: Mutex::new(names), other, invalid, overflow }
    }

    /// The handle of `name`; made by `make` (given the label and its index from 0) when the name is new and a slot
    /// is free. Overflow is counted once per call that ends in `_other`.
    pub fn resolve(&self, name: &str, make: impl FnOnce(Label, usize) -> H) -> Arc<H> {
        if let Some(invalid) = &self.invalid
            && !is_valid_name(name)
        {
            return invalid.clone();
        }
        if name == OTHER {
            return self.other.clone();
        }
        let mut names = self.lock();
        if let Some(handle) = names.by_name.get(name) {
            return handle.clone();
        }
        if names.in_order.len() >= self.cap {
            drop(names);
            self.overflow.inc();
            return self.other.clone();
        }
        Self::insert(&mut names, name, make)
    }

    /// Like [`Self::resolve`], but a slot is always found: for names from the configuration.
    pub fn reserve(&self, name: &str, make: impl FnOnce(Label, usize) -> H) -> Arc<H> {
        if let Some(invalid) = &self.invalid
            && !is_valid_name(name)
        {
            return invalid.clone();
        }
        let mut names = self.lock();
        if let Some(handle) = names.by_name.get(name) {
            return handle.clone();
        }
        Self::insert(&mut names, name, make)
    }

    fn insert(names: &mut Names<H>, name: &str, make: impl FnOnce(Label, usize) -> H) -> Arc<H> {
        let text: Arc<str> = name.into();
        let handle = Arc::new(make(Label::Name(text.clone()), names.in_order.len()));
        names.by_name.insert(text, handle.clone());
        names.in_order.push(handle.clone());
        handle
    }

    /// The handle every name beyond the cap shares.
    #[must_use]
    pub fn other(&self) -> &Arc<H> {
        &self.other
    }

    /// Every handle: named ones in order of appearance, then `_other`, then `_invalid`.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<H>> {
        let mut all = self.lock().in_order.clone();
        all.push(self.other.clone());
        all.extend(self.invalid.clone());
        all
    }

    // A panic while the lock was held leaves a table that is still whole: insertion is the last step.
    fn lock(&self) -> MutexGuard<'_, Names<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
