//! What a read survives and what it holds to: writes, a lost cache, a deadline, a client who leaves, many who ask the same.

#[macro_use]
mod support;

use std::time::{Duration, Instant};
use support::World;
use support::servers::Servers;
use tokio::io::AsyncReadExt as _;
use tonic::{Code, Request};
use weir_dataplane::bsky::*;

on_each_store!(
    what_was_written_is_read,
    writes_beside_reads_leave_nothing_old,
    a_cache_that_is_lost_costs_bounded_work_and_no_answer,
    deadlines_and_clients_who_leave_end_the_work,
    calls_beyond_the_bounds_are_refused_as_exhausted,
    bounds_of_one_cost_time_and_no_answer,
    what_is_kept_has_an_end,
    a_cache_that_hangs_costs_time_and_no_answer,
);

const ANN: &str = "did:plc:ann";

fn posts(uris: &[String]) -> GetPostRecordsRequest {
    GetPostRecordsRequest { uris: uris.to_vec(), ..Default::default() }
}

async fn there(world: &World, uris: &[String]) -> Vec<bool> {
    let answer = world.client.clone().get_post_records(posts(uris)).await.expect("posts").into_inner();
    answer.records.iter().map(|record| !record.cid.is_empty()).collect()
}

async fn what_was_written_is_read(servers: Servers) {
    let world =
        World::start(&servers, "written", &["--ttl=3600", "--ttl-missing=3600", "--ttl-lists=3600"]).await;
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

async fn writes_beside_reads_leave_nothing_old(servers: Servers) {
    let world = World::start(&servers, "beside", &["--ttl=3600", "--ttl-missing=3600"]).await;
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

async fn a_cache_that_is_lost_costs_bounded_work_and_no_answer(servers: Servers) {
    let words = ["--database-queries-max=4", "--cache-timeout-ms=200"];
    let mut world = World::start(&servers, "lost", &words).await;
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

async fn deadlines_and_clients_who_leave_end_the_work(servers: Servers) {
    let words =
        ["--database-queries-max=1", "--database-queries-per-request=1", "--database-keys-per-query=1"];
    let world = World::start(&servers, "deadline", &words).await;
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

async fn calls_beyond_the_bounds_are_refused_as_exhausted(servers: Servers) {
    let words = [
        "--keys-per-request-max=100",
        "--keys-max=150",
        "--database-queries-max=1",
        "--database-keys-per-query=1",
    ];
    let world = World::start(&servers, "refused", &words).await;
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

    // Calls are bounded besides their keys. Another connection: on one, HTTP/2 has a call wait for its turn.
    let words = [
        "--requests-max=1",
        "--connections-max=2",
        "--database-queries-max=1",
        "--database-keys-per-query=1",
    ];
    let world = World::start(&servers, "calls", &words).await;
    let uris: Vec<String> =
        (0..20_000).map(|number| format!("at://{ANN}/app.bsky.feed.post/{number}")).collect();
    let long = {
        let mut client = world.client.clone();
        tokio::spawn(async move { client.get_post_records(posts(&uris)).await.map(drop) })
    };
    let busy = |world: &World| world.metric("weir_dataplane_requests_in_flight", &[]) >= 1.0;
    world.eventually("a call is under way", busy).await;
    let mut other = support::connect(&world.running).await;
    let refused = other.ping(PingRequest {}).await.expect_err("one call at a time");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(!long.is_finished(), "the call was still under way");
    let mut third = tokio::net::TcpStream::connect(world.running.address).await.expect("the kernel's");
    let closed = tokio::time::timeout(support::PATIENCE, third.read_to_end(&mut Vec::new())).await;
    assert!(closed.expect("at once").is_ok_and(|read| read == 0), "a third connection is closed");
    assert_eq!(world.metric("weir_dataplane_bounded_total", &["connections-max"]), 1.0);
    long.abort();
    world.eventually("it ends with its client", |world| !busy(world)).await;
    other.ping(PingRequest {}).await.expect("a pong");
    world.end().await;
}

async fn bounds_of_one_cost_time_and_no_answer(servers: Servers) {
    let words = [
        "--cache-connections=1",
        "--cache-queue-max=1",
        "--cache-fills-max=1",
        "--cache-keys-per-get=1",
        "--database-queries-max=1",
        "--database-queries-per-request=4",
        "--database-keys-per-query=10",
    ];
    let world = World::start(&servers, "ones", &words).await;
    let mut uris = Vec::new();
    for number in 0..40 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    uris.extend((0..60).map(|number| format!("at://{ANN}/app.bsky.feed.post/missing{number}")));
    let wanted: Vec<bool> = (0..100).map(|place| place < 40).collect();
    let readers = (0..8).map(|_| {
        let (mut client, uris, wanted) = (world.client.clone(), uris.clone(), wanted.clone());
        tokio::spawn(async move {
            for _ in 0..3 {
                let answer = client.get_post_records(posts(&uris)).await.expect("posts").into_inner();
                let there: Vec<bool> = answer.records.iter().map(|record| !record.cid.is_empty()).collect();
                assert_eq!(there, wanted);
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.expect("right answers");
    }
    let refused = world.metric("weir_dataplane_bounded_total", &["cache-queue-max"]);
    assert!(refused > 0.0, "the bound was met, and is counted");
    world.end().await;
}

/// Seconds that memcached keeps the entry of a record.
fn left(world: &World, uri: &str) -> Option<u32> {
    let line = world.memcached.line(&format!("mg {} t", weir_dataplane::write::record_key(uri)));
    line.strip_prefix("HD t")?.trim().parse().ok()
}

async fn what_is_kept_has_an_end(servers: Servers) {
    let world = World::start(&servers, "ttl", &["--ttl=3600", "--ttl-missing=600"]).await;
    let kept = world.post(ANN, "kept", "").await;
    let missing = format!("at://{ANN}/app.bsky.feed.post/missing");
    let uris = [kept.clone(), missing.clone()];
    assert_eq!(there(&world, &uris).await, [true, false]);
    let both = |world: &World| left(world, &uris[0]).is_some() && left(world, &uris[1]).is_some();
    world.eventually("both are kept", both).await;
    let ends = [left(&world, &kept).expect("kept"), left(&world, &missing).expect("kept as missing")];
    assert!((3_000..=3_600).contains(&ends[0]) && (500..=600).contains(&ends[1]), "{ends:?} s");
    // Nothing is asked of the database until then: it may say what it wants.
    let session = support::session(&world.database).await;
    session.use_keyspace(&world.database.keyspace, false).await.expect("a keyspace");
    session.query_unpaged("DELETE FROM record WHERE uri = ?", (&kept,)).await.expect("deleted");
    let insert = "INSERT INTO record (uri, cid, record) VALUES (?, 'any', 0x7b7d)";
    session.query_unpaged(insert, (&missing,)).await.expect("stored");
    let before = world.metric("weir_dataplane_database_queries_total", &[]);
    assert_eq!(there(&world, &uris).await, [true, false], "as it was");
    assert_eq!(world.metric("weir_dataplane_database_queries_total", &[]), before, "and known to be missing");
    // When they have ended it is read again.
    for uri in &uris {
        let gone = world.memcached.line(&format!("delete {}", weir_dataplane::write::record_key(uri)));
        assert_eq!(gone, "DELETED");
    }
    assert_eq!(there(&world, &uris).await, [false, true]);
    world.end().await;
}

async fn a_cache_that_hangs_costs_time_and_no_answer(servers: Servers) {
    let world = World::start(&servers, "hangs", &["--database-queries-max=4"]).await;
    let mut uris = Vec::new();
    for number in 0..20 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    assert!(there(&world, &uris).await.iter().all(|there| *there));
    world.memcached.signal("STOP");
    let many: Vec<String> =
        (0..4_000).map(|number| format!("at://{ANN}/app.bsky.feed.post/missing{number}")).collect();
    let begun = Instant::now();
    assert!(there(&world, &many).await.iter().all(|there| !there));
    let large = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..10 {
        assert!(there(&world, &uris).await.iter().all(|there| *there), "a small call is answered as well");
    }
    eprintln!("memcached hangs: 4,000 keys in {large:?}, a small call in {:?}", begun.elapsed() / 10);
    world.memcached.signal("CONT");
    let begun = Instant::now();
    let hits = |world: &World| world.metric("weir_dataplane_reads_total", &["record", "\"hit\""]);
    let before = hits(&world);
    while hits(&world) < before + 20.0 {
        assert!(there(&world, &uris).await.iter().all(|there| *there));
        assert!(begun.elapsed() < support::PATIENCE, "memcached is not used again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.end().await;
}
