//! Bytes that are no messages, or nearly: nothing panics, and nothing is cut that is not a list of keys.

use crate::model::{header, located};
use crate::oracle::{Case, case};
use proptest::prelude::*;
use proptest::sample::Index;
use std::num::NonZeroU32;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::{Dialect, Request, StreamId};
use weir_engine::cql::split::{Bounds, Chunk, Gather, PageKey, Pages, Plan, Uncut};

/// Changed bytes, and a place where it is cut.
fn mutation() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    (prop::collection::vec((any::<Index>(), any::<u8>()), 0..4), prop::option::weighted(0.2, any::<Index>()))
}

fn mutate(body: &mut Vec<u8>, (bytes, end): &(Vec<(Index, u8)>, Option<Index>)) {
    for (at, byte) in bytes {
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = *byte;
        }
    }
    if let Some(end) = end {
        body.truncate(end.index(body.len() + 1));
    }
}

fn cut(case: &Case, body: &[u8], header: &Header) -> Option<Result<Plan, Uncut>> {
    let dialect = Dialect::of(case.model.version);
    let Ok(Request::Execute(execute)) = Request::locate(header, body, dialect) else { return None };
    let (split, chunk) = (case.model.shape().expect("a shape"), NonZeroU32::MIN);
    let pages = Pages { key: &PageKey::of_cluster("main"), statement: execute.id.of(body) };
    Some(Plan::cut(&split, header, body, &execute, dialect, chunk, &pages))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn no_request_panics(case in case(), changes in mutation(), flags in any::<u8>()) {
        let version = case.model.version;
        let mut body = case.model.execute(&case.ask, None);
        mutate(&mut body, &changes);
        let header = Header { flags: Flags(flags), ..header(version, Opcode::Execute, &body) };
        if let Some(Ok(plan)) = cut(&case, &body, &header) {
            let mut written = Vec::new();
            for index in [0, plan.chunks() - 1, plan.chunks(), u32::MAX] {
                written.clear();
                plan.write_chunk(index, &Chunk { page_size: Some(7), state: Some(b"s"), ..Chunk::default() }, &mut written);
                let execute = located(version, &written);
                prop_assert_eq!(execute.parameters.page_size.map(|size| size.value), Some(7));
            }
            prop_assert_eq!((0..plan.chunks()).map(|index| plan.keys_in(index)).sum::<u32>(), plan.keys());
        }
    }

    #[test]
    fn no_answer_panics(
        case in case(),
        changes in prop::collection::vec(mutation(), 8),
        flags in any::<u8>(),
        order in prop::collection::vec(any::<Index>(), 8),
    ) {
        let version = case.model.version;
        let body = case.model.execute(&case.ask, None);
        let Some(Ok(plan)) = cut(&case, &body, &header(version, Opcode::Execute, &body)) else { return Ok(()) };
        let mut gather = Gather::new(&plan, Bounds { page_bytes: 300, answer_bytes: 2_000 });
        for (change, at) in changes.iter().zip(&order) {
            let index = at.index(plan.chunks() as usize + 1) as u32;
            let mut chunk = Vec::new();
            plan.write_chunk(index, &Chunk::default(), &mut chunk);
            let (_, mut answer) = case.model.answer(&chunk);
            mutate(&mut answer, change);
            let opcode = if flags & 0x80 != 0 { Opcode::Error } else { Opcode::Result };
            let header = Header { flags: Flags(flags & 0x7a), ..header(version, opcode, &answer) };
            if gather.take(index, &header, &answer).is_err() {
                break;
            }
            prop_assert!(gather.bytes() < 64 << 10);
        }
        if let Some(joined) = gather.finish(&plan, &PageKey::of_cluster("main")) {
            let (rows, flags, body) = (joined.rows, joined.flags(), joined.body().to_vec());
            let header = Header { flags, ..header(version, Opcode::Result, &body) };
            let read = weir_cql::Response::locate(&header, &body, Dialect::of(version));
            prop_assert!(read.is_ok() && rows <= body.len() as u64);
            let (buffer, start) = joined.into_envelope(version, StreamId(3));
            prop_assert_eq!(buffer.len() - start, weir_cql::HEADER_LEN + body.len());
        }
    }
}
