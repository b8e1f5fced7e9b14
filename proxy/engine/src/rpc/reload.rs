//! New settings while calls are under way: limits, time-outs and budgets hold at once. Services are told apart by name,
//! their servers by address; what left gets nothing more and ends what it has.
//!
//! Bound: a service or server that left leaves its place to another one once nothing of it is under way.

use super::RpcEngine;
use super::service::Service;
use crate::settings::Settings;
use crate::units::{Bytes, Instant, Operations};
use std::sync::Arc;

impl RpcEngine {
    /// New settings. Listeners that have calls under way must keep their place and their service. Methods that were not
    /// split any more are split again.
    pub fn apply(&mut self, settings: Arc<Settings>, now: Instant) {
        self.take_over(settings);
        self.stops.clear();
        self.new_budgets();
        for place in 0..self.services.len() {
            self.offer_all(place, now);
            self.pump(place, now);
        }
    }

    pub(super) fn take_over(&mut self, settings: Arc<Settings>) {
        let mut places = Vec::with_capacity(settings.services.len());
        for service in &settings.services {
            service.methods.iter().for_each(|method| self.methods.describe(method));
            let same = |known: &Service| known.settings.name == service.name && !known.gone();
            let place = match self.services.iter().position(same) {
                Some(place) => {
                    self.services[place].tune(service.clone());
                    place
                }
                None => {
                    let new = Service::new(service.clone());
                    match self.services.iter().position(Service::gone) {
                        Some(place) => {
                            self.services[place] = new;
                            place
                        }
                        None => {
                            self.services.push(new);
                            self.services.len() - 1
                        }
                    }
                }
            };
            places.push(place);
        }
        for (place, service) in self.services.iter_mut().enumerate() {
            if !places.contains(&place) {
                service.retire();
            }
        }
        (self.places, self.settings) = (places, settings);
    }

    fn new_budgets(&mut self) {
        let mut held = vec![(Operations(0), Bytes(0)); self.callers.known.len()];
        for (_, call) in self.calls.iter() {
            if let Some(booked) = call.held {
                let (operations, bytes) = &mut held[call.known as usize];
                *operations += booked.operations;
                *bytes += booked.bytes;
            }
        }
        for (slot, (operations, bytes)) in held.into_iter().enumerate() {
            let slot = slot as u32;
            if let Some((limits, state)) = self.callers.budget_now(slot, &self.settings) {
                self.callers.rebudget(slot, limits, state, operations, bytes);
            }
        }
    }

    /// Windows may be wider or narrower now.
    fn offer_all(&mut self, place: usize, now: Instant) {
        let splits: Vec<_> = self.services[place].splits.values().copied().collect();
        for id in splits {
            let window = self.services[place].settings.chunk_window;
            if self.calls.get(id).is_some_and(|call| !call.has_next(window)) {
                self.services[place].bulk.remove(id);
            }
            self.offer(id, now);
        }
    }
}
