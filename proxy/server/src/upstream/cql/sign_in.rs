//! Signing in at a node: as weir's own user, as the user whose requests the connection carries, or only to hear whether the
//! node takes somebody's credentials. SASL PLAIN (RFC 4616), in one step.
//!
//! Bound: [`ROUNDS_MAX`] challenges.

use super::{Answer, Handshake, ROUNDS_MAX, unexpected, unreadable};
use crate::upstream::{ConnectError, auth_failed, credentials};
use tokio::io::{AsyncRead, AsyncWrite};
use weir_cql::Cursor;
use weir_cql::envelope::Opcode;
use weir_cql::request::AuthResponse;
use weir_cql::response::ErrorCode;
use weir_engine::cql::LaneInfo;
use weir_engine::cql::credentials::Verdict;
use weir_engine::cql::signin::Secret;
use zeroize::Zeroizing;

impl<S: AsyncRead + AsyncWrite + Unpin> Handshake<'_, S> {
    /// The node's word on somebody's credentials.
    pub(super) async fn check(mut self, secret: &Secret) -> Result<Verdict, ConnectError> {
        let answer = self.start(false).await?;
        if answer.header.opcode != Opcode::Authenticate {
            return Err(unreadable("the node asks for no password: clients cannot be checked"));
        }
        let token = plain(secret.user.as_bytes(), &secret.password);
        let answer =
            self.exchange(Opcode::AuthResponse, |out| AuthResponse::write(Some(&token), out)).await?;
        match answer.header.opcode {
            Opcode::AuthSuccess => Ok(Verdict::Good),
            Opcode::Error => match answer.error() {
                Some((code, words)) if is_about_credentials(code, &words) => {
                    Ok(Verdict::Refused(words.into()))
                }
                _ => Err(self.refused(Opcode::AuthResponse, &answer)),
            },
            other => Err(unexpected(other, "AUTH_RESPONSE")),
        }
    }

    /// What the connection signs in with.
    pub(super) async fn token(
        &self,
        asked: &Answer,
        info: &LaneInfo,
    ) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
        if let Some(principal) = &info.principal {
            let gone = || unreadable("the user has no clients any more");
            return principal.token().ok_or_else(gone);
        }
        let class = Cursor::new(&asked.body).string().map(|span| span.of(&asked.body)).unwrap_or_default();
        let Some(path) = info.auth_file.as_deref() else {
            let class = String::from_utf8_lossy(class);
            return Err(auth_failed(format!("the node asks for a password ({class}); auth_file is not set")));
        };
        let credentials = Zeroizing::new(credentials::read(path).await?);
        let at = credentials.iter().position(|byte| *byte == b' ').unwrap_or(credentials.len());
        let (user, password) = (&credentials[..at], credentials.get(at + 1..).unwrap_or_default());
        Ok(plain(user, password))
    }

    /// SASL PLAIN (RFC 4616): what Cassandra's and Scylla's PasswordAuthenticator takes.
    pub(super) async fn sign_in(&mut self, token: &[u8]) -> Result<(), ConnectError> {
        for _ in 0..ROUNDS_MAX {
            let answer = self.ask(Opcode::AuthResponse, |out| AuthResponse::write(Some(token), out)).await?;
            match answer.header.opcode {
                Opcode::AuthSuccess => return Ok(()),
                Opcode::AuthChallenge => {}
                other => return Err(unexpected(other, "AUTH_RESPONSE")),
            }
        }
        Err(auth_failed("the node asks for more than a user name and a password"))
    }
}

/// The token of SASL PLAIN; overwritten where it is dropped.
fn plain(user: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([b"\0", user, b"\0", password].concat())
}

/// Whether an ERROR says that the credentials are wrong. Cassandra gives the same code when it cannot read its own tables
/// (too few of their replicas are up), with these words in front.
pub(super) fn is_about_credentials(code: ErrorCode, words: &str) -> bool {
    matches!(code, ErrorCode::BAD_CREDENTIALS | ErrorCode::UNAUTHORIZED)
        && !words.starts_with("Unable to perform authentication")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_cannot_read_its_users_refuses_nobody() {
        let code = ErrorCode::BAD_CREDENTIALS;
        assert!(is_about_credentials(code, "Provided username a and/or password are incorrect"));
        assert!(is_about_credentials(ErrorCode::UNAUTHORIZED, "a is not permitted to log in"));
        let away = "Unable to perform authentication: Cannot achieve consistency level QUORUM";
        assert!(!is_about_credentials(code, away));
        assert!(!is_about_credentials(ErrorCode::SERVER_ERROR, "x"));
    }
}
