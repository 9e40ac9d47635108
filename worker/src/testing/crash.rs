//! At which commits workers die, and which commits there were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stepfleet_shared::store::memory::Moment;
use tokio_util::sync::CancellationToken;

/// One commit of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The nth of a step, from 1.
    OfStep(String, usize),
    /// The nth of the whole run, from 1.
    OfRun(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Crash {
    pub(super) place: Place,
    pub(super) moment: Moment,
}

#[derive(Debug, Default)]
struct Plan {
    to_come: Vec<Crash>,
    /// The step of each commit of the run.
    commits: Vec<String>,
    by_step: BTreeMap<String, usize>,
    at_work: Option<AtWork>,
}

#[derive(Debug)]
struct AtWork {
    worker: String,
    step: String,
    died: CancellationToken,
}

/// Shared with the store, which asks it at each commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Crashes(Arc<Mutex<Plan>>);

impl Crashes {
    pub(super) fn new(to_come: Vec<Crash>) -> Self {
        Self(Arc::new(Mutex::new(Plan { to_come, ..Plan::default() })))
    }

    /// A worker takes up a step. The returned token is cancelled when it dies.
    pub(super) fn watch(&self, worker: &str, step: &str) -> CancellationToken {
        let died = CancellationToken::new();
        self.plan().at_work = Some(AtWork { worker: worker.into(), step: step.into(), died: died.clone() });
        died
    }

    /// Whether the worker dies here.
    pub(super) fn strikes(&self, worker: &str, moment: Moment) -> bool {
        let plan = &mut *self.plan();
        let Some(at_work) = &plan.at_work else { return false };
        // A task that a dead worker spawned may still try to commit.
        if at_work.worker != worker || at_work.died.is_cancelled() {
            return true;
        }
        let of_step = plan.by_step.entry(at_work.step.clone()).or_default();
        if moment == Moment::Before {
            *of_step += 1;
            plan.commits.push(at_work.step.clone());
        }
        let of_run = plan.commits.len();
        let here = |crash: &Crash| {
            crash.moment == moment
                && match &crash.place {
                    Place::OfStep(step, number) => *step == at_work.step && number == of_step,
                    Place::OfRun(number) => *number == of_run,
                }
        };
        let strikes = plan.to_come.iter().any(here);
        plan.to_come.retain(|crash| !here(crash));
        if strikes {
            at_work.died.cancel();
        }
        strikes
    }

    /// Those that did not happen.
    pub(super) fn left(&self) -> Vec<Crash> {
        self.plan().to_come.clone()
    }

    /// How many commits a step had.
    pub(super) fn commits_of(&self, step: &str) -> usize {
        self.plan().by_step.get(step).copied().unwrap_or(0)
    }

    /// The step of each commit, in order.
    pub(super) fn commits(&self) -> Vec<String> {
        self.plan().commits.clone()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn name(moment: Moment) -> &'static str {
    match moment {
        Moment::Before => "before",
        Moment::After => "after",
    }
}
