//! What is read page by page, and threads: compared with what was written, page after page.

#[macro_use]
mod support;

use support::World;
use support::servers::Servers;
use tonic::Code;
use weir_dataplane::bsky::*;

on_each_store!(feeds_timelines_followers_and_notifications, threads_go_up_and_down);

const ANN: &str = "did:plc:ann";
const BOB: &str = "did:plc:bob";
const EVE: &str = "did:plc:eve";
/// 2026-01-01 in milliseconds.
const BEGIN: i64 = 1_767_225_600_000;

/// A post at this many seconds after the begin.
async fn post(world: &World, author: &str, at: i64, more: &str) -> String {
    let uri = format!("at://{author}/app.bsky.feed.post/p{at:04}");
    world.put(&uri, &format!(r#"{{"text":""{more}}}"#), BEGIN + at * 1_000).await;
    uri
}

/// All pages of this size, one after the other.
macro_rules! pages {
    ($world:ident, $method:ident, $items:ident, $limit:expr, $request:expr) => {{
        let (mut found, mut cursor, mut calls) = (Vec::new(), String::new(), 0);
        loop {
            let mut request = $request;
            (request.limit, request.cursor) = ($limit, cursor.clone());
            let answer =
                $world.client.clone().$method(request).await.expect(stringify!($method)).into_inner();
            assert!(answer.$items.len() <= $limit as usize);
            found.extend(answer.$items);
            calls += 1;
            assert!(calls < 200, "the pages do not end");
            if answer.cursor.is_empty() {
                break found;
            }
            assert!(cursor.is_empty() || answer.cursor < cursor, "pages go back in time");
            cursor = answer.cursor;
        }
    }};
}

async fn feeds_timelines_followers_and_notifications(servers: Servers) {
    let world = World::start(&servers, "pages", &["--ttl-lists=1"]).await;
    // More posts of Ann than the cache holds of a feed, Bob's between them.
    let mut by_ann = Vec::new();
    for at in 0..130 {
        by_ann.push(post(&world, ANN, at * 10, "").await);
    }
    let images = r#","embed":{"$type":"app.bsky.embed.images"}"#;
    let mut by_bob = Vec::new();
    for at in 0..20 {
        by_bob.push(post(&world, BOB, at * 50 + 5, if at % 2 == 0 { images } else { "" }).await);
    }
    let reply = format!(r#","reply":{{"root":{{"uri":"{0}"}},"parent":{{"uri":"{0}"}}}}"#, by_ann[0]);
    let reply = post(&world, BOB, 2_000, &reply).await;
    let repost = world.deed(BOB, "app.bsky.feed.repost", "rp", &by_ann[1], BEGIN + 2_001_000).await;
    for (number, subject) in [ANN, BOB].iter().enumerate() {
        world
            .deed(
                EVE,
                "app.bsky.graph.follow",
                &format!("f{number}"),
                subject,
                BEGIN + 3_000_000 + number as i64,
            )
            .await;
    }
    world.deed(BOB, "app.bsky.graph.follow", "f9", ANN, BEGIN + 3_000_500).await;

    let newest = |uris: &[String]| uris.iter().rev().cloned().collect::<Vec<_>>();
    for limit in [7, 50, 1_000] {
        let request = GetAuthorFeedRequest { actor_did: ANN.into(), ..Default::default() };
        let found = pages!(world, get_author_feed, items, limit, request.clone());
        assert_eq!(
            found.into_iter().map(|item| item.uri).collect::<Vec<_>>(),
            newest(&by_ann),
            "limit {limit}"
        );

        let mut all: Vec<(String, String)> = by_ann
            .iter()
            .chain(&by_bob)
            .chain([&reply])
            .map(|uri| (uri.rsplit('p').next().expect("a key").to_owned(), uri.clone()))
            .collect();
        all.sort_by(|one, other| other.cmp(one));
        let mut wanted: Vec<String> = all.into_iter().map(|post| post.1).collect();
        wanted.insert(0, by_ann[1].clone());
        let request = GetTimelineRequest { actor_did: EVE.into(), ..Default::default() };
        let found = pages!(world, get_timeline, items, limit, request.clone());
        assert_eq!(found[0].repost, repost);
        assert_eq!(found.into_iter().map(|item| item.uri).collect::<Vec<_>>(), wanted, "limit {limit}");
    }
    let feed = async |kind: FeedType| {
        let request =
            GetAuthorFeedRequest { actor_did: BOB.into(), feed_type: kind.into(), ..Default::default() };
        pages!(world, get_author_feed, items, 6, request.clone()).len()
    };
    assert_eq!(feed(FeedType::Unspecified).await, 22);
    assert_eq!(feed(FeedType::PostsNoReplies).await, 21);
    assert_eq!(feed(FeedType::PostsAndAuthorThreads).await, 21);
    assert_eq!(feed(FeedType::PostsWithMedia).await, 10);
    assert_eq!(feed(FeedType::PostsWithVideo).await, 0);
    let plain = GetTimelineRequest {
        actor_did: EVE.into(),
        exclude_replies: true,
        exclude_reposts: true,
        ..Default::default()
    };
    assert_eq!(pages!(world, get_timeline, items, 100, plain.clone()).len(), 150);

    let request = GetFollowersRequest { actor_did: ANN.into(), ..Default::default() };
    let found = pages!(world, get_followers, followers, 1, request.clone());
    assert_eq!(found.iter().map(|follow| follow.actor_did.as_str()).collect::<Vec<_>>(), [BOB, EVE]);
    assert!(found.iter().all(|follow| follow.subject_did == ANN && follow.uri.starts_with("at://")));

    let request = GetNotificationsRequest { actor_did: ANN.into(), ..Default::default() };
    let told = pages!(world, get_notifications, notifications, 2, request.clone());
    let told: Vec<_> = told.iter().map(|told| (told.reason.as_str(), told.priority)).collect();
    assert_eq!(told, [("follow", false), ("follow", false), ("repost", false), ("reply", false)]);
    world.deed(ANN, "app.bsky.graph.follow", "f8", BOB, BEGIN + 3_000_600).await;
    world.writer.delete_record(&by_ann[1]).await.expect("deleted");
    let priority = GetNotificationsRequest { actor_did: ANN.into(), priority: true, ..Default::default() };
    let told = pages!(world, get_notifications, notifications, 50, priority.clone());
    let told: Vec<_> = told.iter().map(|told| told.reason.as_str()).collect();
    assert_eq!(told, ["follow", "reply"], "by Bob only, and nothing about a post that is gone");
    world.writer.put_seen(ANN, 5_000, None).await.expect("stored");
    let request = GetNotificationSeenRequest { actor_did: ANN.into(), priority: true };
    let seen = world.client.clone().get_notification_seen(request).await.expect("seen").into_inner();
    assert_eq!(seen.timestamp.map(|at| at.seconds), Some(5));

    for cursor in ["x", "1::2", "0123", "00000000000000ZZabc"] {
        let request =
            GetTimelineRequest { actor_did: EVE.into(), cursor: cursor.into(), ..Default::default() };
        let refused = world.client.clone().get_timeline(request).await.expect_err(cursor);
        assert_eq!(refused.code(), Code::InvalidArgument, "{cursor}");
    }
    let nobody = world.client.clone().get_timeline(GetTimelineRequest::default()).await.expect("nobody's");
    assert!(nobody.into_inner().items.is_empty());
    world.end().await;
}

async fn threads_go_up_and_down(servers: Servers) {
    let world = World::start(&servers, "threads", &["--thread-uris-max=20"]).await;
    let root = post(&world, ANN, 0, "").await;
    let under =
        |parent: &str| format!(r#","reply":{{"root":{{"uri":"{root}"}},"parent":{{"uri":"{parent}"}}}}"#);
    let one = post(&world, BOB, 1, &under(&root)).await;
    let two = post(&world, ANN, 2, &under(&one)).await;
    let three = post(&world, EVE, 3, &under(&two)).await;
    let side = post(&world, EVE, 4, &under(&root)).await;
    let thread = async |uri: &str, above, below| {
        let request = GetThreadRequest { post_uri: uri.into(), above, below };
        world.client.clone().get_thread(request).await.expect("a thread").into_inner()
    };
    for _ in ["cold", "warm"] {
        let whole = thread(&root, 10, 10).await;
        assert_eq!(whole.uris, [&root, &side, &three, &two, &one].map(String::clone));
        assert_eq!(whole.op_thread, [root.clone(), two.clone()]);
        assert_eq!(thread(&two, 10, 10).await.uris, [&two, &one, &root, &three].map(String::clone));
        assert_eq!(thread(&two, 1, 0).await.uris, [&two, &one].map(String::clone));
        assert_eq!(thread(&root, 0, 1).await.uris, [&root, &side, &one].map(String::clone));
        assert_eq!(thread(&three, -5, i32::MAX).await.uris, std::slice::from_ref(&three));
        assert!(thread("nonsense", 10, 10).await.uris.is_empty() && thread("", 1, 1).await.uris.is_empty());
    }
    // A thread wider than the bound is cut, and a cycle ends.
    for at in 10..60 {
        post(&world, BOB, at, &under(&root)).await;
    }
    assert_eq!(thread(&root, 10, 10).await.uris.len(), 20);
    let (a, b) =
        (format!("at://{BOB}/app.bsky.feed.post/p0100"), format!("at://{BOB}/app.bsky.feed.post/p0101"));
    post(&world, BOB, 100, &under(&b)).await;
    post(&world, BOB, 101, &under(&a)).await;
    assert_eq!(thread(&a, 1_000, 1_000).await.uris.len(), 3);
    world.end().await;
}
