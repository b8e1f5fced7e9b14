//! Whether a token names its caller.
//!
//! What costs least is asked first: a signature is checked only of a token that is well-formed, in time, for this listener
//! and of an issuer with a key. The result is remembered, so that a token costs one check however often it is used; by
//! a keyed hash of all its bytes, so that nobody can make a token that is taken for another one.
//!
//! Bounds: `cached_max` good results, the longest unused leaving first, and a quarter as many bad ones, apart from them: a
//! flood of forged tokens drives out no good one. `checks_per_second` signatures; above it tokens name nobody.

use super::read::{Unverified, read};
use super::{Issuer, TOKEN_MAX, TokenResult, TokenRules};
use lru::LruCache;
use ring::digest::SHA256_OUTPUT_LEN;
use ring::hmac;
use std::sync::{Arc, Mutex, PoisonError};
use weir_engine::units::{Instant, Span};

/// Seconds that another machine's clock may be ahead.
const LEEWAY: u64 = 5;

type Hash = [u8; SHA256_OUTPUT_LEN];

/// What is asked about one token.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The token.
    pub token: &'a [u8],
    /// The path of the request it came with.
    pub path: &'a str,
    /// Seconds since 1970.
    pub unix: u64,
    /// The engine's clock.
    pub now: Instant,
}

/// A verified token.
#[derive(Clone, Debug)]
struct Known {
    caller: Arc<str>,
    exp: u64,
    method: Option<Box<str>>,
}

#[derive(Debug)]
struct Memory {
    good: LruCache<Hash, Known>,
    bad: LruCache<Hash, ()>,
    /// Checks that may still be made, and when that was.
    checks: (f64, Instant),
}

/// Decides about the tokens of one listener, under one configuration.
#[derive(Debug)]
pub struct Verifier {
    rules: TokenRules,
    issuers: Arc<[Issuer]>,
    key: hmac::Key,
    memory: Mutex<Memory>,
}

impl Verifier {
    /// A verifier that remembers nothing yet. `key` makes its hashes: secret, and of this process only.
    #[must_use]
    pub fn new(rules: TokenRules, issuers: Arc<[Issuer]>, key: hmac::Key) -> Verifier {
        let checks = (f64::from(rules.checks_per_second), Instant(0));
        let memory = Memory { good: LruCache::unbounded(), bad: LruCache::unbounded(), checks };
        Verifier { rules, issuers, key, memory: Mutex::new(memory) }
    }

    /// Whether it decides by these.
    #[must_use]
    pub fn is_of(&self, rules: &TokenRules, issuers: &[Issuer]) -> bool {
        self.rules == *rules && *self.issuers == *issuers
    }

    /// Whether tokens are looked at at all.
    #[must_use]
    pub fn looks(&self) -> bool {
        !self.rules.audiences.is_empty()
    }

    /// Results that are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        let memory = self.memory();
        memory.good.len() + memory.bad.len()
    }

    /// The caller that a token names; the second word is whether a signature was checked for it.
    ///
    /// # Errors
    /// With why it names nobody.
    pub fn name(&self, asked: Asked<'_>) -> (Result<Arc<str>, TokenResult>, bool) {
        if asked.token.len() > TOKEN_MAX {
            return (Err(TokenResult::TooLong), false);
        }
        let hash = self.hash(asked.token);
        match self.recall(&hash) {
            Some(Ok(known)) => return (known.named(&asked), false),
            Some(Err(why)) => return (Err(why), false),
            None => {}
        }
        let (token, issuer) = match self.worth_checking(&asked) {
            Ok(worth) => worth,
            Err(why) => return (Err(why), false),
        };
        if !self.may_check(asked.now) {
            return (Err(TokenResult::Busy), false);
        }
        // Not under the lock: it takes 0.1 ms.
        let mut keys = issuer.keys.iter().filter(|key| key.algorithm() == token.algorithm);
        if !keys.any(|key| key.has_signed(token.signed, &token.signature)) {
            keep(&mut self.memory().bad, (self.rules.cached_max / 4).max(1), hash, ());
            return (Err(TokenResult::Signature), true);
        }
        let method = token.claims.lxm.map(String::into_boxed_str);
        let known = Known { caller: issuer.caller.clone(), exp: token.claims.exp, method };
        let named = known.named(&asked);
        keep(&mut self.memory().good, self.rules.cached_max, hash, known);
        (named, true)
    }

    fn worth_checking<'a>(&self, asked: &Asked<'a>) -> Result<(Unverified<'a>, &Issuer), TokenResult> {
        let token = read(asked.token)?;
        let claims = &token.claims;
        let issuer = self.issuers.iter().find(|issuer| *issuer.issuer == *claims.iss);
        let issuer = issuer.ok_or(TokenResult::Issuer)?;
        if !issuer.keys.iter().any(|key| key.algorithm() == token.algorithm) {
            return Err(TokenResult::Algorithm);
        }
        if !self.rules.audiences.iter().any(|audience| **audience == *claims.aud) {
            return Err(TokenResult::Audience);
        }
        if claims.nbf.is_some_and(|from| from > asked.unix.saturating_add(LEEWAY)) {
            return Err(TokenResult::NotYet);
        }
        in_force(claims.exp, claims.lxm.as_deref(), asked)?;
        Ok((token, issuer))
    }

    fn hash(&self, token: &[u8]) -> Hash {
        let mut hash = Hash::default();
        hash.copy_from_slice(hmac::sign(&self.key, token).as_ref());
        hash
    }

    fn recall(&self, hash: &Hash) -> Option<Result<Known, TokenResult>> {
        let mut memory = self.memory();
        if memory.bad.get(hash).is_some() {
            return Some(Err(TokenResult::Signature));
        }
        memory.good.get(hash).map(|known| Ok(known.clone()))
    }

    /// Takes one of this second's checks.
    fn may_check(&self, now: Instant) -> bool {
        let most = f64::from(self.rules.checks_per_second);
        let mut memory = self.memory();
        let (left, then) = memory.checks;
        let Span(passed) = now.since(then);
        let left = (left + most * passed as f64 / 1e6).min(most);
        let may = left >= 1.0;
        memory.checks = (if may { left - 1.0 } else { left }, now);
        may
    }

    /// Results are whole whenever the lock is free, so a panic elsewhere does not make them unusable.
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn named(&self, asked: &Asked<'_>) -> Result<Arc<str>, TokenResult> {
        in_force(self.exp, self.method.as_deref(), asked).map(|()| self.caller.clone())
    }
}

/// What is asked again at each use.
fn in_force(exp: u64, method: Option<&str>, asked: &Asked<'_>) -> Result<(), TokenResult> {
    if asked.unix >= exp {
        return Err(TokenResult::Expired);
    }
    let path = asked.path.strip_prefix('/').unwrap_or(asked.path);
    let called = path.strip_prefix("xrpc/").unwrap_or(path);
    match method {
        Some(method) if method != called => Err(TokenResult::Method),
        _ => Ok(()),
    }
}

fn keep<T>(cache: &mut LruCache<Hash, T>, most: u32, hash: Hash, what: T) {
    while cache.len() >= most as usize && cache.pop_lru().is_some() {}
    cache.put(hash, what);
}
