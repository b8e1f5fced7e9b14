//! Work is counted in keys, limits name what they refuse, and bytes are bounded.

use crate::bench::{Bench, settings};
use crate::wire::{Part, With, batch, execute, int, list, query};
use weir_cql::Version;
use weir_cql::response::ErrorCode;
use weir_engine::cql::Method;
use weir_engine::settings::{CallerLimits, LimitMode, RateRefusal, Settings, SplitChoice};
use weir_engine::units::{Bytes, Operations, Span};

fn limited(limits: CallerLimits) -> Settings {
    let mut settings = settings(1);
    settings.callers.insert("caller".into(), limits);
    settings
}

fn none(mode: LimitMode) -> CallerLimits {
    CallerLimits { mode, operations_per_request: None, ..CallerLimits::default() }
}

#[test]
fn operations_are_keys_statements_and_scans() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        let of_list = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
        let of_three = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN (?, ?, ?)");
        let insert = bench.prepare(&mut caller, "INSERT INTO shop.t (k, v) VALUES (?, 'x')");
        let text = |text| query(version, 1, text, &With::default());
        let parts = || (0..7).map(|n| Part::Id(&insert, vec![int(n)])).collect::<Vec<_>>();
        for (message, method, operations) in [
            (execute(version, 1, &of_list, &With::values(&[list(0..15_000)])), Method::Select, 15_000),
            (execute(version, 1, &of_list, &With::values(&[list([])])), Method::Select, 1),
            (execute(version, 1, &of_three, &With::values(&[int(1), int(2), int(3)])), Method::Select, 3),
            (text("SELECT v FROM shop.t WHERE k IN (1, 2, 3, 4)"), Method::Select, 4),
            (text("SELECT v FROM shop.t WHERE k = 1"), Method::Select, 1),
            (text("SELECT v FROM shop.t"), Method::Select, 100),
            (batch(version, 1, &parts()), Method::Batch, 7),
            (text("UPDATE shop.t SET v = 'x' WHERE k IN (1, 2)"), Method::Update, 2),
            (text("SELECT * FROM system.local"), Method::System, 1),
        ] {
            bench.engine.fold(|_, _, _| ());
            let answer = bench.ask(&mut caller, &message);
            assert!(answer.code().is_none(), "{}", answer.describe());
            assert_eq!(bench.tallied(method), (1, operations), "{method:?}");
        }
        bench.engine.check_quiet();
    }
}

#[test]
fn a_size_above_the_ceiling_is_refused_by_name() {
    let limits = CallerLimits { operations_per_request: Some(Operations(100)), ..none(LimitMode::Refuse) };
    let mut bench = Bench::new(limited(limits));
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
    let answer = bench.ask(&mut caller, &execute(Version::V4, 3, &id, &With::values(&[list(0..101)])));
    let text = "weir: operations_per_request limit of caller: asked 101, ceiling 100; do not retry at once";
    assert_eq!((answer.error(), answer.stream()), ((ErrorCode::INVALID, text.to_owned()), 3));
    assert!(bench.nodes[0].heard.is_empty());
    let answer = bench.ask(&mut caller, &execute(Version::V4, 3, &id, &With::values(&[list(0..100)])));
    assert_eq!(answer.values().len(), 100);
    bench.engine.check_quiet();
}

#[test]
fn a_rate_above_the_ceiling_is_refused_as_configured_and_a_size_as_invalid() {
    for (as_what, want) in
        [(RateRefusal::Invalid, ErrorCode::INVALID), (RateRefusal::Overloaded, ErrorCode::OVERLOADED)]
    {
        let limits = CallerLimits {
            operations_per_request: Some(Operations(10)),
            operations_per_second: Some(Operations(10)),
            burst: Some(Operations(10)),
            ..none(LimitMode::Refuse)
        };
        let mut settings = limited(limits);
        settings.clusters[0].refuse_rate_as = as_what;
        let mut bench = Bench::new(settings);
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
        let mut ask =
            |keys| bench.ask(&mut caller, &execute(Version::V4, 1, &id, &With::values(&[list(0..keys)])));
        assert_eq!(ask(11).error().0, ErrorCode::INVALID, "another host would be no help");
        let refused = (0..5).map(|_| ask(10)).find(|answer| answer.code().is_some());
        let (code, text) = refused.expect("a rate has an end").error();
        assert_eq!(code, want, "{text}");
        assert!(text.contains("operations_per_second limit of caller"), "{text}");
        bench.engine.check_quiet();
    }
}

#[test]
fn a_paced_request_waits_and_goes_out() {
    let limits = CallerLimits {
        operations_per_second: Some(Operations(100)),
        burst: Some(Operations(10)),
        pace_max_wait: Span::secs(2),
        ..none(LimitMode::Pace)
    };
    let mut bench = Bench::new(limited(limits));
    let mut caller = bench.open(Version::V4);
    for stream in 0..20 {
        bench.query(&caller, stream, "SELECT v FROM shop.t WHERE k = 1");
    }
    bench.settle();
    let at_once = bench.answers(&mut caller).len();
    assert!((1..20).contains(&at_once), "{at_once} at once");
    let mut later = 0;
    for _ in 0..20 {
        let due = bench.engine.next_deadline().unwrap_or(bench.now).since(bench.now);
        bench.wait(Span(due.0.max(50_000)));
        bench.settle();
        later += bench.answers(&mut caller).iter().filter(|answer| answer.code().is_none()).count();
    }
    assert_eq!(at_once + later, 20);
    bench.engine.check_quiet();
}

#[test]
fn while_too_many_replies_are_unread_nothing_is_asked_and_a_slow_reader_is_closed() {
    let mut settings = settings(1);
    settings.reply_bytes_max = Bytes(100_000);
    let mut bench = Bench::new(settings);
    let (slow, mut other) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut other, "SELECT v FROM shop.t WHERE k IN ?");
    bench.send(&slow, &execute(Version::V4, 1, &id, &With::values(&[list(0..10_000)])));
    bench.settle();
    bench.query(&other, 2, "SELECT v FROM shop.t WHERE k = 1");
    bench.turn();
    assert_eq!(bench.asked(), 0, "replies are over their bound");
    let mut closed = Vec::new();
    for _ in 0..15 {
        bench.wait(Span::millis(100));
        bench.engine.take_slow(&mut closed);
    }
    closed.dedup();
    assert_eq!(closed, [slow.id]);
    bench.engine.close_client(slow.id, bench.now);
    assert_eq!(bench.one(&mut other).values().len(), 1);
    bench.engine.check_quiet();
}

#[test]
fn request_bytes_are_bounded_and_one_client_at_a_time_is_read_until_it_is_whole() {
    let mut settings = settings(1);
    settings.input_bytes_max = Bytes(1 << 20);
    settings.clusters[0].split = SplitChoice::Off; // its requests are held whole until they are answered
    let mut bench = Bench::new(settings);
    let mut callers: Vec<_> = (0..40).map(|_| bench.open(Version::V4)).collect();
    let id = bench.prepare(&mut callers[0], "SELECT v FROM shop.t WHERE k IN ?");
    let message = execute(Version::V4, 1, &id, &With::values(&[list(0..20_000)])); // 160 kB
    let mut left: Vec<&[u8]> = vec![&message; 40];
    let mut done = 0;
    for _ in 0..10_000 {
        for (caller, left) in callers.iter().zip(&mut left) {
            if bench.engine.client_wants_input(caller.id) && !left.is_empty() {
                let read = left.len().min(bench.engine.client_read_max(caller.id)).min(16 << 10);
                bench.engine.client_input(caller.id, &left[..read], bench.now);
                *left = &left[read..];
            }
        }
        bench.turn();
        let held = bench.engine.snapshot(bench.now).input_bytes;
        assert!(held < (1 << 20) + 40 * (8 << 10) + 400_000, "{held} bytes held");
        if bench.wires.iter().any(|wire| !wire.asked.is_empty()) {
            bench.answer(0, 0);
        }
        done += callers.iter_mut().map(|caller| bench.answers(caller).len()).sum::<usize>();
        if done == 40 {
            return bench.engine.check_quiet();
        }
    }
    panic!("{done} of 40 requests were answered");
}

#[test]
fn what_weir_answers_itself_is_counted_too() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    bench.ask(&mut caller, &crate::wire::options(Version::V4, 1));
    bench.ask(&mut caller, &crate::wire::register(Version::V4, 1, &["SCHEMA_CHANGE"]));
    assert_eq!(bench.tallied(Method::Control), (3, 0), "STARTUP, OPTIONS, REGISTER");
    bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k = ?");
    bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k = ?");
    assert_eq!(bench.tallied(Method::Prepare).0, 2, "one of them from the registry");
    bench.ask(&mut caller, &execute(Version::V4, 1, b"stranger", &With::default()));
    assert_eq!(bench.tallied(Method::Other), (1, 0));
}
