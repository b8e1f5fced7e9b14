//! The contract: which method is served by which function, and what every call goes through: it is admitted or refused, has
//! a deadline, is counted, and its failure becomes a gRPC code.
//!
//! Refusals are RESOURCE_EXHAUSTED. Never UNAVAILABLE or ABORTED: the AppView's client sends those three more times at
//! once.

mod actors;
mod admission;
mod counts;
mod edges;
mod feeds;
mod notifications;
mod posts;
mod records;
mod threads;

pub use admission::{Admission, Gate};
pub use posts::Front;

use crate::bsky::service_server::Service;
use crate::bsky::*;
use crate::bulk::Bulk;
use crate::read::{Failure, Reads};
use crate::unbounded::Unbounded;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The data plane.
pub struct DataPlane {
    /// How it reads.
    pub reads: Arc<Reads>,
    /// Where calls for many keys go, where they have threads of their own.
    pub bulk: Option<Bulk>,
    /// Which calls are let in.
    pub gate: Gate,
    /// The copy of the April bug, where that was asked for.
    pub unbounded: Option<Arc<Unbounded>>,
}

impl DataPlane {
    /// Where a call for so many keys goes; `None`: among the small ones.
    fn bulk_for(&self, keys: usize) -> Option<&Bulk> {
        self.bulk.as_ref().filter(|bulk| keys > bulk.keys)
    }
}

/// Implements the methods: `NAME, REQUEST -> REPLY, keys of a request, function;`.
macro_rules! methods {
    ($($name:ident, $method:literal, $request:ty => $reply:ty, $keys:expr, $function:path;)*) => {
        #[tonic::async_trait]
        impl Service for DataPlane {
            // GetPostRecords has a way of its own (posts.rs).
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$reply>, Status> {
                let keys: fn(&$request) -> usize = $keys;
                let keys = keys(request.get_ref());
                let admitted = self.gate.admit($method, keys, request.metadata())?;
                let (call, request) = (admitted.call(), request.into_inner());
                let Some(bulk) = self.bulk_for(keys) else {
                    return admitted.run($function(&self.reads, &call, request)).await;
                };
                let reads = bulk.reads.clone();
                let there = bulk.run(async move { $function(&reads, &call, request).await });
                admitted.run(async { there.await.unwrap_or(Err(Failure::Ended)) }).await
            })*
        }
    };
}

methods! {
    ping, "Ping", PingRequest => PingResponse, |_| 0, records::ping;
    get_follow_records, "GetFollowRecords", GetFollowRecordsRequest => GetFollowRecordsResponse,
        |request| request.uris.len(), records::follows;
    get_like_records, "GetLikeRecords", GetLikeRecordsRequest => GetLikeRecordsResponse,
        |request| request.uris.len(), records::likes;
    get_thread_gate_records, "GetThreadGateRecords", GetThreadGateRecordsRequest => GetThreadGateRecordsResponse,
        |request| request.uris.len(), records::thread_gates;
    get_labeler_records, "GetLabelerRecords", GetLabelerRecordsRequest => GetLabelerRecordsResponse,
        |request| request.uris.len(), records::labelers;
    get_labels, "GetLabels", GetLabelsRequest => GetLabelsResponse,
        |request| request.subjects.len(), records::labels;
    get_actors, "GetActors", GetActorsRequest => GetActorsResponse,
        |request| request.dids.len(), actors::actors;
    get_dids_by_handles, "GetDidsByHandles", GetDidsByHandlesRequest => GetDidsByHandlesResponse,
        |request| request.handles.len(), actors::dids_by_handles;
    get_identity_by_did, "GetIdentityByDid", GetIdentityByDidRequest => GetIdentityByDidResponse,
        |_| 1, actors::identity;
    get_latest_rev, "GetLatestRev", GetLatestRevRequest => GetLatestRevResponse,
        |_| 1, actors::latest_rev;
    get_interaction_counts, "GetInteractionCounts", GetInteractionCountsRequest => GetInteractionCountsResponse,
        |request| request.refs.len(), counts::interactions;
    get_counts_for_users, "GetCountsForUsers", GetCountsForUsersRequest => GetCountsForUsersResponse,
        |request| request.dids.len(), counts::users;
    get_likes_by_actor_and_subjects, "GetLikesByActorAndSubjects",
        GetLikesByActorAndSubjectsRequest => GetLikesByActorAndSubjectsResponse,
        |request| request.refs.len(), edges::likes;
    get_reposts_by_actor_and_subjects, "GetRepostsByActorAndSubjects",
        GetRepostsByActorAndSubjectsRequest => GetRepostsByActorAndSubjectsResponse,
        |request| request.refs.len(), edges::reposts;
    get_bookmarks_by_actor_and_subjects, "GetBookmarksByActorAndSubjects",
        GetBookmarksByActorAndSubjectsRequest => GetBookmarksByActorAndSubjectsResponse,
        |request| request.uris.len(), edges::bookmarks;
    get_thread_mutes_on_subjects, "GetThreadMutesOnSubjects",
        GetThreadMutesOnSubjectsRequest => GetThreadMutesOnSubjectsResponse,
        |request| request.thread_roots.len(), edges::thread_mutes;
    get_activity_subscriptions_by_actor_and_subjects, "GetActivitySubscriptionsByActorAndSubjects",
        GetActivitySubscriptionsByActorAndSubjectsRequest => GetActivitySubscriptionsByActorAndSubjectsResponse,
        |request| request.subject_dids.len(), edges::subscriptions;
    get_relationships, "GetRelationships", GetRelationshipsRequest => GetRelationshipsResponse,
        |request| request.target_dids.len(), edges::relationships;
    get_block_existence, "GetBlockExistence", GetBlockExistenceRequest => GetBlockExistenceResponse,
        |request| request.pairs.len(), edges::blocks;
    get_follows_following, "GetFollowsFollowing", GetFollowsFollowingRequest => GetFollowsFollowingResponse,
        |request| request.target_dids.len(), edges::follows_following;
    get_followers, "GetFollowers", GetFollowersRequest => GetFollowersResponse,
        |_| 1, feeds::followers;
    get_timeline, "GetTimeline", GetTimelineRequest => GetTimelineResponse,
        |_| 1, feeds::timeline;
    get_author_feed, "GetAuthorFeed", GetAuthorFeedRequest => GetAuthorFeedResponse,
        |_| 1, feeds::author_feed;
    get_thread, "GetThread", GetThreadRequest => GetThreadResponse,
        |_| 1, threads::thread;
    get_notifications, "GetNotifications", GetNotificationsRequest => GetNotificationsResponse,
        |_| 1, notifications::notifications;
    get_notification_seen, "GetNotificationSeen", GetNotificationSeenRequest => GetNotificationSeenResponse,
        |_| 1, notifications::seen;
}
