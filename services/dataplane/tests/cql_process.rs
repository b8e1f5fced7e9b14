//! The program: its words, its end, its metrics, and the copy of the bug.

#[macro_use]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::time::{Duration, Instant};
use support::program::Program;
use support::servers::Servers;
use support::weir::Front;
use support::{WEIR, World};
use weir_dataplane::bsky::*;
use weir_dataplane::migrate;

on_each_store!(
    it_serves_and_ends_after_the_calls_under_way,
    the_bug_is_a_connection_and_a_line_per_key,
    tables_are_made_once_whoever_asks_and_again,
);

fn said(words: &[&str]) -> (bool, String) {
    let done = Command::new(WEIR).args(words).output().expect("it runs");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn its_words_help_and_its_errors_come_at_once() {
    for command in
        [vec!["--help"], vec!["serve", "--help"], vec!["seed", "--help"], vec!["migrate", "--help"]]
    {
        let (well, text) = said(&command);
        assert!(well && text.contains("Example") && text.contains("weir-dataplane"), "{command:?}: {text}");
    }
    let (well, text) = said(&["serve", "--listen=x", "--keyspace=1", "--ttl=0"]);
    assert!(!well && text.contains("3 problems:"), "{text}");
    let (well, text) = said(&["serve", "--unbounded"]);
    assert!(!well && text.contains("--i-know"), "{text}");
}

async fn it_serves_and_ends_after_the_calls_under_way(servers: Servers) {
    let (memcached, keyspace) = (servers.memcached(), support::keyspace("program"));
    let front = Front::of(&servers, memcached.port);
    let words = [front.words[0].clone(), front.words[1].clone(), format!("--keyspace={keyspace}")];
    let slow = ["--database-queries-max=1", "--database-keys-per-query=1"];
    let mut program = Program::start(&[words[0].as_str(), &words[1], &words[2], slow[0], slow[1]]);
    let mut client = program.client().await;
    let uris: Vec<String> =
        (0..3_000).map(|number| format!("at://did:plc:a/app.bsky.feed.post/{number}")).collect();
    let call = {
        let (mut client, uris) = (client.clone(), uris.clone());
        tokio::spawn(async move {
            client.get_post_records(GetPostRecordsRequest { uris, ..Default::default() }).await
        })
    };
    client.ping(PingRequest {}).await.expect("a pong");
    let begun = Instant::now();
    while !program.page().contains("weir_dataplane_database_queries_total{") {
        assert!(begun.elapsed() < support::PATIENCE, "no statement has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let under_way = !call.is_finished();
    let page = program.page();
    for name in
        ["requests_total{method=\"Ping\",code=\"ok\"} 1", "keys_per_request_bucket", "requests_in_flight 1"]
    {
        assert!(page.contains(name), "{name} in {page}");
    }
    let begun = Instant::now();
    let ended = tokio::task::spawn_blocking(move || (program.terminate(Duration::from_secs(40)), program))
        .await
        .expect("no panic");
    eprintln!("it ended after {:?}", begun.elapsed());
    assert!(ended.0, "it ends well");
    assert!(under_way, "the call was under way when it was told to end");
    assert_eq!(call.await.expect("no panic").expect("an answer").into_inner().records.len(), 3_000);
    assert!(client.ping(PingRequest {}).await.is_err(), "nobody is there any more");
    let settings = support::settings(&[words[0].as_str(), &words[2]]);
    support::drop_keyspace(&settings.database).await;
}

async fn the_bug_is_a_connection_and_a_line_per_key(servers: Servers) {
    let world = World::start(&servers, "bug", &[]).await;
    let mut uris = Vec::new();
    for number in 0..20 {
        uris.push(world.post("did:plc:a", &number.to_string(), "").await);
    }
    uris.push(uris[0].clone());
    uris.extend((0..179).map(|number| format!("at://did:plc:a/app.bsky.feed.post/missing{number}")));
    let words = [
        format!("--cql={}", servers.cql),
        format!("--memcached=127.0.0.1:{}", world.memcached.port),
        format!("--keyspace={}", world.database.keyspace),
    ];
    let source = "--unbounded-source=127.32.0.1";
    let mut program =
        Program::start(&[words[0].as_str(), &words[1], &words[2], "--unbounded", "--i-know", source]);
    let errors = program.child.stderr.take().expect("piped");
    let lines =
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).collect::<Vec<_>>());
    let before = world.memcached.stat("total_connections");
    let request = GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
    let bounded = world.client.clone().get_post_records(request.clone()).await.expect("posts").into_inner();
    let after = world.memcached.stat("total_connections");
    assert!(after - before <= 5, "{} connections for 200 keys the right way", after - before);
    world.eventually("the fills are done", |world| world.memcached.stat("curr_items") >= 199).await;
    assert_eq!(world.memcached.line("flush_all"), "OK");
    let before = world.memcached.stat("total_connections");
    let answer = program.client().await.get_post_records(request).await.expect("posts").into_inner();
    assert_eq!(answer, bounded, "the same answer");
    let after = world.memcached.stat("total_connections");
    assert!(after - before >= 399, "{} connections for 200 keys, a get and a set each", after - before);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("sockets");
    let server = format!(" 0100007F:{:04X} ", world.memcached.port);
    let waiting = table
        .lines()
        .filter(|line| line.contains(": 01002") && line.contains("7F:") && line.contains(&server));
    assert!(waiting.count() >= 200, "their ports are in TIME_WAIT, with a source of their own");
    assert!(program.terminate(Duration::from_secs(40)));
    let lines = lines.join().expect("no panic");
    assert!(
        lines.iter().filter(|line| line.contains("not in the cache")).count() >= 199,
        "{} lines",
        lines.len()
    );
    world.end().await;
}

async fn tables_are_made_once_whoever_asks_and_again(servers: Servers) {
    let (memcached, keyspace) = (servers.memcached(), support::keyspace("tables"));
    let front = Front::of(&servers, memcached.port);
    let named = format!("--keyspace={keyspace}");
    let settings = support::settings(&front.with(&[&named, "--database-timeout-ms=20000"]));
    let database = &settings.database;
    let refused = weir_dataplane::serve::start(&settings).await.err().expect("no tables yet");
    assert!(format!("{refused:#}").contains("weir-dataplane migrate"), "it says what to do: {refused:#}");
    assert_eq!(migrate::migrate(database).await.expect("tables").len(), 4);
    assert!(migrate::migrate(database).await.expect("tables").is_empty(), "nothing to do");
    // A run that ended half way: its tables are there, and nothing says so. And two who do it at once.
    let session = support::session(database).await;
    session.use_keyspace(&keyspace, false).await.expect("a keyspace");
    session.query_unpaged("DELETE FROM schema_migrations WHERE id IN (2, 4)", ()).await.expect("deleted");
    session.query_unpaged("DROP TABLE seed_progress", ()).await.expect("dropped");
    let (one, other) = tokio::join!(migrate::migrate(database), migrate::migrate(database));
    let (one, other) = (one.expect("tables"), other.expect("tables"));
    assert!(!one.is_empty() || !other.is_empty(), "what was left was made");
    session.query_unpaged("SELECT * FROM seed_progress", ()).await.expect("the table is there again");
    // A file that is not the one that made the tables.
    let update = "UPDATE schema_migrations SET checksum = 'another' WHERE id = 1";
    session.query_unpaged(update, ()).await.expect("changed");
    let refused = migrate::migrate(database).await.expect_err("not the same file");
    assert!(format!("{refused:#}").contains("0001_records"), "{refused:#}");
    support::drop_keyspace(database).await;
}
