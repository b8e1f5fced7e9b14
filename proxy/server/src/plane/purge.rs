//! Throwing away kept answers of services: asked of whoever has them.

use super::{RunningPlane, gather};
use crate::admin::plane::{ControlError, Outcome, PurgeCache};
use crate::config::quantity::show_count;
use crate::worker::orders::{Purge, Purged};
use std::sync::Arc;

impl RunningPlane {
    /// Throws away what the desk has found to make sense. Dropped before its end, it is done nevertheless.
    pub(super) async fn purge(&self, wanted: &PurgeCache) -> Result<Outcome, ControlError> {
        let purge = Arc::new(Purge {
            service: wanted.service.as_deref().map(Arc::from),
            path: wanted.path.as_deref().map(Arc::from),
        });
        let told = gather(self.workers.iter().filter_map(|worker| worker.purge(&purge)).collect()).await;
        let purged: Purged = told.into_iter().flatten().collect();
        if purged.is_empty() {
            let what = "nobody has said that it is done: try again, and look at weir_http_cache_purges_total";
            return Err(ControlError::Failed(what.to_owned()));
        }
        let parts: Vec<String> = purged
            .iter()
            .map(|(service, answers)| {
                let s = if *answers == 1 { "" } else { "s" };
                format!("{} answer{s} of {service}", show_count(*answers))
            })
            .collect();
        let under = wanted.path.as_ref().map_or_else(String::new, |path| format!(" under {path}"));
        Ok(Outcome { summary: format!("thrown away{under}: {}", parts.join(", ")), ..Outcome::default() })
    }
}
