//! Reads of runs and workers. They change nothing.

use super::data::{Data, Member};
use super::run::{Execution, Phase};
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::{self, QueueName};
use crate::run::Run;
use crate::step::{JoinBuffer, OpenWait};
use crate::store::{Deferred, LiveStep, Registration, StepStanding, WorkerInfo, in_order};

/// How many live step executions of a run are shown.
const SHOWN_STEPS: usize = 100;
/// How many joined events one slice reads at most.
const MAX_SLICE: u64 = 1000;

impl Data {
    pub(super) fn joined(&self, run: &str, step: &str, joined: &JoinBuffer, from: u64, count: u64) -> Vec<Vec<u8>> {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref().or(run.stopped.as_ref()));
        let events = steps.and_then(|steps| steps.joined.get(&(joined.group, step.to_owned())));
        slice(events.into_iter().flatten(), from, count.min(MAX_SLICE))
    }

    /// The run with this id, or the one that its request repeated.
    pub(super) fn run(&self, now: u64, id: &str) -> Option<Run> {
        let shown = |id: &str| self.runs.get(id).map(|run| run.shown.clone());
        shown(id).or_else(|| shown(&self.aliases.get(id).filter(|lead| lead.is_good(now))?.run))
    }

    pub(super) fn context(&self, run: &str) -> Vec<(String, Vec<u8>)> {
        let fields = self.runs.get(run).map(|run| run.context.clone());
        fields.unwrap_or_default().into_iter().collect()
    }

    pub(super) fn has_ended(&self, run: &str) -> bool {
        self.runs.get(run).is_some_and(|run| run.shown.status.is_over())
    }

    pub(super) fn newest(&self, offset: usize, count: usize) -> Vec<Run> {
        let ids = self.created.iter().rev().skip(offset).take(count.max(1));
        ids.filter_map(|(_, id)| self.runs.get(id)).map(|run| run.shown.clone()).collect()
    }

    pub(super) fn history(&self, run: &str, from: u64, count: u64) -> Vec<Record> {
        slice(self.runs.get(run).into_iter().flat_map(|run| &run.history), from, count)
    }

    pub(super) fn open_waits(&self, run: &str) -> Vec<OpenWait> {
        let Some(steps) = self.runs.get(run).and_then(|run| run.steps.as_ref()) else { return Vec::new() };
        let all = steps.waits.iter().flat_map(|(name, waits)| waits.iter().map(move |wait| (name, wait)));
        let shown = all.filter(|(_, wait)| steps.is_waiting(wait.seq)).map(|(name, wait)| OpenWait {
            seq: wait.seq,
            step: steps.executions[&wait.seq].work.route.step.clone(),
            number: wait.number,
            name: names::text(name),
            filter: wait.filter.clone(),
            due_ms: wait.due,
        });
        in_order(shown.collect())
    }

    pub(super) fn live_steps(&self, run: &str) -> Vec<LiveStep> {
        let Some(steps) = self.runs.get(run).and_then(|run| run.steps.as_ref()) else { return Vec::new() };
        let shown = |(seq, execution): (&u64, &Execution)| {
            let standing = match &execution.phase {
                Phase::Queued(_) => StepStanding::Queued,
                Phase::Held { worker, since, .. } => StepStanding::Running { worker: worker.clone(), since_ms: *since },
                Phase::Waiting { due } => StepStanding::Waiting { due_ms: *due },
                Phase::Suspended { .. } => StepStanding::Suspended,
                Phase::Turn => StepStanding::Turn,
                Phase::Ending => return None,
            };
            let step = execution.work.route.step.clone();
            Some(LiveStep { seq: *seq, step, attempt: execution.attempt, standing })
        };
        steps.executions.iter().filter_map(shown).take(SHOWN_STEPS).collect()
    }

    pub(super) fn workers(&self, now: u64) -> Vec<WorkerInfo> {
        let mut members: Vec<_> = self.workers.iter().collect();
        members.sort_by_key(|(id, member)| (member.lease_until, *id));
        members.into_iter().map(|(id, member)| worker(now, id, member)).collect()
    }

    /// Workers whose lease connection is closed.
    pub(super) fn disconnected(&self) -> Vec<(String, u64)> {
        let mut members: Vec<_> = self.workers.iter().collect();
        members.sort_by_key(|(id, member)| (member.lease_until, *id));
        let known = members.into_iter().map(|(id, member)| (id.clone(), member.client));
        known.filter(|(_, client)| *client != 0 && !self.connections.contains(client)).collect()
    }

    pub(super) fn queues(&self) -> Vec<Queue> {
        let queue = |(name, served): (&QueueName, &Registration)| Queue {
            workflow: served.workflow.clone(),
            version: served.version,
            waiting: self
                .queues
                .get(name)
                .map_or(0, |queue| (queue.new.len() + queue.requeued.len() + queue.alone.len()) as u64),
            departed_ms: self.departed.get(name).copied(),
        };
        self.registrations.iter().map(queue).collect()
    }

    pub(super) fn deferred(&self) -> Vec<Deferred> {
        let waiting = self.deferred.iter();
        waiting
            .map(|(run, waiting)| Deferred {
                run: run.clone(),
                request: waiting.request.clone(),
                since_ms: waiting.since,
            })
            .collect()
    }
}

fn slice<'a, T: Clone + 'a>(all: impl Iterator<Item = &'a T>, from: u64, count: u64) -> Vec<T> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    all.skip(size(from)).take(size(count.max(1))).cloned().collect()
}

fn worker(now: u64, id: &str, member: &Member) -> WorkerInfo {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    WorkerInfo {
        id: id.to_owned(),
        host: member.host.clone(),
        pid: member.pid,
        concurrency: member.concurrency,
        held: member.slots.values().filter(|slot| slot.held.is_some()).count() as u64,
        since_ms: member.since,
        lease_ms: signed(member.lease_until) - signed(now),
        client: member.client,
        serves: member.queues.iter().map(ToString::to_string).collect(),
    }
}
