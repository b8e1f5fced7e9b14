//! Service tokens: the short-lived JWTs of AT Protocol's inter-service auth (`Authorization: Bearer ...`), which say who
//! calls. One that a configured key has signed names its caller, by its issuer; nothing else about a token does.
//!
//! `read` takes a token apart, `key` holds public keys and judges signatures, `verifier` decides, remembers and bounds what
//! that costs. The token itself is never changed, kept or logged: it passes on to the service as it came.
//!
//! Two algorithms: ES256K (secp256k1) and ES256 (P-256), as the protocol has them. Who replays a token within its time is
//! taken for its issuer: that is between the caller and its service, which sees every token.

mod key;
mod read;
#[cfg(test)]
mod tests;
mod verifier;

pub use key::{KeyProblem, PublicKey};
pub use read::{TOKEN_MAX, bearer};
pub use verifier::{Asked, Verifier};

use std::sync::Arc;
pub use weir_telemetry::TokenResult;

/// A caller that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What its tokens have as `iss`.
    pub issuer: Arc<str>,
    /// The name of its section.
    pub caller: Arc<str>,
    /// Keys that may have signed them; one per curve or more, while keys are changed.
    pub keys: Vec<PublicKey>,
}

/// What one listener believes of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// What tokens must have as `aud`: one of these, letter by letter. Without any no token is looked at.
    pub audiences: Vec<Arc<str>>,
    /// Results that are remembered.
    pub cached_max: u32,
    /// Signatures that are checked in a second.
    pub checks_per_second: u32,
}

impl Default for TokenRules {
    fn default() -> TokenRules {
        TokenRules { audiences: Vec::new(), cached_max: 4_096, checks_per_second: 1_000 }
    }
}
