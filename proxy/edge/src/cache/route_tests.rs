use super::*;
use crate::cache::CacheSettings;

fn rules() -> Rules {
    Rules::of(&CacheSettings {
        paths: vec!["/xrpc/a.b".into(), "/static/".into()],
        headers: vec!["Accept-Language".into(), "atproto-proxy".into(), "accept".into()],
        ..CacheSettings::default()
    })
}

fn of(method: Method, uri: &str, headers: &[(&'static str, &str)]) -> Option<Way> {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let sent = crate::headers::to_service(&head.headers, true).expect("well-formed");
    way(&rules(), &head, &sent, "Bsky.Test:3000", false)
}

fn asked(uri: &str, headers: &[(&'static str, &str)]) -> Asked {
    match of(Method::GET, uri, headers) {
        Some(Way::Asked(asked)) => *asked,
        other => panic!("{uri} {headers:?}: {other:?}"),
    }
}

#[test]
fn a_path_is_covered_with_what_is_below_it_and_nothing_beside() {
    for (uri, covered) in [
        ("/xrpc/a.b", true),
        ("/xrpc/a.b?x=1", true),
        ("/xrpc/a.b/c", true),
        ("/xrpc/a.bSkeleton", false),
        ("/xrpc/a", false),
        ("/static/", true),
        ("/static/x", true),
        ("/static", false),
        ("/XRPC/a.b", false),
    ] {
        assert_eq!(of(Method::GET, uri, &[]).is_some(), covered, "{uri}");
    }
}

#[test]
fn what_must_not_be_looked_at_passes_as_it_is() {
    for (uri, header, why) in [
        ("/xrpc/a.b", ("authorization", "Bearer x"), Bypass::Credentials),
        ("/xrpc/a.b", ("cookie", "a=b"), Bypass::Credentials),
        ("/xrpc/a.b", ("dpop", "x"), Bypass::Credentials),
        ("/xrpc/a.b", ("proxy-authorization", "x"), Bypass::Credentials),
        ("/xrpc/a.b", ("range", "bytes=0-1"), Bypass::Range),
        ("/xrpc/a.b", ("if-match", "*"), Bypass::Condition),
        ("/xrpc/a.b", ("cache-control", "x, No-Store"), Bypass::NoStore),
        ("/static/../xrpc/a.b", ("x", "y"), Bypass::Target),
        ("/static/%2E%2e/secret", ("x", "y"), Bypass::Target),
        ("/static/a%2fb", ("x", "y"), Bypass::Target),
        ("/static//a", ("x", "y"), Bypass::Target),
        ("/xrpc/a.b", ("accept-language", &"x".repeat(KEY_MAX)), Bypass::KeyTooLarge),
    ] {
        match of(Method::GET, uri, &[header]) {
            Some(Way::Bypass(found)) => assert_eq!(found, why, "{uri} {}", header.0),
            other => panic!("{uri} {}: {other:?}", header.0),
        }
    }
    // A client cannot hide what it sends by naming it as its connection's own.
    let hidden = [("connection", "cookie"), ("cookie", "a=b")];
    assert!(matches!(of(Method::GET, "/xrpc/a.b", &hidden), Some(Way::Bypass(Bypass::Credentials))));
}

#[test]
fn other_methods_change_a_resource_or_concern_nobody() {
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        match of(method, "/xrpc/a.b?x", &[("x", "y")]) {
            Some(Way::Changes(resource)) => assert_eq!(resource, asked("/xrpc/a.b?x", &[]).resource),
            other => panic!("{other:?}"),
        }
    }
    assert!(of(Method::OPTIONS, "/xrpc/a.b", &[]).is_none());
}

#[test]
fn the_service_sees_what_the_key_is_made_of_and_nothing_else() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = asked(
        "/xrpc/a.b",
        &[
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "http"),
            ("x-http-method-override", "POST"),
            ("x-original-url", "/admin"),
            ("user-agent", "x"),
            ("x-weir-caller", "x"),
            ("if-none-match", "\"a\""),
            ("cache-control", "no-cache"),
            ("accept", "application/json"),
            ("accept-encoding", "deflate, GZIP;q=0.5, br;q=0, zstd"),
            ("accept-language", "de"),
            ("accept-language", "en"),
            ("atproto-proxy", "did:web:a"),
            ("traceparent", trace),
        ],
    );
    let mut wanted = HeaderMap::new();
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, zstd"),
        ("accept-language", "de"),
        ("accept-language", "en"),
        ("atproto-proxy", "did:web:a"),
        ("traceparent", trace),
    ] {
        wanted.append(name, HeaderValue::from_static(value));
    }
    assert_eq!(sent.headers, wanted);
    assert_eq!(sent.authority, "bsky.test:3000");
}

#[test]
fn requests_are_the_same_only_when_the_service_sees_the_same() {
    let key = |uri: &str, headers: &[(&'static str, &str)]| asked(uri, headers).key;
    let plain = key("/xrpc/a.b", &[]);
    for same in [
        &[("user-agent", "x")][..],
        &[("accept", "*/*")],
        &[("accept-encoding", "deflate")],
        &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        &[("connection", "accept-language"), ("accept-language", "de")],
    ] {
        assert_eq!(key("/xrpc/a.b", same), plain, "{same:?}");
        assert!(asked("/xrpc/a.b", same).headers.keys().all(|name| name == "traceparent"), "{same:?}");
    }
    let gzip = |value| key("/xrpc/a.b", &[("accept-encoding", value)]);
    assert_eq!(gzip("gzip, br"), gzip("br;q=0.1 ,x, gzip"));
    let mut all = vec![
        plain,
        key("/xrpc/a.b?", &[]),
        key("/xrpc/a.b?x", &[]),
        key("/xrpc/a.b?x=1&y=2", &[]),
        key("/xrpc/a.b?y=2&x=1", &[]),
        key("/xrpc/a.b/", &[]),
        gzip("gzip"),
        gzip("gzip, br"),
        key("/xrpc/a.b", &[("accept", "text/html")]),
        key("/xrpc/a.b", &[("accept-language", "")]),
        key("/xrpc/a.b", &[("accept-language", "de")]),
        key("/xrpc/a.b", &[("accept-language", "de"), ("accept-language", "en")]),
        key("/xrpc/a.b", &[("accept-language", "de, en")]),
        key("/xrpc/a.b", &[("atproto-proxy", "de")]),
        key("/xrpc/a.b", &[("accept-language", "de"), ("atproto-proxy", "en")]),
    ];
    let many = all.len();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.dedup();
    assert_eq!(all.len(), many, "each of them is another request");
}

#[test]
fn the_host_and_the_method_tell_requests_apart() {
    let (head, ()) = http::Request::head("/xrpc/a.b").body(()).expect("a request").into_parts();
    let none = HeaderMap::new();
    let at = |authority: &str, body| way(&rules(), &head, &none, authority, body);
    let Some(Way::Asked(one)) = at("a.test", false) else { panic!("one for the cache") };
    let Some(Way::Asked(other)) = at("b.test", false) else { panic!("one for the cache") };
    assert!(one.head_only && one.key != other.key);
    assert!(matches!(at("a.test", true), Some(Way::Bypass(Bypass::Body))));
    assert!(matches!(at("user@a.test", false), Some(Way::Bypass(Bypass::Target))));
}
