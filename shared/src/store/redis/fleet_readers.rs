//! Readers of several partitions on one server: a connection for all of them.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use redis::Cmd;

use super::link::Dedicated;
use super::readers::{BLOCK, IDLE_BLOCK, INBOX_BATCH, INBOX_GROUP};
use super::{RedisStore, millis};
use crate::core::decode::stream_entries;
use crate::core::reply;
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::names::Namespace;
use crate::partitions::ColocatedReader;
use crate::store::{InboxEntry, InboxReader};

/// Which partition a key is of.
type Owners = HashMap<String, u16>;

fn owners(partitions: &[Namespace], key: impl Fn(&Namespace) -> String) -> Owners {
    partitions.iter().map(|namespace| (key(namespace), namespace.partition())).collect()
}

impl RedisStore {
    /// Reads the inboxes of these partitions, which are all on this store's server.
    pub(crate) async fn inbox_reader_of(
        &self,
        partitions: &[Namespace],
        coordinator: &str,
    ) -> Result<Box<dyn InboxReader>> {
        let mut connection = self.link.dedicated(BLOCK, &format!("stepfleet-inbox-{coordinator}")).await?;
        let inboxes: Vec<String> = partitions.iter().map(|namespace| namespace.key("inbox")).collect();
        for inbox in &inboxes {
            make_group(&mut connection, inbox).await?;
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(INBOX_GROUP).arg(coordinator).arg("COUNT").arg(INBOX_BATCH);
        read.arg("BLOCK").arg(millis(BLOCK)).arg("STREAMS").arg(&inboxes).arg(vec![">"; inboxes.len()]);
        let owners = owners(partitions, |namespace| namespace.key("inbox"));
        Ok(Box::new(RedisInboxReader { connection, read, owners }))
    }

    /// Waits for an idle worker to be woken in one of these partitions, which are all on this store's server.
    pub(crate) async fn wake_reader_of(
        &self,
        partitions: &[Namespace],
        worker: &str,
    ) -> Result<Box<dyn ColocatedReader>> {
        let connection = self.link.dedicated(IDLE_BLOCK, &format!("stepfleet-idle-{worker}")).await?;
        let owners = owners(partitions, |namespace| namespace.key_of("wake", worker));
        let mut wait = redis::cmd("BLPOP");
        for key in owners.keys() {
            wait.arg(key);
        }
        wait.arg(IDLE_BLOCK.as_secs());
        Ok(Box::new(RedisWakeReader { connection, wait, owners }))
    }

    /// Hears of alarms in one of these partitions, which are all on this store's server.
    pub(crate) async fn alarm_reader_of(&self, partitions: &[Namespace]) -> Result<Box<dyn ColocatedReader>> {
        let mut pubsub = self.link.pubsub().await?;
        let owners = owners(partitions, |namespace| namespace.key("alarm"));
        let channels: Vec<&String> = owners.keys().collect();
        pubsub.subscribe(&channels).await?;
        Ok(Box::new(RedisAlarmReader { alarms: pubsub.into_on_message(), owners }))
    }
}

async fn make_group(connection: &mut Dedicated, inbox: &str) -> Result<()> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(inbox).arg(INBOX_GROUP).arg("0").arg("MKSTREAM");
    match connection.query::<Value>(&create).await {
        Err(error) if !error.to_string().contains("BUSYGROUP") => Err(error),
        _ => Ok(()),
    }
}

struct RedisInboxReader {
    connection: Dedicated,
    read: Cmd,
    owners: Owners,
}

#[async_trait]
impl InboxReader for RedisInboxReader {
    async fn next(&mut self) -> Result<Vec<InboxEntry>> {
        let value: Value = self.connection.query(&self.read).await?;
        stream_entries(value, |inbox| self.owners.get(inbox).copied().unwrap_or_default())
    }
}

struct RedisWakeReader {
    connection: Dedicated,
    wait: Cmd,
    owners: Owners,
}

#[async_trait]
impl ColocatedReader for RedisWakeReader {
    async fn next(&mut self, _: Duration) -> Result<Vec<u16>> {
        match self.connection.query(&self.wait).await? {
            Value::List(woken) => {
                let key = woken.into_iter().next().map(reply::text).transpose()?;
                Ok(key.and_then(|key| self.owners.get(&key).copied()).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        }
    }
}

struct RedisAlarmReader {
    alarms: redis::aio::PubSubStream,
    owners: Owners,
}

#[async_trait]
impl ColocatedReader for RedisAlarmReader {
    async fn next(&mut self, limit: Duration) -> Result<Vec<u16>> {
        let mut heard = Vec::new();
        match tokio::time::timeout(limit, self.alarms.next()).await {
            Ok(None) => return Err(Error::unavailable("the connection for alarms was closed")),
            Ok(Some(alarm)) => heard.extend(self.owners.get(alarm.get_channel_name()).copied()),
            Err(_) => return Ok(heard),
        }
        // One look is enough for all that have come meanwhile.
        while let Some(Some(alarm)) = self.alarms.next().now_or_never() {
            heard.extend(self.owners.get(alarm.get_channel_name()).copied());
        }
        heard.sort_unstable();
        heard.dedup();
        Ok(heard)
    }
}
