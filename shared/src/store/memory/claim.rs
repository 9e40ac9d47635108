//! `claim`, and how `claim`, `complete`, `fail` and `suspend` take step events: they take them off the queues,
//! increment the attempt, record the hold, and return event and context.

use std::time::Duration;

use super::data::{Begins, Data, Held, Lane, Member, QueueEntry, Slot};
use super::run::{EventSource, Phase, Work};
use crate::codec;
use crate::names::QueueName;
use crate::published::StepState;
use crate::run::Status;
use crate::step::{CallId, Claim, Claimed, Fence, Line, Taken, join_payloads};

/// How many times one call reads from queues, since entries may turn out to be stale.
const READS: usize = 3;
/// How many branches of a large fan-out one batch writes.
const FAN_BATCH: usize = 64;

impl Data {
    /// Fills free slots. None if the worker has no lease.
    pub(super) fn claim(&mut self, now: u64, call: &CallId, claim: &Claim) -> Option<Taken> {
        let member = self.workers.get(&call.worker)?;
        if call.again {
            let by_call = |slot: &u32| member.slots.get(slot).filter(|slot| slot.call == call.number);
            let earlier: Vec<Held> =
                claim.slots.iter().filter_map(by_call).filter_map(|slot| slot.held.clone()).collect();
            let earlier: Vec<Claimed> = earlier.iter().filter_map(|held| self.still_held(now, call, held)).collect();
            if !earlier.is_empty() {
                return Some(Taken { steps: earlier, vacated: Vec::new() });
            }
        }
        let vacated = self.vacate_claimed(now, &call.worker, &claim.slots);
        let alone = if claim.alone { self.take_alone(now, call, claim.after.as_ref()) } else { None };
        let taken = match alone {
            Some(held) => vec![held],
            None => self.take(now, call, claim.slots.len(), claim.after.as_ref()),
        };
        for (slot, held) in claim.slots.iter().zip(&taken) {
            self.fill(call, *slot, true, Some(held.clone()));
        }
        let steps = taken.iter().filter_map(|held| self.claimed(now, &held.run, held.seq)).collect();
        Some(Taken { steps, vacated })
    }

    /// Records in a slot what it holds from now on.
    pub(super) fn fill(&mut self, call: &CallId, slot: u32, is_good: bool, held: Option<Held>) {
        if let Some(held) = &held
            && let Some(execution) = self.steps(&held.run).and_then(|steps| steps.executions.get_mut(&held.seq))
            && let Phase::Held { slot: at, .. } = &mut execution.phase
        {
            *at = slot;
        }
        if let Some(member) = self.workers.get_mut(&call.worker) {
            member.slots.insert(slot, Slot { call: call.number, is_good, held });
        }
    }

    /// What an earlier try of this call took, if its worker still holds it.
    pub(super) fn still_held(&mut self, now: u64, call: &CallId, held: &Held) -> Option<Claimed> {
        let steps = self.runs.get(&held.run)?.steps.as_ref()?;
        let execution = steps.executions.get(&held.seq).filter(|execution| execution.attempt == held.attempt)?;
        let Phase::Held { worker, claim, .. } = &execution.phase else { return None };
        if *worker != call.worker || *claim != call.number {
            return None;
        }
        self.claimed(now, &held.run, held.seq)
    }

    /// Takes up to `most` step executions. Requeued ones go first; queues take turns, from the one after `after`.
    pub(super) fn take(&mut self, now: u64, call: &CallId, most: usize, after: Option<&QueueName>) -> Vec<Held> {
        let (mut taken, mut after) = (Vec::new(), after.cloned());
        for _ in 0..READS {
            if taken.len() >= most {
                break;
            }
            let Some((lane, queue)) = self.next_queue(&call.worker, after.as_ref(), &Lane::SHARED) else { break };
            let entries = self.lane(&queue, lane).take(most - taken.len());
            if entries.is_empty() {
                self.ready(lane).remove(&queue);
            }
            for entry in entries {
                match entry {
                    QueueEntry::Step { run, seq } => taken.extend(self.hold(now, call, &run, seq, false)),
                    QueueEntry::Fan { run, group } => self.write_branches(now, &run, group),
                }
            }
            after = Some(queue);
        }
        taken
    }

    /// Takes one step execution from the `Alone` lanes.
    fn take_alone(&mut self, now: u64, call: &CallId, after: Option<&QueueName>) -> Option<Held> {
        let mut after = after.cloned();
        for _ in 0..READS {
            let (lane, queue) = self.next_queue(&call.worker, after.as_ref(), &[Lane::Alone])?;
            let entry = self.lane(&queue, lane).take(1).pop();
            if self.lane(&queue, lane).len() == 0 {
                self.ready(lane).remove(&queue);
            }
            if let Some(QueueEntry::Step { run, seq }) = entry
                && let Some(held) = self.hold(now, call, &run, seq, true)
            {
                return Some(held);
            }
            after = Some(queue);
        }
        None
    }

    /// The lanes that the worker may take from. Only a worker that executes nothing takes from `Alone`.
    pub(super) fn lanes_of(&self, worker: &str) -> &'static [Lane] {
        let is_busy = |member: &Member| member.slots.values().any(|slot| slot.held.is_some());
        if self.workers.get(worker).is_some_and(is_busy) { &Lane::SHARED } else { &Lane::ALL }
    }

    /// The first of these lanes with an entry in a queue that the worker serves. None if all are empty.
    pub(super) fn next_queue(
        &mut self,
        worker: &str,
        after: Option<&QueueName>,
        lanes: &[Lane],
    ) -> Option<(Lane, QueueName)> {
        let queues = self.workers.get(worker)?.queues.clone();
        let next = |state: &mut Self, lane: Lane| {
            let mut waiting = state.ready(lane).iter().filter(|queue| queues.contains(queue));
            let following = waiting.clone().find(|queue| after.is_none_or(|after| *queue > after));
            following.or_else(|| waiting.next()).cloned()
        };
        lanes.iter().find_map(|lane| Some((*lane, next(self, *lane)?)))
    }

    /// Holds a queued step execution. None if it cannot begin: the run has ended, or another worker took it first.
    fn hold(&mut self, now: u64, call: &CallId, run: &str, seq: u64, alone: bool) -> Option<Held> {
        // A paused run keeps it as it is: `resume` requeues it.
        let execution = self.steps(run).filter(|steps| !steps.is_held_back())?.executions.get(&seq)?;
        let Phase::Queued(place) = execution.phase else { return None };
        // A stale entry, from before the step execution moved to the `Alone` lane.
        if place.lane == Lane::Alone && !alone {
            return None;
        }
        if self.is_closed(run, seq) {
            self.discard(now, run, seq);
            return None;
        }
        let execution = self.steps(run)?.executions.get_mut(&seq)?;
        execution.attempt += 1;
        execution.phase = Phase::Held { worker: call.worker.clone(), since: now, claim: call.number, slot: 0 };
        let attempt = execution.attempt;
        execution.keeper.take_if(|(keeper, _)| *keeper != call.worker);
        self.tell(now, run, seq, StepState::Running, &call.worker);
        Some(Held { run: run.to_owned(), seq, attempt })
    }

    /// A held step execution as its worker receives it. The first one that gets the input starts the run. A worker that
    /// has the body in memory gets only what is new, the first time.
    pub(super) fn claimed(&mut self, now: u64, run: &str, seq: u64) -> Option<Claimed> {
        let whole = self.whole(now, run, seq)?;
        let keeper = self.steps(run)?.executions.get_mut(&seq)?.keeper.take();
        let Some((_, numbers)) = keeper else { return Some(whole) };
        let journal = whole.journal.into_iter().filter(|(number, _)| numbers.contains(number)).collect();
        // The payload of a set or a join tells the worker where to read it.
        let is_input = matches!(self.steps(run)?.executions.get(&seq)?.work.event, EventSource::Input);
        let payload = if is_input { codec::input_payload(whole.content, &[]) } else { whole.payload };
        let nothing = (None, Duration::ZERO, Vec::new(), 0);
        let (last_error, elapsed, context, context_version) = nothing;
        Some(Claimed { kept: true, journal, payload, last_error, elapsed, context, context_version, ..whole })
    }

    fn whole(&mut self, now: u64, run: &str, seq: u64) -> Option<Claimed> {
        let state = self.runs.get_mut(run)?;
        let steps = state.steps.as_ref()?;
        let execution = steps.executions.get(&seq)?;
        let chain = steps.groups_of(execution.work.group)?;
        let Phase::Held { claim, slot, .. } = execution.phase else { return None };
        let Work { group, route, event } = &execution.work;
        let (payload, joined) = match event {
            EventSource::Input => {
                if state.shown.status == Status::Queued {
                    state.shown.status = Status::Running;
                    state.shown.started_ms = Some(now);
                }
                (codec::input_payload(state.shown.content, &state.shown.input), None)
            }
            EventSource::Payload(payload) | EventSource::Outside(payload) => (payload.clone(), None),
            // Nobody reads it: it only keeps the answer identical to that of Redis.
            EventSource::Set(set) => (join_payloads(set.iter()), None),
            EventSource::Joined(joined) => {
                (format!("{} {}", joined.group, joined.count).into_bytes(), Some(joined.clone()))
            }
        };
        // The journal of a first attempt is empty.
        let journal = if execution.attempt > 1 { execution.journal.clone().into_iter().collect() } else { Vec::new() };
        let context = if route.context {
            state.context.iter().map(|(field, value)| (field.clone(), value.clone().into())).collect()
        } else {
            Vec::new()
        };
        let (last_error, elapsed) = match &execution.kept {
            Some(kept) => (Some(kept.error.clone()), Duration::from_millis(now.saturating_sub(kept.began))),
            None => (None, Duration::ZERO),
        };
        Some(Claimed {
            fence: Fence { run: run.to_owned(), seq, attempt: execution.attempt, claim, slot, line: Line::default() },
            failures: execution.failures,
            last_error,
            elapsed,
            recoveries: route.recoveries,
            group: *group,
            within: chain.into_iter().skip(1).collect(),
            step: route.step.clone(),
            event: route.event.clone(),
            payload,
            joined,
            is_outside: matches!(event, EventSource::Outside(_)),
            parts: if let EventSource::Set(set) = event { Some(set.clone()) } else { None },
            workflow: state.shown.workflow.clone(),
            version: state.shown.version,
            content: state.shown.content,
            follow_steps: state.follow_steps,
            durability: state.shown.durability.unwrap_or_default(),
            context,
            context_version: if route.context { state.context_version } else { 0 },
            is_limited: route.limit.is_some(),
            alone: execution.is_suspect(),
            damage: None,
            journal,
            kept: false,
            queued: None,
        })
    }

    /// Writes the next branches of a large fan-out; while any remain, appends its entry to the queue again.
    fn write_branches(&mut self, now: u64, run: &str, group: u64) {
        let Some(state) = self.runs.get_mut(run) else { return };
        let Some(steps) = &mut state.steps else { return };
        // The entry may belong to an earlier run with this id, and the branches to an attempt that has not committed.
        if steps.groups_of(group).is_none() || steps.is_held_back() {
            return;
        }
        let Some(staged) = steps.staged.get_mut(&group) else { return };
        let batch = staged.drain(..FAN_BATCH.min(staged.len()));
        let works = batch.map(|(route, payload)| Work { group, route, event: EventSource::Payload(payload) }).collect();
        let any_left = !staged.is_empty();
        if !any_left {
            steps.staged.remove(&group);
        }
        self.create(now, run, Begins::Now, works);
        if any_left {
            self.queue_fan(now, run, group, Lane::New);
        }
    }
}
