//! Memcached commands that say which request of a service they are a part of, through a running weir: answered as memcached
//! answers them, and noted. `cql_correlation.rs` has both legs.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::wire::keys;
use support::{Memcached, Weir, eventually};
use weir_engine::correlate::CorrelationId;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Keys of a large request.
const MANY: usize = 20_000;

fn id() -> CorrelationId {
    CorrelationId::parse(TRACE).expect("an id")
}

fn id_key() -> String {
    format!("__weir:{}", id().short())
}

/// A weir that takes the word of every client of its listener for which request a command is a part of.
fn before(memcached: &Memcached) -> Weir {
    let file = support::file(memcached, "", "trusted_request_ids = [\"cache\"]\n");
    Weir::with_config(&format!("workers = 2\n{file}"), &[])
}

/// What a leg of the request came to.
fn leg(weir: &Weir, name: &str) -> Option<[u64; 4]> {
    let (status, report) = request(weir, TRACE);
    let leg = &report[name];
    let number = |key: &str| leg[key].as_u64().expect("a number");
    (status == 200).then(|| ["operations", "hits", "misses", "backend_operations"].map(number))
}

fn request(weir: &Weir, id: &str) -> (u16, serde_json::Value) {
    let page = support::http::get_unix(&weir.admin(), &format!("/request?id={id}"));
    (page.status, serde_json::from_str(&page.body).expect("JSON"))
}

#[test]
fn a_large_read_with_an_id_is_the_same_read_and_is_noted() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = before(&memcached);
    let all = keys("key", MANY);
    memcached.wire().fill(&all[..MANY / 2], b"value");
    let direct = memcached.wire().get(&all);
    let mut wire = support::wire::Wire::tcp(weir.port);
    let mut with_id = vec![id_key()];
    with_id.extend(all.iter().cloned());
    let through = wire.get(&with_id);
    assert_eq!((through.end, through.found == direct.found), (direct.end, true));
    let half = MANY as u64 / 2;
    assert_eq!(leg(&weir, "cache"), Some([MANY as u64, half, half, MANY as u64]));
    let asked = memcached.stat("cmd_get", None);
    assert_eq!(asked, 2 * MANY as u64, "the id was never asked of the server");

    // a few more on the same and on other connections: everything adds up
    let mut other = support::wire::Wire::tcp(weir.port);
    assert_eq!(other.get(&[id_key(), "key:1".to_owned()]).found.len(), 1);
    let meta = format!("mg key:1 v O{}\r\nmg nobody v O{}\r\n", id().short(), id().short());
    let lines = |mut wire: support::wire::Wire| {
        wire.send(&meta);
        [wire.line(), wire.line(), wire.line()]
    };
    let answers = lines(other);
    assert_eq!(answers, lines(memcached.wire()), "the opaque comes back as memcached gives it");
    assert_eq!(answers[..2], [format!("VA 5 O{}", id().short()), "value".to_owned()]);
    let all_in_all = MANY as u64 + 3;
    assert_eq!(leg(&weir, "cache"), Some([all_in_all, half + 2, half + 1, all_in_all]));

    let told =
        weir.command(&["request", &format!("00-{TRACE}-00f067aa0ba902b7-01")]).expect_success("weir request");
    for part in [TRACE, "weir saw none with this id", "20,003 operations", "10,001", "nothing"] {
        assert!(told.stdout.contains(part), "no {part:?} in:\n{}", told.stdout);
    }
    let listed = weir.command(&["request"]).expect_success("weir request");
    assert!(listed.stdout.contains(TRACE) && listed.stdout.contains("20,003"), "{}", listed.stdout);
    let labels = [("caller", "cache"), ("origin", "service")];
    let counted = |name: &str| weir.series(&format!("weir_amplification_{name}_total"), &labels);
    assert_eq!(counted("requests"), Some(1.0));
    assert_eq!(counted("cache_operations"), Some(all_in_all as f64));
    assert_eq!(counted("cache_misses"), Some((half + 1) as f64));
    assert_eq!(weir.series("weir_correlated_requests", &[]), Some(1.0));
    assert_eq!(weir.metric("weir_correlation_lost_total", &[]), 0.0);

    assert_eq!(request(&weir, "00000000000000000000000000000001").0, 404);
    assert_eq!(request(&weir, "nonsense").0, 400);
}

/// Commands of one connection, some of them with an id; what a client gets is what it gets from memcached directly, where no
/// such key is stored.
#[test]
fn pipelines_with_ids_are_answered_as_directly() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = before(&memcached);
    memcached.wire().fill(&keys("key", 50), b"value");
    let some = prop::collection::vec(0..100_u8, 0..40);
    let command = (some, 0..8_u8, any::<bool>()).prop_map(|(numbers, verb, says_id)| {
        let names: Vec<String> = numbers.iter().map(|number| format!("key:{number}")).collect();
        let first = if says_id { format!(" {}", id_key()) } else { String::new() };
        let opaque = if says_id { format!(" O{}", id().short()) } else { " O7".to_owned() };
        let one = names.first().cloned().unwrap_or_else(|| "key:0".to_owned());
        let all = format!("{first} {one} {}", names.join(" "));
        let middle = format!(" {one} {} {}", id_key(), names.join(" "));
        match verb {
            0 | 1 => format!("get{all}\r\n"),
            2 => format!("gets{all}\r\n"),
            3 => format!("gat 100{all}\r\n"),
            4 => format!("get{middle}\r\n"),
            5 => format!("mg {one} v k{opaque}\r\n"),
            6 => format!("mg {one} v q{opaque}\r\nmn\r\n"),
            _ => format!("get {}\r\n", id_key()),
        }
    });
    let pipelines = prop::collection::vec(command, 1..20);
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&pipelines, |commands| {
        let text = format!("{}mn\r\nversion\r\n", commands.concat());
        let answer = |mut client: support::Client| {
            client.ask(&text, "");
            client.lines_until(|line| line.starts_with("VERSION"))
        };
        prop_assert_eq!(answer(weir.client()), answer(memcached.client()));
        Ok(())
    });
    outcome.expect("the same answers");
    assert!(leg(&weir, "cache").is_some_and(|[operations, ..]| operations > 100), "the ids were taken");
}

#[test]
fn whose_word_is_not_taken_asks_for_ordinary_keys() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = Weir::before(&memcached);
    memcached.wire().set(&id_key(), b"a value like any other");
    memcached.wire().set("key", b"v");
    let mut wire = support::wire::Wire::tcp(weir.port);
    let found = wire.get(&[id_key(), "key".to_owned()]).found;
    let value = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    assert_eq!(found, [value(&id_key(), "a value like any other"), value("key", "v")]);
    assert_eq!(leg(&weir, "cache"), None);
    // the service is told all the same, once it is known who the client is
    eventually("the sums of the service", || {
        let listed = weir.command(&["request"]).expect_success("weir request").stdout;
        assert!(listed.contains("no request with an id was seen"), "{listed}");
        listed.contains("bear no id")
            && listed.contains("2 cache operations, 0 misses, 0 database operations")
    });
}
