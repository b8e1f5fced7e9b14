//! `weir cache purge`: whether it makes sense. Nothing is kept of it: what is thrown away is gone.

use super::{Desk, WHY_MAX};
use crate::admin::plane::{ControlError, Outcome, PurgeCache};

/// Longest path, bytes.
const PATH_MAX: usize = 4_096;

impl Desk {
    /// Says what is going to be thrown away.
    pub(super) fn purge(&self, purge: &PurgeCache) -> Result<Outcome, ControlError> {
        let invalid = |what: String| Err(ControlError::Invalid(what));
        let (own, edges) = (&self.config.settings.services, &self.config.services);
        let keeping: Vec<&str> = own
            .iter()
            .zip(edges)
            .filter(|(_, (edge, _))| !edge.cache.paths.is_empty())
            .map(|(service, _)| &*service.name)
            .collect();
        if keeping.is_empty() {
            return invalid("no service here keeps answers (cache_paths)".to_owned());
        }
        if let Some(name) = &purge.service
            && !keeping.contains(&name.as_str())
        {
            let what =
                format!("there is no such service that keeps answers; there are {}", keeping.join(", "));
            return Err(ControlError::NotFound(what));
        }
        if purge.why.as_ref().is_some_and(|why| why.len() > WHY_MAX) {
            return invalid(format!("the reason is longer than {WHY_MAX} bytes"));
        }
        let what = match (&purge.path, purge.all) {
            (Some(path), false)
                if !path.starts_with('/') || path.len() > PATH_MAX || path.contains(['?', '#']) =>
            {
                return invalid("path begins with / and has no query (4,096 bytes at most)".to_owned());
            }
            (Some(path), false) => format!("answers under {path}"),
            (None, true) => "all answers".to_owned(),
            _ => return invalid("say either path or all".to_owned()),
        };
        let whose = purge.service.as_ref().map_or_else(|| keeping.join(", "), Clone::clone);
        Ok(Outcome { summary: format!("{what} of {whose} are thrown away"), ..Outcome::default() })
    }
}
