//! Who is on the stage in one act: storage, weir on every leg (or on none), the data plane, the world.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::act::ActArgs;
use super::plane::Plane;
use crate::demo::stage::CULPRIT;
use crate::netns;
use crate::process;
use crate::servers::{self, Door, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// The ordinary caller.
pub const NEIGHBOUR: &str = "appview";

/// The keyspace at a database that was there before.
const KEYSPACE: &str = "weir_demo";
/// The longest that seeding may take.
const SEEDING: Duration = Duration::from_secs(30 * 60);

/// Everything that runs. Ended in the order of the fields.
pub struct Cast {
    pub plane: Plane,
    pub weir: Option<Weir>,
    /// Where calls go: weir, or the data plane.
    pub front: Door,
    /// memcached, and weir in front of it.
    pub cache: Door,
    pub front_cache: Option<Door>,
    pub plane_metrics: Door,
    pub storage: String,
    servers: Vec<Server>,
}

/// Alone in a namespace the usual ports are free; they also lie outside its range of local ports.
fn door(isolated: bool, usual: u16) -> Result<Door> {
    if isolated { Ok(Door::Tcp(usual)) } else { Door::free_port() }
}

impl Cast {
    /// Starts all of it, with the world in the database.
    pub fn gather(workspace: &Workspace, args: &ActArgs) -> Result<Self> {
        let isolated = args.isolated.is_some();
        let cache = door(isolated, 11_211)?;
        let store = args.node.map_or_else(|| door(isolated, 9_042), |node| Ok(Door::At(node)))?;
        let (servers, storage) = storage(workspace, args, &cache, &store)?;
        seed(workspace, args, &store)?;
        let plane_door = door(isolated, 3_000)?;
        let plane_metrics = door(isolated, 9_160)?;
        let fronts = match args.with_weir() {
            false => None,
            true => Some([door(isolated, 11_311)?, door(isolated, 9_142)?, door(isolated, 3_100)?]),
        };
        let weir = match &fronts {
            None => None,
            Some([front_cache, front_store, front]) => {
                let text = file([&cache, &store, &plane_door], [front_cache, front_store, front]);
                Some(Weir::start_with_file(workspace, "story", front.clone(), &text)?)
            }
        };
        let [at_cache, at_store, front] =
            fronts.clone().unwrap_or_else(|| [cache.clone(), store.clone(), plane_door.clone()]);
        let mut words: Vec<String> = Vec::new();
        let mut with = |option: &str, value: &str| words.extend([option.to_owned(), value.to_owned()]);
        with("--listen", &plane_door.to_string());
        with("--metrics", &plane_metrics.to_string());
        with("--memcached", &at_cache.to_string());
        with("--cql", &at_store.to_string());
        with("--keyspace", KEYSPACE);
        if !args.with_weir() {
            words.extend(["--unbounded".to_owned(), "--i-know".to_owned()]);
        }
        let plane = Plane::start(workspace.binary(Profile::Release, "weir-dataplane")?, words)?;
        let front_cache = fronts.map(|[front_cache, ..]| front_cache);
        Ok(Self { plane, weir, front, cache, front_cache, plane_metrics, storage, servers })
    }

    /// Process ids of all that serves.
    pub fn pids(&self) -> Vec<u32> {
        let weir = self.weir.iter().map(|weir| weir.server.pid());
        weir.chain(self.servers.iter().map(Server::pid)).chain([self.plane.pid()]).collect()
    }
}

/// The embedded store, or ways to the servers that were given; what it is, in words.
fn storage(
    workspace: &Workspace,
    args: &ActArgs,
    cache: &Door,
    store: &Door,
) -> Result<(Vec<Server>, String)> {
    match (&args.memcached, &args.cql) {
        (None, None) => {
            let data = workspace.scratch("demo")?.join("devstore");
            let server = servers::devstore_with_cql(workspace, cache.clone(), store, &data)?;
            Ok((vec![server], "weir-devstore".into()))
        }
        (Some(memcached), Some(cql)) => {
            let mut relays = vec![servers::relay(workspace, "to-memcached", cache.clone(), memcached)?];
            if let (Some(_), Some(node)) = (args.isolated, args.node) {
                netns::take_address(*node.ip())?;
                relays.push(servers::relay(workspace, "to-cql", store.clone(), cql)?);
            }
            Ok((relays, "the servers that were given".into()))
        }
        _ => bail!("--memcached and --cql go together"),
    }
}

/// weir's file: a listener for each leg. Callers are believed what they call themselves, and the data plane is believed which
/// request of whom it works for.
fn file([cache, store, plane]: [&Door; 3], [front_cache, front_store, front]: [&Door; 3]) -> String {
    format!(
        "[pool.cache]\nservers = [\"{cache}\"]\n\n\
         [cluster.store]\ncontacts = [\"{store}\"]\n\n\
         [service.dataplane]\nservers = [\"{plane}\"]\npreset = \"bsky\"\n\n\
         [listener.memcached]\naddress = \"{front_cache}\"\npool = \"cache\"\ntrusted_request_ids = [\"memcached\"]\n\n\
         [listener.cql]\naddress = \"{front_store}\"\ncluster = \"store\"\ntrusted_request_ids = [\"cql\"]\n\n\
         [listener.rpc]\naddress = \"{front}\"\nservice = \"dataplane\"\ntrusted_names = [\"{NEIGHBOUR}\", \"{CULPRIT}\"]\n"
    )
}

/// The options of `weir-dataplane seed` and `world` that make the demo's world.
fn shape(users: u32) -> Vec<String> {
    let users = users.to_string();
    let words = ["--seed", "4", "--users", &users, "--posts-per-user", "20", "--follows-per-user", "20"];
    words.into_iter().chain(["--likes-per-post", "1"]).map(str::to_owned).collect()
}

fn seed(workspace: &Workspace, args: &ActArgs, store: &Door) -> Result<()> {
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-dataplane")?);
    command.args(["seed", "--cql", &store.to_string(), "--keyspace", KEYSPACE]).args(shape(args.users));
    println!("  seeding a world of {} accounts (what is there already is kept)", args.users);
    let status = process::stream("weir-dataplane", &mut command, SEEDING, |_, line| {
        println!("  {}", line.trim_start_matches("weir-dataplane: "));
    })?;
    if !status.success() {
        bail!("seeding failed ({status})");
    }
    Ok(())
}

/// Writes the list of who and what is in the world, for those who ask for it.
pub fn list_world(workspace: &Workspace, users: u32) -> Result<PathBuf> {
    let path = workspace.scratch("demo")?.join("world.tsv");
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-dataplane")?);
    let done = process::run("weir-dataplane", command.arg("world").args(shape(users)), SEEDING)?;
    if !done.status.success() {
        bail!("`weir-dataplane world` failed: {}", done.stderr.trim());
    }
    write(&path, &done.stdout)?;
    Ok(path)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weir_has_a_listener_for_each_leg() {
        let [cache, store, plane, front_cache, front_store, front] = [1, 2, 3, 4, 5, 6].map(Door::Tcp);
        let text = file([&cache, &store, &plane], [&front_cache, &front_store, &front]);
        for (section, port) in [("listener.memcached", 4), ("listener.cql", 5), ("listener.rpc", 6)] {
            let wanted = format!("[{section}]\naddress = \"127.0.0.1:{port}\"\n");
            assert!(text.contains(&wanted), "{wanted} is not in {text}");
        }
        assert!(text.contains("trusted_names = [\"appview\", \"feed-backfill\"]"), "{text}");
    }
}
