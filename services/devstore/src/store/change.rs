//! What changes items: writes in their modes, arithmetic, removal and invalidation, each with or without a CAS to
//! compare.

use super::{ITEM_MAX, Item, Now, Store, item_size};
use std::rc::Rc;

/// Items larger than this are in pieces in memcached, and no numbers whatever they hold.
const CHUNK_MAX: usize = 512 << 10;

/// How a write treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only when nothing is there.
    Add,
    /// After what is there.
    Append,
    /// Only when the CAS is the one given.
    CompareAndSet,
    /// Before what is there.
    Prepend,
    /// Only when something is there.
    Replace,
    /// In any case.
    Set,
}

/// A write.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// How it treats what is there.
    pub mode: Mode,
    /// The key, decoded.
    pub key: &'a [u8],
    /// The key was sent as base64.
    pub base64: bool,
    /// The value without CRLF.
    pub value: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// See [`Store::expiry`].
    pub expires: Now,
    /// The CAS to compare; 0 is none (and matches nothing in [`Mode::CompareAndSet`]).
    pub compare: u64,
    /// A CAS older than the item's may write too; the item is stale then.
    pub invalidate: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored under this CAS.
    Stored(u64),
    /// The mode did not allow it.
    NotStored,
    /// Another CAS is there.
    Exists,
    /// Nothing is there to compare with.
    NotFound,
    /// The item would be larger than [`ITEM_MAX`]; what was there is gone.
    TooLarge,
}

/// Which way a number goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Up, from 2^64 - 1 on to 0.
    Up(u64),
    /// Down, but not below 0.
    Down(u64),
}

/// How arithmetic ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// The new number.
    Number(u64),
    /// There is no item.
    NotFound,
    /// The item is no number.
    NotANumber,
    /// Another CAS is there.
    Exists,
}

/// How a removal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is done.
    Done,
    /// There is no item.
    NotFound,
    /// Another CAS is there.
    Exists,
}

/// What a removal does to the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It goes.
    Delete,
    /// It stays, marked stale, under a new CAS, and expires at this time if given.
    Invalidate(Option<Now>),
}

impl Store {
    /// Stores an item.
    pub fn write(&mut self, write: Write<'_>, now: Now) -> Written {
        let Write { mode, key, base64, value, flags, expires, compare, invalidate } = write;
        if item_size(key.len(), value.len(), flags) > ITEM_MAX {
            // Nobody shall go on reading the old value.
            self.remove(key, None, Change::Delete, now);
            return Written::TooLarge;
        }
        let new = |value| Item {
            key: Rc::from(key),
            value,
            flags,
            expires,
            cas: 0,
            accessed: now,
            fetched: false,
            stale: false,
            token_sent: false,
            base64,
        };
        let Some(old) = self.find(key, now) else {
            return match mode {
                Mode::Add | Mode::Set => self.insert(new(value.to_vec())),
                Mode::CompareAndSet => Written::NotFound,
                Mode::Append | Mode::Prepend | Mode::Replace => Written::NotStored,
            };
        };
        let matches = compare == old.cas;
        match mode {
            Mode::Add => {
                self.bump(key);
                Written::NotStored
            }
            Mode::CompareAndSet if compare != 0 && matches => self.insert(new(value.to_vec())),
            Mode::CompareAndSet if compare != 0 && invalidate && compare < old.cas => {
                // An answer that was overtaken: better than nothing, and whoever reads it is told.
                let item = Item {
                    stale: true,
                    token_sent: old.token_sent,
                    expires: old.expires,
                    ..new(value.to_vec())
                };
                self.insert(item)
            }
            Mode::CompareAndSet => Written::Exists,
            Mode::Append | Mode::Prepend if compare != 0 && !matches => Written::Exists,
            Mode::Append | Mode::Prepend => {
                let (first, second) =
                    if mode == Mode::Append { (&old.value[..], value) } else { (value, &old.value[..]) };
                let whole = new([first, second].concat());
                let item = Item { flags: old.flags, expires: old.expires, base64: false, ..whole };
                match item.size() > ITEM_MAX {
                    true => Written::NotStored,
                    false => self.insert(item),
                }
            }
            Mode::Replace | Mode::Set => self.insert(new(value.to_vec())),
        }
    }

    /// Adds to or takes from a number. `compare` 0 compares nothing.
    ///
    /// A number that is not longer than its value is filled up with spaces to the value's length, as memcached does
    /// (unless another of its threads holds the item).
    pub fn arithmetic(&mut self, key: &[u8], delta: Delta, compare: u64, now: Now) -> Arithmetic {
        let cas = self.next_cas();
        let Some(item) = self.find(key, now) else { return Arithmetic::NotFound };
        if item.value.is_empty() || item.size() > CHUNK_MAX {
            return Arithmetic::NotANumber;
        }
        if compare != 0 && compare != item.cas {
            return Arithmetic::Exists;
        }
        let Some(number) = leading_number(&item.value) else { return Arithmetic::NotANumber };
        let number = match delta {
            Delta::Up(by) => number.wrapping_add(by),
            Delta::Down(by) => number.saturating_sub(by),
        };
        let mut digits = number.to_string().into_bytes();
        if digits.len() <= item.value.len() {
            digits.resize(item.value.len(), b' ');
            item.value = digits;
            item.cas = cas;
        } else {
            let item = Item {
                value: digits,
                fetched: false,
                stale: false,
                token_sent: false,
                base64: false,
                accessed: now,
                ..item.clone()
            };
            self.insert(item);
        }
        Arithmetic::Number(number)
    }

    /// Removes an item, or marks it stale.
    pub fn remove(&mut self, key: &[u8], compare: Option<u64>, change: Change, now: Now) -> Removed {
        let cas = self.next_cas();
        let Some(place) = self.place(key, now) else { return Removed::NotFound };
        let Some(item) = self.items.get_mut(place) else { return Removed::NotFound };
        if compare.is_some_and(|cas| cas != item.cas) {
            return Removed::Exists;
        }
        match change {
            Change::Delete => self.unlink(place),
            Change::Invalidate(expires) => {
                item.expires = expires.unwrap_or(item.expires);
                item.stale = true;
                item.token_sent = false;
                item.cas = cas;
            }
        }
        Removed::Done
    }

    /// An empty item in the place of a missing one, for the client that will store it.
    pub fn vivify(&mut self, key: &[u8], now: Now) {
        let (mode, value) = (Mode::Set, b"");
        let item =
            Write { mode, key, base64: false, value, flags: 0, expires: 0, compare: 0, invalidate: false };
        self.write(item, now);
    }

    fn insert(&mut self, item: Item) -> Written {
        let cas = self.next_cas();
        self.link(Item { cas, ..item });
        Written::Stored(cas)
    }

    fn bump(&mut self, key: &[u8]) {
        if let Some(place) = self.places.get(key) {
            self.items.move_front(*place);
        }
    }
}

/// The number at the start of a value; white space may stand before it and anything after white space behind it.
fn leading_number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii_start();
    let value = value.strip_prefix(b"+").unwrap_or(value);
    let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    let (digits, rest) = value.split_at(end);
    if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
