//! Clients that sign in themselves (`clients = "password"` or `"own"`): STARTUP is answered with AUTHENTICATE, and the client is ready
//! once the cluster has taken its user name and password. Who asks the cluster, and how often, is `credentials`; here a
//! client waits for the verdict, and nothing else of it is read meanwhile.
//!
//! The user is the client's principal from then on: limits and queues are its own. With `clients = "own"` its connections
//! to the cluster are as well (`pools`); else its requests go out under weir's own user (`auth_file`).

use super::CqlEngine;
use super::credentials::Verdict;
use super::handshake::Opening;
use super::method::Method;
use super::pools::wants_pools;
use crate::caller::{Identity, is_name};
use crate::ledger::Outcome;
use crate::settings::ClientSignIn;
use crate::units::{ClientId, ClusterId, Instant};
use std::sync::Arc;
use weir_cql::envelope::Header;
use weir_cql::own;
use weir_cql::request::Request as Message;
use weir_cql::response::{ErrorBody, ErrorCode};
use zeroize::Zeroize as _;

/// What drivers know to answer with a user name and a password.
const AUTHENTICATOR: &str = "org.apache.cassandra.auth.PasswordAuthenticator";
/// Bytes of a user name, and of a password.
const SECRET_MAX: usize = 1_024;

/// A user name and a password. Shown nowhere; the password is overwritten where it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The user.
    pub user: Arc<str>,
    /// The password.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

/// A client waits for the cluster's word.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The client.
    pub client: ClientId,
    /// Whose word.
    pub cluster: ClusterId,
    /// What it said.
    pub secret: Secret,
}

/// How far a client's signing in is.
#[derive(Debug)]
pub(super) struct Signing {
    opening: Opening,
    /// The message that is to be answered, while the verdict is awaited.
    asked: Option<Header>,
    /// What it showed.
    secret: Option<Secret>,
}

impl Signing {
    /// Its verdict is awaited.
    pub(super) fn is_awaited(&self) -> bool {
        self.asked.is_some()
    }
}

impl CqlEngine {
    pub(super) fn must_sign_in(&self, id: ClientId) -> bool {
        let cluster = self.clients[id.slot as usize].cluster;
        self.cluster_settings(cluster).clients != ClientSignIn::Trusted
    }

    /// Answers STARTUP.
    pub(super) fn ask_to_sign_in(&mut self, id: ClientId, header: Header, opening: Opening) {
        self.reply(id, |out| own::authenticate(out, header.version, header.stream, AUTHENTICATOR));
        self.clients[id.slot as usize].signing = Some(Signing { opening, asked: None, secret: None });
    }

    pub(super) fn auth_response(&mut self, id: ClientId, header: Header, body: &[u8], now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        let cluster = client.cluster;
        let Some(signing) = &mut client.signing else {
            return self.bad_message(id, header, "no credentials were asked for", now);
        };
        let dialect = weir_cql::Dialect::of(header.version);
        let Ok(Message::AuthResponse(response)) = Message::locate(&header, body, dialect) else {
            return self.bad_message(id, header, "the token cannot be read", now);
        };
        let short = |part: &[u8]| part.len() <= SECRET_MAX;
        let read = response.plain(body).filter(|(user, password)| short(user) && short(password));
        let user = read.and_then(|(user, _)| std::str::from_utf8(user).ok()).filter(|user| !user.is_empty());
        let (Some(user), Some((_, password))) = (user, read) else {
            let text = "weir: not a user name and a password (SASL PLAIN) of at most 1,024 bytes each";
            self.reply(id, |out| {
                let body = ErrorBody::plain(ErrorCode::BAD_CREDENTIALS, text);
                own::error(out, header.version, header.stream, &body);
            });
            return self.account_local(id, Method::Control, header.envelope_len(), Outcome::Refused, now);
        };
        let secret = Secret { user: user.into(), password: password.to_vec() };
        signing.asked = Some(header);
        signing.secret = Some(secret.clone());
        self.sign_ins.push(SignIn { client: id, cluster, secret });
    }

    /// Clients that wait for the cluster's word since the last call.
    pub fn take_sign_ins(&mut self, into: &mut Vec<SignIn>) {
        into.append(&mut self.sign_ins);
    }

    /// The cluster's word on a client. The client may have gone.
    pub fn signed_in(&mut self, id: ClientId, verdict: &Verdict, now: Instant) {
        let Some(client) = self.client_mut(id) else { return };
        let Some(signing) = &mut client.signing else { return };
        let Some(header) = signing.asked.take() else { return };
        let Some(secret) = signing.secret.take() else { return };
        let cluster = client.cluster;
        let pool = match verdict {
            Verdict::Good if wants_pools(self.cluster_settings(cluster)) => {
                self.joins_pool(cluster, &secret, now).map(Some)
            }
            _ => Ok(None),
        };
        let client = &mut self.clients[id.slot as usize];
        let (code, text) = match (verdict, &pool) {
            (Verdict::Good, Ok(pool)) => {
                let Some(Signing { opening, .. }) = client.signing.take() else { return };
                client.cluster = pool.unwrap_or(cluster);
                self.reply(id, |out| own::auth_success(out, header.version, header.stream, None));
                self.takes_principal(id, &secret.user);
                self.account_local(id, Method::Control, header.envelope_len(), Outcome::Ok, now);
                self.opened(id, header.version, opening);
                return self.resume_later(id);
            }
            (Verdict::Good, Err(text)) => (ErrorCode::INVALID, &**text),
            (Verdict::Refused(text), _) => (ErrorCode::BAD_CREDENTIALS, &**text),
            (Verdict::Unknown(text), _) => (ErrorCode::SERVER_ERROR, &**text),
        };
        self.reply(id, |out| {
            own::error(out, header.version, header.stream, &ErrorBody::plain(code, text));
        });
        let outcome = if code == ErrorCode::SERVER_ERROR { Outcome::BackendLost } else { Outcome::Refused };
        self.account_local(id, Method::Control, header.envelope_len(), outcome, now);
        self.resume_later(id);
    }

    /// What it does from now on is on the user's account.
    fn takes_principal(&mut self, id: ClientId, user: &Arc<str>) {
        let client = &mut self.clients[id.slot as usize];
        let listener = client.listener;
        let principal = principal(user);
        // no process name is better than the user's
        self.declare(id, Arc::new(Identity { listener, principal: principal.clone(), name: principal }));
    }
}

const INVALID: &str = "_invalid";

/// The user's name, where it can be a caller's and is none that weir gives itself.
fn principal(user: &Arc<str>) -> Arc<str> {
    let reserved = user.starts_with("uid:") || user.starts_with('_');
    if is_name(user) && !reserved { user.clone() } else { INVALID.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_principals_where_their_name_is_one() {
        for (user, expected) in
            [("feed", "feed"), ("a b", INVALID), ("uid:0", INVALID), ("_other", INVALID), ("\u{e9}", INVALID)]
        {
            assert_eq!(&*principal(&user.into()), expected);
        }
        let secret = Secret { user: "feed".into(), password: b"hush".to_vec() };
        assert!(!format!("{secret:?}").contains("hush"));
    }
}
