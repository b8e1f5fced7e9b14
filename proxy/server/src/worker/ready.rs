//! Which sockets have something to do: one waker per socket that notes the socket's token on a list, and wakes the
//! worker's one task when the list was empty. No task and no channel hop per request: a readiness event costs one push.
//!
//! Bounds: a source is on the list at most once, so the list is never longer than there are sources.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// What woke the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// The client in this slot of the engine's client table.
    Client(u32),
    /// The lane of this index.
    Lane(u32),
    /// The listening socket of this index.
    Gate(u32),
    /// Accepted sockets from the acceptor.
    Arrivals,
    /// Questions and news from the control side.
    Orders,
    /// Ends of flushes by prefix.
    Flushes,
}

/// Tokens with something to do, and the task that does it.
#[derive(Debug, Default)]
pub struct ReadyList {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Token>,
    task: Option<Waker>,
}

impl ReadyList {
    /// Notes a token; wakes the task when it is the first.
    pub fn push(&self, token: Token) {
        let mut state = self.lock();
        state.ready.push(token);
        if state.ready.len() == 1
            && let Some(task) = &state.task
        {
            task.wake_by_ref();
        }
    }

    /// Moves what is noted to `into`. From now on the task of `cx` is woken.
    pub fn take(&self, cx: &Context<'_>, into: &mut Vec<Token>) {
        let mut state = self.lock();
        into.append(&mut state.ready);
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            None => state.task = Some(cx.waker().clone()),
        }
    }

    /// The list is whole after every statement, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One source of events: its place on the list, as a waker.
#[derive(Debug)]
pub struct Source {
    mark: Arc<Mark>,
    waker: Waker,
}

#[derive(Debug)]
struct Mark {
    token: Token,
    listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl Source {
    /// A source that notes `token`.
    #[must_use]
    pub fn new(list: &Arc<ReadyList>, token: Token) -> Source {
        let mark = Arc::new(Mark { token, listed: AtomicBool::new(false), list: list.clone() });
        Source { waker: Waker::from(mark.clone()), mark }
    }

    /// Its token is being handled: a wake-up from now on is noted again.
    pub fn handled(&self) {
        self.mark.listed.store(false, Ordering::Release);
    }

    /// The waker to poll the socket with.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.list.push(self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_source_is_listed_once_and_the_task_woken_once() {
        let list = Arc::new(ReadyList::default());
        let count = Arc::new(Count::default());
        let task = Waker::from(count.clone());
        let cx = Context::from_waker(&task);
        let mut ready = Vec::new();
        list.take(&cx, &mut ready);

        let (one, two) = (Source::new(&list, Token::Client(1)), Source::new(&list, Token::Lane(2)));
        one.waker().wake_by_ref();
        one.waker().wake_by_ref();
        two.waker().wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        list.take(&cx, &mut ready);
        assert_eq!(ready, [Token::Client(1), Token::Lane(2)]);

        one.waker().wake_by_ref();
        list.take(&cx, &mut ready);
        assert_eq!(ready.len(), 2, "not before it was handled");
        one.handled();
        one.waker().wake_by_ref();
        list.take(&cx, &mut ready);
        assert_eq!(ready.len(), 3);
    }
}
