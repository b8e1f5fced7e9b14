//! The probe `transitions`: socket state changes, opens and life-times by destination and direction.

use super::maps::{Slots, per_cpu};
use super::probe::{Probe, TO_LIVE, TO_LOAD};
use super::states;
use crate::picture::{Direction, LifeTimes, OpenCount, State, TransitionCount};
use aya::Ebpf;
use aya::maps::MapError;
use weir_probes_abi::fold::{self, INCOMING, OUTGOING};
use weir_probes_abi::lost;
use weir_probes_abi::transitions::{BUCKETS, CLOSE, ESTABLISHED, Row, STATES, SYN_RECV, SYN_SENT, step};

/// See the module.
pub const PROBE: Probe = Probe {
    name: "transitions",
    loses: "connections opened per second, state changes, life-times of connections",
    feature: states::FEATURE,
    to_load: TO_LOAD,
    to_live: TO_LIVE,
    programs: &[],
    shared: states::PROGRAMS,
    maps: &["ROWS", "LIVES"],
    lost: &[lost::LIVES, lost::UNREADABLE_TRANSITIONS],
    prepare: states::prepare,
    attach: |ebpf, _, machine| states::attach(ebpf, machine),
};

/// What the probe has counted since it was attached; rows in which nothing was counted are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// State changes.
    pub transitions: Vec<TransitionCount>,
    /// Connections begun.
    pub opens: Vec<OpenCount>,
    /// Life-times of those that closed.
    pub life_times: Vec<LifeTimes>,
}

/// Reads the maps.
///
/// # Errors
///
/// When a map cannot be read.
pub fn read(ebpf: &Ebpf, slots: &Slots) -> Result<Seen, MapError> {
    let rows = per_cpu::<Row>(ebpf, "ROWS")?;
    let mut seen = Seen::default();
    for (slot, destination) in slots.iter() {
        for (number, direction) in [(OUTGOING, Direction::Outgoing), (INCOMING, Direction::Incoming)] {
            let row = sum(rows.get(&fold::row(slot, number), 0)?.iter().map(|raw| &raw.0));
            let (counts, opens) = (counts(&row), opens(&row, direction));
            if counts.is_empty() {
                continue;
            }
            seen.transitions.extend(counts.into_iter().map(|(from, to, count)| TransitionCount {
                destination: destination.clone(),
                direction,
                from,
                to,
                count,
            }));
            seen.opens.push(OpenCount { destination: destination.clone(), direction, opens });
            // Of what is not told apart no begin is kept.
            if slot != fold::OTHER {
                seen.life_times.push(LifeTimes {
                    destination: destination.clone(),
                    direction,
                    buckets: row.lives.to_vec(),
                    microseconds: row.lived_microseconds,
                    unknown: row.unknown_lives,
                });
            }
        }
    }
    Ok(seen)
}

/// The sum over CPUs. Wrapping as the kernel's own counters do.
fn sum<'a>(rows: impl Iterator<Item = &'a Row>) -> Row {
    rows.fold(Row::ZERO, |mut all, row| {
        let add = |all: &mut [u64], some: &[u64]| {
            all.iter_mut().zip(some).for_each(|(all, some)| *all = all.wrapping_add(*some));
        };
        add(&mut all.steps, &row.steps);
        add(&mut all.lives, &row.lives);
        all.lived_microseconds = all.lived_microseconds.wrapping_add(row.lived_microseconds);
        all.unknown_lives = all.unknown_lives.wrapping_add(row.unknown_lives);
        all
    })
}

fn counts(row: &Row) -> Vec<(State, State, u64)> {
    let mut counts = Vec::new();
    for from in 1..STATES as u8 {
        for to in 1..STATES as u8 {
            let count = row.steps[step(u32::from(from), u32::from(to)) as usize];
            if let (Some(from), Some(to), 1..) = (State::of(from), State::of(to), count) {
                counts.push((from, to, count));
            }
        }
    }
    counts
}

/// An outgoing connection is opened when it is tried, an incoming one when it could be accepted.
fn opens(row: &Row, direction: Direction) -> u64 {
    let (from, to) = match direction {
        Direction::Outgoing => (CLOSE, SYN_SENT),
        Direction::Incoming => (SYN_RECV, ESTABLISHED),
    };
    row.steps[step(from, to) as usize]
}

/// The upper bounds of the buckets of [`LifeTimes`], in seconds; the last one has none.
#[must_use]
pub fn bucket_bounds() -> Vec<f64> {
    (1..BUCKETS as i32).map(|power| 2f64.powi(power) / 1e6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::transitions::bucket;

    #[test]
    fn rows_of_several_cpus_add_up() {
        let (mut one, mut two) = (Row::ZERO, Row::ZERO);
        one.steps[step(CLOSE, SYN_SENT) as usize] = 3;
        two.steps[step(CLOSE, SYN_SENT) as usize] = 4;
        two.lives[5] = 2;
        two.unknown_lives = 1;
        let all = sum([&one, &two].into_iter());
        assert_eq!(counts(&all), [(State::Close, State::SynSent, 7)]);
        assert_eq!((opens(&all, Direction::Outgoing), opens(&all, Direction::Incoming)), (7, 0));
        assert_eq!((all.lives[5], all.unknown_lives), (2, 1));
    }

    #[test]
    fn a_life_time_is_below_the_bound_of_its_bucket_and_not_of_the_one_before() {
        let bounds = bucket_bounds();
        assert_eq!(bounds.len(), BUCKETS - 1);
        for microseconds in [0, 1, 2, 3, 1000, 1_000_000, 86_400_000_000] {
            let (index, seconds) = (bucket(microseconds) as usize, microseconds as f64 / 1e6);
            assert!(seconds < bounds[index], "{microseconds} us");
            assert!(index == 0 || seconds >= bounds[index - 1], "{microseconds} us");
        }
        assert_eq!(bucket(u64::MAX) as usize, BUCKETS - 1);
    }
}
