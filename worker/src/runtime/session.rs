//! One life of a worker in the fleet: registered under an id of its own, until it is told to stop or has lost its lease.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all, select_all, try_join_all};
use stepfleet::names::QueueName;
use stepfleet::step::{CallId, Claimed};
use stepfleet::store::{Introduction, WorkerStore};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::claim::Wakes;
use super::lease::Kept;
use super::ledger::Ledger;
use super::slots::{Pool, Slots};
use super::{Colocated, Config, WorkerError, claim, host, lease, reconcile};
use crate::workflow::Served;

pub(super) struct Session {
    pub(super) id: String,
    pub(super) store: Arc<dyn WorkerStore>,
    pub(super) served: Arc<HashMap<QueueName, Served>>,
    /// Take no more: told to stop, or lost.
    pub(super) closing: CancellationToken,
    /// The lease is lost, and all holds with it: what still runs is in vain.
    pub(super) lost: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) slots: Arc<Slots>,
    queues: Vec<QueueName>,
    /// The queue that was served last, where there are several.
    served_last: Mutex<Option<QueueName>>,
    pub(super) ledger: Arc<Ledger>,
}

/// What the lives of a worker share.
pub(super) struct Common {
    pub(super) config: Config,
    pub(super) served: Arc<HashMap<QueueName, Served>>,
    pub(super) slots: Arc<Pool>,
    pub(super) leases: lease::Thread,
    /// Take no more, let steps end.
    pub(super) stop: CancellationToken,
    /// Do not wait for steps to end.
    pub(super) now: CancellationToken,
}

/// Registers in partitions that share a server under one id, works until told to stop or until a lease is lost, and hands back.
pub(super) async fn live(colocated: &Colocated, id: &str, common: &Common) -> Result<(), WorkerError> {
    let (config, stop) = (&common.config, &common.stop);
    let closing = stop.child_token();
    let session = |store: &Arc<dyn WorkerStore>| {
        let ends = (closing.clone(), CancellationToken::new());
        Arc::new(Session::new(store, id.to_owned(), &common.served, &common.slots, ends))
    };
    let sessions: Vec<_> = colocated.stores().iter().map(session).collect();
    let closed = CancellationToken::new();
    let _close = closed.clone().drop_guard();
    let entered = try_join_all(sessions.iter().map(|session| session.enter(common, &closed))).await?;
    if entered.contains(&false) {
        return Ok(());
    }
    let serves = sessions.first().map_or(&[][..], |session| &session.queues);
    let (partitions, concurrency) = (sessions.len(), config.concurrency);
    tracing::info!(worker = id, ?serves, concurrency, partitions, "ready");
    let wakes = Wakes::new(&sessions);
    let _waking = AbortOnDropHandle::new(tokio::spawn(wakes.clone().keep(colocated.clone())));
    let mut claiming = Vec::new();
    for session in &sessions {
        let task = session.tasks.spawn(claim::keep_claiming(session.clone(), wakes.clone()));
        claiming.push(task.abort_handle());
        session.tasks.spawn(reconcile::keep(session.clone(), config.lease));
    }
    // Partitions of one server are lost together, and the worker needs a new id in all of them.
    let lost = select_all(sessions.iter().map(|session| Box::pin(session.lost.cancelled())));
    tokio::select! {
        () = stop.cancelled() => drop(join_all(sessions.iter().map(|s| s.drain(config.drain, &common.now))).await),
        _ = lost => {
            for session in &sessions {
                session.lost.cancel();
            }
            tracing::warn!(worker = id, "the lease ran out: others have taken over; beginning anew");
            closing.cancel();
            claiming.iter().for_each(AbortHandle::abort);
            drop(join_all(sessions.iter().map(|session| session.give_up())).await);
        }
    }
    for session in &sessions {
        session.slots.close();
    }
    Ok(())
}

impl Session {
    pub(super) fn new(
        store: &Arc<dyn WorkerStore>,
        id: String,
        served: &Arc<HashMap<QueueName, Served>>,
        slots: &Arc<Pool>,
        (closing, lost): (CancellationToken, CancellationToken),
    ) -> Self {
        let mut queues: Vec<_> = served.keys().cloned().collect();
        queues.sort();
        Self {
            id,
            store: store.clone(),
            served: served.clone(),
            closing,
            lost,
            tasks: TaskTracker::new(),
            slots: Arc::new(Slots::new(slots)),
            queues,
            served_last: Mutex::default(),
            ledger: Arc::default(),
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
        let kept = Kept {
            store: self.store.clone(),
            worker: self.id.clone(),
            lease,
            ledger: self.ledger.clone(),
            slots: self.slots.clone(),
            lost: self.lost.clone(),
        };
        common.leases.keep(kept, lease::Start { connected, registered }, closed.clone());
        let register = || self.store.register(&introduction, lease);
        if self.unless_closing(is_connected).await.is_none() || !self.answered(register).await? {
            return Ok(false);
        }
        // The thread waits for this as long as the session lives.
        let _ = go.send(());
        Ok(true)
    }

    /// Waits for Redis, and repeats the call until it is answered. False when told to stop first; an error when Redis
    /// refuses.
    async fn answered<'a>(
        &'a self,
        send: impl Fn() -> BoxFuture<'a, stepfleet::Result<()>>,
    ) -> Result<bool, WorkerError> {
        let mut failing = false;
        loop {
            match send().await {
                Ok(()) => return Ok(true),
                Err(error) if !error.is_unavailable() => return Err(error.into()),
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "waiting for Redis");
                }
                Err(_) => {}
            }
            if self.unless_closing(tokio::time::sleep(Duration::from_millis(200))).await.is_none() {
                return Ok(false);
            }
        }
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

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// None when closing came first.
    pub(super) async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.closing.run_until_cancelled(work).await
    }

    /// Makes a call, and repeats it until Redis has answered, since it may have taken effect; None when the lease is
    /// lost first. A refusal that waiting may mend (out of memory) is no answer. `took` finds what the call took.
    pub(super) async fn persist<'a, T>(
        &'a self,
        send: impl FnMut(CallId) -> BoxFuture<'a, stepfleet::Result<T>>,
        took: impl FnOnce(&T) -> &[Claimed],
    ) -> Option<stepfleet::Result<T>> {
        let number = self.ledger.open();
        let answer = self.repeat(CallId { worker: self.id.clone(), number, again: false }, send).await?;
        self.ledger.answered(number, answer.as_ref().map_or(&[], took));
        Some(answer)
    }

    async fn repeat<'a, T>(
        &'a self,
        mut call: CallId,
        mut send: impl FnMut(CallId) -> BoxFuture<'a, stepfleet::Result<T>>,
    ) -> Option<stepfleet::Result<T>> {
        let mut pause = Duration::from_millis(10);
        loop {
            match send(call.clone()).await {
                Err(error) if error.is_passing() => {
                    if !call.again {
                        tracing::warn!(worker = self.id, %error, "a call is repeated until Redis answers");
                    }
                    call.again = true;
                }
                answer => return Some(answer),
            }
            let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            self.lost.run_until_cancelled(tokio::time::sleep(wait)).await?;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Lets steps end, hands back the rest, and leaves the fleet.
    async fn drain(&self, limit: Duration, now: &CancellationToken) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = tokio::time::sleep(limit) => tracing::warn!(worker = self.id, "steps are still running: handing them back"),
            () = now.cancelled() => {}
            () = self.lost.cancelled() => return,
        }
        // What still runs can commit nothing once it is handed back.
        self.lost.cancel();
        let mut left = false;
        for _ in 0..50 {
            match self.store.deregister(&self.id).await {
                Ok(true) => {
                    left = true;
                    break;
                }
                Ok(false) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        if !left {
            tracing::warn!(worker = self.id, "could not hand back in time; the lease will run out instead");
        }
    }

    /// Everything that this session held is lost: stop it.
    async fn give_up(&self) {
        self.tasks.close();
        // Steps that block a thread cannot be stopped; they end on their own and commit nothing.
        let _ = tokio::time::timeout(Duration::from_millis(500), self.tasks.wait()).await;
    }
}
