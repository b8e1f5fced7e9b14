//! A token taken apart (RFC 7515, compact form), without a look at its signature. Nothing here may be believed yet.

use super::TokenResult;
use super::key::Algorithm;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde::Deserialize;

/// Bytes of a token that is looked at; service tokens have some 400.
pub const TOKEN_MAX: usize = 4 << 10;
/// Bytes of a method's name in a token (an NSID has at most 317).
const METHOD_MAX: usize = 317;

/// What a token says of itself.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) claims: Claims,
    /// The bytes that are signed.
    pub(super) signed: &'t [u8],
    pub(super) signature: [u8; 64],
}

/// The claims that decide. Others are the service's matter.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    /// Seconds since 1970.
    pub(super) exp: u64,
    #[serde(default)]
    pub(super) nbf: Option<u64>,
    /// The method it is good for; without it, all.
    #[serde(default)]
    pub(super) lxm: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    /// Extensions that must be understood: none are.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// The token of a request: of its one `Authorization: Bearer` header. `None` where there is none of that kind.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Takes a token apart.
pub(super) fn read(token: &[u8]) -> Result<Unverified<'_>, TokenResult> {
    let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
        return Err(TokenResult::Malformed);
    };
    let head: Head = json(&token[..first])?;
    let Some(algorithm) = Algorithm::of(&head.alg) else { return Err(TokenResult::Algorithm) };
    // Tokens of other kinds (`at+jwt` of a session) are signed by the same keys and mean something else.
    if head.crit.is_some() || head.typ.is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
        return Err(TokenResult::Kind);
    }
    let claims: Claims = json(&token[first + 1..second])?;
    if claims.lxm.as_ref().is_some_and(|method| method.len() > METHOD_MAX) {
        return Err(TokenResult::Malformed);
    }
    let signature =
        BASE64_URL_SAFE_NO_PAD.decode(&token[second + 1..]).map_err(|_| TokenResult::Malformed)?;
    let signature = signature.try_into().map_err(|_| TokenResult::Malformed)?;
    Ok(Unverified { algorithm, claims, signed: &token[..second], signature })
}

fn json<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, TokenResult> {
    let text = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenResult::Malformed)?;
    serde_json::from_slice(&text).map_err(|_| TokenResult::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn token(head: &str, claims: &str, signature: &[u8]) -> Vec<u8> {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let parts = [encode(head.as_bytes()), encode(claims.as_bytes()), encode(signature)];
        parts.join(".").into_bytes()
    }

    const HEAD: &str = r#"{"typ":"JWT","alg":"ES256K"}"#;
    const CLAIMS: &str =
        r#"{"iss":"did:plc:a","aud":"did:web:b","exp":1700000060,"iat":1700000000,"jti":"x"}"#;

    #[test]
    fn a_token_is_taken_apart() {
        let token = token(HEAD, CLAIMS, &[7; 64]);
        let read = read(&token).expect("well-formed");
        assert_eq!(
            (&*read.claims.iss, &*read.claims.aud, read.claims.exp),
            ("did:plc:a", "did:web:b", 1_700_000_060)
        );
        assert_eq!((read.algorithm, read.signature), (Algorithm::Es256k, [7; 64]));
        assert_eq!((read.claims.nbf, read.claims.lxm), (None, None));
        assert_eq!(read.signed.len() + 1 + 86, token.len());
    }

    #[test]
    fn what_is_none_says_why() {
        let with_head = |head: &str| token(head, CLAIMS, &[7; 64]);
        let with_claims = |claims: &str| token(HEAD, claims, &[7; 64]);
        let twice = CLAIMS.replace("\"jti\":\"x\"", "\"iss\":\"did:plc:b\"");
        let long = CLAIMS.replace("\"jti\":\"x\"", &format!("\"lxm\":\"{}\"", "a".repeat(318)));
        let mut padded = with_head(HEAD);
        padded.extend(b"==");
        for (token, why) in [
            (b"opaque".to_vec(), TokenResult::Malformed),
            (b"..".to_vec(), TokenResult::Malformed),
            (b"a.b.c.d".to_vec(), TokenResult::Malformed),
            (padded, TokenResult::Malformed),
            (token(HEAD, CLAIMS, &[7; 63]), TokenResult::Malformed),
            (token(HEAD, CLAIMS, &[7; 65]), TokenResult::Malformed),
            (with_head(r#"{"alg":"none"}"#), TokenResult::Algorithm),
            (with_head(r#"{"alg":"HS256"}"#), TokenResult::Algorithm),
            (with_head(r#"{"alg":"ES256","typ":"at+jwt"}"#), TokenResult::Kind),
            (with_head(r#"{"alg":"ES256","crit":["x"]}"#), TokenResult::Kind),
            (with_head(r#"{"typ":"JWT"}"#), TokenResult::Malformed),
            (with_claims("[]"), TokenResult::Malformed),
            (with_claims(&CLAIMS.replace("1700000060", "\"soon\"")), TokenResult::Malformed),
            (with_claims(&CLAIMS.replace("1700000060", "-1")), TokenResult::Malformed),
            (with_claims(&twice), TokenResult::Malformed),
            (with_claims(&long), TokenResult::Malformed),
            (with_claims(&"[".repeat(2_000)), TokenResult::Malformed),
        ] {
            assert_eq!(read(&token).expect_err("none"), why, "{}", String::from_utf8_lossy(&token));
        }
    }

    #[test]
    fn one_bearer_header_is_looked_at() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        for (value, found) in [
            ("Bearer a.b.c", Some(&b"a.b.c"[..])),
            ("bearer  a.b.c", Some(b"a.b.c")),
            ("DPoP a.b.c", None),
            ("Basic YTpi", None),
            ("Bearer", None),
        ] {
            headers.insert("authorization", HeaderValue::from_static(value));
            assert_eq!(bearer(&headers), found, "{value}");
        }
        headers.insert("authorization", HeaderValue::from_static("Bearer a.b.c"));
        headers.append("authorization", HeaderValue::from_static("Bearer d.e.f"));
        assert_eq!(bearer(&headers), None, "which of them the service would take is not known");
    }
}
