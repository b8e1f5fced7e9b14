//! What is wrong with a table.

use std::fmt;

/// How alike a suggested name must be: two letters swapped or missing in a short name pass, another name does not.
const ALIKE: f64 = 0.8;

/// One problem: where, what, and what may have been meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// `package.Service/Method`, or what stands in its place.
    pub method: String,
    /// The key of its entry: `keys`, `merge.op_threads`; empty for the entry itself.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// The name that may have been meant.
    pub suggestion: Option<String>,
}

impl Problem {
    pub(super) fn new(method: &str, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { method: method.to_owned(), key: key.into(), what: what.into(), suggestion: None }
    }

    /// Suggests the candidate that is most like `name`, if one is like it at all.
    pub(super) fn like<'c>(mut self, name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Self {
        let scored = candidates.into_iter().map(|known| (strsim::jaro_winkler(name, known), known));
        let best = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
        self.suggestion = best.map(|(_, known)| known.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "method {}: ", self.method)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}
