//! Settles a failed attempt: by another one later, by a step that catches the failure, or by the end of the run.

use std::time::Duration;

use futures_util::future::BoxFuture;
use stepfleet_shared::backoff::REFUSED;
use stepfleet_shared::log;
use stepfleet_shared::step::{Claimed, Commit, CommitStatus, Failure, Refill, Route};

use super::commit::forgotten;
use super::execute::{read_joined, served};
use super::metrics::Outcome;
use super::session::Session;
use crate::context::{Core, Past};
use crate::decisions::recovery::{Catcher, catcher};
use crate::error::Error;
use crate::failed;
use crate::retry::{Decision, Reason, Seed};
use crate::workflow::Served;

/// How long a run whose workflow this worker does not know stays readable.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// More joined events than this are not shown to a step that catches.
const MAX_JOINED: u64 = 1000;

/// Returns what was claimed along with it. None if the lease is lost.
pub(super) async fn settle(
    session: &Session,
    step: &Claimed,
    core: &Core,
    error: &Error,
    refill: &Refill,
) -> Option<Vec<Claimed>> {
    let served = served(session, step);
    if let Some(served) = served.filter(|_| error.is_unreadable()) {
        log::warn!(event = step.event, %error, "an event from outside cannot be read: it is set aside");
        let rests = served.router.rests();
        let commit = Commit { unreadable: Some(error.one_line()), rests, ..instead(core, served.retention) };
        if let Ok(claimed) = complete(session, step, &commit, refill).await? {
            return Some(claimed);
        }
    }
    let reason = match decide(step, core.past.elapsed(), error, served) {
        Decision::Retry(delay) => {
            log::warn!(error = error.one_line(), ?delay, "the step failed and will be retried");
            let failure = Failure::Retry { delay, error: error.one_line() };
            return fail(session, step, &failure, refill).await;
        }
        Decision::GiveUp(reason) => reason,
    };
    let mut text = error.one_line();
    if let Some(first) = failed::caught_by(step) {
        text = format!("{text} (while it dealt with the failure of {first})");
    }
    match served.map(|served| catcher(&served.router, step)) {
        Some(Catcher::Step(route)) => {
            log::warn!(
                error = error.one_line(),
                why = reason.as_str(),
                "the step failed for good: another one catches it"
            );
            match catch(session, step, core, error, route, refill).await? {
                Ok(claimed) => return Some(claimed),
                Err(refused) => text = format!("{text} (the failure cannot be handed on: {refused})"),
            }
        }
        Some(Catcher::UsedUp(why)) => text = format!("{text} ({why})"),
        Some(Catcher::None) | None => {}
    }
    log::warn!(error = error.one_line(), why = reason.as_str(), "the step failed for good: the run has failed");
    let retention = served.map_or(RETENTION, |served| served.retention);
    let (forget, upon) = {
        let journal = core.journal();
        (journal.failed_with(), journal.upon())
    };
    fail(session, step, &Failure::Fail { error: text, retention, forget, upon }, refill).await
}

/// Like [`settle`], in the simplest way: it is not known what is left of the attempt. Nothing catches such a failure.
pub(super) async fn after_panic(
    session: &Session,
    step: &Claimed,
    error: &Error,
    refill: &Refill,
) -> Option<Vec<Claimed>> {
    let served = served(session, step);
    let failure = match decide(step, Past::of(step).elapsed(), error, served) {
        Decision::Retry(delay) => Failure::Retry { delay, error: error.one_line() },
        Decision::GiveUp(_) => {
            let retention = served.map_or(RETENTION, |served| served.retention);
            Failure::Fail { error: error.one_line(), retention, forget: Vec::new(), upon: None }
        }
    };
    let claimed = fail(session, step, &failure, refill).await?;
    session.ledger.ended(&step.fence);
    log::error!(run = step.fence.run, step = step.step, %error, "an attempt was given up");
    Some(claimed)
}

fn decide(step: &Claimed, elapsed: Duration, error: &Error, served: Option<&Served>) -> Decision {
    let Some(known) = served.and_then(|served| served.step(&step.step)) else {
        return Decision::GiveUp(Reason::Terminal);
    };
    let seed = Seed::new(&step.fence.run, step.fence.seq, step.fence.attempt);
    known.retry.decide(step.failures, elapsed, error, seed)
}

/// None when the lease is lost; an error when Redis refuses.
async fn catch(
    session: &Session,
    step: &Claimed,
    core: &Core,
    error: &Error,
    route: Route,
    refill: &Refill,
) -> Option<Result<Vec<Claimed>, Error>> {
    let joined = match &step.joined {
        Some(joined) if joined.count <= MAX_JOINED => read_joined(core, step).await.ok(),
        _ => None,
    };
    let elapsed_ms = u64::try_from(core.past.elapsed().as_millis()).unwrap_or(u64::MAX);
    let text = error.one_line();
    let event = match failed::written(step, joined.as_deref(), elapsed_ms, error, &text) {
        Ok(event) => event,
        Err(refused) => return Some(Err(refused)),
    };
    let retention = served(session, step).map_or(RETENTION, |served| served.retention);
    let emitted = if step.follow_steps { vec![route.event.clone()] } else { Vec::new() };
    let commit = Commit { emits: vec![(route, event)], caught: Some(text), emitted, ..instead(core, retention) };
    complete(session, step, &commit, refill).await
}

/// Ends a step execution that has failed or was set aside, and not the run.
fn instead(core: &Core, retention: Duration) -> Commit {
    let mut journal = core.journal();
    let let_go = journal.close().unwrap_or_default();
    Commit { retention, journalled: true, let_go, upon: journal.upon(), ..Commit::default() }
}

/// None when the lease is lost; an error when Redis refuses.
async fn complete(
    session: &Session,
    step: &Claimed,
    commit: &Commit,
    refill: &Refill,
) -> Option<Result<Vec<Claimed>, Error>> {
    let send = |call| -> BoxFuture<'_, _> {
        Box::pin(async move { session.store.complete(&call, step, commit, refill).await })
    };
    let answer = session.persist(send, |(_, claimed)| claimed).await?;
    if let Ok((CommitStatus::Forgotten, _)) = &answer {
        return Some(Ok(forgotten(session, step).await));
    }
    if let Ok((status, _)) = &answer {
        let outcome = if commit.caught.is_some() { Outcome::Caught } else { Outcome::Unreadable };
        session.count(step, if *status == CommitStatus::Committed { outcome } else { Outcome::Fenced });
    }
    Some(answer.map(|(_, claimed)| claimed).map_err(Error::from))
}

async fn fail(session: &Session, step: &Claimed, failure: &Failure, refill: &Refill) -> Option<Vec<Claimed>> {
    let mut watch = session.outages.watch("failure", REFUSED);
    loop {
        let send = |call| -> BoxFuture<'_, _> {
            Box::pin(async move { session.store.fail(&call, step, failure, refill).await })
        };
        match session.persist(send, |(_, claimed)| claimed).await? {
            Ok((CommitStatus::Forgotten, _)) => return Some(forgotten(session, step).await),
            Ok((status, claimed)) => {
                session.count(
                    step,
                    match failure {
                        _ if status != CommitStatus::Committed => Outcome::Fenced,
                        Failure::Retry { .. } => Outcome::Retried,
                        Failure::Fail { .. } => Outcome::Failed,
                    },
                );
                return Some(claimed);
            }
            Err(refused) => watch.failed(&refused),
        }
        session.lost.run_until_cancelled(watch.wait()).await?;
    }
}
