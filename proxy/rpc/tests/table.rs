//! Tables: every problem at once, with its method, its key and what may have been meant.

use weir_rpc::table::{self, Entries, MergeEntry, MethodEntry};
use weir_rpc::{Problem, ProtoFile, Schema, Table};

const SHOP: &str = r#"
syntax = "proto3";
package shop;
message Ref { string uri = 1; repeated string tags = 2; }
message Filter { repeated string uris = 1; }
message Ask { repeated string uris = 1; Filter filter = 2; string viewer = 3; repeated int64 ids = 4; map<string, int32> n = 5; }
message Reply {
  repeated Ref records = 1;
  repeated int32 likes = 2;
  int32 total = 3;
  string cursor = 4;
  oneof either { string left = 5; string right = 6; }
  map<string, Ref> by_uri = 7;
}
message Plain { repeated Ref records = 1; optional string cursor = 2; int32 total = 3; repeated string labels = 4; }
service Library {
  rpc GetAll(Ask) returns (Reply);
  rpc GetPlain(Ask) returns (Plain);
  rpc Watch(Ask) returns (stream Plain);
}
"#;

fn schema() -> Schema {
    Schema::compile(&[ProtoFile { name: "shop.proto", text: SHOP }]).expect("the schema compiles")
}

fn problems(text: &str) -> Vec<String> {
    let entries = table::parse(text).expect("the table reads");
    match Table::check(&schema(), &entries) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

#[test]
fn a_right_table_has_plans() {
    let entries = table::parse(
        r#"
        [method."shop.Library/GetPlain"]
        keys = ["uris", "filter.uris", "ids"]
        split = "uris"
        positional = ["records"]
        merge = { cursor = "first", total = "sum", labels = { distinct = "" } }
        [method."/shop.Library/Watch"]
        keys = ["n"]
        rows = ["records.tags"]
        "#,
    );
    let table = Table::check(&schema(), &entries.expect("the table reads")).expect("no problem");
    let plain = table.find("/shop.Library/GetPlain").expect("is there");
    assert_eq!(plain.keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["uris", "filter.uris", "ids"]);
    assert_eq!((plain.request.len(), plain.reply.len(), plain.streaming), (3, 2, false));
    let split = plain.split.as_ref().expect("can be split");
    let fields: Vec<_> = split.reply.iter().map(|field| (field.step.number, &*field.name)).collect();
    assert_eq!(fields, [(1, "records"), (2, "cursor"), (3, "total"), (4, "labels")]);

    // A method without an entry is known; of its reply every repeated field is counted.
    let all = table.find("shop.Library/GetAll").expect("is there");
    assert!(all.request.is_empty() && all.split.is_none());
    assert_eq!(all.rows.iter().map(|row| &**row).collect::<Vec<_>>(), ["records", "likes", "by_uri"]);
    let watch = table.find("shop.Library/Watch").expect("is there");
    assert!(watch.streaming && watch.request.len() == 1 && &*watch.rows[0] == "records.tags");
    assert!(table.find("/shop.Library/Nothing").is_none() && table.find("").is_none());
    assert_eq!(table.methods().len(), 3);
}

#[test]
fn every_problem_is_reported_at_once() {
    let found = problems(
        r#"
        [method."shop.Library/GetAl"]
        keys = ["uris"]

        [method."shop.Library/GetAll"]
        keys = ["urls", "filter.uri", "viewer", "uris", "uris", "ids.x"]
        rows = ["recrods"]
        split = "filter.uris"
        positional = ["record", "total", "likes"]
        merge.cursor = "sum"
        merge.likes = "concat"
        merge.by_uri = { distinct = "value.tags" }
        spilt = "uris"

        [method."shop.Library/GetPlain"]
        keys = ["uris"]
        split = "viewer"
        positional = ["records"]
        merge = { cursor = "concat", labels = { distinct = "uri" } }

        [method."shop.Library/Watch"]
        keys = ["uris"]
        split = "ids"
        merge = { records = "first", cursor = "equal", total = "first", labels = "concat" }
        "#,
    );
    let expected = [
        "method shop.Library/GetAl: is not in the schema; did you mean `shop.Library/GetAll`?",
        "method shop.Library/GetAll: spilt: no such key; did you mean `split`?",
        "method shop.Library/GetAll: keys: shop.Ask has no field `urls`; did you mean `uris`?",
        "method shop.Library/GetAll: keys: shop.Filter has no field `uri`; did you mean `uris`?",
        "method shop.Library/GetAll: keys: `viewer` is not repeated: every message has at most one",
        "method shop.Library/GetAll: keys: `uris` is listed twice",
        "method shop.Library/GetAll: keys: `ids.x`: `ids` is not a message",
        "method shop.Library/GetAll: rows: shop.Reply has no field `recrods`; did you mean `records`?",
        "method shop.Library/GetAll: split: `filter.uris` lies inside a message: only the request itself can be cut",
        "method shop.Library/GetAll: positional: shop.Reply has no field `record`; did you mean `records`?",
        "method shop.Library/GetAll: merge.records: the reply field has no rule: `positional`, \"concat\" or { distinct = ... }",
        "method shop.Library/GetAll: merge.likes: the field is positional and needs no rule",
        "method shop.Library/GetAll: positional: `total` is not a repeated field",
        "method shop.Library/GetAll: merge.cursor: \"sum\" needs a number",
        "method shop.Library/GetAll: split: reply field `left` is in a oneof, which cannot be put together",
        "method shop.Library/GetAll: split: reply field `right` is in a oneof, which cannot be put together",
        "method shop.Library/GetAll: merge.by_uri: `value.tags` is repeated: an element must have one key",
        "method shop.Library/GetPlain: split: `viewer` is not a repeated field",
        "method shop.Library/GetPlain: merge.cursor: the field is not repeated",
        "method shop.Library/GetPlain: merge.total: the reply field has no rule: \"first\", \"equal\" or \"sum\"",
        "method shop.Library/GetPlain: merge.labels: `uri`: `labels` is not a message; use an empty path",
        "method shop.Library/Watch: split: the method streams; only calls of one request and one reply can be split",
        "method shop.Library/Watch: split: `ids` is not among `keys`: what is cut must be counted",
        "method shop.Library/Watch: merge.records: the field is repeated",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn rules_without_a_key_to_cut_at_mean_nothing() {
    let found = problems("[method.\"shop.Library/GetPlain\"]\npositional = [\"records\"]\n");
    let expected = "method shop.Library/GetPlain: split: is missing: `positional` and `merge` have no meaning without it";
    assert_eq!(found, [expected]);
    let rows: Vec<String> = (0..17).map(|_| "\"uris\"".to_owned()).collect();
    let many = format!("[method.\"shop.Library/GetPlain\"]\nkeys = [{}]\n", rows.join(","));
    assert_eq!(problems(&many).len(), 16, "each one after the first is listed twice");
}

#[test]
fn text_that_is_no_table_is_named() {
    let messages = |text: &str| -> Vec<String> {
        table::parse(text).err().unwrap_or_default().iter().map(Problem::to_string).collect()
    };
    assert!(messages("[method").concat().contains("method table"), "{:?}", messages("[method"));
    let found = messages(
        r#"
        metod = 1
        [methods."a.B/C"]
        [method."a.B/D"]
        keys = "uris"
        [method."a.B/E"]
        merge.x = "concatenate"
        "#,
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found[0].contains("did you mean `method`?") && found[1].contains("did you mean `method`?"),
        "{found:#?}"
    );
    assert!(found[2].starts_with("method a.B/D: ") && found[3].starts_with("method a.B/E: "), "{found:#?}");
}

#[test]
fn entries_can_be_made_without_text() {
    let entry = MethodEntry {
        keys: vec!["uris".to_owned()],
        split: Some("uris".to_owned()),
        positional: vec!["records".to_owned()],
        merge: [("cursor", MergeEntry::Equal), ("total", MergeEntry::Sum), ("labels", MergeEntry::Concat)]
            .map(|(name, rule)| (name.to_owned(), rule))
            .into(),
        ..MethodEntry::default()
    };
    let entries: Entries = [("shop.Library/GetPlain".to_owned(), entry)].into();
    let table = Table::check(&schema(), &entries).expect("no problem");
    assert!(table.find("/shop.Library/GetPlain").is_some_and(|method| method.split.is_some()));
}

/// What atproto.md calls the 41 batch methods.
const BATCH: &[(&str, &str)] = &[
    (
        "uris",
        "GetBlockRecords GetFeedGeneratorRecords GetFollowRecords GetLikeRecords GetListBlockRecords \
      GetListItemRecords GetListRecords GetPostRecords GetProfileRecords GetActorChatDeclarationRecords \
      GetNotificationDeclarationRecords GetGermDeclarationRecords GetStatusRecords GetRepostRecords GetThreadGateRecords \
      GetPostgateRecords GetLabelerRecords GetStarterPackRecords GetVerificationRecords GetFeedGeneratorStatus \
      GetSiteStandardRecordsByURI GetBookmarksByActorAndSubjects",
    ),
    ("dids", "GetActors GetCountsForUsers GetNotificationPreferences"),
    ("handles", "GetDidsByHandles"),
    (
        "refs",
        "GetInteractionCounts GetLikesByActorAndSubjects GetRepostsByActorAndSubjects GetStarterPackCounts \
      GetListCounts GetSiteStandardRecordsByRef",
    ),
    ("target_dids", "GetRelationships GetActorFollowsActors GetFollowsFollowing"),
    ("pairs", "GetBlockExistence"),
    ("subjects", "GetLabels"),
    ("subject_uris", "GetKnownLikers"),
    ("list_uris", "GetListMembership"),
    ("thread_roots", "GetThreadMutesOnSubjects"),
    ("subject_dids", "GetActivitySubscriptionsByActorAndSubjects"),
];

/// The other methods that a data plane needs.
const OTHERS: &str = "Ping GetIdentityByDid GetTimeline GetAuthorFeed GetThread GetFollowers GetNotifications \
    GetNotificationSeen GetLatestRev";

#[test]
fn the_preset_describes_the_41_batch_methods() {
    let table = table::preset("bsky").expect("comes with weir").load().expect("no problem");
    let mut batch = 0;
    for (key, methods) in BATCH {
        for name in methods.split_whitespace() {
            let method = table.find(&format!("/bsky.Service/{name}")).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(&*method.keys[0], *key, "{name}");
            let split = method.split.as_ref().unwrap_or_else(|| panic!("{name} is not split"));
            assert_eq!(split.reply.len(), method.rows.len(), "{name}: every reply field is repeated");
            batch += 1;
        }
    }
    assert_eq!(batch, 41);
    assert_eq!(table.methods().filter(|method| !method.keys.is_empty()).count(), 41);
    let labels = table.find("bsky.Service/GetLabels").map(|method| method.keys.len());
    assert_eq!(labels, Some(2), "subjects and issuers");
    for name in OTHERS.split_whitespace() {
        let method = table.find(&format!("bsky.Service/{name}")).unwrap_or_else(|| panic!("no {name}"));
        assert!(method.keys.is_empty() && method.split.is_none(), "{name}");
    }
    assert_eq!(table.methods().len(), 50);
    let thread = table.find("bsky.Service/GetThread").expect("is there");
    assert_eq!(thread.rows.iter().map(|row| &**row).collect::<Vec<_>>(), ["uris", "op_thread"]);
    assert!(table::preset("bluesky").is_none());
}
