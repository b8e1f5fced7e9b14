//! Overrides: they end by themselves, survive reload and restart until then, are bounded, and lie on top of the file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use weir::admin::plane::{Change, ClearLimits, ControlError, SetLimits, Switch};
use weir::cli::RunArgs;
use weir::config::Config;
use weir::overrides::{
    Bound, Class, Desk, ENTRIES_MAX, Feature, LimitPatch, Mode, Override, Store, StoreError, Target,
    UnixTime, Who,
};
use weir_engine::settings::{CallerClass, LimitMode};
use weir_engine::units::Operations;

const NOW: UnixTime = UnixTime(1_800_000_000);
const FILE: &str = "\
[pool.main]
servers = [\"127.0.0.1:11211\"]
[listener.cache]
address = \"127.0.0.1:11311\"
[callers.cache]
operations_per_second = 1_000
mode = \"pace\"
";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().expect("a directory") };
        place.write(FILE);
        place
    }

    fn write(&self, text: &str) {
        std::fs::write(self.directory.path().join("weir.toml"), text).expect("written");
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    /// A weir that starts at `now`.
    fn desk(&self, now: UnixTime) -> Desk {
        let args = RunArgs { config: Some(self.directory.path().join("weir.toml")), ..RunArgs::default() };
        let config = Config::from_flags(&args).expect("the file is good");
        let (store, warning) = Store::open(Some(&self.state()), now);
        assert_eq!(warning, None);
        Desk::new(args, config, store, now)
    }
}

fn who() -> Who {
    Who { uid: Some(0), name: "root".to_owned() }
}

fn refuse(caller: &str, most: u64, seconds: u64) -> Change {
    Change::SetLimits(SetLimits {
        caller: caller.to_owned(),
        limits: LimitPatch {
            operations_per_request: Some(Bound::At(most)),
            mode: Some(Mode::Refuse),
            ..LimitPatch::default()
        },
        for_seconds: seconds,
        why: Some("incident 1".to_owned()),
    })
}

fn split_off(seconds: u64) -> Change {
    Change::Switch(Switch {
        feature: Feature::Split,
        on: false,
        listener: "cache".to_owned(),
        for_seconds: Some(seconds),
        why: None,
    })
}

#[test]
fn a_limit_ends_by_itself() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    let decision = desk.change(&refuse("importer", 500, 3_600), &who(), NOW).expect("set");
    assert_eq!(decision.outcome.summary, "importer is limited to 500 operations per request (refuse) for 1h");
    assert_eq!(decision.outcome.expires_at_unix, Some(NOW.after(3_600)));
    let limits = &decision.settings.callers["importer"];
    assert_eq!((limits.operations_per_request, limits.mode), (Some(Operations(500)), LimitMode::Refuse));
    assert!(decision.settings.operator_callers.contains("importer"));
    assert_eq!(desk.next_expiry(), Some(NOW.after(3_600)));

    assert!(desk.effective(NOW.after(3_599)).callers.contains_key("importer"));
    assert_eq!(desk.effective(NOW.after(3_600)), desk.config().settings, "the file's again");
    let ended = desk.expire(NOW.after(3_600));
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].why.as_deref(), Some("incident 1"));
    assert_eq!(desk.next_expiry(), None);
}

#[test]
fn a_limit_lies_on_top_of_the_callers_own() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    let patch = LimitPatch { class: Some(Class::Batch), ..LimitPatch::default() };
    let set = SetLimits { caller: "cache".to_owned(), limits: patch, for_seconds: 60, why: None };
    let settings = desk.change(&Change::SetLimits(set), &who(), NOW).expect("set").settings;
    let limits = &settings.callers["cache"];
    assert_eq!(limits.operations_per_second, Some(Operations(1_000)), "the file's");
    assert_eq!(limits.mode, LimitMode::Pace, "the file's");
    assert_eq!(limits.class, CallerClass::Batch);
    let patch = LimitPatch { operations_per_second: Some(Bound::None), ..LimitPatch::default() };
    let set = SetLimits { caller: "cache".to_owned(), limits: patch, for_seconds: 60, why: None };
    let settings = desk.change(&Change::SetLimits(set), &who(), NOW).expect("set").settings;
    assert_eq!(settings.callers["cache"].operations_per_second, None, "none lifts it");
    assert_eq!(settings.callers["cache"].class, CallerClass::Interactive, "the new one took the place whole");
}

#[test]
fn overrides_survive_restart_and_reload_until_their_end() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    desk.change(&refuse("importer", 500, 3_600), &who(), NOW).expect("set");
    desk.change(&split_off(600), &who(), NOW).expect("switched");
    let before = desk.effective(NOW);
    drop(desk);

    let mut desk = place.desk(NOW.after(10));
    assert_eq!(desk.effective(NOW.after(10)), before, "after a restart");
    let report = desk.report(NOW.after(10));
    assert_eq!(report.overrides.len(), 2);
    assert_eq!(report.overrides[0].by, who());

    place.write(&FILE.replace("1_000", "2_000"));
    let decision = desk.change(&Change::Reload, &who(), NOW.after(20)).expect("reloaded");
    assert_eq!(decision.outcome.notes[0], "callers.cache.operations_per_second: 1_000 -> 2_000");
    assert!(decision.reloaded.is_some());
    assert!(decision.settings.callers.contains_key("importer"), "after a reload");
    assert!(!decision.settings.listeners[0].switches.split);

    let desk = place.desk(NOW.after(700));
    assert!(desk.effective(NOW.after(700)).listeners[0].switches.split, "ended while weir was down or not");
    assert!(desk.effective(NOW.after(700)).callers.contains_key("importer"));
    assert_eq!(place.desk(NOW.after(3_600)).overrides_active(NOW.after(3_600)), 0);
}

#[test]
fn the_file_is_the_owners_alone_and_replaced_whole() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    desk.change(&refuse("importer", 500, 3_600), &who(), NOW).expect("set");
    let file = place.state().join("overrides.json");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let directory = std::fs::metadata(place.state()).expect("it is there").permissions().mode();
    assert_eq!(directory & 0o777, 0o700);
    assert!(!place.state().join("overrides.json.new").exists());
}

#[test]
fn a_broken_file_is_put_aside_and_said_so() {
    let place = Place::new();
    std::fs::create_dir(place.state()).expect("made");
    for text in ["{", "[]", "{\"version\": 2, \"overrides\": []}", "\u{0}"] {
        std::fs::write(place.state().join("overrides.json"), text).expect("written");
        let (store, warning) = Store::open(Some(&place.state()), NOW);
        assert_eq!(store.active(NOW).count(), 0);
        assert!(warning.expect("it is said").contains("put aside"), "{text}");
        assert!(place.state().join("overrides.json.unreadable").exists());
    }
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    std::fs::remove_dir_all(place.state()).expect("removed");
    let error = desk.change(&refuse("importer", 500, 60), &who(), NOW).expect_err("it cannot be kept");
    assert!(matches!(error, ControlError::Failed(_)), "{error}");
    assert_eq!(desk.effective(NOW), desk.config().settings);
}

#[test]
fn the_number_of_overrides_is_bounded() {
    let mut store = Store::in_memory();
    let entry = |caller: String, seconds: u64| Override {
        target: Target::Limits { caller, limits: LimitPatch::default() },
        set_at_unix: NOW,
        expires_at_unix: NOW.after(seconds),
        by: who(),
        why: None,
    };
    for index in 0..ENTRIES_MAX {
        store.put(entry(format!("c{index}"), 60 + index as u64), NOW).expect("there is room");
    }
    assert!(matches!(store.put(entry("one-more".into(), 60), NOW), Err(StoreError::Full)));
    store.put(entry("c7".into(), 90), NOW).expect("an old one's place");
    store.put(entry("one-more".into(), 600), NOW.after(60)).expect("one has ended");
    assert_eq!(store.active(NOW.after(60)).count(), ENTRIES_MAX);
}

#[test]
fn switches_end_early_when_asked() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    let decision = desk.change(&split_off(600), &who(), NOW).expect("off");
    assert_eq!(decision.outcome.summary, "split is off on cache for 10m");
    assert!(!decision.settings.listeners[0].switches.split);
    let on = Change::Switch(Switch {
        feature: Feature::Split,
        on: true,
        listener: "cache".to_owned(),
        for_seconds: None,
        why: None,
    });
    let decision = desk.change(&on, &who(), NOW).expect("on");
    assert!(decision.settings.listeners[0].switches.split);
    assert!(matches!(desk.change(&on, &who(), NOW), Err(ControlError::NotFound(_))), "it is on already");
}

#[test]
fn limits_are_cleared_when_asked() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    desk.change(&refuse("importer", 500, 3_600), &who(), NOW).expect("set");
    let clear = Change::ClearLimits(ClearLimits { caller: "importer".to_owned() });
    let decision = desk.change(&clear, &who(), NOW).expect("cleared");
    assert_eq!(decision.settings, desk.config().settings);
    assert!(matches!(desk.change(&clear, &who(), NOW), Err(ControlError::NotFound(_))));
}

#[test]
fn changes_without_sense_are_refused() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    let empty = SetLimits { caller: "a".into(), limits: LimitPatch::default(), for_seconds: 60, why: None };
    let burst = LimitPatch { burst: Some(Bound::At(5)), ..LimitPatch::default() };
    let burst = SetLimits { caller: "a".into(), limits: burst, for_seconds: 60, why: None };
    let mut long_why =
        SetLimits { caller: "a".into(), limits: LimitPatch::default(), for_seconds: 60, why: None };
    long_why.limits.mode = Some(Mode::Refuse);
    long_why.why = Some("x".repeat(501));
    let nowhere =
        Switch { feature: Feature::Split, on: false, listener: "x".into(), for_seconds: Some(1), why: None };
    for change in [
        Change::SetLimits(empty),
        Change::SetLimits(burst),
        Change::SetLimits(long_why),
        refuse("$(reboot)", 1, 60),
        refuse("_other", 1, 60),
        refuse("", 1, 60),
        refuse("a", 1, 0),
        refuse("a", 1, 31 * 86_400),
        Change::Switch(nowhere),
    ] {
        assert!(desk.change(&change, &who(), NOW).is_err(), "{change:?}");
    }
    assert_eq!(desk.overrides_active(NOW), 0);
}

#[test]
fn a_reload_is_taken_whole_or_not_at_all() {
    let place = Place::new();
    let mut desk = place.desk(NOW);
    let hash = desk.config().hash;
    place.write("nonsense = 1\n");
    let error = desk.change(&Change::Reload, &who(), NOW).expect_err("the file is bad");
    assert!(matches!(&error, ControlError::Refused(text) if text.contains("nonsense")), "{error}");
    place.write(&FILE.replace("11311", "11312").replace("1_000", "5"));
    let error = desk.change(&Change::Reload, &who(), NOW).expect_err("a socket cannot move");
    assert!(
        matches!(&error, ControlError::Refused(text) if text.contains("listener.cache.address")),
        "{error}"
    );
    assert_eq!(desk.config().hash, hash);
}

const CLUSTER: &str = "\
[cluster.main]
contacts = [\"10.0.0.1:9042\"]
[listener.cql]
address = \"127.0.0.1:9142\"
";

#[test]
fn a_reload_takes_other_contacts_and_refuses_another_protocol() {
    let place = Place::new();
    place.write(CLUSTER);
    let mut desk = place.desk(NOW);
    place.write(&CLUSTER.replace("10.0.0.1:9042", "10.0.0.2:9042"));
    let decision = desk.change(&Change::Reload, &who(), NOW).expect("contacts may change");
    let contacts = &decision.settings.clusters[0].contacts;
    assert_eq!(contacts[0].to_string(), "10.0.0.2:9042");
    let told = "cluster.main.contacts: \"10.0.0.1:9042\" -> \"10.0.0.2:9042\"";
    assert_eq!(decision.outcome.notes[0], told);

    place.write(
        "[pool.main]\nservers = [\"127.0.0.1:11211\"]\n[listener.cql]\naddress = \"127.0.0.1:9142\"\n",
    );
    let refused = desk.change(&Change::Reload, &who(), NOW).expect_err("its clients speak CQL");
    let what = refused.message();
    assert!(what.starts_with("nothing was changed: a restart is needed for cluster.main, "), "{what}");
    assert!(what.contains("[listener.cql] would lead from cluster main to pool main"), "{what}");
    assert_eq!(desk.config().settings.clusters.len(), 1, "the configuration in force stays");
}

#[test]
fn switches_without_effect_say_so() {
    let place = Place::new();
    place.write(CLUSTER);
    let mut desk = place.desk(NOW);
    let mut notes = |feature| {
        let switch = Switch { feature, on: false, listener: "cql".into(), for_seconds: Some(60), why: None };
        desk.change(&Change::Switch(switch), &who(), NOW).expect("switched").outcome.notes
    };
    assert_eq!(notes(Feature::Split), [""; 0]);
    assert_eq!(notes(Feature::Batching), ["batching has no effect on a CQL listener yet"]);
    assert_eq!(notes(Feature::Limits), [""; 0]);
}

#[test]
fn without_a_state_directory_the_operator_is_told() {
    let place = Place::new();
    let args = RunArgs { config: Some(place.directory.path().join("weir.toml")), ..RunArgs::default() };
    let config = Config::from_flags(&args).expect("good");
    let mut desk = Desk::new(args, config, Store::in_memory(), NOW);
    let outcome = desk.change(&refuse("cache", 1, 60), &who(), NOW).expect("set").outcome;
    assert_eq!(outcome.notes, ["it lasts until weir ends at the latest: state_dir is not set"]);
    assert_eq!(desk.limits(NOW).kept_in, None);
    assert!(!Path::new("overrides.json").exists());
}
