//! The answers of the chunks of an UNLOGGED BATCH made one: nothing, an error, and warnings.

use super::batch::BatchPlan;
use super::gather::{Fault, Status};
use super::warnings::Warnings;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::response::{Prefix, ResultBody, write_prefix};
use weir_cql::{Cursor, Dialect};

/// The answers of a batch's chunks: done when all are, failed with the first error that comes. What was sent by then is
/// carried out or not, as with any UNLOGGED batch that fails; chunks that were not sent need not be.
#[derive(Debug)]
pub struct BatchGather {
    dialect: Dialect,
    /// Whether each chunk is answered.
    answered: Vec<bool>,
    left: u32,
    /// The first that is not.
    next: u32,
    warnings: Warnings,
    error: Option<(Flags, Vec<u8>)>,
}

impl BatchGather {
    /// For the chunks of this plan.
    #[must_use]
    pub fn new(plan: &BatchPlan) -> BatchGather {
        let chunks = plan.chunks();
        BatchGather {
            dialect: plan.dialect(),
            answered: vec![false; chunks as usize],
            left: chunks,
            next: 0,
            warnings: Warnings::default(),
            error: None,
        }
    }

    /// The answer to a chunk, in the plan's dialect: RESULT or ERROR (UNPREPARED is to be repaired before). A second
    /// answer to a chunk changes nothing.
    ///
    /// # Errors
    /// When it is no answer to a BATCH. Whether the chunk was carried out is unknown then.
    pub fn take(&mut self, index: u32, header: &Header, body: &[u8]) -> Result<Status, Fault> {
        let Some(answered) = self.answered.get_mut(index as usize).filter(|answered| !**answered) else {
            return Ok(self.status());
        };
        match header.opcode {
            Opcode::Error => {
                self.error.get_or_insert_with(|| (header.flags, body.to_vec()));
            }
            Opcode::Result => {
                let prefix = Prefix::locate(self.dialect.version, header.flags, body);
                let prefix = prefix.map_err(|_| Fault::Malformed)?;
                let result = ResultBody::locate(&mut Cursor::within(body, prefix.message), self.dialect);
                if result.map_err(|_| Fault::Malformed)? != ResultBody::Void {
                    return Err(Fault::NotVoid);
                }
                prefix.warnings(body).for_each(|warning| self.warnings.add(warning));
            }
            _ => return Err(Fault::NotVoid),
        }
        *answered = true;
        self.left -= 1;
        while self.answered.get(self.next as usize) == Some(&true) {
            self.next += 1;
        }
        Ok(self.status())
    }

    /// The first chunk that is not answered yet; the number of chunks once all are.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Memory of what is kept of the answers, in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.warnings.bytes()
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.error, self.left) {
            (Some(_), _) => Status::Failed,
            (None, 0) => Status::Done,
            (None, _) => Status::Open,
        }
    }

    /// The ERROR that ended it: the flags of its envelope, and its body.
    #[must_use]
    pub fn error(&self) -> Option<(Flags, &[u8])> {
        self.error.as_ref().map(|(flags, body)| (*flags, &**body))
    }

    /// The body of the answer, once it is [`Status::Done`], and the flags of its envelope.
    #[must_use]
    pub fn finish(&self) -> Option<(Flags, Vec<u8>)> {
        (self.status() == Status::Done).then(|| {
            let mut body = Vec::with_capacity(self.warnings.bytes() + 64);
            let flags = write_prefix(&mut body, self.dialect.version, None, self.warnings.iter(), None);
            weir_cql::write::int(&mut body, VOID);
            (flags, body)
        })
    }
}

/// The kind of a RESULT that says nothing.
const VOID: i32 = 1;
