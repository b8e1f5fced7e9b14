//! Giving way between two turns: sched_yield(2) before the thread asks the kernel for events.
//!
//! Where clients, weir and the server share few cores, whoever was just written to often waits for this very processor. If
//! it runs now, what it sends is there when weir looks: more arrives per turn, and weir need not be put to sleep and woken
//! for it, which costs more than the turn itself. With a processor to itself the call returns at once.
//!
//! Only towards memcached ([`super::path::DataPath::gives_way`]). Two cases where it would hurt are left out: while parts
//! of large requests are under way (their flow should not wait for whoever hogs the processor), and where giving way took
//! long: then a stranger has the processor for whole time slices, and weir goes without for a number of turns that doubles
//! each time.

use weir_engine::units::Span;

/// Longer than this, others used the processor for themselves.
const LONG: Span = Span::millis(1);
/// Turns without giving way after the first time it took long.
const SKIP_MIN: u32 = 64;
/// Most turns without.
const SKIP_MAX: u32 = 16_384;

/// When a worker gives way.
#[derive(Debug, Default)]
pub struct Courtesy {
    /// Turns to go without.
    left: u32,
    /// What the next long one costs; 0 before the first.
    penalty: u32,
}

impl Courtesy {
    /// Whether to give way after this turn.
    pub fn due(&mut self) -> bool {
        if self.left == 0 {
            return true;
        }
        self.left -= 1;
        false
    }

    /// How long it took.
    pub fn took(&mut self, span: Span) {
        if span <= LONG {
            self.penalty = 0;
            return;
        }
        self.penalty = (self.penalty * 2).clamp(SKIP_MIN, SKIP_MAX);
        self.left = self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns_until_due(courtesy: &mut Courtesy) -> u32 {
        (0..).find(|_| courtesy.due()).unwrap_or_default()
    }

    #[test]
    fn a_stranger_on_the_processor_is_given_way_ever_more_rarely() {
        let mut courtesy = Courtesy::default();
        for expected in [64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 16_384] {
            assert!(courtesy.due());
            courtesy.took(Span::millis(3));
            assert_eq!(turns_until_due(&mut courtesy), expected);
        }
        courtesy.took(Span(2));
        assert!(courtesy.due(), "and at every turn again once it returns soon");
        courtesy.took(Span::millis(3));
        assert_eq!(turns_until_due(&mut courtesy), 64);
    }
}
