//! The metrics of `weir-probes`.
//!
//! The second binary counts nothing itself: the kernel does, and every few seconds a whole [`Reading`] of its totals and
//! gauges arrives. So the series are made from readings, in the order of these modules:
//!
//! - [`catalogue`]: every metric, with the caps of its labels
//! - [`reading`]: rows of plain numbers by metric; a metric that is not in a reading is unknown and has no series
//! - [`names`]: rows' label values, folded as the catalogue says
//! - [`series`]: gauges replaced, totals added up without ever going back
//! - [`telemetry`]: owns all of it and renders it
//!
//! Whoever reads the kernel knows its own records and converts them; nothing here does.

pub mod catalogue;
mod names;
pub mod reading;
mod series;
pub mod telemetry;

pub use catalogue::PROBES;
pub use reading::{Fold, Reading};
pub use telemetry::ProbesTelemetry;
