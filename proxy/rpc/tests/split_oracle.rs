//! Split = unsplit, for every method of every preset, against a scripted service that decodes, looks each key up and
//! encodes with prost-reflect: duplicates, keys that are not there, no keys, many keys, one part that fails.

mod samples;

use std::sync::Arc;

use proptest::prelude::*;
use samples::Draw;
use weir_rpc::schema::method_name;
use weir_rpc::schema::prost_reflect::prost::Message as _;
use weir_rpc::schema::prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, Value};
use weir_rpc::split::Rule;
use weir_rpc::table::PRESETS;
use weir_rpc::{Cut, CutLimits, Merge, MergeError, Method, NoSplit, Schema, Table};

const ANY_SIZE: usize = usize::MAX;

/// Every method that is split, with its descriptor.
fn methods() -> Vec<(Arc<Method>, MethodDescriptor)> {
    let mut all = Vec::new();
    for preset in PRESETS {
        let schema = Schema::compile(&[preset.proto]).expect("compiles");
        let table = Table::check(&schema, &preset.entries().expect("reads")).expect("no problem");
        for descriptor in schema.methods() {
            let method = Arc::clone(table.find(&method_name(&descriptor)).expect("is there"));
            if method.split.is_some() {
                all.push((method, descriptor));
            }
        }
    }
    assert_eq!(all.len(), 41);
    all
}

fn key_field(method: &Method, descriptor: &MethodDescriptor) -> FieldDescriptor {
    let number = method.split.as_ref().expect("is split").key.number;
    descriptor.input().get_field(number).expect("is there")
}

/// A request for `keys` keys out of `pool`, with all other fields drawn.
fn request(
    method: &Method,
    descriptor: &MethodDescriptor,
    draw: &mut Draw,
    keys: u64,
    pool: u64,
) -> DynamicMessage {
    let mut request = samples::message(draw, &descriptor.input(), 0);
    let field = key_field(method, descriptor);
    let key = |draw: &mut Draw| samples::element(&mut Draw::new(draw.below(pool)), &field, 1);
    request.set_field(&field, Value::List((0..keys).map(|_| key(draw)).collect()));
    request
}

/// Draws that depend on nothing but `parts`.
fn draw_of(parts: &[&[u8]]) -> Draw {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xFF]));
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    Draw::new(hash)
}

/// What the service has for a key: its bytes decide, and a third of the keys is not there.
fn found(key: &Value, field: &FieldDescriptor) -> Draw {
    draw_of(&[format!("{key:?}").as_bytes(), field.name().as_bytes()])
}

/// Answers as a data plane does: per key, in the order of the keys. `asked` sees the other fields of the request, too, as an
/// answer may depend on them.
fn answer(method: &Method, descriptor: &MethodDescriptor, bytes: &[u8]) -> Vec<u8> {
    let request = DynamicMessage::decode(descriptor.input(), bytes).expect("a part decodes");
    let field = key_field(method, descriptor);
    let keys = request.get_field(&field).as_list().expect("a list").to_vec();
    let mut asked = request.clone();
    asked.clear_field(&field);
    let asked = asked.encode_to_vec();
    let mut reply = DynamicMessage::new(descriptor.output());
    for rule in &method.split.as_ref().expect("is split").reply {
        let field = descriptor.output().get_field(rule.step.number).expect("is there");
        let mut list: Vec<Value> = Vec::new();
        for key in &keys {
            let mut draw = found(key, &field);
            let missing = draw.below(3) == 0;
            match &rule.rule {
                // A value for each key; what is not there has the default in its place.
                Rule::Positional if missing => list.push(Value::default_value(&field.kind())),
                Rule::Positional => {
                    let mut draw = draw_of(&[&asked, &draw.next().to_le_bytes()]);
                    list.push(samples::element(&mut draw, &field, 1));
                }
                Rule::Concat => {
                    list.extend((0..draw.below(3)).map(|_| samples::element(&mut draw, &field, 1)))
                }
                // Several keys lead to the same element, which is in the reply once.
                Rule::Distinct(path) if !missing => {
                    let group = draw.below(5);
                    let mut element = samples::element(&mut Draw::new(group), &field, 1);
                    let text = Value::String(format!("group {group}"));
                    let Value::Message(message) = &mut element else { panic!("a message") };
                    set_key(message, &path.iter().map(|step| step.number).collect::<Vec<_>>(), &text);
                    if !list.contains(&element) {
                        list.push(element);
                    }
                }
                Rule::Distinct(_) => (),
                other => panic!("no method of a preset has {other:?}"),
            }
        }
        reply.set_field(&field, Value::List(list));
    }
    reply.encode_to_vec()
}

/// Sets the field at `path`; a message that is a key itself gets the text in its first field.
fn set_key(message: &mut DynamicMessage, path: &[u32], text: &Value) {
    let Some((number, rest)) = path.split_first() else {
        return message.set_field_by_number(1, text.clone());
    };
    match message.get_field_by_number_mut(*number) {
        Some(Value::Message(inner)) => set_key(inner, rest, text),
        _ => message.set_field_by_number(*number, text.clone()),
    }
}

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
