//! What there is in a world, account by account.

use super::draw::{About, Shape, content_name, handle, record_key};
use crate::write::Account;
use crate::write::effects::Incoming;
use rustc_hash::FxHashSet;

/// The first moment of a world, in milliseconds since 1970: 2026-01-01.
const BEGIN: u64 = 1_767_225_600_000;
/// Its length in milliseconds: 90 days.
const LENGTH: u64 = 90 * 24 * 3_600 * 1_000;
/// Replies of one thread at the most.
const REPLIES_MAX: u64 = 200;

/// A post and what it got.
#[derive(Debug)]
pub struct Post {
    /// The record.
    pub record: Incoming,
    /// Likes and reposts of it.
    pub deeds: Vec<Incoming>,
    /// How many of them are likes; the rest are reposts.
    pub likes: usize,
    /// Replies that name it as their parent.
    pub replies: u32,
}

impl Shape {
    /// An account and its profile.
    pub fn account(&self, user: u64) -> (Account, Incoming) {
        let did = self.did(user);
        let keys = br#"{"atproto":{"Type":"Multikey","PublicKeyMultibase":""}}"#.to_vec();
        let profile = incoming(
            format!("at://{did}/app.bsky.actor.profile/self"),
            BEGIN,
            &format!(r#""$type":"app.bsky.actor.profile","displayName":"User {user}""#),
        );
        (Account { did, handle: handle(user), keys, rev: record_key(BEGIN * 1_000) }, profile)
    }

    /// Whom an account follows; nobody twice, and not itself.
    pub fn follows_of(&self, user: u64) -> Vec<Incoming> {
        let did = self.did(user);
        let mut known = FxHashSet::from_iter([user]);
        let count = self.many(About::Follows, &[user], self.follows, self.users - 1);
        let mut follows = Vec::new();
        for number in 0..count {
            let subject = self.somebody(About::Followed, &[user, number]);
            if !known.insert(subject) {
                continue;
            }
            let time = BEGIN + self.draw(About::Followed, &[user, number, 1]) % LENGTH;
            let uri =
                format!("at://{did}/app.bsky.graph.follow/{}", record_key(time * 1_000 + number % 1_000));
            let json = format!(r#""$type":"app.bsky.graph.follow","subject":"{}""#, self.did(subject));
            follows.push(incoming(uri, time, &json));
        }
        follows
    }

    /// Threads that an account begins.
    pub fn threads_of(&self, user: u64) -> u64 {
        self.many(About::Threads, &[user], self.posts, u64::MAX)
    }

    /// A thread: the post that begins it and every reply, each with its likes and reposts.
    pub fn thread(&self, user: u64, thread: u64) -> Vec<Post> {
        let replies = match self.draw(About::Replies, &[user, thread]) % 3 {
            0 => self.many(About::Replies, &[user, thread, 1], 3, REPLIES_MAX),
            _ => 0,
        };
        let begun = BEGIN + self.draw(About::ThreadTime, &[user, thread]) % LENGTH;
        let mut posts: Vec<Post> = Vec::new();
        let mut times = vec![begun];
        for place in 0..=replies {
            let of = [user, thread, place];
            let mut author = user;
            let mut reply = String::new();
            if place > 0 {
                // One of four is by the author of the thread.
                if !self.draw(About::ReplyAuthor, &of).is_multiple_of(4) {
                    author = self.somebody(About::ReplyAuthor, &[user, thread, place, 1]);
                }
                let parent = (self.draw(About::ReplyParent, &of) % place) as usize;
                times.push(times[parent] + 1 + self.draw(About::ReplyTime, &of) % (3_600 * 1_000));
                posts[parent].replies += 1;
                let name =
                    |post: &Post| format!(r#"{{"uri":"{}","cid":"{}"}}"#, post.record.uri, post.record.cid);
                reply =
                    format!(r#","reply":{{"root":{},"parent":{}}}"#, name(&posts[0]), name(&posts[parent]));
            }
            let time = times[place as usize];
            let embed = match self.draw(About::Embed, &of) % 10 {
                0 | 1 => r#","embed":{"$type":"app.bsky.embed.images","images":[]}"#,
                2 => r#","embed":{"$type":"app.bsky.embed.video"}"#,
                _ => "",
            };
            let key = record_key(time * 1_000 + self.draw(About::Embed, &[user, thread, place, 1]) % 1_000);
            let uri = format!("at://{}/app.bsky.feed.post/{key}", self.did(author));
            let text = "weir ".repeat((self.draw(About::Embed, &[user, thread, place, 2]) % 40) as usize);
            let json = format!(
                r#""$type":"app.bsky.feed.post","text":"post {place} of thread {thread} of user {user} {text}"{reply}{embed}"#
            );
            posts.push(Post { record: incoming(uri, time, &json), deeds: Vec::new(), likes: 0, replies: 0 });
        }
        for (place, (post, time)) in posts.iter_mut().zip(times).enumerate() {
            self.deeds(post, time, &[user, thread, place as u64]);
        }
        posts
    }

    /// Likes and reposts, by accounts that are all different.
    fn deeds(&self, post: &mut Post, time: u64, of: &[u64; 3]) {
        let likes = self.many(About::Likes, of, self.likes, self.users);
        let start = self.draw(About::Likers, of) % self.users;
        let mut stride = self.draw(About::Likers, &[of[0], of[1], of[2], 1]) % self.users;
        while gcd(stride, self.users) != 1 {
            stride = (stride + 1) % self.users;
        }
        let (mut user, subject) =
            (start, format!(r#"{{"uri":"{}","cid":"{}"}}"#, post.record.uri, post.record.cid));
        // One of five who like it reposts it as well.
        for (collection, count) in [("app.bsky.feed.like", likes), ("app.bsky.feed.repost", likes / 5)] {
            for number in 0..count {
                user = (user + stride) % self.users;
                let time = time + 1_000 * (number + 1);
                let key = record_key(
                    time * 1_000 + self.draw(About::Likers, &[of[0], of[1], of[2], number + 2]) % 1_000,
                );
                let uri = format!("at://{}/{collection}/{key}", self.did(user));
                let json = format!(r#""$type":"{collection}","subject":{subject}"#);
                post.deeds.push(incoming(uri, time, &json));
            }
        }
        post.likes = likes as usize;
    }
}

fn incoming(uri: String, millis: u64, fields: &str) -> Incoming {
    let seconds = i64::try_from(millis / 1_000).unwrap_or_default();
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).unwrap_or_default();
    let created = prost_types::Timestamp { seconds, nanos };
    let json = format!(r#"{{{fields},"createdAt":"{created}"}}"#).into_bytes();
    Incoming { cid: content_name(&uri), uri, json, indexed_at: i64::try_from(millis).unwrap_or_default() }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::effects::{Effects, authority};

    const SHAPE: Shape = Shape { seed: 3, users: 50, posts: 4, follows: 10, likes: 3 };

    #[test]
    fn every_record_is_one_the_writer_takes() {
        let mut posts = 0;
        for user in 0..SHAPE.users {
            for follow in SHAPE.follows_of(user) {
                assert!(Effects::of(&follow).expect("a follow").counts.len() == 2);
            }
            for thread in 0..SHAPE.threads_of(user) {
                let made = SHAPE.thread(user, thread);
                let replies: u32 = made.iter().map(|post| post.replies).sum();
                assert_eq!(replies as usize, made.len() - 1, "every post but the first answers one");
                posts += made.len();
                for post in &made {
                    assert!(!Effects::of(&post.record).expect("a post").rows.is_empty());
                    let (likes, reposts) = post.deeds.split_at(post.likes);
                    for deeds in [likes, reposts] {
                        let who: FxHashSet<&str> = deeds.iter().map(|deed| authority(&deed.uri)).collect();
                        assert_eq!(who.len(), deeds.len(), "nobody likes a post twice");
                    }
                    for deed in &post.deeds {
                        assert!(Effects::of(deed).expect("a deed").stale.len() > 2);
                    }
                }
            }
        }
        assert!(posts > 100, "{posts} posts");
    }
}
