//! Turns: a call for many keys has other calls go on between its own steps, so that one for twenty keys does not wait for
//! one for twenty thousand. A thread of the runtime is left by its task only where that waits for something.

/// Keys that a call may work on before others have a turn: a tenth of a millisecond or so.
const KEYS_PER_TURN: usize = 200;

/// How far a call is in its turn.
#[derive(Debug, Default)]
pub struct Pace {
    done: usize,
}

impl Pace {
    /// Work on so many keys is done, or about to be: gives way when the turn is over. Dropping it loses nothing.
    pub async fn steps(&mut self, keys: usize) {
        self.done += keys;
        if self.done >= KEYS_PER_TURN {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Frees these one by one: that of some ten thousand values takes milliseconds, too.
    pub async fn free<T>(&mut self, values: impl IntoIterator<Item = T>) {
        for value in values {
            drop(value);
            self.steps(1).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn another_task_goes_on_between_the_steps_of_a_long_loop() {
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        Pace::default().free(0..KEYS_PER_TURN - 1).await;
        assert_eq!(turns.load(Ordering::Relaxed), 0, "a small call is done in one go");
        Pace::default().free(0..KEYS_PER_TURN * 10).await;
        assert!(turns.load(Ordering::Relaxed) >= 10);
        other.abort();
    }
}
