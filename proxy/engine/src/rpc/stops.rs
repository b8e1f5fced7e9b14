//! Methods that are not split any more: an answer had a field that their description does not have, so nobody can tell
//! how to put such answers together. Until the next reload, which may bring a better description.

use super::RpcEngine;
use super::methods::{METHODS_MAX, MethodNumber};
use crate::units::Instant;
use std::sync::Arc;

/// One method that is not split any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The method.
    pub method: Arc<str>,
    /// Since when.
    pub since: Instant,
    /// The number of the field that was not described, the first one seen.
    pub field: u32,
}

/// At most one for each method with a number.
#[derive(Debug)]
pub(super) struct Stops {
    by_method: Vec<Option<(Instant, u32)>>,
    any: bool,
}

impl Default for Stops {
    fn default() -> Stops {
        Stops { by_method: vec![None; METHODS_MAX], any: false }
    }
}

impl Stops {
    pub(super) fn has(&self, method: MethodNumber) -> bool {
        self.any && self.by_method[method.index()].is_some()
    }

    /// `true` when it was split until now.
    fn stop(&mut self, method: MethodNumber, field: u32, now: Instant) -> bool {
        let place = &mut self.by_method[method.index()];
        let new = place.is_none();
        place.get_or_insert((now, field));
        self.any = true;
        new
    }

    pub(super) fn clear(&mut self) {
        *self = Stops::default();
    }
}

impl RpcEngine {
    /// The codec found a field in an answer that the method's description does not have: its calls go whole from now on,
    /// until [`RpcEngine::apply`]. `true` when they did not before, so that somebody says so once. What is under way in
    /// parts is the edge's to fail: it knows whether the answer can be put together all the same.
    pub fn stop_splitting(&mut self, method: &str, field: u32, now: Instant) -> bool {
        let method = self.methods.number(method);
        let stopped = self.stops.stop(method, field, now);
        self.counts.of(method).split_stopped += u64::from(stopped);
        stopped
    }

    /// The methods that are not split any more, in the order of their numbers.
    #[must_use]
    pub fn stopped(&self) -> Vec<Stopped> {
        let stopped = self.stops.by_method.iter().enumerate();
        let of = |(number, since): (usize, &Option<(Instant, u32)>)| {
            let (since, field) = (*since)?;
            let method = self.methods.name(MethodNumber(u8::try_from(number).ok()?)).clone();
            Some(Stopped { method, since, field })
        };
        stopped.filter_map(of).collect()
    }
}
