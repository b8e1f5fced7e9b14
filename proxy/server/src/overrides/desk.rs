//! The control desk: the configuration, the overrides on top of it, and what an operator asks to change.
//!
//! The desk decides and keeps; it pushes nothing. Whoever holds it hands [`Decision::settings`] to the workers, calls
//! [`Desk::expire`] at [`Desk::next_expiry`], and asks again.

use super::entry::{Feature, Override, Target, UnixTime, Who};
use super::store::{Store, StoreError};
use super::{LONGEST_SECONDS, WHY_MAX};
use crate::admin::model::{ConfigReport, LimitsReport, LimitsView};
use crate::admin::plane::{Change, ClearLimits, ControlError, Deny, Outcome, SetLimits, Switch};
use crate::cli::RunArgs;
use crate::config::effective::{self, Difference};
use crate::config::quantity::{show_count, show_span};
use crate::config::{Config, is_name};
use crate::worker::orders::DeniedMethod;
use std::sync::Arc;
use weir_engine::rpc::{DENIED_MAX, method_of_path};
use weir_engine::settings::{CallerLimits, LimitMode, Settings, SplitChoice};
use weir_engine::units::Span;

/// Configuration and overrides of a running weir.
#[derive(Debug)]
pub struct Desk {
    args: RunArgs,
    pub(super) config: Arc<Config>,
    loaded_at: UnixTime,
    store: Store,
}

/// A change that was decided and kept.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What the workers are to use from now on.
    pub settings: Settings,
    /// The new configuration, after a reload.
    pub reloaded: Option<Arc<Config>>,
    /// What to tell the operator.
    pub outcome: Outcome,
}

/// Longest name of a method, bytes.
const METHOD_MAX: usize = 256;

impl Desk {
    /// A desk for the configuration that `args` gave.
    #[must_use]
    pub fn new(args: RunArgs, config: Config, store: Store, now: UnixTime) -> Desk {
        Desk { args, config: Arc::new(config), loaded_at: now, store }
    }

    /// The configuration without overrides.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What the workers are to use now.
    #[must_use]
    pub fn effective(&self, now: UnixTime) -> Settings {
        self.store.effective(&self.config.settings, now)
    }

    /// When the next override ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixTime> {
        self.store.next_expiry()
    }

    /// Overrides in force (the metric `weir_override_active`).
    #[must_use]
    pub fn overrides_active(&self, now: UnixTime) -> usize {
        self.store.active(now).count()
    }

    /// When the override of a caller's limits ends.
    #[must_use]
    pub fn override_until(&self, caller: &str, now: UnixTime) -> Option<UnixTime> {
        self.store.active(now).find_map(|entry| match &entry.target {
            Target::Limits { caller: name, .. } if name == caller => Some(entry.expires_at_unix),
            _ => None,
        })
    }

    /// Takes out overrides that have ended. When there are any, the workers need [`Desk::effective`] again.
    pub fn expire(&mut self, now: UnixTime) -> Vec<Override> {
        self.store.expire(now)
    }

    /// Makes a change.
    ///
    /// # Errors
    /// Says why not; then nothing changed.
    pub fn change(&mut self, change: &Change, who: &Who, now: UnixTime) -> Result<Decision, ControlError> {
        let outcome = match change {
            Change::SetLimits(set) => self.set_limits(set, who, now)?,
            Change::ClearLimits(clear) => self.clear_limits(clear, now)?,
            Change::Switch(switch) => self.switch(switch, who, now)?,
            Change::Deny(deny) => self.deny(deny, who, now)?,
            Change::PurgeCache(purge) => self.purge(purge)?,
            Change::Reload => return self.reload(now),
        };
        Ok(Decision { settings: self.effective(now), reloaded: None, outcome })
    }

    fn set_limits(&mut self, set: &SetLimits, who: &Who, now: UnixTime) -> Result<Outcome, ControlError> {
        if !is_name(&set.caller) || matches!(set.caller.as_str(), "_other" | "_invalid") {
            let what = "this cannot be the name of one caller (1 to 64 of A-Z a-z 0-9 . _ : / @ -)";
            return Err(ControlError::Invalid(what.to_owned()));
        }
        if set.limits.is_empty() {
            return Err(ControlError::Invalid("no limit is given: nothing would change".to_owned()));
        }
        let seconds = duration(set.for_seconds)?;
        let limits = set.limits.on(self.config.limits_of(&set.caller));
        if limits.burst.is_some() && limits.operations_per_second.is_none() {
            let what = "a burst needs operations_per_second";
            return Err(ControlError::Invalid(what.to_owned()));
        }
        let target = Target::Limits { caller: set.caller.clone(), limits: set.limits.clone() };
        let expires = self.put(target, seconds, who, set.why.as_deref(), now)?;
        let mut notes = Vec::new();
        if limits.mode == LimitMode::Observe {
            notes.push(
                "the mode is observe: nothing is refused, only counted (--mode refuse refuses)".to_owned(),
            );
        }
        let settings = &self.config.settings;
        let is_listener = settings.listeners.iter().any(|listener| *listener.name == *set.caller);
        if !settings.callers.contains_key(set.caller.as_str()) && !is_listener {
            notes.push(
                "the file does not name this caller: what was not given is as for undeclared callers"
                    .to_owned(),
            );
        }
        let off: Vec<_> = self.switched_off(Feature::Limits, now);
        if !off.is_empty() {
            notes.push(format!("limits are switched off on {}: nothing is limited there", off.join(", ")));
        }
        self.note_memory(&mut notes);
        Ok(Outcome {
            summary: format!("{} is limited to {} for {}", set.caller, describe(&limits), shown(seconds)),
            notes,
            expires_at_unix: Some(expires),
        })
    }

    fn clear_limits(&mut self, clear: &ClearLimits, now: UnixTime) -> Result<Outcome, ControlError> {
        let target = Target::Limits { caller: clear.caller.clone(), limits: super::LimitPatch::default() };
        match self.store.remove(&target, now).map_err(refused)? {
            None => Err(ControlError::NotFound("there is no override of this caller's limits".to_owned())),
            Some(_) => Ok(Outcome {
                summary: format!(
                    "{} is back to the file's limits: {}",
                    clear.caller,
                    describe(self.config.limits_of(&clear.caller))
                ),
                ..Outcome::default()
            }),
        }
    }

    fn switch(&mut self, switch: &Switch, who: &Who, now: UnixTime) -> Result<Outcome, ControlError> {
        let settings = &self.config.settings;
        let Some(listener) = settings.listeners.iter().find(|other| *other.name == *switch.listener) else {
            let names: Vec<&str> = settings.listeners.iter().map(|other| &*other.name).collect();
            let what = format!("there is no such listener; there are {}", names.join(", "));
            return Err(ControlError::NotFound(what));
        };
        let (name, word) = (listener.name.clone(), switch.feature.word());
        let mut notes = Vec::new();
        if let Some(pool) = listener.backend.pool().and_then(|pool| settings.pools.get(pool.0 as usize)) {
            let off_in_file = match switch.feature {
                Feature::Split => !pool.split,
                Feature::Batching => !pool.batching,
                Feature::SingleFlight => !pool.single_flight,
                Feature::Limits => false,
            };
            if off_in_file {
                let name = &pool.name;
                notes.push(format!("[pool.{name}] has it off in any case: only the file switches it on"));
            }
        }
        if let Some(cluster) =
            listener.backend.cluster().and_then(|cluster| settings.clusters.get(cluster.0 as usize))
        {
            match switch.feature {
                Feature::Split if cluster.split == SplitChoice::Off => {
                    let name = &cluster.name;
                    notes.push(format!(
                        "[cluster.{name}] has it off in any case: only the file switches it on"
                    ));
                }
                Feature::Split | Feature::Limits => {}
                Feature::Batching | Feature::SingleFlight => {
                    notes.push(format!("{word} has no effect on a CQL listener yet"));
                }
            }
        }
        let target = Target::SwitchOff { listener: name.to_string(), feature: switch.feature };
        if switch.on {
            return match self.store.remove(&target, now).map_err(refused)? {
                None => Err(ControlError::NotFound(format!("{word} is not switched off on {name}"))),
                Some(_) => {
                    Ok(Outcome { summary: format!("{word} is back on {name}"), notes, ..Outcome::default() })
                }
            };
        }
        let Some(seconds) = switch.for_seconds else {
            return Err(ControlError::Invalid("switching off needs a time (for_seconds)".to_owned()));
        };
        let seconds = duration(seconds)?;
        let expires = self.put(target, seconds, who, switch.why.as_deref(), now)?;
        self.note_memory(&mut notes);
        Ok(Outcome {
            summary: format!("{word} is off on {name} for {}", shown(seconds)),
            notes,
            expires_at_unix: Some(expires),
        })
    }

    /// Methods of services that are switched off.
    #[must_use]
    pub fn denied(&self, now: UnixTime) -> Arc<[DeniedMethod]> {
        let denied = self.store.active(now).filter_map(|entry| match &entry.target {
            Target::Deny { method } => Some(DeniedMethod {
                method: method.clone(),
                why: entry.why.clone().unwrap_or_default(),
                until_unix: entry.expires_at_unix.0,
            }),
            _ => None,
        });
        denied.collect()
    }

    fn deny(&mut self, deny: &Deny, who: &Who, now: UnixTime) -> Result<Outcome, ControlError> {
        let method = method_of_path(&deny.method);
        if !(1..=METHOD_MAX).contains(&method.len()) || !method.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = "this cannot be the name of a method (package.Service/Method)";
            return Err(ControlError::Invalid(what.to_owned()));
        }
        if self.config.settings.services.is_empty() {
            return Err(ControlError::Invalid("weir stands before no service here".to_owned()));
        }
        let target = Target::Deny { method: method.to_owned() };
        let Some(seconds) = deny.for_seconds else {
            return match self.store.remove(&target, now).map_err(refused)? {
                None => Err(ControlError::NotFound(format!("{method} is not switched off"))),
                Some(_) => Ok(Outcome { summary: format!("{method} is served again"), ..Outcome::default() }),
            };
        };
        let seconds = duration(seconds)?;
        let denied = self.denied(now);
        if denied.len() >= DENIED_MAX && denied.iter().all(|other| other.method != method) {
            return Err(ControlError::Full(format!("{DENIED_MAX} methods are switched off already")));
        }
        let mut notes = Vec::new();
        let described =
            self.config.settings.services.iter().any(|s| s.methods.iter().any(|m| **m == *method));
        if !described {
            notes.push("no table describes this method: check its spelling".to_owned());
        }
        let expires = self.put(target, seconds, who, deny.why.as_deref(), now)?;
        self.note_memory(&mut notes);
        Ok(Outcome {
            summary: format!("{method} is refused for {}", shown(seconds)),
            notes,
            expires_at_unix: Some(expires),
        })
    }

    fn reload(&mut self, now: UnixTime) -> Result<Decision, ControlError> {
        if self.args.config.is_none() {
            let what = "weir runs without a file: there is nothing to read again";
            return Err(ControlError::Invalid(what.to_owned()));
        }
        let fresh =
            Config::from_flags(&self.args).map_err(|problems| ControlError::Refused(problems.to_string()))?;
        let differences = effective::differences(&self.config, &fresh);
        let frozen: Vec<&str> = differences
            .iter()
            .filter(|difference| effective::needs_restart(difference))
            .map(|difference| difference.path.as_str())
            .collect();
        if !frozen.is_empty() {
            let mut what = format!("nothing was changed: a restart is needed for {}", frozen.join(", "));
            for (listener, before, after) in effective::backends_changed(&self.config, &fresh) {
                what.push_str(&format!(
                    "\n[listener.{listener}] would lead from {before} to {after}: its clients are connected to the first"
                ));
            }
            return Err(ControlError::Refused(what));
        }
        let summary = match differences.len() {
            0 => format!("the configuration is the same as before ({})", fresh.hash),
            1 => format!("the configuration {} is in force: 1 difference", fresh.hash),
            count => format!("the configuration {} is in force: {count} differences", fresh.hash),
        };
        let notes = differences
            .iter()
            .map(describe_difference)
            .chain(fresh.warnings.iter().map(ToString::to_string))
            .collect();
        let config = Arc::new(fresh);
        self.config = config.clone();
        self.loaded_at = now;
        let outcome = Outcome { summary, notes, expires_at_unix: None };
        Ok(Decision { settings: self.effective(now), reloaded: Some(config), outcome })
    }

    fn put(
        &mut self,
        target: Target,
        seconds: u64,
        who: &Who,
        why: Option<&str>,
        now: UnixTime,
    ) -> Result<UnixTime, ControlError> {
        if why.is_some_and(|why| why.len() > WHY_MAX) {
            return Err(ControlError::Invalid(format!("the reason is longer than {WHY_MAX} bytes")));
        }
        let expires = now.after(seconds);
        let entry = Override {
            target,
            set_at_unix: now,
            expires_at_unix: expires,
            by: who.clone(),
            why: why.map(str::to_owned),
        };
        self.store.put(entry, now).map_err(refused)?;
        Ok(expires)
    }

    fn switched_off(&self, feature: Feature, now: UnixTime) -> Vec<&str> {
        self.store
            .active(now)
            .filter_map(|entry| match &entry.target {
                Target::SwitchOff { listener, feature: off } if *off == feature => Some(listener.as_str()),
                _ => None,
            })
            .collect()
    }

    fn note_memory(&self, notes: &mut Vec<String>) {
        if self.store.kept_in().is_none() {
            notes.push("it lasts until weir ends at the latest: state_dir is not set".to_owned());
        }
    }

    /// What /config answers.
    #[must_use]
    pub fn report(&self, now: UnixTime) -> ConfigReport {
        ConfigReport {
            source: self
                .args
                .config
                .as_ref()
                .map_or_else(|| "flags".to_owned(), |path| path.display().to_string()),
            hash: self.config.hash.to_string(),
            loaded_at_unix: self.loaded_at,
            toml: effective::to_toml(&self.config),
            effective: effective::to_json(&self.config),
            overrides: self.store.active(now).cloned().collect(),
            warnings: self.config.warnings.iter().map(ToString::to_string).collect(),
        }
    }

    /// What /limits answers.
    #[must_use]
    pub fn limits(&self, now: UnixTime) -> LimitsReport {
        let settings = self.effective(now);
        LimitsReport {
            now_unix: now,
            undeclared: LimitsView::from(&settings.undeclared),
            callers: settings
                .callers
                .iter()
                .map(|(name, limits)| (name.to_string(), LimitsView::from(limits)))
                .collect(),
            overrides: self.store.active(now).cloned().collect(),
            kept_in: self.store.kept_in().map(|path| path.display().to_string()),
        }
    }
}

fn refused(error: StoreError) -> ControlError {
    match error {
        StoreError::Full => ControlError::Full(error.to_string()),
        StoreError::Keep { .. } => ControlError::Failed(error.to_string()),
    }
}

fn duration(seconds: u64) -> Result<u64, ControlError> {
    if (1..=LONGEST_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(ControlError::Invalid("an override lasts from 1 second to 30 days".to_owned()))
    }
}

fn shown(seconds: u64) -> String {
    show_span(Span::secs(seconds))
}

/// Limits in a few words.
#[must_use]
pub fn describe(limits: &CallerLimits) -> String {
    let counts = [
        (limits.operations_per_request.map(|n| n.0), "operations per request"),
        (limits.operations_per_second.map(|n| n.0), "operations per second"),
        (limits.operations_in_flight.map(|n| n.0), "operations in flight"),
        (limits.bytes_in_flight.map(|n| n.0), "bytes in flight"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter_map(|(count, what)| count.map(|count| format!("{} {what}", show_count(count))))
        .collect();
    let mode = super::Mode::from(limits.mode).word();
    if parts.is_empty() { "nothing".to_owned() } else { format!("{} ({mode})", parts.join(", ")) }
}

fn describe_difference(difference: &Difference) -> String {
    use crate::config::effective::ValueChange;
    let path = &difference.path;
    match &difference.change {
        ValueChange::Added => format!("[{path}] is new"),
        ValueChange::Lost => format!("[{path}] is gone"),
        ValueChange::Changed { old, new } => format!("{path}: {old} -> {new}"),
        ValueChange::Content => format!("{path}: the file holds another key"),
    }
}
