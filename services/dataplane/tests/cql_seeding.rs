//! Seeding: the same seed makes the same rows, a run that was killed goes on to the same world, and it can be read.

#[macro_use]
mod support;

use scylla::client::session::Session;
use scylla::value::Row;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::servers::Servers;
use support::weir::Front;
use weir_dataplane::bsky::*;
use weir_dataplane::options::Database;
use weir_dataplane::world::draw::Shape;

on_each_store!(a_world_is_the_same_however_it_was_made);

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-dataplane");
const SHAPE: Shape = Shape { seed: 11, users: 40, posts: 3, follows: 6, likes: 2 };
const TABLES: [&str; 11] = [
    "record",
    "actor",
    "did_by_handle",
    "interaction_count",
    "actor_count",
    "like_by_actor",
    "repost_by_actor",
    "follow_by_actor",
    "feed_by_author",
    "reply_by_parent",
    "notification_by_recipient",
];

fn seed(node: &str, keyspace: &str, seed: u64) -> Command {
    let mut command = Command::new(PROGRAM);
    let Shape { users, posts, follows, likes, .. } = SHAPE;
    command.args(["seed", "--cql", node, "--keyspace", keyspace, "--seed", &seed.to_string()]);
    command.args(["--users", &users.to_string(), "--posts-per-user", &posts.to_string()]);
    command.args(["--follows-per-user", &follows.to_string(), "--likes-per-post", &likes.to_string()]);
    command.args(["--database-timeout-ms=20000", "--database-queries-max=16"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Every row of a table, as text.
async fn rows(session: &Session, keyspace: &str, table: &str) -> BTreeSet<String> {
    let select = format!("SELECT * FROM {keyspace}.{table}");
    let found = session.query_unpaged(select, ()).await.expect(table).into_rows_result().expect("rows");
    found.rows::<Row>().expect("rows").map(|row| format!("{:?}", row.expect("a row").columns)).collect()
}

async fn dump(session: &Session, keyspace: &str) -> Vec<(&'static str, BTreeSet<String>)> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push((table, rows(session, keyspace, table).await));
    }
    all
}

fn database(node: &str, keyspace: &str) -> Database {
    let settings = support::settings(&[&format!("--cql={node}"), &format!("--keyspace={keyspace}")]);
    settings.database
}

async fn a_world_is_the_same_however_it_was_made(servers: Servers) {
    let memcached = servers.memcached();
    let front = Front::of(&servers, memcached.port);
    let node = front.words[0].trim_start_matches("--cql=");
    let [whole, broken, other] = ["whole", "broken", "other"].map(support::keyspace);
    assert!(seed(node, &whole, SHAPE.seed).status().expect("it runs").success());
    let session = support::session(&database(node, &whole)).await;
    let wanted = dump(&session, &whole).await;
    for (table, rows) in &wanted {
        assert!(!rows.is_empty(), "{table} is empty");
    }
    assert_eq!(wanted[1].1.len(), SHAPE.users as usize);

    // Killed again and again while it writes, until a run ends by itself: the first time when a stage is done, then ever longer
    // after that, so that it is in the middle of the next one.
    let (mut kills, mut told) = (0, String::new());
    for round in 0.. {
        let mut child = seed(node, &broken, SHAPE.seed).stderr(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        for line in lines.by_ref() {
            told += &format!("{line}\n");
            if line.contains(" of 40 accounts, ") {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(20) * round).await;
        let ended = child.try_wait().expect("its state");
        let _ = child.kill();
        lines.for_each(|line| told += &format!("{line}\n"));
        let status = child.wait().expect("ended");
        if ended.is_some() {
            assert!(status.success(), "{told}");
            break;
        }
        kills += 1;
        assert!(kills < 1_000, "it never ended: {told}");
    }
    assert!(kills > 0, "it was never killed");
    assert!(told.contains(": goes on after "), "{told}");
    for ((table, wanted), (_, found)) in wanted.iter().zip(dump(&session, &broken).await) {
        assert!(*wanted == found, "{table}: {} rows, {} after {kills} kills", wanted.len(), found.len());
    }
    // Once more changes nothing, counters included.
    assert!(seed(node, &broken, SHAPE.seed).status().expect("it runs").success());
    assert!(wanted == dump(&session, &broken).await, "a second run changed something");

    assert!(seed(node, &other, SHAPE.seed + 1).status().expect("it runs").success());
    assert_ne!(rows(&session, &whole, "record").await, rows(&session, &other, "record").await);
    for keyspace in [&broken, &other] {
        support::drop_keyspace(&database(node, keyspace)).await;
    }

    // And it can be read: an account's own count is what its pages hold.
    let settings =
        support::settings(&front.with(&[&format!("--keyspace={whole}"), "--database-timeout-ms=20000"]));
    let running = weir_dataplane::serve::start(&settings).await.expect("a data plane");
    let mut client = support::connect(&running).await;
    let dids: Vec<String> = (0..SHAPE.users).map(|user| SHAPE.did(user)).collect();
    let request = GetCountsForUsersRequest { dids: dids.clone() };
    let counts = client.get_counts_for_users(request).await.expect("counts").into_inner();
    for (user, did) in dids.iter().enumerate() {
        let request = GetAuthorFeedRequest { actor_did: did.clone(), limit: 1_000, ..Default::default() };
        let feed = client.get_author_feed(request).await.expect("a feed").into_inner();
        let reposts = feed.items.iter().filter(|item| item.is_repost).count() as i32;
        assert_eq!(
            (counts.posts[user], counts.reposts[user]),
            (feed.items.len() as i32 - reposts, reposts),
            "{did}"
        );
        let request = GetFollowersRequest { actor_did: did.clone(), limit: 1_000, ..Default::default() };
        let followers = client.get_followers(request).await.expect("followers").into_inner();
        assert_eq!(counts.followers[user], followers.followers.len() as i32, "{did}");
        assert_eq!(counts.following[user] as usize, SHAPE.follows_of(user as u64).len(), "{did}");
    }
    running.stop().await.expect("it ends");
    support::drop_keyspace(&settings.database).await;
}
