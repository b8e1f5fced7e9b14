//! `weir-dataplane world`: who and what is in a world, for a load generator that has to ask for it. Nothing is read: what a
//! world holds follows from its numbers.

use super::draw::{Shape, handle};
use crate::options::WorldArgs;
use anyhow::{Context as _, Result};
use std::io::{BufWriter, Write};

/// Prints the list.
///
/// # Errors
/// When the numbers are none of a world, or nobody reads the list to its end.
pub fn run(arguments: &WorldArgs) -> Result<()> {
    let shape = arguments.check()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    list(shape, &mut out).and_then(|()| out.flush()).context("writing the list")
}

/// A line for each account, `actor DID HANDLE`, then one for each post, `post URI CID`, with tabs between.
///
/// # Errors
/// Those of `out`.
pub fn list(shape: Shape, out: &mut impl Write) -> std::io::Result<()> {
    for user in 0..shape.users {
        writeln!(out, "actor\t{}\t{}", shape.did(user), handle(user))?;
    }
    for user in 0..shape.users {
        for thread in 0..shape.threads_of(user) {
            for post in shape.thread(user, thread) {
                writeln!(out, "post\t{}\t{}", post.record.uri, post.record.cid)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_account_and_every_post_once() {
        let shape = Shape { seed: 5, users: 20, posts: 3, follows: 2, likes: 1 };
        let mut text = Vec::new();
        list(shape, &mut text).expect("written");
        let text = String::from_utf8(text).expect("a text");
        let posts: usize = (0..shape.users)
            .flat_map(|user| (0..shape.threads_of(user)).map(move |thread| (user, thread)))
            .map(|(user, thread)| shape.thread(user, thread).len())
            .sum();
        assert!(posts > 20, "{posts} posts");
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with("post\tat://did:plc:")).count(), posts);
        assert_eq!(lines.iter().filter(|line| line.starts_with("actor\tdid:plc:")).count(), 20);
        assert_eq!(lines.len(), posts + 20);
        assert!(lines.iter().all(|line| line.split('\t').count() == 3), "{text}");
    }
}
