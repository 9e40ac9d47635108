//! Replays what a body has recorded elsewhere against this code, for the test kit. It does no work and calls no store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use stepfleet_shared::Partitions;
use stepfleet_shared::durability::Durability;
use stepfleet_shared::export::Journaled;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::outage::Outages;
use stepfleet_shared::step::Claimed;
use stepfleet_shared::store::{MemoryStore, Store, WorkerStore};
use tokio_util::sync::CancellationToken;

use super::drive::{Ended, drive};
use super::execute::panic_message;
use crate::context::{Busy, Confirmed, Core, Foreign, Hold, Journal, Past, Reach};
use crate::error::Error;
use crate::workflow::{Attempt, Served, ServedStep};

/// A body that has not come to rest by then never will.
const LONGEST: Duration = Duration::from_secs(60);

/// Replays the whole journal. Returns how many calls the body has made, or where it diverges. `is_done`: the
/// run has completed, so the body does not fail.
pub(crate) async fn replay(served: &Served, journaled: Journaled, is_done: bool) -> Result<u64, Error> {
    let Journaled { mut step, joined } = journaled;
    if step.step.is_empty() {
        // The only step of a run that has completed.
        let route = served.registration.start.first().cloned().unwrap_or_default();
        (step.step, step.event) = (route.step, route.event);
    }
    let known = served.step(&step.step).ok_or_else(|| {
        let steps: Vec<_> = served.registration.graph.steps.iter().map(|step| step.name.as_str()).collect();
        Error::msg(format!("the workflow has no step {} any more; it has {}", step.step, steps.join(", ")))
    })?;
    let core = core_of(&step, known);
    let step = Arc::new(step);
    let attempt = Attempt { claimed: step, joined: joined.unwrap_or_default(), core: core.clone(), stop: served.stop };
    let mut body = AssertUnwindSafe((known.run)(attempt)).catch_unwind();
    let ended = tokio::time::timeout(LONGEST, drive(core.clone(), &mut body)).await;
    if let Some(fault) = core.journal().fault() {
        return Err(fault);
    }
    let (how, error) = match ended {
        Err(_) => return Err(Error::msg(format!("the body was still running after {LONGEST:?}"))),
        Ok(Ended::Refused(fault)) => return Err(fault),
        Ok(Ended::Conflict) => return Err(Error::msg("the body met a conflict, which a replay cannot have")),
        Ok(Ended::Waits(_)) => ("does not reach it", None),
        Ok(Ended::Again(_)) => ("begins again before it", None),
        Ok(Ended::Returned(Ok(Ok(_)))) => ("returns before it", None),
        Ok(Ended::Returned(Ok(Err(error)))) => ("fails before it", Some(error.to_string())),
        Ok(Ended::Returned(Err(panic))) => {
            return Err(Error::msg(format!("the body panicked: {}", panic_message(&*panic))));
        }
    };
    let told = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let journal = core.journal();
    if let Some(fault) = journal.astray().or_else(|| journal.left_out(&format!("{how}{told}"))) {
        return Err(fault);
    }
    match error {
        Some(error) if is_done => Err(Error::msg(format!("the run has completed, and the code now fails: {error}"))),
        _ => Ok(journal.calls()),
    }
}

fn core_of(step: &Claimed, known: &ServedStep) -> Arc<Core> {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(Namespace::default()));
    let partitions = Partitions::<dyn WorkerStore>::from(memory);
    let store = partitions.first().clone();
    let reach = Reach {
        store,
        partitions,
        worker: "replay".to_owned(),
        run: step.fence.run.clone(),
        seq: step.fence.seq,
        hold: Hold::of(&step.fence),
        step: step.step.clone(),
        group: step.group,
        content: step.content,
        busy: Busy::default(),
        outages: Outages::default(),
        durability: Durability::default(),
        confirmed: Confirmed::default(),
    };
    let core =
        Core::new(reach, Past::of(step), step.context.clone(), CancellationToken::new(), Journal::of(step)).replaying();
    Arc::new(core.of_body(known, Foreign::Refused))
}
