//! Which credentials the cluster is asked about, and how often: one of these per cluster and process.
//!
//! Good ones are remembered for `credentials_kept`, wrong ones for [`WRONG_KEPT`]; the same ones are asked about once,
//! however many clients wait. Nothing here sees a password: credentials are known by a digest that only this process can
//! make, and what is to be asked is held as whatever the caller gave.
//!
//! Bounds: `credential_checks` at once, of one user one; [`QUEUE_MAX`] different ones wait, of one user [`QUEUE_OF_USER`],
//! each for at most `queue_timeout`; [`WAITING_MAX`] clients wait in all; [`GOOD_MAX`] and [`WRONG_MAX`] are remembered.

use crate::units::{Instant, Span};
use lru::LruCache;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Credentials, by a keyed hash (HMAC-SHA256 under a key that only this process has). Whoever tries passwords cannot aim at
/// one, so that how long a comparison takes tells nothing.
pub type Digest = [u8; 32];

/// How long wrong credentials are refused without asking.
pub const WRONG_KEPT: Span = Span::secs(5);
/// Good credentials remembered.
const GOOD_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Wrong credentials remembered: apart, so that a storm of wrong ones makes nobody ask twice.
const WRONG_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Different credentials that wait to be asked about.
const QUEUE_MAX: usize = 256;
/// Of one user.
const QUEUE_OF_USER: usize = 8;
/// Clients that wait in all.
const WAITING_MAX: usize = 16_384;

/// The cluster's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes them.
    Good,
    /// It does not, in its own words.
    Refused(Arc<str>),
    /// It could not be asked, and why.
    Unknown(Arc<str>),
}

/// How often, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Asked about at once.
    pub at_once: u32,
    /// Good ones are remembered for this time.
    pub kept: Span,
    /// Longest wait of those that are not asked about yet.
    pub queue_timeout: Span,
}

/// What becomes of a client's question.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Known already.
    Known(Verdict),
    /// It waits; perhaps [`Credentials::next`] has something to ask.
    Waits,
}

#[derive(Debug)]
struct Check<W, S> {
    user: Arc<str>,
    since: Instant,
    waiting: Vec<W>,
    /// What to ask with; taken when it is asked.
    secret: Option<S>,
}

#[derive(Debug)]
struct Kept {
    user: Arc<str>,
    until: Instant,
    verdict: Verdict,
}

/// The credentials of one cluster. `W` is whoever waits, `S` what the cluster is asked with.
#[derive(Debug)]
pub struct Credentials<W, S> {
    good: LruCache<Digest, Kept>,
    wrong: LruCache<Digest, Kept>,
    checks: HashMap<Digest, Check<W, S>>,
    queue: VecDeque<Digest>,
    under_way: u32,
    waiting: usize,
}

impl<W, S> Default for Credentials<W, S> {
    fn default() -> Self {
        Credentials {
            good: LruCache::new(GOOD_MAX),
            wrong: LruCache::new(WRONG_MAX),
            checks: HashMap::new(),
            queue: VecDeque::new(),
            under_way: 0,
            waiting: 0,
        }
    }
}

impl<W, S> Credentials<W, S> {
    /// A client asks.
    pub fn ask(&mut self, digest: Digest, user: &Arc<str>, secret: S, who: W, now: Instant) -> Answer {
        for kept in [&mut self.good, &mut self.wrong] {
            match kept.get(&digest) {
                Some(found) if now < found.until => return Answer::Known(found.verdict.clone()),
                Some(_) => drop(kept.pop(&digest)),
                None => {}
            }
        }
        let full = |what: &str| Answer::Known(Verdict::Unknown(format!("weir: {what}").into()));
        if self.waiting >= WAITING_MAX {
            return full("too many clients wait for their credentials to be checked");
        }
        if let Some(check) = self.checks.get_mut(&digest) {
            check.waiting.push(who);
            self.waiting += 1;
            return Answer::Waits;
        }
        let of_user =
            self.queue.iter().filter(|d| self.checks.get(*d).is_some_and(|c| c.user == *user)).count();
        if of_user >= QUEUE_OF_USER {
            return full("too many different passwords of this user wait to be checked");
        }
        if self.queue.len() >= QUEUE_MAX {
            return full("too many different credentials wait to be checked");
        }
        let check = Check { user: user.clone(), since: now, waiting: vec![who], secret: Some(secret) };
        self.checks.insert(digest, check);
        self.queue.push_back(digest);
        self.waiting += 1;
        Answer::Waits
    }

    /// What the cluster is to be asked now: called until there is nothing. One user's turn does not come twice at a time, so
    /// that a storm of one user's wrong passwords leaves room for the others.
    pub fn next(&mut self, bounds: Bounds) -> Option<(Digest, S)> {
        if self.under_way >= bounds.at_once {
            return None;
        }
        let busy: Vec<Arc<str>> =
            self.checks.values().filter(|check| check.secret.is_none()).map(|c| c.user.clone()).collect();
        let free = |digest: &Digest| self.checks.get(digest).is_some_and(|c| !busy.contains(&c.user));
        let at = self.queue.iter().position(free)?;
        let digest = self.queue.remove(at)?;
        let secret = self.checks.get_mut(&digest)?.secret.take()?;
        self.under_way += 1;
        Some((digest, secret))
    }

    /// The cluster's word on what [`Credentials::next`] gave; whoever waited for it.
    pub fn checked(&mut self, digest: Digest, verdict: &Verdict, bounds: Bounds, now: Instant) -> Vec<W> {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(Check { user, waiting, .. }) = self.checks.remove(&digest) else { return Vec::new() };
        self.waiting -= waiting.len();
        let keep = |until| Kept { user: user.clone(), until, verdict: verdict.clone() };
        match verdict {
            Verdict::Good => {
                // a user has one password: the one it had is not good any more
                let old: Vec<Digest> = self
                    .good
                    .iter()
                    .filter(|(_, kept)| kept.user == user)
                    .map(|(digest, _)| *digest)
                    .collect();
                old.iter().for_each(|digest| drop(self.good.pop(digest)));
                self.good.put(digest, keep(now.after(bounds.kept)));
            }
            Verdict::Refused(_) => {
                self.wrong.put(digest, keep(now.after(WRONG_KEPT)));
            }
            Verdict::Unknown(_) => {}
        }
        waiting
    }

    /// A node has refused what the cluster had taken of this user: it is asked about again.
    pub fn forget(&mut self, user: &str) {
        let of_user = |(digest, kept): (&Digest, &Kept)| (*kept.user == *user).then_some(*digest);
        let old: Vec<Digest> = self.good.iter().filter_map(of_user).collect();
        old.iter().for_each(|digest| drop(self.good.pop(digest)));
    }

    /// Whoever has waited for longer than the bound without being asked about.
    pub fn expired(&mut self, bounds: Bounds, now: Instant) -> Vec<W> {
        let mut out = Vec::new();
        // in the order of their arrival
        while let Some(digest) = self.queue.front()
            && self.checks.get(digest).is_none_or(|check| now.since(check.since) >= bounds.queue_timeout)
        {
            let check = self.checks.remove(digest);
            self.queue.pop_front();
            out.extend(check.into_iter().flat_map(|check| check.waiting));
        }
        self.waiting -= out.len();
        out
    }

    /// Asked about now, and different ones that wait.
    #[must_use]
    pub fn load(&self) -> (u32, usize) {
        (self.under_way, self.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { at_once: 2, kept: Span::secs(60), queue_timeout: Span::secs(5) };
    const NOW: Instant = Instant(1_000_000);

    type Desk = Credentials<u32, &'static str>;

    fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&(n as u64).to_be_bytes());
        digest
    }

    fn refused() -> Verdict {
        Verdict::Refused("no".into())
    }

    #[test]
    fn the_same_credentials_are_asked_about_once_and_then_remembered() {
        let (mut desk, user) = (Desk::default(), "feed".into());
        for who in 0..100 {
            assert_eq!(desk.ask(digest(1), &user, "secret", who, NOW), Answer::Waits);
        }
        assert_eq!(desk.next(BOUNDS), Some((digest(1), "secret")));
        assert_eq!(desk.next(BOUNDS), None);
        assert_eq!(desk.checked(digest(1), &Verdict::Good, BOUNDS, NOW).len(), 100);
        let just = NOW.after(Span::millis(59_999));
        assert_eq!(desk.ask(digest(1), &user, "secret", 0, just), Answer::Known(Verdict::Good));
        assert_eq!(desk.ask(digest(1), &user, "secret", 0, NOW.after(BOUNDS.kept)), Answer::Waits);
        assert_eq!(desk.load(), (0, 1));
    }

    #[test]
    fn a_storm_of_wrong_passwords_takes_one_place_and_a_bounded_queue() {
        let (mut desk, storm, other) = (Desk::default(), "storm".into(), "other".into());
        let mut waits = 0;
        for n in 0..1_000 {
            waits += usize::from(desk.ask(digest(n), &storm, "wrong", 0, NOW) == Answer::Waits);
        }
        assert_eq!(waits, QUEUE_OF_USER);
        assert_eq!(desk.ask(digest(5_000), &other, "right", 7, NOW), Answer::Waits);
        assert_eq!(desk.next(BOUNDS), Some((digest(0), "wrong")));
        assert_eq!(
            desk.next(BOUNDS),
            Some((digest(5_000), "right")),
            "the other user's comes before its turn"
        );
        assert_eq!(desk.next(BOUNDS), None);
        assert_eq!(desk.checked(digest(5_000), &Verdict::Good, BOUNDS, NOW), [7]);
        assert_eq!(desk.next(BOUNDS), None, "one of a user at a time");
        assert_eq!(desk.checked(digest(0), &refused(), BOUNDS, NOW), [0]);
        assert_eq!(desk.ask(digest(0), &storm, "wrong", 0, NOW), Answer::Known(refused()));
        assert_eq!(desk.next(BOUNDS), Some((digest(1), "wrong")));
        // what waits for too long is told so; what is asked about is not
        let late = NOW.after(BOUNDS.queue_timeout);
        assert_eq!(desk.expired(BOUNDS, late).len(), QUEUE_OF_USER - 2);
        assert_eq!(desk.load(), (1, 0));
        assert_eq!(desk.ask(digest(0), &storm, "wrong", 0, NOW.after(WRONG_KEPT)), Answer::Waits);
    }

    #[test]
    fn a_new_password_ends_the_old_one_and_wrong_ones_do_not() {
        let (mut desk, user) = (Desk::default(), "feed".into());
        for (n, verdict) in [(1, Verdict::Good), (2, refused()), (3, Verdict::Good)] {
            assert_eq!(desk.ask(digest(n), &user, "secret", 0, NOW), Answer::Waits);
            assert_eq!(desk.next(BOUNDS).map(|(digest, _)| digest), Some(digest(n)));
            desk.checked(digest(n), &verdict, BOUNDS, NOW);
            let first = desk.ask(digest(1), &user, "secret", 0, NOW);
            assert_eq!(first == Answer::Known(Verdict::Good), n < 3);
        }
        // what could not be asked is not remembered
        assert_eq!(desk.next(BOUNDS).map(|(digest, _)| digest), Some(digest(1)));
        desk.checked(digest(1), &Verdict::Unknown("away".into()), BOUNDS, NOW);
        assert_eq!(desk.ask(digest(1), &user, "secret", 0, NOW), Answer::Waits);
    }

    #[test]
    fn what_is_kept_and_what_waits_is_bounded() {
        let mut desk = Desk::default();
        for n in 0..2 * QUEUE_MAX {
            desk.ask(digest(n), &format!("user{n}").into(), "x", 0, NOW);
        }
        assert_eq!(desk.load(), (0, QUEUE_MAX));
        for who in 0..2 * WAITING_MAX {
            desk.ask(digest(0), &"user0".into(), "x", who as u32, NOW);
        }
        assert_eq!(desk.waiting, WAITING_MAX);
        while let Some((digest, _)) = desk.next(Bounds { at_once: 1_000, ..BOUNDS }) {
            desk.checked(digest, &refused(), BOUNDS, NOW);
        }
        assert_eq!((desk.waiting, desk.load()), (0, (0, 0)));
        assert!(desk.checks.is_empty() && desk.wrong.len() <= WRONG_MAX.get());
    }
}
