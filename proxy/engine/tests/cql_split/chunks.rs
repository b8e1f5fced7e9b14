//! Requests that are not cut, what a chunk is asked, and answers that are no rows, differ or are too large.

use crate::model::{Ask, LimitForm, Model, Partition, Row, header, located, page};
use std::num::NonZeroU32;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::key::{COMPONENT_MAX, KeyType};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{Version, write};
use weir_engine::cql::split::{Bounds, Chunk, Fault, Gather, PageKey, Pages, Plan, Status, Uncut, Whole};

fn model(kind: KeyType) -> Model {
    let rows = vec![Row { c: 1, v: vec![b'v'; 10] }];
    let partition = |key: i32| Partition { key: key.to_be_bytes().to_vec(), rows: rows.clone() };
    let table = (0..200).map(partition).collect();
    Model { version: Version::V4, kind, table, limit: LimitForm::Bound, range: false, warn_at: -1 }
}

fn ask(keys: impl IntoIterator<Item = Option<Vec<u8>>>) -> Ask {
    Ask {
        keys: keys.into_iter().collect(),
        limit: None,
        above: 0,
        page_size: None,
        skip_metadata: false,
        timestamp: None,
    }
}

fn ints(keys: std::ops::Range<i32>) -> Vec<Option<Vec<u8>>> {
    keys.map(|key| Some(key.to_be_bytes().to_vec())).collect()
}

fn cut_body(model: &Model, header: &Header, body: &[u8], chunk_keys: u32) -> Result<Plan, Uncut> {
    let split = model.shape().expect("a shape");
    let execute = located(model.version, body);
    let chunk_keys = NonZeroU32::new(chunk_keys).expect("above 0");
    let pages = Pages { key: &PageKey::of_cluster("main"), statement: execute.id.of(body) };
    Plan::cut(&split, header, body, &execute, model.dialect(), chunk_keys, &pages)
}

fn cut(model: &Model, ask: &Ask, chunk_keys: u32) -> Result<Plan, Uncut> {
    let body = model.execute(ask, None);
    cut_body(model, &header(model.version, Opcode::Execute, &body), &body, chunk_keys)
}

fn whole(found: Result<Plan, Uncut>) -> Option<Whole> {
    match found {
        Err(Uncut::Whole(whole)) => Some(whole),
        _ => None,
    }
}

/// The answer of the model to a chunk.
fn answer(model: &Model, plan: &Plan, index: u32) -> Vec<u8> {
    let mut body = Vec::new();
    plan.write_chunk(index, &Chunk::default(), &mut body);
    model.answer(&body).1
}

fn error(words: &str) -> Vec<u8> {
    let mut body = Vec::new();
    ErrorBody::plain(ErrorCode::SERVER_ERROR, words).write(Version::V4, &mut body);
    body
}

#[test]
fn keys_the_server_must_judge_itself() {
    let text = model(KeyType::Text);
    for (kind, odd, expected) in [
        (KeyType::Int, None, Some(Whole::Keys)),
        (KeyType::Int, Some(vec![1, 2, 3]), Some(Whole::Keys)),
        (KeyType::Blob, Some(vec![7; COMPONENT_MAX + 1]), Some(Whole::Keys)),
        (KeyType::Blob, Some(vec![7; COMPONENT_MAX]), None),
        (KeyType::Text, Some(vec![0xff]), Some(Whole::Keys)),
        // 1 with a byte too many: equal to another key, not the same
        (KeyType::Varint, Some(vec![0, 0, 0, 0, 1]), Some(Whole::Keys)),
    ] {
        let model = Model { kind, ..text.clone() };
        let keys = ints(0..20).into_iter().chain([odd]);
        assert_eq!(whole(cut(&model, &ask(keys), 5)), expected, "{kind:?}");
    }
}

#[test]
fn requests_that_only_the_whole_can_carry() {
    let model = model(KeyType::Int);
    let body = model.execute(&ask(ints(0..20)), None);
    let plain = header(model.version, Opcode::Execute, &body);
    assert!(cut_body(&model, &plain, &body, 5).is_ok());
    for (flag, expected) in [(Flags::TRACING, Whole::Traced), (Flags::CUSTOM_PAYLOAD, Whole::Payload)] {
        let header = Header { flags: Flags(flag), ..plain };
        assert_eq!(whole(cut_body(&model, &header, &body, 5)), Some(expected));
    }
    for consistency in [8_u16, 9] {
        let mut serial = body.clone();
        let at = located(model.version, &body).parameters.consistency.at as usize;
        serial[at..at + 2].copy_from_slice(&consistency.to_be_bytes());
        assert_eq!(whole(cut_body(&model, &plain, &serial, 5)), Some(Whole::Serial));
    }
    let other = Model { limit: LimitForm::None, ..model.clone() };
    let one_value = other.execute(&ask(ints(0..20)), None);
    assert_eq!(whole(cut_body(&model, &plain, &one_value, 5)), Some(Whole::Values));
    // values by name: the first flag byte follows id and consistency
    let mut named = Vec::new();
    write::short_bytes(&mut named, crate::model::ID);
    write::short(&mut named, 1);
    write::byte(&mut named, 0x41);
    write::short(&mut named, 2);
    for (name, value) in [("in(k)", &[0, 0, 0, 0][..]), ("[limit]", &[0, 0, 0, 9])] {
        write::string(&mut named, name);
        write::bytes(&mut named, value);
    }
    assert_eq!(whole(cut_body(&model, &plain, &named, 5)), Some(Whole::Named));
}

#[test]
fn limits_the_server_must_judge_itself() {
    let model = model(KeyType::Int);
    for limit in [0, -1, i32::MIN] {
        let ask = Ask { limit: Some(limit), ..ask(ints(0..20)) };
        assert_eq!(whole(cut(&model, &ask, 5)), Some(Whole::Limit));
    }
    let none = Ask { page_size: Some(0), ..ask(ints(0..20)) };
    assert_eq!(whole(cut(&model, &none, 5)), Some(Whole::Limit), "pages of no rows");
    let three = Model { version: Version::V3, ..model.clone() };
    assert_eq!(whole(cut(&three, &ask(ints(0..20)), 5)), Some(Whole::Limit), "null in v3");
    assert_eq!(cut(&model, &ask(ints(0..20)), 5).map(|plan| plan.limit_left()), Ok(None), "not set in v4");
}

#[test]
fn small_lists_are_left_alone() {
    let model = model(KeyType::Int);
    for (keys, chunks) in [(0, None), (1, None), (100, None), (101, Some(2)), (200, Some(2)), (201, Some(3))]
    {
        // each key twice: it is the different ones that count
        let keys = ints(0..keys).into_iter().chain(ints(0..keys));
        let found = cut(&model, &ask(keys), 100);
        assert_eq!(found.as_ref().ok().map(Plan::chunks), chunks);
        assert_eq!(whole(found), chunks.is_none().then_some(Whole::Small));
    }
}

#[test]
fn a_bound_limit_falls_with_what_is_left() {
    let model = model(KeyType::Int);
    let plan = cut(&model, &Ask { limit: Some(50), ..ask(ints(0..100)) }, 10).expect("a plan");
    assert_eq!((plan.limit_left(), plan.chunks()), (Some(50), 10));
    let limit = |chunk: &Chunk<'_>| {
        let mut body = vec![9; 3];
        plan.write_chunk(4, chunk, &mut body);
        let body = body.split_off(3);
        let execute = located(model.version, &body);
        let value = execute.parameters.values.get(&body, 1).and_then(|value| value.of(&body));
        i32::from_be_bytes(value.expect("a limit").try_into().expect("an int"))
    };
    assert_eq!(limit(&Chunk::default()), 50);
    assert_eq!(limit(&Chunk { limit_left: Some(7), ..Chunk::default() }), 7);
    assert_eq!(limit(&Chunk { limit_left: Some(0), ..Chunk::default() }), 1, "never zero");
    assert_eq!(limit(&Chunk { limit_left: Some(7), state: Some(b"x"), ..Chunk::default() }), 50);
}

#[test]
fn the_memory_of_a_big_request_is_one_copy_of_its_keys() {
    let model = Model { limit: LimitForm::None, ..model(KeyType::Text) };
    let key = |at: i32| format!("at://did:plc:{at:0>24}/app.bsky.feed.post/{at:0>13}").into_bytes();
    let keys: Vec<Option<Vec<u8>>> = (0..15_000).rev().map(key).map(Some).collect();
    let bytes: usize = keys.iter().flatten().map(Vec::len).sum();
    assert!(bytes > 1_000_000, "{bytes}");
    let plan = cut(&model, &ask(keys), 100).expect("a plan");
    assert_eq!((plan.chunks(), plan.keys(), plan.keys_in(149), plan.keys_in(150)), (150, 15_000, 100, 0));
    assert!(plan.bytes() <= bytes + 15_000 * 8 + 256, "{} for {bytes}", plan.bytes());
    assert!(plan.keys_of(149).eq((14_900..15_000).map(key)), "in order");
    let mut body = Vec::new();
    plan.write_chunk(7, &Chunk::default(), &mut body);
    assert!(body.len() < 8_000, "{}", body.len());
}

#[test]
fn the_first_error_in_order_wins_where_a_page_may_end_before_it() {
    let model = model(KeyType::Int);
    let error_header = |body: &[u8]| header(Version::V4, Opcode::Error, body);
    let rows_header = |body: &[u8]| header(Version::V4, Opcode::Result, body);
    let late = error("late");
    // with nothing that ends a page early an error ends it whenever it comes
    let plan = cut(&model, &ask(ints(0..40)), 10).expect("a plan");
    let mut gather = Gather::new(&plan, Bounds::default());
    assert_eq!(gather.take(3, &error_header(&late), &late), Ok(Status::Failed));
    assert_eq!(gather.error(), Some((Flags::default(), &late[..])));
    let first = answer(&model, &plan, 0);
    assert_eq!(gather.take(0, &rows_header(&first), &first), Ok(Status::Failed), "rows change nothing");
    assert!(gather.finish(&plan, &PageKey::of_cluster("main")).is_none());
    // with a limit an error counts in its turn
    for (limit, expected) in [(Some(20), Status::Done), (Some(21), Status::Failed)] {
        let plan = cut(&model, &Ask { limit, ..ask(ints(0..40)) }, 10).expect("a plan");
        let mut gather = Gather::new(&plan, Bounds::default());
        assert_eq!(gather.take(2, &error_header(&late), &late), Ok(Status::Open));
        for index in [1, 0] {
            let body = answer(&model, &plan, index);
            gather.take(index, &rows_header(&body), &body).expect("agreed");
        }
        assert_eq!(gather.status(), expected);
        assert_eq!(gather.error().is_some(), expected == Status::Failed);
        let joined = gather.finish(&plan, &PageKey::of_cluster("main"));
        assert_eq!(
            joined.map(|joined| (joined.rows, joined.more)),
            (limit == Some(20)).then_some((20, false))
        );
    }
}

#[test]
fn answers_that_cannot_be_made_one() {
    let model = model(KeyType::Int);
    let plan = cut(&model, &ask(ints(0..40)), 10).expect("a plan");
    let result = |body: &[u8]| header(Version::V4, Opcode::Result, body);
    let first = answer(&model, &plan, 0);
    for (body, expected) in [
        (vec![0, 0, 0, 1], Fault::NotRows),
        (vec![0, 0, 0, 9], Fault::Malformed),
        (vec![], Fault::Malformed),
        (first[..20].to_vec(), Fault::Malformed),
    ] {
        let mut gather = Gather::new(&plan, Bounds::default());
        assert_eq!(gather.take(1, &result(&body), &body), Err(expected));
    }
    let mut gather = Gather::new(&plan, Bounds::default());
    let ready = header(Version::V4, Opcode::Ready, &[]);
    assert_eq!(gather.take(0, &ready, &[]), Err(Fault::NotRows));
    // another name of a column, columns that are not told, another number of them
    let mut renamed = answer(&model, &plan, 2);
    let at = renamed.windows(3).position(|bytes| bytes == [0, 1, b'v']).expect("the column v");
    renamed[at + 2] = b'w';
    let mut body = Vec::new();
    plan.write_chunk(2, &Chunk::default(), &mut body);
    let skipped = model.answer(&model.execute(&Ask { skip_metadata: true, ..ask(ints(20..30)) }, None)).1;
    for other in [renamed, skipped] {
        let mut gather = Gather::new(&plan, Bounds::default());
        assert_eq!(gather.take(0, &result(&first), &first), Ok(Status::Open));
        assert_eq!(gather.take(2, &result(&other), &other), Err(Fault::Columns), "before its turn already");
    }
    let bounds = Bounds { answer_bytes: first.len(), ..Bounds::default() };
    let mut gather = Gather::new(&plan, bounds);
    assert_eq!(gather.take(0, &result(&first), &first), Ok(Status::Open));
    let second = answer(&model, &plan, 1);
    assert_eq!(gather.take(1, &result(&second), &second), Err(Fault::TooLarge));
    for fault in Fault::ALL {
        assert!(!fault.label().is_empty());
    }
}

#[test]
fn a_page_ends_at_its_bytes_only_for_a_client_that_pages() {
    let model = model(KeyType::Int);
    for (page_size, pages) in [(None, 1), (Some(1_000), 4)] {
        let ask = Ask { page_size, ..ask(ints(0..40)) };
        let plan = cut(&model, &ask, 10).expect("a plan");
        let mut gather = Gather::new(&plan, Bounds { page_bytes: 100, ..Bounds::default() });
        let mut index = 0;
        while gather.status() == Status::Open {
            let body = answer(&model, &plan, index);
            gather.take(index, &header(Version::V4, Opcode::Result, &body), &body).expect("agreed");
            index += 1;
        }
        let joined = gather.finish(&plan, &PageKey::of_cluster("main")).expect("done");
        assert_eq!((joined.rows, joined.more), (40 / pages, pages > 1));
    }
}

#[test]
fn warnings_are_passed_on_once_and_bounded() {
    let model = model(KeyType::Int);
    let plan = cut(&model, &ask(ints(0..100)), 1).expect("a plan");
    let mut gather = Gather::new(&plan, Bounds::default());
    for index in 0..100_u32 {
        let mut body = Vec::new();
        // a long one, one that is always the same, and many others
        let long = "x".repeat(if index == 0 { 5_000 } else { 0 });
        let warnings = ["always".to_owned(), format!("number {}{long}", index / 2)];
        write::string_list(&mut body, warnings.iter().map(String::as_str));
        body.extend_from_slice(&answer(&model, &plan, index));
        let header = Header { flags: Flags(Flags::WARNING), ..header(Version::V4, Opcode::Result, &body) };
        gather.take(index, &header, &body).expect("agreed");
    }
    let joined = gather.finish(&plan, &PageKey::of_cluster("main")).expect("done");
    // longer than the room in front of the rows: they are moved, and stay what they are
    let page = page(Version::V4, joined.flags(), joined.body());
    assert_eq!(page.cells.len(), 100);
    assert_eq!(page.warnings.len(), 16);
    assert!(page.warnings[1].len() > 5_000);
    assert_eq!(page.warnings.iter().filter(|warning| **warning == b"always").count(), 1);
}
