//! tonic, with metadata, details and deadlines.

use super::support::eventually;
use super::support_rpc::scripted::Scripted;
use super::support_rpc::{Grpc, POSTS, keyed};
use super::{LIMITS, REQUEST_MAX, weir};
use std::time::{Duration, Instant};
use tonic::Code;

fn one(key: &str) -> bytes::Bytes {
    keyed::request(&[key.to_owned()])
}

#[test]
fn tonic() {
    let service = Scripted::start();
    let weir = weir(&service, LIMITS);
    let (mut direct, mut through) = (Grpc::over_tcp(service.port), Grpc::over_tcp(weir.port));
    for key in ["at://a", "do:size:8388608"] {
        let wanted = direct.call(POSTS, one(key), &[]).expect("answered");
        assert!(through.call(POSTS, one(key), &[]).expect("answered") == wanted, "{key}");
    }
    let large = "k".repeat(8 << 20);
    let wanted = direct.call(POSTS, one(&large), &[]).expect("answered");
    assert!(through.call(POSTS, one(&large), &[]).expect("answered") == wanted, "a large request");
    for key in ["do:error", "do:late"] {
        let echo = [("x-echo", "some text")];
        let wanted = direct.call(POSTS, one(key), &echo).expect_err("it fails");
        let told = through.call(POSTS, one(key), &echo).expect_err("it fails");
        assert_eq!((told.code(), told.message()), (wanted.code(), wanted.message()), "{key}");
        assert!(!told.details().is_empty());
        assert_eq!(told.details(), wanted.details(), "{key}");
        assert_eq!(told.metadata().get("x-end"), wanted.metadata().get("x-end"), "{key}");
    }
    let began = Instant::now();
    let late = through.call(POSTS, one("do:wait:20000"), &[("grpc-timeout", "200m")]).expect_err("too late");
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let many: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let refused = through.call(POSTS, keyed::request(&many), &[]).expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    // With the five bytes before the message: exactly as large as it may be, and one byte more.
    let beside = one(&"k".repeat(8 << 20)).len() - (8 << 20) + 5;
    let most = REQUEST_MAX - beside;
    through.call(POSTS, one(&"k".repeat(most)), &[]).expect("it just fits");
    let large = through.call(POSTS, one(&"k".repeat(most + 1)), &[]).expect_err("too large");
    assert_eq!(large.code(), Code::ResourceExhausted, "{large:?}");
    through.call(POSTS, one("at://a"), &[]).expect("and goes on");
    eventually("nothing is left", || service.told.now() == 0);
}
