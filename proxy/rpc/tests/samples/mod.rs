//! Messages of any type with values drawn from a seed, made and read by prost-reflect: the oracle of these tests.

use std::collections::HashMap;

use weir_rpc::schema::prost_reflect::prost::bytes::Bytes;
use weir_rpc::schema::prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

/// Draws numbers from a seed (splitmix64): the same seed, the same numbers.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number that is often small and sometimes of any size.
    fn number(&mut self) -> u64 {
        let bits = self.below(65) as u32;
        self.next().checked_shr(bits).unwrap_or(0)
    }

    fn text(&mut self) -> String {
        let length = if self.below(20) == 0 { 300 } else { self.below(12) };
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

/// Messages nested deeper than this are empty.
const DEPTH: usize = 3;

/// A value of one element of `field`.
pub fn element(draw: &mut Draw, field: &FieldDescriptor, depth: usize) -> Value {
    value(draw, &field.kind(), depth)
}

fn value(draw: &mut Draw, kind: &Kind, depth: usize) -> Value {
    match kind {
        Kind::Double => Value::F64(draw.below(1000) as f64 / 8.0),
        Kind::Float => Value::F32(draw.below(1000) as f32 / 8.0),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(draw.number() as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(draw.number() as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(draw.number() as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(draw.number()),
        Kind::Bool => Value::Bool(draw.below(2) == 1),
        Kind::String => Value::String(draw.text()),
        Kind::Bytes => Value::Bytes(Bytes::from(draw.text())),
        Kind::Message(message) => Value::Message(self::message(draw, message, depth + 1)),
        Kind::Enum(of) => {
            let values: Vec<i32> = of.values().map(|value| value.number()).collect();
            Value::EnumNumber(values[draw.below(values.len() as u64) as usize])
        }
    }
}

/// A message with about two thirds of its fields. A map has at most one entry: their order is not fixed.
pub fn message(draw: &mut Draw, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        if depth > DEPTH || draw.below(3) == 0 {
            continue;
        }
        let drawn = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { continue };
            let key = MapKey::String(draw.text());
            let value = element(draw, &entry.map_entry_value_field(), depth);
            Value::Map(HashMap::from([(key, value)]))
        } else if field.is_list() {
            let length = if draw.below(10) == 0 { 200 } else { draw.below(5) };
            Value::List((0..length).map(|_| element(draw, &field, depth)).collect())
        } else {
            element(draw, &field, depth)
        };
        message.set_field(&field, drawn);
    }
    message
}
