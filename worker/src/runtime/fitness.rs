//! Whether this Redis is one to start on.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use stepfleet::server::{Check, Info, Override};

use super::{Config, Home, Partitions, WorkerError};

/// Waits for Redis, and refuses one that would lose work. Each server is judged once, however many partitions it has.
pub(super) async fn check(home: &Home, config: &Config, judged: &mut BTreeSet<String>) -> Result<(), WorkerError> {
    let partitions = answered(|| home.known().boxed()).await?;
    for store in partitions.all() {
        let info = answered(|| store.server()).await?;
        let server = info.as_ref().and_then(|info| info.get("run_id")).unwrap_or_default().to_owned();
        if judged.insert(server) {
            judge(info, config)?;
        }
    }
    Ok(())
}

fn judge(info: Option<Info>, config: &Config) -> Result<(), WorkerError> {
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
    Ok(())
}

/// Opens the namespace, and makes it where it is new and the worker was told with how many partitions. Otherwise waits for
/// somebody who was: a worker that came first and made another number of them would keep the coordinators out.
pub(super) async fn open(home: &Home, count: Option<u16>) -> Result<Partitions, WorkerError> {
    if count.is_some() {
        return Ok(answered(|| home.open(count).boxed()).await?);
    }
    let mut waiting = false;
    loop {
        if let Some(partitions) = answered(|| home.find().boxed()).await? {
            return Ok(partitions);
        }
        if !waiting {
            waiting = true;
            tracing::info!("waiting for a coordinator to make the namespace");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Repeats a call until Redis is there.
async fn answered<'a, T>(call: impl Fn() -> BoxFuture<'a, stepfleet::Result<T>>) -> stepfleet::Result<T> {
    let mut failing = false;
    loop {
        match call().await {
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
