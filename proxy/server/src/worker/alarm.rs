//! The loop's alarm clock: one kernel timer (timerfd, CLOCK_MONOTONIC) that stays set over many sleeps.
//!
//! A time-out passed to `epoll_wait` is set and taken back at every sleep. This one is set again only when something is due
//! earlier, or when it has rung.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer registered with the worker's runtime.
#[derive(Debug)]
pub(super) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system has no descriptor to give.
    #[expect(unsafe_code, reason = "tokio asks for a promise that no type can express")]
    pub(super) fn new() -> io::Result<Alarm> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned, and nothing closes or replaces it before the AsyncFd is dropped.
        Ok(Alarm(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    /// Wakes the task of `cx` once this time is over, and no more for what was set before. At least a nanosecond: zero
    /// would take the timer back.
    ///
    /// # Errors
    /// When the kernel refuses, which it has no reason to.
    pub(super) fn set(&mut self, cx: &mut Context<'_>, after: Duration) -> io::Result<()> {
        let after = after.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: after.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        if self.poll(cx)?.is_ready() {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Whether it has rung since it was last asked; registers the task of `cx` where it has not.
    fn poll(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            let Poll::Ready(guard) = self.0.poll_read_ready(cx) else { return Ok(Poll::Pending) };
            // what rang before it was set anew is forgotten by the kernel: then there is nothing to read
            if let Ok(read) = guard?.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
                read?;
                return Ok(Poll::Ready(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Instant;

    /// Resolves at the second poll, which only a wake brings about.
    async fn woken_by(alarm: &mut Alarm, after: Duration) {
        let mut set = false;
        poll_fn(|cx| {
            if set {
                return Poll::Ready(());
            }
            set = true;
            alarm.set(cx, after).expect("set");
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn it_rings_each_time_it_is_set_and_never_early() {
        let mut alarm = Alarm::new().expect("a timer");
        for millis in [0, 20, 5] {
            let after = Duration::from_millis(millis);
            let begin = Instant::now();
            woken_by(&mut alarm, after).await;
            assert!(begin.elapsed() >= after, "{:?} of {after:?}", begin.elapsed());
        }
    }

    #[tokio::test]
    async fn what_was_set_before_does_not_ring() {
        let mut alarm = Alarm::new().expect("a timer");
        poll_fn(|cx| Poll::Ready(alarm.set(cx, Duration::from_millis(5)))).await.expect("set");
        let begin = Instant::now();
        woken_by(&mut alarm, Duration::from_millis(100)).await;
        assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
        // one that has rung and was not looked at does not count for the next
        poll_fn(|cx| Poll::Ready(alarm.set(cx, Duration::from_millis(1)))).await.expect("set");
        std::thread::sleep(Duration::from_millis(10));
        let begin = Instant::now();
        woken_by(&mut alarm, Duration::from_millis(50)).await;
        assert!(begin.elapsed() >= Duration::from_millis(50), "{:?}", begin.elapsed());
    }
}
