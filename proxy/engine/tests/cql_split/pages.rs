//! Page states: what comes back is what went out, and nothing else is believed.

use crate::model::{Ask, LimitForm, Model, Partition, Row, header, located};
use proptest::prelude::*;
use std::num::NonZeroU32;
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::key::KeyType;
use weir_engine::cql::split::paging::{MAGIC, OVERHEAD, Position, RequestDigest};
use weir_engine::cql::split::{
    Bounds, Chunk, Gather, PageKey, Pages, Plan, StateFault, Status, Uncut, is_composite,
};

fn model() -> Model {
    let rows = vec![Row { c: 1, v: b"v".to_vec() }];
    let partition = |key: i32| Partition { key: key.to_be_bytes().to_vec(), rows: rows.clone() };
    let table = (0..20).map(partition).collect();
    Model {
        version: Version::V4,
        kind: KeyType::Int,
        table,
        limit: LimitForm::Bound,
        range: true,
        warn_at: -1,
    }
}

fn ask(keys: impl IntoIterator<Item = i32>) -> Ask {
    Ask {
        keys: keys.into_iter().map(|key| Some(key.to_be_bytes().to_vec())).collect(),
        limit: Some(15),
        above: 0,
        page_size: Some(4),
        skip_metadata: true,
        timestamp: None,
    }
}

fn cut(
    model: &Model,
    ask: &Ask,
    state: Option<&[u8]>,
    key: &PageKey,
    chunk_keys: u32,
) -> Result<Plan, Uncut> {
    let body = model.execute(ask, state);
    let header = header(model.version, Opcode::Execute, &body);
    let execute = located(model.version, &body);
    let chunk_keys = NonZeroU32::new(chunk_keys).expect("above 0");
    let pages = Pages { key, statement: execute.id.of(&body) };
    Plan::cut(&model.shape().expect("a shape"), &header, &body, &execute, model.dialect(), chunk_keys, &pages)
}

/// The state that the first page ends with.
fn first_state(model: &Model, ask: &Ask, key: &PageKey) -> Vec<u8> {
    let plan = cut(model, ask, None, key, 3).expect("a plan");
    let mut gather = Gather::new(&plan, Bounds::default());
    let mut index = 0;
    while gather.status() == Status::Open {
        let mut body = Vec::new();
        plan.write_chunk(index, &Chunk { page_size: Some(4), ..Chunk::default() }, &mut body);
        let (_, answer) = model.answer(&body);
        gather.take(index, &header(model.version, Opcode::Result, &answer), &answer).expect("agreed");
        index += 1;
    }
    let joined = gather.finish(&plan, key).expect("done");
    assert!(joined.more && joined.rows == 6);
    crate::model::page(model.version, joined.flags(), joined.body()).state.expect("a state")
}

#[test]
fn a_state_is_good_for_its_request_only() {
    let (model, key) = (model(), PageKey::of_cluster("main"));
    let state = first_state(&model, &ask(0..20), &key);
    assert!(is_composite(&state) && state.len() == OVERHEAD);
    let plan = |ask: &Ask, key: &PageKey| cut(&model, ask, Some(&state), key, 3).map(|plan| plan.chunks());
    assert_eq!(plan(&ask(0..20), &key), Ok(5), "14 keys are left");
    // the same keys in other words, another page size, chunks of another size, another weir of the same cluster
    assert_eq!(plan(&ask((0..20).rev().chain(3..9)), &PageKey::of_cluster("main")), Ok(5));
    assert_eq!(plan(&Ask { page_size: Some(100), ..ask(0..20) }, &key), Ok(5));
    assert_eq!(plan(&Ask { page_size: None, ..ask(0..20) }, &key), Ok(5));
    assert_eq!(cut(&model, &ask(0..20), Some(&state), &key, 100).map(|plan| plan.chunks()), Ok(1));
    let of_request = Err(Uncut::State(StateFault::Request));
    assert_eq!(plan(&ask(0..19), &key), of_request);
    assert_eq!(plan(&Ask { above: 1, ..ask(0..20) }, &key), of_request);
    assert_eq!(plan(&Ask { limit: Some(14), ..ask(0..20) }, &key), of_request);
    let mac = Err(Uncut::State(StateFault::Mac));
    assert_eq!(plan(&ask(0..20), &PageKey::of_cluster("other")), mac);
    assert_eq!(plan(&ask(0..20), &PageKey::new([7; 32])), mac);
    assert_eq!(
        Position::read(&state, &key, b"another statement", RequestDigest::of(b"", b""), 20),
        Err(StateFault::Statement)
    );
}

#[test]
fn a_state_of_the_server_itself_is_the_servers() {
    let (model, key) = (model(), PageKey::of_cluster("main"));
    let whole = weir_engine::cql::split::Whole::ServersPages;
    for state in [&b"\0\x04abcd"[..], b"", b"\xff", &MAGIC[..3]] {
        let found = cut(&model, &ask(0..20), Some(state), &key, 3).map(|_| ());
        assert_eq!(found, Err(Uncut::Whole(whole)), "{state:?}");
    }
}

#[test]
fn every_damaged_byte_is_seen() {
    let (model, key) = (model(), PageKey::new([3; 32]));
    let state = first_state(&model, &ask(0..20), &key);
    for at in MAGIC.len()..state.len() {
        for bit in 0..8 {
            let mut damaged = state.clone();
            damaged[at] ^= 1 << bit;
            let found = cut(&model, &ask(0..20), Some(&damaged), &key, 3).map(|_| ());
            assert!(matches!(found, Err(Uncut::State(_))), "byte {at}: {found:?}");
        }
    }
    for length in MAGIC.len()..state.len() {
        let found = cut(&model, &ask(0..20), Some(&state[..length]), &key, 3).map(|_| ());
        assert!(matches!(found, Err(Uncut::State(_))), "{length} bytes: {found:?}");
    }
    let other_layout = [&MAGIC[..], &[2], &state[5..]].concat();
    let found = cut(&model, &ask(0..20), Some(&other_layout), &key, 3).map(|_| ());
    assert_eq!(found, Err(Uncut::State(StateFault::Version)));
    for fault in StateFault::ALL {
        assert!(fault.words().starts_with("weir: the paging state") && !fault.label().is_empty());
        assert_eq!(fault.to_string(), fault.words());
    }
}

/// The default key is no secret: with it anybody may make a state that is well signed and nonsense.
#[test]
fn a_forged_position_is_refused_or_harmless() {
    let (key, digest) = (PageKey::of_cluster("main"), RequestDigest::of(b"values", b"keys"));
    for (keys_done, begun_keys, inner, good) in [
        (0, 0, &b""[..], true),
        (19, 0, b"", true),
        (19, 1, b"inner", true),
        (20, 0, b"", false),
        (u32::MAX, 0, b"", false),
        (1, u32::MAX, b"inner", false),
        (19, 2, b"inner", false),
        (3, 0, b"inner", false),
        (3, 1, b"", false),
    ] {
        let position = Position { keys_done, begun_keys, rows: 9, inner: inner.to_vec() };
        let mut state = Vec::new();
        position.write(&key, b"id", digest, &mut state);
        let found = Position::read(&state, &key, b"id", digest, 20);
        assert_eq!(found, if good { Ok(position) } else { Err(StateFault::Damaged) });
    }
    let position = Position { rows: u64::MAX, ..Position::default() };
    let mut state = Vec::new();
    position.write(&key, b"id", digest, &mut state);
    assert_eq!(Position::read(&state, &key, b"id", digest, 20), Err(StateFault::Damaged));
}

proptest! {
    #[test]
    fn no_bytes_panic(state in prop::collection::vec(any::<u8>(), 0..120), ours in any::<bool>()) {
        let state = if ours { [&MAGIC[..], &[1], &state].concat() } else { state };
        let digest = RequestDigest::of(b"values", b"keys");
        let read = Position::read(&state, &PageKey::new([1; 32]), b"id", digest, 100);
        prop_assert!(read.is_err());
    }
}
