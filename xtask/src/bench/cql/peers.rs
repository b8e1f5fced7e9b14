//! Other proxies that take their turns in a run: datastax/cql-proxy, built by go at a fixed version, and shotover, a
//! binary that is there already. What cannot be had or started is noted, and the run goes on without it. Each is told
//! what it needs to listen and where the node is, and otherwise left at its defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::cases::Contender;
use crate::install;
use crate::servers::{Door, Server};
use crate::workspace::Workspace;

const CQL_PROXY_MODULE: &str = "github.com/datastax/cql-proxy";
const CQL_PROXY_VERSION: &str = "v0.2.0";

/// A peer as the command line names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    contender: Contender,
    program: Option<PathBuf>,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, program) = match text.split_once('=') {
            Some((_, "")) => return Err("a PATH belongs after `=`".into()),
            Some((name, program)) => (name, Some(PathBuf::from(program))),
            None => (text, None),
        };
        match (name, &program) {
            ("cql-proxy", _) => Ok(Self { contender: Contender::CqlProxy, program }),
            ("shotover", Some(_)) => Ok(Self { contender: Contender::Shotover, program }),
            ("shotover", None) => {
                Err("shotover is not installed for you: `shotover=PATH` names its binary".into())
            }
            _ => Err("the peers are `cql-proxy`, `cql-proxy=PATH` and `shotover=PATH`".into()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.contender, &self.program) {
            (Contender::CqlProxy, None) => write!(f, "cql-proxy {CQL_PROXY_VERSION}"),
            (contender, _) => write!(f, "{} (a binary that was given)", contender.name()),
        }
    }
}

impl Peer {
    fn program(&self, workspace: &Workspace) -> Result<PathBuf> {
        match &self.program {
            Some(program) if program.is_file() => Ok(program.clone()),
            Some(program) => bail!("{} is no file", program.display()),
            None => install::go_program(workspace, CQL_PROXY_MODULE, CQL_PROXY_VERSION),
        }
    }

    /// What a reader of its column must know.
    fn note(&self) -> String {
        let limits = match self.contender {
            Contender::Shotover => {
                "`CassandraSinkSingle`, one upstream connection per client; it leaves the node's own address in \
                 `system.local`, so drivers that dial what they read there pass it by (this load generator does not)"
            }
            _ => {
                "1 connection per node (its default); protocol v3 and v4 (it takes `--max-protocol-version v5`, but has \
                 no code for v5's segments, so v5 is not compared)"
            }
        };
        format!("{self}: {limits}; it neither splits nor limits nor accounts per caller")
    }
}

/// One column per peer.
pub fn none_twice(peers: &[Peer]) -> Result<()> {
    for (index, peer) in peers.iter().enumerate() {
        if peers[..index].iter().any(|other| other.contender == peer.contender) {
            bail!("--peer {} is given twice", peer.contender.name());
        }
    }
    Ok(())
}

/// The peers of a run.
#[derive(Default)]
pub struct Peers {
    running: BTreeMap<Contender, (Peer, PathBuf, Server)>,
    notes: Vec<String>,
}

impl Peers {
    /// Starts all that can be had.
    pub fn start(workspace: &Workspace, wanted: &[Peer], node: SocketAddrV4) -> Self {
        let mut peers = Self::default();
        for peer in wanted {
            let started = peer.program(workspace).and_then(|program| {
                let server = start(workspace, peer.contender, &program, node)?;
                Ok((peer.clone(), program, server))
            });
            match started {
                Ok(started) => {
                    println!("{peer}: {}, pid {}", started.2.door, started.2.pid());
                    peers.notes.push(peer.note());
                    peers.running.insert(peer.contender, started);
                }
                Err(error) => {
                    let note = format!("{}: not measured: {error:#}", peer.contender.name());
                    println!("SKIPPED: {note}");
                    peers.notes.push(note);
                }
            }
        }
        peers
    }

    /// What a reader must know, one line each.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// The one that runs.
    pub fn get(&self, contender: Contender) -> Option<&Server> {
        self.running.get(&contender).map(|(_, _, server)| server)
    }

    /// A fresh process of a peer that runs.
    pub fn another(&self, workspace: &Workspace, contender: Contender, node: SocketAddrV4) -> Result<Server> {
        let (_, program, _) = self.running.get(&contender).context("this peer does not run")?;
        start(workspace, contender, program, node)
    }
}

fn start(workspace: &Workspace, contender: Contender, program: &Path, node: SocketAddrV4) -> Result<Server> {
    let door = Door::free_port()?;
    let mut command = Command::new(program);
    // cql-proxy takes every option from the environment too, by names like PORT and USERNAME
    command.env_clear();
    match contender {
        Contender::Shotover => {
            let folder = workspace.scratch("logs")?;
            let (topology, config) = shotover_files(&door, &Door::free_port()?, node);
            for (flag, file, text) in
                [("--topology-file", "topology", topology), ("--config-file", "config", config)]
            {
                let path = folder.join(format!("shotover-{}-{file}.yaml", door.port()));
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                command.arg(flag).arg(path);
            }
        }
        _ => {
            command.args(["--contact-points", &node.ip().to_string(), "--port", &node.port().to_string()]);
            command.args(["--bind", &door.to_string()]);
        }
    }
    Server::start_foreign(workspace, contender.name(), &mut command, door)
}

/// Topology and configuration.
fn shotover_files(door: &Door, observability: &Door, node: SocketAddrV4) -> (String, String) {
    let topology = format!(
        "---\nsources:\n  - Cassandra:\n      name: \"bench\"\n      listen_addr: \"{door}\"\n      chain:\n        \
         - CassandraSinkSingle:\n            name: \"node\"\n            remote_address: \"{node}\"\n            \
         connect_timeout_ms: 3000\n"
    );
    let config = format!("---\nmain_log_level: \"warn\"\nobservability_interface: \"{observability}\"\n");
    (topology, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_with_or_without_a_path() {
        let peer: Peer = "cql-proxy".parse().unwrap();
        assert_eq!((peer.contender, peer.program), (Contender::CqlProxy, None));
        let peer: Peer = "shotover=/opt/a=b/shotover".parse().unwrap();
        assert_eq!(peer.program.as_deref(), Some(Path::new("/opt/a=b/shotover")));
        for bad in ["shotover", "cql-proxy=", "weir", ""] {
            assert!(bad.parse::<Peer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_peer_has_one_column() {
        let two: [Peer; 2] = ["cql-proxy", "cql-proxy=/bin/true"].map(|text| text.parse().unwrap());
        assert!(none_twice(&two).unwrap_err().to_string().contains("cql-proxy is given twice"));
        assert!(none_twice(&two[..1]).is_ok());
    }

    #[test]
    fn a_peer_that_cannot_be_had_is_noted_and_not_measured() {
        let workspace = Workspace::find().unwrap();
        let peer: Peer = "shotover=/no/such/program".parse().unwrap();
        let peers = Peers::start(&workspace, &[peer], "127.0.0.1:1".parse().unwrap());
        assert!(peers.get(Contender::Shotover).is_none());
        assert_eq!(peers.notes(), ["shotover: not measured: /no/such/program is no file"]);
    }
}
