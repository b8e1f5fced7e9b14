//! What processes ask of watched destinations themselves, estimated from the first bytes of what they send. A *request* is
//! one call that sends and whose bytes begin with a command of the protocol; [`scan`](crate::scan) counts its operations.

use crate::requests::BUCKETS;

/// Entries of the map `WORK`. The reader takes out those of processes that have ended; beyond the bound a call is counted as
/// lost.
pub const WORK: u32 = 1_024;

/// A slot of the rolling maximum, in nanoseconds of the monotonic clock: two of them know the largest request of the last
/// 30 to 60 seconds.
pub const HALF_MINUTE: u64 = 30_000_000_000;

/// The key of the map `WORK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkKey {
    /// The process (the kernel's `tgid`, in its first pid namespace).
    pub process: u32,
    /// The destination's slot ([`fold`](crate::fold)).
    pub slot: u32,
}

crate::record!(WorkKey, 8, align 4);

/// The value of the map `WORK`, on each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Calls that sent something.
    pub writes: u64,
    /// Bytes that they sent.
    pub bytes: u64,
    /// Calls whose bytes began with a command.
    pub requests: u64,
    /// Operations of those.
    pub operations: u64,
    /// Calls whose bytes could not be looked at: none of write, writev, sendto, sendmsg, or memory that is gone.
    pub unseen: u64,
    /// Requests by operations, see [`bucket`](crate::requests::bucket).
    pub sizes: [u64; BUCKETS],
    /// The most operations of one request in a half minute.
    pub largest: [u64; 2],
    /// Which half minute, since the monotonic clock began.
    pub half_minute: [u64; 2],
    /// When the process first sent on this CPU, in nanoseconds since boot.
    pub seen: u64,
    /// The process's user.
    pub uid: u32,
    /// Always 0.
    pub zero: u32,
    /// The thread's name at its first call on this CPU, ended by NUL.
    pub comm: [u8; 16],
}

crate::record!(Work, (5 + BUCKETS + 4 + 2) * 8 + 16, align 8);

/// Where the probe finds what was sent (of sockets see [`states`](crate::states)), and the numbers of the system calls that send: patched into the object before it is
/// loaded. All places are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFields {
    /// The number of the system call in the registers that its thread entered the kernel with, 4 bytes.
    pub call: u16,
    /// Its second argument, 8 bytes.
    pub second: u16,
    /// Its third argument.
    pub third: u16,
    /// write(2).
    pub write: u16,
    /// writev(2).
    pub writev: u16,
    /// sendto(2).
    pub sendto: u16,
    /// sendmsg(2).
    pub sendmsg: u16,
    /// Always 0.
    pub zero: u16,
}

crate::record!(SendFields, 16, align 2);

impl Work {
    /// Nothing counted.
    pub const ZERO: Work = Work {
        writes: 0,
        bytes: 0,
        requests: 0,
        operations: 0,
        unseen: 0,
        sizes: [0; BUCKETS],
        largest: [0; 2],
        half_minute: [0; 2],
        seen: 0,
        uid: 0,
        zero: 0,
        comm: [0; 16],
    };

    /// A request of so many operations in this half minute. Two are kept, by parity: what stands in the place of another
    /// one is out of date.
    #[inline(always)]
    pub fn note_largest(&mut self, operations: u64, half_minute: u64) {
        // the index is written out: a computed one would have to be proven to the kernel
        let (largest, kept) = if half_minute & 1 == 0 {
            (&mut self.largest[0], &mut self.half_minute[0])
        } else {
            (&mut self.largest[1], &mut self.half_minute[1])
        };
        if *kept < half_minute {
            *kept = half_minute;
            *largest = operations;
        } else if *kept == half_minute && *largest < operations {
            *largest = operations;
        }
    }

    /// Adds what another CPU counted.
    pub fn add(&mut self, other: &Work) {
        if self.seen == 0 {
            (self.seen, self.comm, self.uid) = (other.seen, other.comm, other.uid);
        }
        self.writes += other.writes;
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.operations += other.operations;
        self.unseen += other.unseen;
        self.sizes.iter_mut().zip(other.sizes).for_each(|(sum, part)| *sum += part);
        for (largest, half_minute) in other.largest.into_iter().zip(other.half_minute) {
            self.note_largest(largest, half_minute);
        }
    }

    /// The largest request of the last 30 to 60 seconds before `now` (nanoseconds of the monotonic clock), 0 without one.
    #[must_use]
    pub fn largest_at(&self, now: u64) -> u64 {
        let fresh = |kept: u64| kept + 1 >= now / HALF_MINUTE;
        let both = self.largest.into_iter().zip(self.half_minute);
        both.filter(|(_, kept)| fresh(*kept)).map(|(largest, _)| largest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_is_of_this_half_minute_and_the_one_before() {
        let mut work = Work::ZERO;
        assert_eq!(work.largest_at(HALF_MINUTE * 10), 0);
        work.note_largest(15_000, 10);
        work.note_largest(7, 10);
        work.note_largest(30, 11);
        assert_eq!(work.largest_at(HALF_MINUTE * 11 + 5), 15_000);
        assert_eq!(work.largest_at(HALF_MINUTE * 12), 30, "the tenth is over");
        work.note_largest(2, 12); // in the place of the tenth
        assert_eq!(work.largest_at(HALF_MINUTE * 12), 30);
        assert_eq!(work.largest_at(HALF_MINUTE * 14), 0, "nothing was asked for a minute");
    }

    #[test]
    fn cpus_are_added_up_and_an_old_maximum_of_one_does_not_win() {
        let mut one = Work { requests: 2, operations: 5, writes: 2, ..Work::ZERO };
        one.note_largest(9_000, 8);
        let mut two =
            Work { requests: 1, operations: 3, writes: 1, comm: [b'p'; 16], uid: 7, seen: 5, ..Work::ZERO };
        two.note_largest(3, 10);
        one.add(&two);
        assert_eq!((one.requests, one.operations, one.writes), (3, 8, 3));
        assert_eq!((one.comm, one.uid), ([b'p'; 16], 7));
        assert_eq!(one.largest_at(HALF_MINUTE * 10), 3);
    }
}
