//! Rows of every table, and the statements that put and delete them. Each may be run again without harm.

use super::Account;
use crate::read::edges::EdgeKind;
use crate::read::values::FeedLine;
use crate::store::{Store, StoreError};
use scylla::value::{Counter, CqlTimestamp};

/// A row.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "schema/*.cql")]
pub enum Row {
    Record(Box<RecordValues>),
    Account(Account),
    Handle(Account),
    Edge {
        kind: EdgeKind,
        actor: String,
        subject: String,
        uri: String,
        at: i64,
    },
    Follower {
        subject: String,
        place: String,
        actor: String,
        uri: String,
    },
    Block {
        pair: String,
        uri: String,
    },
    Feed {
        author: String,
        line: FeedLine,
    },
    Reply {
        parent: String,
        place: String,
        uri: String,
    },
    AuthorThread {
        root: String,
        place: String,
        uri: String,
    },
    Notification {
        recipient: String,
        place: String,
        uri: String,
        author: String,
        reason: &'static str,
        subject: Option<String>,
    },
}

/// The row of a record.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub struct RecordValues {
    pub uri: String,
    pub cid: String,
    pub json: Vec<u8>,
    pub indexed_at: CqlTimestamp,
    pub created_at: Option<CqlTimestamp>,
    pub sorted_at: CqlTimestamp,
    pub root_uri: Option<String>,
    pub parent_uri: Option<String>,
    pub has_media: bool,
    pub has_video: bool,
}

impl Row {
    /// Writes it.
    pub async fn put(&self, store: &Store) -> Result<(), StoreError> {
        match self {
            Row::Record(row) => {
                let insert = "INSERT INTO record (uri, cid, record, indexed_at, created_at, sorted_at, root_uri, \
                              parent_uri, has_media, has_video) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                let values = (
                    &row.uri,
                    &row.cid,
                    &row.json,
                    row.indexed_at,
                    row.created_at,
                    row.sorted_at,
                    &row.root_uri,
                    &row.parent_uri,
                    row.has_media,
                    row.has_video,
                );
                store.write(insert, values).await
            }
            Row::Account(account) => {
                let insert = "INSERT INTO actor (did, handle, keys, rev) VALUES (?, ?, ?, ?)";
                store.write(insert, (&account.did, &account.handle, &account.keys, &account.rev)).await
            }
            Row::Handle(account) => {
                let insert = "INSERT INTO did_by_handle (handle, did) VALUES (?, ?)";
                store.write(insert, (&account.handle, &account.did)).await
            }
            Row::Edge { kind, actor, subject, uri, at } => {
                put_edge(store, *kind, actor, subject, uri, *at).await
            }
            Row::Follower { subject, place, actor, uri } => {
                let insert = "INSERT INTO follower_by_subject (subject_did, place, actor_did, uri) VALUES (?, ?, ?, ?)";
                store.write(insert, (subject, place, actor, uri)).await
            }
            Row::Block { pair, uri } => {
                store.write("INSERT INTO block_by_pair (pair, uri) VALUES (?, ?)", (pair, uri)).await
            }
            Row::Feed { author, line } => {
                let insert = "INSERT INTO feed_by_author (author_did, place, uri, cid, repost_uri, repost_cid, is_reply, \
                              is_quote, in_own_thread, has_media, has_video) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
                let repost = (!line.repost_uri.is_empty()).then_some((&line.repost_uri, &line.repost_cid));
                let values = (
                    author,
                    &line.place,
                    &line.uri,
                    &line.cid,
                    repost.map(|repost| repost.0),
                    repost.map(|repost| repost.1),
                    line.is_reply,
                    line.is_quote,
                    line.in_own_thread,
                    line.has_media,
                    line.has_video,
                );
                store.write(insert, values).await
            }
            Row::Reply { parent, place, uri } => {
                let insert = "INSERT INTO reply_by_parent (parent_uri, place, uri) VALUES (?, ?, ?)";
                store.write(insert, (parent, place, uri)).await
            }
            Row::AuthorThread { root, place, uri } => {
                let insert = "INSERT INTO author_thread (root_uri, place, uri) VALUES (?, ?, ?)";
                store.write(insert, (root, place, uri)).await
            }
            Row::Notification { recipient, place, uri, author, reason, subject } => {
                let insert = "INSERT INTO notification_by_recipient (recipient_did, place, uri, author_did, reason, \
                              reason_subject) VALUES (?, ?, ?, ?, ?, ?)";
                store.write(insert, (recipient, place, uri, author, reason, subject)).await
            }
        }
    }

    /// Deletes it.
    pub async fn delete(&self, store: &Store) -> Result<(), StoreError> {
        match self {
            Row::Record(row) => store.write("DELETE FROM record WHERE uri = ?", (&row.uri,)).await,
            Row::Account(account) => store.write("DELETE FROM actor WHERE did = ?", (&account.did,)).await,
            Row::Handle(account) => {
                store.write("DELETE FROM did_by_handle WHERE handle = ?", (&account.handle,)).await
            }
            Row::Edge { kind, actor, subject, .. } => {
                let delete = match kind {
                    EdgeKind::Bookmark => "DELETE FROM bookmark_by_actor WHERE actor_did = ? AND subject = ?",
                    EdgeKind::Follow => "DELETE FROM follow_by_actor WHERE actor_did = ? AND subject = ?",
                    EdgeKind::Like => "DELETE FROM like_by_actor WHERE actor_did = ? AND subject = ?",
                    EdgeKind::Mute => "DELETE FROM mute_by_actor WHERE actor_did = ? AND subject = ?",
                    EdgeKind::Repost => "DELETE FROM repost_by_actor WHERE actor_did = ? AND subject = ?",
                    EdgeKind::Subscription => {
                        "DELETE FROM subscription_by_actor WHERE actor_did = ? AND subject = ?"
                    }
                    EdgeKind::ThreadMute => {
                        "DELETE FROM thread_mute_by_actor WHERE actor_did = ? AND subject = ?"
                    }
                };
                store.write(delete, (actor, subject)).await
            }
            Row::Follower { subject, place, .. } => {
                let delete = "DELETE FROM follower_by_subject WHERE subject_did = ? AND place = ?";
                store.write(delete, (subject, place)).await
            }
            Row::Block { pair, .. } => store.write("DELETE FROM block_by_pair WHERE pair = ?", (pair,)).await,
            Row::Feed { author, line } => {
                let delete = "DELETE FROM feed_by_author WHERE author_did = ? AND place = ?";
                store.write(delete, (author, &line.place)).await
            }
            Row::Reply { parent, place, .. } => {
                let delete = "DELETE FROM reply_by_parent WHERE parent_uri = ? AND place = ?";
                store.write(delete, (parent, place)).await
            }
            Row::AuthorThread { root, place, .. } => {
                store.write("DELETE FROM author_thread WHERE root_uri = ? AND place = ?", (root, place)).await
            }
            Row::Notification { recipient, place, .. } => {
                let delete = "DELETE FROM notification_by_recipient WHERE recipient_did = ? AND place = ?";
                store.write(delete, (recipient, place)).await
            }
        }
    }
}

async fn put_edge(
    store: &Store,
    kind: EdgeKind,
    actor: &str,
    subject: &str,
    uri: &str,
    at: i64,
) -> Result<(), StoreError> {
    let at = CqlTimestamp(at);
    let with_uri = match kind {
        EdgeKind::Follow => "INSERT INTO follow_by_actor (actor_did, subject, uri) VALUES (?, ?, ?)",
        EdgeKind::Like => "INSERT INTO like_by_actor (actor_did, subject, uri) VALUES (?, ?, ?)",
        EdgeKind::Repost => "INSERT INTO repost_by_actor (actor_did, subject, uri) VALUES (?, ?, ?)",
        EdgeKind::Mute => {
            let insert = "INSERT INTO mute_by_actor (actor_did, subject, created_at) VALUES (?, ?, ?)";
            return store.write(insert, (actor, subject, at)).await;
        }
        EdgeKind::ThreadMute => {
            let insert = "INSERT INTO thread_mute_by_actor (actor_did, subject, created_at) VALUES (?, ?, ?)";
            return store.write(insert, (actor, subject, at)).await;
        }
        EdgeKind::Bookmark => {
            let insert = "INSERT INTO bookmark_by_actor (actor_did, subject, subject_cid, bookmark_key, indexed_at) \
                          VALUES (?, ?, '', ?, ?)";
            return store.write(insert, (actor, subject, key_of(at), at)).await;
        }
        EdgeKind::Subscription => {
            let insert = "INSERT INTO subscription_by_actor (actor_did, subject, subscription_key, posts, replies, \
                          indexed_at) VALUES (?, ?, ?, true, false, ?)";
            return store.write(insert, (actor, subject, key_of(at), at)).await;
        }
    };
    store.write(with_uri, (actor, subject, uri)).await
}

/// The name of what has no record: by its time.
fn key_of(CqlTimestamp(millis): CqlTimestamp) -> String {
    format!("{millis:013x}")
}

/// A column of counters, of posts or of accounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "schema/0001_records.cql")]
pub enum Counted {
    Likes,
    Reposts,
    Replies,
    Quotes,
    ActorPosts,
    ActorReposts,
    Following,
    Followers,
}

impl Counted {
    /// Adds to it.
    pub async fn add(self, store: &Store, key: &str, count: i64) -> Result<(), StoreError> {
        let update = match self {
            Counted::Likes => "UPDATE interaction_count SET likes = likes + ? WHERE uri = ?",
            Counted::Reposts => "UPDATE interaction_count SET reposts = reposts + ? WHERE uri = ?",
            Counted::Replies => "UPDATE interaction_count SET replies = replies + ? WHERE uri = ?",
            Counted::Quotes => "UPDATE interaction_count SET quotes = quotes + ? WHERE uri = ?",
            Counted::ActorPosts => "UPDATE actor_count SET posts = posts + ? WHERE did = ?",
            Counted::ActorReposts => "UPDATE actor_count SET reposts = reposts + ? WHERE did = ?",
            Counted::Following => "UPDATE actor_count SET following = following + ? WHERE did = ?",
            Counted::Followers => "UPDATE actor_count SET followers = followers + ? WHERE did = ?",
        };
        store.write(update, (Counter(count), key)).await
    }
}
