//! Methods that an operator switched off for a while (`weir deny METHOD --for 30m`): their calls are refused before
//! anything is read of them.
//!
//! They are answered RESOURCE_EXHAUSTED with RetryInfo of the time that is left, not UNAVAILABLE: that one tells clients
//! that another try may help, and the clients of record try three times at once. Whoever switches a method off wants it
//! quieter, not three times as loud.

use crate::units::Instant;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Methods that may be switched off at once.
pub const DENIED_MAX: usize = 64;
/// Longest reason that is kept, bytes.
pub const REASON_MAX: usize = 200;
/// Longest name of a method that can be switched off, bytes.
pub const METHOD_MAX: usize = 256;

/// One method that is switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The method, as in `bsky.Service/GetTimeline`; described or not.
    pub method: Arc<str>,
    /// Why, for clients and operators; without control characters.
    pub reason: Arc<str>,
    /// Since when.
    pub since: Instant,
    /// When it is served again.
    pub until: Instant,
    /// Calls refused so far.
    pub refused: u64,
}

/// Why a method was not switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDenied {
    /// [`DENIED_MAX`] others are.
    Full,
    /// The name is empty, longer than [`METHOD_MAX`] or has other characters than a path may have.
    NotAMethod,
    /// It would be over already.
    Past,
}

/// The methods that are switched off.
#[derive(Debug, Default)]
pub struct DenyList {
    by_method: FxHashMap<Arc<str>, Denied>,
}

impl DenyList {
    /// Switches a method off; where it is already, `until` and `reason` are the new ones.
    ///
    /// # Errors
    /// [`NotDenied`], and nothing is changed.
    pub fn deny(
        &mut self,
        method: &str,
        reason: &str,
        until: Instant,
        now: Instant,
    ) -> Result<(), NotDenied> {
        let method = super::methods::method_of_path(method);
        let fits =
            (1..=METHOD_MAX).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(NotDenied::NotAMethod);
        }
        if until <= now {
            return Err(NotDenied::Past);
        }
        self.expire(now);
        let reason: Arc<str> = shown(reason).into();
        if let Some(denied) = self.by_method.get_mut(method) {
            (denied.reason, denied.until) = (reason, until);
            return Ok(());
        }
        if self.by_method.len() >= DENIED_MAX {
            return Err(NotDenied::Full);
        }
        let method: Arc<str> = method.into();
        let denied = Denied { method: method.clone(), reason, since: now, until, refused: 0 };
        self.by_method.insert(method, denied);
        Ok(())
    }

    /// Serves a method again; whether it was switched off.
    pub fn allow(&mut self, method: &str) -> bool {
        self.by_method.remove(super::methods::method_of_path(method)).is_some()
    }

    /// What a call of this method is refused with, counted as one.
    pub(super) fn refuses(&mut self, method: &str, now: Instant) -> Option<&Denied> {
        if self.by_method.is_empty() {
            return None; // the usual case
        }
        if self.by_method.get(method)?.until <= now {
            self.by_method.remove(method);
            return None;
        }
        let denied = self.by_method.get_mut(method)?;
        denied.refused += 1;
        Some(denied)
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.by_method.retain(|_, denied| denied.until > now);
    }

    /// All that are switched off now, by name: to be shown, and to be kept over a restart.
    #[must_use]
    pub fn list(&self, now: Instant) -> Vec<Denied> {
        let mut list: Vec<Denied> =
            self.by_method.values().filter(|denied| denied.until > now).cloned().collect();
        list.sort_by(|a, b| a.method.cmp(&b.method));
        list
    }
}

fn shown(reason: &str) -> String {
    let mut shown: String = reason.chars().filter(|letter| !letter.is_control()).collect();
    shown.truncate(shown.floor_char_boundary(REASON_MAX));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1_000);

    #[test]
    fn a_method_is_off_until_its_time_is_over() {
        let mut list = DenyList::default();
        list.deny("/a.S/M", "too\x1b[31m \nslow", Instant(5_000), NOW).expect("room");
        assert!(list.refuses("a.S/Other", NOW).is_none());
        let denied = list.refuses("a.S/M", Instant(4_999)).expect("still off").clone();
        assert_eq!((&*denied.reason, denied.refused), ("too[31m slow", 1));
        assert!(list.refuses("a.S/M", Instant(5_000)).is_none());
        assert!(list.list(NOW).is_empty(), "it was forgotten");
    }

    #[test]
    fn again_is_a_change_and_keeps_since_when_and_how_many() {
        let mut list = DenyList::default();
        list.deny("a.S/M", "one", Instant(5_000), NOW).expect("room");
        list.refuses("a.S/M", NOW);
        list.deny("a.S/M", "two", Instant(9_000), Instant(2_000)).expect("the same");
        let [denied] = &list.list(NOW)[..] else { panic!("one") };
        assert_eq!((denied.since, denied.until, denied.refused), (NOW, Instant(9_000), 1));
        assert_eq!(&*denied.reason, "two");
        assert!(list.allow("/a.S/M") && !list.allow("a.S/M"));
    }

    #[test]
    fn there_is_room_for_so_many_and_for_methods_only() {
        let mut list = DenyList::default();
        for n in 0..DENIED_MAX {
            list.deny(&format!("a.S/M{n}"), "", Instant(2_000 + n as u64), NOW).expect("room");
        }
        assert_eq!(list.deny("a.S/M", "", Instant(9_000), NOW), Err(NotDenied::Full));
        assert_eq!(list.deny("a.S/M1", "", Instant(9_000), NOW), Ok(()), "it is in the list");
        assert_eq!(list.deny("a.S/M", "", Instant(9_000), Instant(2_000)), Ok(()), "one was over");
        for name in ["", "/", "a b", "a\n", "ü", &"m".repeat(METHOD_MAX + 1)] {
            assert_eq!(list.deny(name, "", Instant(9_000), NOW), Err(NotDenied::NotAMethod), "{name:?}");
        }
        assert_eq!(list.deny("a.S/X", "", NOW, NOW), Err(NotDenied::Past));
        list.deny("a.S/M1", &"ü".repeat(REASON_MAX), Instant(9_000), NOW).expect("cut");
        let long = list.list(NOW).into_iter().find(|denied| &*denied.method == "a.S/M1");
        assert!(long.is_some_and(|denied| denied.reason.len() <= REASON_MAX));
    }
}
