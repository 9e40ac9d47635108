//! What a worker counts. Each counter is looked up once, at the start: a step costs two look-ups, and nothing without a listener.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::metrics::{Count, Registry, Timer, catalogue};
use stepfleet_shared::names::QueueName;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Claimed;

use super::slots::Pool;
use crate::workflow::Served;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its work is kept.
    Committed,
    /// It waits, and continues as another attempt.
    Suspended,
    /// It failed, and is tried again.
    Retried,
    /// It failed for good, and another step catches that.
    Caught,
    /// It failed for good, and so did its run.
    Failed,
    /// Its event came from outside, and could not be read: it was set aside.
    Unreadable,
    /// Its commit was rejected: another attempt took over, or the run has ended.
    Fenced,
    /// Its run or its fan-out ended while it ran, or the body that it was to continue was gone.
    Dropped,
    /// The worker stopped before it ended, and handed it back.
    Released,
    /// The worker's lease ran out before it ended.
    Lost,
}

impl Outcome {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Committed, "committed"),
        (Self::Suspended, "suspended"),
        (Self::Retried, "retried"),
        (Self::Caught, "caught"),
        (Self::Failed, "failed"),
        (Self::Unreadable, "unreadable"),
        (Self::Fenced, "fenced"),
        (Self::Dropped, "dropped"),
        (Self::Released, "released"),
        (Self::Lost, "lost"),
    ];
}

pub(super) struct Metrics {
    workflows: HashMap<String, OfWorkflow>,
    leases_lost: Count,
    rolled_back: Count,
}

struct OfWorkflow {
    completed: Count,
    failed: Count,
    steps: HashMap<&'static str, OfStep>,
}

struct OfStep {
    claims: Count,
    /// In the order of [`Outcome::ALL`].
    outcomes: [Count; Outcome::ALL.len()],
    duration: Timer,
    queue: Timer,
}

impl Metrics {
    pub(super) fn new(registry: &Registry, served: &HashMap<QueueName, Served>, slots: &Arc<Pool>) -> Self {
        let (claims, attempts) = (registry.counts(&catalogue::CLAIMS), registry.counts(&catalogue::ATTEMPTS));
        let (durations, queues) = (registry.times(&catalogue::STEP_DURATION), registry.times(&catalogue::QUEUE_TIME));
        let ended = registry.counts(&catalogue::RUNS_ENDED);
        let mut workflows = HashMap::new();
        for served in served.values() {
            let workflow = &*served.registration.workflow;
            let of_workflow = workflows.entry(workflow.to_owned()).or_insert_with(|| OfWorkflow {
                completed: ended.of(&[workflow, Status::Completed.as_str()]),
                failed: ended.of(&[workflow, Status::Failed.as_str()]),
                steps: HashMap::new(),
            });
            // Versions of a workflow share what steps of one name do.
            for step in served.steps() {
                of_workflow.steps.entry(step).or_insert_with(|| OfStep {
                    claims: claims.of(&[workflow, step]),
                    outcomes: Outcome::ALL.map(|(_, outcome)| attempts.of(&[workflow, step, outcome])),
                    duration: durations.of(&[workflow, step]),
                    queue: queues.of(&[workflow, step]),
                });
            }
        }
        let (all, busy) = (registry.gauges(&catalogue::SLOTS), registry.gauges(&catalogue::SLOTS_BUSY));
        let slots = slots.clone();
        registry.look(move || {
            all.set(&[], slots.count() as u64);
            busy.set(&[], slots.busy() as u64);
        });
        let (leases_lost, rolled_back) = (&catalogue::LEASES_LOST, &catalogue::STEPS_ROLLED_BACK);
        let (leases_lost, rolled_back) = (registry.counts(leases_lost).of(&[]), registry.counts(rolled_back).of(&[]));
        Self { workflows, leases_lost, rolled_back }
    }

    fn of_step(&self, step: &Claimed) -> Option<&OfStep> {
        self.workflows.get(&step.workflow)?.steps.get(&*step.step)
    }

    pub(super) fn began(&self, step: &Claimed) {
        let Some(of_step) = self.of_step(step) else { return };
        of_step.claims.add(1);
        if let Some(queued) = step.queued {
            of_step.queue.observe(queued);
        }
    }

    /// How long the step's code ran.
    pub(super) fn ran(&self, step: &Claimed, time: Duration) {
        if let Some(of_step) = self.of_step(step) {
            of_step.duration.observe(time);
        }
    }

    pub(super) fn ended(&self, step: &Claimed, outcome: Outcome) {
        let at = Outcome::ALL.iter().position(|(other, _)| *other == outcome);
        if let Some(count) = self.of_step(step).zip(at).and_then(|(of_step, at)| of_step.outcomes.get(at)) {
            count.add(1);
        }
        if outcome == Outcome::Failed
            && let Some(of_workflow) = self.workflows.get(&step.workflow)
        {
            of_workflow.failed.add(1);
        }
    }

    pub(super) fn completed(&self, step: &Claimed) {
        if let Some(of_workflow) = self.workflows.get(&step.workflow) {
            of_workflow.completed.add(1);
        }
    }

    /// Redis came back without its latest writes, and this many step executions of this worker were among them.
    pub(super) fn rolled_back(&self, steps: u64) {
        self.rolled_back.add(steps);
    }

    pub(super) fn lost_lease(&self) {
        self.leases_lost.add(1);
    }
}
