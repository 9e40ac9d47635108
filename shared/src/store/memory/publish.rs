//! `publish`: sends an event to the run's followers at once, whether or not the attempt succeeds.

use std::collections::{BTreeMap, VecDeque};

use super::data::Data;
use super::run::Actor;
use super::streaming::Streamed;
use crate::published::{By, MAX_KEPT, MAX_REMEMBERED, Position, Publication, Published, StepState, What};
use crate::run::Status;
use crate::step::{CommitStatus, Fence, Route};
use crate::store::MAX_PUBLISHED_READ;

/// What a run has published.
#[derive(Clone, Debug, Default)]
pub(super) struct Publications {
    entries: VecDeque<Published>,
    last: Position,
    count: u64,
}

impl Publications {
    fn add(&mut self, now: u64, what: What) {
        self.count += 1;
        self.last = self.last.next(now);
        self.entries.push_back(Published { position: self.last, number: self.count, what });
        if self.entries.len() > MAX_KEPT {
            self.entries.pop_front();
        }
    }

    /// Publishes the end of a run, if it has published anything before.
    pub(super) fn end(&mut self, now: u64, status: Status) {
        if self.count > 0 {
            self.add(now, What::End { status });
        }
    }

    /// Takes back the published end: the next publication reuses its number.
    pub(super) fn take_back_end(&mut self) {
        if matches!(self.entries.back(), Some(Published { what: What::End { .. }, .. })) {
            self.entries.pop_back();
            self.count -= 1;
        }
    }
}

/// What a step execution has published, so that a body that runs again publishes nothing twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Digests of events, by place in the body.
    digests: BTreeMap<(u64, u64), String>,
    /// The last event that exceeded the limit.
    last: Option<((u64, u64), String)>,
    /// Streams, by place in the body.
    pub(super) streams: BTreeMap<(u64, u64), Streamed>,
}

impl Told {
    /// How many fields are remembered.
    pub(super) fn len(&self) -> usize {
        let streams: usize = self.streams.values().map(Streamed::fields).sum();
        self.digests.len() + usize::from(self.last.is_some()) + streams
    }

    /// Remembers an event. False if it was published before.
    fn is_new(&mut self, event: &Publication) -> bool {
        let (place, digest) = ((event.call, event.number), event.digest());
        let last = Some((place, digest.clone()));
        if self.digests.get(&place) == Some(&digest) || self.last == last {
            return false;
        }
        if self.digests.contains_key(&place) || self.len() < MAX_REMEMBERED {
            self.digests.insert(place, digest);
        } else {
            self.last = last;
        }
        true
    }
}

impl Data {
    pub(super) fn publish(&mut self, now: u64, worker: &str, fence: &Fence, event: &Publication) -> CommitStatus {
        if !self.is_good(worker, fence) {
            return CommitStatus::Fenced;
        }
        let execution = self.steps(&fence.run).and_then(|steps| steps.executions.get_mut(&fence.seq));
        let Some(execution) = execution else { return CommitStatus::Fenced };
        if !execution.published.is_new(event) {
            return CommitStatus::Committed;
        }
        let id = format!("{}.{}", fence.seq, event.place());
        let by = By { step: event.step.clone(), seq: fence.seq, attempt: fence.attempt, worker: worker.to_owned() };
        let (content, data) = (event.content, event.data.clone());
        self.add_published(now, &fence.run, What::Event { event: event.event.clone(), id, by, content, data });
        CommitStatus::Committed
    }

    pub(super) fn add_published(&mut self, now: u64, run: &str, what: What) {
        if let Some(run) = self.runs.get_mut(run) {
            run.published.add(now, what);
        }
        self.news.arrived = true;
    }

    /// Publishes the state of a step execution, if the run was started with its steps to be followed.
    pub(super) fn tell(&mut self, now: u64, run: &str, seq: u64, state: StepState, worker: &str) {
        self.tell_more(now, run, seq, state, worker, Vec::new(), None);
    }

    pub(super) fn tell_failure(&mut self, now: u64, attempt: &Actor, state: StepState, error: &str) {
        self.tell_more(now, &attempt.run, attempt.seq, state, &attempt.worker, Vec::new(), Some(error.to_owned()));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one entry")]
    pub(super) fn tell_more(
        &mut self,
        now: u64,
        run: &str,
        seq: u64,
        state: StepState,
        worker: &str,
        emitted: Vec<String>,
        error: Option<String>,
    ) {
        let Some(run) = self.runs.get_mut(run).filter(|run| run.follow_steps) else { return };
        let Some(execution) = run.steps.as_ref().and_then(|steps| steps.executions.get(&seq)) else { return };
        let Route { step, event, .. } = execution.work.route.clone();
        let by = By { step, seq, attempt: execution.attempt, worker: worker.to_owned() };
        run.published.add(now, What::State { state, event, by, emitted, error });
        self.news.arrived = true;
    }

    pub(super) fn published(&self, run: &str, after: Position, count: u64) -> Vec<Published> {
        let all = self.runs.get(run).into_iter().flat_map(|run| &run.published.entries);
        let count = usize::try_from(count.clamp(1, MAX_PUBLISHED_READ)).unwrap_or(usize::MAX);
        all.filter(|entry| entry.position > after).take(count).cloned().collect()
    }
}
