//! Passive health of a server: one that fails call after call gets none for a while, and then a single one that decides.
//!
//! What counts as a failure is the edge's to tell: a connection that cannot be made or is cut, and answers that say that the
//! server cannot serve (UNAVAILABLE, 502, 503, 504). A client's own short deadline is none.
//!
//! Bounds: at most half of the servers of a service are out at once ([`most_out`]), so the only one never is; a time out is
//! at most `time_max`.

use crate::units::{Instant, Span};

/// Doublings of the time out.
const DOUBLINGS_MAX: u32 = 10;

/// When a server is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectRules {
    /// Failures in a row; 0: no server is ever left out.
    pub failures: u32,
    /// The first time out; each that follows at once is twice as long.
    pub time: Span,
    /// The longest.
    pub time_max: Span,
}

/// Servers of so many that may be out at once.
#[must_use]
pub fn most_out(servers: usize) -> usize {
    servers / 2
}

/// What one server did lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejection {
    in_row: u32,
    doublings: u32,
    /// Since when, and until when it is, or was, out.
    out: Option<(Instant, Instant)>,
    /// It has not answered since it was out: the next failure is enough.
    on_trial: bool,
}

impl Ejection {
    /// It gets no calls now.
    #[must_use]
    pub fn is_out(&self, now: Instant) -> bool {
        self.out.is_some_and(|(_, until)| now < until)
    }

    /// When it gets calls again, while it is out.
    #[must_use]
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.out.map(|(_, until)| until).filter(|until| now < *until)
    }

    /// It has not failed of late, nor was it out: another call that it serves changes nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.in_row == 0 && !self.on_trial && self.out.is_none()
    }

    /// It has served a call. One that was asked although it is out is taken back. `true`: it is from now on.
    pub fn answered(&mut self, now: Instant) -> bool {
        (self.in_row, self.on_trial) = (0, false);
        let Some((since, until)) = self.out else { return false };
        if now < until {
            self.out = None;
            return true;
        }
        // It has been good for as long as it was out: that is forgotten.
        if now.since(until) >= until.since(since) {
            (self.out, self.doublings) = (None, 0);
        }
        false
    }

    /// It has failed a call. `may`: one more may be left out. `true`: it is from now on.
    pub fn failed(&mut self, rules: &EjectRules, may: bool, now: Instant) -> bool {
        if rules.failures == 0 || self.is_out(now) {
            return false;
        }
        self.in_row = self.in_row.saturating_add(1);
        if !may || (self.in_row < rules.failures && !self.on_trial) {
            return false;
        }
        let time = Span(rules.time.0.saturating_mul(1 << self.doublings).min(rules.time_max.0));
        self.out = Some((now, now.after(time)));
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        (self.in_row, self.on_trial) = (0, true);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: EjectRules = EjectRules { failures: 3, time: Span::secs(10), time_max: Span::secs(30) };

    fn at(seconds: u64) -> Instant {
        Instant(1_000_000 * (1 + seconds))
    }

    #[test]
    fn failures_in_a_row_leave_a_server_out_and_one_after_that_is_enough() {
        let mut server = Ejection::default();
        assert!(server.is_clean() && !server.failed(&RULES, true, at(0)) && !server.is_clean());
        assert!(!server.failed(&RULES, true, at(0)));
        server.answered(at(0));
        assert!(server.is_clean());
        assert!(!server.failed(&RULES, true, at(1)) && !server.failed(&RULES, true, at(1)), "not in a row");
        assert!(server.failed(&RULES, true, at(1)) && server.is_out(at(10)) && !server.is_out(at(11)));
        assert!(!server.failed(&RULES, true, at(5)), "what was under way changes nothing");
        assert_eq!(server.until(at(5)), Some(at(11)));
        // On trial: out for twice as long, and then for the longest time.
        assert!(server.failed(&RULES, true, at(11)) && server.is_out(at(30)) && !server.is_out(at(31)));
        assert!(server.failed(&RULES, true, at(31)) && server.is_out(at(60)) && !server.is_out(at(61)));
        assert!(!server.answered(at(61)) && !server.is_clean(), "it was back, but not for long enough");
        assert!(!server.failed(&RULES, true, at(62)), "no trial any more");
        server.answered(at(91));
        assert!(server.is_clean());
        let out = (0..3).filter(|_| server.failed(&RULES, true, at(100))).count();
        assert!(out == 1 && server.is_out(at(109)) && !server.is_out(at(110)), "forgotten");
    }

    #[test]
    fn half_of_the_servers_stay_and_one_that_answers_comes_back() {
        assert_eq!([0, 1, 2, 3, 4].map(most_out), [0, 0, 1, 1, 2]);
        let mut server = Ejection::default();
        assert_eq!((0..9).filter(|_| server.failed(&RULES, false, at(0))).count(), 0);
        assert!(server.failed(&RULES, true, at(0)), "as soon as it may");
        assert!(server.answered(at(1)) && !server.is_out(at(1)));
        let never = EjectRules { failures: 0, ..RULES };
        assert_eq!((0..9).filter(|_| server.failed(&never, true, at(2))).count(), 0);
    }
}
