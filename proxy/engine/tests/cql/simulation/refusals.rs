//! Nodes that turn requests away without carrying them out: UNAVAILABLE, OVERLOADED, IS_BOOTSTRAPPING, and READ_TIMEOUT of
//! what reads. Those that are parts of a split request are counted apart.

use super::World;
use super::random::Random;
use crate::wire::{Answer, flagged};
use weir_cql::envelope::Flags;
use weir_cql::response::{Acks, ErrorBody, ErrorCode, ErrorDetail};
use weir_cql::{Consistency, Opcode, Version};
use weir_engine::units::LaneId;

/// What nodes say.
const WORDS: [ErrorCode; 4] =
    [ErrorCode::UNAVAILABLE, ErrorCode::OVERLOADED, ErrorCode::IS_BOOTSTRAPPING, ErrorCode::READ_TIMEOUT];

/// How many of the requests are turned away, in percent: drawn for a run.
pub fn percent(random: &mut Random) -> usize {
    random.pick(&[0, 0, 0, 2, 10, 40])
}

/// Requests that were turned away: parts of split requests, and others.
#[derive(Default, Debug)]
pub struct Refused {
    pub parts: u64,
    pub others: u64,
}

impl World {
    /// The answer to a request of a lane, when its node turns it away.
    pub(super) fn refusal(&mut self, lane: usize, place: usize) -> Option<Vec<u8>> {
        let asked = &self.bench.wires[lane].asked[place];
        let carries_data = matches!(asked.header.opcode, Opcode::Query | Opcode::Execute | Opcode::Batch);
        if !carries_data || !self.random.chance(self.refusals) {
            return None;
        }
        let part = self.bench.engine.lanes().any(|(id, info)| id == LaneId(lane as u32) && info.bulk);
        // of the others it is not told here which only read; parts of batches write
        let reads = part && asked.header.opcode == Opcode::Execute;
        let word = self.random.pick(if reads { &WORDS } else { &WORDS[..3] });
        let asked = self.bench.wires[lane].asked.remove(place)?;
        let counted = if part { &mut self.totals.refused.parts } else { &mut self.totals.refused.others };
        *counted += 1;
        Some(refused(&asked, word))
    }
}

fn refused(asked: &Answer, code: ErrorCode) -> Vec<u8> {
    let consistency = Consistency::ONE;
    let detail = match code {
        ErrorCode::UNAVAILABLE => ErrorDetail::Unavailable { consistency, required: 1, alive: 0 },
        ErrorCode::READ_TIMEOUT => {
            let acks = Acks { consistency, received: 0, required: 1 };
            ErrorDetail::ReadTimeout { acks, data_present: false }
        }
        _ => ErrorDetail::Plain(&[]),
    };
    let mut body = Vec::new();
    ErrorBody { code, message: b"not now", detail }.write(Version::V4, &mut body);
    flagged(asked.header.version, asked.stream(), Opcode::Error, Flags::default(), &body)
}
