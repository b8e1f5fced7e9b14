//! The property: all pages of the split request together are the rows of the whole one, in its order, with its columns
//! and its `LIMIT`, for every type of key, version, page size, chunk size (another one for each page) and order of
//! arrival.

use crate::model::{Ask, LimitForm, Model, Page, Partition, Row, header, located, page};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::num::NonZeroU32;
use weir_cql::envelope::{HEADER_LEN, Header, Opcode};
use weir_cql::key::KeyType;
use weir_cql::{StreamId, Version};
use weir_engine::cql::split::{
    BoundedForm, Bounds, Chunk, Gather, ListForm, PageKey, Pages, Plan, Status, Uncut, Whole, is_composite,
};

/// Bytes that are a value of the type, and the only ones for that value.
pub fn key(kind: KeyType) -> BoxedStrategy<Vec<u8>> {
    let bytes = |length: usize| vec(any::<u8>(), length).boxed();
    match kind {
        KeyType::Ascii => "[a-c]{1,3}".prop_map(String::into_bytes).boxed(),
        KeyType::Text => "[a-cé\u{10348}]{1,3}".prop_map(String::into_bytes).boxed(),
        KeyType::Blob => vec(select(vec![0_u8, 1, 0x7f, 0x80, 0xff]), 1..4).boxed(),
        KeyType::Boolean => any::<bool>().prop_map(|value| vec![u8::from(value)]).boxed(),
        KeyType::Tinyint => bytes(1),
        KeyType::Smallint => bytes(2),
        KeyType::Int => (-20..20_i32).prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        KeyType::Bigint | KeyType::Timestamp => bytes(8),
        KeyType::Time => (0..86_400_000_000_000_i64).prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        KeyType::Date => bytes(4),
        KeyType::Varint => (-70_000..70_000_i64).prop_map(minimal).boxed(),
        KeyType::Decimal => {
            (-70_000..70_000_i64).prop_map(|value| [vec![0; 4], minimal(value)].concat()).boxed()
        }
        KeyType::Float => any::<f32>()
            .prop_filter("one NaN", |f| !f.is_nan())
            .prop_map(|f| f.to_be_bytes().to_vec())
            .boxed(),
        KeyType::Double => any::<f64>()
            .prop_filter("one NaN", |f| !f.is_nan())
            .prop_map(|f| f.to_be_bytes().to_vec())
            .boxed(),
        KeyType::Uuid => bytes(16),
        KeyType::Timeuuid => bytes(16)
            .prop_map(|mut bytes| {
                bytes[6] = bytes[6] & 0x0f | 0x10;
                bytes
            })
            .boxed(),
        KeyType::Inet => prop_oneof![bytes(4), bytes(16)].boxed(),
    }
}

fn minimal(value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let spare = |at: &usize| {
        let sign = if value < 0 { 0xff } else { 0 };
        bytes[*at] == sign && (bytes[*at + 1] ^ sign) < 0x80
    };
    let skipped = (0..7).take_while(spare).count();
    bytes[skipped..].to_vec()
}

/// One case: a table, a request, and how it is cut.
#[derive(Debug, Clone)]
pub struct Case {
    pub model: Model,
    pub ask: Ask,
    /// For each page in turn.
    chunk_keys: Vec<u32>,
    arrival: Vec<Index>,
    known_limit: bool,
    /// Chunks are asked with a limit of weir's instead of pages, first.
    bounded: bool,
    /// The client's statement has a marker for each key.
    marked: bool,
}

pub fn case() -> impl Strategy<Value = Case> {
    let version = select(vec![Version::V3, Version::V4, Version::V5]);
    (version, select(KeyType::ALL.to_vec())).prop_flat_map(|(version, kind)| {
        let limit = prop_oneof![
            2 => Just((LimitForm::None, None)),
            1 => (1..60_u32).prop_map(|limit| (LimitForm::Literal(limit), None)),
            2 => (1..60_i32).prop_map(|limit| (LimitForm::Bound, Some(limit))),
            // in v3 a length below zero is null, which the server refuses as a limit
            1 => Just(if version > Version::V3 { (LimitForm::Bound, None) } else { (LimitForm::None, None) }),
        ];
        let rows = vec(vec(("[x-z]{0,6}").prop_map(String::into_bytes), 0..6), 1..24);
        let keys = vec(key(kind), 24);
        let asked = vec((any::<Index>(), prop::bool::weighted(0.8)), 0..40);
        let request = (any::<bool>(), -1..3_i32, prop::option::of(1..30_i32), any::<bool>(), any::<bool>());
        let forms = (any::<bool>(), any::<bool>(), any::<bool>());
        let cuts = (vec(1..8_u32, 1..5), vec(any::<Index>(), 40), forms);
        (keys, rows, asked, limit, request, cuts).prop_map(
            move |(keys, rows, asked, limit, request, cuts)| {
                let (range, above, page_size, skip_metadata, timed) = request;
                let mut table: Vec<Partition> = Vec::new();
                for (key, rows) in keys.iter().zip(rows) {
                    if !table.iter().any(|known| known.key == *key) {
                        let rows = (0..).zip(rows).map(|(c, v)| Row { c, v }).collect();
                        table.push(Partition { key: key.clone(), rows });
                    }
                }
                // some of the keys asked are in no row
                let pick = |(index, there): (Index, bool)| {
                    if there { index.get(&table).key.clone() } else { index.get(&keys).clone() }
                };
                let keys = asked.into_iter().map(pick).map(Some).collect();
                let timestamp = timed.then_some(1_700_000_000_000_000);
                let model = Model { version, kind, table, limit: limit.0, range, warn_at: 4 };
                let ask = Ask { keys, limit: limit.1, above, page_size, skip_metadata, timestamp };
                let (chunk_keys, arrival, (known_limit, bounded, marked)) = cuts;
                Case { model, ask, chunk_keys, arrival, known_limit, bounded, marked }
            },
        )
    })
}

/// All pages of the request sent whole.
pub fn whole(model: &Model, ask: &Ask) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let state = pages.last().and_then(|page| page.state.clone());
        let (flags, body) = model.answer(&model.execute(ask, state.as_deref()));
        pages.push(page(model.version, flags, &body));
        if pages.last().is_some_and(|page| page.state.is_none()) {
            return pages;
        }
    }
}

/// One page of a plan: chunks are sent in turn, at most 4 ahead, and answered in the order `arrival` draws.
fn one_page(case: &Case, model: &Model, plan: &Plan, key: &PageKey, at: &mut usize) -> Page {
    let mut gather = Gather::new(plan, Bounds::default());
    let (mut sent, mut waiting) = (0, Vec::new());
    let mut asked_keys = 0;
    while gather.status() == Status::Open {
        while waiting.len() < 4 && sent < plan.chunks() {
            let mut body = Vec::new();
            let left = gather.limit_left();
            let state = plan.state_of(sent);
            let bound = plan.page_size().map(|size| u64::from(size) + 1);
            let bound = bound.filter(|_| case.bounded && plan.can_limit() && state.is_none());
            let bound = bound.map(|bound| left.map_or(bound, |left| left.min(bound)));
            let paged = Chunk { state, ..paged(case, plan, left) };
            let bounded = Chunk { limit_left: bound, ..Chunk::default() };
            plan.write_chunk(sent, if bound.is_some() { &bounded } else { &paged }, &mut body);
            assert!(body.len() >= plan.chunk_bytes(sent));
            asked_keys += check_chunk(case, plan, sent, &body);
            waiting.push((sent, bound, model.answer(&body)));
            sent += 1;
        }
        let pick = case.arrival[*at % case.arrival.len()].index(waiting.len());
        *at += 1;
        let (index, bound, (flags, body)) = waiting.swap_remove(pick);
        let header = Header { flags, ..header(model.version, Opcode::Result, &body) };
        if bound.is_some_and(|bound| gather.is_cut_short(&header, &body, bound)) {
            let mut again = Vec::new();
            plan.write_chunk(index, &paged(case, plan, gather.limit_left()), &mut again);
            waiting.push((index, None, model.answer(&again)));
            continue;
        }
        gather.take(index, &header, &body).expect("agreed");
        assert!(gather.next() <= plan.chunks() && gather.bytes() < 1 << 20);
    }
    assert!(asked_keys <= plan.keys());
    assert_eq!(gather.status(), Status::Done);
    let rows = gather.rows();
    let joined = gather.finish(plan, key).expect("done");
    assert_eq!(joined.rows, rows);
    let (flags, more, body) = (joined.flags(), joined.more, joined.body().to_vec());
    let (buffer, start) = joined.into_envelope(model.version, StreamId(99));
    let mut expected = Vec::new();
    Header { flags, stream: StreamId(99), ..header(model.version, Opcode::Result, &body) }
        .write(&mut expected);
    assert_eq!(buffer[start..start + HEADER_LEN], expected);
    assert_eq!(buffer[start + HEADER_LEN..], body);
    let page = page(model.version, flags, &body);
    assert_eq!(page.state.is_some(), more);
    page
}

/// A chunk asked in pages of the client's size.
fn paged(case: &Case, plan: &Plan, limit_left: Option<u64>) -> Chunk<'static> {
    let page_size = plan.page_size().map(|size| size as i32);
    Chunk { page_size, limit_left: limit_left.filter(|_| case.known_limit), state: None }
}

/// What is sent for a chunk is the client's request but for keys, limit and paging.
fn check_chunk(case: &Case, plan: &Plan, index: u32, body: &[u8]) -> u32 {
    let (model, ask) = (&case.model, &case.ask);
    let execute = located(model.version, body);
    let list = execute.parameters.values.get(body, 0).and_then(|value| value.of(body)).expect("a list");
    let keys: Vec<&[u8]> =
        weir_cql::request::list_elements(list).expect("a list").map(|key| key.expect("a key")).collect();
    assert_eq!(keys, plan.keys_of(index).collect::<Vec<_>>());
    assert_eq!(keys.len(), plan.keys_in(index) as usize);
    assert!(!keys.is_empty());
    let original = model.execute(ask, None);
    let sent = execute.parameters;
    let asked = located(model.version, &original).parameters;
    assert_eq!(execute.id.of(body), crate::model::ID);
    assert_eq!(
        (sent.consistency.value, sent.timestamp.map(|place| place.value), sent.flags.0 & !0x0c),
        (asked.consistency.value, asked.timestamp.map(|place| place.value), asked.flags.0 & !0x0c)
    );
    keys.len() as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn split_is_whole(case in case()) {
        let (model, ask) = (&case.model, &case.ask);
        // the statement whose chunks are asked: the client's, or that with a limit of weir's
        let (text, dialect) = (model.text(), model.dialect());
        let form = BoundedForm::of(text.as_bytes(), &weir_cql::statement::read(text.as_bytes()));
        prop_assert_eq!(form.is_ok(), model.limit != LimitForm::Bound);
        let form = form.ok().filter(|_| case.bounded);
        let (own, text) = match &form {
            Some(form) => (Model { limit: LimitForm::Bound, ..model.clone() }, &*form.text),
            None => (model.clone(), text.as_bytes()),
        };
        let known: Option<&[&str]> = (model.version == Version::V3).then_some(&["k"]);
        let text = std::str::from_utf8(text).expect("text");
        let split = crate::model::shape(text, &own.prepared(), model.version, known).expect("a shape");
        let key = PageKey::of_cluster("main");
        let whole = whole(model, ask);
        let marked = model.marked_text(ask.keys.len());
        let listed = ListForm::of(marked.as_bytes(), &weir_cql::statement::read(marked.as_bytes()));
        prop_assert_eq!(listed.is_ok(), ask.keys.len() >= 2);
        let listed = listed.ok().filter(|_| case.marked);
        let mut pages: Vec<Page> = Vec::new();
        let mut at = 0;
        loop {
            let state = pages.last().and_then(|page| page.state.clone());
            prop_assert!(state.as_deref().is_none_or(is_composite));
            let mut body = model.execute(ask, state.as_deref());
            let mut statement = crate::model::ID;
            if let Some(listed) = &listed {
                let of_client = model.execute_marked(ask, state.as_deref());
                let execute = located(model.version, &of_client);
                let header = header(model.version, Opcode::Execute, &of_client);
                prop_assert_eq!(listed.check(&header, &of_client, &execute), Ok(()));
                let written = listed.execute(&of_client, &execute, dialect, crate::model::ID).expect("written");
                prop_assert_eq!(&written, &body, "the same request");
                (body, statement) = (written, crate::model::MARKED_ID);
            }
            if let Some(form) = &form {
                let execute = located(model.version, &body);
                body = form.execute(&body, &execute, dialect, crate::model::ID).expect("written");
            }
            let chunk_keys = NonZeroU32::new(case.chunk_keys[pages.len() % case.chunk_keys.len()]).expect("above 0");
            let header = header(model.version, Opcode::Execute, &body);
            let execute = located(model.version, &body);
            let state_of = Pages { key: &key, statement };
            let plan = match Plan::cut(&split, &header, &body, &execute, dialect, chunk_keys, &state_of) {
                Ok(plan) => plan,
                Err(Uncut::Whole(Whole::Small)) => {
                    prop_assert!(state.is_none());
                    let mut keys = ask.keys.clone();
                    keys.sort_unstable();
                    keys.dedup();
                    prop_assert!(keys.len() <= chunk_keys.get() as usize);
                    return Ok(());
                }
                Err(other) => panic!("{other:?}"),
            };
            prop_assert_eq!(plan.asked() as usize, ask.keys.len());
            let page = one_page(&case, &own, &plan, &key, &mut at);
            // a page ends early only where a chunk has more pages of its own, and never before it has a row
            if let (Some(size), Some(_)) = (ask.page_size, &page.state) {
                prop_assert!(page.cells.len() >= size as usize && page.cells.len() < 2 * size as usize);
            }
            pages.push(page);
            if pages.last().is_some_and(|page| page.state.is_none()) {
                break;
            }
            prop_assert!(pages.len() <= whole.len() + 1, "no more pages than of the whole");
        }
        let rows = |pages: &[Page]| pages.iter().flat_map(|page| page.cells.clone()).collect::<Vec<_>>();
        prop_assert_eq!(rows(&pages), rows(&whole));
        for page in &pages {
            prop_assert_eq!(&page.columns, &whole[0].columns);
            prop_assert_eq!(page.column_count, whole[0].column_count);
        }
        let warned = |pages: &[Page]| pages.iter().any(|page| !page.warnings.is_empty());
        // a chunk may warn of rows that are beyond the limit
        prop_assert!(warned(&pages) || !warned(&whole));
        prop_assert!(pages.iter().all(|page| page.warnings.len() <= 1), "the same warning once");
    }
}
