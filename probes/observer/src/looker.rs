//! The thread that looks: every interval all sources one after the other, then the picture goes to the metrics. A scrape
//! reads what the last look came to and never waits for the next.

use crate::metrics::reading;
use crate::picture::{Look, Picture};
use crate::source::Source;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_telemetry::{Exposition, ProbesTelemetry};

/// A picture older than this, and than [`STALE_INTERVALS`], means that a source hangs.
pub const STALE: Duration = Duration::from_secs(60);
/// In intervals, for those who look rarely.
pub const STALE_INTERVALS: u32 = 10;

/// What was last seen, and when.
#[derive(Debug)]
pub struct Board {
    telemetry: ProbesTelemetry,
    seen: Mutex<Option<Instant>>,
    stale: Duration,
}

impl Board {
    /// A board without a picture, for one that comes every `interval`.
    #[must_use]
    pub fn new(telemetry: ProbesTelemetry, interval: Duration) -> Board {
        let stale = STALE.max(interval.saturating_mul(STALE_INTERVALS));
        Board { telemetry, seen: Mutex::new(None), stale }
    }

    /// `/metrics` now.
    #[must_use]
    pub fn render(&self, accept: Option<&str>) -> Exposition {
        self.telemetry.render(accept, self.age())
    }

    /// How old the picture is; `None` before the first.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.lock().map(|seen| seen.elapsed())
    }

    /// Whether pictures still come.
    ///
    /// # Errors
    /// How long none has come.
    pub fn healthy(&self) -> Result<(), String> {
        match self.age() {
            Some(age) if age > self.stale => {
                Err(format!("the last picture is {} s old: a source hangs", age.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// Takes a picture in; `began` is when its first source began to look.
    pub fn show(&self, picture: &Picture, began: Instant) {
        self.telemetry.update(reading(picture));
        *self.lock() = Some(began);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, and how it is told to end.
#[derive(Debug)]
pub struct Looker {
    stop: SyncSender<()>,
    ended: Receiver<()>,
}

impl Looker {
    /// Starts looking. `first` is called once the first picture is shown, `lost` when the thread ends without having been
    /// told to: a source panicked.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        board: Arc<Board>,
        mut sources: Vec<Box<dyn Source>>,
        interval: Duration,
        first: impl FnOnce() + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
    ) -> io::Result<Looker> {
        let (stop, told) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        std::thread::Builder::new().name("looker".to_owned()).spawn(move || {
            let alarm = Alarm(Some(lost));
            let mut first = Some(first);
            loop {
                let began = Instant::now();
                board.show(&look(&mut sources), began);
                if let Some(first) = first.take() {
                    first();
                }
                match told.recv_timeout(interval.saturating_sub(began.elapsed())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            alarm.off();
            drop(sources); // programs are detached before anybody hears of the end
            let _ = end.try_send(()); // nobody may be waiting
        })?;
        Ok(Looker { stop, ended })
    }

    /// Ends it, and waits at most `patience` for the look under way.
    pub fn stop(self, patience: Duration) {
        let _ = self.stop.try_send(()); // the thread may have ended
        let _ = self.ended.recv_timeout(patience);
    }
}

/// One picture.
pub fn look(sources: &mut [Box<dyn Source>]) -> Picture {
    let mut picture = Picture::default();
    for source in sources {
        let began = Instant::now();
        source.look(&mut picture);
        picture.looks.push(Look { source: source.name(), took: began.elapsed() });
    }
    picture
}

/// Rings when the thread unwinds.
struct Alarm<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Alarm<F> {
    fn off(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Alarm<F> {
    fn drop(&mut self) {
        if let Some(ring) = self.0.take() {
            ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts looks, and lets every one wait for its turn.
    struct Slow {
        looks: Arc<AtomicU64>,
        go: Receiver<()>,
    }

    impl Source for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn look(&mut self, picture: &mut Picture) {
            let _ = self.go.recv(); // the test may be over
            self.looks.fetch_add(1, Ordering::Relaxed);
            picture.sockets = Some(Vec::new());
        }
    }

    fn board() -> Arc<Board> {
        Arc::new(Board::new(ProbesTelemetry::new("0", "unknown"), Duration::from_millis(1)))
    }

    #[test]
    fn nobody_waits_for_a_slow_source() {
        let (go, turn) = sync_channel(1);
        let looks = Arc::new(AtomicU64::new(0));
        let (ready, first) = sync_channel(1);
        let board = board();
        let looker = Looker::start(
            board.clone(),
            vec![Box::new(Slow { looks: looks.clone(), go: turn })],
            Duration::from_millis(1),
            move || ready.try_send(()).expect("room for one"),
            || panic!("it did not end by itself"),
        )
        .expect("a thread");
        // The source holds its first look: there is a page, and no picture on it.
        let page = board.render(None).body;
        assert!(!page.contains("picture_age") && page.contains("weir_build_info"), "{page}");
        assert_eq!((board.age(), board.healthy()), (None, Ok(())));
        assert!(first.try_recv().is_err());
        go.send(()).expect("it waits");
        first.recv().expect("the first picture");
        assert!(board.render(None).body.contains("weir_probes_look_seconds{reader=\"slow\"}"));
        go.send(()).expect("it waits again");
        go.send(()).expect("and again");
        while looks.load(Ordering::Relaxed) < 2 {
            std::thread::yield_now();
        }
        // It hangs in a look: the end does not wait for it longer than it was told to.
        looker.stop(Duration::from_millis(50));
        drop(go);
    }

    #[test]
    fn a_source_that_panics_is_noticed() {
        struct Broken;
        impl Source for Broken {
            fn name(&self) -> &'static str {
                "broken"
            }

            fn look(&mut self, _: &mut Picture) {
                panic!("as a test wants it");
            }
        }
        let (tell, lost) = sync_channel(1);
        let sources: Vec<Box<dyn Source>> = vec![Box::new(Broken)];
        let ring = move || tell.try_send(()).expect("room for one");
        let looker = Looker::start(board(), sources, Duration::from_secs(1), || (), ring).expect("a thread");
        lost.recv_timeout(Duration::from_secs(30)).expect("the alarm");
        looker.stop(Duration::from_secs(30));
    }

    #[test]
    fn an_old_picture_is_no_health() {
        let board = board();
        let long_ago = Instant::now().checked_sub(STALE + Duration::from_secs(2));
        let Some(long_ago) = long_ago else { return }; // a machine that has just booted
        board.show(&Picture::default(), long_ago);
        let why = board.healthy().expect_err("stale");
        assert!(why.starts_with("the last picture is 62 s old"), "{why}");
        board.show(&Picture::default(), Instant::now());
        assert_eq!(board.healthy(), Ok(()));
    }
}
