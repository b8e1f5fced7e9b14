//! Partition keys.
