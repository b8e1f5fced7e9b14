//! Principals whose requests go upstream on connections of their own (`clients = "own"`): who they are in the whole
//! process, how many they may be, and what their connections sign in with. What a worker keeps for each is in `pools`.
//!
//! A password is held as long as a worker has connections for its user, because they are dialled again when they are lost;
//! then it is overwritten. It is in no log, no answer and no debug output. (Buffers that it went through on its way are
//! freed as all others are.)
//!
//! Bound: `principals_max` users per cluster.

use super::signin::Secret;
use crate::units::{Instant, Span};
use rustc_hash::{FxHashMap, FxHashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::{Zeroize as _, Zeroizing};

/// A user whose connections sign in with the credentials that its clients showed.
pub struct Principal {
    user: Arc<str>,
    password: Mutex<Password>,
}

struct Password {
    /// `None` once nobody needs it.
    bytes: Option<Zeroizing<Vec<u8>>>,
    /// When it last took the place of another one.
    replaced: Option<Instant>,
}

impl Principal {
    fn new(secret: &Secret) -> Principal {
        let bytes = Some(Zeroizing::new(secret.password.clone()));
        Principal { user: secret.user.clone(), password: Mutex::new(Password { bytes, replaced: None }) }
    }

    /// The user's name at the cluster.
    #[must_use]
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// What a connection signs in with (SASL PLAIN, RFC 4616); overwritten where it is dropped. `None` once no worker
    /// has the principal any more: then nothing is to be dialled.
    #[must_use]
    pub fn token(&self) -> Option<Zeroizing<Vec<u8>>> {
        let held = locked(&self.password);
        let password = held.bytes.as_ref()?;
        let mut token = Zeroizing::new(Vec::with_capacity(self.user.len() + password.len() + 2));
        token.push(0);
        token.extend_from_slice(self.user.as_bytes());
        token.push(0);
        token.extend_from_slice(password);
        Some(token)
    }

    fn renew(&self, secret: &Secret, now: Instant) {
        let mut held = locked(&self.password);
        if held.bytes.as_ref().is_none_or(|bytes| **bytes != secret.password) {
            held.bytes = Some(Zeroizing::new(secret.password.clone()));
            held.replaced = Some(now);
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("user", &self.user).finish_non_exhaustive()
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Principal) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Principal {}

/// The principals of a process, shared by its workers.
#[derive(Debug, Default)]
pub struct Principals(Mutex<Taken>);

/// A cluster by name, and a user of it.
type Who = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Taken {
    /// With the workers that have each.
    by_user: FxHashMap<Who, (Arc<Principal>, u32)>,
    /// Those whose credentials a node refused, until somebody looks.
    refused: FxHashSet<Who>,
}

impl Principals {
    /// A worker's hold on a principal whose credentials the cluster has taken; `None`: the cluster has `max` others.
    pub(super) fn take(
        self: &Arc<Principals>,
        cluster: &Arc<str>,
        secret: &Secret,
        max: u32,
        now: Instant,
    ) -> Option<Seat> {
        let mut taken = locked(&self.0);
        let who = (cluster.clone(), secret.user.clone());
        let others = taken.by_user.keys().filter(|(of, _)| of == cluster).count();
        let principal = match taken.by_user.get_mut(&who) {
            Some((principal, workers)) => {
                *workers += 1;
                principal.renew(secret, now);
                principal.clone()
            }
            None if others >= max as usize => return None,
            None => {
                let principal = Arc::new(Principal::new(secret));
                taken.by_user.insert(who, (principal.clone(), 1));
                principal
            }
        };
        Some(Seat { shared: self.clone(), cluster: cluster.clone(), principal })
    }

    /// Principals of this cluster that any worker has connections for.
    #[must_use]
    pub fn count(&self, cluster: &str) -> usize {
        locked(&self.0).by_user.keys().filter(|(of, _)| **of == *cluster).count()
    }

    /// Users whose credentials a node refused although they had been good, since the last call: the cluster by name, and
    /// the user. What is remembered of them is not to be believed any more.
    pub fn take_refused(&self) -> impl Iterator<Item = (Arc<str>, Arc<str>)> + use<> {
        std::mem::take(&mut locked(&self.0).refused).into_iter()
    }
}

/// One worker's hold on a principal. Ends when it is dropped, and the password with the last one.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Principals>,
    cluster: Arc<str>,
    principal: Arc<Principal>,
}

impl Seat {
    pub(super) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Its user has signed in again, perhaps with another password.
    pub(super) fn renew(&self, secret: &Secret, now: Instant) {
        self.principal.renew(secret, now);
    }

    /// Whether the password took the place of another one within this time: what is refused now may be the old one.
    pub(super) fn is_new(&self, within: Span, now: Instant) -> bool {
        locked(&self.principal.password).replaced.is_some_and(|at| now.since(at) <= within)
    }

    /// A node has refused the credentials.
    pub(super) fn refused(&self) {
        locked(&self.shared.0).refused.insert((self.cluster.clone(), self.principal.user.clone()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = locked(&self.shared.0);
        let who = (self.cluster.clone(), self.principal.user.clone());
        if let Some((_, workers)) = taken.by_user.get_mut(&who) {
            *workers -= 1;
            if *workers == 0 {
                taken.by_user.remove(&who);
                // connections that are on their way out may keep the principal for a while, but not this
                let mut held = locked(&self.principal.password);
                if let Some(bytes) = &mut held.bytes {
                    bytes.zeroize();
                }
                held.bytes = None;
            }
        }
    }
}

/// Nothing is left half done under these locks, so a panic of another holder changes nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant(1);

    fn secret(user: &str, password: &str) -> Secret {
        Secret { user: user.into(), password: password.into() }
    }

    #[test]
    fn workers_share_a_principal_and_its_newest_password() {
        let (all, main, other): (Arc<Principals>, Arc<str>, Arc<str>) =
            (Arc::default(), "main".into(), "other".into());
        let first = all.take(&main, &secret("a", "one"), 2, NOW).expect("room");
        let again = all.take(&main, &secret("a", "two"), 2, NOW).expect("the same user");
        assert_eq!(first.principal(), again.principal());
        assert_eq!(first.principal().token().as_deref().map(Vec::as_slice), Some(b"\0a\0two".as_slice()));
        assert!(first.is_new(Span::secs(1), NOW) && !first.is_new(Span::secs(1), NOW.after(Span::secs(2))));
        let second = all.take(&main, &secret("b", "x"), 2, NOW).expect("room");
        assert!(!second.is_new(Span::secs(1), NOW), "it is nobody's successor");
        assert!(all.take(&main, &secret("c", "x"), 2, NOW).is_none());
        let elsewhere = all.take(&other, &secret("c", "x"), 2, NOW).expect("another cluster");
        assert_eq!((all.count("main"), all.count("other")), (2, 1));
        // the room comes back with the last worker, and with it goes the password
        let kept = first.principal().clone();
        drop(first);
        assert!(all.take(&main, &secret("c", "x"), 2, NOW).is_none());
        assert!(kept.token().is_some());
        drop((again, elsewhere));
        assert!(kept.token().is_none());
        let third = all.take(&main, &secret("c", "x"), 2, NOW).expect("room");
        third.refused();
        third.refused();
        assert_eq!(all.take_refused().collect::<Vec<_>>(), [("main".into(), "c".into())]);
        assert_eq!(all.take_refused().count(), 0);
        assert!(!format!("{third:?} {second:?} {all:?}").contains("x\""));
        assert!(!format!("{:?}", secret("a", "hush")).contains("hush"));
    }
}
