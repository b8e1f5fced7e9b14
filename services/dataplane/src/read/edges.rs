//! Who did what to whom: what the cache calls it and how the database is asked.

use super::kinds::{Found, each, limit};
use super::values::{Edge, Texts};
use super::{Keep, Kind};
use crate::cache::key;
use crate::store::Reader;
use crate::store::rows::time;
use scylla::value::CqlTimestamp;

/// What one account did of one kind, by subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EdgeKind {
    /// Bookmarks of posts.
    Bookmark,
    /// Follows of accounts.
    Follow,
    /// Likes of posts.
    Like,
    /// Mutes of accounts.
    Mute,
    /// Reposts of posts.
    Repost,
    /// Activity subscriptions to accounts.
    Subscription,
    /// Mutes of threads, by root.
    ThreadMute,
}

impl EdgeKind {
    /// What the cache calls such an edge.
    pub fn cache_key(self, actor: &str, subject: &str) -> String {
        let kind = match self {
            EdgeKind::Bookmark => "eb",
            EdgeKind::Follow => "ef",
            EdgeKind::Like => "el",
            EdgeKind::Mute => "em",
            EdgeKind::Repost => "er",
            EdgeKind::Subscription => "es",
            EdgeKind::ThreadMute => "et",
        };
        key::of_pair(kind, actor, subject)
    }
}

/// Edges of an account, by subject.
pub struct EdgesOf<'a> {
    /// Of which kind.
    pub kind: EdgeKind,
    /// Whose.
    pub actor: &'a str,
}

impl Kind for EdgesOf<'_> {
    type Value = Edge;
    const NAME: &'static str = "edge";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, subject: &str) -> String {
        self.kind.cache_key(self.actor, subject)
    }

    async fn load(&self, store: Reader<'_>, subjects: &[String]) -> Found<Edge> {
        type Dated = (String, Option<CqlTimestamp>);
        type Bookmark = (String, Option<String>, Option<String>, Option<CqlTimestamp>);
        type Subscription = (String, Option<String>, Option<bool>, Option<bool>, Option<CqlTimestamp>);
        let values = (self.actor, subjects);
        let with_uri = match self.kind {
            EdgeKind::Follow => {
                "SELECT subject, uri FROM follow_by_actor WHERE actor_did = ? AND subject IN ?"
            }
            EdgeKind::Like => "SELECT subject, uri FROM like_by_actor WHERE actor_did = ? AND subject IN ?",
            EdgeKind::Repost => {
                "SELECT subject, uri FROM repost_by_actor WHERE actor_did = ? AND subject IN ?"
            }
            EdgeKind::Mute | EdgeKind::ThreadMute => {
                let select = match self.kind {
                    EdgeKind::Mute => {
                        "SELECT subject, created_at FROM mute_by_actor WHERE actor_did = ? AND subject IN ?"
                    }
                    _ => {
                        "SELECT subject, created_at FROM thread_mute_by_actor WHERE actor_did = ? AND subject IN ?"
                    }
                };
                let rows = store.rows::<Dated>(select, values).await?;
                let edge = |(subject, at)| (subject, Edge { indexed_at: time(at), ..Edge::default() });
                return Ok(rows.into_iter().map(edge).collect());
            }
            EdgeKind::Bookmark => {
                let select = "SELECT subject, subject_cid, bookmark_key, indexed_at FROM bookmark_by_actor \
                              WHERE actor_did = ? AND subject IN ?";
                let rows = store.rows::<Bookmark>(select, values).await?;
                let edge = |(subject, cid, key, at): Bookmark| {
                    let (cid, key) = (cid.unwrap_or_default(), key.unwrap_or_default());
                    (subject, Edge { cid, key, indexed_at: time(at), ..Edge::default() })
                };
                return Ok(rows.into_iter().map(edge).collect());
            }
            EdgeKind::Subscription => {
                let select = "SELECT subject, subscription_key, posts, replies, indexed_at FROM subscription_by_actor \
                              WHERE actor_did = ? AND subject IN ?";
                let rows = store.rows::<Subscription>(select, values).await?;
                let edge = |(subject, key, posts, replies, at): Subscription| {
                    let (posts, replies) = (posts.unwrap_or_default(), replies.unwrap_or_default());
                    let key = key.unwrap_or_default();
                    (subject, Edge { key, posts, replies, indexed_at: time(at), ..Edge::default() })
                };
                return Ok(rows.into_iter().map(edge).collect());
            }
        };
        let rows = store.rows::<(String, Option<String>)>(with_uri, values).await?;
        let edge = |(subject, uri): (String, Option<String>)| {
            (subject, Edge { uri: uri.unwrap_or_default(), ..Edge::default() })
        };
        Ok(rows.into_iter().map(edge).collect())
    }
}

/// Follows of an account by others, by follower: the same entries of the cache as [`EdgesOf`] follows, other partitions.
pub struct FollowsOn<'a> {
    /// Who is followed.
    pub subject: &'a str,
}

impl Kind for FollowsOn<'_> {
    type Value = Edge;
    const NAME: &'static str = "edge";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, actor: &str) -> String {
        EdgeKind::Follow.cache_key(actor, self.subject)
    }

    async fn load(&self, store: Reader<'_>, actors: &[String]) -> Found<Edge> {
        let select = "SELECT actor_did, uri FROM follow_by_actor WHERE actor_did IN ? AND subject = ?";
        let rows = store.rows::<(String, Option<String>)>(select, (actors, self.subject)).await?;
        let edge = |(actor, uri): (String, Option<String>)| {
            (actor, Edge { uri: uri.unwrap_or_default(), ..Edge::default() })
        };
        Ok(rows.into_iter().map(edge).collect())
    }
}

/// Blocks by pair.
pub struct Blocks;

/// The name of a block: who, then whom.
pub fn block_pair(actor: &str, subject: &str) -> String {
    format!("{actor} {subject}")
}

impl Kind for Blocks {
    type Value = Edge;
    const NAME: &'static str = "block";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, pair: &str) -> String {
        match pair.split_once(' ') {
            Some((actor, subject)) => key::of_pair("b", actor, subject),
            None => key::of("b", pair),
        }
    }

    async fn load(&self, store: Reader<'_>, pairs: &[String]) -> Found<Edge> {
        let select = "SELECT pair, uri FROM block_by_pair WHERE pair IN ?";
        let rows = store.rows::<(String, Option<String>)>(select, (pairs,)).await?;
        let edge = |(pair, uri): (String, Option<String>)| {
            (pair, Edge { uri: uri.unwrap_or_default(), ..Edge::default() })
        };
        Ok(rows.into_iter().map(edge).collect())
    }
}

/// Whom an account follows, the first [`FollowList::most`] by DID.
pub struct FollowList {
    /// `--follows-max`.
    pub most: usize,
}

/// What the cache calls the list of an account's follows.
pub fn follow_list_key(actor: &str) -> String {
    key::of("lf", actor)
}

impl Kind for FollowList {
    type Value = Texts;
    const NAME: &'static str = "follow_list";
    const KEEP: Keep = Keep::Lists;
    const PER_LOAD: Option<usize> = Some(1);

    fn cache_key(&self, actor: &str) -> String {
        follow_list_key(actor)
    }

    async fn load(&self, store: Reader<'_>, actors: &[String]) -> Found<Texts> {
        let select = "SELECT subject FROM follow_by_actor WHERE actor_did = ? LIMIT ?";
        each(actors, |actor: String| async move {
            let rows = store.rows::<(String,)>(select, (actor, limit(self.most))).await?;
            Ok((!rows.is_empty()).then(|| Texts { texts: rows.into_iter().map(|row| row.0).collect() }))
        })
        .await
    }
}

/// Who of the viewer's follows follows a target, by target.
pub struct Acquaintances<'a> {
    /// Who asks.
    pub viewer: &'a str,
    /// Whom the viewer follows.
    pub follows: &'a [String],
}

impl Kind for Acquaintances<'_> {
    type Value = Texts;
    const NAME: &'static str = "acquaintances";
    const KEEP: Keep = Keep::Lists;
    const PER_LOAD: Option<usize> = Some(1);

    fn cache_key(&self, target: &str) -> String {
        key::of_pair("aq", self.viewer, target)
    }

    async fn load(&self, store: Reader<'_>, targets: &[String]) -> Found<Texts> {
        let select = "SELECT actor_did FROM follow_by_actor WHERE actor_did IN ? AND subject = ?";
        each(targets, |target: String| async move {
            let mut known = Vec::new();
            for follows in self.follows.chunks(store.keys_per_query()) {
                known.extend(
                    store
                        .rows::<(String,)>(select, (follows, target.as_str()))
                        .await?
                        .into_iter()
                        .map(|row| row.0),
                );
            }
            known.sort();
            Ok((!known.is_empty()).then_some(Texts { texts: known }))
        })
        .await
    }
}
