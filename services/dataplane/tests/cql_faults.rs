//! Parts are lost and restarted under load. Without memcached the database has no more to do than its bound, and a neighbour
//! of large calls does not wait behind them. Each part on the way of a call, from the client through weir to the data plane
//! and through weir to storage, is ended and started again, and calls go on by themselves.

#[macro_use]
mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::load::{self, Stop, missing};
use support::program::Program;
use support::servers::{Servers, Store};
use support::weir::{Weir, weir};
use support::{Client, World, free_port};
use tonic::Code;
use tonic::transport::Channel;
use weir_dataplane::bsky::service_client::ServiceClient;

on_each_store!(a_neighbour_keeps_its_time_without_memcached, every_part_can_be_restarted_under_load);

const ANN: &str = "did:plc:ann";
/// Statements at once: of all calls, and of one.
const QUERIES: [&str; 2] = ["--database-queries-max=8", "--database-queries-per-request=2"];
/// Clients with large calls, whose statements together are fewer than the database may have.
const BATCHES: usize = 3;
/// Keys of a large call.
const BATCH: usize = 4_000;
/// Calls of the neighbour.
const CALLS: usize = 100;

async fn posts(world: &World) -> Vec<String> {
    let mut uris = Vec::new();
    for number in 0..20 {
        uris.push(world.post(ANN, &number.to_string(), "").await);
    }
    uris
}

/// Sorted times.
struct Times {
    neighbour: Vec<Duration>,
    batches: Vec<Duration>,
    /// The most statements that were seen under way.
    most: f64,
}

/// A neighbour's calls for these posts beside large ones, whose keys nobody asked for before.
async fn beside(program: &Program, uris: &[String], name: &str) -> Times {
    let stop = Stop::default();
    let mut batches = Vec::new();
    for number in 0..BATCHES {
        let (mut client, stop, name) = (program.client().await, stop.clone(), format!("{name}{number}"));
        batches.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let uris = missing(&format!("{name}-{}", times.len()), BATCH);
                let begun = Instant::now();
                let found = load::posts(&mut client, &uris).await.expect("a large call");
                times.push(begun.elapsed());
                assert!(found.iter().all(|found| !found));
            }
            times
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut client, mut neighbour, mut most) = (program.client().await, Vec::new(), 0.0_f64);
    for _ in 0..CALLS {
        let begun = Instant::now();
        let found = load::posts(&mut client, uris).await.expect("a neighbour's call");
        neighbour.push(begun.elapsed());
        assert!(found.iter().all(|found| *found));
        most = most.max(program.metric("weir_dataplane_database_queries_in_flight", &[]));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for batch in batches {
        times.extend(batch.await.expect("right answers"));
    }
    neighbour.sort();
    times.sort();
    Times { neighbour, batches: times, most }
}

async fn a_neighbour_keeps_its_time_without_memcached(servers: Servers) {
    let mut world = World::start(&servers, "neighbour", &[]).await;
    let uris = posts(&world).await;
    let words = world.words();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(QUERIES).collect();
    let program = Program::start(&words);
    for what in ["with memcached", "without"] {
        if what == "without" {
            world.memcached.kill();
        }
        let before = program.metric("weir_dataplane_database_queries_total", &[]);
        let apart = program.metric("weir_dataplane_large_requests_total", &[]);
        let times = beside(&program, &uris, what.split(' ').next().expect("a word")).await;
        let queries = program.metric("weir_dataplane_database_queries_total", &[]) - before;
        let apart = program.metric("weir_dataplane_large_requests_total", &[]) - apart;
        assert!(
            apart >= times.batches.len() as f64,
            "{what}: {apart} ran apart of {} large calls",
            times.batches.len()
        );
        let (middle, p99) = (times.neighbour[CALLS / 2], times.neighbour[CALLS - 2]);
        let batch = times.batches[times.batches.len() / 2];
        eprintln!(
            "{what}: {middle:?} p50 and {p99:?} p99 of the neighbour, {batch:?} p50 of {} large calls, {queries} statements, {} at once",
            times.batches.len(),
            times.most
        );
        assert!(times.most <= 8.0, "{what}: {} statements at once", times.most);
        // A statement for each hundred keys, one for each call of the neighbour at the most.
        let most = times.batches.len() * BATCH / 100 + CALLS;
        assert!(queries <= most as f64, "{what}: {queries} statements of {most}");
        // The middle: the last few are the machine's affair where it has two cores and other work.
        assert!(
            middle < batch / 2,
            "{what}: the neighbour waits behind large calls: {middle:?} of {batch:?}"
        );
    }
    world.memcached.run();
    let mut client = program.client().await;
    let begun = Instant::now();
    while world.memcached.stat("curr_items") < 20 {
        assert_eq!(load::posts(&mut client, &uris).await, Ok(vec![true; 20]));
        assert!(begun.elapsed() < support::PATIENCE, "memcached is not used again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(program);
    world.end().await;
}

/// When a call ended, and how.
type End = (Instant, Result<(), Code>);

/// Calls that go on through everything, and how each ended.
struct Through {
    ends: Arc<Mutex<Vec<End>>>,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

impl Through {
    fn start(mut client: Client, uris: Vec<String>) -> Through {
        let (ends, stop) = (Arc::<Mutex<Vec<_>>>::default(), Stop::default());
        let task = {
            let (ends, stop) = (ends.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let ended = load::posts(&mut client, &uris).await;
                    let ended = ended.map(|found| assert!(found.iter().all(|found| *found), "{found:?}"));
                    ends.lock().expect("no panic").push((Instant::now(), ended));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        Through { ends, stop, task }
    }

    /// Waits until 20 calls in a row were good from now on; how many failed after `since`.
    async fn well(&self, what: &str, since: Instant) -> usize {
        let begun = Instant::now();
        loop {
            {
                let ends = self.ends.lock().expect("no panic");
                let after = ends.iter().filter(|end| end.0 > since);
                let (failed, row) = after.fold((0, 0), |(failed, row), end| match end.1 {
                    Ok(()) => (failed, row + usize::from(end.0 > begun)),
                    Err(_) => (failed + 1, 0),
                });
                if row >= 20 {
                    eprintln!("{what}: {failed} calls failed, well {:?} after", begun.elapsed());
                    return failed;
                }
                assert!(begun.elapsed() < support::PATIENCE, "{what}: calls do not go on: {:?}", ends.last());
            }
            assert!(!self.task.is_finished(), "an answer was wrong");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until a call is answered that the cache knows nothing of.
async fn past_the_cache(door: &Channel) {
    let (mut client, begun) = (ServiceClient::new(door.clone()), Instant::now());
    while load::posts(&mut client, &missing(&format!("{}", begun.elapsed().as_nanos()), 20)).await.is_err() {
        assert!(begun.elapsed() < support::PATIENCE, "the database is not reached");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("past the cache: {:?} after", begun.elapsed());
}

async fn every_part_can_be_restarted_under_load(mut servers: Servers) {
    let Some(program) = weir() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::start(&servers, "parts", &[]).await;
    let uris = posts(&world).await;
    let [edge, cache, cql, plane] = [(); 4].map(|()| free_port());
    let text = format!(
        "[pool.main]\nservers = [\"127.0.0.1:{}\"]\n[cluster.main]\ncontacts = [\"{}\"]\n\
         [service.main]\nservers = [\"127.0.0.1:{plane}\"]\npreset = \"bsky\"\n\
         [listener.cache]\naddress = \"127.0.0.1:{cache}\"\npool = \"main\"\n\
         [listener.cql]\naddress = \"127.0.0.1:{cql}\"\ncluster = \"main\"\n\
         [listener.edge]\naddress = \"127.0.0.1:{edge}\"\nservice = \"main\"\n",
        world.memcached.port, servers.cql
    );
    let mut proxy = Weir::start(&program, folder.path(), &text);
    let words = [
        format!("--cql=127.0.0.1:{cql}"),
        format!("--memcached=127.0.0.1:{cache}"),
        format!("--keyspace={}", world.database.keyspace),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let listens = format!("127.0.0.1:{plane}");
    let mut plane = Program::start_at(&listens, &words);
    let door = Channel::from_shared(format!("http://127.0.0.1:{edge}")).expect("an address").connect_lazy();
    let calls = Through::start(ServiceClient::new(door.clone()), uris);
    calls.well("the beginning", Instant::now()).await;
    let kept = |world: &World| world.memcached.stat("curr_items") >= 20;
    world.eventually("the cache is full", kept).await;

    let since = Instant::now();
    world.memcached.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.memcached.run();
    assert_eq!(calls.well("memcached", since).await, 0, "a cache that is lost costs no answer");
    world.eventually("the cache is full again", kept).await;

    if servers.store == Store::Devstore {
        let since = Instant::now();
        servers.own_database().kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        servers.own_database().run();
        assert_eq!(calls.well("the database", since).await, 0, "what the cache has is answered");
        past_the_cache(&door).await;
    }
    let since = Instant::now();
    plane = tokio::task::spawn_blocking(move || {
        assert!(plane.terminate(Duration::from_secs(40)), "it ends well");
        plane
    })
    .await
    .expect("it ends");
    drop(plane);
    let mut plane = Program::start_at(&listens, &words);
    calls.well("the data plane", since).await;
    let since = Instant::now();
    plane.child.kill().expect("killed");
    drop(plane);
    let plane = Program::start_at(&listens, &words);
    calls.well("the data plane, kill -9", since).await;

    let since = Instant::now();
    proxy.kill();
    proxy = Weir::start(&program, folder.path(), &text);
    calls.well("weir", since).await;

    // And past the cache: the database is reached again, too.
    past_the_cache(&door).await;
    calls.stop.store(true, Ordering::Relaxed);
    calls.task.await.expect("no answer was wrong");
    drop((plane, proxy));
    world.end().await;
}
