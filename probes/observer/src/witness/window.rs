//! Both witnesses over the last ten minutes. What was before the first look is nobody's business: a weir that is older than
//! the probe has opened its connections unseen.

use super::said::Said;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is compared lies within this: what ended longer ago is forgiven.
pub const LENGTH: Duration = Duration::from_secs(600);
/// Samples in it.
const SAMPLES: u32 = 60;

/// What both said at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The kernel's count, before and after weir was asked.
    pub opened: (u64, u64),
    /// Every weir's word, in the same order each time.
    pub said: Vec<Said>,
}

/// The samples that are compared with the next one.
#[derive(Clone, Debug, Default)]
pub struct Window(VecDeque<Sample>);

impl Window {
    /// Takes a sample in, and says how far the witnesses are apart since the oldest one that is kept: the difference as a
    /// share of the larger, 0 when nothing contradicts. `None` at the first one, and after a weir has started anew.
    pub fn take(&mut self, sample: Sample) -> Option<f64> {
        if self.0.back().is_some_and(|last| is_other(last, &sample)) {
            self.0.clear();
        }
        while self.0.len() > 1 && self.0.front().is_some_and(|first| sample.at - first.at > LENGTH) {
            self.0.pop_front();
        }
        let share = self.0.front().map(|first| share(first, &sample));
        if self.0.back().is_none_or(|last| sample.at - last.at >= LENGTH / SAMPLES) {
            self.0.push_back(sample);
        }
        share
    }
}

/// Whether a total fell or another process answers: nothing can be told across that.
fn is_other(last: &Sample, next: &Sample) -> bool {
    let restarted = |(old, new): (&Said, &Said)| {
        old.start != new.start || old.opened > new.opened || old.perhaps > new.perhaps
    };
    last.opened.1 > next.opened.1
        || last.said.len() != next.said.len()
        || last.said.iter().zip(&next.said).any(restarted)
}

fn share(first: &Sample, last: &Sample) -> f64 {
    let seen_least = last.opened.0.saturating_sub(first.opened.1);
    let seen_most = last.opened.1.saturating_sub(first.opened.0);
    let of = |sample: &Sample, part: fn(&Said) -> u64| sample.said.iter().map(part).sum::<u64>();
    let grown = |part| of(last, part).saturating_sub(of(first, part));
    let opened = grown(|said| said.opened);
    // What was under way at the first sample may have been established before it, and be told since.
    let told_least = opened.saturating_sub(of(first, |said| said.connecting));
    let told_most = opened + grown(|said| said.perhaps) + of(last, |said| said.connecting);
    if seen_least > told_most {
        (seen_least - told_most) as f64 / seen_least as f64
    } else if told_least > seen_most {
        (told_least - seen_most) as f64 / told_least as f64
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(opened: u64) -> Said {
        Said { start: 1.0, opened, ..Said::default() }
    }

    /// Samples ten seconds apart.
    fn shares(samples: Vec<((u64, u64), Said)>) -> Vec<Option<f64>> {
        let (began, mut window) = (Instant::now(), Window::default());
        let mut at = began;
        let mut take = |(opened, said)| {
            at += Duration::from_secs(10);
            window.take(Sample { at, opened, said: vec![said] })
        };
        samples.into_iter().map(&mut take).collect()
    }

    #[test]
    fn what_was_before_the_first_look_is_the_baseline() {
        let samples = vec![((0, 0), said(500)), ((3, 3), said(503)), ((3, 3), said(503))];
        assert_eq!(shares(samples), [None, Some(0.0), Some(0.0)]);
    }

    #[test]
    fn a_difference_is_a_share_of_the_larger() {
        let samples = vec![((0, 0), said(0)), ((4, 4), said(3)), ((4, 4), said(8))];
        assert_eq!(shares(samples), [None, Some(0.25), Some(0.5)]);
    }

    #[test]
    fn what_came_while_weir_was_asked_and_what_nobody_can_know_is_granted() {
        // two were opened between the readings
        assert_eq!(shares(vec![((5, 7), said(6)), ((10, 12), said(13))])[1], Some(0.0));
        assert_eq!(shares(vec![((5, 7), said(6)), ((20, 20), said(13))])[1], Some(6.0 / 13.0));
        // an attempt that timed out may have been a connection
        let timed_out = Said { perhaps: 2, ..said(10) };
        let of = |opened| shares(vec![((0, 0), said(0)), ((opened, opened), timed_out)])[1];
        assert_eq!((of(10), of(12), of(14), of(5)), (Some(0.0), Some(0.0), Some(2.0 / 14.0), Some(0.5)));
        // established, and not signed in yet
        let connecting = Said { connecting: 1, ..said(10) };
        assert_eq!(shares(vec![((0, 0), said(0)), ((11, 11), connecting)])[1], Some(0.0));
        assert_eq!(shares(vec![((11, 11), connecting), ((11, 11), said(11))])[1], Some(0.0));
    }

    #[test]
    fn a_weir_that_starts_anew_is_another_baseline() {
        let other = |opened| Said { start: 2.0, ..said(opened) };
        let samples =
            vec![((0, 0), said(10)), ((5, 5), said(10)), ((9, 9), other(50)), ((10, 10), other(51))];
        assert_eq!(shares(samples), [None, Some(1.0), None, Some(0.0)]);
        assert_eq!(shares(vec![((9, 9), said(5)), ((9, 9), said(4))]), [None, None], "a total fell");
    }

    #[test]
    fn what_was_ten_minutes_ago_is_forgiven_and_samples_are_bounded() {
        let mut window = Window::default();
        let began = Instant::now();
        let mut last = None;
        for second in 0..2_000 {
            let opened = if second < 5 { 0 } else { 8 }; // by somebody else
            let at = began + Duration::from_secs(second);
            last = window.take(Sample { at, opened: (opened, opened), said: vec![said(0)] });
            assert_eq!(
                last.unwrap_or_default(),
                if (5..=600).contains(&second) { 1.0 } else { 0.0 },
                "{second}"
            );
            assert!(window.0.len() <= SAMPLES as usize + 2, "{}", window.0.len());
        }
        assert_eq!(last, Some(0.0));
    }
}
