//! The lease: renewed from a separate thread, so that a step that blocks all threads of the runtime does
//! not make this worker look dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stepfleet_shared::backoff::LEASE;
use stepfleet_shared::outage::{Outages, Watch};
use stepfleet_shared::store::{Heartbeat, Lease, WorkerStore};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ledger::Ledger;
use super::session::needed;
use super::slots::Slots;
use crate::decisions::renewal::oftener;

/// Between two lease connections that are closed; half of the time after which a worker without one is suspected.
const PAUSE: Duration = Duration::from_millis(50);

/// The thread's side of a worker's beginning: the connection is opened before the worker registers, so that its lease
/// does not run out while a slow Redis takes its time over connecting.
pub(super) struct Start {
    pub(super) connected: oneshot::Sender<()>,
    pub(super) registered: oneshot::Receiver<()>,
}

/// The thread, for the leases of all partitions. It ends with the value.
pub(super) struct Thread {
    runtime: tokio::runtime::Handle,
    _closed: DropGuard,
}

impl Thread {
    pub(super) fn start() -> std::io::Result<Self> {
        let workers = tokio::runtime::Handle::current();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, closed) = (runtime.handle().clone(), CancellationToken::new());
        let guard = closed.clone().drop_guard();
        std::thread::Builder::new().name("stepfleet-lease".into()).spawn(move || {
            runtime.block_on(closed.run_until_cancelled(super::nudge::nudge(workers)));
        })?;
        Ok(Self { runtime: handle, _closed: guard })
    }

    /// Renews a lease until `closed` is cancelled. Cancels `lost` when the lease ran out, tells the ledger of runs that were
    /// cancelled, and has the slots make room for what must be executed alone.
    pub(super) fn keep(&self, kept: Leased, start: Start, closed: CancellationToken) {
        self.runtime.spawn(needed(kept.broken.clone(), async move {
            let lost = kept.lost.clone();
            tokio::select! {
                () = closed.cancelled() => {}
                () = renew(&kept, start) => lost.cancel(),
            }
        }));
    }
}

/// A lease, and what learns about it.
pub(super) struct Leased {
    pub(super) store: Arc<dyn WorkerStore>,
    pub(super) worker: String,
    pub(super) lease: Duration,
    pub(super) ledger: Arc<Ledger>,
    pub(super) slots: Arc<Slots>,
    pub(super) outages: Outages,
    pub(super) lost: CancellationToken,
    pub(super) broken: CancellationToken,
}

/// Returns when the lease is lost.
async fn renew(kept: &Leased, start: Start) {
    let Leased { store, worker, lease, ledger, slots, outages, .. } = kept;
    let (store, lease) = (&**store, *lease);
    let mut every = lease / 3;
    let mut watch = outages.watch("lease", LEASE);
    let mut connection = connect(store, worker, lease, &mut watch).await;
    if start.connected.send(()).is_err() || start.registered.await.is_err() {
        return;
    }
    loop {
        match heartbeat(&mut *connection, ledger).await {
            Ok(Heartbeat::Lost) => return,
            Ok(Heartbeat::Renewed { cancelled, drain }) => {
                for run in &cancelled {
                    ledger.cancel(run);
                }
                slots.drain(drain);
                watch.fine();
                let since = Instant::now();
                if tokio::time::timeout(every, connection.closed()).await.is_ok() {
                    every = oftener(every, since.elapsed());
                    // Something may close each connection that it has just accepted.
                    tokio::time::sleep(PAUSE.saturating_sub(since.elapsed())).await;
                    connection = connect(store, worker, lease, &mut watch).await;
                }
            }
            Err(error) => {
                watch.failed(&error);
                watch.wait().await;
                // A refusal is no reason to hang up: the worker would count as dead.
                if error.concerns_connection() {
                    connection = connect(store, worker, lease, &mut watch).await;
                }
            }
        }
    }
}

/// A worker that executes nothing needs no news.
async fn heartbeat(connection: &mut dyn Lease, ledger: &Ledger) -> stepfleet_shared::Result<Heartbeat> {
    if !ledger.is_idle() {
        return connection.heartbeat().await;
    }
    let none = Heartbeat::Renewed { cancelled: Vec::new(), drain: false };
    Ok(if connection.heartbeat_idle().await? { none } else { Heartbeat::Lost })
}

async fn connect(store: &dyn WorkerStore, worker: &str, lease: Duration, watch: &mut Watch) -> Box<dyn Lease> {
    loop {
        match store.lease(worker, lease).await {
            Ok(connection) => return connection,
            Err(error) => watch.failed(&error),
        }
        watch.wait().await;
    }
}
