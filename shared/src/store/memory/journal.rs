//! `checkpoint`: records the progress of a step that continues. `suspend`: frees the worker of a step that waits, until
//! the journal has what it waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::data::Data;
use super::millis;
use super::run::{Actor, Execution, KeptSignal, PendingWait, Phase, Steps};
use super::timers::Timer;
use crate::attributes;
use crate::error::Result;
use crate::history::Kind;
use crate::journal::Entry;
use crate::names;
use crate::published::StepState;
use crate::step::{
    Body, CallId, Checkpoint, Checkpointed, Claimed, CommitStatus, Fence, LetGo, Refill, Unreadable, Upon, Wait,
};
use crate::store::{MAX_ENTRIES, MAX_WAITS, journal_is_full};
use crate::values;

impl Data {
    pub(super) fn checkpoint(
        &mut self,
        now: u64,
        worker: &str,
        fence: &Fence,
        checkpoint: &Checkpoint,
    ) -> Result<Checkpointed> {
        if !self.is_good(worker, fence) {
            return Ok(CommitStatus::Fenced.into());
        }
        let Checkpoint { mark, entries, let_go, waits, .. } = checkpoint;
        // Does not repeat what an earlier try did: others may have written the same fields since.
        let mark = mark.map(|mark| (fence.attempt, fence.claim, mark));
        if mark.is_some() && self.execution(fence).is_some_and(|execution| execution.mark == mark) {
            return Ok(self.checkpointed(fence, waits));
        }
        if self.is_forgotten(fence, checkpoint.upon) {
            return Ok(CommitStatus::Fenced.into());
        }
        let numbers = entries.iter().map(|(number, _)| number).chain(let_go.iter().map(|one| &one.number));
        let new = numbers.filter(|number| !self.is_recorded(&fence.run, fence.seq, **number)).count();
        if self.is_too_much(now, fence, new, waits) {
            return Err(journal_is_full());
        }
        let is_repeated = entries.first().is_some_and(|(first, _)| self.is_recorded(&fence.run, fence.seq, *first));
        if !is_repeated {
            if let Some(outcome) = self.objection(&fence.run, checkpoint.changes())? {
                return Ok(outcome.into());
            }
            self.write_context(&fence.run, checkpoint.changes());
        }
        if let Some(execution) = self.steps(&fence.run).and_then(|steps| steps.executions.get_mut(&fence.seq)) {
            execution.mark = mark.or(execution.mark);
        }
        for (number, payload) in entries {
            if !self.is_recorded(&fence.run, fence.seq, *number) {
                self.record(&fence.run, fence.seq, *number, payload.clone());
            }
        }
        self.let_go(now, &fence.run, fence.seq, let_go);
        let dues = self.set_aside(now, fence, &checkpoint.unreadable);
        for wait in waits {
            let due = dues.get(&wait.number).copied().unwrap_or_else(|| due_of(now, wait));
            self.open_wait_until(now, &fence.run, fence.seq, wait, due);
        }
        Ok(self.checkpointed(fence, waits))
    }

    /// Whether the checkpoint records nothing, and each of its waits is already open or has ended.
    pub(super) fn only_asks(&self, fence: &Fence, checkpoint: &Checkpoint) -> bool {
        let Checkpoint { mark, entries, let_go, waits, unreadable, .. } = checkpoint;
        mark.is_none()
            && entries.is_empty()
            && let_go.is_empty()
            && unreadable.is_empty()
            && checkpoint.changes().is_empty()
            && waits.iter().all(|wait| self.is_open_or_over(&fence.run, fence.seq, wait))
    }

    /// The answer to a committed checkpoint, with the entries of those waits that have ended.
    fn checkpointed(&self, fence: &Fence, waits: &[Wait]) -> Checkpointed {
        let journal = self.execution(fence).map(|execution| &execution.journal);
        let entry = |wait: &Wait| Some((wait.number, journal?.get(&wait.number)?.clone()));
        Checkpointed { outcome: CommitStatus::Committed, answers: waits.iter().filter_map(entry).collect() }
    }

    pub(super) fn is_too_much(&mut self, now: u64, fence: &Fence, entries: usize, waits: &[Wait]) -> bool {
        let (run, seq) = (&fence.run, fence.seq);
        let new: Vec<&Wait> = waits.iter().filter(|wait| !self.is_open_or_over(run, seq, wait)).collect();
        if self.execution(fence).map_or(0, |execution| execution.journal.len()) + entries + new.len() > MAX_ENTRIES {
            return true;
        }
        let names: BTreeSet<&str> = new.iter().map(|wait| wait.name.as_str()).collect();
        for name in names {
            let more = new.iter().filter(|wait| wait.name == name).count();
            let open = self.steps(run).and_then(|steps| steps.waits.get(name)).map_or(0, VecDeque::len);
            if open + more <= MAX_WAITS {
                continue;
            }
            // Drops the waits of ended step executions to make room.
            let left = self.keep_waits(now, run, name, |wait, steps| steps.is_waiting(wait.seq));
            if left + more > MAX_WAITS {
                return true;
            }
        }
        false
    }

    /// Keeps the waits of that name that pass `is_kept`, and removes the others with their deadlines. Returns how many
    /// remain.
    pub(super) fn keep_waits(
        &mut self,
        now: u64,
        run: &str,
        name: &str,
        is_kept: impl Fn(&PendingWait, &Steps) -> bool,
    ) -> usize {
        let Some(steps) = self.runs.get_mut(run).and_then(|run| run.steps.as_mut()) else { return 0 };
        let Some(waits) = steps.waits.remove(name) else { return 0 };
        let (left, gone): (VecDeque<_>, VecDeque<_>) = waits.into_iter().partition(|wait| is_kept(wait, steps));
        let count = left.len();
        if count > 0 {
            steps.waits.insert(name.to_owned(), left);
        }
        for wait in gone {
            self.timers.remove(&Timer::wait(run, name, &wait));
            self.let_child_go(now, run, (wait.seq, wait.number));
        }
        count
    }

    fn is_open_or_over(&self, run: &str, seq: u64, wait: &Wait) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        let open = steps.and_then(|steps| steps.waits.get(&wait.name));
        open.is_some_and(|open| open.iter().any(|open| (open.seq, open.number) == (seq, wait.number)))
            || self.is_recorded(run, seq, wait.number)
    }

    pub(super) fn suspend(
        &mut self,
        now: u64,
        call: &CallId,
        step: &Claimed,
        (waits, body, upon): (&[Wait], Body, Option<Upon>),
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        let is_earlier = self.answer_again(now, call, &step.fence).is_some();
        let is_ours = !is_earlier && self.is_held(&call.worker, &step.fence) && !self.is_forgotten(&step.fence, upon);
        if is_ours && self.is_too_much(now, &step.fence, 0, waits) {
            return Err(journal_is_full());
        }
        Ok(self.under_fence(now, call, (&step.fence, upon), refill, |state, attempt| {
            state.sleep(now, attempt, waits, body);
        }))
    }

    fn sleep(&mut self, now: u64, attempt: &Actor, waits: &[Wait], body: Body) {
        let (run, seq) = (&attempt.run, attempt.seq);
        let about: Vec<String> = waits.iter().map(|wait| format!("{}.{}", wait.name, wait.number)).collect();
        self.tell(now, run, seq, StepState::Suspended, &attempt.worker);
        self.note(now, Kind::Suspended, attempt, about.join(","));
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) else { return };
        let without_deadline = |wait: &Wait| Wait { deadline: None, ..wait.clone() };
        execution.phase = Phase::Suspended { waits: waits.iter().map(without_deadline).collect() };
        if body == Body::Kept && !waits.is_empty() {
            execution.keeper = Some((attempt.worker.clone(), waits.iter().map(|wait| wait.number).collect()));
        }
        for wait in waits {
            self.open_wait(now, run, seq, wait);
        }
        if waits.iter().any(|wait| self.is_recorded(run, seq, wait.number)) {
            self.wake(now, run, seq);
        }
    }

    /// Removes from the journal signals that the body cannot read, and notes them in the history. Their waits can be
    /// opened again: returns their deadlines. A repeated call finds other entries and does nothing.
    fn set_aside(&mut self, now: u64, fence: &Fence, unreadable: &[Unreadable]) -> BTreeMap<u64, Option<u64>> {
        let (run, seq) = (&fence.run, fence.seq);
        let mut dues = BTreeMap::new();
        for Unreadable { number, name, digest, why } in unreadable {
            let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) else { break };
            let Some(entry) = execution.journal.get(number).filter(|entry| values::digest(entry) == *digest) else {
                continue;
            };
            let Ok(Entry::Signal { due_ms, .. }) = Entry::read(entry) else { continue };
            execution.journal.remove(number);
            dues.insert(*number, due_ms);
            let attempt = Actor { run: run.clone(), seq, number: 0, step: "-".into(), worker: "-".into() };
            self.note(now, Kind::Unreadable, &attempt, format!("{name} {why}"));
        }
        dues
    }

    pub(super) fn open_wait(&mut self, now: u64, run: &str, seq: u64, wait: &Wait) {
        self.open_wait_until(now, run, seq, wait, due_of(now, wait));
    }

    /// Opens a wait. An early signal or a deadline that is not in the future ends it at once.
    fn open_wait_until(&mut self, now: u64, run: &str, seq: u64, wait: &Wait, due: Option<u64>) {
        if self.is_open_or_over(run, seq, wait) {
            return;
        }
        if !wait.question.is_empty() && names::is_undo(&wait.name) {
            return self.keep_undo(run, seq, wait);
        }
        if let Some(signal) = self.take_signal(run, &wait.name, &wait.filter) {
            return self.record_signal(run, seq, wait.number, &wait.name, &signal, due);
        }
        if due.is_some_and(|due| due <= now) {
            return self.end_overdue(now, run, seq, wait.number, &wait.name);
        }
        let open = PendingWait { seq, number: wait.number, due, filter: wait.filter.clone() };
        let Some(steps) = self.runs.get_mut(run).and_then(|run| run.steps.as_mut()) else { return };
        if let Some(due) = open.due {
            self.timers.set(due, Timer::wait(run, &wait.name, &open));
        }
        steps.waits.entry(wait.name.clone()).or_default().push_back(open);
        if !wait.question.is_empty() && names::is_child(&wait.name) {
            self.ask_for_child(now, run, (seq, wait.number), &wait.name, &wait.question);
        } else if !wait.question.is_empty() {
            self.ask(now, run, (seq, wait.number), &wait.name, &wait.question);
        }
    }

    /// Ends an overdue wait: records that in the journal and wakes the step execution.
    pub(super) fn fire_deadline(&mut self, now: u64, run: &str, name: &str, wait: &PendingWait) {
        let Some(open) = self.steps(run).and_then(|steps| steps.waits.get_mut(name)) else { return };
        let before = open.len();
        open.retain(|other| other != wait);
        if open.len() == before {
            return;
        }
        self.end_overdue(now, run, wait.seq, wait.number, name);
        self.wake(now, run, wait.seq);
    }

    fn end_overdue(&mut self, now: u64, run: &str, seq: u64, number: u64, name: &str) {
        let attempt = Actor { run: run.into(), seq, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Overdue, &attempt, name.to_owned());
        self.record(run, seq, number, Entry::Overdue { name }.write());
    }

    /// Requeues a suspended step execution whose wait has ended: any worker may continue it.
    pub(super) fn wake(&mut self, now: u64, run: &str, seq: u64) {
        let execution = self.steps(run).and_then(|steps| steps.executions.get(&seq));
        if execution.is_some_and(|execution| matches!(execution.phase, Phase::Suspended { .. })) {
            self.tell(now, run, seq, StepState::Waiting, "-");
            self.queue_again(now, run, seq);
        }
    }

    pub(super) fn record(&mut self, run: &str, seq: u64, number: u64, payload: Vec<u8>) {
        if let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) {
            execution.journal.insert(number, payload);
        }
        if let Some(steps) = self.steps(run) {
            steps.asked.remove(&(seq, number));
        }
    }

    pub(super) fn record_signal(
        &mut self,
        run: &str,
        seq: u64,
        number: u64,
        name: &str,
        signal: &KeptSignal,
        due_ms: Option<u64>,
    ) {
        let attributes = attributes::joined(&signal.attributes);
        let entry = Entry::Signal { name, attributes: &attributes, due_ms, payload: &signal.payload };
        self.record(run, seq, number, entry.write());
    }

    /// Removes the journal of a step execution that ends. A completed run of a single step execution, such as a durable
    /// function, keeps it for forks.
    pub(super) fn end_journal(&mut self, now: u64, attempt: &Actor, let_go: &[LetGo], completes: bool) {
        self.let_go(now, &attempt.run, attempt.seq, let_go);
        self.let_children_go(now, &attempt.run, attempt.seq);
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let Some(steps) = &mut run.steps else { return };
        let is_only = completes && attempt.seq == 1 && steps.last == 1;
        let Some(execution) = steps.executions.get_mut(&attempt.seq) else { return };
        execution.kept = None;
        let journal = std::mem::take(&mut execution.journal);
        if is_only {
            run.kept_journal = journal;
        }
    }

    pub(super) fn execution(&self, fence: &Fence) -> Option<&Execution> {
        self.runs.get(&fence.run)?.steps.as_ref()?.executions.get(&fence.seq)
    }

    /// Whether the store came back without what the attempt has recorded.
    pub(super) fn is_forgotten(&self, fence: &Fence, upon: Option<Upon>) -> bool {
        match upon {
            None => false,
            Some(Upon::Entry(number)) => !self.is_recorded(&fence.run, fence.seq, number),
            Some(Upon::Mark(mark)) => !self
                .execution(fence)
                .and_then(|execution| execution.mark)
                .is_some_and(|(attempt, claim, made)| (attempt, claim) == (fence.attempt, fence.claim) && made >= mark),
        }
    }

    pub(super) fn is_recorded(&self, run: &str, seq: u64, number: u64) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        let execution = steps.and_then(|steps| steps.executions.get(&seq));
        execution.is_some_and(|execution| execution.journal.contains_key(&number))
    }
}

fn due_of(now: u64, wait: &Wait) -> Option<u64> {
    wait.deadline.map(|deadline| now.saturating_add(millis(deadline)))
}
