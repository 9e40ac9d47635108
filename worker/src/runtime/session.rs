//! One life of a worker in the fleet: registered under a unique id, until it must stop or has lost its lease.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, select_all, try_join_all};
use stepfleet_shared::Partitions;
use stepfleet_shared::backoff::{Backoff, OPENING, PARTING, REFUSED, TRANSITION};
use stepfleet_shared::log;
use stepfleet_shared::names::QueueName;
use stepfleet_shared::outage::{Outages, Watch};
use stepfleet_shared::step::{CallId, Claimed};
use stepfleet_shared::store::{Introduction, WorkerStore};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::claim::Wakes;
use super::execute::panic_message;
use super::kept::Kept;
use super::lease::Leased;
use super::ledger::Ledger;
use super::metrics::{Metrics, Outcome};
use super::slots::{Pool, Slots};
use super::{Colocated, Config, HAND_BACK, WorkerError, claim, host, lease, reconcile};
use crate::workflow::Served;

pub(super) struct Session {
    pub(super) id: String,
    pub(super) store: Arc<dyn WorkerStore>,
    pub(super) partitions: Partitions<dyn WorkerStore>,
    pub(super) served: Arc<HashMap<QueueName, Served>>,
    /// Takes no new steps: it was told to stop, or the lease is lost.
    pub(super) closing: CancellationToken,
    /// The lease is lost, and all holds with it: what still runs cannot commit.
    pub(super) lost: CancellationToken,
    /// A task of this life has panicked: `lost` goes with it.
    pub(super) broken: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) slots: Arc<Slots>,
    queues: Vec<QueueName>,
    /// The queue that was served last, if there are several.
    served_last: Mutex<Option<QueueName>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) outages: Outages,
    pub(super) claims: Claims,
    pub(super) kept: Kept,
    /// In tests: durable functions may not await futures that are not the SDK's.
    pub(super) refuses_foreign: bool,
    /// None unless there is an address to show them at.
    pub(super) metrics: Option<Arc<Metrics>>,
    /// Its executing steps are handed back, and not lost.
    released: AtomicBool,
}

/// Whether claims are refused for a reason that is not the server's.
pub(super) struct Claims(Mutex<Watch>);

impl Claims {
    /// How long to pause before the next claim.
    pub(super) fn refused(&self, error: &stepfleet_shared::Error) -> Duration {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch.failed(error);
        watch.pause()
    }

    pub(super) fn accepted(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fine();
    }
}

/// What the lives of a worker share.
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) partitions: Partitions<dyn WorkerStore>,
    pub(super) served: Arc<HashMap<QueueName, Served>>,
    pub(super) slots: Arc<Pool>,
    pub(super) leases: lease::Thread,
    pub(super) outages: Outages,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) arrivals: Arrivals,
    /// Take no more, let steps end.
    pub(super) stop: CancellationToken,
    /// Do not wait for steps to end.
    pub(super) now: CancellationToken,
}

/// Reports once that the worker is ready, when it is ready on all servers.
pub(super) struct Arrivals {
    outstanding: AtomicUsize,
    /// Where Redis is.
    address: Option<String>,
}

impl Arrivals {
    pub(super) fn of(lives: usize, address: Option<String>) -> Self {
        Self { outstanding: AtomicUsize::new(lives), address }
    }

    fn arrived(&self, id: &str, queues: &[QueueName], common: &Common) {
        let (concurrency, partitions) = (common.config.concurrency, common.partitions.count());
        let less_one = |count: usize| count.checked_sub(1);
        match self.outstanding.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less_one) {
            Ok(1) => {
                let serves: Vec<_> = queues.iter().map(ToString::to_string).collect();
                let at = self.address.as_ref().map_or_else(String::new, |address| format!(", {address}"));
                log::info!(worker = id, concurrency, partitions, "ready, serves {}{at}", serves.join(", "));
            }
            Ok(_) => log::debug!(worker = id, "ready on one of the servers"),
            Err(_) => log::info!(worker = id, "ready again"),
        }
    }
}

/// Registers in partitions that share a server under one id, works until it must stop or a lease is lost, and hands back.
pub(super) async fn live(colocated: &Colocated, id: &str, common: &Common) -> Result<(), WorkerError> {
    let (config, stop) = (&common.config, &common.stop);
    let (closing, broken) = (stop.child_token(), CancellationToken::new());
    let session = |store: &Arc<dyn WorkerStore>| {
        let ends = (closing.clone(), broken.clone());
        let place = (store, &common.partitions);
        let session =
            Session::new(place, id.to_owned(), &common.served, &common.slots, &common.outages, ends, config.keeps);
        Arc::new(Session { metrics: common.metrics.clone(), ..session })
    };
    let sessions: Vec<_> = colocated.stores().iter().map(session).collect();
    let closed = CancellationToken::new();
    let _close = closed.clone().drop_guard();
    let entered = try_join_all(sessions.iter().map(|session| session.enter(common, &closed))).await?;
    if entered.contains(&false) {
        return Ok(());
    }
    let queues = sessions.first().map_or(&[][..], |session| &session.queues);
    common.arrivals.arrived(id, queues, common);
    let wakes = Wakes::new(&sessions);
    let waking = wakes.clone().keep(colocated.clone(), &common.outages);
    let _waking = AbortOnDropHandle::new(tokio::spawn(needed(broken.clone(), waking)));
    let mut claiming = Vec::new();
    for session in &sessions {
        let keep_claiming = claim::keep_claiming(session.clone(), wakes.clone());
        claiming.push(session.tasks.spawn(needed(broken.clone(), keep_claiming)).abort_handle());
        session.tasks.spawn(needed(broken.clone(), reconcile::keep(session.clone(), config.lease)));
    }
    // Partitions of one server are lost together, and the worker needs a new id in all of them.
    let lost = select_all(sessions.iter().map(|session| Box::pin(session.lost.cancelled())));
    tokio::select! {
        () = stop.cancelled() => drop(join_all(sessions.iter().map(|s| s.drain(config.drain, &common.now))).await),
        _ = lost => {
            for session in &sessions {
                session.lost.cancel();
            }
            if !broken.is_cancelled() {
                log::warn!(worker = id, "the lease ran out: others have taken over; registering again");
                if let Some(metrics) = &common.metrics {
                    metrics.lost_lease();
                }
            }
            closing.cancel();
            claiming.iter().for_each(AbortHandle::abort);
            drop(join_all(sessions.iter().map(|session| session.give_up(broken.is_cancelled()))).await);
        }
    }
    for session in &sessions {
        session.slots.close();
    }
    Ok(())
}

/// A task that a life needs. If it panics, the life is over, and the next one begins without anything of this one.
pub(super) async fn needed(broken: CancellationToken, task: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        broken.cancel();
        log::error!(
            panic = panic_message(&*panic),
            "a task of the worker panicked: please report it; registering again"
        );
    }
}

impl Session {
    pub(super) fn new(
        (store, partitions): (&Arc<dyn WorkerStore>, &Partitions<dyn WorkerStore>),
        id: String,
        served: &Arc<HashMap<QueueName, Served>>,
        slots: &Arc<Pool>,
        outages: &Outages,
        (closing, broken): (CancellationToken, CancellationToken),
        keeps: usize,
    ) -> Self {
        let outages = outages.within(&[store.namespace().partition()]);
        let mut queues: Vec<_> = served.keys().cloned().collect();
        queues.sort();
        Self {
            id,
            store: store.clone(),
            partitions: partitions.clone(),
            served: served.clone(),
            closing,
            lost: broken.child_token(),
            broken,
            tasks: TaskTracker::new(),
            slots: Arc::new(Slots::new(slots)),
            queues,
            served_last: Mutex::default(),
            ledger: Arc::default(),
            claims: Claims(Mutex::new(outages.watch("claim", REFUSED))),
            kept: Kept::new(keeps),
            outages,
            refuses_foreign: false,
            metrics: None,
            released: AtomicBool::new(false),
        }
    }

    pub(super) fn introduction(&self, config: &Config) -> Introduction {
        Introduction {
            id: self.id.clone(),
            host: host(),
            pid: std::process::id(),
            concurrency: config.concurrency,
            serves: self.served.values().map(|s| s.registration.clone()).collect(),
        }
    }

    /// Opens the lease's connection, and registers. False when told to stop first.
    async fn enter(&self, common: &Common, closed: &CancellationToken) -> Result<bool, WorkerError> {
        if !self.answered(|| self.store.open()).await? {
            return Ok(false);
        }
        let ((connected, is_connected), (go, registered)) = (oneshot::channel(), oneshot::channel());
        let (introduction, lease) = (self.introduction(&common.config), common.config.lease);
        let leased = Leased {
            store: self.store.clone(),
            worker: self.id.clone(),
            lease,
            ledger: self.ledger.clone(),
            slots: self.slots.clone(),
            outages: self.outages.clone(),
            lost: self.lost.clone(),
            broken: self.broken.clone(),
        };
        common.leases.keep(leased, lease::Start { connected, registered }, closed.clone());
        let register = || self.store.register(&introduction, lease);
        if self.unless_closing(is_connected).await.is_none() || !self.answered(register).await? {
            return Ok(false);
        }
        // The thread waits for this as long as the session lives.
        let _ = go.send(());
        Ok(true)
    }

    /// Makes a call, and repeats it while waiting may fix what is wrong. False when told to stop first; an error when
    /// Redis refuses.
    async fn answered<'a>(
        &'a self,
        send: impl Fn() -> BoxFuture<'a, stepfleet_shared::Result<()>>,
    ) -> Result<bool, WorkerError> {
        let call =
            self.outages
                .outlast(("registration", OPENING), stepfleet_shared::Error::is_worth_waiting_at_start, |_| send());
        Ok(self.unless_closing(call).await.transpose()?.is_some())
    }

    /// The queue that was served last: the next claim begins with the one after it, so that none starves.
    pub(super) fn served_last(&self) -> Option<QueueName> {
        if self.queues.len() < 2 {
            return None;
        }
        self.served_last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the queue of this step was served.
    pub(super) fn serves(&self, step: &Claimed) {
        if self.queues.len() > 1 {
            let queue = QueueName::new(&step.workflow, step.version);
            *self.served_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        }
    }

    /// An attempt has ended.
    pub(super) fn count(&self, step: &Claimed, outcome: Outcome) {
        if let Some(metrics) = &self.metrics {
            metrics.ended(step, outcome);
        }
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Relaxed)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// None when closing came first.
    pub(super) async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.closing.run_until_cancelled(work).await
    }

    /// Makes a call, and repeats it until Redis has answered, since it may have taken effect; None when the lease is
    /// lost first. A refusal that waiting may fix is no answer. `took` finds what the call took.
    pub(super) async fn persist<'a, T>(
        &'a self,
        mut send: impl FnMut(CallId) -> BoxFuture<'a, stepfleet_shared::Result<T>>,
        took: impl FnOnce(&T) -> &[Claimed],
    ) -> Option<stepfleet_shared::Result<T>> {
        let call = self.ledger.open();
        let number = call.number();
        let repeated = self.outages.outlast(("transition", TRANSITION), stepfleet_shared::Error::is_passing, |again| {
            send(CallId { worker: self.id.clone(), number, again })
        });
        let answer = self.lost.run_until_cancelled(repeated).await?;
        call.answered(answer.as_ref().map_or(&[], took));
        Some(answer)
    }

    /// Lets steps end, hands back the rest, and leaves the fleet.
    async fn drain(&self, limit: Duration, now: &CancellationToken) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(limit) => log::warn!(worker = self.id, "steps are still running: handing them back"),
            () = now.cancelled() => {}
            () = self.lost.cancelled() => return,
        }
        // What still runs can commit nothing once it is handed back.
        self.released.store(true, Ordering::Relaxed);
        self.lost.cancel();
        self.leave().await;
    }

    async fn leave(&self) {
        if tokio::time::timeout(HAND_BACK, self.hand_back()).await.is_err() {
            log::warn!(
                worker = self.id,
                "could not hand back the steps in time; they are free when the lease runs out"
            );
        }
    }

    /// Repeated until everything is handed back.
    async fn hand_back(&self) {
        let mut backoff = Backoff::new(PARTING);
        while !self.store.deregister(&self.id).await.unwrap_or_default() {
            backoff.wait().await;
        }
    }

    /// Everything that this session held is lost: stop it. `holds`: the store does not know that yet.
    async fn give_up(&self, holds: bool) {
        self.tasks.close();
        // Steps that block a thread cannot be stopped; they end on their own and commit nothing.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.tasks.wait()).await;
        if holds {
            // Or the steps would be counted a loss that is not theirs.
            self.leave().await;
        }
    }
}
