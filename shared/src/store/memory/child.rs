//! Child runs: runs that another run waits for.

use super::data::Data;
use super::run::{Actor, KeptSignal, RunEnd, Steps};
use super::signal::{Standing, entry_of};
use crate::child::{ChildEnd, Parent, split_asked};
use crate::history::Kind;
use crate::journal::Entry;
use crate::names;
use crate::request::{ChildEndedRequest, PlainRequest};
use crate::run::{Compensation, Status};
use crate::step::{Retried, Wait};
use crate::store::{ChildTold, Origin};

/// A child run, keyed by the wait for its end: step execution and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) id: String,
    /// The child failed and its wait has ended; the parent may request it again.
    pub(super) has_failed: bool,
    /// Ending the wait does not cancel the child.
    pub(super) outlives: bool,
}

/// A compensation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Undo {
    id: String,
    /// The name of the wait that registered it.
    name: String,
    request: Vec<u8>,
}

impl Data {
    /// Registers a compensation and ends its wait.
    pub(super) fn keep_undo(&mut self, run: &str, seq: u64, wait: &Wait) {
        let (name, Some((id, _, request))) = (wait.name.clone(), split_asked(&wait.question)) else { return };
        if let Some(state) = self.runs.get_mut(run) {
            state.undo.push(Undo { id: id.to_owned(), name, request: request.to_vec() });
        }
        let nothing = KeptSignal { attributes: Vec::new(), payload: Vec::new() };
        self.record_signal(run, seq, wait.number, &wait.name, &nothing, None);
    }

    /// Starts the compensations of a run that has ended.
    pub(super) fn begin_undo(&mut self, now: u64, run: &str, completed: bool) {
        let Some(state) = self.runs.get_mut(run).filter(|state| !state.undo.is_empty()) else { return };
        state.undo.retain(|undo| !completed || names::is_cleanup(&undo.name));
        if !state.undo.is_empty() {
            self.next_undo(now, run);
        }
    }

    /// Requests the last remaining compensation.
    fn next_undo(&mut self, now: u64, run: &str) {
        let Some(state) = self.runs.get_mut(run) else { return };
        let Some(undo) = state.undo.last().cloned() else {
            state.shown.compensation = Some(Compensation::Done);
            return;
        };
        state.shown.compensation = Some(Compensation::Running);
        self.note(now, Kind::Child, &execution(run, 0), format!("{} {}", undo.id, undo.name));
        self.request_child(now, run, &undo.id, &undo.name, &undo.request);
    }

    /// Retries a failed compensation on request. None if the run has no compensations.
    pub(super) fn retry_undo(&mut self, now: u64, run: &str) -> Option<Retried> {
        let refused = |why: &str| Some(Retried::Refused(why.to_owned()));
        match self.runs.get(run)?.shown.compensation? {
            Compensation::Running => refused("its compensations are under way"),
            Compensation::Done => refused("its compensations have been carried out; start it again, or fork it"),
            Compensation::Failed => {
                self.next_undo(now, run);
                Some(Retried::GoesOn)
            }
        }
    }

    fn undo_ended(&mut self, now: u64, run: &str, end: &ChildEnd) -> ChildTold {
        let Some(state) = self.runs.get_mut(run) else { return ChildTold::Over };
        if state.undo.last().is_none_or(|undo| undo.id != end.run) {
            return ChildTold::Over;
        }
        let completed = end.status == Status::Completed;
        if completed {
            state.undo.pop();
        } else {
            state.shown.compensation = Some(Compensation::Failed);
        }
        self.note(now, Kind::ChildEnded, &execution(run, 0), format!("{} {}", end.run, end.status));
        if completed {
            self.next_undo(now, run);
        }
        ChildTold::Told
    }

    /// Requests a child run, under its earlier id if it failed: a parent that failed with it requests it again when
    /// retried.
    pub(super) fn ask_for_child(&mut self, now: u64, run: &str, at: (u64, u64), name: &str, asked: &[u8]) {
        let Some((id, outlives, request)) = split_asked(asked) else { return };
        let Some(steps) = self.steps(run) else { return };
        let id = steps.children.get(&at).map_or(id, |known| &known.id).to_owned();
        steps.children.insert(at, Child { id: id.clone(), has_failed: false, outlives });
        self.request_child(now, run, &id, name, request);
        self.note(now, Kind::Child, &execution(run, at.0), format!("{id} {name}"));
    }

    fn request_child(&mut self, now: u64, run: &str, id: &str, wait: &str, request: &[u8]) {
        let fields = [
            ("op", &b"child"[..]),
            ("run", id.as_bytes()),
            ("parent", run.as_bytes()),
            ("wait", wait.as_bytes()),
            ("request", request),
        ];
        self.enqueue(now, fields.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).into());
    }

    /// Cancels a child run that its parent no longer waits for, unless it has ended or outlives its wait.
    pub(super) fn let_child_go(&mut self, now: u64, run: &str, at: (u64, u64)) {
        let Some(steps) = self.steps(run) else { return };
        if steps.children.get(&at).is_none_or(|child| child.has_failed) {
            return;
        }
        if let Some(child) = steps.children.remove(&at).filter(|child| !child.outlives) {
            self.cancel_child(now, child.id);
        }
    }

    /// Drops the children of a step execution that has ended, including failed ones.
    pub(super) fn let_children_go(&mut self, now: u64, run: &str, seq: u64) {
        let Some(steps) = self.steps(run) else { return };
        let gone: Vec<(u64, u64)> = steps.children.range((seq, 0)..=(seq, u64::MAX)).map(|(at, _)| *at).collect();
        for at in gone {
            self.let_child_go(now, run, at);
            self.steps(run).and_then(|steps| steps.children.remove(&at));
        }
    }

    /// Cancels the children of a run that has ended, unless a retry may continue it, and tells its parent.
    pub(super) fn end_kin(&mut self, now: u64, run: &str, end: &RunEnd, steps: Option<&mut Steps>) {
        let keeps = matches!(end, RunEnd::Failed { .. });
        let children = steps.filter(|_| !keeps).map(|steps| std::mem::take(&mut steps.children)).unwrap_or_default();
        for child in children.into_values().filter(|child| !child.has_failed && !child.outlives) {
            self.cancel_child(now, child.id);
        }
        if let Some(parent) = self.runs.get(run).and_then(|run| run.parent.clone()) {
            self.tell_of_end(now, run, parent, end);
        }
    }

    fn tell_of_end(&mut self, now: u64, run: &str, parent: Parent, end: &RunEnd) {
        let (status, output) = match end {
            RunEnd::Completed(result) => (Status::Completed, result.clone()),
            RunEnd::Failed { error, .. } => (Status::Failed, error.clone().into_bytes()),
            RunEnd::Cancelled => (Status::Cancelled, b"cancelled on request".to_vec()),
        };
        self.tell_parent(now, run, parent, status, output);
    }

    pub(super) fn tell_parent(&mut self, now: u64, run: &str, parent: Parent, status: Status, output: Vec<u8>) {
        let content = self.runs.get(run).map(|run| run.shown.content).unwrap_or_default().as_str().to_owned();
        let end = ChildEnd { run: run.to_owned(), status, content, output };
        self.enqueue(now, ChildEndedRequest { parent, end }.fields());
    }

    fn cancel_child(&mut self, now: u64, run: String) {
        self.enqueue(now, PlainRequest { run, request: None }.fields("cancel"));
    }

    pub(super) fn child_ended(&mut self, now: u64, ended: &ChildEndedRequest, entry: &str) -> ChildTold {
        let origin = Origin::entry(entry);
        if self.is_gone(entry_of(Some(&origin))) {
            return ChildTold::Gone;
        }
        self.leave_inbox(entry_of(Some(&origin)));
        let ChildEndedRequest { parent: Parent { run, wait: name }, end } = ended;
        let run = self.led_to(now, run);
        if names::is_undo(name) {
            return self.undo_ended(now, &run, end);
        }
        let is_live = self.standing(&run) == Standing::Live;
        let Some(state) = self.runs.get_mut(&run) else { return ChildTold::Over };
        let has_failed = state.shown.status == Status::Failed;
        let kept = if has_failed { &mut state.stopped } else { &mut state.steps };
        let Some(steps) = kept.as_mut().filter(|_| has_failed || is_live) else { return ChildTold::Over };
        let waits = steps.waits.get(name).and_then(|waits| waits.front());
        let Some(wait) = waits.filter(|wait| has_failed || steps.is_waiting(wait.seq)).cloned() else {
            return ChildTold::Over;
        };
        let at = (wait.seq, wait.number);
        if end.status == Status::Failed {
            steps.children.insert(at, Child { id: end.run.clone(), has_failed: true, outlives: false });
        } else {
            steps.children.remove(&at);
        }
        steps.waits.remove(name);
        let Ok(payload) = end.payload() else { return ChildTold::Over };
        let entry = Entry::Signal { name, attributes: "", due_ms: wait.due, payload: &payload }.write();
        if let Some(execution) = steps.executions.get_mut(&wait.seq) {
            execution.journal.insert(wait.number, entry);
        }
        self.note(now, Kind::ChildEnded, &execution(&run, wait.seq), format!("{} {}", end.run, end.status));
        // A failed parent finds the entry when it is retried.
        if is_live {
            self.wake(now, &run, wait.seq);
        }
        ChildTold::Told
    }
}

fn execution(run: &str, seq: u64) -> Actor {
    Actor { run: run.into(), seq, number: 0, step: "-".into(), worker: "-".into() }
}
