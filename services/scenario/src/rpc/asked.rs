//! What calls ask for: keys that the scripted service makes records of, or the posts of a world that a data plane has.

use super::messages::{self, Found};
use crate::keys::{KeyIndex, KeySet, KeyStyle};
use anyhow::{Context as _, Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Where the keys of calls come from.
pub enum Asked {
    /// The key set of every scenario.
    Set(KeySet),
    /// Addresses of posts, and the name of the content of each: what `weir-dataplane seed` writes beside a post follows from
    /// its address.
    Posts(Vec<(Vec<u8>, String)>),
}

impl Asked {
    /// The key set.
    pub fn set(keys: u32, seed: u64) -> Asked {
        Asked::Set(KeySet::new(KeyStyle::Post, keys, seed))
    }

    /// The posts of a file that `weir-dataplane world` wrote: `post`, its address and its CID in a line, with tabs between.
    ///
    /// # Errors
    /// When there is no such file, or no post in it.
    pub fn posts(file: &Path) -> Result<Asked> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let posts = text.lines().filter_map(|line| line.strip_prefix("post\t"));
        let uris = posts.filter_map(|post| post.split('\t').next());
        let posts: Vec<_> = uris.map(|uri| (uri.as_bytes().to_vec(), content_name(uri))).collect();
        ensure!(!posts.is_empty(), "{} lists no post", file.display());
        Ok(Asked::Posts(posts))
    }

    /// How many keys there are.
    pub fn stored(&self) -> u32 {
        match self {
            Asked::Set(set) => set.stored(),
            Asked::Posts(posts) => u32::try_from(posts.len()).unwrap_or(u32::MAX),
        }
    }

    /// A key.
    pub fn bytes(&self, index: KeyIndex) -> &[u8] {
        match self {
            Asked::Set(set) => set.bytes(index),
            Asked::Posts(posts) => &posts[index.0 as usize].0,
        }
    }

    /// Checks a reply against the keys that were asked for.
    ///
    /// # Errors
    /// When it is not protobuf.
    pub fn check(&self, reply: &[u8], indices: &[KeyIndex]) -> Result<Found> {
        match self {
            Asked::Set(set) => messages::check(reply, indices.iter().map(|index| set.bytes(*index))),
            Asked::Posts(posts) => {
                messages::check_names(reply, indices.iter().map(|index| posts[index.0 as usize].1.as_bytes()))
            }
        }
    }
}

/// The name that a seeded post's content has (`services/dataplane/src/world/draw.rs`).
fn content_name(uri: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let hash = blake3::hash(uri.as_bytes());
    let mut name = "bafyrei".to_owned();
    for half in hash.as_bytes().chunks_exact(16) {
        let number = half.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        name.extend((0..26).rev().map(|digit| char::from(ALPHABET[(number >> (5 * digit)) as usize & 31])));
    }
    name
}

/// A memcached from which a data plane's records are taken before they are asked for, so that a call is cold.
pub struct Forgetful {
    stream: BufReader<TcpStream>,
}

impl Forgetful {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn dial(server: SocketAddr) -> Result<Forgetful> {
        let stream = TcpStream::connect(server).await.context("connecting to memcached")?;
        Ok(Forgetful { stream: BufReader::new(stream) })
    }

    /// Deletes the records of these posts, under the names that the data plane gives them (`services/dataplane/src/cache`).
    ///
    /// # Errors
    /// When memcached ends the connection.
    pub async fn forget(&mut self, posts: impl Iterator<Item = &[u8]>) -> Result<()> {
        let mut commands = Vec::new();
        for post in posts {
            commands.extend_from_slice(b"delete r:");
            commands.extend_from_slice(post);
            commands.extend_from_slice(b" noreply\r\n");
        }
        // Answered when all before it is done.
        commands.extend_from_slice(b"version\r\n");
        self.stream.write_all(&commands).await.context("telling memcached")?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await.context("hearing memcached")?;
        ensure!(line.starts_with("VERSION "), "memcached said {line:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_contents_are_those_that_seeding_writes() {
        let name = content_name("at://did:plc:a/app.bsky.feed.post/1");
        assert_eq!((name.len(), &name[..7]), (59, "bafyrei"));
        assert_ne!(name, content_name("at://did:plc:a/app.bsky.feed.post/2"));
    }
}
