//! `checkpoint`: what a step that goes on has come to so far. `suspend`: a step that waits holds no worker until what it
//! waits for is in its journal.

use std::collections::VecDeque;

use super::millis;
use super::state::{Attempt, Execution, OpenWait, Phase, State};
use super::timers::Timer;
use crate::error::Result;
use crate::history::Kind;
use crate::step::{Call, Checkpoint, Claim, Claimed, Fence, Outcome, Wait};
use crate::store::{MAX_ENTRIES, MAX_WAITS, journal_is_full};

impl State {
    pub(super) fn checkpoint(
        &mut self,
        now: u64,
        worker: &str,
        fence: &Fence,
        checkpoint: &Checkpoint,
    ) -> Result<Outcome> {
        if !self.is_held(worker, fence) {
            return Ok(Outcome::Fenced);
        }
        let Checkpoint { mark, set, unset, entries, waits } = checkpoint;
        // What was done by an earlier try is not done again; others may have written the same fields since.
        let mark = mark.map(|mark| (fence.attempt, fence.claim, mark));
        if mark.is_some() && self.execution(fence).is_some_and(|execution| execution.mark == mark) {
            return Ok(Outcome::Committed);
        }
        if entries.first().is_some_and(|(number, _)| self.is_recorded(&fence.run, fence.seq, *number)) {
            return Ok(Outcome::Committed);
        }
        if self.is_too_much(fence, entries.len() + waits.len(), waits) {
            return Err(journal_is_full());
        }
        self.write_context(&fence.run, set, unset);
        if let Some(execution) = self.steps(&fence.run).and_then(|steps| steps.executions.get_mut(&fence.seq)) {
            execution.mark = mark.or(execution.mark);
        }
        for (number, payload) in entries {
            self.record(&fence.run, fence.seq, *number, payload.clone());
        }
        for wait in waits {
            self.open_wait(now, &fence.run, fence.seq, wait);
        }
        Ok(Outcome::Committed)
    }

    pub(super) fn is_too_much(&self, fence: &Fence, more: usize, waits: &[Wait]) -> bool {
        let Some(steps) = self.runs.get(&fence.run).and_then(|run| run.steps.as_ref()) else { return false };
        let recorded = steps.executions.get(&fence.seq).map_or(0, |execution| execution.journal.len());
        let open = |wait: &Wait| steps.waits.get(&wait.name).map_or(0, VecDeque::len);
        recorded + more > MAX_ENTRIES || waits.iter().any(|wait| open(wait) + waits.len() > MAX_WAITS)
    }

    pub(super) fn suspend(
        &mut self,
        now: u64,
        call: &Call,
        step: &Claimed,
        waits: &[Wait],
        claim: &Claim,
    ) -> (Outcome, Vec<Claimed>) {
        self.under_fence(now, call, &step.fence, 0, claim, |state, attempt| state.sleep(now, attempt, waits))
    }

    fn sleep(&mut self, now: u64, attempt: &Attempt, waits: &[Wait]) {
        let (run, seq) = (&attempt.run, attempt.seq);
        let about: Vec<String> = waits.iter().map(|wait| format!("{}.{}", wait.name, wait.number)).collect();
        self.note(now, Kind::Suspended, attempt, about.join(","));
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) else { return };
        execution.failed = attempt.number;
        let waits: Vec<_> = waits.iter().map(|wait| (wait.name.clone(), wait.number)).collect();
        let has_one = waits.iter().any(|(_, number)| execution.journal.contains_key(number));
        execution.phase = Phase::Suspended { waits };
        if has_one {
            self.wake(now, run, seq);
        }
    }

    /// A signal that came before its wait ends it at once.
    pub(super) fn open_wait(&mut self, now: u64, run: &str, seq: u64, wait: &Wait) {
        let Some(steps) = self.steps(run) else { return };
        let is_open = |open: &OpenWait| (open.seq, open.number) == (seq, wait.number);
        if steps.waits.get(&wait.name).is_some_and(|open| open.iter().any(is_open))
            || self.is_recorded(run, seq, wait.number)
        {
            return;
        }
        if let Some(payload) = self.take_signal(run, &wait.name) {
            return self.record(run, seq, wait.number, payload);
        }
        let open = OpenWait { seq, number: wait.number, due: wait.deadline.map(|d| now.saturating_add(millis(d))) };
        if let Some(due) = open.due {
            self.timers.set(due, Timer::wait(run, &wait.name, &open));
        }
        if let Some(steps) = self.steps(run) {
            steps.waits.entry(wait.name.clone()).or_default().push_back(open);
        }
    }

    /// The wait's time is over: an empty entry says so.
    pub(super) fn fire_deadline(&mut self, now: u64, run: &str, name: &str, wait: &OpenWait) {
        let Some(open) = self.steps(run).and_then(|steps| steps.waits.get_mut(name)) else { return };
        let before = open.len();
        open.retain(|other| other != wait);
        if open.len() == before {
            return;
        }
        let attempt = Attempt { run: run.into(), seq: wait.seq, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Overdue, &attempt, name.to_owned());
        self.record(run, wait.seq, wait.number, Vec::new());
        self.wake(now, run, wait.seq);
    }

    /// The step execution has what it waited for: it goes on wherever there is a worker.
    pub(super) fn wake(&mut self, now: u64, run: &str, seq: u64) {
        let execution = self.steps(run).and_then(|steps| steps.executions.get(&seq));
        if execution.is_some_and(|execution| matches!(execution.phase, Phase::Suspended { .. })) {
            self.queue_again(now, run, seq);
        }
    }

    pub(super) fn record(&mut self, run: &str, seq: u64, number: u64, payload: Vec<u8>) {
        if let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) {
            execution.journal.insert(number, payload);
        }
    }

    fn execution(&self, fence: &Fence) -> Option<&Execution> {
        self.runs.get(&fence.run)?.steps.as_ref()?.executions.get(&fence.seq)
    }

    pub(super) fn is_recorded(&self, run: &str, seq: u64, number: u64) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        let execution = steps.and_then(|steps| steps.executions.get(&seq));
        execution.is_some_and(|execution| execution.journal.contains_key(&number))
    }
}
