//! What a record comes to: rows, counts, and entries of the cache that are no longer true. Pure: the same record always
//! comes to the same, which is how it is deleted.

use super::rows::{Counted, RecordValues, Row};
use crate::read::Kind as _;
use crate::read::edges::{Blocks, EdgeKind, follow_list_key};
use crate::read::kinds::{ActorCounts, AuthorThreads, Heads, Interactions, Records, Replies};
use crate::read::values::FeedLine;
use crate::store::rows::place;
use scylla::value::CqlTimestamp;
use serde_json::Value;

/// A record as the network sends it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// `at://AUTHORITY/COLLECTION/KEY`.
    pub uri: String,
    /// Its content's name.
    pub cid: String,
    /// Its content.
    pub json: Vec<u8>,
    /// Milliseconds since 1970.
    pub indexed_at: i64,
}

/// What it comes to.
#[derive(Debug, Default)]
pub struct Effects {
    /// Rows of the tables.
    pub rows: Vec<Row>,
    /// What is one more, of whom.
    pub counts: Vec<(Counted, String)>,
    /// Entries of the cache to forget.
    pub stale: Vec<String>,
}

/// The account of an address.
pub fn authority(uri: &str) -> &str {
    uri.strip_prefix("at://").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

impl Effects {
    /// Of a record; an error names what is wrong with it.
    pub fn of(record: &Incoming) -> Result<Effects, String> {
        let value: Value =
            serde_json::from_slice(&record.json).map_err(|error| format!("{}: {error}", record.uri))?;
        let mut parts = record.uri.strip_prefix("at://").unwrap_or_default().split('/');
        let (author, collection, key) = (parts.next(), parts.next(), parts.next());
        let (Some(author), Some(collection), Some(_)) =
            (author.filter(|author| !author.is_empty()), collection, key)
        else {
            return Err(format!("{}: no address of a record", record.uri));
        };
        let created = text(&value, "/createdAt").and_then(|time| time.parse::<prost_types::Timestamp>().ok());
        let created = created.map(|time| time.seconds * 1_000 + i64::from(time.nanos / 1_000_000));
        // As the contract sorts: by the earlier of both times.
        let sorted = created.map_or(record.indexed_at, |created| created.min(record.indexed_at)).max(0);
        let subject = |pointer| {
            let found = text(&value, pointer).map(str::to_owned);
            found.ok_or_else(|| {
                format!("{}: no {}", record.uri, pointer.trim_start_matches('/').replace('/', "."))
            })
        };
        let this = Being {
            uri: &record.uri,
            cid: &record.cid,
            author,
            place: place(u64::try_from(sorted).unwrap_or_default() * 1_000, &record.uri),
        };
        let mut effects = Effects::default();
        let mut row = RecordValues {
            uri: record.uri.clone(),
            cid: record.cid.clone(),
            json: record.json.clone(),
            indexed_at: CqlTimestamp(record.indexed_at),
            created_at: created.map(CqlTimestamp),
            sorted_at: CqlTimestamp(sorted),
            root_uri: None,
            parent_uri: None,
            has_media: false,
            has_video: false,
        };
        match collection {
            "app.bsky.feed.post" => effects.post(&this, &value, &mut row),
            "app.bsky.feed.like" => effects.like(&this, subject("/subject/uri")?),
            "app.bsky.feed.repost" => {
                effects.repost(&this, subject("/subject/uri")?, text(&value, "/subject/cid"))
            }
            "app.bsky.graph.follow" => effects.follow(&this, subject("/subject")?),
            "app.bsky.graph.block" => effects.block(&this, &subject("/subject")?),
            // Others are only found by their address.
            _ => {}
        }
        effects.stale.push(Records.cache_key(&record.uri));
        effects.rows.push(Row::Record(Box::new(row)));
        Ok(effects)
    }

    fn post(&mut self, this: &Being<'_>, value: &Value, row: &mut RecordValues) {
        let embed = |pointer: &str| text(value, pointer).unwrap_or_default();
        let (kind, media) = (embed("/embed/$type"), embed("/embed/media/$type"));
        let is = |name: &str| kind == name || media == name;
        row.has_video = is("app.bsky.embed.video");
        row.has_media = row.has_video || is("app.bsky.embed.images");
        row.root_uri = text(value, "/reply/root/uri").map(str::to_owned);
        row.parent_uri = text(value, "/reply/parent/uri").map(str::to_owned);
        let quoted = match kind {
            "app.bsky.embed.record" => text(value, "/embed/record/uri"),
            "app.bsky.embed.recordWithMedia" => text(value, "/embed/record/record/uri"),
            _ => None,
        };
        let in_own_thread = row.root_uri.as_deref().is_some_and(|root| authority(root) == this.author);
        let line = FeedLine {
            place: this.place.clone(),
            uri: this.uri.to_owned(),
            cid: this.cid.to_owned(),
            is_reply: row.parent_uri.is_some(),
            is_quote: quoted.is_some(),
            in_own_thread,
            has_media: row.has_media,
            has_video: row.has_video,
            ..FeedLine::default()
        };
        self.rows.push(Row::Feed { author: this.author.to_owned(), line });
        self.count(Counted::ActorPosts, this.author);
        self.stale.push(Heads.cache_key(this.author));
        if let Some(parent) = &row.parent_uri {
            let (place, uri) = (this.place.clone(), this.uri.to_owned());
            self.rows.push(Row::Reply { parent: parent.clone(), place, uri });
            self.count(Counted::Replies, parent);
            self.stale.push(Replies { most: 0 }.cache_key(parent));
            self.tell(this, "reply", parent);
        }
        if let Some(root) = row.root_uri.as_ref().filter(|_| in_own_thread) {
            let (place, uri) = (this.place.clone(), this.uri.to_owned());
            self.rows.push(Row::AuthorThread { root: root.clone(), place, uri });
            self.stale.push(AuthorThreads { most: 0 }.cache_key(root));
        }
        if let Some(quoted) = quoted {
            self.count(Counted::Quotes, quoted);
            self.tell(this, "quote", quoted);
        }
    }

    fn like(&mut self, this: &Being<'_>, post: String) {
        self.count(Counted::Likes, &post);
        self.tell(this, "like", &post);
        self.edge(this, EdgeKind::Like, post);
    }

    fn repost(&mut self, this: &Being<'_>, post: String, cid: Option<&str>) {
        let line = FeedLine {
            place: this.place.clone(),
            uri: post.clone(),
            cid: cid.unwrap_or_default().to_owned(),
            repost_uri: this.uri.to_owned(),
            repost_cid: this.cid.to_owned(),
            ..FeedLine::default()
        };
        self.rows.push(Row::Feed { author: this.author.to_owned(), line });
        self.stale.push(Heads.cache_key(this.author));
        self.count(Counted::Reposts, &post);
        self.count(Counted::ActorReposts, this.author);
        self.tell(this, "repost", &post);
        self.edge(this, EdgeKind::Repost, post);
    }

    fn follow(&mut self, this: &Being<'_>, subject: String) {
        let (actor, uri) = (this.author.to_owned(), this.uri.to_owned());
        self.rows.push(Row::Follower { subject: subject.clone(), place: this.place.clone(), actor, uri });
        self.count(Counted::Following, this.author);
        self.count(Counted::Followers, &subject);
        self.stale.push(follow_list_key(this.author));
        self.notify(this, "follow", &subject, None);
        self.edge(this, EdgeKind::Follow, subject);
    }

    fn block(&mut self, this: &Being<'_>, subject: &str) {
        let pair = super::block_name(this.author, subject);
        self.stale.push(Blocks.cache_key(&pair));
        self.rows.push(Row::Block { pair, uri: this.uri.to_owned() });
    }

    fn edge(&mut self, this: &Being<'_>, kind: EdgeKind, subject: String) {
        self.stale.push(kind.cache_key(this.author, &subject));
        let (actor, uri) = (this.author.to_owned(), this.uri.to_owned());
        self.rows.push(Row::Edge { kind, actor, subject, uri, at: 0 });
    }

    fn count(&mut self, counted: Counted, key: &str) {
        self.stale.push(match counted {
            Counted::Likes | Counted::Reposts | Counted::Replies | Counted::Quotes => {
                Interactions.cache_key(key)
            }
            Counted::ActorPosts | Counted::ActorReposts | Counted::Following | Counted::Followers => {
                ActorCounts.cache_key(key)
            }
        });
        self.counts.push((counted, key.to_owned()));
    }

    /// Tells the author of a post what was done to it.
    fn tell(&mut self, this: &Being<'_>, reason: &'static str, post: &str) {
        self.notify(this, reason, authority(post), Some(post.to_owned()));
    }

    fn notify(&mut self, this: &Being<'_>, reason: &'static str, recipient: &str, subject: Option<String>) {
        if recipient.is_empty() || recipient == this.author {
            return;
        }
        self.rows.push(Row::Notification {
            recipient: recipient.to_owned(),
            place: this.place.clone(),
            uri: this.uri.to_owned(),
            author: this.author.to_owned(),
            reason,
            subject,
        });
    }
}

/// A record that is being taken apart.
struct Being<'a> {
    uri: &'a str,
    cid: &'a str,
    author: &'a str,
    place: String,
}
