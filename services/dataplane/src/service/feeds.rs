//! What is read page by page: feeds, timelines, followers. A cursor is the place of the last line of a page.

use crate::bsky::*;
use crate::cache::key::can_be_asked;
use crate::read::edges::FollowList;
use crate::read::kinds::{Heads, limit, line};
use crate::read::plan::Plan;
use crate::read::values::FeedLine;
use crate::read::{Call, Failure, Reads};
use crate::store::rows::{self, FeedRow, micros_of};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Items of a page when the request names none.
const PAGE: usize = 50;
/// Pages of a feed that are read for one page of an answer, when a filter leaves little of them.
const PAGES_MAX: usize = 10;
/// The longest cursor: a place is 16 digits and a record key of 512 bytes at the most.
const CURSOR_LONGEST: usize = 528;

/// How many items and from where.
pub(super) struct Page {
    /// At least one, at most `--page-max`.
    pub items: usize,
    /// Older than this place; `None`: from the newest.
    pub before: Option<String>,
}

impl Page {
    pub(super) fn of(reads: &Reads, limit: i32, cursor: &str) -> Result<Page, Failure> {
        let items = match usize::try_from(limit) {
            Ok(0) | Err(_) => PAGE,
            Ok(items) => items,
        };
        let before = match cursor {
            "" => None,
            place if place.len() <= CURSOR_LONGEST && micros_of(place).is_some() => Some(place.to_owned()),
            _ => return Err(Failure::Invalid("malformed cursor".to_owned())),
        };
        Ok(Page { items: items.min(reads.bounds.page_max), before })
    }
}

async fn lines(
    reads: &Reads,
    call: &Call,
    author: &str,
    before: Option<&str>,
    most: usize,
) -> Result<Vec<FeedLine>, Failure> {
    let rows: Vec<FeedRow> = match before {
        None => reads.database(call).rows(rows::FEED, (author, limit(most))).await?,
        Some(place) => reads.database(call).rows(rows::FEED_BEFORE, (author, place, limit(most))).await?,
    };
    Ok(rows.into_iter().map(line).collect())
}

fn belongs(line: &FeedLine, feed: FeedType) -> bool {
    let is_repost = !line.repost_uri.is_empty();
    match feed {
        FeedType::Unspecified => true,
        FeedType::PostsAndAuthorThreads => is_repost || !line.is_reply || line.in_own_thread,
        FeedType::PostsNoReplies => is_repost || !line.is_reply,
        FeedType::PostsWithMedia => !is_repost && line.has_media,
        FeedType::PostsWithVideo => !is_repost && line.has_video,
    }
}

pub(super) async fn author_feed(
    reads: &Reads,
    call: &Call,
    request: GetAuthorFeedRequest,
) -> Result<GetAuthorFeedResponse, Failure> {
    let page = Page::of(reads, request.limit, &request.cursor)?;
    let (author, feed) = (request.actor_did.as_str(), request.feed_type());
    let mut answer = GetAuthorFeedResponse::default();
    if !can_be_asked(author) {
        return Ok(answer);
    }
    let mut before = page.before;
    for _ in 0..PAGES_MAX {
        let rows = lines(reads, call, author, before.as_deref(), page.items).await?;
        let ended = rows.len() < page.items;
        for line in rows {
            answer.cursor.clone_from(&line.place);
            if belongs(&line, feed) {
                answer.items.push(author_item(line));
                if answer.items.len() == page.items {
                    return Ok(answer);
                }
            }
        }
        if ended {
            // Nothing older: an answer with items has a cursor as any other, and the page after it is empty.
            if answer.items.is_empty() {
                answer.cursor.clear();
            }
            return Ok(answer);
        }
        before = Some(answer.cursor.clone());
    }
    Ok(answer)
}

fn author_item(line: FeedLine) -> AuthorFeedItem {
    let is_repost = !line.repost_uri.is_empty();
    AuthorFeedItem {
        posts_and_author_threads: belongs(&line, FeedType::PostsAndAuthorThreads),
        posts_no_replies: belongs(&line, FeedType::PostsNoReplies),
        posts_with_media: belongs(&line, FeedType::PostsWithMedia),
        posts_with_video: belongs(&line, FeedType::PostsWithVideo),
        uri: line.uri,
        cid: line.cid,
        repost: line.repost_uri,
        repost_cid: line.repost_cid,
        is_reply: line.is_reply,
        is_repost,
        is_quote_post: line.is_quote,
    }
}

/// Made when it is read, of the newest lines of everybody the account follows and of its own: one small request becomes as
/// many cache keys as there are follows, and a statement for each that the cache does not have.
pub(super) async fn timeline(
    reads: &Reads,
    call: &Call,
    request: GetTimelineRequest,
) -> Result<GetTimelineResponse, Failure> {
    let page = Page::of(reads, request.limit, &request.cursor)?;
    let actor = request.actor_did.as_str();
    let list = FollowList { most: reads.bounds.follows_max };
    let mut lists = reads.read(call, &list, &Plan::new([actor])).await?;
    let follows = lists.remove(actor).map(|list| list.texts).unwrap_or_default();
    let authors = Plan::new(follows.iter().map(String::as_str).chain([actor]));
    let mut heads = reads.read(call, &Heads, &authors).await?;
    let before = page.before.as_deref();
    let older = |line: &FeedLine| before.is_none_or(|place| line.place.as_str() < place);
    let mut merged: Vec<FeedLine> = Vec::new();
    let mut deeper: Vec<String> = Vec::new();
    for author in &authors.keys {
        let Some(head) = heads.remove(author) else { continue };
        let found: Vec<FeedLine> = head.lines.into_iter().filter(older).collect();
        // The page is right when every author gives a page's worth, or all there is.
        if found.len() >= page.items || head.whole {
            merged.extend(found.into_iter().take(page.items));
        } else {
            deeper.push(author.clone());
        }
    }
    let mut more = Vec::new();
    for author in &deeper {
        more.push(lines(reads, call, author, before, page.items));
    }
    let mut more = stream::iter(more).buffer_unordered(reads.bounds.queries_per_request);
    while let Some(found) = more.try_next().await? {
        merged.extend(found);
    }
    merged.sort_unstable_by(|one, other| (&other.place, &other.uri).cmp(&(&one.place, &one.uri)));
    merged.truncate(page.items);
    let cursor = merged.last().map(|line| line.place.clone()).unwrap_or_default();
    let wanted = |line: &FeedLine| {
        let is_repost = !line.repost_uri.is_empty();
        !(request.exclude_reposts && is_repost
            || request.exclude_replies && line.is_reply && !is_repost
            || request.exclude_quotes && line.is_quote && !is_repost)
    };
    let items = merged.into_iter().filter(wanted).map(|line| TimelineFeedItem {
        is_repost: !line.repost_uri.is_empty(),
        uri: line.uri,
        cid: line.cid,
        repost: line.repost_uri,
        repost_cid: line.repost_cid,
        is_reply: line.is_reply,
        is_quote_post: line.is_quote,
    });
    Ok(GetTimelineResponse { items: items.collect(), cursor })
}

/// Newest first, whatever `sort` says.
pub(super) async fn followers(
    reads: &Reads,
    call: &Call,
    request: GetFollowersRequest,
) -> Result<GetFollowersResponse, Failure> {
    type Row = (String, Option<String>, Option<String>);
    let page = Page::of(reads, request.limit, &request.cursor)?;
    let subject = request.actor_did.as_str();
    if !can_be_asked(subject) {
        return Ok(GetFollowersResponse::default());
    }
    let most = limit(page.items);
    let rows: Vec<Row> = match &page.before {
        None => reads.database(call).rows(rows::FOLLOWERS, (subject, most)).await?,
        Some(place) => reads.database(call).rows(rows::FOLLOWERS_BEFORE, (subject, place, most)).await?,
    };
    let cursor = rows.last().map(|row| row.0.clone()).unwrap_or_default();
    let followers = rows.into_iter().map(|(_, actor, uri)| FollowInfo {
        uri: uri.unwrap_or_default(),
        actor_did: actor.unwrap_or_default(),
        subject_did: subject.to_owned(),
    });
    Ok(GetFollowersResponse { followers: followers.collect(), cursor })
}
