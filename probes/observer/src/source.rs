//! Whoever looks. A source fills in what it can see of a [`Picture`] and leaves the rest as it is: a part that nobody
//! fills in stays `None` and is shown as unknown.
//!
//! To add one: implement [`Source`], and add a row to [`KINDS`].

mod kernel;
mod machine;
mod sock_diag;

use crate::host::Host;
use crate::kernel::connects::Feed;
use crate::picture::Picture;
use crate::settings::Settings;
use rustix::thread::CapabilitySet;

/// Something that sees a part of the picture.
pub trait Source: Send {
    /// Its name: a label value and a word in messages.
    fn name(&self) -> &'static str;

    /// Looks, and fills in what it sees. Called every interval on the thread of its own that all sources share, one after
    /// the other; nobody who scrapes waits for it. What fails is told in `picture.probes`, never by a number.
    fn look(&mut self, picture: &mut Picture);
}

/// A kind of source: how one is made, and what it needs to go on looking.
pub struct Kind {
    /// As [`Source::name`].
    pub name: &'static str,
    /// Makes one, with all rights that the process was given: programs are loaded here. It does not fail: a source that
    /// can see nothing says why in every picture. The one that can tell of connections puts that into the second argument.
    pub make: fn(&Settings, &mut Option<Feed>) -> Box<dyn Source>,
    /// Capabilities of [`crate::host::CAPABILITIES`] that it needs for as long as it looks; all others are given up once
    /// every source is made.
    pub keeps: &'static [&'static str],
}

/// Every kind, in the order in which they look: a later one fills in only what the earlier ones could not.
pub const KINDS: &[Kind] = &[
    Kind { name: machine::NAME, make: machine::make, keeps: &[] },
    Kind { name: kernel::NAME, make: kernel::make, keeps: kernel::KEEPS },
    Kind { name: sock_diag::NAME, make: sock_diag::make, keeps: &[] },
];

/// One of each kind.
#[must_use]
pub fn all(settings: &Settings) -> Vec<Box<dyn Source>> {
    with_feed(settings).0
}

/// One of each kind, and, where attribution is asked for and the kernel's side can, what tells of connections.
#[must_use]
pub fn with_feed(settings: &Settings) -> (Vec<Box<dyn Source>>, Option<Feed>) {
    let mut feed = None;
    let sources = KINDS.iter().map(|kind| (kind.make)(settings, &mut feed)).collect();
    (sources, feed)
}

/// Capabilities that some kind needs for as long as it looks, and those that entering other namespaces takes (they come
/// and go, so that none can be entered once and for all) and reading the descriptors of services' processes, which do too.
#[must_use]
pub fn kept(settings: &Settings) -> CapabilitySet {
    let entering: &[&str] = match settings.namespaces.as_slice() {
        [] => &[],
        some if some.iter().any(|one| one.path.starts_with("/proc")) => &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"],
        _ => &["CAP_SYS_ADMIN"],
    };
    let serving: &[&str] = if settings.services.is_empty() { &[] } else { &["CAP_DAC_READ_SEARCH"] };
    let names = KINDS.iter().flat_map(|kind| kind.keeps).chain(entering).chain(serving);
    names.filter_map(|name| Host::capability(name)).fold(CapabilitySet::empty(), CapabilitySet::union)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NamedNamespace;

    #[test]
    fn every_capability_that_is_kept_is_one_we_know() {
        for kind in KINDS {
            for name in kind.keeps {
                assert!(Host::capability(name).is_some(), "{} keeps {name}", kind.name);
            }
        }
    }

    #[test]
    fn other_namespaces_take_the_right_to_enter_them_and_nothing_else_does() {
        let with = |path: &str| {
            let one = NamedNamespace { name: "blue".to_owned(), path: path.into() };
            kept(&Settings { namespaces: vec![one], ..Settings::default() })
        };
        let without = kept(&Settings::default());
        assert!(!without.contains(CapabilitySet::SYS_ADMIN));
        assert_eq!(with("/run/netns/blue"), without | CapabilitySet::SYS_ADMIN);
        assert_eq!(with("/proc/7/ns/net"), without | CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE);
    }

    #[test]
    fn a_source_goes_by_the_name_of_its_kind() {
        let settings = Settings::default();
        let names: Vec<&str> = all(&settings).iter().map(|source| source.name()).collect();
        assert_eq!(names, KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>());
    }
}
