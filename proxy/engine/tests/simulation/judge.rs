//! The oracle of one client connection: what its answers may be, given what it asked, in order.
//!
//! Only this connection writes its own keys, so each has one state, except after a write whose outcome nobody knows:
//! then it has several possible ones, and later answers rule some out.

use crate::store::{Command, KeyState, text};
use std::collections::{HashMap, HashSet, VecDeque};

/// What may go wrong in a run; what may not is an error when it does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Connections are lost, cannot be had, or desync.
    pub links: bool,
    /// Servers stall until requests time out.
    pub timeouts: bool,
    /// Queues are slow.
    pub queues: bool,
    /// Limits refuse.
    pub limits: bool,
    /// Servers answer with error lines.
    pub server_errors: bool,
    /// flush_all is refused.
    pub no_flush: bool,
}

impl Allowed {
    /// Every command is carried out exactly once.
    pub fn nothing(self) -> bool {
        !(self.links || self.timeouts || self.queues || self.limits || self.server_errors)
    }
}

/// What one request is to be answered with.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Exactly these bytes, from weir itself.
    Local(Vec<u8>),
    /// A refused store whose old value must go.
    TooLarge { key: Vec<u8>, answer: Vec<u8> },
    /// One line, or VA and its data; nothing when hidden.
    One { command: Command, hidden: bool },
    /// Values and END.
    Values(Command),
    /// Quiet commands, then MN.
    Quiet(Vec<Command>),
    /// STAT lines and END.
    Stats,
    /// `flush_all`
    Flush { hidden: bool },
}

/// How much a command did that was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Unknown,
}

pub struct Judge {
    /// Own keys begin with this.
    prefix: String,
    allowed: Allowed,
    states: HashMap<Vec<u8>, Vec<KeyState>>,
    /// Own keys about which nothing is known any more.
    wild: HashSet<Vec<u8>>,
    /// Own keys with a write that may still take effect on a connection to an old server.
    late: HashSet<Vec<u8>>,
    /// Each with the number of times the servers had changed when it was asked.
    pub expected: VecDeque<(u32, Expect)>,
    changes: u32,
    /// The answer that is judged is to a request that the old servers may still carry out.
    to_old_servers: bool,
    received: Vec<u8>,
    /// Values of the front answer looked at so far: (key, where it starts, where it ends), and where they end.
    values: Vec<(usize, usize, usize)>,
    scanned: usize,
    /// Requests answered (hidden ones included).
    pub answered: u64,
    /// Values seen.
    pub hits: u64,
}

/// More possible states of a key than this are not followed.
const STATES_MAX: usize = 64;

impl Judge {
    pub fn new(number: u32, allowed: Allowed) -> Judge {
        Judge {
            prefix: format!("c{number}."),
            allowed,
            states: HashMap::new(),
            wild: HashSet::new(),
            late: HashSet::new(),
            expected: VecDeque::new(),
            changes: 0,
            to_old_servers: false,
            received: Vec::new(),
            values: Vec::new(),
            scanned: 0,
            answered: 0,
            hits: 0,
        }
    }

    fn owns(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix.as_bytes())
    }

    /// The one state a key of this connection is in, where it is known.
    pub fn known_state(&self, key: &[u8]) -> Option<&KeyState> {
        match self.states.get(key).map(Vec::as_slice) {
            Some([only]) => Some(only),
            _ => None,
        }
    }

    /// The servers changed: writes that timed out may still take effect at the old ones, at any time.
    pub fn servers_changed(&mut self) {
        self.changes += 1;
        self.wild.extend(self.late.drain());
    }

    /// Notes what a request is to be answered with.
    pub fn expect(&mut self, expect: Expect) {
        self.expected.push_back((self.changes, expect));
    }

    /// Takes in answer bytes and judges every answer that is whole.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.judge();
    }

    /// Judges what can be judged; hidden commands need no answer.
    pub fn judge(&mut self) {
        let mut at = 0;
        while let Some((changes, expect)) = self.expected.pop_front() {
            self.to_old_servers = changes < self.changes;
            let received = std::mem::take(&mut self.received);
            let used = self.take(&expect, &received[at..]);
            self.received = received;
            let Some(used) = used else {
                self.expected.push_front((changes, expect));
                break;
            };
            at += used;
            self.answered +=
                if let Expect::Quiet(commands) = &expect { commands.len() as u64 + 1 } else { 1 };
            self.values.clear();
            self.scanned = 0;
        }
        self.received.drain(..at);
        let rest = String::from_utf8_lossy(&self.received);
        assert!(!self.expected.is_empty() || rest.is_empty(), "nothing was asked, answered: {rest}");
    }

    fn take(&mut self, expect: &Expect, input: &[u8]) -> Option<usize> {
        match expect {
            Expect::Local(answer) => {
                let same = input.len().min(answer.len());
                let (got, wanted) =
                    (String::from_utf8_lossy(&input[..same]), String::from_utf8_lossy(answer));
                assert!(input[..same] == answer[..same], "weir answers {wanted:?}, got {got:?}");
                (same == answer.len()).then_some(same)
            }
            Expect::TooLarge { key, answer } => {
                let used = self.take(&Expect::Local(answer.clone()), input)?;
                let gone = |state: &KeyState| KeyState { item: None, ..state.clone() };
                self.change(key, !self.allowed.nothing(), gone);
                Some(used)
            }
            Expect::One { command, hidden: true } => {
                self.hidden(command);
                Some(0)
            }
            Expect::One { command, hidden: false } => {
                let used = reply_len(input)?;
                self.one(command, &input[..used]);
                Some(used)
            }
            Expect::Values(command) => self.retrieved(command, input),
            Expect::Quiet(commands) => self.quiet(commands, input),
            Expect::Stats => {
                let mut at = 0;
                loop {
                    let line = line_at(input, at)?;
                    at += line.len();
                    if !line.starts_with(b"STAT ") {
                        if line != b"END\r\n" {
                            self.error(line).expect("an error line or END");
                        }
                        return Some(at);
                    }
                }
            }
            Expect::Flush { hidden } => {
                let line = if *hidden { &b""[..] } else { line_at(input, 0)? };
                let failed = !*hidden && line != b"OK\r\n";
                assert!(!failed || self.error(line).is_some(), "an error line or OK");
                // one server may have refused and the others not
                let unsure = failed || (*hidden && !self.allowed.nothing());
                let flushed = if self.allowed.no_flush { 0 } else { usize::MAX };
                let keys: Vec<_> = self.states.keys().take(flushed).cloned().collect();
                for key in keys {
                    self.change(&key, unsure, |state| KeyState { item: None, ..state.clone() });
                }
                Some(line.len())
            }
        }
    }

    /// What an error line says was done, when such an error may happen here.
    fn error(&self, line: &[u8]) -> Option<Effect> {
        if !line.starts_with(b"SERVER_ERROR ") {
            return None;
        }
        let words = text(line);
        let says = |part: &str| words.contains(part);
        let (may, effect) = if says("nothing was sent") {
            (self.allowed.links || self.allowed.timeouts, Effect::Nothing)
        } else if says("outcome unknown") || says("lost before it answered") {
            (self.allowed.links || self.allowed.timeouts, Effect::Unknown)
        } else if says("did not answer in time") {
            (self.allowed.timeouts, Effect::Unknown)
        } else if says("waited too long in the queue") {
            (self.allowed.queues, Effect::Nothing)
        } else if says(" limit of ") {
            (self.allowed.limits, Effect::Nothing)
        } else if says("out of memory") {
            (self.allowed.server_errors, Effect::Nothing)
        } else if says("flush_all is refused") {
            (self.allowed.no_flush, Effect::Nothing)
        } else {
            panic!("unknown error {words:?}");
        };
        assert!(may, "nothing was done to deserve {words:?}");
        Some(effect)
    }

    /// Applies a change to every possible state of an own key; `unsure` keeps the states without it.
    fn change(&mut self, key: &[u8], unsure: bool, f: impl Fn(&KeyState) -> KeyState) {
        if !self.owns(key) {
            return;
        }
        if unsure && self.allowed.timeouts {
            let set = if self.to_old_servers { &mut self.wild } else { &mut self.late };
            set.insert(key.to_vec());
        }
        let states = self.states.entry(key.to_vec()).or_insert_with(|| vec![KeyState::default()]);
        let changed: Vec<KeyState> = states.iter().map(f).collect();
        if !unsure {
            states.clear();
        }
        for state in changed {
            if !states.contains(&state) {
                states.push(state);
            }
        }
        if states.len() > STATES_MAX {
            self.wild.insert(key.to_vec());
        }
    }

    fn applied(command: &Command) -> impl Fn(&KeyState) -> KeyState + '_ {
        |state| {
            let mut state = state.clone();
            state.apply(command);
            state
        }
    }

    fn hidden(&mut self, command: &Command) {
        let unsure = !self.allowed.nothing();
        self.change(&command.words[1], unsure, Self::applied(command));
    }

    fn one(&mut self, command: &Command, answer: &[u8]) {
        if command.keys().is_empty() {
            assert!(answer.starts_with(b"VERSION ") || self.error(answer).is_some(), "{}", text(answer));
            return;
        }
        let key = &command.words[1];
        if let Some(effect) = self.error(answer) {
            let invalidates = matches!(command.verb(), "delete" | "touch" | "md");
            let refused = text(answer).contains(" limit of ");
            assert!(!(invalidates && refused), "a limit refused {command:?}");
            if effect == Effect::Unknown {
                self.change(key, true, Self::applied(command));
            }
            return;
        }
        if !self.owns(key) || self.wild.contains(key) {
            return;
        }
        let states = self.states.entry(key.clone()).or_insert_with(|| vec![KeyState::default()]);
        let possible = states.iter().filter_map(|state| {
            let mut state = state.clone();
            (state.apply(command) == answer).then_some(state)
        });
        let possible: Vec<KeyState> = possible.collect();
        assert!(
            !possible.is_empty(),
            "{command:?} of {states:?} cannot be answered {:?}",
            String::from_utf8_lossy(answer)
        );
        *states = possible;
    }

    fn retrieved(&mut self, command: &Command, input: &[u8]) -> Option<usize> {
        loop {
            let line = line_at(input, self.scanned)?;
            if !line.starts_with(b"VALUE ") {
                let end = self.scanned + line.len();
                let complete = line == b"END\r\n";
                if !complete {
                    assert!(self.error(line).is_some(), "{}", String::from_utf8_lossy(line));
                }
                self.values_of(command, input, complete);
                return Some(end);
            }
            let mut words = line[..line.len() - 2].split(|byte| *byte == b' ').skip(1);
            let key_len = words.next().expect("a key").len();
            let length: usize = text(words.nth(1).expect("a length")).parse().expect("a length");
            let end = self.scanned + line.len() + length + 2;
            if input.len() < end {
                return None;
            }
            self.values.push((self.scanned, self.scanned + 6 + key_len, end));
            self.scanned = end;
        }
    }

    fn values_of(&mut self, command: &Command, input: &[u8], complete: bool) {
        let keys = command.keys();
        let with_version = command.verb().ends_with('s');
        let mut values = self.values.iter().peekable();
        let mut seen: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
        let mut checks = Vec::new();
        for key in keys {
            let value = values
                .next_if(|(start, key_end, _)| &input[start + 6..*key_end] == key.as_slice())
                .map(|(start, _, end)| &input[*start..*end]);
            if value.is_none() && !complete {
                continue; // a part failed: nothing is said about this key
            }
            self.hits += u64::from(value.is_some());
            if self.owns(key) {
                // every duplicate sees the same: nobody else writes, and this connection's next write comes after
                let first = *seen.entry(key).or_insert_with(|| {
                    checks.push((key, value));
                    value
                });
                assert!(first == value || !complete || self.wild.contains(key), "{} differs", text(key));
            } else if let Some(value) = value {
                let data = value.iter().position(|byte| *byte == b'\n').map_or(value, |lf| &value[lf + 1..]);
                let own = [key.as_slice(), b":"].concat();
                assert!(data.starts_with(&own), "{} has {}", text(key), String::from_utf8_lossy(data));
                assert!(!key.starts_with(b"m"), "{} was never stored", text(key));
            }
        }
        assert!(values.next().is_none(), "values that were not asked for, or out of order");
        for (key, value) in checks {
            if self.wild.contains(key) {
                continue;
            }
            let states = self.states.entry(key.clone()).or_insert_with(|| vec![KeyState::default()]);
            let all = states.clone();
            states.retain(|state| state.value(key, with_version) == value.unwrap_or_default());
            assert!(
                !states.is_empty(),
                "{command:?}: {} is one of {all:?}, not {:?}",
                text(key),
                value.map(String::from_utf8_lossy),
            );
        }
    }

    /// Whether memcached hides this answer to a quiet command.
    fn hides(command: &Command, answer: &[u8]) -> bool {
        match command.verb() {
            "mg" => answer.starts_with(b"EN"),
            "ma" => answer.starts_with(b"HD") || answer.starts_with(b"VA"),
            _ => answer.starts_with(b"HD"),
        }
    }

    fn quiet(&mut self, commands: &[Command], input: &[u8]) -> Option<usize> {
        let mut shown = Vec::new();
        let mut at = 0;
        loop {
            let len = reply_len(&input[at..])?;
            let answer = &input[at..at + len];
            at += len;
            if answer == b"MN\r\n" {
                break;
            }
            shown.push(answer);
        }
        let errors = shown.iter().filter(|line| self.error(line).is_some()).count();
        assert!(shown.len() <= commands.len(), "more answers than commands");
        if errors > 0 {
            // which of them failed cannot be told
            for command in commands {
                self.change(&command.words[1], true, Self::applied(command));
            }
            return Some(at);
        }
        let mut shown = shown.into_iter().peekable();
        for command in commands {
            let opaque = [b" O", command.opaque().expect("quiet commands have one")].concat();
            let mine = |answer: &&[u8]| {
                let line = line_at(answer, 0).unwrap_or_default();
                line.strip_suffix(b"\r\n").is_some_and(|line| line.ends_with(&opaque))
            };
            let is_client_error = |answer: &&[u8]| answer.starts_with(b"CLIENT_ERROR");
            let answer = shown.next_if(mine).or_else(|| {
                let numeric = command.verb() == "ma";
                shown.next_if(|answer| numeric && is_client_error(answer))
            });
            if let Some(answer) = answer {
                assert!(
                    !Self::hides(command, answer),
                    "{command:?} shows {}",
                    String::from_utf8_lossy(answer)
                );
                self.one(command, answer);
                continue;
            }
            let key = &command.words[1];
            if self.wild.contains(key) {
                continue;
            }
            let states = self.states.entry(key.clone()).or_insert_with(|| vec![KeyState::default()]);
            let possible: Vec<KeyState> = states
                .iter()
                .filter_map(|state| {
                    let mut state = state.clone();
                    let answer = state.apply(command);
                    Self::hides(command, &answer).then_some(state)
                })
                .collect();
            assert!(!possible.is_empty(), "{command:?} of {states:?} cannot be hidden");
            *states = possible;
        }
        let rest: Vec<_> = shown.map(String::from_utf8_lossy).collect();
        assert!(rest.is_empty(), "unexpected {rest:?}");
        Some(at)
    }
}

fn line_at(input: &[u8], at: usize) -> Option<&[u8]> {
    let rest = input.get(at..)?;
    let lf = rest.iter().position(|byte| *byte == b'\n')?;
    Some(&rest[..=lf])
}

/// Length of a reply of one line, or of VA and its data.
fn reply_len(input: &[u8]) -> Option<usize> {
    let line = line_at(input, 0)?;
    let Some(rest) = line.strip_prefix(b"VA ") else { return Some(line.len()) };
    let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
    let whole = line.len() + text(&digits).parse::<usize>().expect("a length") + 2;
    (input.len() >= whole).then_some(whole)
}
