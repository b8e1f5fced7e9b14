//! What the control planes of clusters found out, taken over by this worker.

use super::Worker;
use super::path::DataPath;
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::cql::Placement;
use weir_engine::units::ClusterId;

/// What this worker's engine was told.
#[derive(Debug, Default)]
pub(super) struct Placements {
    version: u64,
    told: HashMap<Arc<str>, Arc<dyn Placement>>,
}

impl<P: DataPath> Worker<P> {
    /// Tells the engine what is new. Called when the control side nudges: a comparison of numbers when nothing is.
    pub(super) fn take_placements(&mut self) {
        let version = self.board.posted().version();
        if version == self.placements.version {
            return;
        }
        self.placements.version = version;
        for (index, cluster) in self.in_force.settings.clusters.iter().enumerate() {
            let standing = self.board.posted().standing(&cluster.name);
            let Some(placement) = standing.and_then(|standing| standing.placement) else { continue };
            let told = self.placements.told.get(&cluster.name);
            if told.is_some_and(|told| Arc::ptr_eq(told, &placement)) {
                continue;
            }
            self.engine.place(ClusterId(super::to_u32(index)), placement.clone(), self.now);
            self.placements.told.insert(cluster.name.clone(), placement);
        }
    }
}
