//! Turns what an attempt came to into one transition.

use futures_util::future::BoxFuture;
use stepfleet::step::{Claimed, Commit, Fan, Join, Outcome, Part, Refill, Route};

use super::drive::Waits;
use super::execute::{Attempted, Came, served};
use super::failure;
use super::session::Session;
use crate::context::{Changes, Core, MAX_CONFLICTS, Sent};
use crate::emit::Emission;
use crate::error::Error;
use crate::workflow::Served;

/// A fan-out larger than this, or with more bytes, is staged in chunks ahead of its commit, so that no call holds
/// Redis up for long.
const INLINE_EVENTS: usize = 200;
const INLINE_BYTES: usize = 512 * 1024;
/// How often a fan-out is staged when Redis comes back without a part of it.
const STAGINGS: usize = 5;

/// What became of an attempt.
pub(super) enum Committed {
    /// It was dealt with, and this was claimed along with it.
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
            let mut plan = plan(served, step, emission, core.sends.take(), core.overlay().take())?;
            if let Some(let_go) = core.journal().close() {
                (plan.commit.journalled, plan.commit.let_go) = (true, let_go);
            }
            plan.commit.has_traces = core.has_traces();
            Ok(Planned::Done(Box::new(plan)))
        }
        Came::ToWait(waits) => Ok(Planned::Suspend(waits)),
        Came::Conflict => Ok(Planned::Again),
    });
    let committed = match planned {
        Ok(Planned::Done(plan)) => done(session, step, &core, plan, refill).await,
        Ok(Planned::Again) => conflict(session, step, &core, refill).await,
        Ok(Planned::Suspend(waits)) => suspend(session, step, &core, &waits, refill).await.map(Committed::Stands),
        Err(error) => failure::settle(session, step, &core, &error, refill).await.map(Committed::Stands),
    };
    if !matches!(committed, Some(Committed::Conflict)) {
        session.ledger.ended(&step.fence);
    }
    committed
}

async fn conflict(session: &Session, step: &Claimed, core: &Core, refill: &Refill) -> Option<Committed> {
    if core.conflicts() < MAX_CONFLICTS {
        tracing::debug!(run = step.fence.run, step = step.step, "others have changed what it had read: it runs again");
        return Some(Committed::Conflict);
    }
    let error = Error::msg(format!(
        "step {}: others have changed what it had read each of {MAX_CONFLICTS} times; let it read less in its \
         transactions (edit_field instead of edit), or merge instead (incr, push, insert)",
        step.step
    ));
    failure::settle(session, step, core, &error, refill).await.map(Committed::Stands)
}

enum Planned {
    Done(Box<Plan>),
    Suspend(Waits),
    Again,
}

/// What a commit writes, and what must be staged before it.
#[derive(Debug, Default)]
struct Plan {
    commit: Commit,
    staged: Vec<Vec<(Route, Vec<u8>)>>,
}

fn write(commit: &mut Commit, changes: Changes) {
    (commit.set, commit.unset) = (changes.set, changes.unset);
    (commit.merges, commit.expects) = (changes.merges, changes.expects);
}

/// Routes the emitted events. Pure.
fn plan(served: &Served, step: &Claimed, emission: Emission, sent: Vec<Sent>, changes: Changes) -> Result<Plan, Error> {
    let (retention, rests) = (served.retention, served.graph.rests());
    let emitted = if step.follow_steps { names_of(served, &emission, &sent) } else { Vec::new() };
    let mut commit = Commit { retention, rests, result: emission.result, emitted, ..Commit::default() };
    // What earlier attempts have left to look back at.
    commit.journalled = step.fence.attempt > 1;
    write(&mut commit, changes);
    if commit.result.is_some() {
        return Ok(Plan { commit, staged: Vec::new() });
    }
    let recoveries = failure::recoveries(served, step);
    let recovered = |route| Route { recoveries, ..route };
    let returned = emission.events.into_iter().map(|(event, payload)| Sent { event, payload, to: None });
    for Sent { event, payload, to } in returned.chain(sent) {
        let is_meant = |step: &str| to.as_ref().is_none_or(|to| to == step);
        let mut takers = served.graph.takers(event);
        takers.retain(|route| is_meant(&route.step));
        let mut gatherers = served.graph.gatherers(event);
        gatherers.retain(|step| is_meant(step));
        let parts = served.graph.parts(event, &payload).into_iter().filter(|part| is_meant(&part.route.step));
        let before = commit.emits.len() + commit.joins.len() + commit.parts.len();
        commit.parts.extend(parts.map(|part| Part { route: recovered(part.route), ..part }));
        // It may be large: where only one step takes it, it is not copied.
        if takers.len() == 1 && gatherers.is_empty() {
            commit.emits.extend(takers.pop().map(|route| (recovered(route), payload)));
        } else {
            commit.emits.extend(takers.into_iter().map(|route| (recovered(route), payload.clone())));
            commit.joins.extend(gatherers.into_iter().map(|step| (step.to_owned(), payload.clone())));
        }
        if commit.emits.len() + commit.joins.len() + commit.parts.len() == before {
            return Err(Error::terminal(format!("step {} emitted {event}, which no step accepts", step.step)));
        }
    }
    let mut staged = Vec::new();
    if let Some(event) = emission.fan {
        let joins = served.graph.joins_of(event).into_iter();
        let joins: Vec<Join> = joins.map(|join| Join { route: recovered(join.route), ..join }).collect();
        staged = split_off_large(&mut commit.emits);
        let count = staged.iter().map(Vec::len).sum::<usize>() as u64;
        if !joins.is_empty() || count > 0 {
            commit.fan = Some(Fan { joins, staged: count });
        }
    }
    Ok(Plan { commit, staged })
}

/// The events that were emitted, each once. Beside the stop event others count for nothing.
fn names_of(served: &Served, emission: &Emission, sent: &[Sent]) -> Vec<String> {
    if emission.result.is_some() {
        return vec![served.stop.to_owned()];
    }
    let mut names: Vec<String> = Vec::new();
    for name in emission.events.iter().map(|emitted| emitted.0).chain(sent.iter().map(|sent| sent.event)) {
        if names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Empty where all fits into one call; otherwise everything, in chunks.
fn split_off_large(emits: &mut Vec<(Route, Vec<u8>)>) -> Vec<Vec<(Route, Vec<u8>)>> {
    let bytes: usize = emits.iter().map(|(_, payload)| payload.len()).sum();
    if emits.len() <= INLINE_EVENTS && bytes <= INLINE_BYTES {
        return Vec::new();
    }
    let mut chunks: Vec<Vec<(Route, Vec<u8>)>> = Vec::new();
    let mut size = usize::MAX;
    for emit in emits.drain(..) {
        let full = chunks.last().is_none_or(|chunk| chunk.len() >= INLINE_EVENTS || size + emit.1.len() > INLINE_BYTES);
        if full {
            chunks.push(Vec::new());
            size = 0;
        }
        size += emit.1.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(emit);
        }
    }
    chunks
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
        if !matches!(answer, Ok((Outcome::Conflict, _))) {
            break answer;
        }
        tries += 1;
        let redone = session.lost.run_until_cancelled(core.redo(tries)).await?;
        let Some(changes) = redone else { return conflict(session, step, core, refill).await };
        write(&mut plan.commit, changes);
    };
    let claimed = match answer {
        Ok((Outcome::Committed, claimed)) => Some(claimed),
        Ok((Outcome::Unstaged, _)) => {
            let error = Error::msg(format!("step {}: its fan-out was lost by Redis again and again", step.step));
            failure::settle(session, step, core, &error, refill).await
        }
        Ok((Outcome::Conflict, _)) => return conflict(session, step, core, refill).await,
        Ok((Outcome::Fenced, claimed)) => {
            let (run, seq, attempt) = (&step.fence.run, step.fence.seq, step.fence.attempt);
            tracing::info!(
                run,
                seq,
                attempt,
                "the commit was rejected: another attempt took over, or the run has ended"
            );
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
) -> Option<stepfleet::Result<(Outcome, Vec<Claimed>)>> {
    for _ in 0..STAGINGS {
        let answer = stage_and_commit_once(session, step, plan, refill).await?;
        if !matches!(answer, Ok((Outcome::Unstaged, _))) {
            return Some(answer);
        }
    }
    Some(Ok((Outcome::Unstaged, Vec::new())))
}

async fn stage_and_commit_once(
    session: &Session,
    step: &Claimed,
    plan: &Plan,
    refill: &Refill,
) -> Option<stepfleet::Result<(Outcome, Vec<Claimed>)>> {
    let mut offset = 0;
    for chunk in &plan.staged {
        let stage = |_| -> BoxFuture<'_, _> { Box::pin(session.store.stage(&session.id, &step.fence, offset, chunk)) };
        // A void fence, or a chunk that Redis has lost, is told by the commit too.
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

/// Ends an attempt that waits; the next one goes on where there is an answer.
async fn suspend(
    session: &Session,
    step: &Claimed,
    core: &Core,
    waits: &Waits,
    refill: &Refill,
) -> Option<Vec<Claimed>> {
    let checkpoint = waits.along.checkpoint();
    let record = |_| -> BoxFuture<'_, _> { Box::pin(session.store.checkpoint(&session.id, &step.fence, &checkpoint)) };
    let recorded = if waits.along.is_empty() { Ok(()) } else { session.persist(record, |_| &[]).await?.map(drop) };
    let send = |call| -> BoxFuture<'_, _> {
        Box::pin(async move { session.store.suspend(&call, step, &waits.waits, refill).await })
    };
    let suspended = match recorded {
        // A void fence is told by the suspension too.
        Ok(()) => session.persist(send, |(_, claimed)| claimed).await?,
        Err(refused) => Err(refused),
    };
    match suspended {
        Ok((_, claimed)) => {
            tracing::debug!(run = step.fence.run, step = step.step, seq = step.fence.seq, "the step waits");
            Some(claimed)
        }
        Err(refused) => {
            let error = Error::terminal(format!("step {} cannot wait: {refused}", step.step));
            failure::settle(session, step, core, &error, refill).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emits(count: usize, bytes: usize) -> Vec<(Route, Vec<u8>)> {
        let route = Route { step: "s".into(), event: "E".into(), ..Route::default() };
        (0..count).map(|_| (route.clone(), vec![0; bytes])).collect()
    }

    #[test]
    fn what_fits_is_not_staged() {
        let mut few = emits(INLINE_EVENTS, 10);
        assert!(split_off_large(&mut few).is_empty());
        assert_eq!(few.len(), INLINE_EVENTS);
    }

    #[test]
    fn a_large_fan_out_is_staged_in_bounded_chunks_without_losing_any() {
        for (count, bytes) in [(1001, 10), (8, 300_000), (INLINE_EVENTS + 1, 0)] {
            let mut many = emits(count, bytes);
            let chunks = split_off_large(&mut many);
            assert!(many.is_empty());
            assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), count);
            for chunk in &chunks {
                let size: usize = chunk.iter().map(|(_, p)| p.len()).sum();
                assert!(chunk.len() <= INLINE_EVENTS && (size <= INLINE_BYTES || chunk.len() == 1));
            }
        }
    }
}
