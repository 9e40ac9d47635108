//! Slots: each executes one step after the other, as long as its commits bring new ones along.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stepfleet::step::{Claimed, Next, Refill};
use tokio::sync::Notify;

use super::commit::Committed;
use super::execute::Attempted;
use super::session::Session;
use super::{commit, execute};
use crate::context::Core;

/// No more than so many slots are filled by one call.
const MOST_CLAIMED: usize = 64;
/// A run keeps a slot for so many steps in a row, or for so long, while others wait.
const MOST_IN_A_ROW: u32 = 100;
const LONGEST_ROW: Duration = Duration::from_millis(250);

/// The slots of a worker that execute nothing now.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    free: Mutex<Vec<u32>>,
    freed: Notify,
    /// Steps may end, and none begin, until all slots are free.
    draining: AtomicBool,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let (numbers, freed, draining) =
            (u32::try_from(count).unwrap_or(u32::MAX), Notify::new(), AtomicBool::default());
        Self { count, free: Mutex::new((0..numbers).rev().collect()), freed, draining }
    }

    /// All that are free, but no more than one call should fill, and whether nothing is executed; waits until there is one, or
    /// for all of them where the worker makes room.
    pub(super) async fn some_free(self: &Arc<Self>) -> (Vec<Slot>, bool) {
        loop {
            // Made before the look: what is freed in between counts too.
            let freed = self.freed.notified();
            let (free, are_all) = self.take_free();
            if !free.is_empty() {
                return (free, are_all);
            }
            freed.await;
        }
    }

    fn take_free(self: &Arc<Self>) -> (Vec<Slot>, bool) {
        let mut free = self.free();
        let are_all = free.len() == self.count;
        if self.is_draining() && !are_all {
            return (Vec::new(), false);
        }
        let rest = free.len().saturating_sub(MOST_CLAIMED);
        let slots = free.split_off(rest).into_iter().rev().map(|number| Slot { number, slots: self.clone() });
        (slots.collect(), are_all)
    }

    /// Whether the worker is to make room for a step that must be executed alone.
    pub(super) fn drain(&self, draining: bool) {
        if self.draining.swap(draining, Ordering::Relaxed) && !draining {
            self.freed.notify_one();
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.slots.free().push(self.number);
        self.slots.freed.notify_one();
    }
}

/// Has each claimed step executed in its slot, and frees the other slots.
pub(super) fn fill(session: &Arc<Session>, slots: Vec<Slot>, claimed: Vec<Claimed>) {
    let mut claimed: Vec<Option<Claimed>> = claimed.into_iter().map(Some).collect();
    for slot in slots {
        let is_here = |step: &&mut Option<Claimed>| step.as_ref().is_some_and(|step| step.fence.slot == slot.number);
        match claimed.iter_mut().find(is_here).and_then(Option::take) {
            Some(step) => {
                session.tasks.spawn(keep_going(session.clone(), slot, step));
            }
            None => slot.free(),
        }
    }
}

/// Has a step executed while nothing else is; returns when it has ended.
pub(super) async fn work_alone(session: &Arc<Session>, slots: Vec<Slot>, claimed: Vec<Claimed>) {
    let (mut slots, mut claimed) = (slots, claimed);
    let at = |slot: &Slot| claimed.first().is_some_and(|step| step.fence.slot == slot.number);
    let taken = slots.iter().position(at).map(|at| slots.swap_remove(at));
    slots.into_iter().for_each(Slot::free);
    if let (Some(slot), Some(step)) = (taken, claimed.pop()) {
        tracing::warn!(
            run = step.fence.run,
            step = step.step,
            "it was among what the last workers that executed it died with: it is executed alone"
        );
        // It goes on where the session is closing.
        let _ = session.tasks.spawn(keep_going(session.clone(), slot, step)).await;
    }
}

async fn keep_going(session: Arc<Session>, slot: Slot, first: Claimed) {
    let (mut step, mut row) = (Arc::new(first), Row::new());
    session.serves(&step);
    loop {
        let ends = session.is_closing() || step.alone || session.slots.is_draining();
        let refill = Refill { next: row.next(ends), after: session.served_last() };
        let following = match work(&session, &step, &refill).await {
            Worked::Ended(following) => following,
            Worked::Dropped => None,
            Worked::Lost => return,
        };
        let Some(following) = following else { break };
        let is_same_run = following.fence.run == step.fence.run;
        row.count(is_same_run);
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
            () if self.steps >= MOST_IN_A_ROW || self.since.elapsed() >= LONGEST_ROW => Next::Others,
            () => Next::Following,
        }
    }

    fn count(&mut self, is_same_run: bool) {
        if is_same_run && self.steps < MOST_IN_A_ROW && self.since.elapsed() < LONGEST_ROW {
            self.steps += 1;
        } else {
            *self = Self::new();
        }
    }
}

/// What became of a step that was held.
pub(super) enum Worked {
    /// Its attempt has ended, and its slot has this one now.
    Ended(Option<Box<Claimed>>),
    /// It was given back: its run, or the fan-out that it belongs to, has ended.
    Dropped,
    /// The lease is lost, and all holds with it.
    Lost,
}

/// Executes a step and commits it, as often as others change what it had read.
pub(super) async fn work(session: &Session, step: &Arc<Claimed>, refill: &Refill) -> Worked {
    let core = execute::core(session, step);
    loop {
        let Some(attempted) = execute(session, step, core.clone()).await else { return Worked::Lost };
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

/// Reads the context anew, for a body that is to run again within its attempt. None where the lease is lost.
async fn begin_again(session: &Session, core: &Core) -> Option<()> {
    let reach = &core.reach;
    session.lost.run_until_cancelled(core.calm_down()).await?;
    loop {
        let read = reach.persist(|_| reach.store.context(&reach.fence.run));
        match session.lost.run_until_cancelled(read).await? {
            Ok(context) => {
                core.begin_again(context);
                return Some(());
            }
            Err(error) => tracing::error!(run = reach.fence.run, %error, "the context cannot be read; trying on"),
        }
        session.lost.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
    }
}

/// One attempt at a step that is held; nothing where it was dropped, as its run was cancelled. None where the lease is lost.
async fn execute(session: &Session, step: &Arc<Claimed>, core: Arc<Core>) -> Option<Option<Attempted>> {
    let stop = session.ledger.stop(&step.fence);
    let attempt = stop.run_until_cancelled(execute::attempt(session, step, core));
    let attempted = session.lost.run_until_cancelled(attempt).await?;
    if attempted.is_none() {
        tracing::info!(
            run = step.fence.run,
            step = step.step,
            "the run, or the fan-out that the step belongs to, has ended: the step is dropped"
        );
        session.ledger.ended(&step.fence);
        // At once, so that what the fleet is told to be held is so; `reconcile` would do it later.
        let release = session.store.release(&session.id, std::slice::from_ref(&step.fence));
        let _ = session.lost.run_until_cancelled(release).await;
    }
    Some(attempted)
}
