//! From a process's cgroup path to the name that people know: a systemd unit, a container, a pod.
//!
//! `/proc/PID/cgroup` has one line per hierarchy, `ID:CONTROLLERS:PATH`. With cgroup v2 alone there is one (`0::PATH`);
//! hybrid hosts have v1 lines beside it, of which `name=systemd` is the one that is always kept up. What is innermost
//! counts: a container that runs in another one, a service that runs in a user's session.
//!
//! | where | its last folders | named |
//! |---|---|---|
//! | systemd | `system.slice/memcached.service`, `user@1000.service/app.slice/run-u5.scope` | `memcached.service`, `run-u5.scope` |
//! | docker, containerd, cri-o, podman | `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, a folder that is `ID` | `container:` and 12 digits of the id |
//! | Kubernetes, both cgroup drivers | `kubepods-burstable-podUID.slice/cri-containerd-ID.scope`, `kubepods/burstable/podUID/ID` | `pod:UID/` and 12 digits |
//!
//! Not known by this: LXC, containers of ECS on Fargate, and whatever a runtime calls by a name and not by an id.

/// Digits of a container's id that are shown: what `docker ps` and `crictl ps` show.
const CONTAINER_DIGITS: usize = 12;
/// A container's whole id.
const CONTAINER_ID: usize = 64;
/// Longest name that is passed on, in bytes; systemd's own bound is 255.
pub const UNIT_MAX: usize = 128;

/// The unit, container or pod of a process, from the text of `/proc/PID/cgroup`. `None` where the path names none, as at
/// the root of the tree, or where the name is longer than [`UNIT_MAX`].
#[must_use]
pub fn unit(cgroups: &str) -> Option<String> {
    let mut paths = [const { None }; 3];
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let place = match (id, controllers) {
            ("0", "") => 0,
            (_, "name=systemd") => 1,
            _ => 2,
        };
        // Of other hierarchies the one whose path says something: some controllers may not be used.
        if paths[place].is_none() {
            paths[place] = of_path(path);
        }
    }
    paths.into_iter().flatten().next()
}

fn of_path(path: &str) -> Option<String> {
    let (mut container, mut pod, mut service, mut scope) = (None, None, None, None);
    for folder in path.split('/') {
        for part in parts(folder) {
            if let Some(uid) = pod_uid(part) {
                pod = Some(uid);
                // The container of an outer node (one in docker, say) is not this pod's.
                container = None;
            }
            if let Some(id) = container_id(part) {
                container = Some(id);
            } else if part.len() <= UNIT_MAX && part.ends_with(".service") && part.len() > ".service".len() {
                service = Some(part);
            } else if part.len() <= UNIT_MAX && part.ends_with(".scope") && part.len() > ".scope".len() {
                scope = Some(part);
            }
        }
    }
    match (pod, container) {
        (Some(pod), Some(container)) => Some(format!("pod:{pod}/{container}")),
        (Some(pod), None) => Some(format!("pod:{pod}")),
        (None, Some(container)) => Some(format!("container:{container}")),
        // A service may keep its processes in folders and scopes of its own; a scope inside of a session's service
        // (`user@1000.service`) says more than that service.
        (None, None) => match (service, scope) {
            (Some(service), Some(scope)) if service.starts_with("user@") => Some(scope.to_owned()),
            (Some(name), _) | (None, Some(name)) => Some(name.to_owned()),
            (None, None) => None,
        },
    }
}

/// containerd without its systemd plugin joins slice, prefix and id: `...-podUID.slice:cri-containerd:ID`. Other names may
/// hold a `:`, too (`dbus-:1.3-org.example@0.service`).
fn parts(folder: &str) -> impl Iterator<Item = &str> {
    let joined = folder.rsplit_once(':').filter(|(_, id)| container_id(id).is_some());
    let (first, second) = joined.map_or((folder, None), |(slices, id)| (slices, Some(id)));
    let slice = second.and_then(|_| first.split_once(':')).map_or(first, |(slice, _)| slice);
    [Some(slice), second].into_iter().flatten()
}

/// `podUID` of the cgroupfs driver and `kubepods-burstable-podUID.slice` of systemd's, whose slices cannot hold a `-`
/// in a name and have `_` there. Static pods have the hash of their manifest, 32 digits.
fn pod_uid(folder: &str) -> Option<String> {
    let name = folder.strip_suffix(".slice").unwrap_or(folder);
    let uid = match name.rfind("-pod") {
        Some(at) if name.contains("kubepods") => &name[at + 4..],
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid =
        uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && uid.split('-').all(digits);
    (is_uuid || (uid.len() == 32 && digits(&uid))).then_some(uid)
}

/// `PREFIX-ID.scope`, `PREFIX-ID` or `ID`, where the id has 64 hexadecimal digits. The monitor of a container
/// (`crio-conmon-ID`, `libpod-conmon-ID`) is not in it.
fn container_id(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    let (prefix, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() == CONTAINER_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !prefix.ends_with("conmon")).then(|| &id[..CONTAINER_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c2a9be0d37e58a6cb90f1d2e3748596a7b8c9d0e1f2031425364758697a8b";

    fn named(text: &str) -> Option<String> {
        unit(&text.replace("ID", ID))
    }

    #[test]
    fn systemd_units_of_both_versions() {
        for (text, name) in [
            ("0::/system.slice/memcached.service\n", "memcached.service"),
            (
                "0::/system.slice/system-postgresql.slice/postgresql@14-main.service\n",
                "postgresql@14-main.service",
            ),
            ("0::/init.scope\n", "init.scope"),
            ("0::/system.slice/dbus-:1.3-org.example@0.service\n", "dbus-:1.3-org.example@0.service"),
            ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/feed.service\n", "feed.service"),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u5.scope\n", "run-u5.scope"),
            // a service that delegates: what is below belongs to it
            ("0::/system.slice/appview.service/workers/3\n", "appview.service"),
            ("0::/system.slice/appview.service/jobs.scope\n", "appview.service"),
            // read from inside a cgroup namespace: the path begins above its root
            ("0::/../../system.slice/cron.service\n", "cron.service"),
            (
                "12:pids:/system.slice/ssh.service\n1:name=systemd:/system.slice/ssh.service\n0::/system.slice/ssh.service\n",
                "ssh.service",
            ),
            // hybrid, where the v2 tree is there and not used
            ("9:memory:/system.slice\n1:name=systemd:/system.slice/nginx.service\n0::/\n", "nginx.service"),
            // v1 without systemd's hierarchy
            ("5:cpuset:/\n4:memory:/system.slice/redis.service\n", "redis.service"),
        ] {
            assert_eq!(named(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn containers_of_every_runtime_by_the_first_twelve_digits() {
        let name = "container:4f1c2a9be0d3";
        for text in [
            "0::/system.slice/docker-ID.scope\n",
            "11:memory:/docker/ID\n1:name=systemd:/docker/ID\n",
            "0::/../docker-ID.scope/init\n",
            "0::/system.slice/nerdctl-ID.scope\n",
            "0::/default/ID\n",
            "0::/machine.slice/libpod-ID.scope/container\n",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n",
            "0::/libpod_parent/libpod-ID\n",
            "0::/system.slice/crio-ID.scope\n",
            "4:memory:/ecs/0f3a/ID\n",
            // systemd as the first process of a container
            "0::/system.slice/docker-ID.scope/system.slice/nginx.service\n",
        ] {
            assert_eq!(named(text).as_deref(), Some(name), "{text}");
        }
        let outer = "a".repeat(64);
        assert_eq!(named(&format!("0::/docker/{outer}/docker/ID\n")).as_deref(), Some(name), "the innermost");
    }

    #[test]
    fn pods_of_both_drivers() {
        let pod = "pod:6ab2fd2f-5e3c-4c4f-b1a2-0c7d9e8f1a2b/4f1c2a9be0d3";
        for text in [
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6ab2fd2f_5e3c_4c4f_b1a2_0c7d9e8f1a2b.slice/cri-containerd-ID.scope\n",
            "0::/kubepods.slice/kubepods-pod6ab2fd2f_5e3c_4c4f_b1a2_0c7d9e8f1a2b.slice/crio-ID.scope/container\n",
            "11:memory:/kubepods/besteffort/pod6ab2fd2f-5e3c-4c4f-b1a2-0c7d9e8f1a2b/ID\n0::/\n",
            "1:name=systemd:/system.slice/containerd.service/kubepods-burstable-pod6ab2fd2f_5e3c_4c4f_b1a2_0c7d9e8f1a2b.slice:cri-containerd:ID\n",
            // a node that is a container itself (kind)
            &format!(
                "0::/docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod6ab2fd2f_5e3c_4c4f_b1a2_0c7d9e8f1a2b.slice/cri-containerd-ID.scope\n",
                "b".repeat(64)
            ),
        ] {
            assert_eq!(named(text).as_deref(), Some(pod), "{text}");
        }
        let fixed = "0::/kubepods/burstable/pod3f0c5d1b8d4c0a9e1c6b7f8a9d0e1f22/ID\n";
        assert_eq!(named(fixed).as_deref(), Some("pod:3f0c5d1b8d4c0a9e1c6b7f8a9d0e1f22/4f1c2a9be0d3"));
        let pause = "0::/kubepods/pod6ab2fd2f-5e3c-4c4f-b1a2-0c7d9e8f1a2b\n";
        assert_eq!(named(pause).as_deref(), Some("pod:6ab2fd2f-5e3c-4c4f-b1a2-0c7d9e8f1a2b"));
        assert!(pod.len() <= weir_telemetry::labels::NAME_MAX && weir_telemetry::labels::is_valid_name(pod));
    }

    #[test]
    fn what_names_nothing_has_no_name() {
        for text in [
            "",
            "0::/\n",
            "0::/system.slice\n",
            "nonsense",
            "0::/podcasts\n",
            "0::/.service\n",
            "0::/user.slice\n",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
        assert_eq!(
            named("0::/machine.slice/libpod-conmon-ID.scope\n")
                .map(|name| name.starts_with("libpod-conmon-")),
            Some(true)
        );
        assert_eq!(unit(&format!("0::/{}.service\n", "x".repeat(UNIT_MAX))), None, "too long to pass on");
        assert_eq!(unit(&format!("0::/{}\n", "g".repeat(64))), None, "not hexadecimal");
    }
}
