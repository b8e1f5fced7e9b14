//! The contract, method by method: each of the 27 that are served, through weir. A list of 20,000 keys keeps its places
//! whatever is among them: what is there, missing, asked twice, malformed, empty. A single key that is none of anything has
//! an empty answer. Every other method of the contract is UNIMPLEMENTED.

#[macro_use]
mod support;

use std::time::Instant;
use support::World;
use support::servers::Servers;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
use weir_dataplane::bsky::*;
use weir_dataplane::read::edges::EdgeKind;

on_each_store!(
    twenty_thousand_keys_of_every_list,
    single_keys_that_are_none_have_empty_answers,
    what_is_not_served_is_unimplemented,
);

const ANN: &str = "did:plc:ann";
const BOB: &str = "did:plc:bob";
const EVE: &str = "did:plc:eve";
/// Keys of a call.
const KEYS: usize = 20_000;
/// One key of so many is asked once only, and is not there.
const ONCE_OF: usize = 8;
/// The methods that are served.
const SERVED: [&str; 27] = [
    "Ping",
    "GetPostRecords",
    "GetFollowRecords",
    "GetLikeRecords",
    "GetThreadGateRecords",
    "GetLabelerRecords",
    "GetLabels",
    "GetActors",
    "GetDidsByHandles",
    "GetIdentityByDid",
    "GetLatestRev",
    "GetInteractionCounts",
    "GetCountsForUsers",
    "GetLikesByActorAndSubjects",
    "GetRepostsByActorAndSubjects",
    "GetBookmarksByActorAndSubjects",
    "GetThreadMutesOnSubjects",
    "GetActivitySubscriptionsByActorAndSubjects",
    "GetRelationships",
    "GetBlockExistence",
    "GetFollowsFollowing",
    "GetFollowers",
    "GetTimeline",
    "GetAuthorFeed",
    "GetThread",
    "GetNotifications",
    "GetNotificationSeen",
];

/// Keys that name nothing, of which some cannot.
fn odd() -> Vec<String> {
    let long = format!("at://{ANN}/app.bsky.feed.post/{}", "x".repeat(3_000));
    let longer = "x".repeat(70_000);
    let odd = ["", "nonsense", "did:plc:nobody", "a b\r\nget c", "\0", "ä\u{10ffff}", &long, &longer];
    odd.map(str::to_owned).to_vec()
}

/// Asks for each of the known keys alone, for none, and for 20,000 of them and of others, cold and warm: every place of the
/// last is what the key had alone. `ask` makes a text of each place.
async fn keeps_its_places(
    method: &str,
    known: &[&str],
    fresh: impl Fn(usize) -> String,
    ask: impl AsyncFn(Vec<String>) -> Vec<String>,
) {
    let begun = Instant::now();
    assert!(ask(Vec::new()).await.is_empty(), "{method}: nothing was asked");
    let nothing = ask(vec![fresh(KEYS)]).await;
    let mut keys = Vec::new();
    for key in
        known.iter().map(|key| (*key).to_owned()).chain(odd().into_iter().filter(|key| key.len() < 9_000))
    {
        let alone = ask(vec![key.clone()]).await;
        assert_eq!(alone.len(), 1, "{method}: {key:?}");
        let is_there = known.contains(&key.as_str());
        assert_eq!(alone != nothing, is_there, "{method}: {key:?}: {alone:?}");
        keys.push((key, alone[0].clone()));
    }
    let asked: Vec<(String, &String)> = (0..KEYS)
        .map(|place| match place % ONCE_OF {
            0 => (fresh(place), &nothing[0]),
            _ => {
                let (key, wanted) = &keys[place * 7 % keys.len()];
                (key.clone(), wanted)
            }
        })
        .collect();
    for round in ["cold", "warm"] {
        let found = ask(asked.iter().map(|(key, _)| key.clone()).collect()).await;
        assert_eq!(found.len(), KEYS, "{method}, {round}");
        for (place, (found, (key, wanted))) in found.iter().zip(&asked).enumerate() {
            assert_eq!(found, *wanted, "{method}, {round}: place {place}, {key:?}");
        }
    }
    eprintln!("{method}: 20,000 keys twice and {} alone, {:?}", keys.len(), begun.elapsed());
}

/// Texts of the places of an answer's parallel lists, which are of one length.
macro_rules! places {
    ($world:ident, $method:ident, $request:expr, $($list:ident),+) => {{
        let answer = $world.client.clone().$method($request).await.expect(stringify!($method)).into_inner();
        let mut places: Vec<String> = Vec::new();
        let lists = [$(answer.$list.iter().map(|place| format!("{place:?} ")).collect::<Vec<_>>()),+];
        for list in &lists {
            assert_eq!(list.len(), lists[0].len(), "{}: parallel lists", stringify!($method));
        }
        for place in 0..lists[0].len() {
            places.push(lists.iter().map(|list| list[place].as_str()).collect());
        }
        places
    }};
}

fn refs(uris: Vec<String>) -> Vec<RecordRef> {
    uris.into_iter().map(|uri| RecordRef { uri, cid: String::new() }).collect()
}

fn missing_post(place: usize) -> String {
    format!("at://{EVE}/app.bsky.feed.post/missing{place}")
}

fn nobody(place: usize) -> String {
    format!("did:plc:nobody{place}")
}

/// Two posts of Ann's, and everything that can be said of one of them and of her.
async fn fill(world: &World) -> [String; 6] {
    for (did, handle) in [(ANN, "ann.test"), (BOB, "bob.test")] {
        world.account(did, handle).await;
    }
    let (one, two) = (world.post(ANN, "1", "").await, world.post(ANN, "2", "").await);
    let follow = world.deed(BOB, "app.bsky.graph.follow", "f", ANN, 1_775_254_570_000).await;
    let like = world.deed(BOB, "app.bsky.feed.like", "l", &one, 1_775_254_571_000).await;
    world.deed(BOB, "app.bsky.feed.repost", "r", &one, 1_775_254_572_000).await;
    world.deed(BOB, "app.bsky.graph.follow", "e", EVE, 1_775_254_573_000).await;
    world.deed(EVE, "app.bsky.graph.follow", "f", ANN, 1_775_254_574_000).await;
    world.deed(BOB, "app.bsky.graph.block", "b", ANN, 1_775_254_575_000).await;
    let (gate, labeler) =
        (one.replace("feed.post", "feed.threadgate"), format!("at://{ANN}/app.bsky.labeler.service/self"));
    world.put(&gate, &format!(r#"{{"post":"{one}"}}"#), 1_775_254_576_000).await;
    world.put(&labeler, r#"{"policies":{}}"#, 1_775_254_577_000).await;
    for (kind, subject) in
        [(EdgeKind::Subscription, ANN), (EdgeKind::ThreadMute, one.as_str()), (EdgeKind::Bookmark, &one)]
    {
        world.writer.put_edge(kind, BOB, subject, 1_775_254_578_000).await.expect("stored");
    }
    world.writer.put_label(&one, BOB, "x", b"a label").await.expect("stored");
    [one, two, follow, like, gate, labeler]
}

async fn twenty_thousand_keys_of_every_list(servers: Servers) {
    let world = World::start(&servers, "contract", &[]).await;
    let [one, two, follow, like, gate, labeler] = fill(&world).await;
    keeps_its_places("GetPostRecords", &[&one, &two], missing_post, async |uris| {
        let request = GetPostRecordsRequest { uris, ..Default::default() };
        places!(world, get_post_records, request, records, meta)
    })
    .await;
    keeps_its_places("GetFollowRecords", &[&follow], missing_post, async |uris| {
        places!(world, get_follow_records, GetFollowRecordsRequest { uris }, records)
    })
    .await;
    keeps_its_places("GetLikeRecords", &[&like], missing_post, async |uris| {
        places!(world, get_like_records, GetLikeRecordsRequest { uris }, records)
    })
    .await;
    keeps_its_places("GetThreadGateRecords", &[&gate], missing_post, async |uris| {
        places!(world, get_thread_gate_records, GetThreadGateRecordsRequest { uris }, records)
    })
    .await;
    keeps_its_places("GetLabelerRecords", &[&labeler], missing_post, async |uris| {
        places!(world, get_labeler_records, GetLabelerRecordsRequest { uris }, records)
    })
    .await;
    // Labels have no places: they are told in the order of the subjects, as often as a subject is asked for.
    let subjects: Vec<String> =
        (0..KEYS).map(|place| if place % 2 == 0 { one.clone() } else { missing_post(place) }).collect();
    let request = GetLabelsRequest { subjects, issuers: vec![BOB.into()] };
    let answer = world.client.clone().get_labels(request).await.expect("labels").into_inner();
    assert_eq!(answer.labels, vec![b"a label".to_vec(); KEYS / 2]);
    keeps_its_places("GetActors", &[ANN, BOB], nobody, async |dids| {
        places!(world, get_actors, GetActorsRequest { dids, ..Default::default() }, actors)
    })
    .await;
    keeps_its_places("GetDidsByHandles", &["ann.test", "bob.test"], nobody, async |handles| {
        places!(world, get_dids_by_handles, GetDidsByHandlesRequest { handles, ..Default::default() }, dids)
    })
    .await;
    keeps_its_places("GetInteractionCounts", &[&one], missing_post, async |uris| {
        let request = GetInteractionCountsRequest { refs: refs(uris), ..Default::default() };
        places!(world, get_interaction_counts, request, likes, reposts, replies, quotes, bookmarks)
    })
    .await;
    keeps_its_places("GetCountsForUsers", &[ANN, BOB, EVE], nobody, async |dids| {
        let request = GetCountsForUsersRequest { dids };
        places!(
            world,
            get_counts_for_users,
            request,
            posts,
            reposts,
            following,
            followers,
            lists,
            feeds,
            starter_packs,
            drafts
        )
    })
    .await;
    keeps_its_places("GetLikesByActorAndSubjects", &[&one], missing_post, async |uris| {
        let request = GetLikesByActorAndSubjectsRequest { actor_did: BOB.into(), refs: refs(uris) };
        places!(world, get_likes_by_actor_and_subjects, request, uris)
    })
    .await;
    keeps_its_places("GetRepostsByActorAndSubjects", &[&one], missing_post, async |uris| {
        let request = GetRepostsByActorAndSubjectsRequest { actor_did: BOB.into(), refs: refs(uris) };
        places!(world, get_reposts_by_actor_and_subjects, request, uris)
    })
    .await;
    keeps_its_places("GetBookmarksByActorAndSubjects", &[&one], missing_post, async |uris| {
        let request = GetBookmarksByActorAndSubjectsRequest { actor_did: BOB.into(), uris };
        places!(world, get_bookmarks_by_actor_and_subjects, request, bookmarks)
    })
    .await;
    keeps_its_places("GetThreadMutesOnSubjects", &[&one], missing_post, async |thread_roots| {
        let request = GetThreadMutesOnSubjectsRequest { actor_did: BOB.into(), thread_roots };
        places!(world, get_thread_mutes_on_subjects, request, muted)
    })
    .await;
    keeps_its_places("GetActivitySubscriptionsByActorAndSubjects", &[ANN], nobody, async |subject_dids| {
        let request =
            GetActivitySubscriptionsByActorAndSubjectsRequest { actor_did: BOB.into(), subject_dids };
        places!(world, get_activity_subscriptions_by_actor_and_subjects, request, subscriptions)
    })
    .await;
    keeps_its_places("GetRelationships", &[ANN, EVE], nobody, async |target_dids| {
        let request = GetRelationshipsRequest { actor_did: BOB.into(), target_dids };
        places!(world, get_relationships, request, relationships)
    })
    .await;
    keeps_its_places("GetBlockExistence", &[ANN], nobody, async |others| {
        let pairs = others.into_iter().map(|b| RelationshipPair { a: BOB.into(), b }).collect();
        places!(world, get_block_existence, GetBlockExistenceRequest { pairs }, exists, blocks)
    })
    .await;
    // Bob follows Eve, who follows Ann.
    keeps_its_places("GetFollowsFollowing", &[ANN], nobody, async |target_dids| {
        let request = GetFollowsFollowingRequest { actor_did: BOB.into(), target_dids: target_dids.clone() };
        let answer = world.client.clone().get_follows_following(request).await.expect("known").into_inner();
        let places = answer.results.into_iter().zip(target_dids).map(|(place, target)| {
            assert_eq!(place.target_did, target);
            place.dids.join(" ")
        });
        places.collect()
    })
    .await;
    world.end().await;
}

async fn single_keys_that_are_none_have_empty_answers(servers: Servers) {
    let world = World::start(&servers, "single", &[]).await;
    fill(&world).await;
    let mut client = world.client.clone();
    for key in [odd(), vec![nobody(0)]].concat() {
        let did = key.clone();
        let refused = client.get_identity_by_did(GetIdentityByDidRequest { did }).await.expect_err("nobody");
        assert_eq!(refused.code(), Code::NotFound, "{key:?}: the one method that has no empty answer");
        let actor_did = key.clone();
        let rev = client.get_latest_rev(GetLatestRevRequest { actor_did }).await.expect("nobody's");
        assert_eq!(rev.into_inner().rev, "", "{key:?}");
        let request = GetFollowersRequest { actor_did: key.clone(), ..Default::default() };
        let followers = client.get_followers(request).await.expect("nobody's").into_inner();
        assert_eq!(followers, GetFollowersResponse::default(), "{key:?}");
        let request = GetTimelineRequest { actor_did: key.clone(), ..Default::default() };
        let timeline = client.get_timeline(request).await.expect("nobody's").into_inner();
        assert_eq!(timeline, GetTimelineResponse::default(), "{key:?}");
        let request = GetAuthorFeedRequest { actor_did: key.clone(), ..Default::default() };
        let feed = client.get_author_feed(request).await.expect("nobody's").into_inner();
        assert_eq!(feed, GetAuthorFeedResponse::default(), "{key:?}");
        let request = GetThreadRequest { post_uri: key.clone(), above: 100, below: 100 };
        let thread = client.get_thread(request).await.expect("of nothing").into_inner();
        assert_eq!(thread, GetThreadResponse::default(), "{key:?}");
        let request = GetNotificationsRequest { actor_did: key.clone(), ..Default::default() };
        let told = client.get_notifications(request).await.expect("nobody's").into_inner();
        assert_eq!(told, GetNotificationsResponse::default(), "{key:?}");
        let request = GetNotificationSeenRequest { actor_did: key.clone(), ..Default::default() };
        let seen = client.get_notification_seen(request).await.expect("nobody's").into_inner();
        assert_eq!(seen, GetNotificationSeenResponse::default(), "{key:?}");
        // Nor is it anybody whose deeds could be asked for.
        let request = GetLikesByActorAndSubjectsRequest { actor_did: key.clone(), refs: refs(odd()) };
        let likes = client.get_likes_by_actor_and_subjects(request).await.expect("nobody's").into_inner();
        assert_eq!(likes.uris, vec![""; odd().len()], "{key:?}");
        let request = GetRelationshipsRequest { actor_did: key.clone(), target_dids: vec![ANN.into()] };
        let known = client.get_relationships(request).await.expect("nobody's").into_inner();
        assert_eq!(known.relationships, [Relationships::default()], "{key:?}");
        let request = GetFollowsFollowingRequest { actor_did: key.clone(), target_dids: vec![ANN.into()] };
        let known = client.get_follows_following(request).await.expect("nobody's").into_inner();
        assert!(known.results.len() == 1 && known.results[0].dids.is_empty(), "{key:?}");
    }
    let request = GetIdentityByDidRequest { did: ANN.into() };
    let ann = client.get_identity_by_did(request).await.expect("Ann").into_inner();
    assert_eq!((ann.did.as_str(), ann.handle.as_str()), (ANN, "ann.test"));
    let rev = client.get_latest_rev(GetLatestRevRequest { actor_did: ANN.into() }).await.expect("Ann's");
    assert_eq!(rev.into_inner().rev, format!("rev-of-{ANN}"));
    world.end().await;
}

async fn what_is_not_served_is_unimplemented(servers: Servers) {
    let world = World::start(&servers, "unserved", &[]).await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", world.running.address));
    let channel = channel.expect("an address").connect().await.expect("connected");
    let mut grpc = tonic::client::Grpc::new(channel);
    // The methods of weir's preset, and one that only the whole contract has.
    let contract = include_str!("../../../proxy/rpc/presets/bsky.proto");
    let methods: Vec<&str> = contract
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
        .chain(["GetListMembers"])
        .collect();
    assert!(SERVED.iter().all(|served| methods.contains(served)), "the contract has what is served");
    for method in &methods {
        grpc.ready().await.expect("ready");
        let path: PathAndQuery = format!("/bsky.Service/{method}").parse().expect("a path");
        // An empty message is one of every kind.
        let codec = ProstCodec::<PingRequest, PingResponse>::default();
        let answer = grpc.unary(Request::new(PingRequest {}), path, codec).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let wanted = match (SERVED.contains(method), *method) {
            (false, _) => Code::Unimplemented,
            (true, "GetIdentityByDid") => Code::NotFound,
            (true, _) => Code::Ok,
        };
        assert_eq!(code, wanted, "{method}");
    }
    eprintln!("{} methods, {} of them served", methods.len(), SERVED.len());
    world.end().await;
}
