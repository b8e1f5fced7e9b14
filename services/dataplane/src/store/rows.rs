//! Rows as the tables have them (schema/*.cql), and the statements that read them.

use scylla::DeserializeRow;
use scylla::value::{Counter, CqlTimestamp};

/// A record, with what is told of a post.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub struct RecordRow {
    pub uri: String,
    pub cid: Option<String>,
    pub record: Option<Vec<u8>>,
    pub indexed_at: Option<CqlTimestamp>,
    pub created_at: Option<CqlTimestamp>,
    pub sorted_at: Option<CqlTimestamp>,
    pub taken_down: Option<bool>,
    pub takedown_ref: Option<String>,
    pub tags: Option<Vec<String>>,
    pub root_uri: Option<String>,
    pub parent_uri: Option<String>,
    pub has_media: Option<bool>,
    pub has_video: Option<bool>,
    pub has_post_gate: Option<bool>,
    pub has_thread_gate: Option<bool>,
    pub violates_thread_gate: Option<bool>,
    pub violates_embedding_rules: Option<bool>,
}

/// The rows of [`RecordRow`].
pub const RECORDS: &str = "SELECT uri, cid, record, indexed_at, created_at, sorted_at, taken_down, takedown_ref, tags, \
     root_uri, parent_uri, has_media, has_video, has_post_gate, has_thread_gate, violates_thread_gate, \
     violates_embedding_rules FROM record WHERE uri IN ?";

/// One record, for the unbounded mode.
pub const RECORD: &str = "SELECT uri, cid, record, indexed_at, created_at, sorted_at, taken_down, takedown_ref, tags, \
     root_uri, parent_uri, has_media, has_video, has_post_gate, has_thread_gate, violates_thread_gate, \
     violates_embedding_rules FROM record WHERE uri = ?";

/// An account.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub struct ActorRow {
    pub did: String,
    pub handle: Option<String>,
    pub updated_at: Option<CqlTimestamp>,
    pub taken_down: Option<bool>,
    pub takedown_ref: Option<String>,
    pub tombstoned_at: Option<CqlTimestamp>,
    pub upstream_status: Option<String>,
    pub labeler: Option<bool>,
    pub allow_incoming_chats_from: Option<String>,
    pub allow_activity_subscriptions_from: Option<String>,
    pub priority_notifications: Option<bool>,
    pub trusted_verifier: Option<bool>,
    pub tags: Option<Vec<String>>,
    pub keys: Option<Vec<u8>>,
    pub services: Option<Vec<u8>>,
    pub rev: Option<String>,
}

/// The rows of [`ActorRow`].
pub const ACTORS: &str = "SELECT did, handle, updated_at, taken_down, takedown_ref, tombstoned_at, upstream_status, \
     labeler, allow_incoming_chats_from, allow_activity_subscriptions_from, priority_notifications, \
     trusted_verifier, tags, keys, services, rev FROM actor WHERE did IN ?";

/// The counts of a post.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub struct InteractionRow {
    pub uri: String,
    pub likes: Option<Counter>,
    pub reposts: Option<Counter>,
    pub replies: Option<Counter>,
    pub quotes: Option<Counter>,
    pub bookmarks: Option<Counter>,
}

/// The rows of [`InteractionRow`].
pub const INTERACTIONS: &str =
    "SELECT uri, likes, reposts, replies, quotes, bookmarks FROM interaction_count WHERE uri IN ?";

/// The counts of an account.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub struct ActorCountRow {
    pub did: String,
    pub posts: Option<Counter>,
    pub reposts: Option<Counter>,
    pub following: Option<Counter>,
    pub followers: Option<Counter>,
    pub lists: Option<Counter>,
    pub feeds: Option<Counter>,
    pub starter_packs: Option<Counter>,
    pub drafts: Option<Counter>,
}

/// The rows of [`ActorCountRow`].
pub const ACTOR_COUNTS: &str = "SELECT did, posts, reposts, following, followers, lists, feeds, starter_packs, drafts \
     FROM actor_count WHERE did IN ?";

/// A line of an author's feed.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0003_feeds.cql")]
pub struct FeedRow {
    pub place: String,
    pub uri: Option<String>,
    pub cid: Option<String>,
    pub repost_uri: Option<String>,
    pub repost_cid: Option<String>,
    pub is_reply: Option<bool>,
    pub is_quote: Option<bool>,
    pub in_own_thread: Option<bool>,
    pub has_media: Option<bool>,
    pub has_video: Option<bool>,
}

/// The newest rows of [`FeedRow`].
pub const FEED: &str = "SELECT place, uri, cid, repost_uri, repost_cid, is_reply, is_quote, in_own_thread, has_media, \
     has_video FROM feed_by_author WHERE author_did = ? LIMIT ?";

/// Those older than a place.
pub const FEED_BEFORE: &str = "SELECT place, uri, cid, repost_uri, repost_cid, is_reply, is_quote, in_own_thread, \
     has_media, has_video FROM feed_by_author WHERE author_did = ? AND place < ? LIMIT ?";

/// The newest followers: place, DID, the follow's address.
pub const FOLLOWERS: &str =
    "SELECT place, actor_did, uri FROM follower_by_subject WHERE subject_did = ? LIMIT ?";
/// Those older than a place.
pub const FOLLOWERS_BEFORE: &str =
    "SELECT place, actor_did, uri FROM follower_by_subject WHERE subject_did = ? AND place < ? LIMIT ?";

/// A notification.
#[derive(DeserializeRow)]
#[allow(missing_docs, reason = "schema/0003_feeds.cql")]
pub struct NotificationRow {
    pub place: String,
    pub uri: Option<String>,
    pub author_did: Option<String>,
    pub reason: Option<String>,
    pub reason_subject: Option<String>,
}

/// The newest rows of [`NotificationRow`].
pub const NOTIFICATIONS: &str = "SELECT place, uri, author_did, reason, reason_subject FROM notification_by_recipient \
     WHERE recipient_did = ? LIMIT ?";
/// Those older than a place.
pub const NOTIFICATIONS_BEFORE: &str = "SELECT place, uri, author_did, reason, reason_subject \
     FROM notification_by_recipient WHERE recipient_did = ? AND place < ? LIMIT ?";

/// The protocol's form of a time.
pub fn time(time: Option<CqlTimestamp>) -> Option<prost_types::Timestamp> {
    time.map(|CqlTimestamp(millis)| prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos: i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
    })
}

/// A counter as the protocol has it: from 0 to what fits.
pub fn count(counter: Option<Counter>) -> i32 {
    counter.map_or(0, |Counter(count)| i32::try_from(count.max(0)).unwrap_or(i32::MAX))
}

/// The microseconds of a place (schema/0003_feeds.cql); `None` when it is none.
pub fn micros_of(place: &str) -> Option<u64> {
    let digits = place.get(..16)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The place of something at these microseconds, told apart by the last piece of its address.
pub fn place(micros: u64, uri: &str) -> String {
    format!("{micros:016x}{}", uri.rsplit('/').next().unwrap_or_default())
}
