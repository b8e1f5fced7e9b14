//! What clients ask: random commands, with what they expect.

use crate::judge::{Expect, Judge};
use crate::random::Random;
use crate::scenario::{Scenario, VALUE_MAX};
use crate::store::Command;
use weir_memcached::{DecodeLimits, RequestDecoder, Step};

/// The script of one connection.
pub struct Script {
    number: u32,
    values: u32,
    /// Keys asked by retrievals.
    pub keys_asked: u64,
}

/// Lines that no memcached takes.
const MALFORMED: [&[u8]; 8] = [
    b"bogus\r\n",
    b"get\r\n",
    b"incr c1.n0 x\r\n",
    b"set k 0 0 3\r\nabcdef\r\n",
    b"set k 0 0 -1\r\n",
    b"mg\r\n",
    b"touch k\r\n",
    b"add k 0 0 3 noreply\r\nabcdef\r\n",
];

impl Script {
    pub fn new(number: u32) -> Script {
        Script { number, values: 0, keys_asked: 0 }
    }

    fn own_key(&self, random: &mut Random) -> String {
        format!("c{}.{}", self.number, random.below(8))
    }

    fn own_number(&self, random: &mut Random) -> String {
        format!("c{}.n{}", self.number, random.below(2))
    }

    fn any_key(&self, random: &mut Random) -> String {
        match random.below(10) {
            0..=3 => self.own_key(random),
            4 => self.own_number(random),
            5..=8 => format!("s{}", random.below(6)),
            _ => format!("m{}", random.below(20)),
        }
    }

    fn value(&mut self, random: &mut Random, key: &str) -> Vec<u8> {
        self.values += 1;
        let header = format!("{key}:{}.{}:", self.number, self.values);
        let padding = match random.below(20) {
            0 => random.below(VALUE_MAX - 100),
            1..=4 => random.below(300),
            _ => random.below(20),
        };
        [header.as_bytes(), &vec![b'x'; padding]].concat()
    }

    /// One request: its bytes; what it expects is noted.
    pub fn ask(&mut self, random: &mut Random, scenario: &Scenario, judge: &mut Judge) -> Vec<u8> {
        match random.below(100) {
            0..=24 => {
                let key = self.any_key(random);
                self.retrieve("get", vec![key], judge)
            }
            25..=29 => {
                let verb = random.pick(&["get", "gets", "gat", "gats"]);
                let key = self.any_key(random);
                self.retrieve(verb, vec![key], judge)
            }
            30..=43 => {
                let most = if scenario.huge && random.chance(8) { 3_000 } else { random.pick(&[4, 30, 200]) };
                let count = random.between(2, most);
                let missing = random.pick(&[50, 2_000]);
                let mut keys: Vec<String> = Vec::with_capacity(count);
                for _ in 0..count {
                    let small = count < 50 || random.chance(5);
                    keys.push(if small {
                        self.any_key(random)
                    } else {
                        format!("m{}", random.below(missing))
                    });
                }
                let verb = random.pick(&["get", "get", "gets", "gat"]);
                self.retrieve(verb, keys, judge)
            }
            44..=58 => {
                let shared = random.chance(30);
                let key = if shared { format!("s{}", random.below(6)) } else { self.own_key(random) };
                let value = self.value(random, &key);
                self.store("set", &key, &value, random.chance(30), None, judge)
            }
            59..=61 => {
                let key = self.own_number(random);
                let value = random.below(1_000).to_string();
                self.store("set", &key, value.as_bytes(), random.chance(30), None, judge)
            }
            62..=66 => {
                let verb = random.pick(&["add", "replace", "append", "prepend"]);
                let key = self.own_key(random);
                let value = if verb.ends_with("pend") { b"+".to_vec() } else { self.value(random, &key) };
                self.store(verb, &key, &value, random.chance(20), None, judge)
            }
            67..=68 => {
                let key = self.own_key(random);
                let version = judge.known_state(key.as_bytes()).map_or(1, |state| state.version);
                let value = self.value(random, &key);
                self.store("cas", &key, &value, random.chance(20), Some(version), judge)
            }
            69..=72 => {
                let verb = random.pick(&["incr", "decr"]);
                let key = if random.chance(80) { self.own_number(random) } else { self.own_key(random) };
                self.change(&format!("{verb} {key} {}", random.below(9)), random.chance(30), judge)
            }
            73..=76 => {
                let key = self.any_key(random).replace('s', "m");
                self.change(&format!("delete {key}"), random.chance(30), judge)
            }
            77..=78 => {
                let key = self.own_key(random);
                self.change(&format!("touch {key} 0"), random.chance(30), judge)
            }
            79..=85 => {
                let (bytes, command) = self.meta(random, false);
                judge.expect(Expect::One { command, hidden: false });
                bytes
            }
            86..=88 => {
                let mut all = Vec::new();
                let mut commands = Vec::new();
                for _ in 0..random.between(1, 4) {
                    let (bytes, command) = self.meta(random, true);
                    all.extend(bytes);
                    commands.push(command);
                }
                all.extend_from_slice(b"mn\r\n");
                judge.expect(Expect::Quiet(commands));
                all
            }
            89 => {
                judge.expect(Expect::Local(b"MN\r\n".to_vec()));
                b"mn\r\n".to_vec()
            }
            90 => {
                let command = parse(b"version\r\n");
                judge.expect(Expect::One { command, hidden: false });
                b"version\r\n".to_vec()
            }
            91 => {
                judge.expect(Expect::Stats);
                random.pick(&[&b"stats\r\n"[..], b"stats weir\r\n", b"stats items\r\n"]).to_vec()
            }
            92 => {
                let hidden = random.chance(30);
                if scenario.one_client || scenario.allowed.no_flush {
                    judge.expect(Expect::Flush { hidden });
                    let bytes: &[u8] = if hidden { b"flush_all noreply\r\n" } else { b"flush_all\r\n" };
                    return bytes.to_vec();
                }
                judge.expect(Expect::Local(if hidden { vec![] } else { b"OK\r\n".to_vec() }));
                let bytes: &[u8] = if hidden { b"verbosity 1 noreply\r\n" } else { b"verbosity 1\r\n" };
                bytes.to_vec()
            }
            93..=96 => {
                let long = [b"get ", &[b'k'; 251][..], b"\r\n"].concat();
                let bytes = if random.chance(20) { long } else { random.pick(&MALFORMED).to_vec() };
                for answer in refused(&bytes) {
                    judge.expect(Expect::Local(answer));
                }
                bytes
            }
            _ => {
                let key = self.own_key(random);
                let verb = random.pick(&["set", "set", "add"]);
                let noreply = if random.chance(30) { " noreply" } else { "" };
                let length = VALUE_MAX + random.between(1, 2_000);
                let mut bytes = format!("{verb} {key} 0 0 {length}{noreply}\r\n").into_bytes();
                bytes.extend(vec![b'y'; length]);
                bytes.extend_from_slice(b"\r\n");
                for answer in refused(&bytes) {
                    // of the classic stores, only a set takes the old value away
                    judge.expect(if verb == "set" {
                        Expect::TooLarge { key: key.clone().into_bytes(), answer }
                    } else {
                        Expect::Local(answer)
                    });
                }
                bytes
            }
        }
    }

    fn retrieve(&mut self, verb: &str, keys: Vec<String>, judge: &mut Judge) -> Vec<u8> {
        self.keys_asked += keys.len() as u64;
        let time = if verb.starts_with("gat") { " 0" } else { "" };
        let line = format!("{verb}{time} {}\r\n", keys.join(" ")).into_bytes();
        judge.expect(Expect::Values(parse(&line)));
        line
    }

    fn store(
        &mut self,
        verb: &str,
        key: &str,
        value: &[u8],
        noreply: bool,
        unique: Option<u64>,
        judge: &mut Judge,
    ) -> Vec<u8> {
        let unique = unique.map_or(String::new(), |unique| format!(" {unique}"));
        let line = |noreply: &str| {
            let head = format!("{verb} {key} 5 0 {}{unique}{noreply}\r\n", value.len());
            [head.as_bytes(), value, b"\r\n"].concat()
        };
        judge.expect(Expect::One { command: parse(&line("")), hidden: noreply });
        line(if noreply { " noreply" } else { "" })
    }

    fn change(&mut self, head: &str, noreply: bool, judge: &mut Judge) -> Vec<u8> {
        let command = parse(format!("{head}\r\n").as_bytes());
        judge.expect(Expect::One { command, hidden: noreply });
        format!("{head}{}\r\n", if noreply { " noreply" } else { "" }).into_bytes()
    }

    /// A meta command on an own key.
    fn meta(&mut self, random: &mut Random, quiet: bool) -> (Vec<u8>, Command) {
        let key = self.own_key(random);
        self.values += 1;
        let opaque = if quiet || random.chance(30) { format!(" O{}", self.values) } else { String::new() };
        let flags = |q: &str, verb: &str| {
            let value = if matches!(verb, "mg" | "ma") { " v" } else { "" };
            format!("{value}{q}{opaque}")
        };
        let verb = random.pick(&["mg", "mg", "ms", "md", "ma", "me"]);
        let verb = if quiet && verb == "me" { "mg" } else { verb };
        let key = if verb == "ma" { self.own_number(random) } else { key };
        let data = if verb == "ms" { Some(self.value(random, &key)) } else { None };
        let line = |q: &str| match &data {
            Some(data) => {
                let head = format!("ms {key} {}{}\r\n", data.len(), flags(q, verb));
                [head.as_bytes(), data, b"\r\n"].concat()
            }
            None if verb == "me" => format!("me {key}\r\n").into_bytes(),
            None => format!("{verb} {key}{}\r\n", flags(q, verb)).into_bytes(),
        };
        (line(if quiet { " q" } else { "" }), parse(&line("")))
    }
}

fn parse(bytes: &[u8]) -> Command {
    Command::take(bytes).expect("whole").0
}

/// What the codec answers to bytes it refuses, one per refused line.
fn refused(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = RequestDecoder::new(DecodeLimits { line: 100_000, value: VALUE_MAX });
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        match decoder.decode(bytes) {
            Step::Reject { reply, consumed } => {
                answers.push(reply.reply().to_vec());
                bytes = &bytes[consumed..];
            }
            Step::Swallowed { consumed } => bytes = &bytes[consumed..],
            other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
        }
    }
    answers
}
