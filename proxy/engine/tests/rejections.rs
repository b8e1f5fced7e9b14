//! What is turned down is counted once, under its reason and under the command it was.

mod support;

use support::{Bench, settings};
use weir_engine::error::Rejected;
use weir_engine::ledger::Outcome;
use weir_engine::settings::Settings;
use weir_engine::units::{Bytes, ClientId, Operations, Span};

/// Since the last time: what was turned down and why, and requests by command and outcome.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    rejections: Vec<(Rejected, u64)>,
    requests: Vec<(&'static str, Outcome, u64)>,
}

fn counted(bench: &mut Bench) -> Counted {
    let mut counted = Counted::default();
    bench.engine.fold(|_, _, identity| {
        counted.rejections.extend(identity.rejections());
        for (verb, tally) in identity.tallies() {
            let ended = Outcome::ALL.into_iter().zip(tally.requests).filter(|(_, requests)| *requests > 0);
            counted.requests.extend(ended.map(|(outcome, requests)| {
                (weir_memcached::Verb::ALL[verb.index()].name(), outcome, requests)
            }));
        }
    });
    counted
}

fn unbatched() -> Settings {
    let mut settings = settings(1);
    settings.pools[0].batching = false;
    settings
}

#[test]
fn refused_lines_are_booked_as_the_command_they_name() {
    let mut settings = unbatched();
    settings.listeners[0].value_max = 1_000;
    let mut bench = Bench::new(settings);
    let long = "x".repeat(300);
    for (line, verb, why) in [
        (format!("get {long}\r\n"), "get", None),
        ("bget\r\n".into(), "get", None),
        (format!("delete {long}\r\n"), "delete", None),
        ("incr a b\r\n".into(), "incr", None),
        ("mg a v v\r\n".into(), "mg", None),
        ("set a 0 0 1\r\nxyz\r\n".into(), "set", None),
        ("nonsense a b\r\n".into(), "unknown", None),
        ("\r\n".into(), "unknown", None),
        ("GET / HTTP/1.1\r\n".into(), "unknown", None),
        ("cache_memlimit 1\r\n".into(), "unknown", Some(Rejected::CommandPolicy)),
        (format!("touch a {}\r\n", "1".repeat(20_000)), "touch", Some(Rejected::LineTooLong)),
        (format!("add a 0 0 1001\r\n{}\r\n", "x".repeat(1_001)), "add", Some(Rejected::ValueTooLarge)),
    ] {
        let client = bench.open("caller");
        bench.send(client, &line);
        bench.settle();
        let counted = counted(&mut bench);
        let rejections: Vec<_> = why.map(|why| (why, 1)).into_iter().collect();
        assert_eq!(counted.rejections, rejections, "{line:?}");
        // what follows a bad data block is a line of its own
        assert_eq!(counted.requests[0], (verb, Outcome::Invalid, 1), "{line:?}: {counted:?}");
        bench.engine.close_client(client, bench.now);
    }
}

#[test]
fn commands_that_are_not_carried_are_command_policy() {
    let mut bench = Bench::new(unbatched());
    let client = bench.open("caller");
    bench.send(client, "shutdown\r\nmn\r\n");
    bench.settle();
    let expected = Counted {
        rejections: vec![(Rejected::CommandPolicy, 1)],
        requests: vec![("mn", Outcome::Ok, 1), ("shutdown", Outcome::Refused, 1)],
    };
    assert_eq!(counted(&mut bench), expected);
    let client = bench.open("caller");
    bench.send(client, [&[0x80_u8][..], &[0; 23]].concat());
    bench.settle();
    let expected = Counted {
        rejections: vec![(Rejected::CommandPolicy, 1)],
        requests: vec![("unknown", Outcome::Invalid, 1)],
    };
    assert_eq!(counted(&mut bench), expected, "the binary protocol");
}

#[test]
fn a_request_or_multiget_that_waited_too_long_is_counted_once() {
    let mut settings = unbatched();
    settings.pools[0].operations_in_flight = Operations(2);
    settings.pools[0].chunk_keys = 2;
    settings.pools[0].request_timeout = Span::secs(100);
    settings.pools[0].stall_timeout = Span::secs(100);
    settings.pools[0].queue_timeout = Span::millis(500);
    let mut bench = Bench::new(settings);
    bench.warm_up("caller");
    counted(&mut bench);
    let clients: Vec<ClientId> = (0..3).map(|_| bench.open("caller")).collect();
    for (client, request) in clients.iter().zip(["get a b\r\n", "get c\r\n", "get d e f g\r\n"]) {
        bench.send(*client, request);
        bench.turn();
    }
    for _ in 0..12 {
        bench.wait(Span::millis(100));
    }
    let expected = Counted {
        rejections: vec![(Rejected::QueueTimeout, 2)],
        requests: vec![("get", Outcome::Timeout, 2)],
    };
    assert_eq!(counted(&mut bench), expected);
    bench.settle();
    assert_eq!(counted(&mut bench).rejections, []);
}

#[test]
fn slow_readers_are_buffer_bound_whichever_bound_it_is() {
    type Set = fn(&mut Settings);
    let by_time: Set = |settings| settings.listeners[0].slow_reader_timeout = Span::secs(2);
    let by_size: Set = |settings| settings.listeners[0].reply_buffer_max = 5_000;
    let by_sum: Set = |settings| settings.reply_bytes_max = Bytes(5_000);
    for (bound, set) in [("time", by_time), ("one client's bytes", by_size), ("all bytes", by_sum)] {
        let mut settings = unbatched();
        set(&mut settings);
        let mut bench = Bench::new(settings);
        bench.values.insert(b"a".to_vec(), vec![7; 10_000]);
        let client = bench.open("caller");
        bench.send(client, "get a\r\n");
        bench.settle();
        assert_eq!(counted(&mut bench).rejections, [], "{bound}");
        let mut slow = Vec::new();
        for _ in 0..30 {
            bench.wait(Span::millis(100));
            bench.engine.take_slow(&mut slow);
            if !slow.is_empty() {
                break;
            }
        }
        assert_eq!(slow, [client], "{bound}");
        bench.engine.close_client(client, bench.now);
        assert_eq!(counted(&mut bench).rejections, [(Rejected::BufferBound, 1)], "{bound}");
    }
}

#[test]
fn what_a_shutdown_cuts_is_counted_by_request() {
    let mut bench = Bench::new(unbatched());
    bench.warm_up("caller");
    counted(&mut bench);
    let client = bench.open("caller");
    bench.send(client, "get a\r\nset b 0 0 1\r\nx\r\nget c d\r\n");
    bench.turn();
    bench.engine.reject_client(client, Rejected::Draining);
    bench.engine.close_client(client, bench.now);
    let counted = counted(&mut bench);
    assert_eq!(counted.rejections, [(Rejected::Draining, 3)]);
    let gone: u64 =
        counted.requests.iter().map(|(_, outcome, n)| n * u64::from(*outcome == Outcome::ClientGone)).sum();
    assert_eq!(gone, 3);
}
