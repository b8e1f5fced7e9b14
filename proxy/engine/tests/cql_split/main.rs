//! A split `IN` or BATCH does and answers what the unsplit one does: property tests against a model of a server.

mod batches;
mod bounded;
mod chunks;
mod hostile;
mod markers;
mod model;
mod oracle;
mod pages;
mod shapes;
