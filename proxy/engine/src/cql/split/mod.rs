//! `SELECT ... WHERE key IN ?` in chunks: which statements, how the list is cut, how the answers become one again.
//!
//! In the order of a request: [`shape`] decides when a statement is prepared whether it may be cut ([`markers`]: `IN (?, ?)` as
//! `IN ?`; [`bounded`]: with a `LIMIT` of weir's); [`cut`] makes a
//! [`Plan`] of one EXECUTE; [`gather`] puts the answers of its chunks together; [`paging`] is the state a client brings
//! back for its next page. All of it is bytes in, bytes out: which chunk is sent when, and where, is decided elsewhere.
//!
//! [`batch`] and [`batch_gather`] are the same for UNLOGGED BATCH, by partition.
//!
//! What must hold, and is asserted against a model and against Cassandra: rows, their order, columns and `LIMIT` are
//! those of the statement sent whole. What is not certain is [`Whole`]: the server answers it unsplit.

pub mod batch;
pub mod batch_gather;
pub mod bounded;
pub mod cut;
pub mod gather;
pub mod markers;
pub mod paging;
pub mod shape;
pub mod warnings;

pub use batch::{BatchPlan, BatchWhole, Place, WriteKey};
pub use batch_gather::BatchGather;
pub use bounded::BoundedForm;
pub use cut::{Chunk, Plan, Uncut};
pub use gather::{Bounds, Fault, Gather, Joined, Status};
pub use markers::ListForm;
pub use paging::{PageKey, Pages, StateFault, is_composite};
pub use shape::{InSplit, Limit, Whole};
