//! Who is at the other end of a control connection, and whether it may be there.

use crate::config::address::is_loopback_host;
use crate::overrides::Who;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// What a control listener asks of its clients.
#[derive(Clone, Debug)]
pub enum Guard {
    /// A Unix peer of this uid, or root; the kernel says so.
    Peer {
        /// The uid weir runs as.
        own_uid: u32,
    },
    /// A bearer token, and a Host header that names this machine (a page in a browser that was told another name for
    /// 127.0.0.1 sends that name).
    Token(Arc<Token>),
}

/// The secret of a TCP control listener.
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Bytes of a token: shorter ones can be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4_096;

impl Token {
    /// Reads a token file that only its owner may read.
    ///
    /// # Errors
    /// What the system says, or what is wrong with the file.
    pub fn read(path: &Path) -> io::Result<Token> {
        let wrong =
            |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mode = file.metadata()?.mode();
        if mode & 0o077 != 0 {
            return Err(wrong(format!("mode {:03o} lets others read the token (chmod 600)", mode & 0o777)));
        }
        let mut text = String::new();
        file.take(*TOKEN_BYTES.end() as u64 + 2).read_to_string(&mut text)?;
        let token = text.trim();
        if !TOKEN_BYTES.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("a token has 16 to 4096 visible characters".to_owned()));
        }
        Ok(Token(token.as_bytes().to_vec()))
    }

    /// The header that presents it.
    pub(super) fn header(&self) -> Option<hyper::header::HeaderValue> {
        let mut value = hyper::header::HeaderValue::from_bytes(&[b"Bearer ", &*self.0].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a presented token is this one; takes the same time wherever they differ.
    fn matches(&self, presented: &[u8]) -> bool {
        let differing = self.0.iter().zip(presented).fold(0u8, |all, (a, b)| all | (a ^ b));
        self.0.len() == presented.len() && differing == 0
    }
}

/// Who connected.
#[derive(Clone, Debug)]
pub struct Peer {
    /// As it is written into the audit log.
    pub who: Who,
}

impl Peer {
    /// The peer of a Unix socket, as the kernel recorded it when it connected.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_unix(socket: impl AsFd) -> io::Result<Peer> {
        let uid = rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw();
        Ok(Peer { who: Who { uid: Some(uid), name: user_name(uid) } })
    }

    /// A peer over TCP: known by what it presents only.
    #[must_use]
    pub fn of_tcp() -> Peer {
        Peer { who: Who { uid: None, name: "token".to_owned() } }
    }
}

/// The user's name, or `uid:N`.
fn user_name(uid: u32) -> String {
    let fallback = format!("uid:{uid}");
    let Ok(users) = std::fs::read_to_string("/etc/passwd") else { return fallback };
    let number = uid.to_string();
    users
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_owned())
        })
        .unwrap_or(fallback)
}

impl Guard {
    /// Lets a request in, or says why not.
    pub(super) fn admit<B>(
        &self,
        peer: &Peer,
        request: &Request<B>,
    ) -> Result<(), (StatusCode, &'static str)> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(host_of);
        match self {
            Guard::Peer { own_uid } => {
                if !matches!(host, Some("localhost" | "weir")) {
                    return Err((StatusCode::FORBIDDEN, "the Host header must be localhost"));
                }
                match peer.who.uid {
                    Some(uid) if uid == *own_uid || uid == 0 => Ok(()),
                    _ => Err((StatusCode::FORBIDDEN, "only weir's own user and root may control it")),
                }
            }
            Guard::Token(token) => {
                if !host.is_some_and(is_loopback_host) {
                    return Err((StatusCode::FORBIDDEN, "the Host header must name this machine"));
                }
                let presented = request
                    .headers()
                    .get(AUTHORIZATION)
                    .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
                match presented {
                    Some(presented) if token.matches(presented) => Ok(()),
                    _ => Err((StatusCode::UNAUTHORIZED, "a bearer token is needed")),
                }
            }
        }
    }
}

/// The host of a Host header, without port and brackets.
fn host_of(header: &str) -> &str {
    if let Some(rest) = header.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    header.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        assert_eq!(host_of("127.0.0.1:80"), "127.0.0.1");
        assert_eq!(host_of("[::1]:80"), "::1");
        assert_eq!(host_of("localhost"), "localhost");
        assert_eq!(host_of(""), "");
    }

    #[test]
    fn only_the_own_user_and_root_are_let_in() {
        let guard = Guard::Peer { own_uid: 1_000 };
        let request = Request::builder().header(HOST, "localhost").body(()).expect("a request");
        let peer = |uid| Peer { who: Who { uid, name: String::new() } };
        assert_eq!(guard.admit(&peer(Some(1_000)), &request), Ok(()));
        assert_eq!(guard.admit(&peer(Some(0)), &request), Ok(()));
        for other in [Some(1_001), None] {
            let (status, _) = guard.admit(&peer(other), &request).expect_err("another user");
            assert_eq!(status, StatusCode::FORBIDDEN);
        }
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token(b"0123456789abcdef".to_vec());
        assert!(token.matches(b"0123456789abcdef"));
        for other in [&b"0123456789abcdeg"[..], b"0123456789abcde", b"0123456789abcdef0", b""] {
            assert!(!token.matches(other));
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
