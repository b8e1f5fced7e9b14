//! Every kind of value but edges between accounts ([`super::edges`]): what the cache calls it and how the database is asked.

use super::values::{
    Counts, FeedLine, Head, Label, Labels, Name, PlacedUri, Places, Seen, StoredActor, StoredRecord, Texts,
};
use super::{Keep, Kind};
use crate::bsky::{ActorInfo, PostRecordMeta, Record};
use crate::cache::key;
use crate::store::rows::{self, ActorCountRow, ActorRow, FeedRow, InteractionRow, RecordRow, count, time};
use crate::store::{Reader, StoreError};
use rustc_hash::FxHashMap;
use scylla::value::CqlTimestamp;

/// Lines of an author's feed that the cache holds: a page of a timeline at its usual largest.
pub const HEAD_LINES: usize = 100;

pub(super) type Found<V> = Result<FxHashMap<String, V>, StoreError>;

/// Records by address.
pub struct Records;

/// The record of a row, and what is told of it.
pub fn stored(row: RecordRow) -> (String, StoredRecord) {
    let takedown_ref = row.takedown_ref.unwrap_or_default();
    let record = Record {
        record: row.record.unwrap_or_else(|| b"null".to_vec()).into(),
        cid: row.cid.unwrap_or_default(),
        indexed_at: time(row.indexed_at),
        taken_down: row.taken_down.unwrap_or(!takedown_ref.is_empty()),
        created_at: time(row.created_at),
        sorted_at: time(row.sorted_at),
        takedown_ref,
        tags: row.tags.unwrap_or_default(),
    };
    let meta = PostRecordMeta {
        violates_thread_gate: row.violates_thread_gate.unwrap_or_default(),
        has_media: row.has_media.unwrap_or_default(),
        is_reply: row.parent_uri.is_some(),
        violates_embedding_rules: row.violates_embedding_rules.unwrap_or_default(),
        has_post_gate: row.has_post_gate.unwrap_or_default(),
        has_thread_gate: row.has_thread_gate.unwrap_or_default(),
        has_video: row.has_video.unwrap_or_default(),
    };
    let (root_uri, parent_uri) = (row.root_uri.unwrap_or_default(), row.parent_uri.unwrap_or_default());
    (row.uri, StoredRecord { record, meta, root_uri, parent_uri })
}

impl Kind for Records {
    type Value = StoredRecord;
    const NAME: &'static str = "record";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, uri: &str) -> String {
        key::of("r", uri)
    }

    async fn load(&self, store: Reader<'_>, uris: &[String]) -> Found<StoredRecord> {
        let rows = store.rows::<RecordRow>(rows::RECORDS, (uris,)).await?;
        Ok(rows.into_iter().map(stored).collect())
    }
}

/// Accounts by DID.
pub struct Actors;

impl Kind for Actors {
    type Value = StoredActor;
    const NAME: &'static str = "actor";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, did: &str) -> String {
        key::of("a", did)
    }

    async fn load(&self, store: Reader<'_>, dids: &[String]) -> Found<StoredActor> {
        let rows = store.rows::<ActorRow>(rows::ACTORS, (dids,)).await?;
        let actor = |row: ActorRow| {
            let takedown_ref = row.takedown_ref.unwrap_or_default();
            let info = ActorInfo {
                exists: true,
                handle: row.handle.unwrap_or_default(),
                taken_down: row.taken_down.unwrap_or(!takedown_ref.is_empty()),
                takedown_ref,
                tombstoned_at: time(row.tombstoned_at),
                labeler: row.labeler.unwrap_or_default(),
                allow_incoming_chats_from: row.allow_incoming_chats_from.unwrap_or_default(),
                upstream_status: row.upstream_status.unwrap_or_default(),
                priority_notifications: row.priority_notifications.unwrap_or_default(),
                trusted_verifier: row.trusted_verifier.unwrap_or_default(),
                tags: row.tags.unwrap_or_default(),
                allow_activity_subscriptions_from: row.allow_activity_subscriptions_from.unwrap_or_default(),
                ..ActorInfo::default()
            };
            let actor = StoredActor {
                info,
                keys: row.keys.unwrap_or_default().into(),
                services: row.services.unwrap_or_default().into(),
                updated: time(row.updated_at),
                rev: row.rev.unwrap_or_default(),
            };
            (row.did, actor)
        };
        Ok(rows.into_iter().map(actor).collect())
    }
}

/// DIDs by handle.
pub struct Handles;

impl Kind for Handles {
    type Value = Name;
    const NAME: &'static str = "handle";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, handle: &str) -> String {
        key::of("h", handle)
    }

    async fn load(&self, store: Reader<'_>, handles: &[String]) -> Found<Name> {
        let select = "SELECT handle, did FROM did_by_handle WHERE handle IN ?";
        let rows = store.rows::<(String, Option<String>)>(select, (handles,)).await?;
        Ok(rows.into_iter().map(|(handle, did)| (handle, Name { did: did.unwrap_or_default() })).collect())
    }
}

/// Labels by subject.
pub struct LabelsOf;

impl Kind for LabelsOf {
    type Value = Labels;
    const NAME: &'static str = "labels";
    const KEEP: Keep = Keep::Lists;

    fn cache_key(&self, subject: &str) -> String {
        key::of("lb", subject)
    }

    async fn load(&self, store: Reader<'_>, subjects: &[String]) -> Found<Labels> {
        let select = "SELECT subject, issuer, label FROM label_by_subject WHERE subject IN ?";
        let rows = store.rows::<(String, String, Option<Vec<u8>>)>(select, (subjects,)).await?;
        let mut found: FxHashMap<String, Labels> = FxHashMap::default();
        for (subject, issuer, label) in rows {
            let label = Label { issuer, label: label.unwrap_or_default().into() };
            found.entry(subject).or_default().labels.push(label);
        }
        Ok(found)
    }
}

/// Likes, reposts, replies, quotes, bookmarks of a post, in this order.
pub struct Interactions;

impl Kind for Interactions {
    type Value = Counts;
    const NAME: &'static str = "interactions";
    const KEEP: Keep = Keep::Lists;

    fn cache_key(&self, uri: &str) -> String {
        key::of("c", uri)
    }

    async fn load(&self, store: Reader<'_>, uris: &[String]) -> Found<Counts> {
        let rows = store.rows::<InteractionRow>(rows::INTERACTIONS, (uris,)).await?;
        let counts = |row: InteractionRow| {
            let counts = [row.likes, row.reposts, row.replies, row.quotes, row.bookmarks].map(count).to_vec();
            (row.uri, Counts { counts })
        };
        Ok(rows.into_iter().map(counts).collect())
    }
}

/// Posts, reposts, following, followers, lists, feeds, starter packs, drafts of an account, in this order.
pub struct ActorCounts;

impl Kind for ActorCounts {
    type Value = Counts;
    const NAME: &'static str = "actor_counts";
    const KEEP: Keep = Keep::Lists;

    fn cache_key(&self, did: &str) -> String {
        key::of("ca", did)
    }

    async fn load(&self, store: Reader<'_>, dids: &[String]) -> Found<Counts> {
        let rows = store.rows::<ActorCountRow>(rows::ACTOR_COUNTS, (dids,)).await?;
        let counts = |row: ActorCountRow| {
            let counts = [
                row.posts,
                row.reposts,
                row.following,
                row.followers,
                row.lists,
                row.feeds,
                row.starter_packs,
                row.drafts,
            ];
            (row.did, Counts { counts: counts.map(count).to_vec() })
        };
        Ok(rows.into_iter().map(counts).collect())
    }
}

/// The newest lines of a feed, by author.
pub struct Heads;

/// A line of a row.
pub fn line(row: FeedRow) -> FeedLine {
    FeedLine {
        place: row.place,
        uri: row.uri.unwrap_or_default(),
        cid: row.cid.unwrap_or_default(),
        repost_uri: row.repost_uri.unwrap_or_default(),
        repost_cid: row.repost_cid.unwrap_or_default(),
        is_reply: row.is_reply.unwrap_or_default(),
        is_quote: row.is_quote.unwrap_or_default(),
        in_own_thread: row.in_own_thread.unwrap_or_default(),
        has_media: row.has_media.unwrap_or_default(),
        has_video: row.has_video.unwrap_or_default(),
    }
}

impl Kind for Heads {
    type Value = Head;
    const NAME: &'static str = "feed_head";
    const KEEP: Keep = Keep::Lists;
    const PER_LOAD: Option<usize> = Some(1);

    fn cache_key(&self, author: &str) -> String {
        key::of("fh", author)
    }

    async fn load(&self, store: Reader<'_>, authors: &[String]) -> Found<Head> {
        each(authors, |author: String| async move {
            let rows = store.rows::<FeedRow>(rows::FEED, (author, limit(HEAD_LINES))).await?;
            let whole = rows.len() < HEAD_LINES;
            let lines: Vec<FeedLine> = rows.into_iter().map(line).collect();
            Ok((!lines.is_empty()).then_some(Head { lines, whole }))
        })
        .await
    }
}

/// Replies by the post they answer, newest first, [`Replies::most`] at the most.
pub struct Replies {
    /// `--thread-uris-max`.
    pub most: usize,
}

impl Kind for Replies {
    type Value = Places;
    const NAME: &'static str = "replies";
    const KEEP: Keep = Keep::Lists;

    fn cache_key(&self, parent: &str) -> String {
        key::of("rp", parent)
    }

    async fn load(&self, store: Reader<'_>, parents: &[String]) -> Found<Places> {
        let select = "SELECT parent_uri, place, uri FROM reply_by_parent WHERE parent_uri IN ? LIMIT ?";
        let rows =
            store.rows::<(String, String, Option<String>)>(select, (parents, limit(self.most))).await?;
        if rows.len() >= self.most && parents.len() > 1 {
            // The limit cut some of them off, and the rows do not say which: one by one.
            let select = "SELECT place, uri FROM reply_by_parent WHERE parent_uri = ? LIMIT ?";
            return each(parents, |parent: String| async move {
                let rows = store.rows::<(String, Option<String>)>(select, (parent, limit(self.most))).await?;
                Ok((!rows.is_empty()).then(|| Places { lines: rows.into_iter().map(placed).collect() }))
            })
            .await;
        }
        let mut found: FxHashMap<String, Places> = FxHashMap::default();
        for (parent, place, uri) in rows {
            found.entry(parent).or_default().lines.push(placed((place, uri)));
        }
        Ok(found)
    }
}

fn placed((place, uri): (String, Option<String>)) -> PlacedUri {
    PlacedUri { place, uri: uri.unwrap_or_default() }
}

/// The posts of a thread by its own author after the root, oldest first, by root.
pub struct AuthorThreads {
    /// `--thread-uris-max`.
    pub most: usize,
}

impl Kind for AuthorThreads {
    type Value = Texts;
    const NAME: &'static str = "author_thread";
    const KEEP: Keep = Keep::Lists;
    const PER_LOAD: Option<usize> = Some(1);

    fn cache_key(&self, root: &str) -> String {
        key::of("at", root)
    }

    async fn load(&self, store: Reader<'_>, roots: &[String]) -> Found<Texts> {
        let select = "SELECT uri FROM author_thread WHERE root_uri = ? LIMIT ?";
        each(roots, |root: String| async move {
            let rows = store.rows::<(Option<String>,)>(select, (root, limit(self.most))).await?;
            Ok((!rows.is_empty())
                .then(|| Texts { texts: rows.into_iter().filter_map(|row| row.0).collect() }))
        })
        .await
    }
}

/// When notifications were last seen, by DID.
pub struct SeenBy;

impl Kind for SeenBy {
    type Value = Seen;
    const NAME: &'static str = "notification_seen";
    const KEEP: Keep = Keep::Records;

    fn cache_key(&self, did: &str) -> String {
        key::of("ns", did)
    }

    async fn load(&self, store: Reader<'_>, dids: &[String]) -> Found<Seen> {
        type Row = (String, Option<CqlTimestamp>, Option<CqlTimestamp>);
        let select = "SELECT did, seen_at, priority_seen_at FROM notification_seen WHERE did IN ?";
        let rows = store.rows::<Row>(select, (dids,)).await?;
        let seen = |(did, at, priority)| (did, Seen { at: time(at), priority_at: time(priority) });
        Ok(rows.into_iter().map(seen).collect())
    }
}

/// A number of rows as CQL takes it.
pub fn limit(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

/// One statement per name, one after the other: these kinds are loaded a name at a time.
pub(super) async fn each<V, F>(names: &[String], load: impl Fn(String) -> F) -> Found<V>
where
    F: Future<Output = Result<Option<V>, StoreError>>,
{
    let mut found = FxHashMap::default();
    for name in names {
        if let Some(value) = load(name.clone()).await? {
            found.insert(name.clone(), value);
        }
    }
    Ok(found)
}
