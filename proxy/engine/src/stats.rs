//! `stats`: one server's answer passes through as it is; several servers' answers become one in memcached's own form
//! (numbers that count are summed, the rest is the first server's). `stats weir` is weir's own.

use crate::client::Target;
use crate::engine::Engine;
use crate::multiplex::Server;
use crate::split::Merge;
use std::fmt::Write;
use weir_memcached::Verb;

/// STAT names of which a sum would be nonsense although they are numbers.
const NOT_SUMMED: [&[u8]; 16] = [
    b"pid",
    b"uptime",
    b"time",
    b"pointer_size",
    b"version",
    b"libevent",
    b"rusage_user",
    b"rusage_system",
    b"max_connections",
    b"limit_maxbytes_per_server",
    b"hash_power_level",
    b"threads",
    b"accepting_conns",
    b"chunk_size",
    b"chunks_per_page",
    b"maxconns",
];

impl Engine {
    /// One answer out of the lines of all servers.
    pub(crate) fn merge_lines(&mut self, merge: &Merge, target: Target) -> Vec<u8> {
        let verb = self.client_mut(target.client).and_then(|c| c.request(target.seq)).map(|asked| asked.verb);
        if verb == Some(Verb::Stats) {
            return merge_stats(merge.parts.iter().map(|part| part.bytes.as_slice()));
        }
        // flush_all: the first answer that is not OK, else OK
        let odd = merge.parts.iter().find(|part| part.bytes != b"OK\r\n" && !part.bytes.is_empty());
        odd.map_or_else(|| b"OK\r\n".to_vec(), |part| part.bytes.clone())
    }

    /// `stats weir`: what this worker did, in memcached's form.
    pub(crate) fn stats_weir(&self) -> Vec<u8> {
        let mut text = String::new();
        let clients = self.clients.len() - self.free.len();
        let owed: usize = self.lanes.iter().map(|lane| lane.owed.len()).sum();
        let here: u64 = self.servers.iter().map(|server| server.backend_operations).sum();
        let backend = here + self.operations_of_gone;
        let waiting: usize = self.servers.iter().map(|server| server.small.len() + server.bulk.len()).sum();
        let queued: u64 = self.servers.iter().map(Server::queued).sum();
        let rows: [(&str, u64); 10] = [
            ("worker_clients", clients as u64),
            ("worker_requests", self.requests),
            ("worker_backend_operations", backend),
            ("worker_commands_in_flight", owed as u64),
            ("worker_clients_queued", waiting as u64),
            ("worker_operations_queued", queued),
            ("worker_reply_bytes", self.reply_bytes as u64),
            ("worker_input_bytes", self.input_bytes as u64),
            ("worker_desyncs", self.desyncs),
            ("worker_retries", self.retries),
        ];
        for (name, value) in rows {
            // writing to a String cannot fail
            let _ = write!(text, "STAT {name} {value}\r\n");
        }
        text.push_str("END\r\n");
        text.into_bytes()
    }
}

fn merge_stats<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut values: std::collections::BTreeMap<&[u8], (Vec<u8>, Option<u64>)> =
        std::collections::BTreeMap::new();
    let mut other: Option<&[u8]> = None;
    for part in parts {
        for line in part.split(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(rest) = line.strip_prefix(b"STAT ") else {
                if !line.is_empty() && line != b"END" {
                    other.get_or_insert(line);
                }
                continue;
            };
            let cut = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
            let (name, value) = (&rest[..cut], rest.get(cut + 1..).unwrap_or_default());
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            let number = number.filter(|_| !NOT_SUMMED.contains(&name));
            match values.get_mut(name) {
                None => {
                    names.push(name);
                    values.insert(name, (value.to_vec(), number));
                }
                Some((_, Some(sum))) => *sum = sum.saturating_add(number.unwrap_or(0)),
                Some(_) => {}
            }
        }
    }
    let mut out = Vec::new();
    if names.is_empty()
        && let Some(line) = other
    {
        // RESET, OK or an error: the same from every server
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
        return out;
    }
    for name in names {
        out.extend_from_slice(b"STAT ");
        out.extend_from_slice(name);
        out.push(b' ');
        match &values[name] {
            (_, Some(sum)) => out.extend_from_slice(sum.to_string().as_bytes()),
            (text, None) => out.extend_from_slice(text),
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"END\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_and_texts_are_the_first_servers() {
        let one = b"STAT curr_items 3\r\nSTAT version 1.6.18\r\nSTAT pid 7\r\nEND\r\n".as_slice();
        let two =
            b"STAT curr_items 4\r\nSTAT version 1.6.40\r\nSTAT pid 9\r\nSTAT extra 1\r\nEND\r\n".as_slice();
        let merged = merge_stats([one, two].into_iter());
        assert_eq!(
            String::from_utf8_lossy(&merged),
            "STAT curr_items 7\r\nSTAT version 1.6.18\r\nSTAT pid 7\r\nSTAT extra 1\r\nEND\r\n"
        );
        assert_eq!(merge_stats([b"RESET\r\n".as_slice(), b"RESET\r\n"].into_iter()), b"RESET\r\n");
    }
}
