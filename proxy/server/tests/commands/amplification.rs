//! What `weir request` and `weir explain` show of work across legs.

use super::{april, golden, overrides};
use weir::admin::model::{
    Amplification, AmplificationRow, LegReport, RequestReport, RpcReport, ServiceRow, Snapshot,
};
use weir::commands::{amplification_text, explain, request_text};

fn leg(operations: u64, hits: u64, misses: u64) -> LegReport {
    LegReport {
        requests: 3,
        operations,
        backend_operations: operations,
        hits,
        misses,
        chunks: operations.div_ceil(128),
        bytes_out: 420 * hits,
        ..LegReport::default()
    }
}

/// The request that the outage began with.
fn large() -> RequestReport {
    RequestReport {
        id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        short_id: "S_kvNXezTaajzpKdDg5HNg".to_owned(),
        rpc: Some(RpcReport {
            caller: "importer".to_owned(),
            method: "bsky.Service/GetPostRecords".to_owned(),
            calls: 1,
            keys: 15_000,
            outcome: Some("ok".to_owned()),
            chunks: Some(150),
            bytes_in: Some(1_050_000),
            bytes_out: Some(7_300_000),
            took_us: Some(1_420_000),
        }),
        service: Some("dataplane".to_owned()),
        cache: leg(15_000, 1_000, 14_000),
        database: leg(14_000, 13_900, 0),
        first_seen_unix_ms: 1_795_233_780_000,
        seen_for_us: 1_419_000,
    }
}

fn amplification() -> Amplification {
    let caller = AmplificationRow {
        caller: "importer".to_owned(),
        origin: "rpc".to_owned(),
        requests: 3,
        rpc_keys: 45_000,
        cache_operations: 45_000,
        cache_misses: 42_000,
        database_operations: 42_000,
        database_rows: 41_700,
        storage_bytes: 18_774_000,
        cache_operations_per_key: Some(1.0),
        database_operations_per_key: Some(42.0 / 45.0),
    };
    let unseen = AmplificationRow {
        caller: "search".to_owned(),
        origin: "service".to_owned(),
        requests: 12,
        cache_operations: 40,
        ..AmplificationRow::default()
    };
    let service = |name: &str, says_ids: bool| ServiceRow {
        service: name.to_owned(),
        cache_operations: 90_000,
        cache_misses: 50_000,
        database_operations: 51_000,
        says_ids,
    };
    let strange =
        RequestReport { id: "\u{1b}[2J".to_owned(), service: Some("a\u{1b}b\n".to_owned()), ..large() };
    Amplification {
        callers: vec![caller, unseen],
        services: vec![service("dataplane", true), service("appview", false)],
        largest: vec![large(), RequestReport { rpc: None, ..strange }],
        tracked: 2,
        evicted: 7,
        dropped: 0,
        unknown: 3,
        ambiguous: 1_000,
    }
}

#[test]
fn one_request_leg_by_leg() {
    golden("request.txt", &request_text(&large()));
    let begun = RequestReport {
        rpc: Some(RpcReport {
            calls: 2,
            outcome: None,
            took_us: None,
            chunks: None,
            bytes_out: None,
            ..rpc()
        }),
        database: LegReport::default(),
        cache: LegReport { failed: 1, coalesced: 4, ..leg(20, 20, 0) },
        ..large()
    };
    golden("request-begun.txt", &request_text(&begun));
    let unseen = RequestReport { rpc: None, service: None, ..large() };
    assert!(request_text(&unseen).contains("weir saw none with this id"));
}

fn rpc() -> RpcReport {
    large().rpc.expect("it has one")
}

#[test]
fn callers_services_and_the_largest() {
    let text = amplification_text(&amplification());
    assert!(!text.contains('\u{1b}'), "{text}");
    golden("amplification.txt", &text);
    golden("amplification-none.txt", &amplification_text(&Amplification::default()));
}

#[test]
fn explain_tells_work_across_legs() {
    let snapshot = Snapshot { amplification: amplification(), ..april() };
    let found = explain("importer", &snapshot, &overrides(), None).expect("known");
    let line = found.to_text().lines().find(|line| line.contains("across legs")).map(str::to_owned);
    let want = "  across legs 45,000 keys of 3 RPCs: 45,000 cache operations (1.00 per key), 42,000 misses, 42,000 database \
                operations (0.93 per key), 17.9 MiB from storage";
    assert_eq!(line.as_deref(), Some(want));
}
