//! Types of columns: their names, values in the form of the protocol, and the same values as literals.

use crate::draw::Draw;
use crate::support_cql::int;
use std::net::{Ipv4Addr, Ipv6Addr};
use weir_cql::key::KeyType;
use weir_cql::write;

/// The user type that every keyspace has: `CREATE TYPE pair (a int, b text)`.
pub const PAIR: [Kind; 2] = [Kind::Native(KeyType::Int), Kind::Native(KeyType::Text)];

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One that can be a key and has an order.
    Native(KeyType),
    /// `duration`
    Duration,
    /// `counter`
    Counter,
    /// `list<...>`
    List(Box<Kind>),
    /// `set<...>`
    Set(Box<Kind>),
    /// `map<..., ...>`
    Map(Box<Kind>, Box<Kind>),
    /// `tuple<...>`
    Tuple(Vec<Kind>),
    /// The user type.
    Pair,
    /// `vector<float, 3>`
    Vector,
}

/// A value that is bound.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Bytes.
    Value(Vec<u8>),
    /// Null.
    Null,
    /// Left as it is (v4 and later).
    Unset,
}

impl Kind {
    /// `int`
    pub const INT: Kind = Kind::Native(KeyType::Int);

    /// One that is not made of others.
    pub fn native(draw: &mut Draw) -> Kind {
        Kind::Native(*draw.pick(&KeyType::ALL))
    }

    /// One made of others.
    pub fn nested(draw: &mut Draw) -> Kind {
        let one = |draw: &mut Draw| Box::new(Kind::native(draw));
        match draw.below(5) {
            0 => Kind::List(one(draw)),
            1 => Kind::Set(one(draw)),
            2 => Kind::Map(one(draw), one(draw)),
            3 => Kind::Tuple(vec![Kind::native(draw), Kind::native(draw)]),
            _ => Kind::Pair,
        }
    }

    /// Its name in CQL.
    pub fn name(&self) -> String {
        match self {
            Kind::Native(kind) => format!("{kind:?}").to_lowercase(),
            Kind::Duration => "duration".into(),
            Kind::Counter => "counter".into(),
            Kind::List(of) => format!("list<{}>", of.name()),
            Kind::Set(of) => format!("set<{}>", of.name()),
            Kind::Map(key, value) => format!("map<{}, {}>", key.name(), value.name()),
            Kind::Tuple(of) => {
                format!("tuple<{}>", of.iter().map(Kind::name).collect::<Vec<_>>().join(", "))
            }
            Kind::Pair => "pair".into(),
            Kind::Vector => "vector<float, 3>".into(),
        }
    }

    /// Whether it is made of others.
    pub fn is_nested(&self) -> bool {
        !matches!(self, Kind::Native(_) | Kind::Duration | Kind::Counter | Kind::Vector)
    }

    /// Whether there are sums of it.
    pub fn is_number(&self) -> bool {
        use KeyType::{Bigint, Decimal, Double, Float, Int, Smallint, Tinyint, Varint};
        matches!(self, Kind::Native(Tinyint | Smallint | Int | Bigint | Varint | Decimal | Float | Double))
    }

    /// A value.
    pub fn value(&self, draw: &mut Draw) -> Vec<u8> {
        match self {
            Kind::Native(kind) => native(*kind, draw),
            // three numbers of one byte each: months, days, nanoseconds
            Kind::Duration => (0..3).map(|_| draw.below(60) as u8 * 2).collect(),
            Kind::Counter => draw.within(-5..9).to_be_bytes().to_vec(),
            Kind::List(of) => elements((0..draw.below(4)).map(|_| of.value(draw)).collect()),
            Kind::Set(of) => {
                let mut all: Vec<_> = (0..draw.below(4)).map(|_| of.value(draw)).collect();
                all.sort();
                all.dedup();
                elements(all)
            }
            Kind::Map(key, value) => {
                // which of two equal keys of a literal counts is by chance
                let mut keys: Vec<_> = (0..draw.below(4)).map(|_| key.value(draw)).collect();
                keys.sort();
                keys.dedup();
                let mut bytes = int(keys.len() as i32);
                for key in keys {
                    write::bytes(&mut bytes, &key);
                    write::bytes(&mut bytes, &value.value(draw));
                }
                bytes
            }
            Kind::Tuple(of) => fields(of, draw),
            Kind::Pair => fields(&PAIR, draw),
            Kind::Vector => (0..3).flat_map(|_| (draw.below(9) as f32).to_be_bytes()).collect(),
        }
    }

    /// A value of this type as a literal; `None` where it has no simple one.
    pub fn literal(&self, value: &[u8]) -> Option<String> {
        if value.is_empty() && !matches!(self, Kind::Native(KeyType::Ascii | KeyType::Text | KeyType::Blob)) {
            return None;
        }
        match self {
            Kind::Native(kind) => literal(*kind, value),
            Kind::Duration => Some(format!("{}mo{}d{}ns", value[0] / 2, value[1] / 2, value[2] / 2)),
            Kind::Counter => literal(KeyType::Bigint, value),
            Kind::List(of) => Some(format!("[{}]", parts(value, true, |_| of)?.join(", "))),
            Kind::Set(of) => Some(format!("{{{}}}", parts(value, true, |_| of)?.join(", "))),
            Kind::Map(key, of) => {
                let each = parts(&pairs(value), true, |at| if at % 2 == 0 { key } else { of })?;
                let each: Vec<_> = each.chunks(2).map(|pair| pair.join(": ")).collect();
                Some(format!("{{{}}}", each.join(", ")))
            }
            Kind::Tuple(of) => Some(format!("({})", parts(value, false, |at| &of[at])?.join(", "))),
            Kind::Pair => {
                let each = parts(value, false, |at| &PAIR[at])?;
                Some(format!("{{a: {}, b: {}}}", each[0], each[1]))
            }
            Kind::Vector => {
                let each = value.chunks(4).map(|each| literal(KeyType::Float, each));
                Some(format!("[{}]", each.collect::<Option<Vec<_>>>()?.join(", ")))
            }
        }
    }
}

/// A list of values in the form of the protocol.
pub fn elements(all: Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes = int(all.len() as i32);
    all.iter().for_each(|each| write::bytes(&mut bytes, each));
    bytes
}

/// The head of a map says pairs; here the parts are wanted.
fn pairs(value: &[u8]) -> Vec<u8> {
    let count = i32::from_be_bytes(value[..4].try_into().expect("a count"));
    [&(count * 2).to_be_bytes()[..], &value[4..]].concat()
}

fn fields(of: &[Kind], draw: &mut Draw) -> Vec<u8> {
    let mut bytes = Vec::new();
    for kind in of {
        let null = draw.percent(8);
        write::nullable(&mut bytes, (!null).then(|| kind.value(draw)).as_deref());
    }
    bytes
}

/// The literals of what a value is made of, each a \[bytes\], with their number in front where `counted`.
fn parts<'k>(value: &[u8], counted: bool, kind: impl Fn(usize) -> &'k Kind) -> Option<Vec<String>> {
    let (mut rest, mut all) = (&value[if counted { 4 } else { 0 }..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        let (bytes, after) = after.split_at(length.max(0) as usize);
        all.push(if length < 0 { "null".into() } else { kind(all.len()).literal(bytes)? });
        rest = after;
    }
    Some(all)
}

fn native(kind: KeyType, draw: &mut Draw) -> Vec<u8> {
    match kind {
        KeyType::Ascii => (0..=draw.below(4)).map(|_| *draw.pick(b"abAB '%~")).collect(),
        KeyType::Text => {
            let letters = ['a', 'Z', '\'', 'é', '\u{7ff}', '\u{ffee}', '\u{10348}', ' '];
            (0..=draw.below(3)).map(|_| *draw.pick(&letters)).collect::<String>().into_bytes()
        }
        KeyType::Blob => {
            let length = 1 + draw.below(4);
            draw.bytes(length)
        }
        KeyType::Boolean => vec![draw.next() as u8 & 1],
        KeyType::Tinyint => draw.bytes(1),
        KeyType::Smallint => draw.bytes(2),
        KeyType::Int => draw.bytes(4),
        KeyType::Date => (draw.within(-20_000..40_000) + (1 << 31)).to_be_bytes()[4..].to_vec(),
        KeyType::Bigint => draw.bytes(8),
        KeyType::Timestamp => draw.within(-5_000_000_000_000..9_000_000_000_000).to_be_bytes().to_vec(),
        KeyType::Time => draw.within(0..86_400_000_000_000).to_be_bytes().to_vec(),
        KeyType::Varint => {
            let length = 1 + draw.below(12);
            minimal(draw.bytes(length))
        }
        KeyType::Decimal => {
            // an odd last digit: no two of these are the same number with different scales
            let unscaled = (draw.next() as i32 / 10 * 10 + 1).to_be_bytes().to_vec();
            [int(draw.below(9) as i32 - 4), minimal(unscaled)].concat()
        }
        KeyType::Float => {
            let special = [0.0_f32, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE];
            let drawn = draw.within(-9_999..9_999) as f32 / 7.0;
            special.get(draw.below(20)).copied().unwrap_or(drawn).to_be_bytes().to_vec()
        }
        KeyType::Double => {
            let special = [0.0_f64, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE];
            let drawn = draw.within(-999_999..999_999) as f64 / 7.0;
            special.get(draw.below(20)).copied().unwrap_or(drawn).to_be_bytes().to_vec()
        }
        KeyType::Uuid => draw.bytes(16),
        KeyType::Timeuuid => {
            let mut bytes = draw.bytes(16);
            bytes[6] = bytes[6] & 0x0f | 0x10;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            bytes
        }
        KeyType::Inet => {
            let length = if draw.percent(50) { 4 } else { 16 };
            draw.bytes(length)
        }
    }
}

/// A number without bytes it does not need.
fn minimal(bytes: Vec<u8>) -> Vec<u8> {
    let spare =
        |pair: &[u8]| matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xff, 0x80..=0xff]);
    let skipped = bytes.windows(2).take_while(|pair| spare(pair)).count();
    bytes[skipped..].to_vec()
}

fn whole(value: &[u8]) -> Option<i128> {
    let fill = if value.first()? & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16_usize.checked_sub(value.len())?..].copy_from_slice(value);
    Some(i128::from_be_bytes(wide))
}

fn literal(kind: KeyType, value: &[u8]) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let real = |text: String| match text.as_str() {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        _ => text,
    };
    Some(match kind {
        KeyType::Ascii | KeyType::Text => {
            format!("'{}'", std::str::from_utf8(value).ok()?.replace('\'', "''"))
        }
        KeyType::Blob => format!("0x{}", hex(value)),
        KeyType::Boolean => (value != [0]).to_string(),
        KeyType::Date => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        KeyType::Tinyint
        | KeyType::Smallint
        | KeyType::Int
        | KeyType::Bigint
        | KeyType::Timestamp
        | KeyType::Time
        | KeyType::Varint => whole(value)?.to_string(),
        KeyType::Decimal => {
            let (scale, unscaled) = value.split_first_chunk::<4>()?;
            format!("{}E{}", whole(unscaled)?, -i32::from_be_bytes(*scale))
        }
        KeyType::Float => real(format!("{:e}", f32::from_be_bytes(value.try_into().ok()?))),
        KeyType::Double => real(format!("{:e}", f64::from_be_bytes(value.try_into().ok()?))),
        KeyType::Uuid | KeyType::Timeuuid => {
            let hex = hex(value);
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
        }
        KeyType::Inet if value.len() == 4 => {
            format!("'{}'", Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
        }
        KeyType::Inet => format!("'{}'", Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
    })
}
