//! Slots: each executes one step after the other, as long as its commits bring new ones along.

use std::collections::VecDeque;
use std::sync::Arc;

use stepfleet::step::{Claim, Claimed};
use tokio::sync::OwnedSemaphorePermit;

use super::execute::Attempted;
use super::session::Session;
use super::{commit, execute};

/// Gives each claimed step a slot. Steps beyond the slots wait for the next free one; they are held and safe.
pub(super) fn fill(session: &Arc<Session>, slots: impl Iterator<Item = OwnedSemaphorePermit>, claimed: Vec<Claimed>) {
    let mut slots = slots;
    for step in claimed {
        let slot = slots.next();
        session.tasks.spawn(keep_going(session.clone(), slot, step));
    }
}

async fn keep_going(session: Arc<Session>, slot: Option<OwnedSemaphorePermit>, first: Claimed) {
    let slot = match slot {
        Some(slot) => slot,
        None => match session.next_slot().await {
            Some(slot) => slot,
            None => return,
        },
    };
    let mut steps = VecDeque::from([first]);
    while let Some(step) = steps.pop_front() {
        let Some(attempted) = execute(&session, &step).await else { return };
        // One commit brings work for this slot and for all that are free now.
        let extra = session.more_slots();
        let max = if session.is_closing() { 0 } else { 1 + extra.len() };
        let claim = Claim { max, queues: session.queues() };
        let Some(mut claimed) = commit::commit(&session, &step, attempted, &claim).await else { return };
        let others = claimed.split_off(claimed.len().min(1));
        fill(&session, extra.into_iter(), others);
        steps.extend(claimed);
    }
    drop(slot);
}

/// One attempt at a step that is held. None where it was dropped: its hold is lost, or its run was cancelled.
pub(super) async fn execute(session: &Session, step: &Claimed) -> Option<Attempted> {
    let stop = session.ledger.stop(&step.fence);
    let attempt = stop.run_until_cancelled(execute::attempt(session, step, stop.clone()));
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
    attempted
}
