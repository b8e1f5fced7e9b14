//! The systemd unit and the DaemonSet of docs/deploy: both are read, and weir-probes runs with what they grant and nothing
//! else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-probes");

type Capabilities = BTreeSet<String>;

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of one key of the unit, in the order of its lines.
fn of_unit<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    unit.lines()
        .filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
        .flat_map(str::split_whitespace)
}

fn unit_capabilities(unit: &str, key: &str) -> Capabilities {
    of_unit(unit, key).map(str::to_owned).collect()
}

struct Pod {
    spec: Yaml,
}

impl Pod {
    fn read() -> Pod {
        let mut documents = YamlLoader::load_from_str(&deployed("weir-probes.yaml")).expect("YAML");
        assert_eq!(documents.len(), 1);
        let daemon_set = documents.remove(0);
        assert_eq!(daemon_set["apiVersion"].as_str(), Some("apps/v1"));
        assert_eq!(daemon_set["kind"].as_str(), Some("DaemonSet"));
        let template = &daemon_set["spec"]["template"];
        // the API refuses a selector that does not select its own template
        let selected = &daemon_set["spec"]["selector"]["matchLabels"];
        assert_eq!(selected, &template["metadata"]["labels"]);
        Pod { spec: template["spec"].clone() }
    }

    fn container(&self) -> &Yaml {
        let containers = self.spec["containers"].as_vec().expect("containers");
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = &self.container()["securityContext"]["capabilities"];
        let dropped: Vec<&str> =
            capabilities["drop"].as_vec().into_iter().flatten().filter_map(Yaml::as_str).collect();
        assert_eq!(dropped, ["ALL"]);
        let added = capabilities["add"].as_vec().expect("capabilities").iter();
        added.map(|name| format!("CAP_{}", name.as_str().expect("a name"))).collect()
    }
}

/// What `weir-probes check` found where it was started: probe, state, reason.
fn check(mut command: Command) -> Result<Vec<(String, String, String)>, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| said)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let probes = report["probes"].as_array().expect("probes");
    Ok(probes.iter().map(|one| (text(&one["probe"]), text(&one["state"]), text(&one["reason"]))).collect())
}

/// The probes that `requests` is not among: it needs a weir, and a right that these files do not grant.
fn assert_attached(found: &[(String, String, String)], but: &[&str]) {
    assert!(found.len() > 6, "{found:?}");
    for (probe, state, reason) in found.iter().filter(|(probe, ..)| probe != "requests") {
        let wanted = if but.contains(&probe.as_str()) { "refused" } else { "attached" };
        assert_eq!(state, wanted, "{probe}: {reason}");
    }
}

/// `weir-probes check` as this user, with these capabilities at most, with no new privileges, in a mount namespace of its own
/// where nothing can be written and tracefs is mounted, as systemd does on every host.
fn confined(user: u32, capabilities: &Capabilities) -> Command {
    let list: String = capabilities
        .iter()
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    // A user other than root has what is inheritable and ambient; root has what is in its bounding set.
    let granted = format!("--bounding-set=-all{list} --inh-caps=-all{list} --ambient-caps=-all{list}");
    // By descriptor: the user may not be let into the folder that the program was built in.
    let script = format!(
        "exec 9<{PROGRAM}; \
         findmnt /sys/kernel/tracing >/dev/null || mount -t tracefs tracefs /sys/kernel/tracing || exit 1; findmnt -rno TARGET | while read -r place; do mount -o remount,bind,ro \"$place\" 2>/dev/null; done; \
         touch /weir-probes-may-write 2>/dev/null && {{ echo 'the file system can be written' >&2; exit 1; }}; \
         exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs {granted} /proc/self/fd/9 check --json"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &script]);
    command
}

/// Whether this process may grant and take all that the tests do; else they are skipped, aloud.
fn may_confine(test: &str) -> bool {
    let mut mine = Command::new(PROGRAM);
    mine.args(["check", "--json"]);
    let here = check(mine).expect("a report");
    let refused = here.iter().find(|(probe, state, _)| probe != "requests" && state != "attached");
    let reason = if !rustix::process::geteuid().is_root() {
        "only root may grant capabilities".to_owned()
    } else if let Some((probe, state, reason)) = refused {
        format!("{probe} is {state} even with all rights: {reason}")
    } else if !["unshare", "setpriv", "findmnt"]
        .iter()
        .all(|tool| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()))
    {
        "there is no unshare, setpriv or findmnt (util-linux)".to_owned()
    } else {
        return true;
    };
    println!("SKIPPED: {test}: {reason}");
    false
}

#[test]
fn both_grant_the_same_and_no_more_than_check_names() {
    let unit = deployed("weir-probes.service");
    let bounding = unit_capabilities(&unit, "CapabilityBoundingSet");
    assert_eq!(bounding, unit_capabilities(&unit, "AmbientCapabilities"));
    assert_eq!(bounding, Pod::read().capabilities());
    let mut command = Command::new(PROGRAM);
    let output = command.args(["check", "--json"]).output().expect("it starts");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let mut needed = Capabilities::new();
    for probe in report["probes"].as_array().expect("probes") {
        if probe["probe"] != "requests" {
            for key in ["capabilities_to_load", "capabilities_for_life"] {
                let names = probe[key].as_array().expect("capabilities").iter();
                needed.extend(names.filter_map(|name| name.as_str().map(str::to_owned)));
            }
        }
    }
    assert_eq!(bounding, needed, "what `weir-probes check` says is needed, for all probes but `requests`");
}

#[test]
fn with_what_the_unit_grants_every_probe_attaches() {
    const TEST: &str = "with_what_the_unit_grants_every_probe_attaches";
    let unit = deployed("weir-probes.service");
    assert_eq!(
        of_unit(&unit, "DynamicUser").collect::<Vec<_>>(),
        ["yes"],
        "not root, nothing writable, nothing gained"
    );
    let granted = unit_capabilities(&unit, "CapabilityBoundingSet");
    if !may_confine(TEST) {
        return;
    }
    // one of those that DynamicUser gives
    const USER: u32 = 61_184;
    assert_attached(&check(confined(USER, &granted)).expect("a report"), &[]);
    let without = |name: &str| granted.iter().filter(|one| *one != name).cloned().collect::<Capabilities>();
    assert_attached(&check(confined(USER, &without("CAP_DAC_READ_SEARCH"))).expect("a report"), &["errors"]);
    for name in ["CAP_BPF", "CAP_PERFMON"] {
        let found = check(confined(USER, &without(name))).expect("a report");
        let attached: Vec<_> = found.iter().filter(|(_, state, _)| state == "attached").collect();
        assert!(attached.is_empty(), "without {name}: {attached:?}");
    }
}

#[test]
fn with_what_the_daemon_set_grants_every_probe_attaches() {
    const TEST: &str = "with_what_the_daemon_set_grants_every_probe_attaches";
    let pod = Pod::read();
    assert_eq!((pod.spec["hostPID"].as_bool(), pod.spec["hostNetwork"].as_bool()), (Some(true), Some(true)));
    let context = &pod.container()["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(context["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(context["privileged"].as_bool(), Some(false));
    // every volume is mounted, and every mount has its volume
    let names = |list: &Yaml| -> BTreeSet<String> {
        list.as_vec()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str().map(str::to_owned))
            .collect()
    };
    assert_eq!(names(&pod.spec["volumes"]), names(&pod.container()["volumeMounts"]));
    let user = u32::try_from(context["runAsUser"].as_i64().expect("a user")).expect("a user");
    if !may_confine(TEST) {
        return;
    }
    assert_attached(&check(confined(user, &pod.capabilities())).expect("a report"), &[]);
}

#[test]
fn the_unit_is_one_that_systemd_reads() {
    let unit = deployed("weir-probes.service");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weir-probes.service");
    // the program is wherever this build put it
    let here = unit.replace("/usr/local/bin/weir-probes", PROGRAM);
    assert_ne!(here, unit);
    std::fs::write(&path, here).expect("a file");
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        println!("SKIPPED: the_unit_is_one_that_systemd_reads: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("weir-probes.service")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
