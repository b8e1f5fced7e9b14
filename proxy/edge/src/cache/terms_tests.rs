use super::*;
use http::{HeaderName, HeaderValue};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;
use std::time::SystemTime;

const DAY: u64 = 86_400;

fn wall() -> SystemTime {
    // Sun, 06 Nov 1994 08:49:37 GMT
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

fn settings() -> CacheSettings {
    let long = Duration::from_secs(10 * DAY);
    CacheSettings {
        headers: vec!["accept-language".into()],
        ttl_max: long,
        stale_max: long,
        entry_max: 1_000,
        ..CacheSettings::default()
    }
}

fn judged(status: u16, headers: &HeaderMap, delay: u64) -> Result<Terms, Unfit> {
    let settings = settings();
    let now = Moment { since: Duration::from_secs(5), wall: wall() };
    let sent = map([("accept-encoding", "br, gzip")]);
    let status = StatusCode::from_u16(status).expect("a status");
    judge(&settings, &Rules::of(&settings), &sent, status, headers, Duration::from_secs(delay), now)
}

/// A status, headers, and the seconds that it is fresh.
type Row = (u16, Vec<(&'static str, &'static str)>, Result<u64, Unfit>);

#[test]
fn what_may_be_kept_and_what_may_not() {
    let good = "public, max-age=60";
    let with = |name, value| vec![("cache-control", good), (name, value)];
    let control = |value| vec![("cache-control", value)];
    let table: Vec<Row> = vec![
        (200, control(good), Ok(60)),
        (203, control(good), Ok(60)),
        (301, control(good), Ok(60)),
        (308, control(good), Ok(60)),
        (404, control(good), Ok(60)),
        (410, control(good), Ok(60)),
        // A part, what changes a resource, what is not final, what the service failed at.
        (206, control(good), Err(Unfit::Status)),
        (201, control(good), Err(Unfit::Status)),
        (302, control(good), Err(Unfit::Status)),
        (304, control(good), Err(Unfit::Status)),
        (401, control(good), Err(Unfit::Status)),
        (500, control(good), Err(Unfit::Status)),
        (503, control(good), Err(Unfit::Status)),
        // RFC 9111, 5.2.2.
        (200, vec![], Err(Unfit::NotPublic)),
        (200, control("max-age=60"), Err(Unfit::NotPublic)),
        (200, control("public"), Err(Unfit::NoLifetime)),
        (
            200,
            vec![("cache-control", "public"), ("expires", "Sun, 06 Nov 2094 08:49:37 GMT")],
            Err(Unfit::NoLifetime),
        ),
        (200, control("public, max-age=60, private"), Err(Unfit::NotPublic)),
        (200, control("public, max-age=60, no-store"), Err(Unfit::NotPublic)),
        (200, control("public, max-age=60, no-cache"), Err(Unfit::NotPublic)),
        (200, control("public, max-age=60, no-cache=\"x\""), Err(Unfit::NotPublic)),
        (200, control("public, max-age=60, private=\"x\""), Err(Unfit::NotPublic)),
        (200, control("public, max-age=60, must-understand, no-store"), Err(Unfit::NotPublic)),
        (200, control("public, max-age=0"), Err(Unfit::Stale)),
        (200, control("public, max-age=60, s-maxage=5"), Ok(5)),
        (200, control("public, max-age=0, s-maxage=5"), Ok(5)),
        (200, control("public, max-age=60, s-maxage=0"), Err(Unfit::Stale)),
        (200, control("public, max-age=soon"), Err(Unfit::NoLifetime)),
        (200, control("public, max-age=60, must-revalidate"), Ok(60)),
        (200, with("pragma", "no-cache"), Ok(60)),
        // 4.2.3: how old it is already.
        (200, with("age", "10"), Ok(50)),
        (200, with("age", "60"), Err(Unfit::Stale)),
        (200, with("age", "nonsense"), Ok(60)),
        (200, with("date", "Sun, 06 Nov 1994 08:49:17 GMT"), Ok(40)),
        (200, with("date", "Sun, 06 Nov 1994 08:48:37 GMT"), Err(Unfit::Stale)),
        (200, with("date", "Sun, 06 Nov 1994 08:50:37 GMT"), Ok(60)),
        (200, with("date", "nonsense"), Ok(60)),
        // What is one client's.
        (200, with("set-cookie", "a=b"), Err(Unfit::Personal)),
        (200, with("www-authenticate", "Basic"), Err(Unfit::Personal)),
        (200, with("dpop-nonce", "x"), Err(Unfit::Personal)),
        // 4.1.
        (200, with("vary", "Accept-Language, accept-encoding,Accept"), Ok(60)),
        (200, with("vary", "*"), Err(Unfit::Vary)),
        (200, with("vary", "accept, *"), Err(Unfit::Vary)),
        (200, with("vary", "user-agent"), Err(Unfit::Vary)),
        (200, with("vary", "cookie"), Err(Unfit::Vary)),
        (200, with("vary", "origin"), Err(Unfit::Vary)),
        (200, with("vary", ""), Ok(60)),
        // The body.
        (200, with("content-encoding", "gzip"), Ok(60)),
        (200, with("content-encoding", "identity"), Ok(60)),
        (200, with("content-encoding", "zstd"), Err(Unfit::Encoding)),
        (200, with("content-encoding", "gzip, zstd"), Err(Unfit::Encoding)),
        (200, with("content-length", "1000"), Ok(60)),
        (200, with("content-length", "1001"), Err(Unfit::TooLarge)),
        (200, with("content-range", "bytes 0-1/2"), Err(Unfit::Partial)),
        (200, with("trailer", "x"), Err(Unfit::Partial)),
    ];
    for (status, headers, wanted) in table {
        let found = judged(status, &map(headers.iter().copied()), 0).map(|terms| terms.fresh.as_secs());
        assert_eq!(found, wanted, "{status} {headers:?}");
    }
    let slow = judged(200, &map([("cache-control", good), ("age", "10")]), 7).expect("fit");
    assert_eq!((slow.age.as_secs(), slow.fresh.as_secs()), (17, 43), "the time it took counts");
}

#[test]
fn stale_answers_are_for_those_whose_service_says_so() {
    // RFC 5861, and what forbids it in RFC 9111: 5.2.2.2, 5.2.2.8, 5.2.2.10.
    for (control, while_revalidate, if_error) in [
        ("public, max-age=60", 0, 0),
        ("public, max-age=60, stale-while-revalidate=30", 30, 0),
        ("public, max-age=60, stale-if-error=40", 0, 40),
        ("public, max-age=60, stale-while-revalidate=30, stale-if-error=40", 30, 40),
        ("public, max-age=60, must-revalidate, stale-while-revalidate=30, stale-if-error=40", 0, 0),
        ("public, max-age=60, proxy-revalidate, stale-while-revalidate=30", 0, 0),
        ("public, s-maxage=60, stale-while-revalidate=30, stale-if-error=40", 0, 0),
    ] {
        let terms = judged(200, &map([("cache-control", control)]), 0).expect("fit");
        let found = (terms.while_revalidate.as_secs(), terms.if_error.as_secs());
        assert_eq!(found, (while_revalidate, if_error), "{control}");
    }
}

#[test]
fn an_operator_s_bounds_are_above_the_service_s_word() {
    let settings = CacheSettings {
        ttl_max: Duration::from_secs(10),
        stale_max: Duration::from_secs(5),
        ..CacheSettings::default()
    };
    let headers =
        map([("cache-control", "public, max-age=31536000, stale-while-revalidate=600, stale-if-error=600")]);
    let now = Moment { since: Duration::ZERO, wall: wall() };
    let (rules, none) = (Rules::of(&settings), HeaderMap::new());
    let terms = judge(&settings, &rules, &none, StatusCode::OK, &headers, Duration::ZERO, now).expect("fit");
    assert_eq!([terms.fresh, terms.while_revalidate, terms.if_error].map(|time| time.as_secs()), [10, 5, 5]);
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let directive = prop_oneof![
        4 => Just("public".to_owned()),
        1 => prop::sample::select(vec![
            "private", "no-store", "no-cache", "must-revalidate", "proxy-revalidate", "immutable", "no-transform",
            "PUBLIC", "private=\"a, b\"",
        ]).prop_map(str::to_owned),
        4 => (0u32..200).prop_map(|seconds| format!("max-age={seconds}")),
        2 => (0u32..200).prop_map(|seconds| format!("s-maxage={seconds}")),
        1 => (0u32..200).prop_map(|seconds| format!("stale-while-revalidate={seconds}")),
    ];
    let control = prop::collection::vec(directive, 0..5).prop_map(|mut directives: Vec<String>| {
        let mut names = std::collections::HashSet::new();
        directives.retain(|one| names.insert(one.split('=').next().unwrap_or_default().to_lowercase()));
        vec![("cache-control", directives.join(", "))]
    });
    let other = prop_oneof![
        (0u32..300).prop_map(|age| ("age", age.to_string())),
        (0u64..300).prop_map(|ago| ("date", httpdate::fmt_http_date(wall() - Duration::from_secs(ago)))),
        Just(("expires", "Sun, 06 Nov 1994 09:49:37 GMT".to_owned())),
        Just(("set-cookie", "a=b".to_owned())),
        prop::sample::select(vec!["*", "accept", "accept-language", "cookie"])
            .prop_map(|vary| ("vary", vary.to_owned())),
    ];
    (control, prop::collection::vec(other, 0..3)).prop_map(|(mut all, more)| {
        // One of each: how two of a kind are read is in the table above.
        for (name, value) in more {
            if all.iter().all(|(other, _)| *other != name) {
                all.push((name, value));
            }
        }
        all
    })
}

proptest! {
    /// Another reading of RFC 9111 must allow all that this one does: it may be kept, for as long, at the same age.
    #[test]
    fn whatever_is_kept_another_reader_of_the_rfc_would_keep_as_long(
        status in prop::sample::select(vec![200u16, 203, 206, 301, 302, 404, 410, 500]),
        pairs in headers(),
    ) {
        // It takes `proxy-revalidate` for `no-cache`; RFC 9111 (5.2.2.8) means what is stale.
        prop_assume!(!pairs[0].1.contains("proxy-revalidate"));
        let headers = map(pairs.iter().map(|(name, value)| (*name, value.as_str())));
        let Ok(terms) = judged(status, &headers, 0) else { return Ok(()) };
        let request = http::Request::get("http://a.test/").body(()).expect("a request");
        let mut response = http::Response::builder().status(status).body(()).expect("a response");
        *response.headers_mut() = headers;
        let policy = CachePolicy::new_options(&request, &response, wall(), CacheOptions::default());
        prop_assert!(policy.is_storable(), "{pairs:?}");
        prop_assert!(!policy.is_stale(wall()), "{pairs:?}");
        // It leaves `Date` out of the age.
        prop_assert!(policy.time_to_live(wall()) >= terms.fresh && policy.age(wall()) <= terms.age, "{pairs:?}");
        if !response.headers().contains_key("date") {
            prop_assert_eq!(policy.time_to_live(wall()), terms.fresh, "{:?}", pairs);
            prop_assert_eq!(policy.age(wall()), terms.age, "{:?}", pairs);
        }
    }
}
