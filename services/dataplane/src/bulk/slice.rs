//! How long a thread runs at a time. With EEVDF (Linux 6.12 and later) a thread may ask for short slices: woken, it then runs
//! before one that computes in long ones, and is sooner made to wait itself; of the processor it gets as much as before
//! (Documentation/scheduler/sched-eevdf.rst, sched_setattr(2)). Older kernels take the wish and do nothing.

use std::io;

/// What a thread of small calls asks for, nanoseconds: the least there is.
const SHORT: u64 = 100_000;

/// Asks for short slices, for this thread and those it starts.
///
/// # Errors
/// When the system refuses, as a seccomp filter may.
pub fn short() -> io::Result<()> {
    ask(SHORT)
}

/// Asks for the slices that threads have by themselves.
///
/// # Errors
/// As [`short`].
pub fn usual() -> io::Result<()> {
    ask(0)
}

fn ask(nanoseconds: u64) -> io::Result<()> {
    let size = u32::try_from(size_of::<libc::sched_attr>()).map_err(io::Error::other)?;
    let attributes = libc::sched_attr {
        size,
        sched_policy: 0, // SCHED_OTHER
        sched_flags: 0,
        sched_nice: rustix::process::getpriority_process(None)?, // as it is
        sched_priority: 0,
        sched_runtime: nanoseconds,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, flags) = (0, 0);
    // SAFETY: the kernel reads `size` bytes of `attributes`, which outlives the call, and writes nothing.
    #[allow(unsafe_code, reason = "no crate wraps sched_setattr for threads that are not of real time")]
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_its_wish_and_stays_as_nice_as_it_was() {
        let nice = || rustix::process::getpriority_process(None).expect("its niceness");
        rustix::process::setpriority_process(None, 3).expect("nicer");
        short().expect("granted");
        usual().expect("granted");
        assert_eq!(nice(), 3);
        ask(SHORT).expect("granted");
        let of_child = std::thread::spawn(nice).join().expect("ended");
        assert_eq!(of_child, 3);
    }
}
