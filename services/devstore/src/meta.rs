//! The meta commands in the words of memcached 1.6.18: its flags, its errors, its order of answers.
//!
//! Flags that came with later versions (`E`, `x`, `I` of `mg` and others) are refused as 1.6.18 refuses them.

use crate::classic::NOT_A_NUMBER;
use crate::service::Service;
use crate::store::{Arithmetic, Change, Delta, Mode, Now, Removed, Write as Item, Written};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use weir_memcached::{Meta, Verb, text};

mod flags;

use flags::Flags;

impl Service {
    /// `mg`, `ms`, `md`, `ma`, `me`.
    pub(crate) fn meta(&mut self, meta: &Meta<'_>, now: Now, out: &mut Vec<u8>) {
        self.counters.cmd_meta += 1;
        let mut scratch = [0; 256];
        let key = meta.routing_key(&mut scratch);
        if meta.verb == Verb::Me {
            return self.meta_debug(key, now, out);
        }
        let start = out.len();
        let result = Flags::read(meta, &self.store, now).and_then(|flags| match meta.verb {
            Verb::Mg => {
                self.meta_get(meta, key, &flags, now, out);
                Ok(())
            }
            Verb::Ms => self.meta_set(meta, key, &flags, now, out),
            Verb::Md => {
                self.meta_delete(meta, key, &flags, now, out);
                Ok(())
            }
            _ => self.meta_arithmetic(meta, key, &flags, now, out),
        });
        if let Err(words) = result {
            out.truncate(start);
            out.extend_from_slice(words);
        }
    }

    fn meta_get(&mut self, meta: &Meta<'_>, key: &[u8], flags: &Flags<'_>, now: Now, out: &mut Vec<u8>) {
        let before = self.store.find(key, now).map(|item| (item.fetched, now.saturating_sub(item.accessed)));
        let created = before.is_none() && flags.vivify.is_some();
        if created {
            // It gets its time to live when its flag is answered.
            self.store.vivify(key, now);
        }
        let (fetched, idle) = before.unwrap_or_default();
        let found = match flags.no_bump {
            true => self.store.find(key, now),
            false => self.store.fetch(key, now),
        };
        self.counters.cmd_get += 1;
        let Some(item) = found else {
            self.counters.get_misses += 1;
            if !meta.quiet {
                out.extend_from_slice(b"EN");
                echo(meta, flags, out);
                out.extend_from_slice(b"\r\n");
            }
            return;
        };
        match created {
            true => self.counters.get_misses += 1,
            false => self.counters.get_hits += 1,
        }
        // Writing to a Vec cannot fail.
        let _ = match flags.value {
            true => write!(out, "VA {}", item.value.len()),
            false => write!(out, "HD"),
        };
        let mut won = created;
        for word in &flags.words {
            let _ = match word[0] {
                b'T' => {
                    item.expires = flags.expires.unwrap_or(item.expires);
                    Ok(())
                }
                b'N' => {
                    item.expires = flags.vivify.filter(|_| created).unwrap_or(item.expires);
                    Ok(())
                }
                b'R' => {
                    let soon = item.lives(now).is_some_and(|left| left < flags.recache.unwrap_or(0));
                    won |= soon && !item.token_sent && !created;
                    Ok(())
                }
                b's' => write!(out, " s{}", item.value.len()),
                b't' => write!(out, " t{}", item.lives(now).unwrap_or(-1)),
                b'c' => write!(out, " c{}", item.cas),
                b'f' => write!(out, " f{}", item.flags),
                b'l' => write!(out, " l{idle}"),
                b'h' => write!(out, " h{}", u8::from(fetched)),
                // The key as it was stored, not as it was asked for.
                b'k' if item.base64 => write!(out, " k{} b", STANDARD.encode(key)),
                b'k' => {
                    out.extend_from_slice(b" k");
                    out.extend_from_slice(key);
                    Ok(())
                }
                _ => {
                    echo_one(meta, word, out);
                    Ok(())
                }
            };
        }
        if item.token_sent {
            out.extend_from_slice(b" Z");
        }
        if item.stale {
            out.extend_from_slice(b" X");
            won |= !item.token_sent;
        }
        if won {
            out.extend_from_slice(b" W");
            item.token_sent = true;
        }
        out.extend_from_slice(b"\r\n");
        if flags.value {
            out.extend_from_slice(&item.value);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn meta_set(
        &mut self,
        meta: &Meta<'_>,
        key: &[u8],
        flags: &Flags<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static [u8]> {
        let mode = match flags.mode.to_ascii_uppercase() {
            b'E' => Mode::Add,
            b'A' => Mode::Append,
            b'P' => Mode::Prepend,
            b'R' if flags.compare.is_none() => Mode::Replace,
            0 | b'S' if flags.compare.is_none() => Mode::Set,
            0 | b'S' | b'R' => Mode::CompareAndSet,
            _ => return Err(b"CLIENT_ERROR invalid mode for ms M token\r\n"),
        };
        let data = meta.data.unwrap_or_default();
        let item = Item {
            mode,
            key,
            base64: meta.base64,
            value: data.strip_suffix(b"\r\n").unwrap_or(data),
            flags: flags.client_flags,
            expires: flags.expires.unwrap_or(0),
            compare: flags.compare.unwrap_or(0),
            invalidate: flags.invalidate,
        };
        let written = self.store.write(item, now);
        self.count_write(mode, written);
        let (code, cas): (&[u8], u64) = match written {
            Written::Stored(cas) => (b"HD", cas),
            Written::NotStored => (b"NS", 0),
            Written::Exists => (b"EX", 0),
            Written::NotFound => (b"NF", 0),
            Written::TooLarge => return Err(text::TOO_LARGE),
        };
        if meta.quiet && code == b"HD" {
            return Ok(());
        }
        out.extend_from_slice(code);
        for word in &flags.words {
            match word[0] {
                // Writing to a Vec cannot fail.
                b'c' => drop(write!(out, " c{cas}")),
                _ => echo_one(meta, word, out),
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn meta_delete(&mut self, meta: &Meta<'_>, key: &[u8], flags: &Flags<'_>, now: Now, out: &mut Vec<u8>) {
        let change = if flags.invalidate { Change::Invalidate(flags.expires) } else { Change::Delete };
        let removed = self.store.remove(key, flags.compare, change, now);
        self.count_removal(removed);
        let code: &[u8] = match removed {
            Removed::Done if meta.quiet => return,
            Removed::Done => b"HD",
            Removed::NotFound => b"NF",
            Removed::Exists => b"EX",
        };
        out.extend_from_slice(code);
        echo(meta, flags, out);
        out.extend_from_slice(b"\r\n");
    }

    fn meta_arithmetic(
        &mut self,
        meta: &Meta<'_>,
        key: &[u8],
        flags: &Flags<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static [u8]> {
        let delta = match flags.mode {
            0 | b'I' | b'i' | b'+' => Delta::Up(flags.delta),
            b'D' | b'd' | b'-' => Delta::Down(flags.delta),
            _ => return Err(b"CLIENT_ERROR invalid mode for ma M token\r\n"),
        };
        let result = self.store.arithmetic(key, delta, flags.compare.unwrap_or(0), now);
        self.count_arithmetic(delta, result);
        let (number, created) = match result {
            Arithmetic::Number(number) => (number, false),
            Arithmetic::NotANumber => return Err(NOT_A_NUMBER),
            Arithmetic::NotFound if flags.vivify.is_some() => {
                let initial = flags.initial.to_string();
                let item = Item {
                    mode: Mode::Add,
                    key,
                    base64: false,
                    value: initial.as_bytes(),
                    flags: 0,
                    expires: 0,
                    compare: 0,
                    invalidate: false,
                };
                self.store.write(item, now);
                (flags.initial, true)
            }
            Arithmetic::NotFound | Arithmetic::Exists => {
                let code: &[u8] = if result == Arithmetic::Exists { b"EX" } else { b"NF" };
                out.extend_from_slice(code);
                echo(meta, flags, out);
                out.extend_from_slice(b"\r\n");
                return Ok(());
            }
        };
        let Some(item) = self.store.find(key, now) else { return Ok(()) };
        // A quiet command hides what it did, but not that it created the item.
        let hidden = meta.quiet && !created;
        let start = out.len();
        let digits = number.to_string();
        // Writing to a Vec cannot fail.
        let _ = match flags.value {
            true => write!(out, "VA {}", digits.len()),
            false => write!(out, "HD"),
        };
        for word in &flags.words {
            let _ = match word[0] {
                b'c' => write!(out, " c{}", item.cas),
                b't' => write!(out, " t{}", item.lives(now).unwrap_or(-1)),
                b'N' => {
                    item.expires = flags.vivify.filter(|_| created).unwrap_or(item.expires);
                    Ok(())
                }
                b'T' => {
                    item.expires = flags.expires.unwrap_or(item.expires);
                    Ok(())
                }
                _ => {
                    echo_one(meta, word, out);
                    Ok(())
                }
            };
        }
        out.extend_from_slice(b"\r\n");
        if flags.value {
            out.extend_from_slice(digits.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if hidden {
            out.truncate(start);
        }
        Ok(())
    }

    fn meta_debug(&mut self, key: &[u8], now: Now, out: &mut Vec<u8>) {
        let Some(item) = self.store.find(key, now) else { return out.extend_from_slice(text::META_MISS) };
        out.extend_from_slice(b"ME ");
        match item.base64 {
            true => out.extend_from_slice(STANDARD.encode(key).as_bytes()),
            false => out.extend_from_slice(key),
        }
        let (lives, idle) = (item.lives(now).unwrap_or(-1), now.saturating_sub(item.accessed));
        let fetched = if item.fetched { "yes" } else { "no" };
        // There are no slab classes: always 1. Writing to a Vec cannot fail.
        let _ = write!(
            out,
            " exp={lives} la={idle} cas={} fetch={fetched} cls=1 size={}\r\n",
            item.cas,
            item.size()
        );
    }
}

/// Repeats key, opaque and the mark of a base64 key, in the order of the flags.
fn echo(meta: &Meta<'_>, flags: &Flags<'_>, out: &mut Vec<u8>) {
    flags.words.iter().for_each(|word| echo_one(meta, word, out));
}

fn echo_one(meta: &Meta<'_>, word: &[u8], out: &mut Vec<u8>) {
    match word[0] {
        b'k' => {
            out.extend_from_slice(b" k");
            out.extend_from_slice(meta.key);
            // The mark of a base64 key stands behind the key, wherever the flag stood.
            if meta.base64 {
                out.extend_from_slice(b" b");
            }
        }
        b'O' => {
            out.push(b' ');
            out.extend_from_slice(word);
        }
        _ => {}
    }
}
