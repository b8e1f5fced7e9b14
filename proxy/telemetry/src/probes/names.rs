//! Label values of rows, folded as the catalogue says. A slot is kept for the life of the process; names that are
//! reserved (watched destinations, configured namespaces) find one however many strangers came before.

use super::catalogue::CAPPED_LABELS;
use crate::catalogue::{LabelInfo, Values};
use crate::labels::{INVALID, Label, OTHER, is_valid_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest value of a label that is not a name from outside, in bytes.
const TEXT_MAX: usize = 128;

/// Names that have a slot, by label. Labels of one name share their slots over all metrics.
#[derive(Debug)]
pub(super) struct Names {
    taken: BTreeMap<&'static str, BTreeSet<Arc<str>>>,
    overflow: BTreeMap<&'static str, u64>,
}

impl Names {
    pub(super) fn new() -> Names {
        let overflow = CAPPED_LABELS.iter().map(|label| (*label, 0)).collect();
        Names { taken: BTreeMap::new(), overflow }
    }

    /// How often each label, and the series of a metric, had no room.
    pub(super) fn overflow(&self) -> &BTreeMap<&'static str, u64> {
        &self.overflow
    }

    /// Gives a name a slot even above the cap: for names of the configuration, which bounds them itself.
    pub(super) fn reserve(&mut self, label: &'static str, name: &str) {
        self.taken.entry(label).or_default().insert(name.into());
    }

    /// The value of a label for `text`.
    pub(super) fn fold(&mut self, info: &LabelInfo, text: &str) -> Label {
        if text == OTHER {
            return OTHER.into();
        }
        match info.values {
            Values::Listed(list) => {
                list.iter().find(|value| **value == text).map_or(INVALID.into(), |value| (*value).into())
            }
            Values::Capped(_) if !is_valid_name(text) => INVALID.into(),
            // Addresses and words of the code; whatever is neither was never meant to be shown.
            Values::Configured(_) if text.len() > TEXT_MAX || text.contains(char::is_control) => {
                INVALID.into()
            }
            Values::Capped(cap) | Values::Configured(cap) => self.slot(info.name, text, cap),
            Values::Given(_) | Values::Single(_) => Label::Name(text.into()),
        }
    }

    fn slot(&mut self, label: &'static str, text: &str, cap: usize) -> Label {
        let taken = self.taken.entry(label).or_default();
        if let Some(name) = taken.get(text) {
            return Label::Name(name.clone());
        }
        if taken.len() >= cap {
            self.overflowed(label);
            return OTHER.into();
        }
        let name: Arc<str> = text.into();
        taken.insert(name.clone());
        Label::Name(name)
    }

    /// Counts a name, or a series, that found no room.
    pub(super) fn overflowed(&mut self, label: &'static str) {
        *self.overflow.entry(label).or_insert(0) += 1;
    }
}
