//! `complete` and `fail`: commit what one step execution produced, under its fence.

use std::collections::VecDeque;

use super::data::{Data, Held, Lane, RUN, Slot, Taker};
use super::millis;
use super::run::{Actor, Execution, FailedBefore, Phase, RunEnd};
use super::timers::Timer;
use crate::error::Result;
use crate::history::Kind;
use crate::published::StepState;
use crate::step::{CallId, Claimed, Commit, CommitStatus, Failure, Fence, Next, Refill, Upon};

impl Data {
    pub(super) fn complete(
        &mut self,
        now: u64,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        let run = &step.fence.run;
        let is_earlier = self.answer_again(now, call, &step.fence).is_some();
        let is_ours = !is_earlier && self.is_good(&call.worker, &step.fence);
        if is_ours && !self.is_forgotten(&step.fence, commit.upon) {
            if !self.is_all_staged(&step.fence, staged(commit)) {
                return Ok((CommitStatus::Unstaged, Vec::new()));
            }
            if let Some(outcome) = self.objection(run, commit.changes())? {
                return Ok((outcome, Vec::new()));
            }
        }
        let fence = (&step.fence, commit.upon);
        Ok(self.under_fence(now, call, fence, refill, |state, attempt| state.apply(now, attempt, step, commit)))
    }

    /// Schedules a retry, which holds no worker meanwhile, or fails the run.
    pub(super) fn fail(
        &mut self,
        now: u64,
        call: &CallId,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> (CommitStatus, Vec<Claimed>) {
        let upon = if let Failure::Fail { upon, .. } = failure { *upon } else { None };
        self.under_fence(now, call, (&step.fence, upon), refill, |state, attempt| match failure {
            Failure::Retry { delay, error } => {
                state.tell_failure(now, attempt, StepState::Retry, error);
                state.try_later(now, attempt, millis(*delay), error);
            }
            Failure::Fail { error, retention, forget, .. } => {
                state.tell_failure(now, attempt, StepState::Failed, error);
                state.fail_run(now, attempt, error.clone(), millis(*retention));
                if let Some(steps) = state.runs.get_mut(&attempt.run).and_then(|run| run.stopped.as_mut()) {
                    steps.forget.clone_from(forget);
                }
            }
        })
    }

    fn try_later(&mut self, now: u64, attempt: &Actor, delay: u64, error: &str) {
        self.note(now, Kind::Retry, attempt, format!("{delay} {error}"));
        let execution = self.steps(&attempt.run).and_then(|steps| steps.executions.get_mut(&attempt.seq));
        let Some(execution) = execution else { return };
        let began = match (&execution.kept, &execution.phase) {
            (Some(kept), _) => kept.began,
            (None, Phase::Held { since, .. }) => *since,
            (None, _) => now,
        };
        execution.kept = Some(FailedBefore { began, error: error.to_owned() });
        execution.failures += 1;
        let due = now.saturating_add(delay);
        execution.phase = Phase::Waiting { due };
        self.timers.set(due, Timer::step(&attempt.run, attempt.seq, attempt.number));
    }

    /// The outcome of an earlier try of this call, and what its slot holds since. None if no earlier try took effect.
    pub(super) fn answer_again(
        &mut self,
        now: u64,
        call: &CallId,
        fence: &Fence,
    ) -> Option<(CommitStatus, Vec<Claimed>)> {
        let slot = self.workers.get(&call.worker)?.slots.get(&fence.slot)?.clone();
        if !call.again || slot.call != call.number {
            return None;
        }
        let claims = slot.held.and_then(|held| self.still_held(now, call, &held));
        Some((if slot.is_good { CommitStatus::Committed } else { CommitStatus::Fenced }, claims.into_iter().collect()))
    }

    /// Runs `act` if the fence is good, and refills the slot. What is forgotten changes nothing: the worker gives the step
    /// execution back.
    pub(super) fn under_fence(
        &mut self,
        now: u64,
        call: &CallId,
        (fence, upon): (&Fence, Option<Upon>),
        refill: &Refill,
        act: impl FnOnce(&mut Self, &Actor),
    ) -> (CommitStatus, Vec<Claimed>) {
        if let Some(earlier) = self.answer_again(now, call, fence) {
            return earlier;
        }
        let mut is_good = self.is_held(&call.worker, fence);
        if is_good && self.is_closed(&fence.run, fence.seq) {
            self.discard(now, &fence.run, fence.seq);
            is_good = false;
        }
        if is_good && self.is_forgotten(fence, upon) {
            return (CommitStatus::Forgotten, Vec::new());
        }
        let mut taker = None;
        if is_good && let Some(attempt) = self.attempt(&call.worker, fence) {
            // Successors in a held-back run are queued instead, until the run goes on.
            self.taker = if self.is_held_back(&fence.run) { None } else { self.taker_of(call, fence.slot, refill) };
            if let Some(steps) = self.steps(&fence.run) {
                steps.executions.get_mut(&fence.seq).map(Execution::ended_well);
            }
            act(self, &attempt);
            taker = self.taker.take();
        } else if !self.may_use(&call.worker, fence) {
            return (CommitStatus::Fenced, Vec::new());
        }
        let held = self.refill(now, call, refill, &fence.run, taker);
        self.fill(call, fence.slot, is_good, held.clone());
        let claims = held.and_then(|held| self.claimed(now, &held.run, held.seq));
        (if is_good { CommitStatus::Committed } else { CommitStatus::Fenced }, claims.into_iter().collect())
    }

    /// The slot that a successor is handed to directly.
    fn taker_of(&mut self, call: &CallId, slot: u32, refill: &Refill) -> Option<Taker> {
        let others_wait = refill.next == Next::Others && {
            let next = self.next_queue(&call.worker, refill.after.as_ref(), &Lane::SHARED);
            next.is_some()
        };
        let taker = Taker { worker: call.worker.clone(), call: call.number, slot, taken: None, branches: None };
        (refill.next != Next::Nothing && !others_wait).then_some(taker)
    }

    /// Whether the slot is empty or still holds the step execution of this fence, and so may be refilled.
    fn may_use(&self, worker: &str, fence: &Fence) -> bool {
        let slot = self.workers.get(worker).and_then(|member| member.slots.get(&fence.slot));
        let held = slot.and_then(|slot| slot.held.as_ref());
        let is_it = |held: &Held| (&held.run, held.seq, held.attempt) == (&fence.run, fence.seq, fence.attempt);
        held.is_none_or(is_it) && slot.is_none_or(|slot| slot.held.is_none() || slot.call == fence.claim)
    }

    /// Refills the slot: with the step execution handed over, a staged branch of the same fan-out, or one from a queue.
    fn refill(&mut self, now: u64, call: &CallId, refill: &Refill, run: &str, taker: Option<Taker>) -> Option<Held> {
        let branches = taker.as_ref().and_then(|taker| taker.branches).filter(|_| refill.next == Next::Following);
        if let Some(held) = taker.and_then(|taker| taker.taken) {
            let steps = self.runs.get(&held.run).and_then(|run| run.steps.as_ref());
            // The same call may have ended its run, which removes it, or closed a fan-out around it, which voids it.
            let is_void =
                steps.and_then(|steps| Some(steps.groups_of(steps.executions.get(&held.seq)?.work.group).is_none()));
            match is_void {
                Some(false) => {
                    self.tell(now, &held.run, held.seq, StepState::Running, &call.worker);
                    return Some(held);
                }
                Some(true) => self.discard(now, &held.run, held.seq),
                None => {}
            }
        }
        if let Some(held) = branches.and_then(|group| self.take_branch(now, call, run, group)) {
            return Some(held);
        }
        let is_registered = refill.next != Next::Nothing && self.workers.contains_key(&call.worker);
        if is_registered { self.take(now, call, 1, refill.after.as_ref()).pop() } else { None }
    }

    /// False if a restart lost the last chunks.
    fn is_all_staged(&self, fence: &Fence, count: u64) -> bool {
        let steps = self.runs.get(&fence.run).and_then(|run| run.steps.as_ref());
        let staged = steps.and_then(|steps| steps.staged.get(&fence.seq)).map_or(0, VecDeque::len);
        count == 0 || staged as u64 == count
    }

    /// Whether the fence belongs to the current attempt, and this worker holds it.
    pub(super) fn is_held(&self, worker: &str, fence: &Fence) -> bool {
        let steps = self.runs.get(&fence.run).and_then(|run| run.steps.as_ref());
        let execution = steps.and_then(|steps| steps.executions.get(&fence.seq));
        execution.is_some_and(|execution| {
            execution.attempt == fence.attempt
                && matches!(&execution.phase, Phase::Held { worker: holder, claim, .. }
                    if holder == worker && *claim == fence.claim)
        })
    }

    /// Whether the worker holds it, and no fan-out around it has closed.
    pub(super) fn is_good(&self, worker: &str, fence: &Fence) -> bool {
        self.is_held(worker, fence) && !self.is_closed(&fence.run, fence.seq)
    }

    pub(super) fn attempt(&self, worker: &str, fence: &Fence) -> Option<Actor> {
        let execution = self.runs.get(&fence.run)?.steps.as_ref()?.executions.get(&fence.seq)?;
        Some(Actor {
            run: fence.run.clone(),
            seq: fence.seq,
            number: fence.attempt,
            step: execution.work.route.step.clone(),
            worker: worker.to_owned(),
        })
    }

    /// Empties the slot with this hold. False if the worker has no such hold.
    pub(super) fn drop_hold(&mut self, worker: &str, fence: &Fence) -> bool {
        let Some(member) = self.workers.get_mut(worker) else { return false };
        let has = |slot: &Slot| slot.held.as_ref().is_some_and(|held| held.fence(fence.slot, slot.call) == *fence);
        let known = member.slots.get(&fence.slot).is_some_and(has);
        known && member.slots.remove(&fence.slot).is_some()
    }

    fn apply(&mut self, now: u64, attempt: &Actor, step: &Claimed, commit: &Commit) {
        let retention = millis(commit.retention);
        if commit.result.is_none()
            && let Some(why) = self.why_not(attempt, commit)
        {
            self.tell_failure(now, attempt, StepState::Failed, &why);
            return self.fail_run(now, attempt, why, retention);
        }
        self.write_context(&attempt.run, commit.changes());
        let (state, emitted, error) = match commit.instead() {
            Some(error) => (StepState::Failed, commit.emitted.clone(), Some(error.to_owned())),
            None => (StepState::Done, commit.emitted.clone(), None),
        };
        self.tell_more(now, &attempt.run, attempt.seq, state, &attempt.worker, emitted, error);
        let Some(steps) = self.steps(&attempt.run) else { return };
        let others = steps.groups.get(&RUN).is_some_and(|run| run.live > 1);
        let Some(execution) = steps.executions.get_mut(&attempt.seq) else { return };
        let (group, step_name) = (execution.work.group, execution.work.route.step.clone());
        let has_siblings = group != RUN || others;
        let before = std::mem::replace(&mut execution.phase, Phase::Ending);
        let since = if let Phase::Held { since, .. } = before { since } else { now };
        if let Some(joined) = &step.joined {
            steps.joined.remove(&(joined.group, step.step.clone()));
        }
        match commit.instead() {
            Some(error) => {
                let kind = if commit.unreadable.is_some() { Kind::Unreadable } else { Kind::Caught };
                self.note(now, kind, attempt, error.to_owned());
            }
            None => self.note(now, Kind::Done, attempt, since.to_string()),
        }
        if commit.journalled {
            self.end_journal(now, attempt, &commit.let_go, commit.result.is_some());
        }
        if let Some(steps) = self.steps(&attempt.run) {
            steps.executions.remove(&attempt.seq);
        }
        if let Some(result) = &commit.result {
            self.note(now, Kind::Completed, attempt, String::new());
            // Other step executions of the run may still be executing; their workers can drop them.
            if has_siblings {
                self.tell_workers(now, attempt.run.clone());
            }
            self.finish(now, attempt, RunEnd::Completed(result.clone()), retention);
        } else {
            self.emit(now, attempt, group, commit);
            self.pass_turn(now, &attempt.run, &step_name);
        }
    }
}

fn staged(commit: &Commit) -> u64 {
    commit.fan.as_ref().map_or(0, |fan| fan.staged)
}
