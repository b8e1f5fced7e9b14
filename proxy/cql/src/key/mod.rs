//! Partition keys: their token, the shard that holds them, and the order in which Cassandra returns them.
//!
//! Values are the bytes of the native protocol. [`token`] is Cassandra's Murmur3 partitioner, [`composite()`] the encoding
//! of a key of several columns, [`shard_of`] Scylla's placement, [`KeyType`] the order of a column's type, which is the
//! order of the rows of `IN`. No I/O, no panic on any bytes.

mod composite;
mod decimal;
mod literal;
mod murmur3;
mod order;
mod shard;

pub use composite::{COMPONENT_MAX, append_component, composite};
pub use decimal::DECIMAL_MAX;
pub use literal::from_literal;
pub use murmur3::{Token, token};
pub use order::{KeyFault, KeyType, sort_keys};
pub use shard::{Sharding, shard_of};
