//! Column types: \[option\] as a tree, with a cap on its depth and size.

use crate::error::Malformed;
use crate::read::{Cursor, Span};
use crate::write;

/// Types nested deeper are refused. Cassandra's own grammar allows more, real schemas have three or four.
pub const DEPTH_MAX: u8 = 32;

/// Parts (fields, elements, the types themselves) of one column type; more are refused.
pub const PARTS_MAX: u32 = 4096;

/// A type without parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
pub enum Native {
    /// ascii
    Ascii = 0x01,
    /// bigint
    Bigint = 0x02,
    /// blob
    Blob = 0x03,
    /// boolean
    Boolean = 0x04,
    /// counter
    Counter = 0x05,
    /// decimal
    Decimal = 0x06,
    /// double
    Double = 0x07,
    /// float
    Float = 0x08,
    /// int
    Int = 0x09,
    /// text, as the number that versions before v3 had
    Text = 0x0A,
    /// timestamp
    Timestamp = 0x0B,
    /// uuid
    Uuid = 0x0C,
    /// text and varchar
    Varchar = 0x0D,
    /// varint
    Varint = 0x0E,
    /// timeuuid
    Timeuuid = 0x0F,
    /// inet
    Inet = 0x10,
    /// date
    Date = 0x11,
    /// time
    Time = 0x12,
    /// smallint
    Smallint = 0x13,
    /// tinyint
    Tinyint = 0x14,
    /// duration
    Duration = 0x15,
}

impl Native {
    /// The type with this option id.
    pub const fn from_id(id: u16) -> Option<Self> {
        Some(match id {
            0x01 => Native::Ascii,
            0x02 => Native::Bigint,
            0x03 => Native::Blob,
            0x04 => Native::Boolean,
            0x05 => Native::Counter,
            0x06 => Native::Decimal,
            0x07 => Native::Double,
            0x08 => Native::Float,
            0x09 => Native::Int,
            0x0A => Native::Text,
            0x0B => Native::Timestamp,
            0x0C => Native::Uuid,
            0x0D => Native::Varchar,
            0x0E => Native::Varint,
            0x0F => Native::Timeuuid,
            0x10 => Native::Inet,
            0x11 => Native::Date,
            0x12 => Native::Time,
            0x13 => Native::Smallint,
            0x14 => Native::Tinyint,
            0x15 => Native::Duration,
            _ => return None,
        })
    }
}

const CUSTOM: u16 = 0x00;
const LIST: u16 = 0x20;
const MAP: u16 = 0x21;
const SET: u16 = 0x22;
const UDT: u16 = 0x30;
const TUPLE: u16 = 0x31;

/// A type as an owned tree. Made when a statement is prepared, never per request.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum CqlType {
    /// A type without parts.
    Native(Native),
    /// A Java class name; vectors are such.
    Custom(Box<[u8]>),
    /// `list<element>`
    List(Box<CqlType>),
    /// `set<element>`
    Set(Box<CqlType>),
    /// `map<key, value>`
    Map(Box<CqlType>, Box<CqlType>),
    /// A user-defined type.
    Udt {
        /// Its keyspace.
        keyspace: Box<[u8]>,
        /// Its name.
        name: Box<[u8]>,
        /// Its fields in order.
        fields: Vec<(Box<[u8]>, CqlType)>,
    },
    /// `tuple<...>`
    Tuple(Vec<CqlType>),
}

impl CqlType {
    /// Reads the type at `span` of `body`, as [`skip`] has found it.
    pub fn at(body: &[u8], span: Span) -> Result<Self, Malformed> {
        Self::read(body, &mut Cursor::within(body, span))
    }

    /// Reads one type; `cursor` is over `body`.
    pub fn read(body: &[u8], cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        // The walk that allocates nothing comes first: a hostile type is refused before the tree is begun.
        skip(&mut cursor.clone())?;
        Self::build(body, cursor, DEPTH_MAX)
    }

    fn build(body: &[u8], cursor: &mut Cursor<'_>, depth: u8) -> Result<Self, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
        Ok(match cursor.short()? {
            CUSTOM => CqlType::Custom(cursor.string()?.of(body).into()),
            LIST => CqlType::List(Self::build(body, cursor, depth)?.into()),
            SET => CqlType::Set(Self::build(body, cursor, depth)?.into()),
            MAP => {
                let key = Self::build(body, cursor, depth)?;
                CqlType::Map(key.into(), Self::build(body, cursor, depth)?.into())
            }
            UDT => {
                let (keyspace, name) = (cursor.string()?, cursor.string()?);
                let mut fields = Vec::new();
                for _ in 0..cursor.short()? {
                    let field = cursor.string()?.of(body).into();
                    fields.push((field, Self::build(body, cursor, depth)?));
                }
                CqlType::Udt { keyspace: keyspace.of(body).into(), name: name.of(body).into(), fields }
            }
            TUPLE => {
                let mut parts = Vec::new();
                for _ in 0..cursor.short()? {
                    parts.push(Self::build(body, cursor, depth)?);
                }
                CqlType::Tuple(parts)
            }
            id => CqlType::Native(Native::from_id(id).ok_or(Malformed::UnknownKind)?),
        })
    }

    /// Writes the \[option\]. Names longer than 65,535 bytes and parts beyond 65,535 are cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            CqlType::Native(native) => write::short(out, *native as u16),
            CqlType::Custom(class) => {
                write::short(out, CUSTOM);
                write::short_bytes(out, class);
            }
            CqlType::List(element) => {
                write::short(out, LIST);
                element.write(out);
            }
            CqlType::Set(element) => {
                write::short(out, SET);
                element.write(out);
            }
            CqlType::Map(key, value) => {
                write::short(out, MAP);
                key.write(out);
                value.write(out);
            }
            CqlType::Udt { keyspace, name, fields } => {
                write::short(out, UDT);
                write::short_bytes(out, keyspace);
                write::short_bytes(out, name);
                write::short(out, fields.len().min(usize::from(u16::MAX)) as u16);
                for (field, kind) in fields.iter().take(usize::from(u16::MAX)) {
                    write::short_bytes(out, field);
                    kind.write(out);
                }
            }
            CqlType::Tuple(parts) => {
                write::short(out, TUPLE);
                write::short(out, parts.len().min(usize::from(u16::MAX)) as u16);
                parts.iter().take(usize::from(u16::MAX)).for_each(|part| part.write(out));
            }
        }
    }
}

/// Walks over one type without keeping it: where it lies.
pub fn skip(cursor: &mut Cursor<'_>) -> Result<Span, Malformed> {
    let start = cursor.position();
    let mut parts = PARTS_MAX;
    walk(cursor, DEPTH_MAX, &mut parts)?;
    Ok(cursor.since(start))
}

fn walk(cursor: &mut Cursor<'_>, depth: u8, parts: &mut u32) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
    *parts = parts.checked_sub(1).ok_or(Malformed::TooDeep)?;
    match cursor.short()? {
        CUSTOM => cursor.string().map(|_class| ()),
        LIST | SET => walk(cursor, depth, parts),
        MAP => {
            walk(cursor, depth, parts)?;
            walk(cursor, depth, parts)
        }
        UDT => {
            cursor.string()?;
            cursor.string()?;
            for _ in 0..cursor.short()? {
                cursor.string()?;
                walk(cursor, depth, parts)?;
            }
            Ok(())
        }
        TUPLE => {
            for _ in 0..cursor.short()? {
                walk(cursor, depth, parts)?;
            }
            Ok(())
        }
        id => Native::from_id(id).map(|_native| ()).ok_or(Malformed::UnknownKind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_read_and_written() {
        let text = || CqlType::Native(Native::Varchar);
        let tree = CqlType::Udt {
            keyspace: b"ks".as_slice().into(),
            name: b"address".as_slice().into(),
            fields: vec![
                (b"tags".as_slice().into(), CqlType::Set(text().into())),
                (b"by".as_slice().into(), CqlType::Map(text().into(), CqlType::List(text().into()).into())),
                (b"p".as_slice().into(), CqlType::Tuple(vec![text(), CqlType::Native(Native::Int)])),
                (b"v".as_slice().into(), CqlType::Custom(b"x.VectorType".as_slice().into())),
            ],
        };
        let mut out = Vec::new();
        tree.write(&mut out);
        out.push(99);
        let mut cursor = Cursor::new(&out);
        assert_eq!(CqlType::read(&out, &mut cursor), Ok(tree));
        assert_eq!(cursor.remaining(), 1);
        for length in 0..out.len() - 1 {
            assert_eq!(skip(&mut Cursor::new(&out[..length])), Err(Malformed::Truncated), "{length}");
        }
    }

    #[test]
    fn depth_and_size_have_caps() {
        let nested = |depth: usize| [[0, 0x20].repeat(depth - 1), vec![0, 9]].concat();
        assert!(skip(&mut Cursor::new(&nested(usize::from(DEPTH_MAX)))).is_ok());
        let refused = skip(&mut Cursor::new(&nested(usize::from(DEPTH_MAX) + 1)));
        assert_eq!(refused, Err(Malformed::TooDeep));
        let mut wide = vec![0, 0x31, 0xff, 0xff];
        wide.extend([0, 9].repeat(65_535));
        assert_eq!(CqlType::read(&wide, &mut Cursor::new(&wide)), Err(Malformed::TooDeep));
        assert_eq!(skip(&mut Cursor::new(&[0x12, 0x34])), Err(Malformed::UnknownKind));
    }
}
