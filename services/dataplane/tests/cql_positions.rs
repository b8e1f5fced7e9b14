//! Every method that answers place by place: what is there, missing, asked twice, malformed; nothing; 20,000 keys. First cold,
//! then from the cache, and both alike.

#[macro_use]
mod support;

use support::World;
use support::servers::Servers;
use weir_dataplane::bsky::*;
use weir_dataplane::read::edges::EdgeKind;

on_each_store!(records_accounts_and_counts, edges_between_accounts, twenty_thousand_keys_keep_their_places);

const ANN: &str = "did:plc:ann";
const BOB: &str = "did:plc:bob";
const EVE: &str = "did:plc:eve";
const NOBODY: &str = "did:plc:nobody";

/// Asks twice: of the database, then, when the fills are done, of the cache.
macro_rules! twice {
    ($world:ident, $method:ident, $request:expr) => {{
        let mut client = $world.client.clone();
        let request = $request;
        let cold = client.$method(request.clone()).await.expect(stringify!($method)).into_inner();
        $world
            .eventually("the fills are done", |world| {
                world.metric("weir_dataplane_database_queries_in_flight", &[]) == 0.0
            })
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let warm = client.$method(request).await.expect(stringify!($method)).into_inner();
        assert_eq!(cold, warm, "{}: cold and warm differ", stringify!($method));
        let nothing = client.$method(tonic::Request::new(Default::default())).await;
        (warm, nothing.map(tonic::Response::into_inner))
    }};
}

fn texts(record: &[Record]) -> Vec<String> {
    record.iter().map(|record| String::from_utf8_lossy(&record.record).into_owned()).collect()
}

fn refs(uris: &[&str]) -> Vec<RecordRef> {
    uris.iter().map(|uri| RecordRef { uri: (*uri).into(), cid: "any".into() }).collect()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn records_accounts_and_counts(servers: Servers) {
    let world = World::start(&servers, "records", &[]).await;
    for (did, handle) in [(ANN, "ann.test"), (BOB, "bob.test")] {
        world.account(did, handle).await;
    }
    let profile = format!("at://{ANN}/app.bsky.actor.profile/self");
    world
        .put(&profile, r#"{"displayName":"Ann","createdAt":"2026-01-01T00:00:00Z"}"#, 1_775_000_000_000)
        .await;
    let root = world.post(ANN, "1root", "").await;
    let reply = format!(r#","reply":{{"root":{{"uri":"{root}"}},"parent":{{"uri":"{root}"}}}}"#);
    let own = world.post(ANN, "2own", &reply).await;
    let quote = format!(r#","embed":{{"$type":"app.bsky.embed.record","record":{{"uri":"{root}"}}}}"#);
    let other = world.post(BOB, "1post", &quote).await;
    let like = world.deed(BOB, "app.bsky.feed.like", "1like", &root, 1_775_254_570_000).await;
    let follow = world.deed(BOB, "app.bsky.graph.follow", "1follow", ANN, 1_775_254_571_000).await;
    world.deed(EVE, "app.bsky.feed.repost", "1repost", &root, 1_775_254_572_000).await;
    world.writer.put_edge(EdgeKind::Bookmark, BOB, &root, 5).await.expect("stored");

    let long = format!("at://{ANN}/app.bsky.feed.post/{}", "x".repeat(3_000));
    let odd = format!("at://{ANN}/app.bsky.feed.post/a b\r\nc");
    let gone = format!("at://{ANN}/app.bsky.feed.post/gone");
    let asked = [&root, "", &gone, &other, &root, "nonsense", &like, &long, &odd, &own, &gone];
    let request =
        GetPostRecordsRequest { uris: owned(&asked), include_op_thread_metadata: true, ..Default::default() };
    let (answer, nothing) = twice!(world, get_post_records, request);
    let found = texts(&answer.records);
    for (place, uri) in asked.iter().enumerate() {
        let is_there = [&root, &other, &own].iter().any(|there| there == uri);
        assert_eq!(found[place].contains(uri) && !uri.is_empty(), is_there, "{uri}: {}", found[place]);
        assert_eq!(found[place] == "null", !is_there);
        assert_eq!(answer.records[place].cid, if is_there { format!("cid-of-{uri}") } else { String::new() });
        assert_eq!(answer.meta[place].is_reply, *uri == own, "{uri}");
    }
    assert_eq!((answer.records.len(), answer.meta.len()), (asked.len(), asked.len()));
    let threads: Vec<_> =
        answer.op_threads.iter().map(|thread| (&thread.root_uri, thread.uris.as_slice())).collect();
    assert_eq!(
        threads,
        [(&root, [root.clone(), own.clone()].as_slice()), (&other, [other.clone()].as_slice())]
    );
    assert_eq!(nothing.expect("an answer"), GetPostRecordsResponse::default());

    let likes = GetLikeRecordsRequest { uris: owned(&[&root, &like, "", &like]) };
    let (answer, nothing) = twice!(world, get_like_records, likes);
    let is_like = [false, true, false, true];
    assert_eq!(texts(&answer.records).iter().map(|text| text != "null").collect::<Vec<_>>(), is_like);
    assert!(nothing.expect("an answer").records.is_empty());
    let (answer, _) =
        twice!(world, get_follow_records, GetFollowRecordsRequest { uris: owned(&[&follow, &like]) });
    assert_eq!(texts(&answer.records).iter().map(|text| text != "null").collect::<Vec<_>>(), [true, false]);
    let (answer, _) = twice!(
        world,
        get_labeler_records,
        GetLabelerRecordsRequest { uris: owned(&["at://a/app.bsky.labeler.service/self", "x"]) }
    );
    assert_eq!(texts(&answer.records), ["null", "null"]);
    let (answer, _) =
        twice!(world, get_thread_gate_records, GetThreadGateRecordsRequest { uris: owned(&[&root]) });
    assert_eq!(texts(&answer.records), ["null"]);

    let request = GetActorsRequest {
        dids: owned(&[BOB, NOBODY, "", ANN, BOB]),
        return_age_assurance_for_dids: owned(&[ANN]),
        ..Default::default()
    };
    let (answer, nothing) = twice!(world, get_actors, request);
    let seen: Vec<_> = answer.actors.iter().map(|actor| (actor.exists, actor.handle.as_str())).collect();
    assert_eq!(seen, [(true, "bob.test"), (false, ""), (false, ""), (true, "ann.test"), (true, "bob.test")]);
    let profiles: Vec<Record> =
        answer.actors.iter().map(|actor| actor.profile.clone().expect("a profile")).collect();
    assert_eq!(
        texts(&profiles).iter().map(|text| text.contains("Ann")).collect::<Vec<_>>(),
        [false, false, false, true, false]
    );
    assert!(
        answer.actors[3].age_assurance_status.is_some() && answer.actors[0].age_assurance_status.is_none()
    );
    assert!(answer.actors[3].created_at.is_some());
    assert!(nothing.expect("an answer").actors.is_empty());

    let handles = GetDidsByHandlesRequest {
        handles: owned(&["bob.test", "no.test", "", "ann.test", "bob.test"]),
        ..Default::default()
    };
    let (answer, nothing) = twice!(world, get_dids_by_handles, handles);
    assert_eq!(answer.dids, [BOB, "", "", ANN, BOB]);
    assert!(nothing.expect("an answer").dids.is_empty());
    let (answer, nothing) = twice!(world, get_identity_by_did, GetIdentityByDidRequest { did: ANN.into() });
    assert_eq!((answer.handle.as_str(), answer.did.as_str()), ("ann.test", ANN));
    assert_eq!(nothing.expect_err("nobody").code(), tonic::Code::NotFound);
    let (answer, nothing) = twice!(world, get_latest_rev, GetLatestRevRequest { actor_did: ANN.into() });
    assert_eq!((answer.rev, nothing.expect("an answer").rev), (format!("rev-of-{ANN}"), String::new()));

    let request =
        GetInteractionCountsRequest { refs: refs(&[&other, &root, "", &gone, &root]), ..Default::default() };
    let (answer, nothing) = twice!(world, get_interaction_counts, request);
    assert_eq!(answer.likes, [0, 1, 0, 0, 1]);
    assert_eq!(answer.reposts, [0, 1, 0, 0, 1]);
    assert_eq!(answer.replies, [0, 1, 0, 0, 1]);
    assert_eq!(answer.quotes, [0, 1, 0, 0, 1]);
    assert_eq!(answer.bookmarks, [0; 5]);
    assert_eq!(nothing.expect("an answer"), GetInteractionCountsResponse::default());
    let (answer, _) = twice!(
        world,
        get_counts_for_users,
        GetCountsForUsersRequest { dids: owned(&[ANN, NOBODY, BOB, "", ANN]) }
    );
    assert_eq!(answer.posts, [2, 0, 1, 0, 2]);
    assert_eq!(answer.following, [0, 0, 1, 0, 0]);
    assert_eq!(answer.followers, [1, 0, 0, 0, 1]);
    assert_eq!(
        (answer.lists.len(), answer.feeds.len(), answer.starter_packs.len(), answer.drafts.len()),
        (5, 5, 5, 5)
    );

    world.writer.put_label(&root, ANN, "x", b"{\"val\":\"x\"}").await.expect("stored");
    world.writer.put_label(&root, BOB, "y", b"{\"val\":\"y\"}").await.expect("stored");
    let request = GetLabelsRequest { subjects: owned(&[&root, "", &gone, &root]), issuers: owned(&[BOB]) };
    let (answer, nothing) = twice!(world, get_labels, request);
    assert_eq!(answer.labels, [b"{\"val\":\"y\"}".as_slice(); 2]);
    assert!(nothing.expect("an answer").labels.is_empty());
    assert!(twice!(world, ping, PingRequest {}).1.is_ok());
    let other_method = world.client.clone().get_list_records(GetListRecordsRequest::default()).await;
    assert_eq!(other_method.expect_err("not written").code(), tonic::Code::Unimplemented);
    world.end().await;
}

async fn edges_between_accounts(servers: Servers) {
    let world = World::start(&servers, "edges", &[]).await;
    let (one, two) = (world.post(ANN, "1", "").await, world.post(ANN, "2", "").await);
    let like = world.deed(BOB, "app.bsky.feed.like", "l1", &two, 1_775_254_570_000).await;
    let repost = world.deed(BOB, "app.bsky.feed.repost", "r1", &one, 1_775_254_571_000).await;
    let bob_follows_ann = world.deed(BOB, "app.bsky.graph.follow", "f1", ANN, 1_775_254_572_000).await;
    let ann_follows_bob = world.deed(ANN, "app.bsky.graph.follow", "f2", BOB, 1_775_254_573_000).await;
    let ann_follows_eve = world.deed(ANN, "app.bsky.graph.follow", "f3", EVE, 1_775_254_574_000).await;
    world.deed(EVE, "app.bsky.graph.follow", "f4", BOB, 1_775_254_575_000).await;
    let block = world.deed(EVE, "app.bsky.graph.block", "b1", ANN, 1_775_254_576_000).await;
    for (kind, subject) in [
        (EdgeKind::Mute, ANN),
        (EdgeKind::Subscription, ANN),
        (EdgeKind::ThreadMute, &one),
        (EdgeKind::Bookmark, &two),
    ] {
        world.writer.put_edge(kind, BOB, subject, 1_775_254_577_000).await.expect("stored");
    }

    let request = GetLikesByActorAndSubjectsRequest {
        actor_did: BOB.into(),
        refs: refs(&[&one, &two, "", "no", &two]),
    };
    let (answer, nothing) = twice!(world, get_likes_by_actor_and_subjects, request);
    assert_eq!(answer.uris, ["", &like, "", "", &like]);
    assert!(nothing.expect("an answer").uris.is_empty());
    let nobody = GetLikesByActorAndSubjectsRequest { actor_did: String::new(), refs: refs(&[&one, &two]) };
    assert_eq!(twice!(world, get_likes_by_actor_and_subjects, nobody).0.uris, ["", ""]);
    let request =
        GetRepostsByActorAndSubjectsRequest { actor_did: BOB.into(), refs: refs(&[&two, &one, &one]) };
    assert_eq!(twice!(world, get_reposts_by_actor_and_subjects, request).0.uris, ["", &repost, &repost]);
    let request =
        GetBookmarksByActorAndSubjectsRequest { actor_did: BOB.into(), uris: owned(&[&one, &two, "", &two]) };
    let (answer, _) = twice!(world, get_bookmarks_by_actor_and_subjects, request);
    assert_eq!(
        answer.bookmarks.iter().map(|mark| mark.subject_uri.as_str()).collect::<Vec<_>>(),
        ["", &two, "", &two]
    );
    assert!(answer.bookmarks[0].r#ref.is_none() && answer.bookmarks[1].r#ref.is_some());
    let request = GetThreadMutesOnSubjectsRequest {
        actor_did: BOB.into(),
        thread_roots: owned(&[&two, &one, "", &one]),
    };
    assert_eq!(twice!(world, get_thread_mutes_on_subjects, request).0.muted, [false, true, false, true]);
    let request = GetActivitySubscriptionsByActorAndSubjectsRequest {
        actor_did: BOB.into(),
        subject_dids: owned(&[EVE, ANN, "", ANN]),
    };
    let (answer, _) = twice!(world, get_activity_subscriptions_by_actor_and_subjects, request);
    assert_eq!(
        answer.subscriptions.iter().map(|found| found.subject_did.as_str()).collect::<Vec<_>>(),
        ["", ANN, "", ANN]
    );
    assert!(answer.subscriptions[1].post.is_some() && answer.subscriptions[0].post.is_none());

    let request =
        GetRelationshipsRequest { actor_did: BOB.into(), target_dids: owned(&[ANN, "", NOBODY, EVE, ANN]) };
    let (answer, nothing) = twice!(world, get_relationships, request);
    let ann = Relationships {
        muted: true,
        following: bob_follows_ann.clone(),
        followed_by: ann_follows_bob,
        ..Default::default()
    };
    let eve =
        Relationships { followed_by: format!("at://{EVE}/app.bsky.graph.follow/f4"), ..Default::default() };
    assert_eq!(answer.relationships, [ann.clone(), Default::default(), Default::default(), eve, ann]);
    assert!(nothing.expect("an answer").relationships.is_empty());
    let request = GetRelationshipsRequest { actor_did: ANN.into(), target_dids: owned(&[EVE]) };
    let (answer, _) = twice!(world, get_relationships, request);
    assert_eq!(
        (&answer.relationships[0].blocked_by, &answer.relationships[0].following),
        (&block, &ann_follows_eve)
    );

    let pair = |a: &str, b: &str| RelationshipPair { a: a.into(), b: b.into() };
    let pairs = vec![
        pair(ANN, EVE),
        pair(ANN, BOB),
        pair(EVE, ANN),
        pair("", EVE),
        pair(ANN, EVE),
        pair("did:plc:eve did:plc:ann", ""),
    ];
    let (answer, nothing) = twice!(world, get_block_existence, GetBlockExistenceRequest { pairs });
    assert_eq!(answer.exists, [true, false, true, false, true, false]);
    assert_eq!((&answer.blocks[0].blocked_by, &answer.blocks[2].blocking), (&block, &block));
    assert_eq!(answer.blocks.len(), 6);
    assert!(nothing.expect("an answer").exists.is_empty());

    // Ann follows Bob and Eve; Eve follows Bob, Bob follows Ann.
    let request = GetFollowsFollowingRequest {
        actor_did: ANN.into(),
        target_dids: owned(&[BOB, NOBODY, ANN, "", BOB]),
    };
    let (answer, _) = twice!(world, get_follows_following, request);
    let known: Vec<_> =
        answer.results.iter().map(|found| (found.target_did.as_str(), found.dids.clone())).collect();
    let eve = owned(&[EVE]);
    assert_eq!(known, [(BOB, eve.clone()), (NOBODY, vec![]), (ANN, owned(&[BOB])), ("", vec![]), (BOB, eve)]);
    world.end().await;
}

async fn twenty_thousand_keys_keep_their_places(servers: Servers) {
    let world = World::start(&servers, "many", &["--cache-queue-max=4096"]).await;
    let mut there = Vec::new();
    for number in 0..200 {
        there.push(world.post(ANN, &format!("there{number}"), "").await);
    }
    // every third is there, many of them again and again
    let asked: Vec<String> = (0..20_000)
        .map(|place| match place % 3 {
            0 => there[place % there.len()].clone(),
            _ => format!("at://{ANN}/app.bsky.feed.post/missing{}", place / 2),
        })
        .collect();
    let mut client = world.client.clone();
    for round in ["cold", "warm"] {
        let begun = std::time::Instant::now();
        let request = GetPostRecordsRequest { uris: asked.clone(), ..Default::default() };
        let answer = client.get_post_records(request).await.expect(round).into_inner();
        eprintln!("20,000 keys {round}: {:?}", begun.elapsed());
        assert_eq!((answer.records.len(), answer.meta.len()), (20_000, 20_000));
        for (place, record) in answer.records.iter().enumerate() {
            let wanted = if place % 3 == 0 { format!("cid-of-{}", asked[place]) } else { String::new() };
            assert_eq!(record.cid, wanted, "place {place}, {round}");
        }
    }
    let few = GetPostRecordsRequest { uris: vec!["x".into(); 50_001], ..Default::default() };
    let refused = client.get_post_records(few).await.expect_err("too many");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let refs = refs(&asked.iter().map(String::as_str).collect::<Vec<_>>());
    let answer = client
        .get_interaction_counts(GetInteractionCountsRequest { refs: refs.clone(), ..Default::default() })
        .await;
    assert_eq!(answer.expect("counts").into_inner().bookmarks, vec![0; 20_000]);
    let request = GetLikesByActorAndSubjectsRequest { actor_did: BOB.into(), refs };
    assert_eq!(
        client.get_likes_by_actor_and_subjects(request).await.expect("likes").into_inner().uris,
        vec![""; 20_000]
    );
    world.end().await;
}
