//! What the cache holds of each kind, as protobuf messages of our own around the contract's.

use crate::bsky::{ActorInfo, PostRecordMeta, Record};
use bytes::Bytes;
use prost_types::Timestamp;

/// A record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredRecord {
    /// As the contract has it.
    #[prost(message, required, tag = "1")]
    pub record: Record,
    /// What is told of a post.
    #[prost(message, required, tag = "2")]
    pub meta: PostRecordMeta,
    /// The thread's root; empty where the post is no reply.
    #[prost(string, tag = "3")]
    pub root_uri: String,
    /// The post it replies to, or empty.
    #[prost(string, tag = "4")]
    pub parent_uri: String,
}

/// An account.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredActor {
    /// As the contract has it, without the records.
    #[prost(message, required, tag = "1")]
    pub info: ActorInfo,
    /// JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub keys: Bytes,
    /// JSON.
    #[prost(bytes = "bytes", tag = "3")]
    pub services: Bytes,
    /// When the identity was last looked at.
    #[prost(message, optional, tag = "4")]
    pub updated: Option<Timestamp>,
    /// Newest revision of the repository.
    #[prost(string, tag = "5")]
    pub rev: String,
}

/// A name: a DID of a handle.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Name {
    /// The DID.
    #[prost(string, tag = "1")]
    pub did: String,
}

/// The labels of a subject.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Labels {
    /// One per issuer and value.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
}

/// A label.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    /// Who says so.
    #[prost(string, tag = "1")]
    pub issuer: String,
    /// JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub label: Bytes,
}

/// Counts, in the order of the table's columns.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Counts {
    /// The numbers.
    #[prost(int32, repeated, tag = "1")]
    pub counts: Vec<i32>,
}

/// Something that an account did to a subject.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Edge {
    /// The record's address; empty for what is no record (mutes, bookmarks).
    #[prost(string, tag = "1")]
    pub uri: String,
    /// Of the subject, for bookmarks.
    #[prost(string, tag = "2")]
    pub cid: String,
    /// Of what is no record.
    #[prost(string, tag = "3")]
    pub key: String,
    /// When it was indexed.
    #[prost(message, optional, tag = "4")]
    pub indexed_at: Option<Timestamp>,
    /// A subscription to posts.
    #[prost(bool, tag = "5")]
    pub posts: bool,
    /// A subscription to replies.
    #[prost(bool, tag = "6")]
    pub replies: bool,
}

/// Texts in order: DIDs, addresses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Texts {
    /// The texts.
    #[prost(string, repeated, tag = "1")]
    pub texts: Vec<String>,
}

/// Addresses in order of their places.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Places {
    /// Newest first.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<PlacedUri>,
}

/// An address at its place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PlacedUri {
    /// Sorts as time does.
    #[prost(string, tag = "1")]
    pub place: String,
    /// The address.
    #[prost(string, tag = "2")]
    pub uri: String,
}

/// The newest lines of an author's feed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Head {
    /// Newest first.
    #[prost(message, repeated, tag = "1")]
    pub lines: Vec<FeedLine>,
    /// There are no older ones.
    #[prost(bool, tag = "2")]
    pub whole: bool,
}

/// A line of a feed.
#[derive(Clone, PartialEq, prost::Message)]
#[allow(missing_docs, reason = "schema/0003_feeds.cql")]
pub struct FeedLine {
    #[prost(string, tag = "1")]
    pub place: String,
    #[prost(string, tag = "2")]
    pub uri: String,
    #[prost(string, tag = "3")]
    pub cid: String,
    #[prost(string, tag = "4")]
    pub repost_uri: String,
    #[prost(string, tag = "5")]
    pub repost_cid: String,
    #[prost(bool, tag = "6")]
    pub is_reply: bool,
    #[prost(bool, tag = "7")]
    pub is_quote: bool,
    #[prost(bool, tag = "8")]
    pub in_own_thread: bool,
    #[prost(bool, tag = "9")]
    pub has_media: bool,
    #[prost(bool, tag = "10")]
    pub has_video: bool,
}

/// When notifications were last seen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Seen {
    /// All of them.
    #[prost(message, optional, tag = "1")]
    pub at: Option<Timestamp>,
    /// Those of priority.
    #[prost(message, optional, tag = "2")]
    pub priority_at: Option<Timestamp>,
}
