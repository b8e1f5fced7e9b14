//! Who did what to whom.

use crate::bsky::*;
use crate::read::edges::{Acquaintances, Blocks, EdgeKind, EdgesOf, FollowList, FollowsOn, block_pair};
use crate::read::plan::Plan;
use crate::read::values::Edge;
use crate::read::{Call, Failure, Reads};
use rustc_hash::FxHashMap;

/// The edges of one account, and their places.
struct Edges {
    plan: Plan,
    found: FxHashMap<String, Edge>,
}

impl Edges {
    async fn find<'a>(
        reads: &Reads,
        call: &Call,
        kind: EdgeKind,
        actor: &str,
        subjects: impl Iterator<Item = &'a str>,
    ) -> Result<Edges, Failure> {
        let plan = Plan::new(subjects);
        // Nobody did nothing, and CQL takes no empty key.
        let found = match crate::cache::key::can_be_asked(actor) {
            true => reads.read(call, &EdgesOf { kind, actor }, &plan).await?,
            false => FxHashMap::default(),
        };
        Ok(Edges { plan, found })
    }

    fn slots(&self) -> impl Iterator<Item = Option<&Edge>> {
        self.plan.slots(&self.found)
    }

    /// An address per place; empty where there is none.
    fn uris(&self) -> Vec<String> {
        self.slots().map(uri).collect()
    }
}

fn uri(slot: Option<&Edge>) -> String {
    slot.map(|edge| edge.uri.clone()).unwrap_or_default()
}

pub(super) async fn likes(
    reads: &Reads,
    call: &Call,
    request: GetLikesByActorAndSubjectsRequest,
) -> Result<GetLikesByActorAndSubjectsResponse, Failure> {
    let subjects = request.refs.iter().map(|subject| subject.uri.as_str());
    let edges = Edges::find(reads, call, EdgeKind::Like, &request.actor_did, subjects).await?;
    Ok(GetLikesByActorAndSubjectsResponse { uris: edges.uris() })
}

pub(super) async fn reposts(
    reads: &Reads,
    call: &Call,
    request: GetRepostsByActorAndSubjectsRequest,
) -> Result<GetRepostsByActorAndSubjectsResponse, Failure> {
    let subjects = request.refs.iter().map(|subject| subject.uri.as_str());
    let edges = Edges::find(reads, call, EdgeKind::Repost, &request.actor_did, subjects).await?;
    Ok(GetRepostsByActorAndSubjectsResponse { uris: edges.uris() })
}

pub(super) async fn bookmarks(
    reads: &Reads,
    call: &Call,
    request: GetBookmarksByActorAndSubjectsRequest,
) -> Result<GetBookmarksByActorAndSubjectsResponse, Failure> {
    let subjects = request.uris.iter().map(String::as_str);
    let edges = Edges::find(reads, call, EdgeKind::Bookmark, &request.actor_did, subjects).await?;
    let bookmark = |(slot, subject): (Option<&Edge>, &String)| match slot {
        None => Bookmark::default(),
        Some(edge) => Bookmark {
            r#ref: Some(StashRef {
                actor_did: request.actor_did.clone(),
                namespace: "app.bsky.bookmark.defs#bookmark".to_owned(),
                key: edge.key.clone(),
            }),
            subject_uri: subject.clone(),
            subject_cid: edge.cid.clone(),
            indexed_at: edge.indexed_at,
        },
    };
    Ok(GetBookmarksByActorAndSubjectsResponse {
        bookmarks: edges.slots().zip(&request.uris).map(bookmark).collect(),
    })
}

pub(super) async fn thread_mutes(
    reads: &Reads,
    call: &Call,
    request: GetThreadMutesOnSubjectsRequest,
) -> Result<GetThreadMutesOnSubjectsResponse, Failure> {
    let roots = request.thread_roots.iter().map(String::as_str);
    let edges = Edges::find(reads, call, EdgeKind::ThreadMute, &request.actor_did, roots).await?;
    Ok(GetThreadMutesOnSubjectsResponse { muted: edges.slots().map(|slot| slot.is_some()).collect() })
}

pub(super) async fn subscriptions(
    reads: &Reads,
    call: &Call,
    request: GetActivitySubscriptionsByActorAndSubjectsRequest,
) -> Result<GetActivitySubscriptionsByActorAndSubjectsResponse, Failure> {
    let subjects = request.subject_dids.iter().map(String::as_str);
    let edges = Edges::find(reads, call, EdgeKind::Subscription, &request.actor_did, subjects).await?;
    let subscription = |(slot, subject): (Option<&Edge>, &String)| {
        let edge = slot.cloned().unwrap_or_default();
        ActivitySubscription {
            actor_did: request.actor_did.clone(),
            namespace: "app.bsky.notification.defs#subjectActivitySubscription".to_owned(),
            key: edge.key,
            post: edge.posts.then_some(PostActivitySubscription {}),
            reply: edge.replies.then_some(ReplyActivitySubscription {}),
            subject_did: slot.map(|_| subject.clone()).unwrap_or_default(),
            indexed_at: edge.indexed_at,
        }
    };
    Ok(GetActivitySubscriptionsByActorAndSubjectsResponse {
        subscriptions: edges.slots().zip(&request.subject_dids).map(subscription).collect(),
    })
}

/// Lists are not kept: what they mute or block is left out.
pub(super) async fn relationships(
    reads: &Reads,
    call: &Call,
    request: GetRelationshipsRequest,
) -> Result<GetRelationshipsResponse, Failure> {
    let (actor, targets) = (request.actor_did.as_str(), &request.target_dids);
    if !crate::cache::key::can_be_asked(actor) {
        return Ok(GetRelationshipsResponse { relationships: vec![Relationships::default(); targets.len()] });
    }
    let (to_them, to_us) =
        (block_pairs(targets, |did| (actor, did)), block_pairs(targets, |did| (did, actor)));
    let pairs = Plan::new(to_them.iter().chain(&to_us).map(String::as_str));
    let by_target = Plan::new(targets.iter().map(String::as_str));
    let names = || targets.iter().map(String::as_str);
    let on_them = FollowsOn { subject: actor };
    let (mutes, follows, followed, blocks) = futures_util::try_join!(
        Edges::find(reads, call, EdgeKind::Mute, actor, names()),
        Edges::find(reads, call, EdgeKind::Follow, actor, names()),
        reads.read(call, &on_them, &by_target),
        reads.read(call, &Blocks, &pairs),
    )?;
    let mut blocked: Vec<String> = pairs.slots(&blocks).map(uri).collect();
    let blocked_by = blocked.split_off(targets.len());
    let rows =
        mutes.slots().zip(follows.slots()).zip(by_target.slots(&followed)).zip(blocked).zip(blocked_by);
    let relationships = rows.map(|((((mute, follow), followed), blocking), blocked_by)| Relationships {
        muted: mute.is_some(),
        blocked_by,
        blocking,
        following: uri(follow),
        followed_by: uri(followed),
        ..Relationships::default()
    });
    Ok(GetRelationshipsResponse { relationships: relationships.collect() })
}

/// A name per place; empty, and so never asked, where one of the two is no name.
fn block_pairs<'a>(targets: &'a [String], pair: impl Fn(&'a str) -> (&'a str, &'a str)) -> Vec<String> {
    targets.iter().map(|did| pair_of(pair(did))).collect()
}

fn pair_of((actor, subject): (&str, &str)) -> String {
    // A name with a space in it would be another pair's.
    let is_name = |name: &str| !name.is_empty() && !name.contains(' ');
    if is_name(actor) && is_name(subject) { block_pair(actor, subject) } else { String::new() }
}

pub(super) async fn blocks(
    reads: &Reads,
    call: &Call,
    request: GetBlockExistenceRequest,
) -> Result<GetBlockExistenceResponse, Failure> {
    let pairs = &request.pairs;
    let forth = pairs.iter().map(|pair| pair_of((&pair.a, &pair.b)));
    let back = pairs.iter().map(|pair| pair_of((&pair.b, &pair.a)));
    let names: Vec<String> = forth.chain(back).collect();
    let plan = Plan::new(names.iter().map(String::as_str));
    let found = reads.read(call, &Blocks, &plan).await?;
    let mut blocking: Vec<String> = plan.slots(&found).map(uri).collect();
    let blocked_by = blocking.split_off(pairs.len());
    let blocks: Vec<BlockExistence> = blocking
        .into_iter()
        .zip(blocked_by)
        .map(|(blocking, blocked_by)| BlockExistence { blocked_by, blocking, ..BlockExistence::default() })
        .collect();
    let exists =
        blocks.iter().map(|block| !block.blocking.is_empty() || !block.blocked_by.is_empty()).collect();
    Ok(GetBlockExistenceResponse { exists, blocks })
}

pub(super) async fn follows_following(
    reads: &Reads,
    call: &Call,
    request: GetFollowsFollowingRequest,
) -> Result<GetFollowsFollowingResponse, Failure> {
    let viewer = request.actor_did.as_str();
    let list = FollowList { most: reads.bounds.follows_max };
    let mut lists = reads.read(call, &list, &Plan::new([viewer])).await?;
    let follows = lists.remove(viewer).map(|list| list.texts).unwrap_or_default();
    let plan = Plan::new(request.target_dids.iter().map(String::as_str));
    let found = match follows.is_empty() {
        true => FxHashMap::default(),
        false => reads.read(call, &Acquaintances { viewer, follows: &follows }, &plan).await?,
    };
    let results = plan.slots(&found).zip(&request.target_dids).map(|(slot, target)| FollowsFollowing {
        target_did: target.clone(),
        dids: slot.map(|known| known.texts.clone()).unwrap_or_default(),
    });
    Ok(GetFollowsFollowingResponse { results: results.collect() })
}
