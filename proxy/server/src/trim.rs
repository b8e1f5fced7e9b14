//! Gives freed memory back to the system after a crowd or a storm has passed.
//!
//! glibc returns only what is free at the *end* of a heap: one small block above a million freed ones keeps them all
//! resident. `malloc_trim` returns the pages in between. It takes the allocator's locks for about a millisecond per 10 MB
//! of free blocks, so it runs only while the process is [`SLACK`] above the least it was seen at after a trim, every
//! [`SOONEST`] seconds while that helps and every [`LATEST`] seconds while it does not.

/// Resident bytes above the floor that are left alone.
const SLACK: u64 = 4 << 20;
/// Seconds between two trims that helped.
const SOONEST: u32 = 2;
/// Seconds between two trims that did not.
const LATEST: u32 = 8;
/// The part of the excess that a trim must return to have helped.
const HELPED: u64 = 4;

/// When to trim next. Asked once a second, from a thread that serves no traffic.
#[derive(Debug)]
pub struct Trimmer {
    floor: u64,
    pause: u32,
    rests: u32,
}

impl Default for Trimmer {
    fn default() -> Trimmer {
        Trimmer { floor: u64::MAX, pause: SOONEST, rests: 0 }
    }
}

impl Trimmer {
    /// What is resident now is the floor: before the first client came, or a crowd that waits at the door would be taken
    /// for what weir needs.
    #[must_use]
    pub fn start() -> Trimmer {
        Trimmer { floor: resident().unwrap_or(u64::MAX), ..Trimmer::default() }
    }

    /// A second has passed.
    pub fn second(&mut self) {
        self.with(resident, trim);
    }

    fn with(&mut self, resident: impl Fn() -> Option<u64>, trim: impl FnOnce()) {
        if self.rests > 0 {
            self.rests -= 1;
            return;
        }
        let Some(before) = resident() else { return };
        self.floor = self.floor.min(before);
        let excess = before - self.floor;
        if excess < SLACK {
            return;
        }
        trim();
        let after = resident().unwrap_or(before);
        self.floor = self.floor.min(after);
        let helped = before.saturating_sub(after) >= excess / HELPED;
        self.pause = if helped { SOONEST } else { (self.pause * 2).min(LATEST) };
        self.rests = self.pause;
    }
}

/// Resident bytes of this process.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim has no safe binding")]
fn trim() {
    // SAFETY: it takes no pointer, locks the allocator itself and frees only pages that no allocation uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn trims_while_above_the_floor_and_less_often_when_it_does_not_help() {
        let mut trimmer = Trimmer::default();
        let (resident, trims) = (Cell::new(10 << 20), Cell::new(0));
        let seconds = |trimmer: &mut Trimmer, count: u32, frees: u64| {
            for _ in 0..count {
                trimmer.with(
                    || Some(resident.get()),
                    || {
                        trims.set(trims.get() + 1);
                        resident.set(resident.get() - frees);
                    },
                );
            }
            trims.replace(0)
        };
        assert_eq!(seconds(&mut trimmer, 20, 0), 0, "at the floor");
        resident.set(40 << 20);
        let in_use = seconds(&mut trimmer, 90, 0);
        assert!((9..=12).contains(&in_use), "in use: every nine seconds, {in_use} times");
        assert_eq!(seconds(&mut trimmer, 9, 30 << 20), 1, "given back within ten");
        assert_eq!(seconds(&mut trimmer, 60, 0), 0, "back at the floor");
    }

    #[test]
    fn the_system_tells_what_is_resident() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
        trim();
    }
}
