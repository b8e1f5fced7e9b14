//! Upstream connections of a run: bytes on their way, servers that answer, stall, lie or vanish.

use crate::random::Random;
use crate::store::{Command, Store};
use std::sync::Arc;
use weir_engine::route::Ring;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// An attempt ends at this time.
    Dialling(u64),
    Up,
    /// Never again.
    Gone,
}

/// One upstream connection and the server at its other end.
pub struct Link {
    pub stand: Stand,
    /// The settings no longer have it.
    pub retired: bool,
    /// Written by weir, not yet read by the server.
    pub inbox: Vec<u8>,
    /// Written by the server, not yet read by weir.
    pub outbox: Vec<u8>,
    /// weir has more to write to it.
    pub writable: bool,
    /// The server does nothing until then.
    pub stalled_until: u64,
    /// The server sent what answers nothing: weir must notice when it has read everything.
    pub poisoned: bool,
    /// The keys that live at this server.
    pub ring: Arc<Ring>,
    pub server: usize,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (inbox, outbox) = (self.inbox.len(), self.outbox.len());
        let Link { stand, writable, stalled_until, poisoned, server, .. } = self;
        write!(f, "to {server} {stand:?}: inbox {inbox}, outbox {outbox}, writable {writable}, ")?;
        write!(f, "stalled until {stalled_until}, poisoned {poisoned}")
    }
}

impl Link {
    pub fn new(ring: Arc<Ring>, server: usize, connected_at: u64) -> Link {
        Link {
            stand: Stand::Dialling(connected_at),
            retired: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            writable: false,
            stalled_until: 0,
            poisoned: false,
            ring,
            server,
        }
    }

    /// The server carries out at most `most` commands.
    pub fn serve(&mut self, store: &mut Store, most: usize, errors: Option<&mut Random>) {
        let mut at = 0;
        let mut errors = errors;
        for _ in 0..most {
            let Some((command, used)) = Command::take(&self.inbox[at..]) else { break };
            at += used;
            if let Some(random) = errors.as_deref_mut()
                && random.chance(5)
            {
                self.refuse(store, &command, random);
                continue;
            }
            let (ring, server) = (&self.ring, self.server);
            let answer = store.execute(&command, |key| ring.server_for(key) == server);
            self.outbox.extend(answer);
        }
        self.inbox.drain(..at);
    }

    /// An error line: in place of END after some of the values, or in place of the answer.
    fn refuse(&mut self, store: &mut Store, command: &Command, random: &mut Random) {
        if command.retrieves() {
            let (ring, server) = (&self.ring, self.server);
            let fixed = command.words.len() - command.keys().len();
            let kept = fixed + random.below(command.keys().len());
            if kept > fixed {
                let some = Command { words: command.words[..kept].to_vec(), data: None };
                let answer = store.execute(&some, |key| ring.server_for(key) == server);
                self.outbox.extend_from_slice(&answer[..answer.len() - b"END\r\n".len()]);
            }
        }
        self.outbox.extend_from_slice(b"SERVER_ERROR out of memory writing response\r\n");
    }

    /// The server answers its next command with something that is no answer to it. False when there is none.
    pub fn poison(&mut self, store: &mut Store, random: &mut Random) -> bool {
        let Some((command, used)) = Command::take(&self.inbox) else { return false };
        self.inbox.drain(..used);
        let (ring, server) = (&self.ring, self.server);
        let wrong = if command.retrieves() {
            let honest = store.execute(&command, |key| ring.server_for(key) == server);
            match random.below(5) {
                0 => b"VALUE zz 0 1\r\nx\r\n".to_vec(),
                1 => b"STORED\r\n".to_vec(),
                2 => b"VALUE zz\r\n".to_vec(),
                3 => [&b"VALUE "[..], &command.keys()[0], b" 0 2\r\nabcdef\r\n"].concat(),
                // a value nobody asked for, behind those that were
                _ => [&honest[..honest.len() - 5], b"VALUE zz 0 1\r\nx\r\n"].concat(),
            }
        } else {
            let wrong: &[u8] = match command.verb() {
                "stats" => random.pick(&[&b"VALUE a 0 1\r\nx\r\n"[..], b"VA 1\r\nx\r\n", b"\x01\r\n"]),
                "mg" => random.pick(&[&b"STORED\r\n"[..], b"VA x\r\n", b"VA 1\r\nxyz\r\n", b"END\r\n"]),
                "delete" => random.pick(&[&b"STORED\r\n"[..], b"VA 1\r\nx\r\n", b"17\r\n", b"END\r\n"]),
                _ => random.pick(&[&b"DELETED\r\n"[..], b"VALUE a 0 1\r\nx\r\n", b"?\r\n", b"\r\n"]),
            };
            wrong.to_vec()
        };
        self.outbox.extend(wrong);
        self.poisoned = true;
        true
    }

    /// The connection is gone: the server has carried out some of what it had not answered.
    pub fn lose(&mut self, store: &mut Store, random: &mut Random, again_at: u64) {
        if !self.poisoned {
            let most = random.pick(&[0, 1, 3, 1_000]);
            self.serve(store, most, None);
        }
        self.inbox.clear();
        self.outbox.clear();
        (self.writable, self.poisoned, self.stalled_until) = (false, false, 0);
        self.stand = if self.retired { Stand::Gone } else { Stand::Dialling(again_at) };
    }
}
