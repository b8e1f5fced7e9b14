//! A listener's look at service tokens: which caller a request's token names, and what is counted of it.

use crate::clock::{Clock, unix_now};
use crate::config::Config;
use crate::token::{Asked, Verifier, bearer};
use ring::hmac;
use ring::rand::SystemRandom;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use weir_edge::Head;
use weir_engine::units::ListenerId;
use weir_telemetry::{ListenerMetrics, TokenResult};

/// The tokens of one listener.
pub(super) struct Tokens {
    listener: ListenerId,
    /// Under what is in force; another one, which remembers nothing, when that changes.
    verifier: RwLock<Arc<Verifier>>,
    key: hmac::Key,
    metrics: Arc<ListenerMetrics>,
}

impl Tokens {
    /// # Errors
    /// When the system has no random numbers to give.
    pub(super) fn new(
        config: &Config,
        listener: ListenerId,
        metrics: Arc<ListenerMetrics>,
    ) -> io::Result<Tokens> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let rules = config.doors[listener.0 as usize].tokens.clone();
        let verifier = Verifier::new(rules, config.issuers.clone(), key.clone());
        Ok(Tokens { listener, verifier: RwLock::new(Arc::new(verifier)), key, metrics })
    }

    /// Another configuration is in force.
    pub(super) fn apply(&self, config: &Config) {
        let rules = &config.doors[self.listener.0 as usize].tokens;
        if !self.verifier().is_of(rules, &config.issuers) {
            let verifier = Verifier::new(rules.clone(), config.issuers.clone(), self.key.clone());
            *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
        }
    }

    /// The caller that the request's token names.
    pub(super) fn caller(&self, head: &Head<'_>, clock: Clock) -> Option<Arc<str>> {
        if !self.verifier.read().unwrap_or_else(PoisonError::into_inner).looks() {
            return None; // the usual case
        }
        let (verifier, now) = (self.verifier(), clock.now());
        let asked = Asked { token: bearer(head.headers)?, path: head.path, unix: unix_now(), now };
        let (named, checked) = verifier.name(asked);
        let result = named.as_ref().err().copied().unwrap_or(TokenResult::Ok);
        self.metrics.token(result, checked, verifier.remembered());
        named.ok()
    }

    fn verifier(&self) -> Arc<Verifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
