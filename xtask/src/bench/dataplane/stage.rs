//! A data plane without weir and one with it, on the same storage.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cases::Contender;
use crate::scenario::Scenario;
use crate::servers::{Door, Server, Weir};
use crate::workspace::{Profile, Workspace};

/// What the cache has is kept for the whole run: what is cold is made so.
const TTL: u32 = 86_400;

/// Threads of a data plane.
pub const THREADS: u32 = 2;

/// A data plane that serves.
pub struct Plane {
    pub server: Server,
    metrics: Door,
}

impl Plane {
    fn start(
        workspace: &Workspace,
        name: &str,
        door: Door,
        memcached: &Door,
        database: &str,
    ) -> Result<Self> {
        let metrics = Door::free_port()?;
        let mut command = Command::new(workspace.binary(Profile::Release, "weir-dataplane")?);
        command.args(["serve", "--listen", &door.to_string(), "--metrics", &metrics.to_string()]);
        command.args(["--memcached", &memcached.to_string(), "--cql", database]);
        command.args(["--threads", &THREADS.to_string(), "--database-timeout-ms", "20000"]);
        for ttl in ["--ttl", "--ttl-missing", "--ttl-lists"] {
            command.args([ttl, &TTL.to_string()]);
        }
        let name = format!("dataplane-{name}");
        Ok(Self { server: Server::start_foreign(workspace, &name, &mut command, door)?, metrics })
    }

    /// What it has counted so far.
    pub fn counts(&self) -> Result<Counts> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200 ") => Ok(Counts::read(page)),
            _ => bail!("no metrics: {}", answer.lines().next().unwrap_or("no answer")),
        }
    }
}

/// What a data plane counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Keys that calls asked for.
    pub keys: f64,
    /// Records that the cache had.
    pub hits: f64,
    /// Records that it had not.
    pub misses: f64,
    /// Commands to memcached.
    pub commands: f64,
    /// Statements.
    pub statements: f64,
}

impl Counts {
    fn read(page: &str) -> Self {
        let sum = |name: &str, part: &str| -> f64 {
            let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(part));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Self {
            keys: sum("weir_dataplane_keys_total{", "GetPostRecords"),
            hits: sum("weir_dataplane_reads_total{", "\"hit\""),
            misses: sum("weir_dataplane_reads_total{", "\"miss\""),
            commands: sum("weir_dataplane_cache_commands_total{", ""),
            statements: sum("weir_dataplane_database_queries_total{", ""),
        }
    }

    /// What was counted since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            keys: self.keys - earlier.keys,
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            commands: self.commands - earlier.commands,
            statements: self.statements - earlier.statements,
        }
    }

    /// The part of the records that was read from the cache, 0 to 1.
    pub fn warmth(self) -> f64 {
        self.hits / (self.hits + self.misses).max(1.0)
    }
}

/// Both data planes, and the weir of the second.
pub struct Stage {
    direct: Plane,
    behind: Plane,
    weir: Weir,
}

impl Stage {
    /// Starts them. Nobody need listen at `memcached`: then the cache is lost.
    pub fn start(workspace: &Workspace, name: &str, memcached: &Door, node: SocketAddrV4) -> Result<Self> {
        let direct = Plane::start(
            workspace,
            &format!("{name}-direct"),
            Door::free_port()?,
            memcached,
            &node.to_string(),
        )?;
        let (edge, cache, cql, plane) =
            (Door::free_port()?, Door::free_port()?, Door::free_port()?, Door::free_port()?);
        let config = format!(
            "[pool.main]\nservers = [\"{memcached}\"]\n[cluster.main]\ncontacts = [\"{node}\"]\n\
             [service.main]\nservers = [\"{plane}\"]\npreset = \"bsky\"\n\
             [listener.cache]\naddress = \"{cache}\"\npool = \"main\"\ntrusted_request_ids = [\"cache\"]\n\
             [listener.cql]\naddress = \"{cql}\"\ncluster = \"main\"\n\
             [listener.edge]\naddress = \"{edge}\"\nservice = \"main\"\n"
        );
        let weir = Weir::start_with_file(workspace, &format!("dataplane-{name}"), edge, &config)?;
        // It reaches its storage through weir, which has to be there first.
        let behind = Plane::start(workspace, &format!("{name}-behind"), plane, &cache, &cql.to_string())
            .context("the data plane with weir behind it")?;
        Ok(Self { direct, behind, weir })
    }

    /// The data plane of a way.
    pub fn plane(&self, contender: Contender) -> &Plane {
        match contender {
            Contender::Direct => &self.direct,
            Contender::Behind | Contender::Weir => &self.behind,
        }
    }

    /// The weir of a way.
    pub fn weir(&self, contender: Contender) -> Option<&Server> {
        match contender {
            Contender::Direct => None,
            Contender::Behind | Contender::Weir => Some(&self.weir.server),
        }
    }

    /// Calls on a way for posts of this file, which watch what they cost.
    pub fn load(&self, contender: Contender, posts: &Path) -> Scenario {
        let plane = &self.plane(contender).server;
        let door = match contender {
            Contender::Direct | Contender::Behind => &plane.door,
            Contender::Weir => &self.weir.server.door,
        };
        let load = Scenario::of("rpc-load", &door.to_string(), 1)
            .with("--posts", posts.display())
            .with("--watch", format!("plane={}", plane.pid()));
        match self.weir(contender) {
            Some(weir) => load.with("--watch", format!("weir={}", weir.pid())),
            None => load,
        }
    }

    /// Their processes.
    pub fn pids(&self) -> [u32; 3] {
        [self.direct.server.pid(), self.behind.server.pid(), self.weir.server.pid()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_a_page() {
        let page = "# TYPE weir_dataplane_keys counter\n\
            weir_dataplane_keys_total{method=\"GetPostRecords\"} 40\n\
            weir_dataplane_keys_total{method=\"GetActors\"} 7\n\
            weir_dataplane_reads_total{kind=\"record\",outcome=\"hit\"} 30\n\
            weir_dataplane_reads_total{kind=\"record\",outcome=\"miss\"} 10\n\
            weir_dataplane_reads_total{kind=\"record\",outcome=\"missing\"} 2\n\
            weir_dataplane_cache_commands_total{outcome=\"ok\"} 3\n\
            weir_dataplane_database_queries_total{outcome=\"ok\"} 1\n\
            weir_dataplane_database_queries_total{outcome=\"error\"} 1\n# EOF\n";
        let counts = Counts::read(page);
        let wanted = Counts { keys: 40.0, hits: 30.0, misses: 10.0, commands: 3.0, statements: 2.0 };
        assert_eq!(counts, wanted);
        assert_eq!(counts.since(counts), Counts::default());
        assert_eq!((counts.warmth(), Counts::default().warmth()), (0.75, 0.0));
    }
}
