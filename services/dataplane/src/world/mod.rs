//! Seeding (written next).
use crate::options::SeedArgs;
use anyhow::Result;
/// `weir-dataplane seed`.
pub async fn run(arguments: &SeedArgs) -> Result<()> { arguments.check().map(drop) }
