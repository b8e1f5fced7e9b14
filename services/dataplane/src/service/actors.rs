//! Accounts.

use super::records::no_record;
use crate::bsky::*;
use crate::read::kinds::{Actors, Handles, Records};
use crate::read::plan::Plan;
use crate::read::{Call, Failure, Reads};
use rustc_hash::FxHashSet;

/// The records that a view of an account is made of.
const PROFILE: &str = "app.bsky.actor.profile";
const STATUS: &str = "app.bsky.actor.status";
const GERM: &str = "com.germnetwork.declaration";

fn of_account(did: &str, collection: &str) -> String {
    if did.is_empty() { String::new() } else { format!("at://{did}/{collection}/self") }
}

pub(super) async fn actors(
    reads: &Reads,
    call: &Call,
    request: GetActorsRequest,
) -> Result<GetActorsResponse, Failure> {
    let collections = [PROFILE, STATUS, GERM];
    let uris: Vec<String> = request
        .dids
        .iter()
        .flat_map(|did| collections.map(|collection| of_account(did, collection)))
        .collect();
    let past: FxHashSet<String> = request.skip_cache_for_dids.iter().cloned().collect();
    let past_uris =
        past.iter().flat_map(|did| collections.map(|collection| of_account(did, collection))).collect();
    let (dids, records) =
        (Plan::new(request.dids.iter().map(String::as_str)), Plan::new(uris.iter().map(String::as_str)));
    let (found, found_records) = futures_util::try_join!(
        reads.read_past(call, &Actors, &dids, &past),
        reads.read_past(call, &Records, &records, &past_uris),
    )?;
    let of_age: FxHashSet<&String> = request.return_age_assurance_for_dids.iter().collect();
    let mut slots =
        records.slots(&found_records).map(|slot| slot.map_or_else(no_record, |stored| stored.record.clone()));
    let actors = dids.slots(&found).zip(&request.dids).map(|(slot, did)| {
        let mut info = slot.map_or_else(ActorInfo::default, |stored| stored.info.clone());
        let profile = slots.next().unwrap_or_else(no_record);
        info.created_at = profile.created_at;
        info.profile = Some(profile);
        info.status_record = slots.next();
        info.germ_record = slots.next();
        if info.allow_activity_subscriptions_from.is_empty() {
            info.allow_activity_subscriptions_from = "followers".to_owned();
        }
        info.age_assurance_status = of_age.contains(did).then(|| AgeAssuranceStatus {
            status: "unknown".to_owned(),
            access: "unknown".to_owned(),
            ..AgeAssuranceStatus::default()
        });
        info
    });
    Ok(GetActorsResponse { actors: actors.collect() })
}

pub(super) async fn dids_by_handles(
    reads: &Reads,
    call: &Call,
    request: GetDidsByHandlesRequest,
) -> Result<GetDidsByHandlesResponse, Failure> {
    let plan = Plan::new(request.handles.iter().map(String::as_str));
    let found = reads.read(call, &Handles, &plan).await?;
    let dids = plan.slots(&found).map(|slot| slot.map(|name| name.did.clone()).unwrap_or_default());
    Ok(GetDidsByHandlesResponse { dids: dids.collect() })
}

pub(super) async fn identity(
    reads: &Reads,
    call: &Call,
    request: GetIdentityByDidRequest,
) -> Result<GetIdentityByDidResponse, Failure> {
    let mut found = reads.read(call, &Actors, &Plan::new([request.did.as_str()])).await?;
    let actor =
        found.remove(&request.did).ok_or_else(|| Failure::NotFound("identity not found".to_owned()))?;
    Ok(GetIdentityByDidResponse {
        did: request.did,
        handle: actor.info.handle,
        keys: actor.keys,
        services: actor.services,
        updated: actor.updated,
    })
}

pub(super) async fn latest_rev(
    reads: &Reads,
    call: &Call,
    request: GetLatestRevRequest,
) -> Result<GetLatestRevResponse, Failure> {
    let mut found = reads.read(call, &Actors, &Plan::new([request.actor_did.as_str()])).await?;
    let rev = found.remove(&request.actor_did).map(|actor| actor.rev).unwrap_or_default();
    Ok(GetLatestRevResponse { rev })
}
