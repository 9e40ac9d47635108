//! `begin`, and the claim that it shares with `done` and `fail`: takes step events off the queues, raises the
//! attempt, notes the hold, and answers with event and context.

use std::time::Duration;

use super::state::{Begins, Entry, Event, Hold, Lane, Phase, State, Work};
use super::stream::EntryId;
use crate::codec;
use crate::names::QueueName;
use crate::published::StepState;
use crate::run::Status;
use crate::step::{Call, Claim, Claimed, Fence, join_payloads};
use crate::store::Delivery;

/// How often a claim looks into one stream: entries that are void make room for others.
const TRIES: usize = 3;
/// How many branches of a large fan-out are written at a time.
const FAN_BATCH: usize = 64;

impl State {
    /// Takes up what a reader was given, and claims more. None when the worker's lease is gone.
    pub(super) fn begin(
        &mut self,
        now: u64,
        call: &Call,
        delivered: &[Delivery],
        claim: &Claim,
    ) -> Option<Vec<Claimed>> {
        if !self.workers.contains_key(&call.worker) {
            return None;
        }
        if call.again {
            let earlier = self.taken_by(now, call);
            if !earlier.is_empty() {
                return Some(earlier);
            }
        }
        let mut taken = Vec::new();
        for delivery in delivered {
            // Whoever takes an entry up owns it; a reader that was taken for dead no longer does.
            if let Some(entry) = self.take_up(delivery) {
                self.begin_entry(now, call, entry, &mut taken);
            }
        }
        self.serve(now, call, claim, &mut taken);
        Some(taken)
    }

    pub(super) fn claim_more(&mut self, now: u64, call: &Call, claim: &Claim) -> Vec<Claimed> {
        let mut taken = Vec::new();
        if self.workers.contains_key(&call.worker) {
            self.serve(now, call, claim, &mut taken);
        }
        taken
    }

    /// What an earlier try of this call took and still holds: its reply was lost.
    pub(super) fn taken_by(&mut self, now: u64, call: &Call) -> Vec<Claimed> {
        let Some(member) = self.workers.get(&call.worker) else { return Vec::new() };
        let by_call = member.holds.iter().filter(|(_, hold)| hold.call == call.number);
        let mut earlier: Vec<(u64, Fence)> =
            by_call.map(|((run, seq), hold)| (hold.order, hold.fence(run, *seq))).collect();
        earlier.sort_unstable_by_key(|(order, _)| *order);
        earlier.retain(|(_, fence)| self.is_held(&call.worker, fence));
        earlier.into_iter().filter_map(|(_, fence)| self.claimed(now, &fence.run, fence.seq)).collect()
    }

    /// The queues in the order given, and of each what was queued again first.
    fn serve(&mut self, now: u64, call: &Call, claim: &Claim, taken: &mut Vec<Claimed>) {
        for queue in &claim.queues {
            for lane in Lane::ALL {
                for _ in 0..TRIES {
                    let entries = self.lane(queue, lane).take(claim.max.saturating_sub(taken.len()));
                    if entries.is_empty() {
                        break;
                    }
                    for entry in entries {
                        self.begin_entry(now, call, entry, taken);
                    }
                }
            }
        }
    }

    fn take_up(&mut self, delivery: &Delivery) -> Option<Entry> {
        let (lane, name) = delivery.stream.split_once(':')?;
        let lane = if lane == "requeued" { Lane::Requeued } else { Lane::New };
        let (workflow, version) = name.rsplit_once(':')?;
        let queue = QueueName::new(workflow, version.parse().ok()?);
        self.lane(&queue, lane).take_up(EntryId::parse(&delivery.entry)?)
    }

    fn begin_entry(&mut self, now: u64, call: &Call, entry: Entry, taken: &mut Vec<Claimed>) {
        match entry {
            Entry::Step { run, seq } => {
                if self.hold(now, call, &run, seq) {
                    taken.extend(self.claimed(now, &run, seq));
                }
            }
            Entry::Fan { run, scope } => self.write_branches(now, &run, scope),
        }
    }

    /// False where there is nothing to begin: the run has ended, or somebody else was faster.
    fn hold(&mut self, now: u64, call: &Call, run: &str, seq: u64) -> bool {
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get(&seq)) else { return false };
        if !matches!(execution.phase, Phase::Queued(_)) {
            return false;
        }
        if self.is_closed(run, seq) {
            self.bury(now, run, seq);
            return false;
        }
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) else { return false };
        execution.attempt += 1;
        execution.phase = Phase::Held { worker: call.worker.clone(), since: now, claim: call.number };
        let attempt = execution.attempt;
        self.tell(now, run, seq, StepState::Running, &call.worker);
        self.holds_taken += 1;
        if let Some(member) = self.workers.get_mut(&call.worker) {
            let fresh = Hold { attempt, call: call.number, order: self.holds_taken };
            let hold = member.holds.entry((run.to_owned(), seq)).or_insert(fresh);
            // What is left of an earlier run of this id keeps its place, as in a hash of Redis.
            (hold.attempt, hold.call) = (attempt, call.number);
        }
        true
    }

    /// A held step execution as its worker gets it. The first one that is given the input sets the run going.
    fn claimed(&mut self, now: u64, run: &str, seq: u64) -> Option<Claimed> {
        let state = self.runs.get_mut(run)?;
        let steps = state.steps.as_ref()?;
        let execution = steps.executions.get(&seq)?;
        let chain = steps.scopes_of(execution.work.scope)?;
        let Phase::Held { claim, .. } = execution.phase else { return None };
        let Work { scope, route, event } = &execution.work;
        let (payload, joined) = match event {
            Event::Input => {
                if state.shown.status == Status::Queued {
                    state.shown.status = Status::Running;
                    state.shown.started_ms = Some(now);
                }
                (codec::input_payload(state.shown.content, &state.shown.input), None)
            }
            Event::Payload(payload) => (payload.clone(), None),
            // Not for reading: it only makes the answer the same as that of Redis.
            Event::Set(set) => (join_payloads(set.iter()), None),
            Event::Joined(joined) => (format!("{} {}", joined.scope, joined.count).into_bytes(), Some(joined.clone())),
        };
        // A first attempt has recorded nothing yet.
        let journal = if execution.attempt > 1 { execution.journal.clone().into_iter().collect() } else { Vec::new() };
        let context = if route.context { state.context.clone().into_iter().collect() } else { Vec::new() };
        let (last_error, elapsed) = match &execution.kept {
            Some(kept) => (Some(kept.error.clone()), Duration::from_millis(now.saturating_sub(kept.began))),
            None => (None, Duration::ZERO),
        };
        Some(Claimed {
            fence: Fence { run: run.to_owned(), seq, attempt: execution.attempt, claim },
            failures: execution.failures,
            last_error,
            elapsed,
            recoveries: route.recoveries,
            scope: *scope,
            within: chain.into_iter().skip(1).collect(),
            step: route.step.clone(),
            event: route.event.clone(),
            payload,
            joined,
            parts: if let Event::Set(set) = event { Some(set.clone()) } else { None },
            workflow: state.shown.workflow.clone(),
            version: state.shown.version,
            content: state.shown.content,
            follow_steps: state.follow_steps,
            context,
            journal,
        })
    }

    /// Writes the next branches of a large fan-out; while any are left, its entry goes to the end of the queue.
    fn write_branches(&mut self, now: u64, run: &str, scope: u64) {
        let Some(state) = self.runs.get_mut(run) else { return };
        let Some(steps) = &mut state.steps else { return };
        // The entry may be of an earlier run of this id, and the branches staged by an attempt that has not committed.
        if steps.scopes_of(scope).is_none() {
            return;
        }
        let Some(staged) = steps.staged.get_mut(&scope) else { return };
        let batch = staged.drain(..FAN_BATCH.min(staged.len()));
        let works = batch.map(|(route, payload)| Work { scope, route, event: Event::Payload(payload) }).collect();
        let any_left = !staged.is_empty();
        if !any_left {
            steps.staged.remove(&scope);
        }
        self.create(now, run, Begins::Now, works);
        if any_left {
            self.queue_fan(now, run, scope, Lane::New);
        }
    }
}
