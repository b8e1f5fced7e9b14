//! The keys that page states of split requests are authenticated with: the one in force, and the one before it.
//!
//! Clients hold page states while the key is changed (another `paging_key_file`, other content, or none any more). What
//! was made with the key before is read for [`PREVIOUS_KEPT`] after the change; later it is refused like a state of
//! a weir with another key. Only one key is remembered: after two changes the first is gone.

use super::split::PageKey;
use crate::settings::ClusterSettings;
use crate::units::{Instant, Span};

/// How long states made with the key before a change are read. Longer than anybody reads pages, and short enough that
/// a key which was changed because it became known is soon worth nothing.
pub(super) const PREVIOUS_KEPT: Span = Span::secs(3_600);

/// The keys of one cluster.
#[derive(Debug)]
pub(super) struct PageKeys {
    current: PageKey,
    previous: Option<(PageKey, Instant)>,
}

impl PageKeys {
    /// The key of these settings.
    pub(super) fn of(settings: &ClusterSettings) -> PageKeys {
        PageKeys { current: key_of(settings), previous: None }
    }

    /// Takes over new settings. The same key again changes nothing.
    pub(super) fn take(&mut self, settings: &ClusterSettings, now: Instant) {
        let new = key_of(settings);
        if new != self.current {
            let old = std::mem::replace(&mut self.current, new);
            self.previous = Some((old, now.after(PREVIOUS_KEPT)));
        }
    }

    /// What new states are made with.
    pub(super) fn current(&self) -> &PageKey {
        &self.current
    }

    /// What states may have been made with before, as long as they are read.
    pub(super) fn previous(&self, now: Instant) -> Option<&PageKey> {
        self.previous.as_ref().filter(|(_, until)| now < *until).map(|(key, _)| key)
    }
}

fn key_of(settings: &ClusterSettings) -> PageKey {
    settings.page_key.clone().unwrap_or_else(|| PageKey::of_cluster(&settings.name))
}
