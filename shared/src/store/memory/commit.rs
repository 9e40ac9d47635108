//! `stage`, `done` and `fail`: what one step execution leaves behind, under its fence.

use std::collections::VecDeque;

use super::millis;
use super::state::{Attempt, End, Kept, Phase, RUN, State};
use super::timers::Timer;
use crate::error::Result;
use crate::history::Kind;
use crate::published::StepState;
use crate::step::{Call, Claim, Claimed, Commit, Failure, Fence, Outcome};

/// Per run: each leaves a few bytes until the run ends.
pub(super) const MAX_EXECUTIONS: u64 = 1_000_000;

/// What a fence is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// What it may commit was committed before.
    Used,
    Void,
}

impl State {
    pub(super) fn done(
        &mut self,
        now: u64,
        call: &Call,
        step: &Claimed,
        commit: &Commit,
        claim: &Claim,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        let (run, seq) = (&step.fence.run, step.fence.seq);
        if self.is_held(&call.worker, &step.fence) && !self.is_closed(run, seq) {
            if !self.is_all_staged(&step.fence, staged(commit)) {
                return Ok((Outcome::Unstaged, Vec::new()));
            }
            if let Some(outcome) = self.objection(run, commit.changes())? {
                return Ok((outcome, Vec::new()));
            }
        }
        Ok(self.under_fence(now, call, &step.fence, claim, |state, attempt| state.apply(now, attempt, step, commit)))
    }

    /// Tries again later, holding no worker; or ends the run.
    pub(super) fn fail(
        &mut self,
        now: u64,
        call: &Call,
        step: &Claimed,
        failure: &Failure,
        claim: &Claim,
    ) -> (Outcome, Vec<Claimed>) {
        self.under_fence(now, call, &step.fence, claim, |state, attempt| match failure {
            Failure::Retry { delay, error } => {
                state.tell_failure(now, attempt, StepState::Retry, error);
                state.retry(now, attempt, millis(*delay), error);
            }
            Failure::Fail { error, retention } => {
                state.tell_failure(now, attempt, StepState::Failed, error);
                state.fail_run(now, attempt, error.clone(), millis(*retention));
            }
        })
    }

    fn retry(&mut self, now: u64, attempt: &Attempt, delay: u64, error: &str) {
        self.note(now, Kind::Retry, attempt, format!("{delay} {error}"));
        let execution = self.steps(&attempt.run).and_then(|steps| steps.executions.get_mut(&attempt.seq));
        let Some(execution) = execution else { return };
        let began = match (&execution.kept, &execution.phase) {
            (Some(kept), _) => kept.began,
            (None, Phase::Held { since, .. }) => *since,
            (None, _) => now,
        };
        execution.kept = Some(Kept { began, error: error.to_owned() });
        execution.failures += 1;
        execution.failed = attempt.number;
        let due = now.saturating_add(delay);
        execution.phase = Phase::Waiting { due };
        self.timers.set(due, Timer::step(&attempt.run, attempt.seq, attempt.number));
    }

    /// Lets `act` change things where the fence is good, and claims more.
    pub(super) fn under_fence(
        &mut self,
        now: u64,
        call: &Call,
        fence: &Fence,
        claim: &Claim,
        act: impl FnOnce(&mut Self, &Attempt),
    ) -> (Outcome, Vec<Claimed>) {
        let mut verdict = self.judge(&call.worker, fence);
        if verdict == Verdict::Good && self.is_closed(&fence.run, fence.seq) {
            self.bury(now, &fence.run, fence.seq);
            verdict = Verdict::Void;
        }
        if verdict == Verdict::Good
            && let Some(attempt) = self.attempt(&call.worker, fence)
        {
            act(self, &attempt);
        }
        self.drop_hold(&call.worker, fence);
        let mut claims = if call.again { self.taken_by(now, call) } else { Vec::new() };
        // A commit that took effect at an earlier try has claimed already.
        if claims.is_empty() && (!call.again || verdict == Verdict::Good) {
            claims = self.claim_more(now, call, claim);
        }
        let outcome = if verdict == Verdict::Void { Outcome::Fenced } else { Outcome::Committed };
        (outcome, claims)
    }

    /// A store may lose its last moments, and with them the last chunks.
    fn is_all_staged(&self, fence: &Fence, count: u64) -> bool {
        let steps = self.runs.get(&fence.run).and_then(|run| run.steps.as_ref());
        let staged = steps.and_then(|steps| steps.staged.get(&fence.seq)).map_or(0, VecDeque::len);
        count == 0 || staged as u64 == count
    }

    fn judge(&self, worker: &str, fence: &Fence) -> Verdict {
        if self.is_held(worker, fence) {
            return Verdict::Good;
        }
        let Some(run) = self.runs.get(&fence.run) else { return Verdict::Void };
        let used = match run.steps.as_ref().and_then(|steps| steps.executions.get(&fence.seq)) {
            Some(execution) if execution.phase == Phase::Done => execution.attempt == fence.attempt,
            Some(execution) => execution.failed == fence.attempt,
            None => run.ended_by == Some((fence.seq, fence.attempt)),
        };
        if used { Verdict::Used } else { Verdict::Void }
    }

    /// The fence is that of the current attempt, and the worker holds it.
    pub(super) fn is_held(&self, worker: &str, fence: &Fence) -> bool {
        let steps = self.runs.get(&fence.run).and_then(|run| run.steps.as_ref());
        let execution = steps.and_then(|steps| steps.executions.get(&fence.seq));
        execution.is_some_and(|execution| {
            execution.attempt == fence.attempt
                && matches!(&execution.phase, Phase::Held { worker: holder, claim, .. }
                    if holder == worker && *claim == fence.claim)
        })
    }

    /// And it does not belong to a fan-out that is closed.
    pub(super) fn is_good(&self, worker: &str, fence: &Fence) -> bool {
        self.is_held(worker, fence) && !self.is_closed(&fence.run, fence.seq)
    }

    pub(super) fn attempt(&self, worker: &str, fence: &Fence) -> Option<Attempt> {
        let execution = self.runs.get(&fence.run)?.steps.as_ref()?.executions.get(&fence.seq)?;
        Some(Attempt {
            run: fence.run.clone(),
            seq: fence.seq,
            number: fence.attempt,
            step: execution.work.route.step.clone(),
            worker: worker.to_owned(),
        })
    }

    /// False where the worker has no such hold.
    pub(super) fn drop_hold(&mut self, worker: &str, fence: &Fence) -> bool {
        let Some(member) = self.workers.get_mut(worker) else { return false };
        let key = (fence.run.clone(), fence.seq);
        let known = member.holds.get(&key).is_some_and(|hold| hold.fence(&fence.run, fence.seq) == *fence);
        known && member.holds.remove(&key).is_some()
    }

    fn apply(&mut self, now: u64, attempt: &Attempt, step: &Claimed, commit: &Commit) {
        self.write_context(&attempt.run, commit.changes());
        let (state, emitted, error) = match &commit.caught {
            Some(error) => (StepState::Failed, commit.emitted.clone(), Some(error.clone())),
            None => (StepState::Done, commit.emitted.clone(), None),
        };
        self.tell_more(now, &attempt.run, attempt.seq, state, &attempt.worker, emitted, error);
        let Some(steps) = self.steps(&attempt.run) else { return };
        let last = steps.last;
        let others = steps.scopes.get(&RUN).is_some_and(|run| run.live > 1);
        let Some(execution) = steps.executions.get_mut(&attempt.seq) else { return };
        let (scope, step_name) = (execution.work.scope, execution.work.route.step.clone());
        let has_siblings = scope != RUN || others;
        let before = std::mem::replace(&mut execution.phase, Phase::Done);
        execution.published.forget();
        if let Some(joined) = &step.joined {
            steps.joined.remove(&(joined.scope, step.step.clone()));
        }
        let since = if let Phase::Held { since, .. } = before { since } else { now };
        match &commit.caught {
            Some(error) => self.note(now, Kind::Caught, attempt, error.clone()),
            None => self.note(now, Kind::Done, attempt, since.to_string()),
        }
        if commit.journalled {
            self.end_journal(now, attempt, &commit.let_go);
        }
        let retention = millis(commit.retention);
        if let Some(result) = &commit.result {
            self.note(now, Kind::Completed, attempt, String::new());
            // Others of its steps may be executing: what they do is in vain.
            if has_siblings {
                self.tell_workers(now, attempt.run.clone());
            }
            self.finish(now, attempt, End::Completed(result.clone()), retention);
        } else if last + commit.emits.len() as u64 + staged(commit) > MAX_EXECUTIONS {
            let why = format!(
                "the run has come to its limit of {MAX_EXECUTIONS} step executions; let a long loop end its run and start the next"
            );
            self.fail_run(now, attempt, why, retention);
        } else if let Err(why) = self.emit(now, attempt, scope, commit) {
            self.fail_run(now, attempt, why, retention);
        } else {
            self.pass_turn(now, &attempt.run, &step_name);
        }
    }
}

fn staged(commit: &Commit) -> u64 {
    commit.fan.as_ref().map_or(0, |fan| fan.staged)
}
