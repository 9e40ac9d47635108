//! The readers that block, and the lease: each has a separate connection.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use redis::Cmd;

use super::link::{Dedicated, SharedByName};
use super::{RedisStore, millis, wire};
use crate::core::args::Transition;
use crate::core::decode::{published, stream_entries};
use crate::core::generated::args;
use crate::core::outcome;
use crate::core::reply::Reply;
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::published::{Position, Published};
use crate::store::{AlarmReader, EventReader, Heartbeat, Lease, WakeReader};

/// How long a blocking read waits before it is repeated: a reader that hangs after an outage is found within this
/// time plus the connection's slack.
pub(super) const BLOCK: Duration = Duration::from_secs(2);
/// One heartbeat in this many reports the id of its connection.
const TELL_CLIENT_EVERY: u32 = 16;
/// How long an idle worker waits to be woken before it looks by itself.
pub(super) const IDLE_BLOCK: Duration = Duration::from_secs(20);
pub(super) const INBOX_GROUP: &str = "coordinators";
pub(super) const INBOX_BATCH: usize = 128;
/// How many entries a follower reads at a time.
const EVENTS_BATCH: usize = 128;
/// A coordinator that has not read for this multiple of the idle time of orphans has departed.
pub(super) const DEPARTED: u32 = 100;

impl RedisStore {
    /// Each coordinator that ever was has left a consumer behind. One that is empty and has not read for long is gone;
    /// should it come back, its next read creates it again.
    pub(super) async fn drop_departed(&self, coordinator: &str, idle: Duration) -> Result<()> {
        let inbox = self.namespace.key("inbox");
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(&inbox).arg(INBOX_GROUP);
        let mut consumers = Reply::new(self.link.send(&info).await?)?;
        while !consumers.is_over() {
            let about: HashMap<String, Vec<u8>> = consumers.array()?.pairs()?.into_iter().collect();
            let number = |name: &str| about.get(name).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
            let gone = number("pending") == Some(0) && number("idle").is_some_and(|ms| ms > millis(idle));
            if let Some(name) = about.get("name").filter(|name| gone && name.as_slice() != coordinator.as_bytes()) {
                let mut drop = redis::cmd("XGROUP");
                drop.arg("DELCONSUMER").arg(&inbox).arg(INBOX_GROUP).arg(name);
                self.link.send(&drop).await?;
            }
        }
        Ok(())
    }
}

pub(super) struct RedisLease {
    pub(super) connection: SharedByName,
    /// The prefix of the partition's keys.
    pub(super) prefix: String,
    pub(super) worker: String,
    /// How long it lasts (ms).
    pub(super) lease: i64,
    /// The connection's id.
    pub(super) client: u64,
    /// How many heartbeats were made.
    pub(super) made: u32,
    /// Up to when the worker knows of cancelled runs (ms).
    pub(super) told: u64,
}

#[async_trait]
impl Lease for RedisLease {
    async fn heartbeat(&mut self) -> Result<Heartbeat> {
        self.renew(false).await
    }

    async fn heartbeat_idle(&mut self) -> Result<bool> {
        Ok(self.renew(true).await? != Heartbeat::Lost)
    }

    async fn closed(&mut self) {
        self.connection.closed().await;
    }
}

impl RedisLease {
    async fn renew(&mut self, idle: bool) -> Result<Heartbeat> {
        // Now and then again: the server may have lost it.
        let client = if self.made.is_multiple_of(TELL_CLIENT_EVERY) { self.client.to_string() } else { String::new() };
        let given = args::Heartbeat { worker: &self.worker, lease: self.lease, client, since: self.told, idle };
        let command = wire::transition(&self.prefix, &given);
        let mut reply = Reply::new(self.connection.query(&command).await?)?;
        let word = reply.word(args::Heartbeat::NAME)?;
        let (heartbeat, now) = outcome::heartbeat(word, reply)?;
        if heartbeat != Heartbeat::Lost {
            (self.told, self.made) = (now, self.made.wrapping_add(1));
        }
        Ok(heartbeat)
    }
}

pub(super) struct RedisWakeReader {
    pub(super) connection: Dedicated,
    pub(super) wait: Cmd,
}

#[async_trait]
impl WakeReader for RedisWakeReader {
    async fn next(&mut self) -> Result<bool> {
        let woken: Value = self.connection.query(&self.wait).await?;
        Ok(woken != Value::Nil)
    }
}

pub(super) struct RedisAlarmReader {
    pub(super) alarms: redis::aio::PubSubStream,
}

#[async_trait]
impl AlarmReader for RedisAlarmReader {
    async fn next(&mut self, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.alarms.next()).await {
            Ok(None) => Err(Error::unavailable("the connection for alarms was closed")),
            Ok(Some(_)) => {
                // One look is enough for all that have come meanwhile.
                while let Some(Some(_)) = self.alarms.next().now_or_never() {}
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

pub(super) struct RedisEventReader {
    pub(super) connection: Dedicated,
    pub(super) key: String,
    pub(super) after: Position,
}

#[async_trait]
impl EventReader for RedisEventReader {
    async fn next(&mut self) -> Result<Vec<Published>> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(EVENTS_BATCH).arg("BLOCK").arg(millis(BLOCK));
        read.arg("STREAMS").arg(&self.key).arg(self.after.to_string());
        let entries = published(stream_entries(self.connection.query(&read).await?, |_| 0)?);
        self.after = entries.last().map_or(self.after, |entry| entry.position);
        Ok(entries)
    }
}
