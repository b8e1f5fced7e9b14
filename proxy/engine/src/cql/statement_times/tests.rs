use super::*;
use crate::ledger::{Form, Method, Outcome};
use crate::units::Instant;
use std::collections::BTreeMap;

fn asked(backend: Span, operations: u64) -> Entry {
    Entry {
        identity: 0,
        method: Method(0),
        operations,
        chunks: 1,
        backend_operations: operations,
        hits: operations,
        misses: 0,
        coalesced: 0,
        bytes_in: 100,
        bytes_out: 200,
        queue_wait: Span(0),
        backend_time: backend,
        total: backend,
        outcome: Outcome::Ok,
        at: Instant(0),
        sent_to: None,
    }
}

fn of(text: &str, keyspace: Option<&str>) -> Statement {
    let print = fingerprint(text.as_bytes());
    let form = Form::new(&print.text, print.hash, "t", print.complete);
    Statement { form: Arc::new(form), keyspace: keyspace.map(Into::into) }
}

fn nth(n: usize) -> Statement {
    of(&format!("SELECT v FROM shop.t{n} WHERE k = 1"), None)
}

type Taken = BTreeMap<(String, String), Spent>;

fn take(times: &mut StatementTimes) -> Taken {
    let mut all = Taken::new();
    times.take(|cluster, name, spent| {
        let name = name.map_or("_other", |name| name);
        all.entry((cluster.to_string(), name.to_owned())).or_default().add(spent);
    });
    all
}

#[test]
fn a_statement_is_shown_with_all_it_had_once_it_is_worth_it() {
    let (main, other): (Arc<str>, Arc<str>) = ("main".into(), "other".into());
    let mut times = StatementTimes::default();
    for _ in 0..3 {
        times.record(&main, &nth(1), &asked(Span::millis(300), 10));
        times.record(&other, &nth(1), &asked(Span::millis(1), 1));
    }
    assert_eq!(take(&mut times), Taken::new(), "not yet");
    times.record(&main, &nth(1), &asked(Span::millis(300), 10));
    let name = format!("{:016x}", fingerprint(b"SELECT v FROM shop.t1 WHERE k = 2").hash);
    let spent = |backend_us, operations| Spent { backend_us, operations };
    assert_eq!(take(&mut times), [(("main".into(), name.clone()), spent(1_200_000, 40))].into());
    times.record(&main, &nth(1), &asked(Span::millis(5), 2));
    assert_eq!(take(&mut times), [(("main".into(), name), spent(5_000, 2))].into(), "only what is new");
    assert_eq!(take(&mut times), Taken::new());
}

#[test]
fn the_name_is_that_of_weir_fingerprint_whatever_names_the_keyspace() {
    let qualified = fingerprint(b"SELECT v FROM shop.posts WHERE k = 7").hash;
    assert_eq!(fingerprint_of(&of("select v from posts where k = ?", Some("shop"))), qualified);
    assert_eq!(fingerprint_of(&of("SELECT v FROM shop.posts WHERE k = 9", None)), qualified);
    assert_ne!(fingerprint_of(&of("select v from posts where k = ?", Some("forum"))), qualified);
    let long = format!("SELECT v FROM t WHERE {} k = 1", "column_with_a_name = 1 AND ".repeat(40));
    assert_ne!(fingerprint_of(&of(&long, Some("shop"))), fingerprint_of(&of(&long, Some("forum"))));
}

#[test]
fn names_and_places_are_bounded_and_nothing_is_lost() {
    let main: Arc<str> = "main".into();
    let mut times = StatementTimes::default();
    let mut all = Taken::new();
    let mut look = |times: &mut StatementTimes| {
        for (key, spent) in take(times) {
            all.entry(key).or_default().add(spent);
        }
    };
    for n in 0..1_000 {
        times.record(&main, &nth(n), &asked(Span::secs(2), 1)); // each is worth it
        times.record(&main, &nth(10_000 + n), &asked(Span::millis(1), 1)); // none is
        assert!(times.counted.len() <= STATEMENTS_KEPT && times.places.len() == times.counted.len());
        if n % 7 == 0 {
            look(&mut times);
        }
    }
    look(&mut times);
    for n in 0..STATEMENTS_SHOWN {
        times.record(&main, &nth(n), &asked(Span::secs(2), 1)); // they keep their names
    }
    look(&mut times);
    let names = all.keys().filter(|(_, name)| name != "_other").count();
    assert_eq!(names, STATEMENTS_SHOWN);
    for (_, spent) in all.iter().filter(|((_, name), _)| name != "_other") {
        assert_eq!(*spent, Spent { backend_us: 4_000_000, operations: 2 });
    }
    let kept: u64 = times.counted.iter().map(|counted| counted.spent.operations).sum();
    let shown: u64 = all.values().map(|spent| spent.operations).sum();
    assert_eq!(shown + kept, 2_000 + STATEMENTS_SHOWN as u64);
}
