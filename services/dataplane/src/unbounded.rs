//! The bug of April 2026, on purpose: for each address of a GetPostRecords a task, for each task a connection to memcached
//! with its own source address (so that its port is in TIME_WAIT for a minute after), a statement for each that is not
//! there, another connection to set it, and a line of the log for each. Nothing bounds any of it.
//!
//! It stands in for a Go program whose errgroup had no limit. It is for the demonstration and its tests, in a network
//! namespace of its own.

use crate::bsky::{GetPostRecordsResponse, PostRecordMeta, Record};
use crate::read::kinds::{Records, stored};
use crate::read::{Kind as _, entry, values::StoredRecord};
use crate::store::Store;
use crate::store::rows::{self, RecordRow};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Status;

/// The copy of the bug.
pub struct Unbounded {
    /// Source address of every connection.
    pub source: IpAddr,
    /// memcached.
    pub server: SocketAddr,
    /// The database.
    pub store: Arc<Store>,
    /// Seconds that the cache keeps a record.
    pub ttl: u32,
}

impl Unbounded {
    /// The records at these addresses, a task for each. Dropping this leaves the tasks running, as the original did.
    pub async fn post_records(
        self: &Arc<Unbounded>,
        uris: Vec<String>,
    ) -> Result<GetPostRecordsResponse, Status> {
        let tasks: Vec<_> = uris
            .into_iter()
            .map(|uri| {
                let this = self.clone();
                tokio::spawn(async move { this.post_record(uri).await })
            })
            .collect();
        let mut answer = GetPostRecordsResponse::default();
        for task in tasks {
            let found = task.await.map_err(|error| Status::internal(error.to_string()))?;
            let found = found.map_err(|error| Status::internal(format!("{error:#}")))?;
            let missing = || Record { record: Bytes::from_static(b"null"), ..Record::default() };
            answer.records.push(found.as_ref().map_or_else(missing, |stored| stored.record.clone()));
            answer.meta.push(found.map_or_else(PostRecordMeta::default, |stored| stored.meta));
        }
        Ok(answer)
    }

    async fn post_record(&self, uri: String) -> Result<Option<StoredRecord>> {
        let key = Records.cache_key(&uri);
        match self.get(&key).await {
            Ok(Some(found)) => {
                eprintln!("weir-dataplane: {uri}: from the cache");
                return Ok(found);
            }
            Ok(None) => eprintln!("weir-dataplane: {uri}: not in the cache"),
            Err(error) => eprintln!("weir-dataplane: {uri}: {error:#}"),
        }
        if !crate::cache::key::can_be_asked(&uri) {
            return Ok(None);
        }
        let rows: Vec<RecordRow> = self.store.rows(rows::RECORD, (uri.as_str(),)).await?;
        let found = rows.into_iter().next().map(|row| stored(row).1);
        if let Err(error) = self.set(&key, &entry::encode(found.as_ref())).await {
            eprintln!("weir-dataplane: {uri}: {error:#}");
        }
        Ok(found)
    }

    /// `dial tcp SOURCE:0->SERVER`: bind, then connect.
    async fn dial(&self) -> Result<TcpStream> {
        let (source, server) = (self.source, self.server);
        let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket
            .bind(SocketAddr::new(source, 0))
            .with_context(|| format!("dial tcp {source}:0->{server}: bind"))?;
        socket.connect(server).await.with_context(|| format!("dial tcp {source}:0->{server}: connect"))
    }

    async fn get(&self, key: &str) -> Result<Option<Option<StoredRecord>>> {
        let mut stream = BufReader::new(self.dial().await?);
        stream.write_all(format!("get {key}\r\n").as_bytes()).await?;
        let mut head = String::new();
        stream.read_line(&mut head).await?;
        if head == "END\r\n" {
            return Ok(None);
        }
        let length =
            head.strip_prefix("VALUE ").and_then(|rest| rest.trim_end().rsplit(' ').next()?.parse().ok());
        let Some(length) = length.filter(|length: &usize| *length <= 1 << 20) else {
            bail!("memcached said {head:?}")
        };
        let mut value = vec![0; length];
        stream.read_exact(&mut value).await?;
        Ok(entry::decode(value.into()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut stream = BufReader::new(self.dial().await?);
        let head = format!("set {key} 0 {} {}\r\n", self.ttl, value.len());
        stream.write_all(&[head.as_bytes(), value, b"\r\n"].concat()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        if answer != "STORED\r\n" {
            bail!("memcached said {answer:?}");
        }
        Ok(())
    }
}
