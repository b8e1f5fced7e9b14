//! A data plane that decodes, looks each key up and encodes with prost-reflect, for every method of the presets that is
//! split; and requests for it. The edge's tests put it behind a socket.

use std::sync::Arc;

use crate::samples::{self, Draw};
use weir_rpc::schema::method_name;
use weir_rpc::schema::prost_reflect::prost::Message as _;
use weir_rpc::schema::prost_reflect::{DynamicMessage, FieldDescriptor, MethodDescriptor, Value};
use weir_rpc::split::Rule;
use weir_rpc::table::PRESETS;
use weir_rpc::{Method, Schema, Table};

/// Every method that is split, with its descriptor.
pub fn methods() -> Vec<(Arc<Method>, MethodDescriptor)> {
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
pub fn request(
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
pub fn answer(method: &Method, descriptor: &MethodDescriptor, bytes: &[u8]) -> Vec<u8> {
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
