//! Random schemas and statements, and the comparison of two servers.

mod draw;
mod pair;

pub use draw::{Random, Schema};
pub use pair::Pair;
