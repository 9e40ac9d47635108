//! Slots: each executes one step after the other, as long as its commits bring new ones along.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use stepfleet::step::{Claim, Claimed};
use tokio::sync::OwnedSemaphorePermit;

use super::commit::Committed;
use super::execute::Attempted;
use super::session::Session;
use super::{commit, execute};
use crate::context::Core;

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
        let core = execute::core(&session, &step);
        loop {
            let Some(attempted) = execute(&session, &step, core.clone()).await else { return };
            // One commit brings work for this slot and for all that are free now.
            let extra = session.more_slots();
            let max = if session.is_closing() { 0 } else { 1 + extra.len() };
            let claim = Claim { max, queues: session.queues() };
            match commit::commit(&session, &step, attempted, &claim).await {
                Some(Committed::Stands(mut claimed)) => {
                    let others = claimed.split_off(claimed.len().min(1));
                    fill(&session, extra.into_iter(), others);
                    steps.extend(claimed);
                    break;
                }
                Some(Committed::Conflict) => {}
                None => return,
            }
            drop(extra);
            if begin_again(&session, &core).await.is_none() {
                return;
            }
        }
    }
    drop(slot);
}

/// Reads the context anew, for a body that is to run again within its attempt. None where the lease is lost.
pub(super) async fn begin_again(session: &Session, core: &Core) -> Option<()> {
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

/// One attempt at a step that is held. None where it was dropped: its hold is lost, or its run was cancelled.
pub(super) async fn execute(session: &Session, step: &Claimed, core: Arc<Core>) -> Option<Attempted> {
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
    attempted
}
