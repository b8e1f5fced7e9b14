//! Counters, set to what they must be by adding what is missing: it may be done again, with one writer at a time.

use super::people::Post;
use crate::store::rows::{
    ACTOR_COUNTS, ActorCountRow, FEED, FEED_BEFORE, FOLLOWERS, FOLLOWERS_BEFORE, FeedRow, INTERACTIONS,
    InteractionRow,
};
use crate::store::{Store, StoreError};
use crate::write::rows::Counted;
use scylla::value::Counter;

/// Rows that are read at once to count them.
const PAGE: i32 = 1_000;

async fn raise(
    store: &Store,
    counted: Counted,
    key: &str,
    to: i64,
    from: Option<Counter>,
) -> Result<(), StoreError> {
    match to - from.map_or(0, |counter| counter.0) {
        0 => Ok(()),
        missing => counted.add(store, key, missing).await,
    }
}

/// The counts of a thread's posts.
pub(super) async fn posts(store: &Store, posts: &[Post]) -> Result<(), StoreError> {
    for posts in posts.chunks(store.keys_per_query()) {
        let uris: Vec<&str> = posts.iter().map(|post| post.record.uri.as_str()).collect();
        let rows: Vec<InteractionRow> = store.rows(INTERACTIONS, (uris,)).await?;
        for post in posts {
            let uri = post.record.uri.as_str();
            let now = rows.iter().find(|row| row.uri == uri);
            let likes = post.likes as i64;
            let reposts = post.deeds.len() as i64 - likes;
            raise(store, Counted::Likes, uri, likes, now.and_then(|row| row.likes)).await?;
            raise(store, Counted::Reposts, uri, reposts, now.and_then(|row| row.reposts)).await?;
            raise(store, Counted::Replies, uri, i64::from(post.replies), now.and_then(|row| row.replies))
                .await?;
        }
    }
    Ok(())
}

/// The counts of an account, from the rows that are counted: who replies to whom is nowhere kept by account.
pub(super) async fn account(store: &Store, did: &str) -> Result<(), StoreError> {
    let (mut posts, mut reposts, mut last) = (0, 0, None::<String>);
    loop {
        let rows: Vec<FeedRow> = match &last {
            None => store.rows(FEED, (did, PAGE)).await?,
            Some(place) => store.rows(FEED_BEFORE, (did, place, PAGE)).await?,
        };
        let reposted = rows.iter().filter(|row| row.repost_uri.is_some()).count() as i64;
        reposts += reposted;
        posts += rows.len() as i64 - reposted;
        match rows.into_iter().last() {
            Some(row) => last = Some(row.place),
            None => break,
        }
    }
    let (mut followers, mut last) = (0, None::<String>);
    loop {
        type Row = (String, Option<String>, Option<String>);
        let rows: Vec<Row> = match &last {
            None => store.rows(FOLLOWERS, (did, PAGE)).await?,
            Some(place) => store.rows(FOLLOWERS_BEFORE, (did, place, PAGE)).await?,
        };
        followers += rows.len() as i64;
        match rows.into_iter().last() {
            Some(row) => last = Some(row.0),
            None => break,
        }
    }
    let (mut following, mut last) = (0, String::new());
    loop {
        let select = "SELECT subject FROM follow_by_actor WHERE actor_did = ? AND subject > ? LIMIT ?";
        let rows: Vec<(String,)> = store.rows(select, (did, &last, PAGE)).await?;
        following += rows.len() as i64;
        match rows.into_iter().last() {
            Some(row) => last = row.0,
            None => break,
        }
    }
    let now: Option<ActorCountRow> = store.rows(ACTOR_COUNTS, (vec![did],)).await?.into_iter().next();
    let now = now.as_ref();
    raise(store, Counted::ActorPosts, did, posts, now.and_then(|row| row.posts)).await?;
    raise(store, Counted::ActorReposts, did, reposts, now.and_then(|row| row.reposts)).await?;
    raise(store, Counted::Followers, did, followers, now.and_then(|row| row.followers)).await?;
    raise(store, Counted::Following, did, following, now.and_then(|row| row.following)).await
}
