//! Protobuf's JSON of the messages that the samples draw, and a data plane that answers in it. Whoever reads it again
//! reads what was written; of the well-known types the text is one of our own, because nobody here looks into it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use weir_rpc::Method;
use weir_rpc::schema::prost_reflect::ReflectMessage as _;
use weir_rpc::schema::prost_reflect::prost::Message as _;
use weir_rpc::schema::prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor, Value,
};

use crate::data_plane;
use crate::samples::Draw;

/// Which names stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `rootUri`
    Camel,
    /// `root_uri`
    Proto,
    /// `rootUri`, and members that have their default are there.
    Full,
}

impl Spelling {
    /// One of them.
    pub fn drawn(draw: &mut Draw) -> Self {
        [Spelling::Camel, Spelling::Proto, Spelling::Full][draw.below(3) as usize]
    }
}

/// A message as JSON has it.
pub fn written(message: &DynamicMessage, spelling: Spelling) -> Json {
    if message.descriptor().full_name().starts_with("google.protobuf.") {
        return Json::from(format!("{:?}", message.encode_to_vec()));
    }
    let of = message.descriptor();
    let there = |field: &FieldDescriptor| {
        message.has_field(field) || (spelling == Spelling::Full && !field.supports_presence())
    };
    let members = of.fields().filter(there).map(|field| {
        let name = match spelling {
            Spelling::Proto => field.name().to_owned(),
            Spelling::Camel | Spelling::Full => field.json_name().to_owned(),
        };
        (name, value_of(&message.get_field(&field), &field.kind(), spelling))
    });
    Json::Object(members.collect())
}

fn value_of(value: &Value, kind: &Kind, spelling: Spelling) -> Json {
    match (value, kind) {
        (Value::Bool(value), _) => Json::from(*value),
        (Value::I32(value), _) => Json::from(*value),
        (Value::U32(value), _) => Json::from(*value),
        (Value::F32(value), _) => Json::from(*value),
        (Value::F64(value), _) => Json::from(*value),
        (Value::I64(value), _) => Json::from(value.to_string()),
        (Value::U64(value), _) => Json::from(value.to_string()),
        (Value::String(text), _) => Json::from(text.as_str()),
        (Value::Bytes(bytes), _) => Json::from(STANDARD.encode(bytes)),
        (Value::EnumNumber(number), Kind::Enum(of)) => {
            Json::from(of.get_value(*number).expect("a value of the enum").name())
        }
        (Value::EnumNumber(number), _) => Json::from(*number),
        (Value::Message(message), _) => written(message, spelling),
        (Value::List(list), _) => list.iter().map(|value| value_of(value, kind, spelling)).collect(),
        (Value::Map(map), Kind::Message(entry)) => {
            let kind = entry.map_entry_value_field().kind();
            let members = map.iter().map(|(key, value)| {
                let MapKey::String(key) = key else { panic!("no other keys are drawn") };
                (key.clone(), value_of(value, &kind, spelling))
            });
            Json::Object(members.collect())
        }
        (Value::Map(_), _) => panic!("a map has entries"),
    }
}

/// A request, either way it is spelled. It has texts, numbers, flags, lists and messages of them.
pub fn read(of: &MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for (name, value) in json.as_object().expect("an object") {
        let field = of.get_field_by_name(name).or_else(|| of.get_field_by_json_name(name));
        let field = field.unwrap_or_else(|| panic!("{} has no {name}", of.full_name()));
        let read_one = |value: &Json| match field.kind() {
            Kind::String => Value::String(value.as_str().expect("text").to_owned()),
            Kind::Bool => Value::Bool(value.as_bool().expect("a flag")),
            Kind::Int32 => Value::I32(i32::try_from(value.as_i64().expect("a number")).expect("of 32 bits")),
            Kind::Message(of) => Value::Message(read(&of, value)),
            other => panic!("no request has {other:?}"),
        };
        let value = match field.is_list() {
            true => Value::List(value.as_array().expect("an array").iter().map(read_one).collect()),
            false => read_one(value),
        };
        message.set_field(&field, value);
    }
    message
}

/// What the data plane says to a request in JSON.
pub fn answer(
    method: &Arc<Method>,
    descriptor: &MethodDescriptor,
    request: &[u8],
    spelling: Spelling,
) -> Vec<u8> {
    let request = serde_json::from_slice(request).expect("a part is JSON");
    let request = read(&descriptor.input(), &request).encode_to_vec();
    let reply = data_plane::answer(method, descriptor, &request);
    let reply = DynamicMessage::decode(descriptor.output(), reply.as_slice()).expect("decodes");
    written(&reply, spelling).to_string().into_bytes()
}
