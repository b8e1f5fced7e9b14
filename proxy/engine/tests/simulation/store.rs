//! A model of memcached, as far as weir's clients use it here: what one command does to one key, and what it answers.
//!
//! CAS numbers count the changes of a key, so that they do not depend on what happens to other keys.

use std::collections::HashMap;

/// One command as it travels: its words, and the data of a store without CRLF.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    pub words: Vec<Vec<u8>>,
    pub data: Option<Vec<u8>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for word in self.words.iter().take(8) {
            write!(f, "{} ", text(word))?;
        }
        let more = self.words.len().saturating_sub(8);
        let data = self.data.as_ref().map(|data| String::from_utf8_lossy(&data[..data.len().min(20)]));
        write!(f, "(+{more} words, {data:?})")
    }
}

impl Command {
    pub fn verb(&self) -> &str {
        std::str::from_utf8(&self.words[0]).expect("verbs are ASCII")
    }

    pub fn retrieves(&self) -> bool {
        matches!(self.verb(), "get" | "gets" | "gat" | "gats")
    }

    pub fn meta(&self) -> bool {
        matches!(self.verb(), "mg" | "ms" | "md" | "ma" | "me")
    }

    pub fn keys(&self) -> &[Vec<u8>] {
        match self.verb() {
            "get" | "gets" => &self.words[1..],
            "gat" | "gats" => &self.words[2..],
            "version" | "stats" | "flush_all" => &[],
            _ => &self.words[1..2],
        }
    }

    /// The first command of `input` and its length, once it is whole. What weir sends is always well formed.
    pub fn take(input: &[u8]) -> Option<(Command, usize)> {
        let line = input.iter().position(|byte| *byte == b'\n')?;
        assert_eq!(input[line - 1], b'\r', "weir ends its lines with CRLF");
        let words: Vec<Vec<u8>> =
            input[..line - 1].split(|b| *b == b' ').filter(|w| !w.is_empty()).map(<[u8]>::to_vec).collect();
        let length = match &words[0][..] {
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" => Some(&words[4]),
            b"ms" => Some(&words[2]),
            _ => None,
        };
        let Some(length) = length else { return Some((Command { words, data: None }, line + 1)) };
        let length: usize = text(length).parse().expect("weir checked the length");
        let data = input.get(line + 1..line + 1 + length + 2)?;
        assert!(data.ends_with(b"\r\n"), "weir checked the data block");
        Some((Command { words, data: Some(data[..length].to_vec()) }, line + 1 + length + 2))
    }

    fn flag(&self, letter: u8) -> Option<&[u8]> {
        let fixed = if self.verb() == "ms" { 3 } else { 2 };
        self.words.iter().skip(fixed).find(|word| word[0] == letter).map(|word| &word[1..])
    }

    pub fn opaque(&self) -> Option<&[u8]> {
        self.flag(b'O')
    }
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("ASCII")
}

#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    pub flags: Vec<u8>,
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.data[..self.data.len().min(20)]);
        write!(f, "{start:?} of {} bytes", self.data.len())
    }
}

/// Everything about one key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyState {
    pub item: Option<Item>,
    /// Changes so far: the CAS number of the item.
    pub version: u64,
}

impl KeyState {
    fn put(&mut self, flags: &[u8], data: Vec<u8>) {
        self.version += 1;
        self.item = Some(Item { flags: flags.to_vec(), data });
    }

    /// Carries out a command on this key: the answer without hiding anything.
    pub fn apply(&mut self, command: &Command) -> Vec<u8> {
        if command.meta() {
            return self.apply_meta(command);
        }
        let words = &command.words;
        let data = || command.data.clone().unwrap_or_default();
        let answer: &[u8] = match command.verb() {
            "set" => {
                self.put(&words[2], data());
                b"STORED"
            }
            "add" | "replace" if self.item.is_some() != (command.verb() == "replace") => b"NOT_STORED",
            "add" | "replace" => {
                self.put(&words[2], data());
                b"STORED"
            }
            "append" | "prepend" => match self.item.clone() {
                None => b"NOT_STORED",
                Some(old) => {
                    let parts =
                        if command.verb() == "append" { [old.data, data()] } else { [data(), old.data] };
                    self.put(&old.flags, parts.concat());
                    b"STORED"
                }
            },
            "cas" => {
                let unique: u64 = text(&words[5]).parse().expect("weir checked it");
                if self.item.is_none() {
                    b"NOT_FOUND"
                } else if unique != self.version {
                    b"EXISTS"
                } else {
                    self.put(&words[2], data());
                    b"STORED"
                }
            }
            "incr" | "decr" => return self.count(command.verb() == "incr", &words[2]),
            "delete" if self.item.take().is_some() => b"DELETED",
            "touch" if self.item.is_some() => b"TOUCHED",
            "delete" | "touch" => b"NOT_FOUND",
            verb => panic!("weir sent {verb}"),
        };
        [answer, b"\r\n"].concat()
    }

    fn count(&mut self, up: bool, delta: &[u8]) -> Vec<u8> {
        let Some(item) = self.item.clone() else { return b"NOT_FOUND\r\n".to_vec() };
        let number = std::str::from_utf8(&item.data).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(number) = number else {
            return b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n".to_vec();
        };
        let delta: u64 = text(delta).parse().expect("weir checked it");
        let number = if up { number.wrapping_add(delta) } else { number.saturating_sub(delta) };
        self.put(&item.flags, number.to_string().into_bytes());
        format!("{number}\r\n").into_bytes()
    }

    fn apply_meta(&mut self, command: &Command) -> Vec<u8> {
        let opaque = command.opaque().map_or(Vec::new(), |opaque| [b" O", opaque].concat());
        let with_opaque = |code: &[u8]| [code, &opaque, b"\r\n"].concat();
        let with_value = |item: &Item| {
            let head = format!("VA {}", item.data.len()).into_bytes();
            [&head, &opaque[..], b"\r\n", &item.data, b"\r\n"].concat()
        };
        match command.verb() {
            "mg" => match &self.item {
                None => b"EN\r\n".to_vec(),
                Some(item) if command.flag(b'v').is_some() => with_value(item),
                Some(_) => with_opaque(b"HD"),
            },
            "me" => match &self.item {
                None => b"EN\r\n".to_vec(),
                Some(_) => {
                    let (key, version) = (text(&command.words[1]), self.version);
                    format!("ME {key} exp=-1 la=0 cas={version} fetch=yes cls=1 size=64\r\n").into_bytes()
                }
            },
            "ms" => {
                self.put(b"0", command.data.clone().unwrap_or_default());
                with_opaque(b"HD")
            }
            "md" if self.item.take().is_some() => with_opaque(b"HD"),
            "md" => with_opaque(b"NF"),
            "ma" => {
                let answer = self.count(true, b"1");
                match (&answer[..], &self.item) {
                    (b"NOT_FOUND\r\n", _) | (_, None) => with_opaque(b"NF"),
                    (line, _) if line.starts_with(b"CLIENT_ERROR") => answer,
                    (_, Some(item)) if command.flag(b'v').is_some() => with_value(item),
                    _ => with_opaque(b"HD"),
                }
            }
            verb => panic!("weir sent {verb}"),
        }
    }

    /// Its part of the answer to a retrieval: nothing when there is no item.
    pub fn value(&self, key: &[u8], with_version: bool) -> Vec<u8> {
        let Some(item) = &self.item else { return Vec::new() };
        let version = if with_version { format!(" {}", self.version) } else { String::new() };
        let head = format!(" {} {}{version}\r\n", text(&item.flags), item.data.len());
        [b"VALUE ", key, head.as_bytes(), &item.data, b"\r\n"].concat()
    }
}

/// What is stored, wherever: the servers of a run are views of one store, so that a key survives a new ring.
#[derive(Default)]
pub struct Store {
    keys: HashMap<Vec<u8>, KeyState>,
    /// Headers of values stored so far: no write is ever carried out twice.
    stored: std::collections::HashSet<Vec<u8>>,
}

impl Store {
    /// Carries out a command that weir sent to one of `servers` servers; `mine` are the keys that live there.
    pub fn execute(&mut self, command: &Command, mine: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        assert!(!command.words.iter().any(|word| word == b"noreply"), "noreply is stripped: {command:?}");
        for key in command.keys() {
            assert!(mine(key), "{} belongs to another server", text(key));
        }
        match command.verb() {
            "version" => b"VERSION 1.6.18\r\n".to_vec(),
            "stats" => b"STAT pid 1\r\nSTAT curr_items 7\r\nEND\r\n".to_vec(),
            "flush_all" => {
                self.keys.iter_mut().filter(|(key, _)| mine(key)).for_each(|(_, state)| state.item = None);
                b"OK\r\n".to_vec()
            }
            verb if command.retrieves() => {
                let with_version = verb.ends_with('s');
                let values = command
                    .keys()
                    .iter()
                    .filter_map(|key| Some(self.keys.get(key)?.value(key, with_version)));
                values.chain([b"END\r\n".to_vec()]).collect::<Vec<_>>().concat()
            }
            _ => {
                if command.meta() {
                    assert!(command.flag(b'q').is_none(), "quiet flags are stripped: {command:?}");
                }
                let answer = self.keys.entry(command.words[1].clone()).or_default().apply(command);
                let done = answer.starts_with(b"STORED") || answer.starts_with(b"HD");
                if let Some(header) = header(command.data.as_deref().unwrap_or_default()).filter(|_| done) {
                    assert!(self.stored.insert(header.to_vec()), "carried out twice: {command:?}");
                }
                answer
            }
        }
    }
}

/// `key:number:` at the front of a value that is stored once in a run.
fn header(data: &[u8]) -> Option<&[u8]> {
    let mut colons = data.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    colons.nth(1).map(|at| &data[..=at])
}
