//! How many client connections there may be: per listener, and per principal on a listener, and of all of them as many as
//! there are open files for (`caps/files.rs`). Counted over all workers.
//!
//! The number of principals is bounded too: entries nobody holds are forgotten beyond [`PRINCIPALS_KEPT`].

pub mod files;

use crate::config::Config;
use crate::fold::Protocol;
use files::{Files, Share, service_files, upstream_files};
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{StreamId, Version, own};
use weir_engine::settings::{Backend, ListenerSettings};
use weir_engine::units::ListenerId;

/// Principals without a connection that are remembered.
const PRINCIPALS_KEPT: usize = 1_024;

/// A listener and the principal's name.
type Principal = (ListenerId, Arc<str>);

/// The counts of all listeners.
#[derive(Debug)]
pub struct Caps {
    listeners: Box<[Arc<AtomicU32>]>,
    principals: Mutex<HashMap<Principal, Arc<AtomicU32>>>,
    files: Arc<Files>,
}

/// One connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    held: [Arc<AtomicU32>; 2],
}

/// Which cap is reached, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `max_connections`.
    Listener(u32),
    /// `max_connections_per_principal`.
    Principal(u32),
}

impl Full {
    /// What is wrong, in words.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Full::Listener(cap) => {
                format!("weir: too many connections on this listener (max_connections is {cap})")
            }
            Full::Principal(cap) => {
                format!("weir: too many connections of this caller (max_connections_per_principal is {cap})")
            }
        }
    }

    /// What the client reads before it is closed.
    #[must_use]
    pub fn farewell(self, protocol: Protocol) -> Vec<u8> {
        farewell(protocol, &self.text())
    }
}

/// What a client reads that is turned away before it has said anything. In CQL an ERROR that says OVERLOADED, on stream
/// 0 and in v4, which drivers read whichever version they are about to ask for: they take their next host, and try this
/// one again later.
#[must_use]
pub fn farewell(protocol: Protocol, text: &str) -> Vec<u8> {
    match protocol {
        Protocol::Memcached => format!("SERVER_ERROR {text}\r\n").into_bytes(),
        // HTTP has no answer before a question
        Protocol::Rpc => Vec::new(),
        Protocol::Cql => {
            let mut bytes = Vec::new();
            let error = ErrorBody::plain(ErrorCode::OVERLOADED, text);
            own::error(&mut bytes, Version::V4, StreamId(0), &error);
            bytes
        }
    }
}

impl Caps {
    /// No connections yet, and no bound on open files.
    #[must_use]
    pub fn new(listeners: usize) -> Caps {
        let listeners = (0..listeners).map(|_| Arc::default()).collect();
        Caps { listeners, principals: Mutex::default(), files: Files::new() }
    }

    /// The count of clients' open files.
    #[must_use]
    pub fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Shares out the open files this process may have, under these settings.
    pub fn share_files(&self, config: &Config, workers: usize) -> Share {
        let settings = &config.settings;
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let lead_to = |name: &str| {
            let leads = |listener: &&ListenerSettings| match listener.backend {
                Backend::Service(_) => *settings.backend_name(listener.backend) == *name,
                _ => false,
            };
            settings.listeners.iter().filter(leads).count()
        };
        let services = service_files(config.services.iter().map(|(service, _)| service), lead_to);
        let share = Share::of(limit, services + upstream_files(&settings.pools, &settings.clusters, workers));
        self.files.allow(share.clients);
        share
    }

    /// Takes a place for a connection of `principal` through `listener`.
    ///
    /// # Errors
    /// The cap that is reached.
    pub fn take(
        &self,
        listener: ListenerId,
        principal: &Arc<str>,
        settings: &ListenerSettings,
    ) -> Result<Place, Full> {
        let all = &self.listeners[listener.0 as usize];
        let cap = settings.max_connections;
        if !up_to(all, cap) {
            return Err(Full::Listener(cap));
        }
        let own = self.of(listener, principal);
        let cap = settings.max_connections_per_principal;
        if !up_to(&own, cap) {
            all.fetch_sub(1, Relaxed);
            return Err(Full::Principal(cap));
        }
        Ok(Place { held: [all.clone(), own] })
    }

    /// Takes a place for a connection whose principal is not known yet: [`Caps::give`] says it.
    ///
    /// # Errors
    /// The cap that is reached.
    pub fn enter(&self, listener: ListenerId, settings: &ListenerSettings) -> Result<Place, Full> {
        let (all, cap) = (&self.listeners[listener.0 as usize], settings.max_connections);
        if !up_to(all, cap) {
            return Err(Full::Listener(cap));
        }
        Ok(Place { held: [all.clone(), Arc::new(AtomicU32::new(1))] })
    }

    /// A connection turned out to be this principal's.
    ///
    /// # Errors
    /// The cap that is reached; the place is as it was.
    pub fn give(
        &self,
        place: &mut Place,
        listener: ListenerId,
        principal: &Arc<str>,
        settings: &ListenerSettings,
    ) -> Result<(), Full> {
        let (own, cap) = (self.of(listener, principal), settings.max_connections_per_principal);
        if !up_to(&own, cap) {
            return Err(Full::Principal(cap));
        }
        std::mem::replace(&mut place.held[1], own).fetch_sub(1, Relaxed);
        Ok(())
    }

    /// Connections of a listener now.
    #[must_use]
    pub fn open(&self, listener: ListenerId) -> u32 {
        self.listeners.get(listener.0 as usize).map_or(0, |count| count.load(Relaxed))
    }

    fn of(&self, listener: ListenerId, principal: &Arc<str>) -> Arc<AtomicU32> {
        let mut all = self.principals.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PRINCIPALS_KEPT {
            // only this map hands out clones, under its lock: a count nobody else holds is not in use
            all.retain(|_, count| Arc::strong_count(count) > 1);
        }
        all.entry((listener, principal.clone())).or_default().clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for count in &self.held {
            count.fetch_sub(1, Relaxed);
        }
    }
}

fn up_to(count: &AtomicU32, cap: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |now| (now < cap).then_some(now + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::settings::Address;
    use weir_engine::settings::Backend;
    use weir_engine::units::PoolId;

    #[test]
    fn places_are_taken_and_given_back() {
        let caps = Caps::new(1);
        let address = Address::Unix { path: "/x".into() };
        let mut settings = ListenerSettings::new("cache", address, Backend::Pool(PoolId(0)));
        (settings.max_connections, settings.max_connections_per_principal) = (3, 2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let take = |who| caps.take(ListenerId(0), who, &settings);
        let first = take(&a).expect("room");
        let _second = take(&a).expect("room");
        assert_eq!(take(&a).expect_err("full"), Full::Principal(2));
        assert_eq!(caps.open(ListenerId(0)), 2, "a refused one holds nothing");
        let _third = take(&b).expect("room");
        assert_eq!(take(&b).expect_err("full"), Full::Listener(3));
        drop(first);
        assert_eq!(caps.open(ListenerId(0)), 2);
        assert!(take(&a).is_ok());
    }

    #[test]
    fn a_principal_that_is_known_later_has_its_cap_all_the_same() {
        let caps = Caps::new(1);
        let address = Address::Unix { path: "/x".into() };
        let mut settings = ListenerSettings::new("rpc", address, Backend::Pool(PoolId(0)));
        (settings.max_connections, settings.max_connections_per_principal) = (3, 1);
        let enter = || caps.enter(ListenerId(0), &settings);
        let (mut first, mut second) = (enter().expect("room"), enter().expect("room"));
        let _third = enter().expect("room");
        assert_eq!(enter().expect_err("full"), Full::Listener(3));
        let give = |place: &mut Place| caps.give(place, ListenerId(0), &"a".into(), &settings);
        give(&mut first).expect("room");
        assert_eq!(give(&mut second).expect_err("full"), Full::Principal(1));
        drop(second);
        assert_eq!(caps.open(ListenerId(0)), 2);
        drop(first);
        give(&mut enter().expect("room")).expect("its place was given back");
    }

    #[test]
    fn a_client_is_turned_away_in_its_own_protocol() {
        let full = Full::Listener(3);
        let line = full.farewell(Protocol::Memcached);
        assert!(line.starts_with(b"SERVER_ERROR weir: ") && line.ends_with(b"is 3)\r\n"));
        let error = full.farewell(Protocol::Cql);
        assert_eq!(error[..5], [0x84, 0, 0, 0, 0], "a v4 ERROR on stream 0");
        assert_eq!(error[9..13], [0, 0, 0x10, 1], "OVERLOADED");
        assert_eq!(error[5..9], u32::try_from(error.len() - 9).expect("short").to_be_bytes());
        assert!(error.ends_with(full.text().as_bytes()));
    }

    #[test]
    fn principals_nobody_holds_are_forgotten() {
        let caps = Caps::new(1);
        let address = Address::Unix { path: "/x".into() };
        let settings = ListenerSettings::new("cache", address, Backend::Pool(PoolId(0)));
        let _kept = caps.take(ListenerId(0), &"kept".into(), &settings).expect("room");
        for uid in 0..10_000 {
            drop(caps.take(ListenerId(0), &format!("uid:{uid}").into(), &settings).expect("room"));
        }
        assert!(caps.principals.lock().expect("lock").len() <= PRINCIPALS_KEPT);
    }
}
