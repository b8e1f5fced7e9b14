//! Threads: up by the posts' own word, down level by level.

use crate::bsky::*;
use crate::read::kinds::{AuthorThreads, Records, Replies};
use crate::read::plan::Plan;
use crate::read::values::PlacedUri;
use crate::read::{Call, Failure, Reads};
use rustc_hash::FxHashSet;

pub(super) async fn thread(
    reads: &Reads,
    call: &Call,
    request: GetThreadRequest,
) -> Result<GetThreadResponse, Failure> {
    let (above, below) = futures_util::try_join!(
        ancestors(reads, call, &request.post_uri, request.above),
        descendants(reads, call, &request.post_uri, request.below),
    )?;
    let op_thread = match above.root {
        None => Vec::new(),
        Some(root) => {
            let most = reads.bounds.thread_uris_max;
            let mut found = reads.read(call, &AuthorThreads { most }, &Plan::new([root.as_str()])).await?;
            let rest = found.remove(&root).map(|rest| rest.texts).unwrap_or_default();
            std::iter::once(root).chain(rest).collect()
        }
    };
    let mut uris = above.uris;
    uris.extend(below);
    uris.truncate(reads.bounds.thread_uris_max);
    Ok(GetThreadResponse { uris, op_thread })
}

struct Above {
    /// The post, then what it answers, up to the root; a post that is gone ends it.
    uris: Vec<String>,
    /// `None` where the post is gone.
    root: Option<String>,
}

async fn ancestors(reads: &Reads, call: &Call, post: &str, above: i32) -> Result<Above, Failure> {
    let mut found = Above { uris: Vec::new(), root: None };
    let mut next = post.to_owned();
    let steps =
        usize::try_from(above).unwrap_or_default().saturating_add(1).min(reads.bounds.thread_uris_max);
    for _ in 0..steps {
        let mut records = reads.read(call, &Records, &Plan::new([next.as_str()])).await?;
        let Some(stored) = records.remove(&next) else { break };
        if found.root.is_none() {
            found.root = Some(if stored.root_uri.is_empty() { next.clone() } else { stored.root_uri });
        }
        // A post may say that it answers one that answers it.
        let again = found.uris.contains(&stored.parent_uri) || stored.parent_uri == next;
        found.uris.push(next);
        if stored.parent_uri.is_empty() || again {
            break;
        }
        next = stored.parent_uri;
    }
    Ok(found)
}

/// Newest first.
async fn descendants(reads: &Reads, call: &Call, post: &str, below: i32) -> Result<Vec<String>, Failure> {
    let most = reads.bounds.thread_uris_max;
    let mut seen = FxHashSet::from_iter([post.to_owned()]);
    let mut found: Vec<PlacedUri> = Vec::new();
    let mut level = vec![post.to_owned()];
    for _ in 0..usize::try_from(below).unwrap_or_default() {
        if level.is_empty() || found.len() >= most {
            break;
        }
        let plan = Plan::new(level.iter().map(String::as_str));
        let replies = reads.read(call, &Replies { most }, &plan).await?;
        let mut next = Vec::new();
        for line in plan.slots(&replies).flatten().flat_map(|replies| &replies.lines) {
            if found.len() < most && seen.insert(line.uri.clone()) {
                next.push(line.uri.clone());
                found.push(line.clone());
            }
        }
        level = next;
    }
    found.sort_unstable_by(|one, other| (&other.place, &other.uri).cmp(&(&one.place, &one.uri)));
    Ok(found.into_iter().map(|line| line.uri).collect())
}
