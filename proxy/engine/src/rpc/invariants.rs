//! What must hold between any two calls of the engine, for tests and the simulation: sums are paired, bounds are kept,
//! nobody is in two places. Too slow for the data path.

use super::RpcEngine;
use super::call::Stage;
use super::parts::ATTEMPTS_MAX;

impl RpcEngine {
    /// Panics when a bound or a sum is broken.
    pub fn check_invariants(&self) {
        let mut requests = vec![0u32; self.callers.known.len()];
        let mut queued = vec![0u64; self.callers.known.len()];
        for (id, call) in self.calls.iter() {
            let service = &self.services[call.service];
            let over = call.stage == Stage::Over;
            assert_eq!(self.timers.contains(&(call.timer, id)), !over, "a call has a timer until it is over");
            assert_eq!(service.small.contains(id), call.stage == Stage::Queued, "{:?}", call.stage);
            let (window, beside) = (service.settings.chunk_window, service.settings.chunks_beside_calls);
            let waits = service.bulk.contains(id);
            assert!(!waits || call.has_next(window), "a call waits only while it may start a part");
            // With time its window grows, and it waits again with its next answer.
            assert!(waits || !call.has_next(window.min(beside)), "and always while it may in any case");
            let in_parts = matches!(call.stage, Stage::Split | Stage::Failed);
            assert_eq!(service.splits.get(&call.serial) == Some(&id), in_parts);
            assert!(!over || !call.in_flight.is_empty(), "what is over is forgotten with its last part");
            assert!(call.in_flight.iter().all(|part| part.attempts <= ATTEMPTS_MAX));
            assert_eq!(call.held.is_some(), !over && call.stage != Stage::New, "booked while admitted");
            if !over {
                requests[call.known as usize] += 1;
                queued[call.known as usize] += call.unsent;
            }
            if in_parts && call.stage == Stage::Split {
                let started = call.answered + call.in_flight.len() as u32;
                assert_eq!(started, call.next, "every part that was started is answered or in flight");
            }
        }
        for (slot, known) in self.callers.known.iter().enumerate() {
            assert_eq!(
                (known.requests, known.queued),
                (requests[slot], queued[slot]),
                "{:?}",
                known.identity
            );
        }
        for (place, service) in self.services.iter().enumerate() {
            let calls = || self.calls.iter().map(|(_, call)| call).filter(move |call| call.service == place);
            let begun = calls().filter(|call| call.stage != Stage::Over).count();
            assert_eq!(service.calls as usize, begun, "calls of {}", service.settings.name);
            let gathered: u64 = calls().map(|call| call.gathered).sum();
            assert_eq!(service.gathered, gathered, "bytes held for {}", service.settings.name);
            for (index, server) in service.servers.iter().enumerate() {
                let parts = || calls().flat_map(|call| call.in_flight.iter().map(move |part| (call, part)));
                let here = || parts().filter(|(_, part)| part.server as usize == index);
                let chunks = here().filter(|(call, _)| call.split()).count();
                let whole = here().count() - chunks;
                assert_eq!(
                    (server.chunks as usize, server.calls as usize),
                    (chunks, whole),
                    "{}",
                    server.name
                );
                let operations: u64 = here().map(|(_, part)| part.keys).sum();
                assert_eq!(server.operations, operations, "{}", server.name);
            }
            let whole: u32 = service.servers.iter().map(|server| server.calls).sum();
            assert_eq!(service.whole, whole, "whole calls of {}", service.settings.name);
        }
        assert!(self.denied.list(crate::units::Instant(0)).len() <= super::DENIED_MAX);
    }

    /// No call is under way and every part is over, so nothing may be booked or kept.
    pub fn check_quiet(&self) {
        self.check_invariants();
        assert_eq!(self.calls.len(), 0, "every call is forgotten");
        assert!(self.timers.is_empty() && self.events.is_empty());
        for known in &self.callers.known {
            assert_eq!(known.state.operations_in_flight().0, 0, "{:?}", known.identity);
            assert_eq!(known.state.bytes_in_flight().0, 0, "{:?}", known.identity);
        }
        for service in &self.services {
            assert!(service.small.is_empty() && service.bulk.is_empty() && service.splits.is_empty());
        }
    }
}
