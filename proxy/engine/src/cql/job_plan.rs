//! What a request in parts is: a read of many keys, or a batch of writes. Both are cut, sent and answered alike; here is
//! where they differ.

use super::prepared::Prepared;
use super::split::{BatchGather, BatchPlan, Bounds, Chunk, Fault, Gather, Plan, Status};
use super::target::Target;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use weir_cql::envelope::{Flags, Header, Opcode};

/// How the request is cut.
#[derive(Debug)]
pub(super) enum JobPlan {
    Read(Plan),
    Write(WritePlan),
}

/// A batch of writes in parts. The statements stay in the envelope of the request.
#[derive(Debug)]
pub(super) struct WritePlan {
    pub(super) plan: BatchPlan,
    /// Of each part, a partition whose replicas are asked first; where that could be told.
    pub(super) targets: Vec<Option<Target>>,
    /// The prepared statements in it, by their ids: to be prepared again where a node has forgotten them.
    pub(super) prepared: FxHashMap<Box<[u8]>, Arc<Prepared>>,
}

impl JobPlan {
    pub(super) fn chunks(&self) -> u32 {
        match self {
            JobPlan::Read(plan) => plan.chunks(),
            JobPlan::Write(write) => write.plan.chunks(),
        }
    }

    /// Keys, or statements, of a part.
    pub(super) fn keys_in(&self, index: u32) -> u32 {
        match self {
            JobPlan::Read(plan) => plan.keys_in(index),
            JobPlan::Write(write) => write.plan.statements_in(index),
        }
    }

    /// Rows of a page, for a client that pages.
    pub(super) fn page_size(&self) -> Option<u32> {
        match self {
            JobPlan::Read(plan) => plan.page_size(),
            JobPlan::Write(_) => None,
        }
    }

    /// Where a part goes on within its own pages.
    pub(super) fn state_of(&self, index: u32) -> Option<&[u8]> {
        match self {
            JobPlan::Read(plan) => plan.state_of(index),
            JobPlan::Write(_) => None,
        }
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            JobPlan::Read(plan) => plan.bytes(),
            JobPlan::Write(write) => {
                let targets = write.targets.capacity() * size_of::<Option<Target>>();
                let known = write.prepared.capacity() * size_of::<(Box<[u8]>, Arc<Prepared>)>();
                write.plan.bytes() + targets + known
            }
        }
    }

    pub(super) const fn opcode(&self) -> Opcode {
        match self {
            JobPlan::Read(_) => Opcode::Execute,
            JobPlan::Write(_) => Opcode::Batch,
        }
    }

    /// Writes the body of one part; `body` is that of the request, where it is kept.
    pub(super) fn write_chunk(&self, body: &[u8], index: u32, chunk: &Chunk<'_>, out: &mut Vec<u8>) {
        match self {
            JobPlan::Read(plan) => plan.write_chunk(index, chunk, out),
            JobPlan::Write(write) => write.plan.write_chunk(body, index, out),
        }
    }
}

/// The answers of its parts.
#[derive(Debug)]
pub(super) enum JobGather {
    Read(Box<Gather>),
    Write(BatchGather),
}

impl JobGather {
    pub(super) fn new(plan: &JobPlan, bounds: Bounds) -> JobGather {
        match plan {
            JobPlan::Read(plan) => JobGather::Read(Box::new(Gather::new(plan, bounds))),
            JobPlan::Write(write) => JobGather::Write(BatchGather::new(&write.plan)),
        }
    }

    /// The part whose answer is waited for first.
    pub(super) fn next(&self) -> u32 {
        match self {
            JobGather::Read(gather) => gather.next(),
            JobGather::Write(gather) => gather.next(),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            JobGather::Read(gather) => gather.rows(),
            JobGather::Write(_) => 0,
        }
    }

    pub(super) fn limit_left(&self) -> Option<u64> {
        match self {
            JobGather::Read(gather) => gather.limit_left(),
            JobGather::Write(_) => None,
        }
    }

    /// Memory of the answers, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            JobGather::Read(gather) => gather.bytes(),
            JobGather::Write(gather) => gather.bytes(),
        }
    }

    pub(super) fn take(&mut self, index: u32, header: &Header, body: &[u8]) -> Result<Status, Fault> {
        match self {
            JobGather::Read(gather) => gather.take(index, header, body),
            JobGather::Write(gather) => gather.take(index, header, body),
        }
    }

    pub(super) fn error(&self) -> Option<(Flags, &[u8])> {
        match self {
            JobGather::Read(gather) => gather.error(),
            JobGather::Write(gather) => gather.error(),
        }
    }
}
