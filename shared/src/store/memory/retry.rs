//! `retry`: continues a failed run from where it failed. Its step executions are unchanged; timers and queue entries
//! that came due since are gone, and are created again.

use std::time::Duration;

use super::audit::Mend;
use super::data::Data;
use super::run::{Actor, EventSource, Execution, Phase, RunData, Steps};
use super::signal::{Standing, entry_of};
use super::start::run_itself;
use super::timers::Timer;
use crate::codec::Content;
use crate::history::Kind;
use crate::published::StepState;
use crate::run::Status;
use crate::step::Retried;
use crate::store::{Audit, Origin, RequestFate};

impl Data {
    pub(super) fn retry(&mut self, now: u64, asked: &str, event: Option<&[u8]>, origin: Option<&Origin>) -> Retried {
        if self.is_gone(entry_of(origin)) {
            return Retried::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Retried::Repeated;
        }
        let run = self.led_to(now, asked);
        match self.standing(&run) {
            Standing::Live if self.is_paused(&run) => return Retried::Paused,
            Standing::Live => return Retried::Live,
            Standing::Waiting => return Retried::Held,
            Standing::Unknown => return Retried::Unknown,
            Standing::Over => {}
        }
        if let Some(became) = self.retry_undo(now, &run) {
            if became == Retried::GoesOn {
                self.settle_request(now, asked, origin, RequestFate::Taken);
                self.note(now, Kind::Retried, &run_itself(&run), String::new());
            }
            return became;
        }
        let Some(failed) = self.runs.get(&run).filter(|run| run.shown.status == Status::Failed) else {
            return Retried::Over;
        };
        if let Some(why) = objection(failed, event) {
            return Retried::Refused(why);
        }
        let session = failed.shown.session.clone();
        if let Some(name) = session.as_deref().filter(|name| self.is_line_full(name)) {
            return Retried::Refused(format!("too many runs of session {name} wait for their turn"));
        }
        self.settle_request(now, asked, origin, RequestFate::Taken);
        self.follow_again(&run, origin);
        self.revive(now, &run, event);
        self.take_all_back(now, &run);
        self.go_on(now, &run);
        if session.is_some() {
            self.join_session(now, &run, 0);
        }
        Retried::GoesOn
    }

    fn revive(&mut self, now: u64, id: &str, event: Option<&[u8]>) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.steps = run.stopped.take();
        // It may have been paused when it failed: a retry also resumes it.
        let seq = run.steps.as_mut().and_then(|steps| {
            steps.is_paused = false;
            steps.in_line = run.shown.session.is_some();
            steps.failed.take()
        });
        let forget = run.steps.as_mut().map(|steps| std::mem::take(&mut steps.forget)).unwrap_or_default();
        let (step, number) = (run.shown.error_step.take(), run.shown.error_attempt.take());
        let shown = &mut run.shown;
        (shown.finished_ms, shown.error) = (None, None);
        shown.status = if shown.started_ms.is_some() { Status::Running } else { Status::Queued };
        run.published.take_back_end();
        if let Some(timeout) = &mut run.timeout {
            let due = now.saturating_add(timeout.whole);
            timeout.due = run.shown.session.is_none().then_some(due);
            if timeout.due.is_some() {
                self.timers.set(due, Timer::timeout(id));
            }
        }
        if let (Some(seq), Some(event)) = (seq, event) {
            run.give(seq, event);
        }
        self.timers.remove(&Timer::expire(id));
        self.cancelled.retain(|(_, what)| what != id);
        let (step, worker) = (step.unwrap_or_else(|| "-".into()), "-".to_owned());
        let attempt = Actor { run: id.to_owned(), seq: seq.unwrap_or(0), number: number.unwrap_or(0), step, worker };
        let detail = event.map_or("", |_| "with another event");
        self.note(now, Kind::Retried, &attempt, detail.to_owned());
        let execution = seq.and_then(|seq| self.steps(id)?.executions.get_mut(&seq));
        if let (Some(execution), Some(seq)) = (execution, seq) {
            // Its retry policy restarts, and so do those of the calls it failed with.
            (execution.kept, execution.failures) = (None, 0);
            execution.journal.retain(|number, _| !forget.contains(number));
            execution.ended_well();
            self.take_back(now, id, seq);
        }
    }

    /// Requeues a held step execution, which fences its holder.
    fn take_back(&mut self, now: u64, run: &str, seq: u64) {
        let execution = self.steps(run).and_then(|steps| steps.executions.get(&seq));
        let is_held = |execution: &Execution| matches!(execution.phase, Phase::Held { .. });
        if execution.is_some_and(is_held) && !self.is_closed(run, seq) {
            self.tell(now, run, seq, StepState::Waiting, "-");
            self.queue_again(now, run, seq);
        }
    }

    fn take_all_back(&mut self, now: u64, run: &str) {
        let seqs: Vec<u64> = self.steps(run).map_or_else(Vec::new, |steps| steps.executions.keys().copied().collect());
        for seq in seqs {
            self.take_back(now, run, seq);
        }
    }

    /// Creates missing timers and queue entries again. Holds are left alone: their workers are executing them.
    pub(super) fn go_on(&mut self, now: u64, run: &str) {
        let Some(steps) = self.runs.get(run).and_then(|run| run.steps.as_ref()) else { return };
        for (name, waits) in &steps.waits {
            for (due, wait) in waits.iter().filter_map(|wait| Some((wait.due?, wait))) {
                self.timers.set(due, Timer::wait(run, name, wait));
            }
        }
        let is_void = |group: u64| steps.groups_of(group).is_none();
        let mut groups = steps.executions.values().map(|execution| execution.work.group);
        if groups.any(is_void) || steps.groups.keys().any(|group| is_void(*group)) {
            self.timers.set(now, Timer::Close { run: run.to_owned(), group: 0 });
        }
        let audit = Audit { repair: true, from: 0, max_losses: u32::MAX, retention: Duration::ZERO };
        let is_held = |mend: &Mend| matches!(mend, Mend::GiveUp(..) | Mend::NoteHold(..));
        for (_, mend) in self.missing(run, now, &audit).into_iter().filter(|(_, mend)| !is_held(mend)) {
            self.mend(now, run, mend, &audit);
        }
    }
}

impl RunData {
    /// Replaces the event of a step execution.
    fn give(&mut self, seq: u64, payload: &[u8]) {
        let execution = self.steps.as_mut().and_then(|steps| steps.executions.get_mut(&seq));
        match execution.map(|execution| &mut execution.work.event) {
            Some(EventSource::Input) => self.shown.input = payload.get(1..).unwrap_or_default().to_vec(),
            Some(EventSource::Payload(own) | EventSource::Outside(own)) => *own = payload.to_vec(),
            Some(EventSource::Joined(_) | EventSource::Set(_)) | None => {}
        }
    }
}

/// Why the run cannot continue.
fn objection(run: &RunData, event: Option<&[u8]>) -> Option<String> {
    let Some(steps) = &run.stopped else { return Some("none of its state is left to continue with".into()) };
    event.and_then(|event| misfit(run, steps, event))
}

/// Why the failed step execution cannot take this event.
fn misfit(run: &RunData, steps: &Steps, event: &[u8]) -> Option<String> {
    let content = if event.first() == Some(&1) { Content::MessagePack } else { Content::Json };
    match steps.failed.and_then(|seq| steps.executions.get(&seq)).map(|execution| &execution.work.event) {
        None => Some("no step is recorded as failed, so no step can take another event".into()),
        Some(EventSource::Joined(_) | EventSource::Set(_)) => {
            Some("the step that failed was given several events, and another event cannot replace them".into())
        }
        Some(EventSource::Input) if run.shown.content != content => Some(format!(
            "the step that failed takes the input of the run, which is encoded as {}",
            run.shown.content.as_str()
        )),
        Some(_) => None,
    }
}
