//! Turns the outcome of an attempt into one transition.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stepfleet_shared::log;
use stepfleet_shared::step::{Checkpoint, Claimed, CommitStatus, Refill};

use super::drive::Waits;
use super::execute::{Attempted, Body, Came, served};
use super::failure;
use super::metrics::Outcome;
use super::session::Session;
use super::slots;
use crate::context::{Core, MAX_CONFLICTS};
use crate::decisions::plan::{self, Plan};
use crate::error::Error;

/// How often a fan-out is staged when Redis comes back without a part of it.
const STAGINGS: usize = 5;

/// The outcome of an attempt.
pub(super) enum Committed {
    /// It was committed or failed, and this was claimed along with it.
    Stands(Vec<Claimed>),
    /// Others have changed what it had read. It is still held, and its body is to run again.
    Conflict,
}

/// Commits or fails the attempt. None when the lease is lost.
pub(super) async fn commit(
    session: &Session,
    step: &Claimed,
    attempted: Attempted,
    refill: &Refill,
) -> Option<Committed> {
    let Attempted { outcome, core } = attempted;
    let served = served(session, step);
    let planned = outcome.and_then(|came| match came {
        Came::To(emission) => {
            let served = served.ok_or_else(|| Error::terminal("not served"))?;
            let mut plan = plan::of_step(
                &served.router,
                served.retention,
                step,
                emission,
                core.sends.take(),
                core.overlay().take(),
            )?;
            if let Some(let_go) = core.journal().close() {
                (plan.commit.journalled, plan.commit.let_go) = (true, let_go);
            }
            plan.commit.has_traces = core.has_traces();
            plan.commit.upon = core.journal().upon();
            Ok(Planned::Done(Box::new(plan)))
        }
        Came::ToWait(waits, body) => Ok(Planned::Suspend(waits, body)),
        Came::Conflict => Ok(Planned::Again),
    });
    let committed = match planned {
        Ok(Planned::Done(plan)) => done(session, step, &core, plan, refill).await,
        Ok(Planned::Again) => conflict(session, step, &core, refill).await,
        Ok(Planned::Suspend(waits, body)) => {
            suspend(session, step, (&core, body), &waits, refill).await.map(Committed::Stands)
        }
        Err(error) => failure::settle(session, step, &core, &error, refill).await.map(Committed::Stands),
    };
    if !matches!(committed, Some(Committed::Conflict)) {
        session.ledger.ended(&step.fence);
    }
    committed
}

async fn conflict(session: &Session, step: &Claimed, core: &Core, refill: &Refill) -> Option<Committed> {
    if core.conflicts() < MAX_CONFLICTS {
        log::debug!("others changed what the step had read: it runs again");
        return Some(Committed::Conflict);
    }
    let error = Error::msg(format!(
        "step {}: others changed what it had read, {MAX_CONFLICTS} times in a row; let it read less in its \
         transactions (edit_field instead of edit), or merge instead (incr, push, insert)",
        step.step
    ));
    failure::settle(session, step, core, &error, refill).await.map(Committed::Stands)
}

enum Planned {
    Done(Box<Plan>),
    Suspend(Waits, Box<Body>),
    Again,
}

async fn done(
    session: &Session,
    step: &Claimed,
    core: &Core,
    mut plan: Box<Plan>,
    refill: &Refill,
) -> Option<Committed> {
    let mut tries = 0;
    let answer = loop {
        let answer = stage_and_commit(session, step, &plan, refill).await?;
        if !matches!(answer, Ok((CommitStatus::Conflict, _))) {
            break answer;
        }
        tries += 1;
        let redone = session.lost.run_until_cancelled(core.redo(tries)).await?;
        let Some(changes) = redone else { return conflict(session, step, core, refill).await };
        plan::write(&mut plan.commit, changes);
    };
    let claimed = match answer {
        Ok((CommitStatus::Committed, claimed)) => {
            session.count(step, Outcome::Committed);
            if let Some(metrics) = session.metrics.as_ref().filter(|_| plan.commit.result.is_some()) {
                metrics.completed(step);
            }
            Some(claimed)
        }
        Ok((CommitStatus::Unstaged, _)) => {
            let error = Error::msg(format!("step {}: Redis lost its fan-out again and again", step.step));
            failure::settle(session, step, core, &error, refill).await
        }
        Ok((CommitStatus::Conflict, _)) => return conflict(session, step, core, refill).await,
        Ok((CommitStatus::Forgotten, _)) => Some(forgotten(session, step).await),
        Ok((CommitStatus::Fenced, claimed)) => {
            session.count(step, Outcome::Fenced);
            log::info!("the commit was rejected: another attempt took over, or the run has ended");
            Some(claimed)
        }
        Err(refused) => {
            let error = Error::terminal(format!("step {} cannot be committed: {refused}", step.step));
            failure::settle(session, step, core, &error, refill).await
        }
    };
    claimed.map(Committed::Stands)
}

async fn stage_and_commit(
    session: &Session,
    step: &Claimed,
    plan: &Plan,
    refill: &Refill,
) -> Option<stepfleet_shared::Result<(CommitStatus, Vec<Claimed>)>> {
    for _ in 0..STAGINGS {
        let answer = stage_and_commit_once(session, step, plan, refill).await?;
        if !matches!(answer, Ok((CommitStatus::Unstaged, _))) {
            return Some(answer);
        }
    }
    Some(Ok((CommitStatus::Unstaged, Vec::new())))
}

async fn stage_and_commit_once(
    session: &Session,
    step: &Claimed,
    plan: &Plan,
    refill: &Refill,
) -> Option<stepfleet_shared::Result<(CommitStatus, Vec<Claimed>)>> {
    let mut offset = 0;
    for chunk in &plan.staged {
        let stage = |_| -> BoxFuture<'_, _> { Box::pin(session.store.stage(&session.id, &step.fence, offset, chunk)) };
        // The commit reports a void fence, and a chunk that Redis has lost, too.
        match session.persist(stage, |_| &[]).await? {
            Ok(Some(staged)) if staged != offset + chunk.len() as u64 => break,
            Ok(_) => {}
            Err(refused) => return Some(Err(refused)),
        }
        offset += chunk.len() as u64;
    }
    let send = |call| -> BoxFuture<'_, _> {
        Box::pin(async move { session.store.complete(&call, step, &plan.commit, refill).await })
    };
    session.persist(send, |(_, claimed)| claimed).await
}

/// Redis has lost what the attempt had recorded: it is given back, and its next attempt goes on from what is there. Nothing was
/// claimed along with it.
pub(super) async fn forgotten(session: &Session, step: &Claimed) -> Vec<Claimed> {
    session.count(step, Outcome::Fenced);
    log::warn!(
        "Redis came back without what this attempt had recorded: the commit was rejected, and the step runs again"
    );
    slots::release(session, step).await;
    Vec::new()
}

/// Ends an attempt that waits; the next one goes on when a wait has ended.
async fn suspend(
    session: &Session,
    step: &Claimed,
    (core, body): (&Arc<Core>, Box<Body>),
    waits: &Waits,
    refill: &Refill,
) -> Option<Vec<Claimed>> {
    let checkpoint = Checkpoint { upon: core.journal().upon(), ..waits.along.checkpoint() };
    let record = |_| -> BoxFuture<'_, _> { Box::pin(session.store.checkpoint(&session.id, &step.fence, &checkpoint)) };
    let recorded = if waits.along.is_empty() { Ok(()) } else { session.persist(record, |_| &[]).await?.map(drop) };
    let upon = {
        let mut journal = core.journal();
        journal.was_recorded(&waits.along);
        journal.upon()
    };
    // Before the store knows that it waits: whatever it waits for may have come already.
    let kept = session.kept.keep(step, core, body);
    let send = |call| -> BoxFuture<'_, _> {
        Box::pin(async move { session.store.suspend(&call, step, &waits.waits, kept, upon, refill).await })
    };
    let suspended = match recorded {
        // The suspension reports a void fence too.
        Ok(()) => session.persist(send, |(_, claimed)| claimed).await?,
        Err(refused) => Err(refused),
    };
    if !matches!(suspended, Ok((CommitStatus::Committed, _))) {
        session.kept.drop(&step.fence);
    }
    match suspended {
        Ok((CommitStatus::Forgotten, _)) => Some(forgotten(session, step).await),
        Ok((status, claimed)) => {
            let waits = status == CommitStatus::Committed;
            session.count(step, if waits { Outcome::Suspended } else { Outcome::Fenced });
            log::debug!("the step waits");
            Some(claimed)
        }
        Err(refused) => {
            let error = Error::terminal(format!("step {} cannot wait: {refused}", step.step));
            failure::settle(session, step, core, &error, refill).await
        }
    }
}
