//! Load that goes on while something is taken away: writers who remember what was acknowledged, readers who check every
//! answer.

use super::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::Code;
use weir_dataplane::bsky::GetPostRecordsRequest;
use weir_dataplane::write::Writer;
use weir_dataplane::write::effects::Incoming;

/// Between two calls of a reader, and after a write that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// Told to end.
pub type Stop = Arc<AtomicBool>;

/// What became of one writer's posts.
#[derive(Debug, Default)]
pub struct Written {
    /// Addresses of those that were acknowledged.
    pub acknowledged: Vec<String>,
    /// How many were not: they may be there, or in part.
    pub failed: usize,
}

/// Writes posts of this author, one after the other.
pub async fn write(writer: Writer, author: String, stop: Stop) -> Written {
    let mut written = Written::default();
    let mut number = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        let uri = format!("at://{author}/app.bsky.feed.post/{number:06}");
        let record = Incoming {
            cid: format!("cid-of-{uri}"),
            json: br#"{"$type":"app.bsky.feed.post","text":""}"#.to_vec(),
            indexed_at: 1_775_254_560_000 + number,
            uri: uri.clone(),
        };
        number += 1;
        if writer.put_record(&record).await.is_ok() {
            written.acknowledged.push(uri);
        } else {
            written.failed += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
    written
}

/// What became of one reader's calls.
#[derive(Debug, Default)]
pub struct Calls {
    /// Answered, and right.
    pub good: usize,
    /// Failed, with these codes.
    pub bad: Vec<Code>,
    /// The time of the longest, failed ones included.
    pub longest: Duration,
}

/// Reads the posts that `uris` names for each call, one call after the other. All of them are there, or none.
pub async fn read(mut client: Client, uris: impl Fn(usize) -> Vec<String>, there: bool, stop: Stop) -> Calls {
    let mut calls = Calls::default();
    while !stop.load(Ordering::Relaxed) {
        let uris = uris(calls.good + calls.bad.len());
        let begun = Instant::now();
        match posts(&mut client, &uris).await {
            Ok(found) => {
                assert!(found.iter().all(|found| *found == there), "{uris:?}: {found:?}");
                calls.good += 1;
            }
            Err(code) => calls.bad.push(code),
        }
        calls.longest = calls.longest.max(begun.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    calls
}

/// Which of these posts are there. A record of another post, or a place too few, fails the test.
pub async fn posts(client: &mut Client, uris: &[String]) -> Result<Vec<bool>, Code> {
    let request = GetPostRecordsRequest { uris: uris.to_vec(), ..Default::default() };
    let answer = client.get_post_records(request).await.map_err(|status| status.code())?.into_inner();
    assert_eq!(answer.records.len(), uris.len());
    let right = |cid: &str, uri: &str| cid.is_empty() || cid.strip_prefix("cid-of-") == Some(uri);
    let records = answer.records.iter().zip(uris);
    let found = records.map(|(record, uri)| {
        assert!(right(&record.cid, uri), "{uri}: {}", record.cid);
        !record.cid.is_empty()
    });
    Ok(found.collect())
}

/// Posts of this name that nobody wrote.
pub fn missing(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("at://did:plc:nobody/app.bsky.feed.post/{name}-{number}")).collect()
}
