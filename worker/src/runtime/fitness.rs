//! Whether this Redis is one to start on.

use std::time::Duration;

use stepfleet::server::{Check, Info, Override};
use stepfleet::store::Store;
use tokio_util::sync::CancellationToken;

use super::{Config, WorkerError};

/// Waits for Redis, and refuses one that would lose work. False when told to stop first.
pub(super) async fn check(store: &dyn Store, config: &Config, stop: &CancellationToken) -> Result<bool, WorkerError> {
    let Some(info) = stop.run_until_cancelled(said(store)).await.transpose()? else { return Ok(false) };
    let eviction = Override {
        how: "set STEPFLEET_ALLOW_EVICTION=1 (in code: Worker::allow_eviction)",
        given: config.allow_eviction,
    };
    let unpersisted = Override {
        how: "set STEPFLEET_ALLOW_UNPERSISTED=1 (in code: Worker::allow_unpersisted)",
        given: config.allow_unpersisted,
    };
    // A store in memory has no server to refuse.
    if let Some(info) = info {
        for Check { found, advice, .. } in info.admit(eviction, unpersisted)? {
            tracing::warn!(advice, "{found}");
        }
    }
    Ok(true)
}

async fn said(store: &dyn Store) -> stepfleet::Result<Option<Info>> {
    let mut failing = false;
    loop {
        match store.server().await {
            Err(error) if error.is_unavailable() => {
                if !failing {
                    failing = true;
                    tracing::warn!(%error, "waiting for Redis");
                }
            }
            answer => return answer,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
