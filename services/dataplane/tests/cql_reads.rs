//! What a read survives and what it holds to: writes, a lost cache, a deadline, a client who leaves, many who ask the same.

mod support;

use std::time::{Duration, Instant};
use support::World;
use tonic::{Code, Request};
use weir_dataplane::bsky::*;

const ANN: &str = "did:plc:ann";

fn posts(uris: &[String]) -> GetPostRecordsRequest {
    GetPostRecordsRequest { uris: uris.to_vec(), ..Default::default() }
}

async fn there(world: &World, uris: &[String]) -> Vec<bool> {
    let answer = world.client.clone().get_post_records(posts(uris)).await.expect("posts").into_inner();
    answer.records.iter().map(|record| !record.cid.is_empty()).collect()
}

#[tokio::test]
async fn what_was_written_is_read() {
    let Some(node) = support::cassandra("read after write") else { return };
    let world =
        World::start(&node, "written", &["--ttl=3600", "--ttl-missing=3600", "--ttl-lists=3600"]).await;
    let uri = format!("at://{ANN}/app.bsky.feed.post/1");
    let (wanted, liker) = (vec![uri.clone()], "did:plc:bob");
    let likes = async || {
        let refs = vec![RecordRef { uri: uri.clone(), cid: String::new() }];
        let counts = GetInteractionCountsRequest { refs: refs.clone(), ..Default::default() };
        let counts = world.client.clone().get_interaction_counts(counts).await.expect("counts").into_inner();
        let by = GetLikesByActorAndSubjectsRequest { actor_did: liker.into(), refs };
        let by = world.client.clone().get_likes_by_actor_and_subjects(by).await.expect("likes").into_inner();
        (counts.likes[0], !by.uris[0].is_empty())
    };
    for round in 0..3 {
        assert_eq!((there(&world, &wanted).await, likes().await), (vec![false], (0, false)), "round {round}");
        assert_eq!(world.post(ANN, "1", "").await, uri);
        assert_eq!(there(&world, &wanted).await, [true], "though it was known to be missing, round {round}");
        let like = world.deed(liker, "app.bsky.feed.like", "l", &uri, 1_775_254_570_000).await;
        assert_eq!(likes().await, (1, true), "round {round}");
        assert!(
            !world.put(&like, &format!(r#"{{"subject":{{"uri":"{uri}"}}}}"#), 1_775_254_570_000).await,
            "known"
        );
        assert_eq!(likes().await, (1, true), "counted once, round {round}");
        assert!(world.writer.delete_record(&like).await.expect("deleted"));
        assert!(world.writer.delete_record(&uri).await.expect("deleted"));
        assert!(!world.writer.delete_record(&uri).await.expect("nothing to delete"));
    }
    world.end().await;
}

#[tokio::test]
async fn writes_beside_reads_leave_nothing_old() {
    let Some(node) = support::cassandra("writes beside reads") else { return };
    let world = World::start(&node, "beside", &["--ttl=3600", "--ttl-missing=3600"]).await;
    let uris: Vec<String> = (0..40).map(|number| format!("at://{ANN}/app.bsky.feed.post/{number}")).collect();
    let readers = (0..4).map(|_| {
        let (mut client, uris) = (world.client.clone(), uris.clone());
        tokio::spawn(async move {
            loop {
                client.get_post_records(posts(&uris)).await.expect("posts");
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for (number, uri) in uris.iter().enumerate() {
        world.post(ANN, &number.to_string(), "").await;
        assert_eq!(there(&world, std::slice::from_ref(uri)).await, [true], "{uri}");
    }
    readers.iter().for_each(|reader| reader.abort());
    // Whatever was filled meanwhile, nothing of it is older than the writes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(there(&world, &uris).await.into_iter().all(|there| there));
    world.end().await;
}

#[tokio::test]
async fn a_cache_that_is_lost_costs_bounded_work_and_no_answer() {
    let Some(node) = support::cassandra("memcached lost") else { return };
    let words = ["--database-queries-max=4", "--cache-timeout-ms=200"];
    let mut world = World::start(&node, "lost", &words).await;
    let mut uris = Vec::new();
    for number in 0..300 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    assert!(there(&world, &uris).await.iter().all(|there| *there));
    // Everything is forgotten: the database is asked again, and the cache filled again.
    assert_eq!(world.memcached.line("flush_all"), "OK");
    assert!(there(&world, &uris).await.iter().all(|there| *there));
    world.memcached.kill();
    let before = world.metric("weir_dataplane_database_queries_total", &[]);
    let callers: Vec<_> = (0..60)
        .map(|_| {
            let (mut client, uris) = (world.client.clone(), uris.clone());
            tokio::spawn(
                async move { client.get_post_records(posts(&uris)).await.expect("posts").into_inner() },
            )
        })
        .collect();
    let mut most = 0.0_f64;
    while callers.iter().any(|caller| !caller.is_finished()) {
        most = most.max(world.metric("weir_dataplane_database_queries_in_flight", &[]));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for caller in callers {
        let answer = caller.await.expect("no panic");
        assert!(answer.records.iter().zip(&uris).all(|(record, uri)| record.cid == format!("cid-of-{uri}")));
    }
    let queries = world.metric("weir_dataplane_database_queries_total", &[]) - before;
    let joined = world.metric("weir_dataplane_reads_total", &["joined"]);
    eprintln!(
        "60 calls of 300 keys without memcached: {queries} statements, {joined} keys joined, {most} at once"
    );
    assert!(most <= 4.0, "{most} statements at once");
    assert!(queries < 180.0 && joined > 0.0, "{queries} statements of 180, {joined} keys joined");
    // It comes back by itself.
    world.memcached.run();
    let begun = Instant::now();
    while world.memcached.stat("curr_items") < 300 {
        assert!(there(&world, &uris).await.iter().all(|there| *there));
        assert!(begun.elapsed() < support::PATIENCE, "memcached is not used again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(world.memcached.stat("curr_connections") <= 8, "few connections");
    world.end().await;
}

#[tokio::test]
async fn deadlines_and_clients_who_leave_end_the_work() {
    let Some(node) = support::cassandra("deadlines") else { return };
    let words =
        ["--database-queries-max=1", "--database-queries-per-request=1", "--database-keys-per-query=1"];
    let world = World::start(&node, "deadline", &words).await;
    let uris: Vec<String> =
        (0..20_000).map(|number| format!("at://{ANN}/app.bsky.feed.post/{number}")).collect();
    let idle = |world: &World| {
        world.metric("weir_dataplane_requests_in_flight", &[]) == 0.0
            && world.metric("weir_dataplane_database_queries_in_flight", &[]) == 0.0
    };
    let mut request = Request::new(posts(&uris));
    request.set_timeout(Duration::from_millis(400));
    let begun = Instant::now();
    let ended =
        world.client.clone().get_post_records(request).await.expect_err("20,000 statements one by one");
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&ended.code()), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    world.eventually("the work ends with the call", idle).await;
    let after = world.metric("weir_dataplane_database_queries_total", &[]);
    assert!(after < 19_000.0, "{after} statements");

    let mut client = world.client.clone();
    let left = tokio::time::timeout(Duration::from_millis(300), client.get_post_records(posts(&uris))).await;
    assert!(left.is_err(), "it takes longer");
    drop(client);
    world.eventually("the work ends when the client leaves", idle).await;
    world
        .eventually("it is counted", |world| {
            world.metric("weir_dataplane_requests_total", &["cancelled"]) >= 1.0
        })
        .await;
    let rested = world.metric("weir_dataplane_database_queries_total", &[]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.metric("weir_dataplane_database_queries_total", &[]), rested, "nothing goes on");
    assert_eq!(there(&world, &uris[..3]).await, [false; 3], "and others are served");
    world.end().await;
}

#[tokio::test]
async fn calls_beyond_the_bounds_are_refused_as_exhausted() {
    let Some(node) = support::cassandra("refusals") else { return };
    let words = [
        "--keys-per-request-max=100",
        "--keys-max=150",
        "--database-queries-max=1",
        "--database-keys-per-query=1",
    ];
    let world = World::start(&node, "refused", &words).await;
    let uris: Vec<String> =
        (0..101).map(|number| format!("at://{ANN}/app.bsky.feed.post/{number}")).collect();
    let refused = world.client.clone().get_post_records(posts(&uris)).await.expect_err("too many keys");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let calls = (0..20).map(|_| {
        let (mut client, uris) = (world.client.clone(), uris[..100].to_vec());
        tokio::spawn(
            async move { client.get_post_records(posts(&uris)).await.map_err(|status| status.code()) },
        )
    });
    let calls: Vec<_> = calls.collect();
    let mut codes = Vec::new();
    for call in calls {
        codes.push(call.await.expect("no panic").map(drop));
    }
    assert!(codes.contains(&Ok(())), "one is served");
    let exhausted = codes.iter().filter(|code| **code == Err(Code::ResourceExhausted)).count();
    assert_eq!(codes.iter().filter(|code| code.is_ok()).count() + exhausted, 20, "{codes:?}");
    assert!(exhausted > 0, "the others are refused, never UNAVAILABLE");
    world.end().await;
}
