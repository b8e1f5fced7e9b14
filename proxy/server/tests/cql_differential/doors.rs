//! Ways to the node: straight to it, or through weirs that split, join and keep answers; the connections of each.

use crate::faults::Fault;
use crate::request::{Request, WIRES, Way};
use crate::support::Weir;
use crate::support_cql::answer::{Answer, Statement};
use crate::support_cql::{Cql, file};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use weir_cql::envelope::Opcode;
use weir_cql::response::{Response, ResultBody};

/// More pages than any answer has.
const PAGES_MAX: usize = 2_000;
/// Keys of a part where requests are split: so few that small lists are split.
pub const CHUNK_KEYS: usize = 3;

/// One way to the node.
pub struct Door {
    /// What a failure calls it.
    pub name: &'static str,
    /// `None`: the node itself.
    pub weir: Option<Weir>,
    /// The keyspace its requests are about.
    pub keyspace: String,
    /// Whether requests are split there.
    pub splits: bool,
    /// Whether answers are kept there.
    pub keeps: bool,
    address: SocketAddr,
    clients: usize,
    lines: Vec<Vec<Cql>>,
}

/// What was answered to one client.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// To PREPARE, where the statement was prepared.
    pub prepared: Vec<Answer>,
    /// To the request, page after page.
    pub pages: Vec<Answer>,
}

impl Door {
    fn new(name: &'static str, address: SocketAddr, keyspace: &str, clients: usize) -> Door {
        let lines = WIRES.map(|_| Vec::new()).into();
        let keyspace = keyspace.to_owned();
        Door { name, weir: None, keyspace, splits: false, keeps: false, address, clients, lines }
    }

    /// The node itself.
    pub fn direct(node: &str, keyspace: &str) -> Door {
        Door::new("direct", node.parse().expect("an address"), keyspace, 1)
    }

    fn through(name: &'static str, config: &str, keyspace: &str, clients: usize) -> Door {
        let weir = Weir::with_config(config, &[]);
        let address = (Ipv4Addr::LOCALHOST, weir.port).into();
        Door { weir: Some(weir), ..Door::new(name, address, keyspace, clients) }
    }

    /// A weir that splits lists of more than [`CHUNK_KEYS`] keys.
    pub fn splitting(node: &str, keyspace: &str) -> Door {
        let cluster = format!("discover = false\nsplit = \"on\"\nchunk_keys = {CHUNK_KEYS}\n");
        Door { splits: true, ..Door::through("splitting", &file(node, &cluster, ""), keyspace, 1) }
    }

    /// A weir that asks for one thing at a time, so that whoever asks the same meanwhile joins.
    pub fn joining(node: &str, keyspace: &str, seeds: Range<u64>) -> Door {
        let rules = rules(keyspace, seeds, "join_in_flight = true");
        let config = file(node, &format!("discover = false\nrequests_in_flight = 1\n{rules}"), "");
        Door::through("joining", &format!("workers = 1\n{config}"), keyspace, 3)
    }

    /// A weir whose two workers keep answers.
    pub fn keeping(node: &str, keyspace: &str, seeds: Range<u64>) -> Door {
        let rules = rules(keyspace, seeds, "cache_ttl = \"1m\"\njoin_in_flight = true");
        let config = format!("workers = 2\n{}", file(node, &rules, ""));
        Door { keeps: true, ..Door::through("keeping", &config, keyspace, 2) }
    }

    /// Its connections of one kind, opened when they are needed first.
    pub fn lines(&mut self, wire: usize) -> &mut [Cql] {
        if self.lines[wire].is_empty() {
            let (version, options) = WIRES[wire];
            self.lines[wire] =
                (0..self.clients).map(|_| Cql::open_with(self.address, version, options)).collect();
        }
        &mut self.lines[wire]
    }

    /// The statement of its weir's metrics; 0 where there is none.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.weir.as_ref().and_then(|weir| weir.series(name, labels)).unwrap_or(0.0)
    }

    /// Prepares what is to be prepared, on the first connection: what it was told, and the statements, unless one
    /// cannot be prepared.
    pub fn prepare(&mut self, request: &Request) -> (Vec<Answer>, Option<Vec<Option<Statement>>>) {
        let (mut answers, mut statements) = (Vec::new(), Vec::new());
        for at in 0..request.texts.len() {
            let wanted = match request.way {
                Way::Query => false,
                Way::Execute => true,
                // by turns, as far as the text itself says
                Way::Batch(_) => !request.texts[at].values.is_empty() || at % 2 == 0,
            };
            if !wanted {
                statements.push(None);
                continue;
            }
            let body = request.prepare(at, &self.keyspace);
            let answer = self.lines(request.wire)[0].ask(Opcode::Prepare, &body);
            let failed = answer.error().is_some();
            answers.push(answer);
            if failed {
                return (answers, None);
            }
            statements.push(answers.last().map(Answer::prepared));
        }
        (answers, Some(statements))
    }

    /// Prepares and asks, from all its connections at the same time, through all pages: what each was answered.
    pub fn ask(&mut self, request: &Request) -> Vec<Exchange> {
        let (prepared, statements) = self.prepare(request);
        let mut all = vec![Exchange { prepared, pages: Vec::new() }; self.clients];
        let Some(statements) = statements else { return all };
        let (keyspace, workers) = (self.keyspace.clone(), self.keeps);
        let mut open: Vec<usize> = (0..all.len()).collect();
        while !open.is_empty() {
            let lines = self.lines(request.wire);
            for client in &open {
                let state = all[*client].pages.last().and_then(next_page);
                let (opcode, body) = request.message(&keyspace, &statements, state.as_deref());
                lines[*client].send_flagged(request.flags(), 9, opcode, &body).expect("sent");
            }
            for client in &open {
                let mut answer = lines[*client].answer();
                // each worker of a weir knows what was prepared there: as drivers do, prepare again and repeat
                if workers && answer.unprepared().is_some() && request.fault != Some(Fault::Id) {
                    lines[*client].ask(Opcode::Prepare, &request.prepare(0, &keyspace)).prepared();
                    let state = all[*client].pages.last().and_then(next_page);
                    let (opcode, body) = request.message(&keyspace, &statements, state.as_deref());
                    lines[*client].send_flagged(request.flags(), 9, opcode, &body).expect("sent");
                    answer = lines[*client].answer();
                }
                all[*client].pages.push(answer);
            }
            open.retain(|client| all[*client].pages.last().and_then(next_page).is_some());
            assert!(all[0].pages.len() < PAGES_MAX, "the pages do not end");
        }
        all
    }
}

/// Where the pages go on, if they do.
pub fn next_page(answer: &Answer) -> Option<Vec<u8>> {
    match answer.read() {
        Response::Result(ResultBody::Rows(rows)) => {
            rows.metadata.paging_state.map(|state| state.of(&answer.body).expect("a state").to_vec())
        }
        _ => None,
    }
}

/// A rule for the table of each seed.
fn rules(keyspace: &str, seeds: Range<u64>, what: &str) -> String {
    let rule = |seed| format!("[cluster.main.rule.r{seed}]\ntable = \"{keyspace}.t{seed}\"\n{what}\n");
    seeds.map(rule).collect()
}
