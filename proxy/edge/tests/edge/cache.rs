//! Answers that are kept: which, for how long, for whom; and what the client is told.

use crate::support::client::{self, Answer, Body, full};
use crate::support::gate::Watching;
use crate::support::origin::{Origin, Script};
use crate::support::{Running, start_with, until};
use http::{Method, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_edge::{
    AdmitAll, CacheSettings, CacheUse, Gate, Refreshed, ResponseCache, Settings, Unfit, UpstreamSettings,
};

/// An edge with a cache for `/c`.
pub struct Cached {
    pub edge: Running,
    pub cache: Arc<ResponseCache>,
}

pub fn start(origin: &Origin, change: impl FnOnce(&mut CacheSettings)) -> Cached {
    start_gated(origin, Arc::new(AdmitAll), change)
}

pub fn start_gated(origin: &Origin, gate: Arc<dyn Gate>, change: impl FnOnce(&mut CacheSettings)) -> Cached {
    let mut settings = CacheSettings::default();
    settings.paths = vec!["/c".into()];
    settings.headers = vec!["accept-language".into()];
    change(&mut settings);
    let cache = ResponseCache::new(settings).expect("good settings");
    let mut settings = Settings::new("test", UpstreamSettings::http1(vec![origin.address.clone()]));
    settings.cache = Some(cache.clone());
    Cached { edge: start_with(settings, gate), cache }
}

impl Cached {
    pub async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.ask(Method::GET, path, headers).await
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        client::http1(self.edge.port, request(method, path, headers)).await
    }

    pub fn uses(&self, what: CacheUse) -> u64 {
        self.cache.counted().uses[CacheUse::ALL.iter().position(|one| *one == what).expect("one of them")]
    }

    pub fn unfit(&self, why: Unfit) -> u64 {
        self.cache.counted().unfit[Unfit::ALL.iter().position(|one| *one == why).expect("one of them")]
    }

    fn refreshed(&self, how: Refreshed) -> u64 {
        self.cache.counted().refreshes
            [Refreshed::ALL.iter().position(|one| *one == how).expect("one of them")]
    }
}

pub fn request(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "weir.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(full("")).expect("a request")
}

pub fn status_of(answer: &Answer) -> String {
    let words = answer.headers.get_all("cache-status").iter().map(|word| word.to_str().expect("text"));
    words.collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_second_client_is_answered_from_what_is_kept() {
    let origin = Origin::start(|_, number| {
        let script = Script::cached("public, max-age=60", format!("answer {number}"));
        script.with("etag", "\"v1\"").with("age", "3").with("x-own", "1").with("content-type", "text/plain")
    })
    .await;
    let cached = start(&origin, |_| {});
    let first = cached.get("/c?a=1", &[]).await;
    assert_eq!((first.status, &first.body[..]), (200, &b"answer 0"[..]));
    assert!(status_of(&first).starts_with("weir; fwd=uri-miss; stored; ttl=5"), "{}", status_of(&first));
    let second = cached.get("/c?a=1", &[("user-agent", "another")]).await;
    assert_eq!((second.status, &second.body[..]), (200, &b"answer 0"[..]));
    assert!(status_of(&second).starts_with("weir; hit; ttl=5"), "{}", status_of(&second));
    let age: u64 = second.headers["age"].to_str().expect("text").parse().expect("a number");
    assert!((3..6).contains(&age), "{age}");
    for name in ["etag", "x-own", "content-type", "cache-control", "date"] {
        assert_eq!(first.headers.get(name), second.headers.get(name), "{name}");
    }
    assert_eq!(second.headers["content-length"], "8");
    // HTTP/2, HEAD, and a client that has it already.
    let mut http2 = client::http2(cached.edge.port).await;
    let asked = Request::get("http://weir.test/c?a=1").body(full("")).expect("a request");
    let answer = client::read(http2.send_request(asked).await.expect("a reply")).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"answer 0"[..]));
    let head = cached.ask(Method::HEAD, "/c?a=1", &[]).await;
    assert_eq!(
        (head.status, head.body.len(), &head.headers["content-length"]),
        (200, 0, &"8".parse().expect("8"))
    );
    let had = cached.get("/c?a=1", &[("if-none-match", "W/\"v1\"")]).await;
    assert_eq!(
        (had.status, had.body.len(), &had.headers["etag"]),
        (304, 0, &"\"v1\"".parse().expect("a tag"))
    );
    assert!(!had.headers.contains_key("content-length") && !had.headers.contains_key("content-type"));
    assert_eq!(cached.get("/c?a=1", &[("if-none-match", "\"v2\"")]).await.status, 200);
    assert_eq!((origin.count(), cached.uses(CacheUse::Hit), cached.uses(CacheUse::Miss)), (1, 5, 1));
    // Another query, another language, another path: other answers.
    assert_eq!(&cached.get("/c?a=2", &[]).await.body[..], b"answer 1");
    assert_eq!(&cached.get("/c?a=1", &[("accept-language", "de")]).await.body[..], b"answer 2");
    assert_eq!(origin.seen()[2].headers["accept-language"], "de");
    let other = cached.get("/other", &[("x-any", "kept")]).await;
    assert_eq!(
        (status_of(&other).as_str(), &origin.seen()[3].headers["x-any"]),
        ("", &"kept".parse().expect(""))
    );
    // A client that has it already, and a cache that has not: asked for whole, told so.
    let had = cached.get("/c?a=4", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(had.status, 304);
    assert!(status_of(&had).starts_with("weir; fwd=uri-miss; stored; ttl=5"), "{}", status_of(&had));
    assert!(!origin.seen()[4].headers.contains_key("if-none-match"));
    assert_eq!(&cached.get("/c?a=4", &[]).await.body[..], b"answer 4");
}

#[tokio::test]
async fn an_old_answer_is_asked_about_and_confirmed() {
    let origin = Origin::start(|seen, number| {
        let script = Script::cached("public, max-age=1", format!("answer {number}")).with("etag", "\"v1\"");
        match seen.headers.get("if-none-match") {
            Some(tag) if tag == "\"v1\"" && number == 1 => {
                Script { body: "".into(), ..script }.status(304).with("x-round", "2")
            }
            _ => script,
        }
    })
    .await;
    let cached = start(&origin, |_| {});
    assert_eq!(&cached.get("/c", &[]).await.body[..], b"answer 0");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let confirmed = cached.get("/c", &[]).await;
    assert_eq!((confirmed.status, &confirmed.body[..]), (200, &b"answer 0"[..]));
    assert_eq!(status_of(&confirmed), "weir; fwd=stale; fwd-status=304; stored; ttl=0");
    assert_eq!(confirmed.headers["x-round"], "2");
    let hit = cached.get("/c", &[]).await;
    assert_eq!((&hit.body[..], &hit.headers["x-round"]), (&b"answer 0"[..], &"2".parse().expect("2")));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let replaced = cached.get("/c", &[]).await;
    assert_eq!(
        (&replaced.body[..], status_of(&replaced).as_str()),
        (&b"answer 2"[..], "weir; fwd=stale; stored; ttl=0")
    );
    assert_eq!((origin.count(), cached.uses(CacheUse::Confirmed)), (3, 1));
}

#[tokio::test]
async fn a_stale_answer_is_given_at_once_and_asked_for_behind_the_client_s_back() {
    let origin = Origin::start(|_, number| {
        let script =
            Script::cached("public, max-age=3, stale-while-revalidate=60", format!("answer {number}"));
        script.after(if number == 0 { Duration::ZERO } else { Duration::from_millis(1_500) })
    })
    .await;
    let cached = start(&origin, |_| {});
    cached.get("/c", &[]).await;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let began = std::time::Instant::now();
    for _ in 0..5 {
        let stale = cached.get("/c", &[]).await;
        assert_eq!(&stale.body[..], b"answer 0");
        assert!(status_of(&stale).starts_with("weir; hit; ttl="), "{}", status_of(&stale));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    until("it is refreshed", || cached.refreshed(Refreshed::Kept) == 1).await;
    assert_eq!(&cached.get("/c", &[]).await.body[..], b"answer 1");
    assert_eq!((origin.count(), cached.uses(CacheUse::Stale)), (2, 5));
    assert!(origin.seen()[1].headers.contains_key("traceparent"));
}

#[tokio::test]
async fn a_service_that_fails_is_covered_where_it_says_so() {
    let sick = Arc::new(AtomicBool::new(false));
    let ill = sick.clone();
    let origin = Origin::start(move |seen, number| {
        let control = match seen.target.as_str() {
            "/c/covered" => "public, max-age=1, stale-if-error=60",
            _ => "public, max-age=1",
        };
        match ill.load(Ordering::SeqCst) {
            true => Script::cached("no-store", "sick").status(503),
            false => Script::cached(control, format!("answer {number}")),
        }
    })
    .await;
    let cached = start(&origin, |_| {});
    for path in ["/c/covered", "/c/bare"] {
        assert_eq!(cached.get(path, &[]).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    sick.store(true, Ordering::SeqCst);
    let covered = cached.get("/c/covered", &[]).await;
    assert_eq!((covered.status, &covered.body[..]), (200, &b"answer 0"[..]));
    assert!(status_of(&covered).ends_with("; detail=stale-if-error"), "{}", status_of(&covered));
    let bare = cached.get("/c/bare", &[]).await;
    assert_eq!(
        (bare.status, &bare.body[..], status_of(&bare).as_str()),
        (503, &b"sick"[..], "weir; fwd=stale")
    );
    let address = origin.address.clone();
    drop(origin);
    assert_eq!(cached.get("/c/covered", &[]).await.status, 200, "{address}");
    assert!(matches!(cached.get("/c/bare", &[]).await.status, 502 | 503));
}

#[tokio::test]
async fn what_is_one_client_s_is_never_another_s() {
    let origin = Origin::start(|seen, number| {
        let script = Script::cached("public, max-age=60", format!("answer {number}"));
        match seen.target.as_str() {
            "/c/cookie" => script.with("set-cookie", "session=secret"),
            "/c/vary" => script.with("vary", "user-agent"),
            "/c/star" => script.with("vary", "*"),
            "/c/language" => script.with("vary", "Accept-Language"),
            "/c/private" => Script::cached("private, max-age=60", format!("answer {number}")),
            "/c/nothing" => Script { headers: Vec::new(), ..script },
            _ => script,
        }
    })
    .await;
    let cached = start(&origin, |_| {});
    for (path, why) in [
        ("/c/cookie", Unfit::Personal),
        ("/c/vary", Unfit::Vary),
        ("/c/star", Unfit::Vary),
        ("/c/private", Unfit::NotPublic),
        ("/c/nothing", Unfit::NotPublic),
    ] {
        let (before, unfit) = (origin.count(), cached.unfit(why));
        for _ in 0..3 {
            let answer = cached.get(path, &[]).await;
            assert_eq!((answer.status, status_of(&answer).as_str()), (200, "weir; fwd=uri-miss"), "{path}");
        }
        assert_eq!((origin.count(), cached.unfit(why)), (before + 3, unfit + 1), "{path}");
    }
    let before = origin.count();
    cached.get("/c/language", &[]).await;
    cached.get("/c/language", &[]).await;
    assert_eq!(origin.count(), before + 1, "what varies by a header of the key is kept");
    // With credentials nothing is kept, and nothing that is kept is given.
    for (name, value) in [("authorization", "Bearer a"), ("cookie", "a=b"), ("dpop", "x")] {
        let before = origin.count();
        let path = "/c/shared";
        for _ in 0..2 {
            let answer = cached.get(path, &[(name, value), ("x-other", "kept")]).await;
            assert_eq!(status_of(&answer), "weir; fwd=bypass; detail=credentials");
        }
        assert_eq!(origin.count(), before + 2, "{name}");
        let last = origin.seen().pop().expect("a request");
        assert_eq!(
            (&last.headers[name], &last.headers["x-other"]),
            (&value.parse().expect(""), &"kept".parse().expect(""))
        );
    }
    let before = origin.count();
    cached.get("/c/shared", &[]).await;
    assert_eq!(origin.count(), before + 1, "nothing was kept of theirs");
    assert_eq!(
        status_of(&cached.get("/c/shared", &[("range", "bytes=0-1")]).await),
        "weir; fwd=bypass; detail=range"
    );
}

#[tokio::test]
async fn headers_that_are_in_no_key_reach_no_answer() {
    // An origin that believes what proxies tell it, and builds its links with that.
    let origin = Origin::start(|seen, _| {
        let header = |name| seen.headers.get(name).map_or("none", |value| value.to_str().expect("text"));
        let told = [
            "x-forwarded-host",
            "x-forwarded-scheme",
            "x-original-url",
            "x-http-method-override",
            "user-agent",
            "x-weir-caller",
            "forwarded",
        ];
        let told = told.map(header).join(" ");
        Script::cached("public, max-age=60", format!("{told} at {}", header("host")))
    })
    .await;
    let cached = start(&origin, |_| {});
    let evil = [
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-scheme", "nothttps"),
        ("x-original-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("user-agent", "evil"),
        ("x-weir-caller", "evil"),
        ("forwarded", "host=evil.test"),
    ];
    let clean = "none none none none none none none at weir.test";
    for headers in [&evil[..], &[]] {
        let answer = cached.get("/c/page", headers).await;
        assert_eq!(std::str::from_utf8(&answer.body), Ok(clean));
    }
    // Another host is another key.
    let asked = Request::get("/c/page").header("host", "evil.test").body(full("")).expect("a request");
    let answer = client::http1(cached.edge.port, asked).await;
    assert!(answer.body.ends_with(b"at evil.test"), "{answer:?}");
    assert_eq!(std::str::from_utf8(&cached.get("/c/page", &[]).await.body), Ok(clean));
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_write_ends_what_is_kept_of_its_resource() {
    let origin = Origin::start(|seen, number| {
        let script = Script::cached("public, max-age=60", format!("answer {number}"));
        if seen.method == Method::POST && seen.target.ends_with("bad") { script.status(400) } else { script }
    })
    .await;
    let cached = start(&origin, |_| {});
    for (path, wanted) in [("/c/good", "answer 2"), ("/c/bad", "answer 3")] {
        let before = cached.get(path, &[("accept-language", "de")]).await;
        cached.ask(Method::POST, path, &[]).await;
        let after = cached.get(path, &[("accept-language", "de")]).await;
        assert_eq!(before.body == after.body, path == "/c/bad", "{path} {wanted}");
    }
    assert_eq!((origin.count(), cached.cache.counted().changes), (5, 1));
}

#[tokio::test]
async fn a_gate_is_asked_about_every_request_and_told_its_end() {
    let origin = Origin::start(|_, _| Script::cached("public, max-age=60", "hello")).await;
    let gate = Watching::new(true);
    let cached = start_gated(&origin, Arc::new(gate.clone()), |_| {});
    for _ in 0..3 {
        assert_eq!(cached.get("/c", &[]).await.status, 200);
    }
    assert_eq!(cached.get("/c/Denied", &[]).await.status, 429);
    until("all ends are told", || gate.asked().ends.len() == 3).await;
    let asked = gate.asked();
    assert_eq!((asked.heads.len(), asked.bodies.len(), asked.kept), (4, 1, 2));
    assert!(asked.ends[..3].iter().all(|end| end.status == 200 && end.reply_bytes == 5), "{:?}", asked.ends);
    assert_eq!(origin.count(), 1);
}
