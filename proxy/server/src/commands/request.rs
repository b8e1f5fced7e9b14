//! `weir request`: what one request of a service came to in storage, or the largest of late.

use super::text::{bytes, grouped, left, length, micros, right, utc};
use super::{Failure, client, json_line, print};
use crate::admin::model::{Amplification, LegReport, RequestReport, RpcReport};
use crate::cli::RequestArgs;
use crate::config::problem::Escaped;
use std::fmt::Write as _;
use weir_engine::correlate::CorrelationId;

/// Requests that are listed without an id.
const SHOWN: usize = 10;

pub(super) async fn run(args: &RequestArgs) -> Result<u8, Failure> {
    let client = client(&args.admin)?;
    let Some(text) = &args.id else {
        let all: Amplification = client.get("/amplification").await?;
        print(&if args.json { json_line(&all)? } else { by_caller(&all) })?;
        return Ok(0);
    };
    let Some(id) = CorrelationId::parse(text) else {
        let forms = "32 hex digits, a traceparent, or the 22 characters that clients send";
        return Err(Failure::unknown(format!("{} is no id: {forms}", Escaped(text))));
    };
    let report: RequestReport = client.get(&format!("/request?id={id}")).await?;
    print(&if args.json { json_line(&report)? } else { one(&report) })?;
    Ok(0)
}

/// One request, leg by leg.
#[must_use]
pub fn one(report: &RequestReport) -> String {
    let mut text = format!("request {} ({})\n", Escaped(&report.id), Escaped(&report.short_id));
    let service = report.service.as_deref().map_or("nobody yet", |service| service);
    let _ = writeln!(
        text,
        "  seen        {}, for {}",
        utc(report.first_seen_unix_ms / 1_000),
        micros(report.seen_for_us)
    );
    let rpc = report.rpc.as_ref();
    match rpc {
        Some(rpc) => {
            let _ = writeln!(text, "  RPC         {}", in_words(rpc));
        }
        None => text.push_str("  RPC         weir saw none with this id\n"),
    }
    let _ = writeln!(text, "  service     {}", Escaped(service));
    let keys = rpc.map_or(0, |rpc| rpc.keys);
    leg(&mut text, "cache", &report.cache, keys, "found");
    if report.cache.misses > 0 {
        let _ = writeln!(text, "  misses      {}", grouped(report.cache.misses));
    }
    leg(&mut text, "database", &report.database, keys, "rows");
    let out = rpc
        .and_then(|rpc| rpc.bytes_out)
        .map_or_else(String::new, |out| format!("; {} to the caller", bytes(out)));
    let read = report.cache.bytes_out + report.database.bytes_out;
    let _ = writeln!(text, "  bytes out   {} from storage{out}", bytes(read));
    text
}

fn in_words(rpc: &RpcReport) -> String {
    let calls = if rpc.calls > 1 { format!(" in {} calls", grouped(rpc.calls)) } else { String::new() };
    let end = match (&rpc.outcome, rpc.took_us) {
        (Some(outcome), Some(took)) => format!("{} after {}", Escaped(outcome), micros(took)),
        _ => "under way".to_owned(),
    };
    let chunks = rpc.chunks.filter(|chunks| *chunks > 1);
    let chunks = chunks.map_or_else(String::new, |chunks| format!(" in {} parts", grouped(chunks.into())));
    format!(
        "{} asked {} for {} keys{calls}{chunks}: {end}",
        Escaped(&rpc.caller),
        Escaped(&rpc.method),
        grouped(rpc.keys)
    )
}

fn leg(text: &mut String, name: &str, leg: &LegReport, keys: u64, found: &str) {
    if leg.requests == 0 {
        let _ = writeln!(text, "  {name:<11} nothing");
        return;
    }
    let per_key = match keys {
        0 => String::new(),
        keys => format!(" ({:.2} per key)", leg.operations as f64 / keys as f64),
    };
    let failed = if leg.failed > 0 { format!(", {} failed", grouped(leg.failed)) } else { String::new() };
    let joined =
        if leg.coalesced > 0 { format!(", {} joined others", grouped(leg.coalesced)) } else { String::new() };
    let _ = writeln!(
        text,
        "  {name:<11} {} operations{per_key} in {} requests, {} {found}{joined}{failed}; {} went to servers in {} parts",
        grouped(leg.operations),
        grouped(leg.requests),
        grouped(leg.hits),
        grouped(leg.backend_operations),
        grouped(leg.chunks),
    );
}

/// Callers, services without ids, and the largest requests.
#[must_use]
pub fn by_caller(all: &Amplification) -> String {
    let mut text = String::new();
    if all.callers.is_empty() {
        text.push_str(
            "no request with an id was seen (docs/amplification.md says how a service hands one on)\n",
        );
    } else {
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} per key: cache, database",
            left("caller", 24),
            left("seen as", 7),
            right("requests", 11),
            right("keys", 13),
            right("cache", 13),
            right("misses", 13),
            right("database", 13),
        );
    }
    for row in &all.callers {
        let per_key = match (row.cache_operations_per_key, row.database_operations_per_key) {
            (Some(cache), Some(database)) => format!("{cache:.2}, {database:.2}"),
            _ => "weir saw no RPC".to_owned(),
        };
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} {per_key}",
            left(&row.caller, 24),
            left(&row.origin, 7),
            right(&grouped(row.requests), 11),
            right(&grouped(row.rpc_keys), 13),
            right(&grouped(row.cache_operations), 13),
            right(&grouped(row.cache_misses), 13),
            right(&grouped(row.database_operations), 13),
        );
    }
    let without: Vec<_> = all.services.iter().filter(|service| !service.says_ids).collect();
    if !without.is_empty() {
        text.push_str("\nservices whose requests bear no id: totals only, nobody's in particular\n");
    }
    for service in without {
        let _ = writeln!(
            text,
            "{} {} cache operations, {} misses, {} database operations",
            left(&service.service, 24),
            grouped(service.cache_operations),
            grouped(service.cache_misses),
            grouped(service.database_operations),
        );
    }
    if !all.largest.is_empty() {
        text.push_str("\nthe largest of late\n");
    }
    for request in all.largest.iter().take(SHOWN) {
        let who = request.rpc.as_ref().map(|rpc| rpc.caller.as_str()).or(request.service.as_deref());
        let _ = writeln!(
            text,
            "{} {} {} cache operations, {} misses, {} database operations",
            Escaped(&request.id),
            left(who.unwrap_or("?"), 24),
            grouped(request.cache.operations),
            grouped(request.cache.misses),
            grouped(request.database.operations),
        );
    }
    if all.evicted + all.dropped > 0 {
        let _ = writeln!(
            text,
            "\n{} requests were forgotten within {} for want of room (correlated_requests_max), {} notes were dropped",
            grouped(all.evicted),
            length(weir_engine::correlate::KEPT_FOR.0 / 1_000_000),
            grouped(all.dropped),
        );
    }
    if all.unknown + all.ambiguous > 0 {
        let _ = writeln!(
            text,
            "\n{} database reads said the end of an id that no remembered request has, {} one that several have",
            grouped(all.unknown),
            grouped(all.ambiguous),
        );
    }
    text
}
