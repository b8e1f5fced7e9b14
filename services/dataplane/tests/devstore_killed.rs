//! The database dies under load: weir-devstore is killed and started again on what is on its disk. No write that was
//! acknowledged is lost, what the cache has is answered meanwhile, nothing waits for ever, and the data plane goes on by
//! itself.

mod support;

use std::time::{Duration, Instant};
use support::World;
use support::load::{self, Stop, missing};
use support::servers::Servers;
use tonic::Code;
use weir_dataplane::bsky::*;
use weir_dataplane::world::draw::Shape;

const ANN: &str = "did:plc:ann";
/// Clients that write.
const WRITERS: usize = 4;
/// Times the store is killed.
const KILLS: u32 = 3;
/// Load before each kill.
const WHILE: Duration = Duration::from_millis(800);
/// Time without a store.
const DOWN: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let mut servers = Servers::devstore();
    let world = World::start(&servers, "killed", &["--ttl=3600", "--cache-timeout-ms=10000"]).await;
    let mut known = Vec::new();
    for number in 0..20 {
        known.push(world.post(ANN, &number.to_string(), "").await);
    }
    let mut client = world.client.clone();
    assert_eq!(load::posts(&mut client, &known).await, Ok(vec![true; 20]));
    world.eventually("the cache has them", |world| world.memcached.stat("curr_items") >= 20).await;

    let stop = Stop::default();
    let author = |number: usize| format!("did:plc:writer{number}");
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(load::write(world.writer.clone(), author(number), stop.clone())))
        .collect();
    let warm = tokio::spawn(load::read(world.client.clone(), move |_| known.clone(), true, stop.clone()));
    let strange = |call: usize| missing(&format!("cold{call}"), 20);
    let cold = tokio::spawn(load::read(world.client.clone(), strange, false, stop.clone()));
    for kill in 1..=KILLS {
        tokio::time::sleep(WHILE).await;
        servers.own_database().kill();
        tokio::time::sleep(DOWN).await;
        servers.own_database().run();
        let begun = Instant::now();
        while load::posts(&mut client, &missing(&format!("after{kill}"), 1)).await.is_err() {
            assert!(begun.elapsed() < support::PATIENCE, "the data plane does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        eprintln!("kill {kill}: serves {:?} after the store", begun.elapsed());
    }
    tokio::time::sleep(WHILE).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);

    let (warm, cold) = (warm.await.expect("right answers"), cold.await.expect("right answers"));
    eprintln!("{} calls from the cache, {} past it and {} failed", warm.good, cold.good, cold.bad.len());
    assert!(warm.good > 0 && warm.bad.is_empty(), "what the cache has is answered: {:?}", warm.bad);
    assert!(cold.good > 0 && !cold.bad.is_empty(), "the store was away: {cold:?}");
    let told = [Code::Internal, Code::DeadlineExceeded];
    assert!(cold.bad.iter().all(|code| told.contains(code)), "never one that is sent again: {:?}", cold.bad);
    assert!(cold.longest < Duration::from_secs(10), "nothing waits: {:?}", cold.longest);

    assert_eq!(world.memcached.line("flush_all"), "OK");
    for (number, writer) in writers.into_iter().enumerate() {
        let written = writer.await.expect("no panic");
        let (there, failed) = (written.acknowledged.len(), written.failed);
        eprintln!("writer {number}: {there} acknowledged, {failed} failed");
        assert!(there > 0, "nothing was written");
        let found = load::posts(&mut client, &written.acknowledged).await.expect("an answer");
        assert!(found.iter().all(|found| *found), "an acknowledged post is gone");
        let request = GetCountsForUsersRequest { dids: vec![author(number)] };
        let counts = client.get_counts_for_users(request).await.expect("counts").into_inner();
        let count = usize::try_from(counts.posts[0]).expect("a count");
        assert!((there..=there + failed).contains(&count), "{count} posts are counted");
    }
    world.end().await;
}

#[tokio::test]
async fn a_world_is_seeded_through_a_restart_and_is_whole() {
    let mut servers = Servers::devstore();
    let keyspace = support::keyspace("seeded");
    let cql = format!("--cql={}", servers.cql);
    let settings = support::settings(&[&cql, &format!("--keyspace={keyspace}")]);
    let shape = Shape { seed: 5, users: 60, posts: 4, follows: 6, likes: 2 };
    weir_dataplane::migrate::migrate(&settings.database).await.expect("tables");
    // The store goes while the world is made: the run fails, and another goes on from what is on disk.
    let killed = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        servers.own_database().kill();
    };
    let (first, ()) = tokio::join!(weir_dataplane::world::seed(&settings.database, shape), killed);
    assert!(first.is_err(), "the world was complete before the store was killed");
    servers.own_database().run();
    weir_dataplane::world::seed(&settings.database, shape).await.expect("a world");
    let memcached = servers.memcached();
    let cache = format!("--memcached=127.0.0.1:{}", memcached.port);
    let settings = support::settings(&[&cql, &cache, &format!("--keyspace={keyspace}")]);
    let running = weir_dataplane::serve::start(&settings).await.expect("a data plane");
    let mut client = support::connect(&running).await;
    let (mut posts, mut asked) = (vec![0; shape.users as usize], Vec::new());
    for user in 0..shape.users {
        for thread in 0..shape.threads_of(user) {
            for post in shape.thread(user, thread) {
                let author = post.record.uri.split('/').nth(2).expect("an author").to_owned();
                let author = (0..shape.users).position(|user| shape.did(user) == author).expect("known");
                posts[author] += 1;
                asked.push(post.record);
            }
        }
    }
    let uris = asked.iter().map(|record| record.uri.clone()).collect();
    let request = GetPostRecordsRequest { uris, ..Default::default() };
    let answer = client.get_post_records(request).await.expect("posts").into_inner();
    for (found, wanted) in answer.records.iter().zip(&asked) {
        assert_eq!((&found.cid, &found.record[..]), (&wanted.cid, &wanted.json[..]));
    }
    let dids = (0..shape.users).map(|user| shape.did(user)).collect();
    let counts = client.get_counts_for_users(GetCountsForUsersRequest { dids }).await.expect("counts");
    assert_eq!(counts.into_inner().posts, posts, "counted once each");
    running.stop().await.expect("it ends");
}
