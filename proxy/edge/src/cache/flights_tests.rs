use super::super::entry::KeptBody;
use super::super::route::{Way, way};
use super::super::terms::Terms;
use super::*;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

fn cache(change: impl FnOnce(&mut CacheSettings)) -> Arc<ResponseCache> {
    let mut settings = CacheSettings { paths: vec!["/".into()], ..CacheSettings::default() };
    change(&mut settings);
    ResponseCache::new(settings).expect("good settings")
}

fn asked(cache: &ResponseCache, path: &str) -> Asked {
    let (head, ()) = http::Request::get(path).body(()).expect("a request").into_parts();
    match way(&cache.rules, &head, &HeaderMap::new(), "a.test", false) {
        Some(Way::Asked(asked)) => *asked,
        other => panic!("{other:?}"),
    }
}

/// Fresh for 10 s, then used for 5 s.
fn entry(cache: &ResponseCache, at: Duration) -> Arc<Entry> {
    let (fresh, while_revalidate) = (Duration::from_secs(10), Duration::from_secs(5));
    let terms = Terms { age: Duration::ZERO, fresh, while_revalidate, if_error: Duration::ZERO };
    let body = KeptBody::new(Bytes::from_static(b"x"), cache.held.share());
    let headers = HeaderMap::new();
    Arc::new(Entry { status: StatusCode::OK, headers, body, terms, at, asked_at: at })
}

fn lead(look: Look) -> Lead {
    match look {
        Look::Lead(lead, _) => lead,
        other => panic!("{other:?}"),
    }
}

fn waiter(look: Look) -> Waiter {
    match look {
        Look::Wait(waiter) => waiter,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_asks_and_the_others_get_what_it_brings() {
    let cache = cache(|_| {});
    let a = asked(&cache, "/a");
    let at = Duration::from_secs;
    let first = lead(cache.look(&a, true, at(1)));
    let mut waiters: Vec<_> = (0..5).map(|_| waiter(cache.look(&a, true, at(2)))).collect();
    assert!(matches!(cache.look(&asked(&cache, "/b"), true, at(2)), Look::Lead(..)), "another key");
    assert!(matches!(cache.look(&a, false, at(2)), Look::Alone), "it has waited enough");
    assert_eq!(cache.counted().waiting_now, 5);
    assert_eq!(first.keep(&entry(&cache, at(3))), Ok(()));
    for waiter in &mut waiters {
        assert!(matches!(waiter.landing().await, Landing::Answer(_)));
    }
    drop(waiters);
    assert_eq!(cache.counted().waiting_now, 0);
    assert!(matches!(cache.look(&a, true, at(4)), Look::Fresh(_)));
}

#[tokio::test]
async fn when_the_one_leaves_another_one_asks() {
    let cache = cache(|_| {});
    let a = asked(&cache, "/a");
    let at = Duration::from_secs;
    let first = lead(cache.look(&a, true, at(1)));
    let mut waits = waiter(cache.look(&a, true, at(1)));
    drop(first);
    assert!(matches!(waits.landing().await, Landing::Again));
    let second = lead(cache.look(&a, true, at(1)));
    second.failed();
    assert!(matches!(cache.look(&a, true, at(1)), Look::Lead(..)), "a failure is not remembered");
}

#[tokio::test]
async fn nobody_waits_for_what_is_unfit() {
    let cache = cache(|_| {});
    let a = asked(&cache, "/a");
    let at = Duration::from_secs;
    let first = lead(cache.look(&a, true, at(1)));
    let mut waits = waiter(cache.look(&a, true, at(1)));
    first.unfit(Unfit::Personal, at(1));
    assert!(matches!(waits.landing().await, Landing::Alone));
    assert!(matches!(cache.look(&a, true, at(10)), Look::Alone), "for a while nobody tries");
    assert!(matches!(cache.look(&a, true, at(11)), Look::Lead(..)));
    let full = lead(cache.look(&asked(&cache, "/b"), true, at(1)));
    full.unfit(Unfit::Full, at(1));
    assert!(
        matches!(cache.look(&asked(&cache, "/b"), true, at(1)), Look::Lead(..)),
        "that says nothing of the next"
    );
    assert_eq!(cache.counted().unfit.iter().sum::<u64>(), 2);
}

#[tokio::test]
async fn waiting_is_bounded_in_number_and_in_time() {
    let cache = cache(|settings| settings.waiters_max = 2);
    let a = asked(&cache, "/a");
    let at = Duration::from_secs;
    let slow = lead(cache.look(&a, true, at(1)));
    let mut one = waiter(cache.look(&a, true, at(2)));
    let _two = waiter(cache.look(&a, true, at(2)));
    assert!(matches!(cache.look(&a, true, at(2)), Look::Alone));
    // After `lock_timeout` another one takes its place, and those who waited look again.
    let next = lead(cache.look(&a, true, at(6)));
    assert!(matches!(one.landing().await, Landing::Again));
    drop(slow);
    drop(one);
    let mut three = waiter(cache.look(&a, true, at(6)));
    assert_eq!(next.keep(&entry(&cache, at(7))), Ok(()));
    assert!(matches!(three.landing().await, Landing::Answer(_)), "the slow one took nothing with it");
}

#[test]
fn a_stale_answer_is_used_and_one_asks_again() {
    let cache = cache(|settings| settings.refreshes_max = 1);
    let (a, b) = (asked(&cache, "/a"), asked(&cache, "/b"));
    let at = Duration::from_secs;
    for asked in [&a, &b] {
        let first = lead(cache.look(asked, true, at(1)));
        assert_eq!(first.keep(&entry(&cache, at(1))), Ok(()));
    }
    let Look::Stale(_, Some(again)) = cache.look(&a, true, at(14)) else { panic!("it is to be asked for") };
    assert!(matches!(cache.look(&a, true, at(15)), Look::Stale(_, None)), "once");
    assert!(matches!(cache.look(&b, true, at(15)), Look::Stale(_, None)), "no more than refreshes_max");
    assert_eq!(cache.counted().refreshes[Refreshed::Skipped as usize], 1);
    assert!(
        matches!(cache.look(&a, true, at(16)), Look::Wait(_)),
        "too old: it is waited for, and that is it"
    );
    again.failed();
    assert!(matches!(cache.look(&a, true, at(16)), Look::Lead(_, Some(_))), "what there is comes along");
    assert!(matches!(cache.look(&b, true, at(14)), Look::Stale(_, Some(_))));
}

#[test]
fn a_change_is_seen_by_those_who_ask_after_it() {
    let cache = cache(|_| {});
    let a = asked(&cache, "/a");
    let at = Duration::from_secs;
    let before = lead(cache.look(&a, true, at(1)));
    cache.changed(&a.resource, at(2));
    assert_eq!(before.keep(&entry(&cache, at(1))), Err(Unfit::Changed));
    let after = lead(cache.look(&a, true, at(3)));
    assert_eq!(after.keep(&entry(&cache, at(3))), Ok(()));
    assert!(matches!(cache.look(&a, true, at(4)), Look::Fresh(_)));
    cache.changed(&a.resource, at(5));
    assert!(matches!(cache.look(&a, true, at(6)), Look::Lead(_, None)));
}

#[test]
fn a_head_is_answered_from_what_is_kept_and_never_waited_for() {
    let cache = cache(|_| {});
    let a = asked(&cache, "/a");
    let head = Asked { head_only: true, ..a.clone() };
    let at = Duration::from_secs;
    assert!(matches!(cache.look(&head, true, at(1)), Look::Alone));
    assert_eq!(lead(cache.look(&a, true, at(1))).keep(&entry(&cache, at(1))), Ok(()));
    assert!(matches!(cache.look(&head, true, at(2)), Look::Fresh(_)));
}
