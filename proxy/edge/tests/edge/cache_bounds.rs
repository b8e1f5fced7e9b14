//! The cache under load: many who ask the same at once, answers that are too large, a service that breaks off, clients that
//! leave or do not read.

use crate::cache::{Cached, request, start, status_of};
use crate::support::client::{self, full};
use crate::support::origin::{Origin, Script};
use crate::support::{SOON, until};
use bytes::Bytes;
use http::{Method, Request};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir_edge::{CacheUse, Unfit};

/// Asks so often at once, on connections of HTTP/2 and HTTP/1.1.
async fn at_once(cached: &Cached, path: &'static str, count: usize) -> Vec<client::Answer> {
    let port = cached.edge.port;
    let mut asking = JoinSet::new();
    let http2 = client::http2(port).await;
    for number in 0..count {
        let mut http2 = http2.clone();
        asking.spawn(async move {
            if number % 4 == 0 {
                return client::http1(port, request(Method::GET, path, &[])).await;
            }
            let asked = Request::get(format!("http://weir.test{path}")).body(full("")).expect("a request");
            client::read(http2.send_request(asked).await.expect("a reply")).await
        });
    }
    asking.join_all().await
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_are_one_request() {
    let origin = Origin::start(|_, number| {
        let body = format!("answer {number} {}", "x".repeat(200_000));
        Script::cached("public, max-age=60", body).after(Duration::from_millis(300))
    })
    .await;
    let cached = start(&origin, |_| {});
    let answers = at_once(&cached, "/c", 100).await;
    assert_eq!((answers.len(), origin.count()), (100, 1));
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let told = |word: &str| answers.iter().filter(|answer| status_of(answer).contains(word)).count();
    assert_eq!((told("stored"), told("collapsed") + told("hit")), (1, 99));
    let counted =
        (cached.uses(CacheUse::Miss), cached.uses(CacheUse::Collapsed) + cached.uses(CacheUse::Hit));
    assert_eq!((counted, cached.cache.counted().waiting_now), ((1, 99), 0));
}

#[tokio::test]
async fn nobody_is_held_up_by_an_answer_that_turns_out_to_be_unfit() {
    let origin =
        Origin::start(|_, _| Script::cached("private", "mine").after(Duration::from_millis(300))).await;
    let cached = start(&origin, |_| {});
    let began = Instant::now();
    let answers = at_once(&cached, "/c", 30).await;
    // The first, and then all others at once; one after the other it would be nine seconds.
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert!(answers.iter().all(|answer| answer.body == "mine"));
    assert_eq!(origin.count(), 30);
    assert!(origin.busiest() >= 20, "{}", origin.busiest());
    // And those who come later do not wait at all.
    let began = Instant::now();
    at_once(&cached, "/c", 30).await;
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
}

#[tokio::test]
async fn waiting_ends_after_a_while() {
    let origin = Origin::start(|_, number| {
        let wait = if number == 0 { SOON } else { Duration::ZERO };
        Script::cached("public, max-age=60", format!("answer {number}")).after(wait)
    })
    .await;
    let cached = start(&origin, |settings| {
        settings.lock_timeout = Duration::from_millis(300);
        settings.waiters_max = 5;
    });
    let port = cached.edge.port;
    let slow = tokio::spawn(async move { client::http1(port, request(Method::GET, "/c", &[])).await });
    until("it has reached the service", || origin.count() == 1).await;
    let began = Instant::now();
    let answers = at_once(&cached, "/c", 20).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let took = began.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(cached.uses(CacheUse::Alone) >= 15, "those beyond waiters_max went by themselves");
    slow.abort();
}

#[tokio::test]
async fn what_is_too_large_passes_whole_and_is_not_kept() {
    let body = Bytes::from((0..3_000_000u32).map(|byte| byte as u8).collect::<Vec<_>>());
    let large = body.clone();
    let origin = Origin::start(move |seen, _| {
        let script = Script::cached("public, max-age=60", large.clone());
        match seen.target.as_str() {
            // Without a length it shows while it comes.
            "/c/chunked" => Script { break_after: None, ..script }.with("transfer-encoding", "chunked"),
            _ => script,
        }
    })
    .await;
    let cached = start(&origin, |_| {});
    for path in ["/c/known", "/c/chunked"] {
        for _ in 0..2 {
            let answer = cached.get(path, &[]).await;
            assert!(answer.body == body, "{path}: {} bytes", answer.body.len());
            assert_eq!(status_of(&answer), "weir; fwd=uri-miss");
        }
    }
    assert_eq!((origin.count(), cached.unfit(Unfit::TooLarge)), (4, 2));
    assert_eq!(cached.cache.counted().bytes_now, 0);
}

#[tokio::test]
async fn memory_is_bounded_and_the_oldest_go() {
    let origin = Origin::start(|_, _| Script::cached("public, max-age=60", vec![b'x'; 60_000])).await;
    let cached = start(&origin, |settings| {
        settings.bytes_max = 1 << 20;
        settings.entry_max = 64 << 10;
        settings.fill_bytes_max = 128 << 10;
    });
    for number in 0..100 {
        assert_eq!(cached.get(&format!("/c?{number}"), &[]).await.body.len(), 60_000);
        let counted = cached.cache.counted();
        assert!(counted.bytes_now <= (1 << 20) + (128 << 10), "{counted:?}");
    }
    let counted = cached.cache.counted();
    assert_eq!(counted.evicted + counted.entries_now, 100);
    assert!((10..=17).contains(&counted.entries_now), "{counted:?}");
    assert!(counted.bytes_now >= 60_000 * counted.entries_now, "what is kept is counted");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_kept_by_nobody() {
    let sick = Arc::new(AtomicBool::new(true));
    let ill = sick.clone();
    let origin = Origin::start(move |seen, _| {
        let script = Script::cached("public, max-age=60", vec![b'x'; 100_000]);
        let script = match seen.target.as_str() {
            "/c/known" => script.with("content-length", "100000"),
            _ => script,
        };
        Script { break_after: ill.load(Ordering::SeqCst).then_some(50_000), ..script }
    })
    .await;
    let cached = start(&origin, |_| {});
    for path in ["/c/known", "/c/chunked"] {
        sick.store(true, Ordering::SeqCst);
        let broken = cached.get(path, &[]).await;
        assert_eq!(broken.status, 502, "nothing of it was given to anybody");
        sick.store(false, Ordering::SeqCst);
        let whole = cached.get(path, &[]).await;
        assert_eq!((whole.status, whole.body.len()), (200, 100_000));
        assert!(status_of(&whole).contains("fwd=uri-miss; stored"), "{}", status_of(&whole));
        assert!(status_of(&cached.get(path, &[]).await).contains("hit"));
    }
}

#[tokio::test]
async fn when_the_client_who_asked_first_leaves_another_one_asks() {
    let origin = Origin::start(|_, number| {
        let wait = if number == 0 { SOON } else { Duration::from_millis(50) };
        Script::cached("public, max-age=60", format!("answer {number}")).after(wait)
    })
    .await;
    let cached = start(&origin, |settings| settings.lock_timeout = SOON);
    let mut first = TcpStream::connect(("127.0.0.1", cached.edge.port)).await.expect("a connection");
    first.write_all(b"GET /c HTTP/1.1\r\nHost: weir.test\r\n\r\n").await.expect("sent");
    until("it has reached the service", || origin.count() == 1).await;
    let others = at_once(&cached, "/c", 20);
    let leave = async {
        until("the others wait", || cached.cache.counted().waiting_now == 20).await;
        drop(first);
    };
    let began = Instant::now();
    let (answers, ()) = tokio::join!(others, leave);
    assert!(answers.iter().all(|answer| answer.body == "answer 1"));
    assert_eq!(origin.count(), 2, "one asked again, for all");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let origin = Origin::start(|_, _| {
        Script::cached("public, max-age=60", vec![b'x'; 8_000_000]).after(Duration::from_millis(200))
    })
    .await;
    let cached = start(&origin, |settings| {
        settings.bytes_max = 128 << 20;
        settings.entry_max = 10_000_000;
    });
    let mut first = TcpStream::connect(("127.0.0.1", cached.edge.port)).await.expect("a connection");
    first.write_all(b"GET /c HTTP/1.1\r\nHost: weir.test\r\n\r\n").await.expect("sent");
    until("it has reached the service", || origin.count() == 1).await;
    let answers = tokio::time::timeout(SOON, at_once(&cached, "/c", 8)).await.expect("in time");
    assert!(answers.iter().all(|answer| answer.body.len() == 8_000_000));
    assert_eq!(origin.count(), 1);
    // It gets its own when it reads.
    let mut read = vec![0; 8_000_000];
    first.read_exact(&mut read).await.expect("the answer");
}
