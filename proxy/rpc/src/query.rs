//! Counts arrays in the query of a URL, as XRPC and others write them: `uris=a&uris=b`, `uris[]=a`, `uris[0]=a`.
//!
//! Nothing is allocated. A name counts however it is percent-encoded; a name without a value counts too.

use crate::headers::PercentDecoded;
use crate::scan::{COUNTS_MAX, Counts, PlanError};

/// Which parameters are counted, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QueryPlan {
    names: Vec<Box<str>>,
}

impl QueryPlan {
    /// At most [`COUNTS_MAX`] names, as they are when decoded.
    pub fn new(names: &[&str]) -> Result<Self, PlanError> {
        if names.len() > COUNTS_MAX {
            return Err(PlanError::TooManyPaths);
        }
        Ok(Self { names: names.iter().map(|name| Box::from(*name)).collect() })
    }

    /// Counts the parameters of `query`: what is between `?` and `#` of a URL.
    pub fn count(&self, query: &[u8]) -> Counts {
        let mut counts = Counts::with_len(self.names.len());
        for parameter in query.split(|byte| *byte == b'&') {
            let name = parameter.split(|byte| *byte == b'=').next().unwrap_or_default();
            if let Some(slot) = self.names.iter().position(|wanted| is_element_of(name, wanted)) {
                counts.add(slot, 1);
            }
        }
        counts
    }
}

/// Whether `name` is `wanted`, `wanted[]` or `wanted[digits]` once decoded.
fn is_element_of(name: &[u8], wanted: &str) -> bool {
    let mut decoded = PercentDecoded::new(name).map(|byte| if byte == b'+' { b' ' } else { byte });
    if !wanted.bytes().all(|byte| decoded.next() == Some(byte)) {
        return false;
    }
    match decoded.next() {
        None => true,
        Some(b'[') => decoded.find(|byte| !byte.is_ascii_digit()) == Some(b']') && decoded.next().is_none(),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_counted_in_every_spelling() {
        let plan = QueryPlan::new(&["uris", "actors"]).unwrap_or_default();
        for (query, uris, actors) in [
            ("", 0, 0),
            ("uris=a", 1, 0),
            ("uris=a&uris=b&actors=c&limit=50", 2, 1),
            ("uris[]=a&uris%5B%5D=b&uris[0]=c&uris%5b17%5D=d", 4, 0),
            ("%75ris=a&u%72is", 2, 0),
            ("urisx=a&uri=b&uris[=c&uris[a]=d&uris[]x=e&uris%=f&x=uris", 0, 0),
            ("&&=&uris=&uris", 2, 0),
            ("uris=a%26uris=b", 1, 0),
        ] {
            assert_eq!(plan.count(query.as_bytes()).by_path(), [uris, actors], "{query}");
        }
        let many = "uris=at%3A%2F%2Fdid&".repeat(20_000);
        assert_eq!(plan.count(many.as_bytes()).total(), 20_000);
        assert_eq!(QueryPlan::new(&["a"; COUNTS_MAX + 1]), Err(PlanError::TooManyPaths));
    }
}
