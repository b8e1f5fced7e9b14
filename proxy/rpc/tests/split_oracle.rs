//! Split = unsplit, for every method of every preset, against a scripted service that decodes, looks each key up and
//! encodes with prost-reflect: duplicates, keys that are not there, no keys, many keys, one part that fails.

#[path = "samples/data_plane.rs"]
mod data_plane;
mod samples;

use std::sync::Arc;

use data_plane::{answer, methods, request};
use proptest::prelude::*;
use samples::Draw;
use weir_rpc::schema::prost_reflect::prost::Message as _;
use weir_rpc::schema::prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use weir_rpc::split::Rule;
use weir_rpc::{Cut, CutLimits, Merge, MergeError, Method, NoSplit};

const ANY_SIZE: usize = usize::MAX;

/// The answer in parts, put together in an order that `draw` chooses; none if the request goes whole.
fn split_answer(
    method: &Method,
    descriptor: &MethodDescriptor,
    request: &[u8],
    chunk_keys: usize,
    draw: &mut Draw,
) -> Option<Result<Vec<u8>, MergeError>> {
    let plan = method.split.as_ref().expect("is split");
    let cut = match Cut::new(plan, request, CutLimits { chunk_keys, bytes_max: ANY_SIZE }) {
        Ok(cut) => cut,
        Err(NoSplit::Small) => return None,
        Err(error) => panic!("{}: {error}", method.name),
    };
    let mut merge = Merge::new(Arc::clone(plan), cut.keys(), ANY_SIZE);
    let mut order: Vec<usize> = (0..cut.len()).collect();
    while !order.is_empty() {
        let part = order.swap_remove(draw.below(order.len() as u64) as usize);
        let mut message = Vec::new();
        cut.write(part, request, &mut message);
        if let Err(error) = merge.add(part, answer(method, descriptor, &message)) {
            return Some(Err(error));
        }
    }
    Some(merge.finish())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn split_is_unsplit_for_every_method(seed: u64, keys in 0_u64..60, pool in 1_u64..40, chunk_keys in 1_usize..20) {
        for (method, descriptor) in methods() {
            let mut draw = Draw::new(seed);
            let request = request(&method, &descriptor, &mut draw, keys, pool).encode_to_vec();
            let whole = answer(&method, &descriptor, &request);
            match split_answer(&method, &descriptor, &request, chunk_keys, &mut draw) {
                None => prop_assert!(keys <= chunk_keys as u64, "{} was not split", method.name),
                // Byte for byte: fields by number, numbers in one packed run.
                Some(parts) => prop_assert_eq!(parts, Ok(whole), "{}", &method.name),
            }
        }
    }
}

#[test]
fn twenty_thousand_keys() {
    for (method, descriptor) in methods() {
        let of_each_shape = ["GetPostRecords", "GetInteractionCounts", "GetLabels", "GetBlockExistence"];
        if !of_each_shape.iter().any(|name| method.name.ends_with(name)) {
            continue;
        }
        let mut draw = Draw::new(20_000);
        let request = request(&method, &descriptor, &mut draw, 20_000, 15_000).encode_to_vec();
        let whole = answer(&method, &descriptor, &request);
        let parts = split_answer(&method, &descriptor, &request, 128, &mut draw).expect("is split");
        assert!(parts == Ok(whole), "{}", method.name);
    }
}

#[test]
fn one_part_that_fails_leaves_no_answer() {
    for (method, descriptor) in methods() {
        let plan = method.split.as_ref().expect("is split");
        let mut draw = Draw::new(7);
        let request = request(&method, &descriptor, &mut draw, 30, 20).encode_to_vec();
        let cut = Cut::new(plan, &request, CutLimits { chunk_keys: 8, bytes_max: ANY_SIZE }).expect("is cut");
        let mut merge = Merge::new(Arc::clone(plan), cut.keys(), ANY_SIZE);
        for part in (0..cut.len()).filter(|part| *part != 2) {
            let mut message = Vec::new();
            cut.write(part, &request, &mut message);
            merge.add(part, answer(&method, &descriptor, &message)).expect("is right");
        }
        assert_eq!(merge.missing(), 1);
        assert_eq!(merge.finish(), Err(MergeError::Parts), "{}", method.name);
    }
}

#[test]
fn a_service_that_loses_a_row_or_is_newer_is_found_out() {
    for (method, descriptor) in methods() {
        let plan = method.split.as_ref().expect("is split");
        let mut draw = Draw::new(11);
        let request = request(&method, &descriptor, &mut draw, 20, 20).encode_to_vec();
        let cut =
            Cut::new(plan, &request, CutLimits { chunk_keys: 10, bytes_max: ANY_SIZE }).expect("is cut");
        let mut message = Vec::new();
        cut.write(0, &request, &mut message);
        let right = answer(&method, &descriptor, &message);
        let refuse = |reply: Vec<u8>| {
            let mut merge = Merge::new(Arc::clone(plan), cut.keys(), ANY_SIZE);
            merge.add(0, reply).err().unwrap_or_else(|| panic!("{} was accepted", method.name))
        };

        let mut newer = right.clone();
        newer.extend([0xF8, 0x07, 0x01]);
        assert_eq!(refuse(newer), MergeError::UnknownField { number: 127 });

        let positional = plan.reply.iter().filter(|field| field.rule == Rule::Positional);
        for field in positional {
            let mut reply = DynamicMessage::decode(descriptor.output(), right.as_slice()).expect("decodes");
            let Some(Value::List(list)) = reply.get_field_by_number_mut(field.step.number) else {
                panic!("a list")
            };
            list.pop();
            let lost = refuse(reply.encode_to_vec());
            let expected = MergeError::LengthMismatch { field: field.name.clone(), keys: 10, elements: 9 };
            assert_eq!(lost, expected, "{}", method.name);
            assert!(lost.stops_splitting());
        }
    }
}
