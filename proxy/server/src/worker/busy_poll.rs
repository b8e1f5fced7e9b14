//! Looking again for a moment before the thread sleeps (what the kernel calls busy polling, and Seastar idle polling).
//!
//! A client that sends one request, waits for the answer and sends the next pays every sleep and every waking on the way.
//! While weir stays awake for some 25-35 us after it wrote to the node, the node's thread is woken on another processor and
//! weir is still there for what follows: measured on two cores with Cassandra 5, 5-20 us are added to the median instead
//! of 70-90, and Cassandra's processor time per request falls by a fifth (`cargo xtask bench cql --only select-1`). Longer
//! is worse: the node's second thread then waits for the processor that weir holds.
//!
//! Only towards CQL, and only while at most one request is under way or at least [`MANY_UNDER_WAY`]
//! ([`super::path::DataPath::waits_awake`]). With many the next burst is about to come, and one waking less is worth more
//! than what looking costs (64 in flight: 1.5 % more throughput, 0.3 us more of weir's processor time and 0.7 us less of
//! the client's per request). With a few (measured: four) the node would have used the time: a tenth fewer requests.
//! What it costs at most is `busy_poll` of processor time for each burst of requests and of answers.

use weir_engine::units::{Instant, Span};

/// So many requests under way are many.
pub const MANY_UNDER_WAY: usize = 32;

/// When a worker looks again in place of sleeping.
#[derive(Debug)]
pub struct BusyPoll {
    /// The setting `busy_poll`; zero: never.
    length: Span,
    /// The thread does not sleep before; `None`: it may.
    until: Option<Instant>,
}

impl BusyPoll {
    /// For so long after the last event.
    pub fn new(length: Span) -> BusyPoll {
        BusyPoll { length, until: None }
    }

    /// Something happened now, and the loop would sleep after it if it were not for this. Whether it stays awake.
    pub fn begin(&mut self, now: Instant) -> bool {
        self.until = (self.length > Span(0)).then(|| now.after(self.length));
        self.until.is_some()
    }

    /// Nothing happened until now: whether to look once more.
    pub fn again(&mut self, now: Instant) -> bool {
        self.until = self.until.filter(|until| now < *until);
        self.until.is_some()
    }

    /// There is something else to do, or to wait for.
    pub fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_stays_awake_for_its_time_after_an_event_and_no_longer() {
        let mut poll = BusyPoll::new(Span(28));
        assert!(!poll.again(Instant(100)), "nothing has happened yet");
        assert!(poll.begin(Instant(100)));
        assert!(poll.again(Instant(127)));
        assert!(!poll.again(Instant(128)));
        assert!(!poll.again(Instant(100)), "it sleeps until the next event");
        assert!(poll.begin(Instant(200)));
        poll.end();
        assert!(!poll.again(Instant(201)));
    }

    #[test]
    fn without_a_length_it_never_does() {
        let mut poll = BusyPoll::new(Span(0));
        assert!(!poll.begin(Instant(100)));
        assert!(!poll.again(Instant(100)));
    }
}
