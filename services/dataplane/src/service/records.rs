//! Records by address, and labels.

use crate::bsky::*;
use crate::read::kinds::{AuthorThreads, LabelsOf, Records};
use crate::read::plan::Plan;
use crate::read::values::StoredRecord;
use crate::read::{Call, Failure, Reads};
use rustc_hash::{FxHashMap, FxHashSet};

/// What stands in the place of a record that is not there.
pub(super) fn no_record() -> Record {
    Record { record: bytes::Bytes::from_static(b"null"), ..Record::default() }
}

/// The collection of an address `at://AUTHORITY/COLLECTION/KEY`; `None` where it is no address of a record.
pub(super) fn collection(uri: &str) -> Option<&str> {
    let mut parts = uri.strip_prefix("at://")?.split('/');
    let (authority, collection, key) = (parts.next()?, parts.next()?, parts.next()?);
    (!authority.is_empty() && !key.is_empty() && parts.next().is_none()).then_some(collection)
}

/// The records of one collection at these addresses: of another collection none is there.
struct Found {
    plan: Plan,
    records: FxHashMap<String, StoredRecord>,
}

async fn find(reads: &Reads, call: &Call, uris: &[String], wanted: &str) -> Result<Found, Failure> {
    // What cannot be such a record is an empty slot, without asking storage.
    let plan = Plan::new(uris.iter().map(|uri| match collection(uri) {
        Some(found) if found == wanted => uri.as_str(),
        _ => "",
    }));
    let records = reads.read(call, &Records, &plan).await?;
    Ok(Found { plan, records })
}

impl Found {
    fn records(&self) -> Vec<Record> {
        let slots = self.plan.slots(&self.records);
        slots.map(|slot| slot.map_or_else(no_record, |stored| stored.record.clone())).collect()
    }
}

pub(super) async fn ping(_: &Reads, _: &Call, _: PingRequest) -> Result<PingResponse, Failure> {
    Ok(PingResponse {})
}

/// One thread per root, in the order of its first post in the request.
pub(super) async fn threads_of(
    reads: &Reads,
    call: &Call,
    plan: &Plan,
    records: &FxHashMap<String, StoredRecord>,
) -> Result<Vec<OpThread>, Failure> {
    let mut seen = FxHashSet::default();
    let mut roots: Vec<String> = Vec::new();
    for uri in &plan.keys {
        let Some(stored) = records.get(uri) else { continue };
        let root = if stored.root_uri.is_empty() { uri } else { &stored.root_uri };
        if seen.insert(root.clone()) {
            roots.push(root.clone());
        }
    }
    let plan = Plan::new(roots.iter().map(String::as_str));
    let threads = reads.read(call, &AuthorThreads { most: reads.bounds.thread_uris_max }, &plan).await?;
    let thread = |root: &String| {
        let rest = threads.get(root).map_or(&[][..], |rest| &rest.texts);
        OpThread { root_uri: root.clone(), uris: std::iter::once(root).chain(rest).cloned().collect() }
    };
    Ok(roots.iter().map(thread).collect())
}

pub(super) async fn follows(
    reads: &Reads,
    call: &Call,
    request: GetFollowRecordsRequest,
) -> Result<GetFollowRecordsResponse, Failure> {
    let found = find(reads, call, &request.uris, "app.bsky.graph.follow").await?;
    Ok(GetFollowRecordsResponse { records: found.records() })
}

pub(super) async fn likes(
    reads: &Reads,
    call: &Call,
    request: GetLikeRecordsRequest,
) -> Result<GetLikeRecordsResponse, Failure> {
    let found = find(reads, call, &request.uris, "app.bsky.feed.like").await?;
    Ok(GetLikeRecordsResponse { records: found.records() })
}

pub(super) async fn thread_gates(
    reads: &Reads,
    call: &Call,
    request: GetThreadGateRecordsRequest,
) -> Result<GetThreadGateRecordsResponse, Failure> {
    let found = find(reads, call, &request.uris, "app.bsky.feed.threadgate").await?;
    Ok(GetThreadGateRecordsResponse { records: found.records() })
}

pub(super) async fn labelers(
    reads: &Reads,
    call: &Call,
    request: GetLabelerRecordsRequest,
) -> Result<GetLabelerRecordsResponse, Failure> {
    let found = find(reads, call, &request.uris, "app.bsky.labeler.service").await?;
    Ok(GetLabelerRecordsResponse { records: found.records() })
}

/// Not positional: the labels of each subject in the order of the subjects, again for one that was asked again.
pub(super) async fn labels(
    reads: &Reads,
    call: &Call,
    request: GetLabelsRequest,
) -> Result<GetLabelsResponse, Failure> {
    if request.issuers.is_empty() {
        return Ok(GetLabelsResponse::default());
    }
    let plan = Plan::new(request.subjects.iter().map(String::as_str));
    let found = reads.read(call, &LabelsOf, &plan).await?;
    let issuers: FxHashSet<&str> = request.issuers.iter().map(String::as_str).collect();
    let of_issuers = plan.slots(&found).flatten().flat_map(|labels| &labels.labels);
    let labels = of_issuers.filter(|label| issuers.contains(label.issuer.as_str()));
    Ok(GetLabelsResponse { labels: labels.map(|label| label.label.clone()).collect() })
}

#[cfg(test)]
mod tests {
    use super::collection;

    #[test]
    fn only_addresses_of_records_have_a_collection() {
        assert_eq!(collection("at://did:plc:a/app.bsky.feed.post/3k"), Some("app.bsky.feed.post"));
        for bad in [
            "",
            "at://",
            "at://did:plc:a",
            "at://did:plc:a/app.bsky.feed.post",
            "at:///x/y",
            "http://a/b/c",
            "at://a/b/c/d",
        ] {
            assert_eq!(collection(bad), None, "{bad}");
        }
    }
}
