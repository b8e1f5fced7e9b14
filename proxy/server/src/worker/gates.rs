//! Taking connections in: from this worker's own listening sockets, or from the acceptor.
//!
//! A turn takes few of them, whatever waits: what a neighbour feels of a connection storm is the length of a turn, and how
//! many of the storm's connections are in work at once. Accepting is the cheap part and runs ahead, so that a crowd does
//! not overflow the kernel's backlog (a client whose handshake is dropped tries again after a second). Setting one up
//! costs a registration, a read and an answer; it comes after the turn's events, so clients that are connected go first.
//!
//! Bounds: [`ACCEPT_MAX`] accepted per listener and turn, [`ADMITTED_MAX`] set up per turn, [`WAITING_MAX`] accepted
//! sockets that are not set up yet; beyond it the backlog holds them.

use super::Worker;
use super::path::DataPath;
use super::ready::Token;
use crate::accept::{ACCEPT_MAX, account};
use crate::listen::{Accepted, Next};
use std::task::{Context, Poll};
use std::time::Duration;
use weir_engine::units::Span;

/// Accepted sockets that wait to be set up.
const WAITING_MAX: usize = 4_096;
/// Connections set up per turn: about half a millisecond, answers included. A storm ends no later with more of them.
const ADMITTED_MAX: usize = 16;
/// Room kept for accepted sockets once none waits.
const WAITING_KEPT: usize = 256;

impl<P: DataPath> Worker<P> {
    pub(super) fn gate_event(&mut self, index: usize) {
        let Some(own) = self.gates.get_mut(index) else { return };
        own.source.handled();
        if own.rests_until.is_some_and(|until| until > self.now) {
            return;
        }
        own.rests_until = None;
        let (waiting, reserve) = (&mut self.waiting, &mut self.reserve);
        let mut cx = Context::from_waker(own.source.waker());
        loop {
            let room = WAITING_MAX.saturating_sub(waiting.len()).min(ACCEPT_MAX);
            if room == 0 {
                self.again.push(Token::Gate(index as u32));
                break;
            }
            let each = |arrival| waiting.push_back(arrival);
            let Poll::Ready(outcome) = own.gate.poll_accept(&mut cx, room, reserve, each) else { break };
            if let Some(rest) = account(&self.telemetry, &own.gate.name, &outcome, self.clock) {
                own.rests_until = Some(self.now.after(micros(rest)));
                break;
            }
            if !matches!(&outcome, Ok(Accepted { next: Next::Readiness, .. })) {
                self.again.push(Token::Gate(index as u32));
                break;
            }
        }
        self.arrivals_due |= !self.waiting.is_empty();
    }

    /// Sets up some of what was accepted: here, or by the acceptor. Once per turn, after the clients that are served.
    pub(super) fn admit_arrivals(&mut self) {
        self.arrivals_source.handled();
        for _ in 0..ADMITTED_MAX {
            let arrival = match self.waiting.pop_front() {
                Some(arrival) => arrival,
                None => {
                    let mut cx = Context::from_waker(self.arrivals_source.waker());
                    match self.mailbox.arrivals.poll_recv(&mut cx) {
                        Poll::Ready(Some(arrival)) => arrival,
                        Poll::Ready(None) | Poll::Pending => {
                            self.arrivals_due = false;
                            self.waiting.shrink_to(WAITING_KEPT);
                            return;
                        }
                    }
                }
            };
            self.admit(arrival);
        }
    }

    /// Takes what waits already, then closes the doors.
    pub(super) fn close_gates(&mut self) {
        let (waiting, reserve) = (&mut self.waiting, &mut self.reserve);
        for own in std::mem::take(&mut self.gates) {
            let each = |arrival| waiting.push_back(arrival);
            // Whatever goes wrong with the last look, the door closes.
            let _ = own.gate.accept_rest(WAITING_MAX, reserve, each);
        }
        self.arrivals_due = true;
    }
}

fn micros(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::Doorway;
    use crate::fold::Protocol;
    use crate::listen::{Door, bind};
    use crate::worker::panics::tests::worker;
    use std::os::unix::net::UnixStream;
    use weir_engine::settings::Address;
    use weir_engine::units::ListenerId;

    #[tokio::test]
    async fn a_crowd_is_let_in_a_few_per_turn_and_whole() {
        const CROWD: usize = 300;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door");
        let door = Door::new(Address::Unix { path: path.to_str().expect("UTF-8").into() });
        let opened = bind(&door).expect("a socket");
        let (mut worker, _) = worker(vec![Doorway {
            listener: ListenerId(0),
            name: "cache".into(),
            protocol: Protocol::Memcached,
            opened,
        }]);
        let _crowd: Vec<_> = (0..CROWD).map(|_| UnixStream::connect(&path).expect("connected")).collect();
        let (mut turns, mut most) = (0, (0, 0));
        while worker.open < CROWD || worker.arrivals_due {
            let (open, taken) = (worker.open, worker.open + worker.waiting.len());
            std::future::poll_fn(|cx| Poll::Ready(worker.turn(cx).is_pending())).await;
            let grown = (worker.open - open, worker.open + worker.waiting.len() - taken);
            most = (most.0.max(grown.0), most.1.max(grown.1));
            turns += 1;
            assert!(turns < 1_000, "{} of {CROWD} after {turns} turns", worker.open);
            tokio::task::yield_now().await; // the runtime looks at the sockets
        }
        assert_eq!(most, (ADMITTED_MAX, ACCEPT_MAX), "set up and accepted in a turn");
    }
}
