//! Slots: each executes one step after the other, as long as its commits bring new ones along.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use stepfleet_shared::backoff::{BODY, REFUSED};
use stepfleet_shared::durability::Epoch;
use stepfleet_shared::log;
use stepfleet_shared::step::{Claimed, Fence, Next, Refill};
use tokio::sync::Notify;
use tracing::Instrument;

use super::commit::Committed;
use super::execute::{Attempted, Body, panic_message};
use super::metrics::Outcome;
use super::session::{Session, needed};
use super::{commit, execute, failure};
use crate::context::Core;
use crate::error::Error;

/// No more than this many slots are filled by one call.
const MOST_CLAIMED: usize = 64;
/// A run keeps a slot for this many steps in a row, or for this long, while others wait.
const MOST_IN_A_ROW: u32 = 100;
const LONGEST_ROW: Duration = Duration::from_millis(250);

/// The slots of a worker that execute nothing now; of all its sessions.
#[derive(Debug)]
pub(super) struct Pool {
    count: usize,
    free: Mutex<Vec<u32>>,
    freed: Notify,
    /// How many sessions wait for a slot.
    waiting: AtomicUsize,
    /// How many make room for a step that is to be executed alone, or execute one. Meanwhile steps may end, and none begin, until
    /// all slots are free.
    draining: AtomicUsize,
}

impl Pool {
    pub(super) fn new(count: usize) -> Self {
        let numbers = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            count,
            free: Mutex::new((0..numbers).rev().collect()),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            draining: AtomicUsize::new(0),
        }
    }

    /// How many slots there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many are not free.
    pub(super) fn busy(&self) -> usize {
        self.count.saturating_sub(self.free().len())
    }

    fn begin_drain(&self) {
        self.draining.fetch_add(1, Ordering::SeqCst);
    }

    fn end_drain(&self) {
        self.draining.fetch_sub(1, Ordering::SeqCst);
        self.freed.notify_waiters();
    }

    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slots as one session sees them.
#[derive(Debug)]
pub(super) struct Slots {
    pool: Arc<Pool>,
    /// Those that the session has; None once it has ended.
    taken: Mutex<Option<BTreeSet<u32>>>,
    /// Whether the session waits for one.
    waits: AtomicBool,
    /// Whether the session makes room.
    drains: AtomicBool,
}

impl Slots {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        let (taken, waits, drains) = (Mutex::new(Some(BTreeSet::new())), AtomicBool::default(), AtomicBool::default());
        Self { pool: pool.clone(), taken, waits, drains }
    }

    /// All that are free, but no more than one call should fill, and whether nothing is executed; waits until there is one, or
    /// for all of them if the worker makes room. For one caller at a time.
    pub(super) async fn some_free(self: &Arc<Self>) -> (Vec<Slot>, bool) {
        let mut wait = None;
        loop {
            // Made before the look: what is freed in between counts too.
            let freed = self.pool.freed.notified();
            let (free, are_all) = self.take_free();
            if !free.is_empty() {
                return (free, are_all);
            }
            wait.get_or_insert_with(|| Waiting::of(self));
            freed.await;
        }
    }

    /// Whether one is free now.
    pub(super) fn has_free(&self) -> bool {
        !self.pool.free().is_empty()
    }

    /// Whether another session waits for a slot.
    fn others_wait(&self) -> bool {
        self.pool.waiting.load(Ordering::Relaxed) > usize::from(self.waits.load(Ordering::Relaxed))
    }

    fn take_free(self: &Arc<Self>) -> (Vec<Slot>, bool) {
        let mut taken = self.taken();
        let Some(taken) = taken.as_mut() else { return (Vec::new(), false) };
        let mut free = self.pool.free();
        let are_all = free.len() == self.pool.count;
        // Room is made for the session that asked for it.
        if self.is_draining() && !(are_all && self.drains.load(Ordering::SeqCst)) {
            return (Vec::new(), false);
        }
        let rest = free.len().saturating_sub(MOST_CLAIMED);
        let free = free.split_off(rest);
        taken.extend(&free);
        (free.into_iter().rev().map(|number| Slot { number, slots: self.clone() }).collect(), are_all)
    }

    /// Whether the session is to make room for a step that must be executed alone.
    pub(super) fn drain(&self, draining: bool) {
        match (self.drains.swap(draining, Ordering::SeqCst), draining) {
            (false, true) => self.pool.begin_drain(),
            (true, false) => self.pool.end_drain(),
            _ => {}
        }
    }

    fn is_draining(&self) -> bool {
        self.pool.draining.load(Ordering::SeqCst) > 0
    }

    /// The session has ended, and all that it held is lost or handed back: its slots are free for others.
    pub(super) fn close(&self) {
        self.drain(false);
        let taken = self.taken().take().unwrap_or_default();
        self.pool.free().extend(&taken);
        for _ in &taken {
            self.pool.freed.notify_one();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Option<BTreeSet<u32>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing begins beside a step that is executed alone, until this is dropped.
struct Alone(Arc<Pool>);

impl Alone {
    fn of(slots: &Slots) -> Self {
        slots.pool.begin_drain();
        Self(slots.pool.clone())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.end_drain();
    }
}

/// A session that waits for a slot.
struct Waiting<'a>(&'a Slots);

impl<'a> Waiting<'a> {
    fn of(slots: &'a Slots) -> Self {
        slots.waits.store(true, Ordering::Relaxed);
        slots.pool.waiting.fetch_add(1, Ordering::Relaxed);
        Self(slots)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pool.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.waits.store(false, Ordering::Relaxed);
    }
}

/// A slot. One that is dropped without being freed is used no more: what it holds may not have been given up.
#[derive(Debug)]
pub(super) struct Slot {
    number: u32,
    slots: Arc<Slots>,
}

impl Slot {
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    fn free(self) {
        // If the session has ended, it is free already.
        if self.slots.taken().as_mut().is_some_and(|taken| taken.remove(&self.number)) {
            self.slots.pool.free().push(self.number);
            self.slots.pool.freed.notify_one();
        }
    }
}

/// Has each claimed step executed in its slot, and frees the other slots.
pub(super) fn fill(session: &Arc<Session>, slots: Vec<Slot>, claimed: Vec<Claimed>) {
    let mut claimed: Vec<Option<Claimed>> = claimed.into_iter().map(Some).collect();
    for slot in slots {
        let is_here = |step: &&mut Option<Claimed>| step.as_ref().is_some_and(|step| step.fence.slot == slot.number);
        match claimed.iter_mut().find(is_here).and_then(Option::take) {
            Some(step) => {
                session.tasks.spawn(needed(session.broken.clone(), keep_going(session.clone(), slot, step)));
            }
            None => slot.free(),
        }
    }
}

/// Has a step executed while nothing else is; returns when it has ended.
pub(super) async fn work_alone(session: &Arc<Session>, slots: Vec<Slot>, claimed: Vec<Claimed>) {
    let _alone = Alone::of(&session.slots);
    let (mut slots, mut claimed) = (slots, claimed);
    let at = |slot: &Slot| claimed.first().is_some_and(|step| step.fence.slot == slot.number);
    let taken = slots.iter().position(at).map(|at| slots.swap_remove(at));
    slots.into_iter().for_each(Slot::free);
    if let (Some(slot), Some(step)) = (taken, claimed.pop()) {
        log::warn!(
            run = step.fence.run,
            step = step.step,
            "the step was being executed when its last workers died: it is executed alone"
        );
        // If the session is closing, the attempt goes on.
        let going = needed(session.broken.clone(), keep_going(session.clone(), slot, step));
        let _ = session.tasks.spawn(going).await;
    }
}

async fn keep_going(session: Arc<Session>, slot: Slot, first: Claimed) {
    let (mut step, mut row, mut stay) = (Arc::new(first), Row::new(), Row::new());
    session.serves(&step);
    loop {
        // The other partitions' sessions get their share of the slots.
        let yields = stay.is_long() && session.slots.others_wait();
        let ends = session.is_closing() || step.alone || session.slots.is_draining() || yields;
        let refill = Refill { next: row.next(ends), after: session.served_last() };
        let following = match survive(&session, &step, &refill).await {
            Worked::Ended(following) => following,
            Worked::Dropped => None,
            Worked::Lost => {
                session.count(&step, if session.is_released() { Outcome::Released } else { Outcome::Lost });
                return;
            }
        };
        let Some(following) = following else { break };
        let is_same_run = following.fence.run == step.fence.run;
        row.count(is_same_run);
        stay.steps = stay.steps.saturating_add(1);
        step = Arc::from(following);
        if !is_same_run {
            session.serves(&step);
        }
    }
    slot.free();
}

/// How long one run has kept a slot.
struct Row {
    steps: u32,
    since: Instant,
}

impl Row {
    fn new() -> Self {
        Self { steps: 0, since: Instant::now() }
    }

    fn next(&self, ends: bool) -> Next {
        match () {
            () if ends => Next::Nothing,
            () if self.is_long() => Next::Others,
            () => Next::Following,
        }
    }

    fn is_long(&self) -> bool {
        self.steps >= MOST_IN_A_ROW || self.since.elapsed() >= LONGEST_ROW
    }

    fn count(&mut self, is_same_run: bool) {
        if is_same_run && !self.is_long() {
            self.steps += 1;
        } else {
            *self = Self::new();
        }
    }
}

/// The outcome of a step that was held.
pub(super) enum Worked {
    /// Its attempt has ended, and its slot has this one now.
    Ended(Option<Box<Claimed>>),
    /// It was given back: its run, or the fan-out that it belongs to, has ended.
    Dropped,
    /// The lease is lost, and all holds with it.
    Lost,
}

/// Like [`work`]. If the worker's own code panics, not the step's, the attempt has failed: nothing else would release
/// the hold.
async fn survive(session: &Session, step: &Arc<Claimed>, refill: &Refill) -> Worked {
    let panic = match AssertUnwindSafe(work(session, step, refill)).catch_unwind().await {
        Ok(worked) => return worked,
        Err(panic) => panic,
    };
    let error = Error::msg(format!("the worker itself panicked; please report it: {}", panic_message(&*panic)));
    match failure::after_panic(session, step, &error, refill).await {
        Some(claimed) => Worked::Ended(claimed.into_iter().next().map(Box::new)),
        None => Worked::Lost,
    }
}

/// Executes a step and commits it, as often as others change what it had read. Log lines of that, also those of the step's own code, tell
/// which attempt they are about.
pub(super) async fn work(session: &Session, step: &Arc<Claimed>, refill: &Refill) -> Worked {
    let Fence { run, seq, attempt, .. } = &step.fence;
    // At the highest level, so that the warnings of a worker that logs nothing else still have it.
    let span = tracing::error_span!(
        "step",
        run,
        workflow = step.workflow,
        step = step.step,
        seq,
        attempt,
        worker = session.id
    );
    execute_and_commit(session, step, refill).instrument(span).await
}

async fn execute_and_commit(session: &Session, step: &Arc<Claimed>, refill: &Refill) -> Worked {
    let confirmed = confirm(session, step).await;
    if let Some(metrics) = &session.metrics {
        metrics.began(step);
    }
    let epoch = match confirmed {
        Ok(epoch) => epoch,
        Err(Unconfirmed::Lost) => return Worked::Lost,
        Err(Unconfirmed::Dropped) => {
            hand_back(session, step).await;
            return Worked::Dropped;
        }
        Err(Unconfirmed::Refused(error)) => {
            let core = execute::core(session, step);
            let ended = failure::settle(session, step, &core, &error, refill).await;
            return ended.map_or(Worked::Lost, |claimed| Worked::Ended(claimed.into_iter().next().map(Box::new)));
        }
    };
    let kept = session.kept.take(step);
    if step.kept && kept.is_none() {
        // It made room for others. The next worker gets the whole journal.
        hand_back(session, step).await;
        return Worked::Dropped;
    }
    let (step, core, mut body) = match kept {
        Some(kept) => kept.go_on(session, step),
        None => (step.clone(), execute::core(session, step), None),
    };
    let step = &step;
    core.reach.confirmed.by(epoch);
    loop {
        let Some(attempted) = execute(session, step, core.clone(), body.take()).await else { return Worked::Lost };
        let Some(attempted) = attempted else { return Worked::Dropped };
        match commit::commit(session, step, attempted, refill).await {
            Some(Committed::Stands(claimed)) => return Worked::Ended(claimed.into_iter().next().map(Box::new)),
            Some(Committed::Conflict) => {}
            None => return Worked::Lost,
        }
        if begin_again(session, &core).await.is_none() {
            return Worked::Lost;
        }
    }
}

/// Why a step is not executed.
enum Unconfirmed {
    /// The lease is lost.
    Lost,
    /// Its run has ended, the worker must stop, or Redis has lost what led to it.
    Dropped,
    /// The server cannot make it as safe as the run asks for.
    Refused(Error),
}

/// Returns once all that led to the step is as safe as its run asks for.
async fn confirm(session: &Session, step: &Claimed) -> Result<Epoch, Unconfirmed> {
    if !step.durability.waits() {
        return Ok(Epoch::default());
    }
    let confirm = |_| -> BoxFuture<'_, _> { Box::pin(session.store.confirm(step.durability, &step.fence)) };
    let confirmed = session.outages.outlast(("durability", BODY), stepfleet_shared::Error::is_passing, confirm);
    let stop = session.ledger.stop(&step.fence);
    let confirmed = session.unless_closing(stop.run_until_cancelled(confirmed));
    match session.lost.run_until_cancelled(confirmed).await.ok_or(Unconfirmed::Lost)?.flatten() {
        Some(Ok(Some(epoch))) => Ok(epoch),
        Some(Err(error)) => Err(Unconfirmed::Refused(Error::terminal(format!(
            "the run asks for durability {}, and {error}",
            step.durability
        )))),
        Some(Ok(None)) | None => Err(Unconfirmed::Dropped),
    }
}

/// Reads the context again, for a body that is to run again within its attempt. None if the lease is lost.
async fn begin_again(session: &Session, core: &Core) -> Option<()> {
    let reach = &core.reach;
    session.lost.run_until_cancelled(core.settle_records()).await?;
    session.lost.run_until_cancelled(core.calm_down()).await?;
    let mut watch = session.outages.watch("context", REFUSED);
    loop {
        let call = ("context", BODY);
        let read =
            session.outages.outlast(call, stepfleet_shared::Error::is_passing, |_| reach.store.context(&reach.run));
        match session.lost.run_until_cancelled(read).await? {
            Ok(context) => {
                core.begin_again(context);
                return Some(());
            }
            Err(error) => watch.failed(&error),
        }
        session.lost.run_until_cancelled(watch.wait()).await?;
    }
}

/// One attempt at a held step; nothing if it was dropped because its run was cancelled. None if the lease is lost.
async fn execute(
    session: &Session,
    step: &Arc<Claimed>,
    core: Arc<Core>,
    body: Option<Box<Body>>,
) -> Option<Option<Attempted>> {
    let stop = session.ledger.stop(&step.fence);
    let attempt = stop.run_until_cancelled(execute::attempt(session, step, core, body));
    let began = session.metrics.as_ref().map(|_| Instant::now());
    let attempted = session.lost.run_until_cancelled(attempt).await?;
    if let Some((metrics, began)) = session.metrics.as_ref().zip(began) {
        metrics.ran(step, began.elapsed());
    }
    if attempted.is_none() {
        log::info!("the run, or the fan-out that the step belongs to, has ended: the step is dropped");
        hand_back(session, step).await;
    }
    Some(attempted)
}

/// The step's attempt ends as dropped, and others may have it.
async fn hand_back(session: &Session, step: &Claimed) {
    session.count(step, Outcome::Dropped);
    release(session, step).await;
}

/// At once, so that what the fleet is told to be held is so; `reconcile` would do it later, and take it for a step that was committed.
pub(super) async fn release(session: &Session, step: &Claimed) {
    session.ledger.ended(&step.fence);
    let fences = std::slice::from_ref(&step.fence);
    let _ = session.persist(|_| Box::pin(session.store.release(&session.id, fences)), |_| &[]).await;
}
