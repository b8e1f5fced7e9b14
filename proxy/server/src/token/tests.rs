//! Tokens made here with the crates that check them, and tokens that `createServiceJwt` of npm's @atproto/xrpc-server
//! 0.7.19 has made.

use super::*;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k256::ecdsa::signature::Signer as _;
use ring::hmac;
use std::time::{Duration, Instant as StdInstant};
use weir_engine::units::{Instant, Span};

const ISSUER: &str = "did:plc:z72i7hdynmk6r22z27h6tvur";
const AUDIENCE: &str = "did:web:api.weir.test";
const METHOD: &str = "app.bsky.feed.getPosts";
const PATH: &str = "/xrpc/app.bsky.feed.getPosts";
const NOW: u64 = 1_700_000_030;

/// Of another implementation: key, token.
const OTHERS: [(&str, &str); 2] = [
    (
        "did:key:zQ3shkc2ZerjxK2YdioJcVowykath4sLzbwzd3hRP3jf577fS",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NksifQ.eyJpYXQiOjE3MDAwMDAwMDAsImlzcyI6ImRpZDpwbGM6ejcyaTdoZHlubWs2cjIyejI3aDZ0dnVyIiwiYXVkIjoiZGlkOndlYjphcGkud2Vpci50ZXN0IiwiZXhwIjo0MTAyNDQ0ODAwLCJseG0iOiJhcHAuYnNreS5mZWVkLmdldFBvc3RzIiwianRpIjoiYTY3MTM2YzQwMzAzZjNjNDZiMzQyYWFlMGNlYTI3NGQifQ.NBkY-b5St53GsAbICR0J3p4edvrVAdh8eR_Z5zw7U9ofqHjckFbRUT9f4jVGKEqUuyv8fTzVptR3oV89q-zFLQ",
    ),
    (
        "did:key:zDnaeqMyiz4jKabe72pSXL9oMJNXuabAKJzRnRGFtkpavcfkz",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJpYXQiOjE3MDAwMDAwMDAsImlzcyI6ImRpZDpwbGM6ejcyaTdoZHlubWs2cjIyejI3aDZ0dnVyIiwiYXVkIjoiZGlkOndlYjphcGkud2Vpci50ZXN0IiwiZXhwIjo0MTAyNDQ0ODAwLCJseG0iOiJhcHAuYnNreS5mZWVkLmdldFBvc3RzIiwianRpIjoiNzVhODkzMDhiMDJkY2I5YjU4YWQ0MDNkNzgwOWNmZGUifQ.T9uhwd4UIS1akqTVd8A7kdik2IbZMUT_8koyGk3bfrBnR5lpghxoSKJHnRqej7cxgiOEsYTFyOERHXRx62Ttqg",
    ),
];

struct Signs {
    k256: k256::ecdsa::SigningKey,
    p256: p256::ecdsa::SigningKey,
}

impl Signs {
    fn new(seed: u8) -> Signs {
        let secret = [seed; 32];
        Signs {
            k256: k256::ecdsa::SigningKey::from_slice(&secret).expect("a scalar"),
            p256: p256::ecdsa::SigningKey::from_slice(&secret).expect("a scalar"),
        }
    }

    fn keys(&self) -> Vec<PublicKey> {
        let text = |kind: &[u8], point: &[u8]| {
            format!("did:key:z{}", bs58::encode([kind, point].concat()).into_string())
        };
        let k256 = text(&[0xe7, 0x01], self.k256.verifying_key().to_encoded_point(true).as_bytes());
        let p256 = text(&[0x80, 0x24], self.p256.verifying_key().to_encoded_point(true).as_bytes());
        [k256, p256].iter().map(|text| PublicKey::parse(text).expect("a key")).collect()
    }

    fn token(&self, algorithm: &str, claims: &str) -> String {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed =
            format!("{}.{}", encode(&format!(r#"{{"typ":"JWT","alg":"{algorithm}"}}"#)), encode(claims));
        let signature = if algorithm == "ES256" {
            let signature: p256::ecdsa::Signature = self.p256.sign(signed.as_bytes());
            signature.to_bytes().to_vec()
        } else {
            let signature: k256::ecdsa::Signature = self.k256.sign(signed.as_bytes());
            signature.to_bytes().to_vec()
        };
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn claims(more: &str) -> String {
    format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":1700000060{more}}}"#)
}

fn verifier(keys: Vec<PublicKey>, rules: TokenRules) -> Verifier {
    let rules = TokenRules { audiences: vec!["did:web:else.test".into(), AUDIENCE.into()], ..rules };
    let issuers = [Issuer { issuer: ISSUER.into(), caller: "pds".into(), keys }];
    Verifier::new(rules, issuers.into(), hmac::Key::new(hmac::HMAC_SHA256, b"of the test"))
}

fn asked(token: &str) -> Asked<'_> {
    Asked { token: token.as_bytes(), path: PATH, unix: NOW, now: Instant(1_000_000) }
}

#[test]
fn a_token_names_its_issuer_s_caller() {
    let signs = Signs::new(7);
    let verifier = verifier(signs.keys(), TokenRules::default());
    for algorithm in ["ES256K", "ES256"] {
        for more in [String::new(), format!(r#","lxm":"{METHOD}""#), r#","nbf":1700000034"#.to_owned()] {
            let token = signs.token(algorithm, &claims(&more));
            let (named, checked) = verifier.name(asked(&token));
            assert_eq!((named.as_deref(), checked), (Ok("pds"), true), "{algorithm} {more}");
            let (named, checked) = verifier.name(asked(&token));
            assert_eq!((named.as_deref(), checked), (Ok("pds"), false), "it is remembered");
        }
    }
    assert_eq!(verifier.remembered(), 6);
}

#[test]
fn tokens_of_another_implementation_are_read() {
    for (key, token) in OTHERS {
        let key = PublicKey::parse(key).expect("a key");
        let verifier = verifier(vec![key], TokenRules::default());
        assert_eq!(verifier.name(asked(token)).0.as_deref(), Ok("pds"));
        let elsewhere = Asked { path: "/xrpc/app.bsky.feed.getLikes", ..asked(token) };
        assert_eq!(verifier.name(elsewhere).0, Err(TokenResult::Method));
        let late = Asked { unix: 4_102_444_800, ..asked(token) };
        assert_eq!(verifier.name(late).0, Err(TokenResult::Expired));
    }
    // each other's keys have not signed them
    let keys = OTHERS.map(|(key, _)| PublicKey::parse(key).expect("a key"));
    let (good, forged) = (OTHERS[0].1, format!("{}A", &OTHERS[0].1[..OTHERS[0].1.len() - 1]));
    let only_other_curve = verifier(vec![keys[1].clone()], TokenRules::default());
    assert_eq!(only_other_curve.name(asked(good)).0, Err(TokenResult::Algorithm));
    let both = verifier(keys.to_vec(), TokenRules::default());
    assert_eq!(both.name(asked(&forged)).0, Err(TokenResult::Signature));
}

/// Of atproto's interop-test-files/crypto/signature-fixtures.json. What it calls invalid there (the larger of the two
/// values of s) is as good a proof of who has signed.
#[test]
fn the_protocol_s_own_signatures_are_judged() {
    let message = BASE64_URL_SAFE_NO_PAD.decode("oWVoZWxsb2V3b3JsZA").expect("base64");
    let p256 = "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo";
    let k256 = "did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc";
    for (key, signature) in [
        (p256, "2vZNsG3UKvvO_CDlrdvyZRISOFylinBh0Jupc6KcWoJWExHptCfduPleDbG3rko3YZnn9Lw0IjpixVmexJDegg"),
        (p256, "2vZNsG3UKvvO_CDlrdvyZRISOFylinBh0Jupc6KcWoKp7O4VS9giSAah8k5IUbXIW00SuOrjfEqQ9HEkN9JGzw"),
        (k256, "5WpdIuEUUfVUYaozsi8G0B3cWO09cgZbIIwg1t2YKdUn_FEznOndsz_qgiYb89zwxYCbB71f7yQK5Lr7NasfoA"),
        (k256, "5WpdIuEUUfVUYaozsi8G0B3cWO09cgZbIIwg1t2YKdXYA67MYxYiTMAVfdnkDCMN9S5B3vHosRe07aORmoshoQ"),
    ] {
        let key = PublicKey::parse(key).expect("a key");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let mut signature: [u8; 64] = bytes.try_into().expect("64 bytes");
        assert!(key.has_signed(&message, &signature));
        assert!(!key.has_signed(&message[1..], &signature));
        signature[40] ^= 1;
        assert!(!key.has_signed(&message, &signature));
        assert!(!key.has_signed(&message, &[0; 64]) && !key.has_signed(&message, &[0xff; 64]));
    }
}

#[test]
fn every_other_token_names_nobody_and_says_why() {
    let (signs, stranger) = (Signs::new(7), Signs::new(8));
    let verifier = verifier(signs.keys(), TokenRules::default());
    let good = signs.token("ES256K", &claims(""));
    let (head, rest) = good.split_once('.').expect("three parts");
    let (_, signature) = rest.split_once('.').expect("three parts");
    let other = BASE64_URL_SAFE_NO_PAD.encode(claims(r#","jti":"another""#));
    let moved = format!("{head}.{other}.{signature}");
    let for_us = |from: &str, to: &str| signs.token("ES256K", &claims("").replace(from, to));
    for (token, why, checked) in [
        (stranger.token("ES256K", &claims("")), TokenResult::Signature, true),
        (stranger.token("ES256", &claims("")), TokenResult::Signature, true),
        (moved, TokenResult::Signature, true),
        // an algorithm that does not fit the key
        (signs.token("ES384", &claims("")), TokenResult::Algorithm, false),
        (for_us(ISSUER, "did:plc:nobody"), TokenResult::Issuer, false),
        (for_us(ISSUER, &format!("{ISSUER}#labeler")), TokenResult::Issuer, false),
        (for_us(AUDIENCE, "did:web:api.weir.tes"), TokenResult::Audience, false),
        (for_us("1700000060", "1700000030"), TokenResult::Expired, false),
        (signs.token("ES256K", &claims(r#","nbf":1700000036"#)), TokenResult::NotYet, false),
        (signs.token("ES256K", &claims(r#","lxm":"app.bsky.feed.getLikes""#)), TokenResult::Method, false),
        (format!("{good}.{good}"), TokenResult::Malformed, false),
        ("a".repeat(TOKEN_MAX + 1), TokenResult::TooLong, false),
        (String::new(), TokenResult::Malformed, false),
    ] {
        assert_eq!(verifier.name(asked(&token)), (Err(why), checked), "{token}");
        let again = verifier.name(asked(&token));
        assert_eq!(again, (Err(why), false), "a signature is checked once");
    }
    assert_eq!(verifier.name(asked(&good)).0.as_deref(), Ok("pds"));
    assert_eq!(verifier.name(Asked { unix: 1_700_000_060, ..asked(&good) }).0, Err(TokenResult::Expired));
}

#[test]
fn what_is_remembered_and_what_is_checked_are_bounded() {
    let (signs, stranger) = (Signs::new(7), Signs::new(8));
    let rules = TokenRules { cached_max: 8, checks_per_second: 20, ..TokenRules::default() };
    let verifier = verifier(signs.keys(), rules);
    let numbered = |by: &Signs, number: usize| by.token("ES256", &claims(&format!(r#","jti":"{number}""#)));
    let at = |token: &str, seconds: u64| {
        verifier.name(Asked { now: Instant(0).after(Span::secs(seconds)), ..asked(token) })
    };
    let good = numbered(&signs, 0);
    assert_eq!(at(&good, 1), (Ok("pds".into()), true));
    for number in 0..19 {
        assert_eq!(at(&numbered(&stranger, number), 1), (Err(TokenResult::Signature), true));
    }
    assert_eq!(at(&numbered(&stranger, 19), 1), (Err(TokenResult::Busy), false), "as many as may be");
    assert_eq!(verifier.remembered(), 1 + 2, "of forged ones a quarter as many");
    assert_eq!(at(&good, 1), (Ok("pds".into()), false), "none drove it out, and it costs nothing");
    for number in 1..20 {
        assert_eq!(at(&numbered(&signs, number), 2), (Ok("pds".into()), true), "{number}");
    }
    assert_eq!(verifier.remembered(), 8 + 2);
    assert_eq!(at(&numbered(&signs, 19), 3), (Ok("pds".into()), false));
    assert_eq!(at(&good, 3), (Ok("pds".into()), true), "the longest unused was forgotten");
}

/// Prints what a look costs; a bound so wide that only a mistake breaks it.
#[test]
fn a_remembered_token_costs_little() {
    let signs = Signs::new(7);
    let verifier = verifier(signs.keys(), TokenRules::default());
    let token = signs.token("ES256K", &claims(""));
    let began = StdInstant::now();
    assert!(verifier.name(asked(&token)).1);
    let first = began.elapsed();
    let began = StdInstant::now();
    for _ in 0..1_000 {
        assert!(!verifier.name(asked(&token)).1);
    }
    let each = began.elapsed() / 1_000;
    println!("first {first:?}, then {each:?}");
    assert!(each < Duration::from_millis(1), "{each:?}");
}
