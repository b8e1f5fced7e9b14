//! Split = unsplit in JSON, for every method of every preset, against a data plane that reads and writes protobuf's JSON
//! in either spelling, with and without defaults: duplicates, keys that are not there, no keys, many keys, one part that fails.

#[path = "samples/data_plane.rs"]
mod data_plane;
#[path = "samples/json.rs"]
mod json;
mod samples;

use std::sync::Arc;

use data_plane::{methods, request};
use json::{Spelling, answer, written};
use proptest::prelude::*;
use samples::Draw;
use serde_json::Value as Json;
use weir_rpc::schema::prost_reflect::MethodDescriptor;
use weir_rpc::split::Rule;
use weir_rpc::{AnyCut, AnyMerge, Codec, CutLimits, MergeError, Method, NoSplit};

const ANY_SIZE: usize = usize::MAX;

fn cut(method: &Method, request: &[u8], chunk_keys: usize) -> Result<AnyCut, NoSplit> {
    let plan = method.split.as_ref().expect("is split");
    AnyCut::new(plan, Codec::Json, request, CutLimits { chunk_keys, bytes_max: ANY_SIZE })
}

fn part(cut: &AnyCut, part: usize, request: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    cut.write(part, request, &mut message);
    message
}

fn merge(method: &Method, cut: &AnyCut) -> AnyMerge<Vec<u8>> {
    AnyMerge::new(method.split.as_ref().expect("is split"), cut, ANY_SIZE)
}

/// The answer in parts, put together in an order that `draw` chooses; none if the request goes whole.
fn split_answer(
    (method, descriptor): &(Arc<Method>, MethodDescriptor),
    request: &[u8],
    chunk_keys: usize,
    spelling: Spelling,
    draw: &mut Draw,
) -> Option<Result<Vec<u8>, MergeError>> {
    let cut = match cut(method, request, chunk_keys) {
        Ok(cut) => cut,
        Err(NoSplit::Small) => return None,
        Err(error) => panic!("{}: {error}", method.name),
    };
    let mut merge = merge(method, &cut);
    let mut order: Vec<usize> = (0..cut.len()).collect();
    while !order.is_empty() {
        let next = order.swap_remove(draw.below(order.len() as u64) as usize);
        if let Err(error) = merge.add(next, answer(method, descriptor, &part(&cut, next, request), spelling))
        {
            return Some(Err(error));
        }
    }
    Some(merge.finish())
}

fn parsed(json: &[u8]) -> Json {
    serde_json::from_slice(json).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn split_is_unsplit_for_every_method(
        seed in any::<u64>(),
        keys in 0_u64..60,
        pool in 1_u64..40,
        chunk_keys in 1_usize..20,
        pretty in any::<bool>(),
    ) {
        for known in methods() {
            let (method, descriptor) = &known;
            let mut draw = Draw::new(seed);
            let (asks, spelling) = (Spelling::drawn(&mut draw), Spelling::drawn(&mut draw));
            let request = written(&request(method, descriptor, &mut draw, keys, pool), asks);
            let request = if pretty { format!("{request:#}") } else { request.to_string() }.into_bytes();
            let whole = parsed(&answer(method, descriptor, &request, spelling));
            match split_answer(&known, &request, chunk_keys, spelling, &mut draw) {
                None => prop_assert!(keys <= chunk_keys as u64, "{} was not split", method.name),
                Some(parts) => {
                    prop_assert_eq!(parts.map(|parts| parsed(&parts)), Ok(whole), "{}", &method.name);
                }
            }
        }
    }
}

#[test]
fn twenty_thousand_keys() {
    let known = methods().into_iter().find(|(method, _)| method.name.ends_with("/GetPostRecords"));
    let known = known.expect("is there");
    let mut draw = Draw::new(20_000);
    let request = written(&request(&known.0, &known.1, &mut draw, 20_000, 15_000), Spelling::Camel);
    let request = request.to_string().into_bytes();
    let whole = answer(&known.0, &known.1, &request, Spelling::Camel);
    let parts = split_answer(&known, &request, 128, Spelling::Camel, &mut draw).expect("is split");
    assert!(parts.map(|parts| parsed(&parts)) == Ok(parsed(&whole)));
}

#[test]
fn one_part_that_fails_leaves_no_answer() {
    for (method, descriptor) in methods() {
        let request = written(&request(&method, &descriptor, &mut Draw::new(7), 30, 20), Spelling::Proto);
        let request = request.to_string().into_bytes();
        let cut = cut(&method, &request, 8).expect("is cut");
        let mut merge = merge(&method, &cut);
        for index in (0..cut.len()).filter(|index| *index != 2) {
            let reply = answer(&method, &descriptor, &part(&cut, index, &request), Spelling::Proto);
            merge.add(index, reply).expect("is right");
        }
        assert_eq!(merge.missing(), 1);
        assert_eq!(merge.finish(), Err(MergeError::Parts), "{}", method.name);
    }
}

#[test]
fn a_service_that_loses_a_row_or_is_newer_is_found_out() {
    for (method, descriptor) in methods() {
        let plan = method.split.as_ref().expect("is split");
        let request = written(&request(&method, &descriptor, &mut Draw::new(11), 20, 20), Spelling::Camel);
        let request = request.to_string().into_bytes();
        let cut = cut(&method, &request, 10).expect("is cut");
        let right = parsed(&answer(&method, &descriptor, &part(&cut, 0, &request), Spelling::Camel));
        let refuse = |reply: &Json| {
            let refused = merge(&method, &cut).add(0, reply.to_string().into_bytes());
            refused.err().unwrap_or_else(|| panic!("{} was accepted", method.name))
        };

        let mut newer = right.clone();
        newer["notYetKnown"] = Json::Null;
        assert_eq!(refuse(&newer), MergeError::UnknownName { name: "notYetKnown".into() });

        let named = plan.json.as_ref().expect("is split in JSON, too");
        for (field, names) in plan.reply.iter().zip(&named.reply) {
            if field.rule != Rule::Positional {
                continue;
            }
            let mut reply = right.clone();
            reply[&*names.names.json].as_array_mut().expect("a list").pop();
            let lost = refuse(&reply);
            let expected = MergeError::LengthMismatch { field: field.name.clone(), keys: 10, elements: 9 };
            assert_eq!(lost, expected, "{}", method.name);
            assert!(lost.stops_splitting());
        }
    }
}
