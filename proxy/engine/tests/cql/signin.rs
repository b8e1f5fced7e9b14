//! Clients that sign in with a password: nothing of them is carried out before the cluster's word, and everything after it
//! is on the user's account.

use crate::bench::{Bench, Caller, settings};
use crate::wire::{With, message, query, startup};
use weir_cql::envelope::Opcode;
use weir_cql::request::AuthResponse;
use weir_cql::response::ErrorCode;
use weir_cql::{Response, SegmentDecoder, Version};
use weir_engine::CloseHow;
use weir_engine::cql::credentials::Verdict;
use weir_engine::cql::signin::SignIn;
use weir_engine::settings::{CallerLimits, ClientSignIn, LimitMode, Settings};
use weir_engine::units::Operations;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];
const SELECT: &str = "SELECT v FROM shop.t WHERE k = 1";

fn with_passwords() -> Settings {
    let mut settings = settings(1);
    settings.clusters[0].clients = ClientSignIn::Password;
    settings
}

/// A connection that was asked to sign in.
fn asked(bench: &mut Bench, version: Version, more: &[(&str, &str)]) -> Caller {
    let mut caller = bench.dial("caller", version);
    let answer = bench.ask(&mut caller, &startup(version, 0, &[&[("CQL_VERSION", "3.0.0")], more].concat()));
    assert!(matches!(answer.read(), Response::Authenticate(_)), "{answer:?}");
    if version >= Version::V5 {
        caller.segments = Some((false, SegmentDecoder::new(false, weir_cql::BODY_MAX)));
    }
    caller
}

fn token(version: Version, token: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    AuthResponse::write(Some(token), &mut body);
    message(version, 1, Opcode::AuthResponse, &body)
}

fn taken(bench: &mut Bench) -> Vec<SignIn> {
    let mut all = Vec::new();
    bench.engine.take_sign_ins(&mut all);
    all
}

#[test]
fn nothing_is_done_before_the_clusters_word() {
    for version in VERSIONS {
        let mut bench = Bench::new(with_passwords());
        let mut caller = asked(&mut bench, version, &[]);
        let early = bench.ask(&mut caller, &query(version, 2, SELECT, &With::default()));
        assert_eq!(early.code(), Some(ErrorCode::PROTOCOL_ERROR));
        // the request behind the credentials waits for their verdict
        let both = [token(version, b"\0user\0secret"), query(version, 2, SELECT, &With::default())].concat();
        bench.send(&caller, &both);
        assert!(bench.answers(&mut caller).is_empty());
        assert!(!bench.engine.client_idle(caller.id));
        let [sign_in] = &taken(&mut bench)[..] else { panic!("one question") };
        assert_eq!((&*sign_in.secret.user, &sign_in.secret.password[..]), ("user", b"secret".as_slice()));
        assert_eq!(bench.asked(), 0, "no connection and no request for somebody unknown");
        assert_eq!(bench.engine.lanes().count(), 0);

        bench.engine.signed_in(caller.id, &Verdict::Refused("not so".into()), bench.now);
        let answers = bench.answers(&mut caller);
        assert_eq!(answers[0].error(), (ErrorCode::BAD_CREDENTIALS, "not so".into()));
        assert_eq!(answers[1].code(), Some(ErrorCode::PROTOCOL_ERROR), "the request behind them");

        bench.send(&caller, &both);
        bench.engine.signed_in(caller.id, &Verdict::Good, bench.now);
        bench.turn(); // the first connections are made
        bench.settle();
        let answers = bench.answers(&mut caller);
        assert!(matches!(answers[0].read(), Response::AuthSuccess(_)), "{answers:?}");
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert!(answers[1].code().is_none(), "{answers:?}");
        bench.engine.check_quiet();
    }
}

#[test]
fn a_user_is_a_principal_and_a_declared_name_only_a_name() {
    let mut settings = with_passwords();
    let none = CallerLimits {
        mode: LimitMode::Refuse,
        operations_per_request: Some(Operations(1)),
        ..CallerLimits::default()
    };
    settings.callers.insert("small".into(), none);
    let mut bench = Bench::new(settings);
    for (user, refused) in [("small", true), ("other", false)] {
        let mut caller = asked(&mut bench, Version::V4, &[("APPLICATION_NAME", "service")]);
        bench.send(&caller, &token(Version::V4, format!("\0{user}\0x").as_bytes()));
        bench.engine.signed_in(caller.id, &Verdict::Good, bench.now);
        bench.answers(&mut caller);
        let answer = bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k IN (1, 2)");
        assert_eq!(answer.code(), refused.then_some(ErrorCode::INVALID), "{user}");
        let mut seen = Vec::new();
        bench.engine.fold(|_, identity, _| seen.push((identity.principal.clone(), identity.name.clone())));
        assert!(seen.contains(&(user.into(), "service".into())), "{seen:?}");
    }
}

#[test]
fn whatever_is_no_user_and_password_is_refused_here() {
    let mut bench = Bench::new(with_passwords());
    let mut caller = asked(&mut bench, Version::V4, &[]);
    let long = [b"\0user\0".as_slice(), &[b'x'; 2_000]].concat();
    for bad in [b"".as_slice(), b"user", b"\0a\0b\0c", b"\0\xff\0x", b"\0\0x", &long] {
        let answer = bench.ask(&mut caller, &token(Version::V4, bad));
        assert_eq!(answer.code(), Some(ErrorCode::BAD_CREDENTIALS), "{bad:?}");
    }
    assert!(taken(&mut bench).is_empty());
    let again = bench.ask(&mut caller, &startup(Version::V4, 1, &[("CQL_VERSION", "3.0.0")]));
    assert_eq!(again.code(), Some(ErrorCode::PROTOCOL_ERROR));
}

#[test]
fn verdicts_reach_only_whom_they_are_for() {
    let mut bench = Bench::new(with_passwords());
    let caller = asked(&mut bench, Version::V4, &[]);
    bench.send(&caller, &token(Version::V4, b"\0user\0secret"));
    let id = caller.id;
    bench.engine.close_client(id, bench.now);
    // the place is somebody else's now, who has not said anything
    let mut next = asked(&mut bench, Version::V4, &[]);
    assert_eq!(next.id.slot, id.slot);
    bench.engine.signed_in(id, &Verdict::Good, bench.now);
    bench.engine.signed_in(next.id, &Verdict::Good, bench.now);
    assert!(bench.answers(&mut next).is_empty());
    assert_eq!(bench.ask_text(&mut next, SELECT).code(), Some(ErrorCode::PROTOCOL_ERROR));
    // one that cannot be asked about is told so, and may try again
    bench.send(&next, &token(Version::V4, b"\0user\0secret"));
    bench.engine.signed_in(next.id, &Verdict::Unknown("away".into()), bench.now);
    assert_eq!(bench.answers(&mut next)[0].error(), (ErrorCode::SERVER_ERROR, "away".into()));
    assert_eq!(bench.engine.client_closing(next.id), None::<CloseHow>);
}
