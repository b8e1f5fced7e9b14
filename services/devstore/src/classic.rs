//! The classic commands in memcached's words.

use crate::service::Service;
use crate::store::{Arithmetic, Change, Delta, Mode, Now, Removed, Write as Item, Written};
use crate::words::{signed, unsigned, words};
use std::io::Write;
use weir_memcached::{Mutate, Store, Verb, text};

/// `CLIENT_ERROR` of arithmetic on what is no number.
pub(crate) const NOT_A_NUMBER: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

impl Service {
    /// One key of a `get`, `gets`, `gat` or `gats`: its value, or nothing when it is missing. The caller adds `END`.
    pub fn retrieve(&mut self, verb: Verb, exptime: Option<&[u8]>, key: &[u8], now: Now, out: &mut Vec<u8>) {
        let touching = exptime.map(|given| self.store.expiry(signed(given).unwrap_or(0), now));
        let item = match touching {
            Some(expires) => self.store.touch(key, expires, now),
            None => self.store.fetch(key, now),
        };
        let counters = &mut self.counters;
        match touching {
            Some(_) => counters.cmd_touch += 1,
            None => counters.cmd_get += 1,
        }
        let Some(item) = item else {
            counters.get_misses += 1;
            counters.touch_misses += u64::from(touching.is_some());
            return;
        };
        counters.get_hits += 1;
        counters.touch_hits += u64::from(touching.is_some());
        out.extend_from_slice(b"VALUE ");
        out.extend_from_slice(key);
        // Writing to a Vec cannot fail.
        let _ = write!(out, " {} {}", item.flags, item.value.len());
        if matches!(verb, Verb::Gets | Verb::Gats) {
            let _ = write!(out, " {}", item.cas);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&item.value);
        out.extend_from_slice(b"\r\n");
    }

    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`. The codec has checked the numbers.
    pub(crate) fn store(&mut self, store: &Store<'_>, now: Now, out: &mut Vec<u8>) {
        let mut fields = words(store.head).skip(2);
        let flags = fields.next().and_then(unsigned).unwrap_or(0);
        let exptime = fields.next().and_then(signed).unwrap_or(0);
        let compare = fields.nth(1).and_then(unsigned).unwrap_or(0);
        let mode = match store.verb {
            Verb::Add => Mode::Add,
            Verb::Append => Mode::Append,
            Verb::Cas => Mode::CompareAndSet,
            Verb::Prepend => Mode::Prepend,
            Verb::Replace => Mode::Replace,
            _ => Mode::Set,
        };
        let item = Item {
            mode,
            key: store.key,
            base64: false,
            value: store.data.strip_suffix(b"\r\n").unwrap_or(store.data),
            // memcached keeps the last 32 bits.
            flags: flags as u32,
            expires: self.store.expiry(exptime, now),
            compare: if mode == Mode::CompareAndSet { compare } else { 0 },
            invalidate: false,
        };
        let written = self.store.write(item, now);
        self.count_write(mode, written);
        let reply: &[u8] = match written {
            Written::Stored(_) => b"STORED\r\n",
            Written::NotStored => b"NOT_STORED\r\n",
            Written::Exists => b"EXISTS\r\n",
            Written::NotFound => text::NOT_FOUND,
            Written::TooLarge => text::TOO_LARGE,
        };
        if !store.noreply {
            out.extend_from_slice(reply);
        }
    }

    pub(crate) fn count_write(&mut self, mode: Mode, written: Written) {
        let counters = &mut self.counters;
        counters.cmd_set += 1;
        match (mode, written) {
            (Mode::CompareAndSet, Written::Stored(_)) => counters.cas_hits += 1,
            (Mode::CompareAndSet, Written::Exists) => counters.cas_badval += 1,
            (Mode::CompareAndSet, Written::NotFound) => counters.cas_misses += 1,
            (_, Written::TooLarge) => counters.store_too_large += 1,
            _ => {}
        }
    }

    /// `incr`, `decr`, `delete`, `touch`.
    pub(crate) fn mutate(&mut self, mutate: &Mutate<'_>, now: Now, out: &mut Vec<u8>) {
        let start = out.len();
        let argument = words(mutate.head).nth(2).unwrap_or_default();
        match mutate.verb {
            Verb::Delete => {
                let removed = self.store.remove(mutate.key, None, Change::Delete, now);
                self.count_removal(removed);
                let done = removed == Removed::Done;
                out.extend_from_slice(if done { b"DELETED\r\n" } else { text::NOT_FOUND });
            }
            Verb::Touch => {
                let expires = self.store.expiry(signed(argument).unwrap_or(0), now);
                let touched = self.store.touch(mutate.key, expires, now).is_some();
                let counters = &mut self.counters;
                counters.cmd_touch += 1;
                counters.touch_hits += u64::from(touched);
                counters.touch_misses += u64::from(!touched);
                out.extend_from_slice(if touched { b"TOUCHED\r\n" } else { text::NOT_FOUND });
            }
            verb => {
                let by = unsigned(argument).unwrap_or(0);
                let delta = if verb == Verb::Incr { Delta::Up(by) } else { Delta::Down(by) };
                let result = self.store.arithmetic(mutate.key, delta, 0, now);
                self.count_arithmetic(delta, result);
                match result {
                    Arithmetic::Number(number) => {
                        // Writing to a Vec cannot fail.
                        let _ = write!(out, "{number}\r\n");
                    }
                    Arithmetic::NotANumber => out.extend_from_slice(NOT_A_NUMBER),
                    Arithmetic::NotFound | Arithmetic::Exists => out.extend_from_slice(text::NOT_FOUND),
                }
            }
        }
        if mutate.noreply {
            out.truncate(start);
        }
    }

    pub(crate) fn count_removal(&mut self, removed: Removed) {
        match removed {
            Removed::Done => self.counters.delete_hits += 1,
            Removed::NotFound | Removed::Exists => self.counters.delete_misses += 1,
        }
    }

    pub(crate) fn count_arithmetic(&mut self, delta: Delta, result: Arithmetic) {
        let counters = &mut self.counters;
        match (delta, result) {
            (Delta::Up(_), Arithmetic::Number(_)) => counters.incr_hits += 1,
            (Delta::Up(_), Arithmetic::NotFound) => counters.incr_misses += 1,
            (Delta::Down(_), Arithmetic::Number(_)) => counters.decr_hits += 1,
            (Delta::Down(_), Arithmetic::NotFound) => counters.decr_misses += 1,
            (_, Arithmetic::Exists) => counters.cas_badval += 1,
            (_, Arithmetic::NotANumber) => {}
        }
    }
}
