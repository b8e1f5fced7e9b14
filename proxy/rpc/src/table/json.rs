//! What the JSON of a method's messages looks like, for splitting.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::scan::Step;
use crate::schema::prost_reflect;
use crate::split::{JsonField, JsonSplit, Names, ReplyField, Rule};

/// Types of protobuf that have a form of their own in JSON are in this package.
const WELL_KNOWN: &str = "google.protobuf.";

/// `None`: messages of this method are not split in JSON. Their reply has a map, a field whose `null` is a value, two
/// fields of one name, or is told apart by something inside a message that JSON writes in a form of its own.
pub(super) fn split(
    request: &MessageDescriptor,
    reply: &MessageDescriptor,
    key: Step,
    fields: &[ReplyField],
) -> Option<JsonSplit> {
    let key = names(&request.get_field(key.number)?);
    let mut others = request.fields().filter(|field| *field.name() != *key.proto);
    if others.any(|other| names(&other).meets(&key)) {
        return None;
    }
    let mut split = JsonSplit { key, reply: Vec::with_capacity(fields.len()) };
    for known in fields {
        let field = reply.get_field(known.step.number)?;
        let own = names(&field);
        let twice = split.reply.iter().any(|other| other.names.meets(&own));
        if twice || field.is_map() || (!field.is_list() && null_is_a_value(&field)) {
            return None;
        }
        let path = match &known.rule {
            Rule::Distinct(path) => names_on(&field, path)?,
            _ => Vec::new(),
        };
        let zero = match field.kind() {
            Kind::Enum(of) => Some(format!("\"{}\"", of.default_value().name()).into()),
            _ => None,
        };
        split.reply.push(JsonField { names: own, path, presence: field.supports_presence(), zero });
    }
    Some(split)
}

fn names(field: &FieldDescriptor) -> Names {
    Names { json: field.json_name().into(), proto: field.name().into() }
}

fn null_is_a_value(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(of) => of.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// The names on the path of a key inside an element.
fn names_on(field: &FieldDescriptor, path: &[Step]) -> Option<Vec<Names>> {
    let mut inside = field.kind();
    let mut found = Vec::with_capacity(path.len());
    for step in path {
        let message = inside.as_message().filter(|message| !message.full_name().starts_with(WELL_KNOWN))?;
        let next = message.get_field(step.number)?;
        found.push(names(&next));
        inside = next.kind();
    }
    Some(found)
}
