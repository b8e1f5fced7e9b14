//! Page states of split requests in several weirs, with a key that they share and without.

use crate::bench::{Bench, Caller};
use crate::split::{READ, small};
use crate::wire::{self, Answer, With, list};
use std::sync::Arc;
use weir_cql::Version;
use weir_cql::response::ErrorCode;
use weir_engine::cql::split::PageKey;
use weir_engine::units::Span;

/// A weir that calls the cluster by this name.
fn weir(name: &str, key: Option<&[u8]>) -> (Bench, Caller, Vec<u8>) {
    let mut settings = small(1);
    settings.clusters[0].name = name.into();
    settings.clusters[0].page_key = key.map(|key| PageKey::of_shared(key).expect("long enough"));
    let mut bench = Bench::new(settings);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    (bench, caller, id)
}

fn page(of: &mut (Bench, Caller, Vec<u8>), state: Option<Vec<u8>>) -> Answer {
    let (bench, caller, id) = of;
    let with = With { page_size: Some(20), page_state: state, ..With::values(&[list(0..60)]) };
    bench.ask(caller, &wire::execute(Version::V4, 3, id, &with))
}

#[test]
fn a_shared_key_carries_pages_from_weir_to_weir_and_another_one_does_not() {
    let (one, other) = (&[b'1'; 64][..], &[b'2'; 64][..]);
    let rows = [
        ("a", Some(one), "b", Some(one), true),
        ("a", Some(one), "a", Some(other), false),
        ("a", Some(one), "a", None, false),
        ("a", None, "a", None, true),
        ("a", None, "b", None, false),
    ];
    for (name, key, next_name, next_key, goes_on) in rows {
        let first = page(&mut weir(name, key), None);
        assert_eq!(first.keys(), (0..20).collect::<Vec<_>>());
        let mut next = weir(next_name, next_key);
        let second = page(&mut next, first.page_state());
        if goes_on {
            assert_eq!(second.keys(), (20..40).collect::<Vec<_>>(), "{name} {next_name}");
        } else {
            let (code, text) = second.error();
            assert_eq!(code, ErrorCode::INVALID);
            assert!(text.contains("paging_key_file"), "{text}");
        }
        next.0.engine.check_quiet();
    }
}

#[test]
fn pages_begun_before_a_reload_that_changes_the_key_are_read_for_an_hour() {
    let (old, new, third) = ([b'1'; 64], [b'2'; 64], [b'3'; 64]);
    let reload = |of: &mut (Bench, Caller, Vec<u8>), key: &[u8]| {
        let mut settings = small(1);
        settings.clusters[0].name = "a".into();
        settings.clusters[0].page_key = PageKey::of_shared(key);
        let now = of.0.now;
        of.0.engine.apply(Arc::new(settings), now);
        of.0.turn();
    };
    let refused = |answer: &Answer| {
        let (code, text) = answer.error();
        assert!(code == ErrorCode::INVALID && text.contains("paging_key_file"), "{text}");
    };
    let mut weir = weir("a", Some(&old));
    let first = page(&mut weir, None);
    reload(&mut weir, &new);
    reload(&mut weir, &new); // the same again ends nothing
    let second = page(&mut weir, first.page_state());
    assert_eq!(second.keys(), (20..40).collect::<Vec<_>>(), "begun with the key before");
    assert_eq!(page(&mut weir, second.page_state()).keys(), (40..60).collect::<Vec<_>>(), "with the new one");

    weir.0.wait(Span::secs(3_599));
    assert_eq!(page(&mut weir, first.page_state()).keys(), (20..40).collect::<Vec<_>>());
    weir.0.wait(Span::secs(1));
    refused(&page(&mut weir, first.page_state()));
    assert_eq!(page(&mut weir, second.page_state()).keys(), (40..60).collect::<Vec<_>>());

    reload(&mut weir, &old);
    reload(&mut weir, &third);
    refused(&page(&mut weir, second.page_state()));
    assert_eq!(page(&mut weir, first.page_state()).keys(), (20..40).collect::<Vec<_>>());
    weir.0.engine.check_quiet();
}
