//! Panics are contained: to the client or lane whose event it was, counted, and logged once a second.
//!
//! What belongs to no socket (the end of a turn, timers), and a socket that cannot even be taken down, may leave the
//! engine inconsistent. That is survived once; twice within [`WINDOW`] ends the worker, and with it the process: a
//! restart is better than wrong answers.

use super::path::DataPath;
use super::ready::Token;
use super::{Worker, to_u32};
use crate::clock::seconds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use weir_engine::units::{Instant, LaneId, Span};
use weir_telemetry::{CloseHow, Event, Severity};

/// Two doubtful states within this time are one too many.
const WINDOW: Span = Span::secs(60);

/// What is remembered about panics.
#[derive(Debug, Default)]
pub(super) struct Panics {
    doubtful: Option<Instant>,
    /// It cannot go on.
    pub(super) broken: bool,
}

impl Panics {
    /// The engine may be inconsistent.
    fn doubt(&mut self, now: Instant) {
        self.broken |= self.doubtful.is_some_and(|before| now.since(before) < WINDOW);
        self.doubtful = Some(now);
    }
}

impl<P: DataPath> Worker<P> {
    /// Does some work on behalf of a source. Nothing comes back when it panicked.
    pub(super) fn contained<R>(
        &mut self,
        source: Option<Token>,
        work: impl FnOnce(&mut Worker<P>) -> R,
    ) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| work(self))) {
            Ok(done) => Some(done),
            Err(_) => {
                self.panicked(source);
                None
            }
        }
    }

    #[cold]
    fn panicked(&mut self, source: Option<Token>) {
        self.telemetry.panicked();
        let cleaned = catch_unwind(AssertUnwindSafe(|| match source {
            Some(Token::Client(slot)) => {
                if let Some(Some(client)) = self.clients.get(slot as usize) {
                    let id = client.id;
                    self.close_client(id, CloseHow::Panic);
                }
                true
            }
            Some(Token::Lane(index)) => {
                self.give_up_lane(LaneId(index));
                true
            }
            Some(Token::Gate(_) | Token::Arrivals | Token::Orders | Token::Flushes) | None => false,
        }));
        if let (Err(_), Some(Token::Client(slot))) = (&cleaned, source) {
            // at least its socket goes
            if let Some(client) = self.clients.get_mut(slot as usize).and_then(Option::take) {
                drop(client);
                self.open = self.open.saturating_sub(1);
            }
        }
        if !matches!(cleaned, Ok(true)) {
            self.panics.doubt(self.now);
        }
        let what = match source {
            Some(Token::Client(_)) => "client",
            Some(Token::Lane(_)) => "backend connection",
            Some(Token::Gate(_) | Token::Arrivals) => "accepting",
            Some(Token::Orders) => "control",
            Some(Token::Flushes) => "flush by prefix",
            None => "end of a turn",
        };
        let message = if self.panics.broken { "the worker cannot go on" } else { "contained" };
        let event = Event::new(Severity::Error, "panic", message)
            .text("source", what)
            .number("worker", u64::from(self.index))
            .number("clients", u64::from(to_u32(self.open)));
        self.telemetry.events().emit(&event, seconds(self.now));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::accept::{Arrival, Doorway};
    use crate::caps::Caps;
    use crate::clock::Clock;
    use crate::config::{Config, Host};
    use crate::fold::{PROTOCOLS, Protocol};
    use crate::listen::Peer;
    use crate::worker::orders::{Board, InForce, WorkerHandle};
    use crate::worker::{LoopSetup, Setup};
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use weir_engine::Engine;
    use weir_engine::units::ListenerId;
    use weir_telemetry::{Telemetry, TelemetryConfig};

    const FILE: &str =
        "admin = []\n[pool.main]\nservers = [\"127.0.0.1:1\"]\n[listener.cache]\naddress = \"unix:/x\"\n";

    /// A worker without a thread; its telemetry.
    pub(in crate::worker) fn worker(doorways: Vec<Doorway>) -> (Worker<Engine>, Arc<Telemetry>) {
        let clock = Clock::start();
        let config = Config::from_text("test", FILE, &Host::default()).expect("a good file");
        let telemetry = Telemetry::new(TelemetryConfig::new(&*PROTOCOLS, clock.started_unix_seconds()));
        let settings = Arc::new(config.settings.clone());
        let setup = Setup {
            sign_in: crate::sign_in::SignInDesk::new().0,
            index: 0,
            handle: 0,
            protocols: vec![Protocol::Memcached],
            workers: 1,
            clock,
            telemetry: telemetry.clone(),
            board: Arc::new(Board::new(InForce {
                settings,
                config: Arc::new(config),
                denied: Arc::default(),
                drain: None,
            })),
            principals: Arc::default(),
            correlator: Arc::new(weir_engine::correlate::Correlator::new(16, 1)),
            budgets: Arc::default(),
            writes: Arc::default(),
            caps: Arc::new(Caps::new(1)),
            attribution: None,
            doorways,
            seed: 1,
        };
        let setup = LoopSetup { setup, handle: 0, busy_before: Arc::default() };
        (Worker::new(setup, WorkerHandle::pair().1).expect("a worker"), telemetry)
    }

    #[tokio::test]
    async fn a_panic_costs_the_client_it_happened_to_and_nobody_else() {
        let (mut worker, telemetry) = worker(Vec::new());
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (client, weir) = UnixStream::pair().expect("a pair");
            weir.set_nonblocking(true).expect("non-blocking");
            let file = worker.caps.files().take();
            let (listener, socket, peer) = (ListenerId(0), weir.into(), Peer::Unix);
            worker.admit(Arrival { listener, socket, peer, file });
            ends.push(client);
        }
        let token = Token::Client(1);
        assert!(worker.contained(Some(token), |_| panic!("a defect")).is_none());
        assert_eq!((worker.open, worker.panics.broken), (2, false));
        assert_eq!(ends[1].read(&mut [0; 8]).expect("closed"), 0);
        ends[0].write_all(b"mn\r\n").expect("still open");

        // the same client again: its slot is empty now
        assert!(worker.contained(Some(token), |_| panic!("a defect")).is_none());
        assert_eq!((worker.open, worker.panics.broken), (2, false));
        let page = telemetry.render(None, seconds(worker.now)).body;
        let counted = page.lines().find(|line| line.starts_with("weir_panics_total"));
        assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{counted:?}");
        assert!(page.contains("how=\"panic\"} 1"), "{page}");

        // what belongs to no client is survived once
        worker.contained(None, |_| panic!("a defect"));
        assert!(!worker.panics.broken);
        worker.contained(None, |_| panic!("a defect"));
        assert!(worker.panics.broken);
    }

    #[test]
    fn one_doubtful_state_is_survived_and_two_in_a_minute_are_not() {
        let mut panics = Panics::default();
        panics.doubt(Instant(1_000_000));
        assert!(!panics.broken);
        panics.doubt(Instant(1_000_000).after(WINDOW));
        assert!(!panics.broken, "a minute later");
        panics.doubt(Instant(2_000_000).after(WINDOW));
        assert!(panics.broken);
    }
}
