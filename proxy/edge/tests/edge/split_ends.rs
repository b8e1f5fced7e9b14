//! The other ends of a split call: each takes the parts that are under way back from the service, and sends no more.

use crate::split::{POSTS, edge, posts, unary};
use crate::support::records::{self, script};
use crate::support::window::{Again, Splitting};
use crate::support::{client, until};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::{Code, Request};
use weir_edge::{Outcome, PartFailed};

/// Parts of one key: one fails, the others work for ever.
fn hanging(but: usize, with: &str) -> bytes::Bytes {
    posts(
        (0..50)
            .map(|number| if number == but { with.to_owned() } else { format!("{}{number}", script::HANG) }),
    )
}

#[tokio::test]
async fn the_error_of_a_part_is_the_error_of_the_call() {
    let service = records::start().await;
    service.log.fails_after.store(8, Ordering::Relaxed);
    for status in 1..=16_u8 {
        service.log.seen.lock().expect("no panic").clear();
        let before = service.log.cancelled();
        let gate = Splitting::new(1, 8);
        let edge = edge(&service, &gate);
        let message = hanging(5, &format!("{}{status:02}", script::FAIL));
        let error = unary(&edge, POSTS, message).await.expect_err("a part fails");
        assert_eq!(
            (error.code(), error.message()),
            (Code::from(i32::from(status)), &*format!("no. {status}"))
        );
        assert_eq!(error.metadata().clone().into_headers()["x-why"], "the part says", "with its trailers");
        until("the others are taken back", || service.log.cancelled() == before + 7).await;
        assert_eq!(service.log.seen(), 8, "and no more are sent");
        until("the gate hears of it", || gate.told().ends.len() == 1).await;
        let told = gate.told();
        assert_eq!(told.failed, [(5, PartFailed::Error { grpc_status: u32::from(status) })]);
        let end = &told.ends[0];
        assert_eq!(
            (end.outcome, end.grpc_status, end.parts),
            (Outcome::Answered, Some(u32::from(status)), 8)
        );
        assert_eq!((gate.live(), edge.counted().retries, edge.edge.held_bytes()), (0, 0, 0));
    }
}

#[tokio::test]
async fn connect_s_errors_pass_with_their_words() {
    let service = records::start().await;
    service.log.fails_after.store(4, Ordering::Relaxed);
    let gate = Splitting::new(1, 4);
    let edge = edge(&service, &gate);
    let body = client::full(hanging(0, &format!("{}05", script::FAIL)));
    let reply = client::http1(edge.port, client::post(POSTS, "application/proto", body)).await;
    assert_eq!((reply.status, &reply.headers["x-why"]), (404, &"the part says".parse().expect("a value")));
    assert_eq!(reply.body, "{\"code\":\"not_found\",\"message\":\"no. 5\"}");
    until("the others are taken back", || service.log.cancelled() == 3).await;
}

#[tokio::test]
async fn a_service_that_dies_in_the_middle_is_no_reason_to_come_again_at_once() {
    let service = records::start().await;
    let gate = Splitting::new(1, 8);
    let edge = edge(&service, &gate);
    let port = edge.port;
    let call = tokio::spawn(async move {
        let mut client = client::over_tcp(port).await;
        client.unary_at(POSTS.parse().expect("a path"), Request::new(hanging(0, "at://x"))).await
    });
    until("parts are under way", || service.log.seen() == 9).await;
    drop(service);
    let error = call.await.expect("no panic").expect_err("the service is gone");
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    until("the gate hears of it", || gate.told().ends.len() == 1).await;
    let told = gate.told();
    assert_eq!(told.ends[0].outcome, Outcome::Broken);
    assert!(
        matches!(told.failed[..], [(_, PartFailed::Broken | PartFailed::Unreachable)]),
        "{:?}",
        told.failed
    );
    assert_eq!((told.ends[0].parts, gate.live()), (9, 0));
}

#[tokio::test]
async fn a_client_that_leaves_takes_all_parts_with_it() {
    let service = records::start().await;
    let gate = Splitting::new(1, 8);
    let edge = edge(&service, &gate);
    let mut client = client::over_tcp(edge.port).await;
    let call = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary_at(POSTS.parse().expect("a path"), Request::new(hanging(0, "at://x"))).await }
    });
    until("parts are under way", || service.log.seen() == 9).await;
    call.abort();
    until("all are taken back", || service.log.cancelled() == 8).await;
    until("the gate hears of it", || gate.told().ends.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((service.log.seen(), gate.live(), edge.edge.held_bytes()), (9, 0, 0), "no further parts");
    let end = gate.told().ends[0].clone();
    assert_eq!((end.outcome, end.parts), (Outcome::ClientGone, 9));
    // The connections live on.
    let message = posts((0..3).map(|number| format!("at://{number}")));
    client.unary_at(POSTS.parse().expect("a path"), Request::new(message)).await.expect("an answer");
    assert_eq!(edge.counted().upstream_opens, 2);
}

#[tokio::test]
async fn a_deadline_in_the_middle_ends_all_parts() {
    let service = records::start().await;
    let gate = Splitting::new(1, 8);
    let edge = edge(&service, &gate);
    let mut client = client::http2(edge.port).await;
    let message = hanging(0, "at://x");
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let body = client::full([&[0], &length[..], &message].concat());
    let mut request = client::post(&format!("http://weir.test{POSTS}"), "application/grpc", body);
    // tonic's own client would cancel by itself.
    request.headers_mut().insert("grpc-timeout", "300m".parse().expect("a value"));
    let started = tokio::time::Instant::now();
    let reply = client::read(client.send_request(request).await.expect("a reply")).await;
    assert_eq!(reply.headers["grpc-status"], "4");
    assert!((300..3_000).contains(&started.elapsed().as_millis()));
    until("all are taken back", || service.log.cancelled() == 8).await;
    assert_eq!(service.log.seen(), 9);
    until("the gate hears of it", || gate.told().ends.len() == 1).await;
    assert_eq!((gate.told().ends[0].outcome, gate.live()), (Outcome::Deadline, 0));
    assert!(gate.told().failed.is_empty(), "no part failed");
}

#[tokio::test]
async fn replies_that_do_not_fit_fail_the_call_and_are_told() {
    let service = records::start().await;
    for word in [script::LOSES, script::COMPRESSED] {
        let before = service.log.cancelled();
        let gate = Splitting::new(1, 8);
        let edge = edge(&service, &gate);
        let error = unary(&edge, POSTS, hanging(3, word)).await.expect_err("nothing to put together");
        assert_eq!(error.code(), Code::Internal, "{error:?}");
        until("the others are taken back", || service.log.now.load(Ordering::Relaxed) == 0).await;
        assert!(service.log.cancelled() > before);
        until("the gate hears of it", || gate.told().ends.len() == 1).await;
        let told = gate.told();
        if word == script::LOSES {
            assert!(told.failed.is_empty());
            assert!(
                matches!(&told.merge_errors[..], [error] if error.stops_splitting()),
                "{:?}",
                told.merge_errors
            );
            assert!(error.message().starts_with("weir: "), "{}", error.message());
        } else {
            assert_eq!(told.failed, [(3, PartFailed::Unreadable)]);
        }
        assert_eq!(told.ends[0].outcome, Outcome::Broken);
    }
}

#[tokio::test]
async fn the_gate_may_end_a_call_that_waits() {
    let service = records::start().await;
    let mut gate = Splitting::new(1, 4);
    gate.ends_before = 3;
    let edge = edge(&service, &gate);
    let error = unary(&edge, POSTS, hanging(49, "at://x")).await.expect_err("ended");
    assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, "weir: it waited too long"));
    until("those under way are taken back", || service.log.now.load(Ordering::Relaxed) == 0).await;
    assert!(service.log.seen() <= 3);
}

#[tokio::test]
async fn parts_are_sent_again_as_the_gate_s_budget_says() {
    for left in [0, 5] {
        let service = records::start().await;
        let again = Arc::new(Again::default());
        again.left.store(left, Ordering::Relaxed);
        let mut gate = Splitting::new(1, 2);
        gate.again = Some(again.clone());
        let edge = edge(&service, &gate);
        let keys = (0..6)
            .map(|number| if number == 2 { script::FLAKY.to_owned() } else { format!("at://{number}") });
        let reply = unary(&edge, POSTS, posts(keys)).await;
        assert_eq!(again.asked.load(Ordering::Relaxed), 1);
        until("its end", || gate.told().ends.len() == 1).await;
        let counted = edge.counted();
        if left == 0 {
            assert_eq!(reply.expect_err("no repetition").code(), Code::Internal);
            assert_eq!((counted.retries, counted.retries_denied), (0, 1));
            assert_eq!(gate.told().failed, [(2, PartFailed::Broken)]);
        } else {
            reply.expect("an answer");
            let end = gate.told().ends[0].clone();
            assert_eq!((counted.retries, end.retries, end.parts), (1, 1, 6));
        }
    }
}

#[tokio::test]
async fn whole_calls_are_sent_again_as_the_gate_s_budget_says() {
    for left in [0, 1] {
        let service = records::start().await;
        let again = Arc::new(Again::default());
        again.left.store(left, Ordering::Relaxed);
        let mut gate = Splitting::new(10, 2);
        gate.again = Some(again.clone());
        let edge = edge(&service, &gate);
        let reply = unary(&edge, POSTS, posts([script::FLAKY.to_owned()])).await;
        assert_eq!((reply.is_ok(), again.asked.load(Ordering::Relaxed)), (left == 1, 1));
        assert_eq!((edge.counted().retries, edge.counted().retries_denied), (left, 1 - left));
    }
}
