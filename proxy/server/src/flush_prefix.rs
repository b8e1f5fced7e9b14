//! `flush_all = { prefix = "..." }`: only the keys that start with the pool's prefix are deleted.
//!
//! memcached has no such command, so weir has each server list its keys (`lru_crawler metadump all`) and deletes the ones
//! that match (`md`). This is maintenance, not traffic: it runs on connections of its own, two at a time, which sign in
//! as the lanes do, one server after the other, under a deadline, and never on the shared lanes, whose neighbours would
//! wait behind the listing. Keys stored while it runs may or may not be deleted; that is true of `flush_all` too.
//!
//! Keys are deleted [`BATCH`] at a time while they are listed. The listing is read at once, whatever the deletes do: a
//! server whose listing is not read keeps a lock on which the threads that serve its clients may come to wait, the one that is to
//! delete among them (seen with memcached 1.6.18: two listings at once stood still until the deadline).
//!
//! Bound: [`WAITING_MAX`] keys wait to be deleted. What is listed while so many wait is left for the next listing.

use crate::upstream;
use crate::worker::sockets::Stream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use weir_engine::settings::Address;
use weir_engine::units::Span;

/// Keys deleted with one round trip, and kept until then.
pub const BATCH: usize = 512;
/// Keys that wait to be deleted: at most 1 MiB.
const WAITING_MAX: usize = 8 * BATCH;
/// Listings of one server after which it is done although the last one still held keys to delete. A server is listed until
/// nothing is left: it leaves out of a listing what is locked just then, by the deletes of this flush among others (3 keys
/// of 25,000 were seen to be left out). Where clients keep storing keys with the prefix there is always something, and no key
/// is left out so often. Listings of which keys were left for the next are not counted: the deadline ends those.
const PASSES_MAX: usize = 4;
/// Longest line of a listing that is believed: a URL-encoded key of 250 bytes and its fields.
const LINE_MAX: usize = 2_048;
/// A server makes one listing at a time, its own housekeeping included, and says so to others; they ask again after this.
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// What to flush, and how to get at it.
#[derive(Debug)]
pub struct Flush {
    /// The servers of the pool, each named in what goes wrong.
    pub servers: Vec<Address>,
    /// Only keys that start with this.
    pub prefix: Arc<str>,
    /// As the pool's lanes sign in.
    pub auth_file: Option<Arc<str>>,
    /// For each connection, signing in included.
    pub connect_timeout: Span,
}

/// How far a flush has come, in keys of all servers so far. To be read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    seen: AtomicU64,
    deleted: AtomicU64,
    gone: AtomicU64,
    failed: AtomicU64,
}

impl Progress {
    /// Keys that were listed, with the prefix or not, in each listing anew: a server lists its keys until none is left to
    /// delete.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Keys that the server says it deleted.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Keys that were gone when they were to be deleted: expired, evicted, or deleted by somebody else.
    #[must_use]
    pub fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// Keys whose deletion was answered with an error.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn add(to: &AtomicU64, keys: u64) {
        to.fetch_add(keys, Ordering::Relaxed);
    }
}

/// Deletes every key with the prefix on every server. A server that fails, or a key that cannot be deleted, keeps no
/// other from being flushed. No deadline of its own: dropping the future gives it up, and what was deleted stays deleted.
///
/// # Errors
/// The first thing that went wrong, at which server.
pub async fn flush_prefix(flush: &Flush, progress: &Progress) -> Result<(), String> {
    let mut outcome = Ok(());
    for server in &flush.servers {
        if let Err(error) = one_server(flush, server, progress).await {
            outcome = outcome.and(Err(format!("{server}: {error}")));
        }
    }
    outcome
}

async fn one_server(flush: &Flush, server: &Address, progress: &Progress) -> io::Result<()> {
    let mut deletes = Deletes::new(connect(flush, server).await?);
    let failed = progress.failed();
    let mut passes = 0;
    while passes < PASSES_MAX {
        // A key that cannot be deleted is listed, and fails, each time.
        progress.failed.store(failed, Ordering::Relaxed);
        let deleted = progress.deleted();
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        // A connection that has listed is not asked again: its server may not have taken it back yet.
        let listing = Listing::start(connect(flush, server).await?).await?;
        let (left, ()) = tokio::try_join!(
            list(listing, queue, flush.prefix.as_bytes(), progress),
            deletes.carry_out_all(waiting, progress)
        )?;
        if !left && progress.deleted() == deleted {
            break;
        }
        passes += usize::from(!left);
    }
    match deletes.refusal {
        None => Ok(()),
        Some(answer) => Err(io::Error::other(format!("a key was not deleted: {answer}"))),
    }
}

/// Reads a listing to its end; whether keys with the prefix had to be left for another, because too many waited.
async fn list(
    mut listing: Listing,
    queue: mpsc::Sender<Vec<u8>>,
    prefix: &[u8],
    progress: &Progress,
) -> io::Result<bool> {
    let mut left = false;
    while let Some(key) = listing.next().await? {
        Progress::add(&progress.seen, 1);
        if key.starts_with(prefix) {
            left |= queue.try_send(key).is_err();
            if queue.capacity().is_multiple_of(BATCH) {
                // a batch is there: let it go out
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(left)
}

type Lines = BufReader<Stream>;

async fn connect(flush: &Flush, server: &Address) -> io::Result<Lines> {
    let stream =
        upstream::memcached::connect_within(server, flush.auth_file.as_deref(), flush.connect_timeout).await;
    Ok(BufReader::new(stream.map_err(|error| io::Error::other(error.what))?))
}

/// The keys of one server, as fast as they are asked for.
struct Listing {
    lines: Lines,
    line: Vec<u8>,
    /// `line` was read and is still to be looked at.
    waits: bool,
}

impl Listing {
    async fn start(lines: Lines) -> io::Result<Listing> {
        let mut listing = Listing { lines, line: Vec::new(), waits: true };
        loop {
            listing.lines.write_all(b"lru_crawler metadump all\r\n").await?;
            read_line(&mut listing.lines, &mut listing.line).await?;
            if !listing.line.starts_with(b"BUSY") {
                return Ok(listing);
            }
            tokio::time::sleep(BUSY_WAIT).await;
        }
    }

    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !std::mem::take(&mut self.waits) {
            read_line(&mut self.lines, &mut self.line).await?;
        }
        if self.line == b"END" {
            return Ok(None);
        }
        let Some(rest) = self.line.strip_prefix(b"key=") else {
            let text = String::from_utf8_lossy(&self.line);
            return Err(io::Error::other(format!("the server does not list its keys: {text}")));
        };
        Ok(Some(url_decoded(rest.split(|&byte| byte == b' ').next().unwrap_or_default())))
    }
}

/// Deletes that go out together. Each is answered, and `mn` says that there are no more answers, whatever they were.
struct Deletes {
    lines: Lines,
    line: Vec<u8>,
    commands: Vec<u8>,
    keys: usize,
    /// The first error a delete was answered with.
    refusal: Option<String>,
}

impl Deletes {
    fn new(lines: Lines) -> Deletes {
        Deletes { lines, line: Vec::new(), commands: Vec::new(), keys: 0, refusal: None }
    }

    fn push(&mut self, key: &[u8]) {
        self.commands.extend_from_slice(b"md ");
        // Base64 makes a key longer, perhaps too long: only for one that a line cannot hold.
        if key.iter().all(|&byte| byte > b' ' && byte != 0x7f) {
            self.commands.extend_from_slice(key);
            self.commands.extend_from_slice(b"\r\n");
        } else {
            self.commands.extend_from_slice(STANDARD.encode(key).as_bytes());
            self.commands.extend_from_slice(b" b\r\n");
        }
        self.keys += 1;
    }

    /// Deletes what waits until the listing has ended.
    async fn carry_out_all(
        &mut self,
        mut waiting: mpsc::Receiver<Vec<u8>>,
        progress: &Progress,
    ) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            for key in batch.drain(..) {
                self.push(&key);
            }
            self.carry_out(progress).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, progress: &Progress) -> io::Result<()> {
        self.commands.extend_from_slice(b"mn\r\n");
        self.lines.write_all(&self.commands).await?;
        self.commands.clear();
        let mut unanswered = std::mem::take(&mut self.keys) as u64;
        loop {
            read_line(&mut self.lines, &mut self.line).await?;
            match self.line.as_slice() {
                b"MN" if unanswered == 0 => return Ok(()),
                b"MN" => {
                    Progress::add(&progress.failed, unanswered);
                    return Err(io::Error::other(format!("{unanswered} deletes were not answered")));
                }
                b"HD" => Progress::add(&progress.deleted, 1),
                b"NF" => Progress::add(&progress.gone, 1),
                other => {
                    Progress::add(&progress.failed, 1);
                    self.refusal.get_or_insert_with(|| String::from_utf8_lossy(other).into_owned());
                }
            }
            unanswered = unanswered.saturating_sub(1);
        }
    }
}

/// Reads a line without its end. Bound: [`LINE_MAX`].
async fn read_line(from: &mut Lines, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    from.take(LINE_MAX as u64).read_until(b'\n', line).await?;
    if line.pop() != Some(b'\n') {
        let what = if line.len() + 1 < LINE_MAX { "the connection was lost" } else { "a line is too long" };
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(())
}

fn url_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escaped = match text[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            None => {
                decoded.push(text[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_url_decoded() {
        assert_eq!(url_decoded(b"at%3A%2F%2Fdid%3aplc"), b"at://did:plc");
        assert_eq!(url_decoded(b"100%"), b"100%", "an incomplete escape is itself");
        assert_eq!(url_decoded(b"%zz%41"), b"%zzA");
    }
}
