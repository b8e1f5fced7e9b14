//! Bound values, and the lists among them.

use crate::error::Malformed;
use crate::read::{Cursor, Span, Value};
use crate::version::Version;
use crate::write;

/// The bound values of one statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Values {
    /// How many.
    pub count: u16,
    /// The names (where `named`) and values, without the count.
    pub span: Span,
    /// Each value is preceded by its name.
    pub named: bool,
    version: Version,
}

impl Values {
    /// None.
    pub(super) fn none(at: u32, version: Version) -> Self {
        Self { count: 0, span: Span { start: at, end: at }, named: false, version }
    }

    /// Steps over a \[short\] count and the values.
    pub(super) fn locate(cursor: &mut Cursor<'_>, named: bool, version: Version) -> Result<Self, Malformed> {
        let count = cursor.short()?;
        let start = cursor.position();
        for _ in 0..count {
            if named {
                cursor.string()?;
            }
            cursor.value(version)?;
        }
        Ok(Self { count, span: cursor.since(start), named, version })
    }

    /// Names (empty where there are none) and values in order. O(n), no allocation.
    pub fn iter<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = (&'a [u8], Value)> + use<'a> {
        let mut cursor = Cursor::within(body, self.span);
        let (named, version) = (self.named, self.version);
        (0..self.count).map_while(move |_| {
            let name = if named { cursor.string().ok()?.of(body) } else { b"" };
            Some((name, cursor.value(version).ok()?))
        })
    }

    /// The value at `index`.
    pub fn get(&self, body: &[u8], index: u16) -> Option<Value> {
        self.iter(body).nth(usize::from(index)).map(|(_, value)| value)
    }

    /// Writes count, names and values, with `replaced` in place of the value at its index.
    pub(super) fn rewrite(&self, body: &[u8], replaced: Option<(u16, NewValue<'_>)>, out: &mut Vec<u8>) {
        write::short(out, self.count);
        let found = replaced.and_then(|(index, with)| {
            let (name, value) = self.iter(body).nth(usize::from(index))?;
            Some((name, value, index, with))
        });
        let Some((_, _, index, with)) = found else {
            out.extend_from_slice(self.span.of(body));
            return;
        };
        let mut cursor = Cursor::within(body, self.span);
        for _ in 0..index {
            self.step(&mut cursor);
        }
        if self.named {
            let _name_is_kept = cursor.string();
        }
        let before = Span { start: self.span.start, end: cursor.position() };
        let _old = cursor.value(self.version);
        out.extend_from_slice(before.of(body));
        with.write(out);
        out.extend_from_slice(cursor.rest().of(body));
    }

    /// Over one entry; [`Self::locate`] has checked that it is there.
    fn step(&self, cursor: &mut Cursor<'_>) {
        if self.named {
            let _name = cursor.string();
        }
        let _value = cursor.value(self.version);
    }
}

/// A value to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewValue<'a> {
    /// null
    Null,
    /// not set (v4 and later)
    NotSet,
    /// The bytes, without a length.
    Bytes(&'a [u8]),
    /// A list of `count` elements that are already encoded one after the other, each with its length: a run cut from
    /// another list need not be copied first.
    List(ListValue<'a>),
}

/// See [`NewValue::List`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListValue<'a> {
    /// Number of elements.
    pub count: u32,
    /// The elements, each a \[bytes\].
    pub elements: &'a [u8],
}

impl NewValue<'_> {
    /// Writes a \[value\].
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            NewValue::Null => write::int(out, -1),
            NewValue::NotSet => write::int(out, -2),
            NewValue::Bytes(bytes) => write::bytes(out, bytes),
            NewValue::List(list) => {
                // A body has at most 256 MiB, so the sum fits an [int].
                write::bits(out, (list.elements.len() + 4) as u32);
                write::bits(out, list.count);
                out.extend_from_slice(list.elements);
            }
        }
    }
}

/// The number of elements of a list, set or (as pairs) map, from its first four bytes: O(1).
///
/// `None` when it is no such value: shorter than four bytes, a negative count, or more elements than could be in it.
#[inline]
pub fn list_count(value: &[u8]) -> Option<u32> {
    Cursor::new(value).count(4).ok()
}

/// The elements of a list or set, without allocation. [`ListElements::next`] ends at the first that is cut short;
/// [`ListElements::whole`] tells whether all were there.
pub fn list_elements(value: &[u8]) -> Option<ListElements<'_>> {
    let mut cursor = Cursor::new(value);
    let left = cursor.count(4).ok()?;
    Some(ListElements { value, cursor, left })
}

/// See [`list_elements`].
#[derive(Clone, Debug)]
pub struct ListElements<'a> {
    value: &'a [u8],
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> ListElements<'a> {
    /// Whether every element has been returned and no byte is left.
    pub fn whole(&self) -> bool {
        self.left == 0 && self.cursor.remaining() == 0
    }
}

impl<'a> Iterator for ListElements<'a> {
    /// The element; `None` is null.
    type Item = Option<&'a [u8]>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.checked_sub(1)?;
        let element = self.cursor.bytes().ok()?;
        self.left = left;
        Some(element.of(self.value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_without_reading_them() {
        let mut list = Vec::new();
        NewValue::List(ListValue { count: 2, elements: b"\0\0\0\x01a\xff\xff\xff\xff" }).write(&mut list);
        let value = &list[4..];
        assert_eq!(list_count(value), Some(2));
        let mut elements = list_elements(value).expect("a list");
        assert_eq!(elements.next(), Some(Some(b"a".as_slice())));
        assert!(!elements.whole());
        assert_eq!(elements.next(), Some(None));
        assert_eq!((elements.next(), elements.whole()), (None, true));
        // A hostile count is not believed.
        assert_eq!(list_count(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]), None);
        assert_eq!(list_count(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(list_count(&[0, 0, 0]), None);
        let mut cut = list_elements(&[0, 0, 0, 1, 0, 0, 0, 9, 1]).expect("plausible");
        assert_eq!((cut.next(), cut.whole()), (None, false));
    }

    #[test]
    fn one_value_is_replaced() {
        for named in [false, true] {
            let mut body = Vec::new();
            write::short(&mut body, 3);
            for (name, value) in [("a", Some(b"1".as_slice())), ("bb", None), ("c", Some(b"333"))] {
                if named {
                    write::string(&mut body, name);
                }
                write::nullable(&mut body, value);
            }
            let values = Values::locate(&mut Cursor::new(&body), named, Version::V4).expect("valid");
            for index in 0..4 {
                let mut out = Vec::new();
                values.rewrite(&body, Some((index, NewValue::Bytes(b"new"))), &mut out);
                let again = Values::locate(&mut Cursor::new(&out), named, Version::V4).expect("valid");
                assert_eq!(again.count, 3);
                for ((at, (name, old)), (other, new)) in (0..).zip(values.iter(&body)).zip(again.iter(&out)) {
                    assert_eq!(name, other);
                    let expected = if at == index { Some(b"new".as_slice()) } else { old.of(&body) };
                    assert_eq!(new.of(&out), expected);
                }
            }
        }
    }
}
