//! Counts: parallel arrays, each with a place per key.

use crate::bsky::*;
use crate::read::kinds::{ActorCounts, Interactions};
use crate::read::plan::Plan;
use crate::read::values::Counts;
use crate::read::{Call, Failure, Kind, Reads};
use rustc_hash::FxHashSet;

/// `COLUMNS` arrays with a place per key; 0 where nothing was counted.
async fn columns<const COLUMNS: usize, K: Kind<Value = Counts>>(
    reads: &Reads,
    call: &Call,
    kind: &K,
    names: &[&str],
    past: &FxHashSet<String>,
) -> Result<[Vec<i32>; COLUMNS], Failure> {
    let plan = Plan::new(names.iter().copied());
    let found = reads.read_past(call, kind, &plan, past).await?;
    let column = |index: usize| {
        plan.slots(&found)
            .map(|slot| slot.and_then(|counts| counts.counts.get(index)).copied().unwrap_or_default())
            .collect()
    };
    Ok(std::array::from_fn(column))
}

pub(super) async fn interactions(
    reads: &Reads,
    call: &Call,
    request: GetInteractionCountsRequest,
) -> Result<GetInteractionCountsResponse, Failure> {
    let uris: Vec<&str> = request.refs.iter().map(|subject| subject.uri.as_str()).collect();
    // Of posts by these accounts the counts are read past the cache.
    let authors: Vec<String> = request.skip_cache_for_dids.iter().map(|did| format!("at://{did}/")).collect();
    let by_them = |uri: &&&str| authors.iter().any(|author| uri.starts_with(author.as_str()));
    let past = uris.iter().filter(by_them).map(|uri| (*uri).to_owned()).collect();
    let [likes, reposts, replies, quotes, bookmarks] =
        columns(reads, call, &Interactions, &uris, &past).await?;
    Ok(GetInteractionCountsResponse { likes, reposts, replies, quotes, bookmarks })
}

pub(super) async fn users(
    reads: &Reads,
    call: &Call,
    request: GetCountsForUsersRequest,
) -> Result<GetCountsForUsersResponse, Failure> {
    let dids: Vec<&str> = request.dids.iter().map(String::as_str).collect();
    let [posts, reposts, following, followers, lists, feeds, starter_packs, drafts] =
        columns(reads, call, &ActorCounts, &dids, &FxHashSet::default()).await?;
    Ok(GetCountsForUsersResponse {
        posts,
        reposts,
        following,
        followers,
        lists,
        feeds,
        starter_packs,
        drafts,
    })
}
