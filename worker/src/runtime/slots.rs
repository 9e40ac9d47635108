//! Slots: each executes one step after the other, as long as its commits bring new ones along.

use std::collections::VecDeque;
use std::sync::Arc;

use stepfleet::step::{Claim, Claimed};
use tokio::sync::OwnedSemaphorePermit;

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
        let lost = session.lost.clone();
        let stop = session.ledger.stop(&step.fence);
        let attempt = stop.run_until_cancelled(execute::attempt(&session, &step, stop.clone()));
        // A step whose hold is lost, or whose run is cancelled, is dropped where it stands.
        let Some(attempted) = lost.run_until_cancelled(attempt).await else { return };
        let Some(attempted) = attempted else {
            tracing::info!(run = step.fence.run, step = step.step, "the run was cancelled: its step is dropped");
            session.ledger.ended(&step.fence);
            return;
        };
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
