//! Child runs: runs that another run waits for.

use super::data::Data;
use super::run::{Actor, RunEnd, Steps};
use super::signal::{Standing, entry_of};
use crate::child::{ChildEnd, Parent, split_asked};
use crate::history::Kind;
use crate::journal::Entry;
use crate::request::{ChildEndedRequest, PlainRequest};
use crate::run::Status;
use crate::store::{ChildTold, Origin};

/// A child run of a run, by the wait for its end: step execution and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) id: String,
    /// The wait for it is over; it may be asked for again.
    pub(super) has_failed: bool,
}

impl Data {
    /// A child that has failed goes on: it is asked for again only where its parent had failed with it, and is retried.
    pub(super) fn ask_for_child(&mut self, now: u64, run: &str, at: (u64, u64), name: &str, asked: &[u8]) {
        let Some((id, request)) = split_asked(asked) else { return };
        let Some(steps) = self.steps(run) else { return };
        let id = steps.children.get(&at).map_or(id, |known| &known.id).to_owned();
        steps.children.insert(at, Child { id: id.clone(), has_failed: false });
        let fields = [
            ("op", &b"child"[..]),
            ("run", id.as_bytes()),
            ("parent", run.as_bytes()),
            ("wait", name.as_bytes()),
            ("request", request),
        ];
        self.enqueue(now, fields.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).into());
        self.note(now, Kind::Child, &execution(run, at.0), format!("{id} {name}"));
    }

    /// Nobody waits for it any more: it is cancelled, unless it has ended.
    pub(super) fn let_child_go(&mut self, now: u64, run: &str, at: (u64, u64)) {
        let Some(steps) = self.steps(run) else { return };
        if steps.children.get(&at).is_none_or(|child| child.has_failed) {
            return;
        }
        if let Some(child) = steps.children.remove(&at) {
            self.cancel_child(now, child.id);
        }
    }

    /// The step execution has ended: those that have failed can be asked for no more.
    pub(super) fn let_children_go(&mut self, now: u64, run: &str, seq: u64) {
        let Some(steps) = self.steps(run) else { return };
        let gone: Vec<(u64, u64)> = steps.children.range((seq, 0)..=(seq, u64::MAX)).map(|(at, _)| *at).collect();
        for at in gone {
            self.let_child_go(now, run, at);
            self.steps(run).and_then(|steps| steps.children.remove(&at));
        }
    }

    /// The run has ended: unless it may go on, nobody waits for its children; and whoever waits for it is told.
    pub(super) fn end_kin(&mut self, now: u64, run: &str, end: &RunEnd, steps: Option<&mut Steps>) {
        let keeps = matches!(end, RunEnd::Failed { .. });
        let children = steps.filter(|_| !keeps).map(|steps| std::mem::take(&mut steps.children)).unwrap_or_default();
        for child in children.into_values().filter(|child| !child.has_failed) {
            self.cancel_child(now, child.id);
        }
        let Some(parent) = self.runs.get(run).and_then(|run| run.parent.clone()) else { return };
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
            steps.children.insert(at, Child { id: end.run.clone(), has_failed: true });
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
        // One that has failed finds it when it is retried.
        if is_live {
            self.wake(now, &run, wait.seq);
        }
        ChildTold::Told
    }
}

fn execution(run: &str, seq: u64) -> Actor {
    Actor { run: run.into(), seq, number: 0, step: "-".into(), worker: "-".into() }
}
