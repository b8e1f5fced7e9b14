use super::super::CacheSettings;
use super::super::entry::{Entry, KeptBody};
use super::super::flights::{Landing, Look, Waiter};
use super::super::route::{Asked, Way, way};
use super::super::terms::{Terms, Unfit};
use super::*;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

const AT: fn(u64) -> Duration = Duration::from_secs;

fn cache() -> Arc<ResponseCache> {
    let settings = CacheSettings { paths: vec!["/".into()], ..CacheSettings::default() };
    ResponseCache::new(settings).expect("good settings")
}

fn asked(cache: &ResponseCache, path: &str) -> Asked {
    let (head, ()) = http::Request::get(path).body(()).expect("a request").into_parts();
    match way(&cache.rules, &head, &HeaderMap::new(), "a.test", false) {
        Some(Way::Asked(asked)) => *asked,
        other => panic!("{other:?}"),
    }
}

fn lead(cache: &Arc<ResponseCache>, path: &str, now: Duration) -> Lead {
    match cache.look(&asked(cache, path), true, now) {
        Look::Lead(lead, _) => lead,
        other => panic!("{path}: {other:?}"),
    }
}

fn waiter(cache: &Arc<ResponseCache>, path: &str, now: Duration) -> Waiter {
    match cache.look(&asked(cache, path), true, now) {
        Look::Wait(waiter) => waiter,
        other => panic!("{path}: {other:?}"),
    }
}

/// Fresh for a minute.
fn entry(cache: &ResponseCache, at: Duration) -> Arc<Entry> {
    let (fresh, none) = (Duration::from_secs(60), Duration::ZERO);
    let terms = Terms { age: none, fresh, while_revalidate: none, if_error: none };
    let body = KeptBody::new(Bytes::from_static(b"x"), cache.held.share());
    let headers = HeaderMap::new();
    Arc::new(Entry { status: StatusCode::OK, headers, body, terms, at, asked_at: at })
}

fn keep(cache: &Arc<ResponseCache>, path: &str, now: Duration) {
    assert_eq!(lead(cache, path, now).keep(&entry(cache, now)), Ok(()), "{path}");
}

fn is_kept(cache: &Arc<ResponseCache>, path: &str, now: Duration) -> bool {
    matches!(cache.look(&asked(cache, path), true, now), Look::Fresh(_))
}

#[test]
fn a_path_goes_with_all_that_is_below_it_and_nothing_else() {
    let cache = cache();
    let all = ["/a/b", "/a/b?c=d", "/a/b/c", "/a/bc", "/a", "/b/a/b"];
    all.iter().for_each(|path| keep(&cache, path, AT(1)));
    lead(&cache, "/a/b/unfit", AT(1)).unfit(Unfit::NotPublic, AT(1));
    assert_eq!(cache.purge_at(Some("/a/b"), AT(2)), 3, "the mark of an unfit answer is none");
    for path in all {
        let gone = matches!(path, "/a/b" | "/a/b?c=d" | "/a/b/c");
        assert_eq!(is_kept(&cache, path, AT(3)), !gone, "{path}");
    }
    assert!(matches!(cache.look(&asked(&cache, "/a/b/unfit"), true, AT(3)), Look::Lead(..)));
    assert_eq!(cache.purge_at(Some("/a/b/"), AT(3)), 0);
    assert_eq!(cache.purge_at(None, AT(4)), 3);
    assert!(all.iter().all(|path| !is_kept(&cache, path, AT(5))));
    let counted = cache.counted();
    assert_eq!((counted.purges, counted.purged, counted.evicted, counted.entries_now), (3, 6, 0, 0));
    assert_eq!(counted.bytes_now, 0, "what was held is given back");
}

#[tokio::test]
async fn what_is_under_way_does_not_come_back() {
    let cache = cache();
    let first = lead(&cache, "/a", AT(1));
    let mut waits = waiter(&cache, "/a", AT(1));
    assert!(!first.is_purged());
    assert_eq!(cache.purge_at(Some("/a"), AT(2)), 0);
    assert!(first.is_purged());
    assert_eq!(first.keep(&entry(&cache, AT(3))), Err(Unfit::Changed));
    assert!(matches!(waits.landing().await, Landing::Again), "those who waited ask again");
    assert!(!is_kept(&cache, "/a", AT(3)));
    keep(&cache, "/a", AT(4));
    assert!(is_kept(&cache, "/a", AT(5)), "what was asked for after it is kept");
}
