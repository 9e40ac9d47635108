//! Waits until what Redis has acknowledged is on disk or on replicas: `WAITAOF` and `WAIT`.
//!
//! Both count from the last write of their own connection, and keep it from doing anything else. So each level has a connection for
//! this alone, which writes something small and then waits: whatever anybody was answered before that is safe too. All who ask while
//! a round is under way share the next one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Cmd;

use super::link::{Dedicated, Link};
use crate::durability::{Durability, Epoch};
use crate::error::{Error, Result};
use crate::names::Namespace;
use crate::server::Info;

/// How long Redis is asked to wait at a time; then it is said what is missing, and asked again.
pub(super) const ROUND: Duration = Duration::from_secs(5);
/// How long the key that is written stays (ms).
const KEPT_MS: u64 = 60_000;

/// The barriers of one partition, one for each level.
#[derive(Clone, Default)]
pub(super) struct Barriers(Arc<Mutex<BTreeMap<Durability, Arc<Barrier>>>>);

impl Barriers {
    pub(super) fn of(&self, durability: Durability) -> Arc<Barrier> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(durability).or_insert_with(|| Arc::new(Barrier::new(durability))).clone()
    }
}

/// What confirms one level.
pub(super) struct Barrier {
    durability: Durability,
    /// How many have asked.
    asked: AtomicU64,
    round: tokio::sync::Mutex<Round>,
}

#[derive(Default)]
struct Round {
    connection: Option<Connection>,
    /// All who asked as the so-manieth or earlier have their answer, and this is it.
    covered: u64,
    epoch: Epoch,
}

struct Connection {
    dedicated: Dedicated,
    /// The server that it leads to; a restart ends the connection.
    epoch: Epoch,
}

impl Barrier {
    fn new(durability: Durability) -> Self {
        Self { durability, asked: AtomicU64::new(0), round: tokio::sync::Mutex::default() }
    }

    /// Returns once everything that was acknowledged before the call is safe.
    pub(super) async fn pass(&self, link: &Link, namespace: &Namespace) -> Result<Epoch> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut round = self.round.lock().await;
        if round.covered >= number {
            return Ok(round.epoch.clone());
        }
        let covered = self.asked.load(Ordering::SeqCst);
        // A future that is dropped while Redis waits leaves a connection that cannot be used.
        let mut connection = match round.connection.take() {
            Some(connection) => connection,
            None => Connection::open(link).await?,
        };
        connection.dedicated.query::<()>(&mark(namespace)).await?;
        confirm(&mut connection.dedicated, self.durability).await?;
        round.epoch = connection.epoch.clone();
        round.covered = covered;
        round.connection = Some(connection);
        Ok(round.epoch.clone())
    }
}

impl Connection {
    async fn open(link: &Link) -> Result<Self> {
        let mut dedicated = link.dedicated(ROUND, "stepfleet-durability").await?;
        let info: Result<String> = dedicated.query(redis::cmd("INFO").arg("server")).await;
        // A server may deny it; what was lost is then noticed by what is missing alone.
        let epoch = match info {
            Ok(info) => Info::parse(&info).get("run_id").unwrap_or_default().to_owned(),
            Err(error) if error.is_denied() => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { dedicated, epoch: Epoch(epoch) })
    }
}

fn mark(namespace: &Namespace) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(namespace.key("barrier")).arg(1).arg("PX").arg(KEPT_MS);
    set
}

/// Waits for what this connection has written last.
pub(super) async fn confirm(connection: &mut Dedicated, durability: Durability) -> Result<()> {
    let limit = u64::try_from(ROUND.as_millis()).unwrap_or(u64::MAX);
    match durability {
        Durability::None => Ok(()),
        Durability::Fsync => {
            let mut wait = redis::cmd("WAITAOF");
            wait.arg(1).arg(0).arg(limit);
            let synced: (u64, u64) = connection.query(&wait).await.map_err(explained)?;
            if synced.0 >= 1 {
                return Ok(());
            }
            Err(Error::unavailable(
                "Redis has not synced its append-only file to disk for 5 s; runs with durability fsync wait for that (see \
                 `appendfsync` and the server's disk)",
            ))
        }
        Durability::Replicas(wanted) => {
            let mut wait = redis::cmd("WAIT");
            wait.arg(wanted).arg(limit);
            let reached: u64 = connection.query(&wait).await?;
            if reached >= u64::from(wanted) {
                return Ok(());
            }
            Err(Error::unavailable(format!(
                "{reached} of {wanted} replicas have confirmed a write within 5 s; runs with durability {durability} wait for that \
                 (see INFO replication)"
            )))
        }
    }
}

fn explained(error: Error) -> Error {
    let text = error.to_string();
    if text.contains("unknown command") {
        return Error::invalid(
            "the server has no WAITAOF, which durability fsync needs: use Redis 7.2 or later or Valkey, or another durability",
        );
    }
    if text.contains("appendonly is disabled") {
        return Error::invalid(
            "the server has no append-only file, which durability fsync needs: CONFIG SET appendonly yes, or use another durability",
        );
    }
    error
}
