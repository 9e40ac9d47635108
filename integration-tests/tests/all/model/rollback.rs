//! A Redis that comes back without its latest writes.

use redis::{Cmd, Value};
use stepfleet_shared::store::RedisStore;
use stepfleet_shared::store::prelude::*;

/// All keys of a namespace as they were.
pub(crate) struct Snapshot(Vec<(Vec<u8>, Value)>);

impl Snapshot {
    pub(crate) async fn of(store: &RedisStore) -> stepfleet_shared::Result<Self> {
        let mut keys = Vec::new();
        for key in list(store).await? {
            let dump = store.command(redis::cmd("DUMP").arg(&key)).await?;
            keys.push((key, dump));
        }
        Ok(Self(keys))
    }

    /// Restores it.
    pub(crate) async fn restore(&self, store: &RedisStore) -> stepfleet_shared::Result<()> {
        for key in list(store).await? {
            store.command(redis::cmd("DEL").arg(key)).await?;
        }
        for (key, dump) in &self.0 {
            let Value::BulkString(dump) = dump else { continue };
            store.command(redis::cmd("RESTORE").arg(key).arg(0).arg(dump)).await?;
        }
        Ok(())
    }
}

async fn list(store: &RedisStore) -> stepfleet_shared::Result<Vec<Vec<u8>>> {
    let pattern = format!("{}*", store.namespace().prefix());
    let mut keys: Cmd = redis::cmd("KEYS");
    keys.arg(pattern);
    let Value::Array(found) = store.command(&keys).await? else { return Ok(Vec::new()) };
    let bytes = |value| if let Value::BulkString(bytes) = value { Some(bytes) } else { None };
    Ok(found.into_iter().filter_map(bytes).collect())
}
