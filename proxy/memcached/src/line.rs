//! One complete line: which command, and are its arguments ones that every memcached reads alike?
//!
//! Checks run in memcached's order, so that a line with two faults gets the same words as from memcached.

use crate::keys::{self, KEY_MAX, Keys, has_control};
use crate::meta::{self, Flags, Meta};
use crate::rejection::{Cause, Rejection};
use crate::request::{Mutate, Request, Retrieve, Store};
use crate::{Verb, number, text};

/// A read line.
pub(crate) enum Parsed<'a> {
    /// Complete without data.
    Request(Request<'a>),
    /// A store whose `length` bytes of data and CRLF follow; its data field is still empty.
    NeedsData { request: Request<'a>, length: u32 },
    /// Refused; `swallow` bytes of data follow that nobody wants.
    Refused { rejection: Rejection, swallow: u64 },
}

impl Parsed<'_> {
    fn refused(reply: &'static [u8], cause: Cause) -> Self {
        Parsed::Refused { rejection: Rejection::new(reply, cause), swallow: 0 }
    }

    fn refused_hidden_if(noreply: bool, reply: &'static [u8], cause: Cause) -> Self {
        Parsed::Refused { rejection: Rejection::new(reply, cause).hidden_if(noreply), swallow: 0 }
    }
}

/// Words between spaces.
pub(crate) struct Tokens<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(line: &'a [u8]) -> Tokens<'a> {
        Tokens { line, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (word, next) = keys::next_key(self.line, self.at)?;
        self.at = next;
        Some(&self.line[word])
    }
}

/// Where the first words of a line stand; no classic command has more than 7 that matter.
struct Words<'a> {
    line: &'a [u8],
    bounds: [(usize, usize); 8],
    /// Of the whole line, also when there are more than `bounds` holds.
    count: usize,
}

impl<'a> Words<'a> {
    fn new(line: &'a [u8]) -> Words<'a> {
        let mut words = Words { line, bounds: [(0, 0); 8], count: 0 };
        let mut at = 0;
        while let Some((word, next)) = keys::next_key(line, at) {
            if let Some(bounds) = words.bounds.get_mut(words.count) {
                *bounds = (word.start, word.end);
            }
            words.count += 1;
            at = next;
        }
        words
    }

    /// Empty when there is no such word.
    fn get(&self, position: usize) -> &'a [u8] {
        match self.bounds.get(position) {
            Some(&(start, end)) if position < self.count => &self.line[start..end],
            _ => b"",
        }
    }

    /// The last word is `noreply`.
    fn noreply(&self) -> bool {
        self.count > 0 && self.get(self.count - 1) == b"noreply"
    }

    /// From the command word to the last one, without the last one when that is `noreply`.
    fn head(&self, noreply: bool) -> &'a [u8] {
        let kept = self.count - usize::from(noreply);
        match kept.checked_sub(1).and_then(|last| self.bounds.get(last)) {
            Some(&(_, end)) => &self.line[self.bounds[0].0..end],
            None => keys::trim_spaces(self.line),
        }
    }
}

/// Reads a line without its line end. Lines other than retrievals are at most
/// [`COMMAND_LINE_MAX`](crate::COMMAND_LINE_MAX) long.
pub(crate) fn parse(line: &[u8]) -> Parsed<'_> {
    let Some((word, rest_at)) = keys::next_key(line, 0) else {
        return Parsed::refused(text::ERROR, Cause::UnknownCommand);
    };
    let rest = &line[rest_at..];
    let word = &line[word];
    match word {
        b"get" | b"bget" => retrieve(Verb::Get, rest),
        b"gets" => retrieve(Verb::Gets, rest),
        b"gat" => retrieve_and_touch(Verb::Gat, rest),
        b"gats" => retrieve_and_touch(Verb::Gats, rest),
        b"set" => store(Verb::Set, line),
        b"add" => store(Verb::Add, line),
        b"replace" => store(Verb::Replace, line),
        b"append" => store(Verb::Append, line),
        b"prepend" => store(Verb::Prepend, line),
        b"cas" => store(Verb::Cas, line),
        b"incr" => mutate(Verb::Incr, line),
        b"decr" => mutate(Verb::Decr, line),
        b"touch" => mutate(Verb::Touch, line),
        b"delete" => mutate(Verb::Delete, line),
        b"mg" => meta(Verb::Mg, line),
        b"ms" => meta(Verb::Ms, line),
        b"md" => meta(Verb::Md, line),
        b"ma" => meta(Verb::Ma, line),
        b"me" => meta(Verb::Me, line),
        // Whatever follows these is ignored, by memcached too.
        b"mn" => Parsed::Request(Request::MetaNoop),
        b"version" => Parsed::Request(Request::Version),
        b"quit" => Parsed::Request(Request::Quit),
        b"shutdown" => Parsed::Request(Request::Shutdown),
        b"stats" if has_control(rest) => Parsed::refused(text::BAD_FORMAT, Cause::ControlCharacter),
        b"stats" => Parsed::Request(Request::Stats { args: keys::trim_spaces(rest) }),
        b"flush_all" => flush_all(&Words::new(line)),
        b"verbosity" => verbosity(&Words::new(line)),
        _ => unknown(word, line),
    }
}

fn retrieve(verb: Verb, rest: &[u8]) -> Parsed<'_> {
    match Keys::check(rest) {
        Ok(keys) => Parsed::Request(Request::Retrieve(Retrieve { verb, exptime: None, keys })),
        Err(Cause::ArgumentCount) => Parsed::refused(text::ERROR, Cause::ArgumentCount),
        Err(cause) => Parsed::refused(text::BAD_FORMAT, cause),
    }
}

fn retrieve_and_touch(verb: Verb, rest: &[u8]) -> Parsed<'_> {
    let Some((exptime, keys_at)) = keys::next_key(rest, 0) else {
        return Parsed::refused(text::ERROR, Cause::ArgumentCount);
    };
    let exptime = &rest[exptime];
    if number::signed(exptime).is_none() {
        return Parsed::refused(text::BAD_EXPTIME, Cause::BadNumber);
    }
    match Keys::check(&rest[keys_at..]) {
        Ok(keys) => Parsed::Request(Request::Retrieve(Retrieve { verb, exptime: Some(exptime), keys })),
        // memcached finds nothing where nothing is asked.
        Err(Cause::ArgumentCount) => Parsed::refused(text::END, Cause::ArgumentCount),
        Err(cause) => Parsed::refused(text::BAD_FORMAT, cause),
    }
}

fn store(verb: Verb, line: &[u8]) -> Parsed<'_> {
    let words = Words::new(line);
    let least = if verb == Verb::Cas { 6 } else { 5 };
    let length = number::data_length(words.get(4));
    // The client sends the block even though the line is refused: drop it, or it would be read as commands. (memcached
    // does so since 1.6.2x; 1.6.18 reads it as commands.)
    let refuse = |noreply: bool, reply: &'static [u8], cause: Cause| Parsed::Refused {
        rejection: Rejection::new(reply, cause).hidden_if(noreply),
        swallow: length.map_or(0, with_crlf),
    };
    if words.count != least && words.count != least + 1 {
        return refuse(false, text::ERROR, Cause::ArgumentCount);
    }
    let noreply = words.noreply();
    let key = words.get(1);
    if key.len() > KEY_MAX {
        return refuse(noreply, text::BAD_FORMAT, Cause::KeyTooLong);
    }
    if has_control(line) {
        return refuse(noreply, text::BAD_FORMAT, Cause::ControlCharacter);
    }
    if number::unsigned(words.get(2)).is_none() || number::signed(words.get(3)).is_none() {
        return refuse(noreply, text::BAD_FORMAT, Cause::BadNumber);
    }
    let Some(length) = length else {
        return refuse(noreply, text::BAD_FORMAT, Cause::BadLength);
    };
    if verb == Verb::Cas && number::unsigned(words.get(5)).is_none() {
        return refuse(noreply, text::BAD_FORMAT, Cause::BadNumber);
    }
    let request = Request::Store(Store { verb, key, noreply, head: words.head(noreply), data: b"" });
    Parsed::NeedsData { request, length }
}

/// Bytes of a data block with its CRLF.
pub(crate) fn with_crlf(length: u32) -> u64 {
    u64::from(length) + 2
}

fn mutate(verb: Verb, line: &[u8]) -> Parsed<'_> {
    let words = Words::new(line);
    let counts = if verb == Verb::Delete { 2..=4 } else { 3..=4 };
    if !counts.contains(&words.count) {
        return Parsed::refused(text::ERROR, Cause::ArgumentCount);
    }
    let key = words.get(1);
    let mut noreply = words.noreply();
    if verb == Verb::Delete {
        // `noreply` in the place of the key is a key.
        noreply = noreply && words.count > 2;
        let zero = words.get(2) == b"0";
        let valid = match words.count {
            2 => true,
            3 => zero || noreply,
            _ => zero && noreply,
        };
        if !valid {
            return Parsed::refused_hidden_if(noreply, text::BAD_DELETE, Cause::ArgumentCount);
        }
    }
    if let Some(cause) = keys::fault(key) {
        return Parsed::refused_hidden_if(noreply, text::BAD_FORMAT, cause);
    }
    match verb {
        Verb::Incr | Verb::Decr if number::unsigned(words.get(2)).is_none() => {
            return Parsed::refused_hidden_if(noreply, text::BAD_DELTA, Cause::BadNumber);
        }
        Verb::Touch if number::signed(words.get(2)).is_none() => {
            return Parsed::refused_hidden_if(noreply, text::BAD_EXPTIME, Cause::BadNumber);
        }
        _ if has_control(line) => {
            return Parsed::refused_hidden_if(noreply, text::BAD_FORMAT, Cause::ControlCharacter);
        }
        _ => {}
    }
    let head = if verb == Verb::Delete && key == b"noreply" && words.get(2) != b"0" {
        // Newer servers take any last word `noreply` for the option and would not answer. The old hold time 0 is
        // allowed after the key by all of them.
        b"delete noreply 0"
    } else {
        words.head(noreply)
    };
    Parsed::Request(Request::Mutate(Mutate { verb, key, noreply, head }))
}

fn meta(verb: Verb, line: &[u8]) -> Parsed<'_> {
    let (bad_flags, bad_key) = match verb {
        Verb::Mg | Verb::Ms => (text::DUPLICATE_FLAG, text::KEY_NOT_BASE64),
        Verb::Me => (text::BAD_FORMAT, text::BAD_FORMAT),
        _ => (text::INVALID_OR_DUPLICATE_FLAG, text::INVALID_OR_DUPLICATE_FLAG),
    };
    let line = keys::trim_spaces(line);
    let count = Tokens::new(line).count();
    let mut words = Tokens::new(line).skip(1);
    let Some(key) = words.next() else {
        let reply = if verb == Verb::Me { text::BAD_FORMAT } else { text::ERROR };
        return Parsed::refused(reply, Cause::ArgumentCount);
    };
    let length = if verb == Verb::Ms { words.next() } else { None };
    let data_length = length.and_then(number::data_length);
    let refuse = |reply: &'static [u8], cause: Cause| Parsed::Refused {
        rejection: Rejection::new(reply, cause),
        swallow: data_length.map_or(0, with_crlf),
    };
    if key.len() > KEY_MAX {
        return refuse(text::BAD_FORMAT, Cause::KeyTooLong);
    }
    if verb == Verb::Ms && length.is_none() {
        return refuse(text::BAD_FORMAT, Cause::ArgumentCount);
    }
    if count > meta::WORDS_MAX && verb != Verb::Me {
        let reply = if verb == Verb::Mg { text::MG_TOO_MANY_FLAGS } else { text::TOO_MANY_FLAGS };
        return refuse(reply, Cause::MetaFlags);
    }
    if verb == Verb::Ms && data_length.is_none() {
        return refuse(text::BAD_FORMAT, Cause::BadLength);
    }
    if has_control(line) {
        return refuse(text::BAD_FORMAT, Cause::ControlCharacter);
    }
    let flags = if verb == Verb::Me {
        // `me` reads its first flag only, and only when it is exactly `b`.
        Flags { base64: words.next() == Some(b"b"), ..Flags::default() }
    } else {
        Flags::read(words)
    };
    if flags.duplicate {
        return refuse(bad_flags, Cause::MetaFlags);
    }
    if flags.base64 && meta::decode_key(key, &mut [0; 256]).is_none() {
        return refuse(bad_key, Cause::BadKey);
    }
    let plain_read = flags.plain_read && verb == Verb::Mg;
    let request = Meta { verb, key, line, data: None, quiet: flags.quiet, base64: flags.base64, plain_read };
    match data_length {
        Some(length) => Parsed::NeedsData { request: Request::Meta(request), length },
        None => Parsed::Request(Request::Meta(request)),
    }
}

fn flush_all<'a>(words: &Words<'a>) -> Parsed<'a> {
    if words.count > 3 {
        return Parsed::refused(text::ERROR, Cause::ArgumentCount);
    }
    let noreply = words.noreply();
    if words.count == 1 + usize::from(noreply) {
        return Parsed::Request(Request::FlushAll { delay: 0, noreply });
    }
    // As memcached: what is not after now is now; times beyond 31 bits are refused by newer servers.
    match number::signed(words.get(1)).map(|time| time.max(0)) {
        Some(time @ 0..=0x7fff_ffff) => Parsed::Request(Request::FlushAll { delay: time as u32, noreply }),
        _ => Parsed::refused_hidden_if(noreply, text::BAD_EXPTIME, Cause::BadNumber),
    }
}

fn verbosity<'a>(words: &Words<'a>) -> Parsed<'a> {
    if words.count != 2 && words.count != 3 {
        return Parsed::refused(text::ERROR, Cause::ArgumentCount);
    }
    let noreply = words.noreply();
    match number::unsigned(words.get(1)) {
        Some(_) => Parsed::Request(Request::Verbosity { noreply }),
        None => Parsed::refused_hidden_if(noreply, text::BAD_FORMAT, Cause::BadNumber),
    }
}

fn unknown<'a>(word: &[u8], line: &[u8]) -> Parsed<'a> {
    let admin: &'static [u8] = match word {
        b"cache_memlimit" => b"CLIENT_ERROR weir does not carry cache_memlimit\r\n",
        b"extstore" => b"CLIENT_ERROR weir does not carry extstore\r\n",
        b"lru" => b"CLIENT_ERROR weir does not carry lru\r\n",
        b"lru_crawler" => b"CLIENT_ERROR weir does not carry lru_crawler\r\n",
        b"refresh_certs" => b"CLIENT_ERROR weir does not carry refresh_certs\r\n",
        b"slabs" => b"CLIENT_ERROR weir does not carry slabs\r\n",
        b"watch" => b"CLIENT_ERROR weir does not carry watch\r\n",
        _ => b"",
    };
    if !admin.is_empty() {
        return Parsed::refused(admin, Cause::AdminCommand);
    }
    // memcached hangs up on HTTP without a word: the rest of the request would be headers, some of them commands.
    if word.len() > 1 && Tokens::new(line).last().is_some_and(|last| last.starts_with(b"HTTP/")) {
        let rejection = Rejection::new(b"", Cause::Http).closing();
        return Parsed::Refused { rejection, swallow: 0 };
    }
    Parsed::refused(text::ERROR, Cause::UnknownCommand)
}
