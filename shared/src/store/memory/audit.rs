//! `audit`: finds what a run needs but is missing. This store loses nothing by itself: a breach is a bug, or a test
//! removed something.

use super::data::{Data, Held, Lane, QueueEntry, Slot};
use super::millis;
use super::run::{Actor, Execution, PendingWait, Phase, RunData};
use super::timers::Timer;
use crate::history::Kind;
use crate::step::{Fence, Wait};
use crate::store::{Audit, Audited, Breach};

/// How to repair a breach.
pub(super) enum Mend {
    Queue(u64),
    QueueFan(u64),
    SetTimer(u64, Timer),
    GiveUp(String, Fence),
    NoteHold(String, Fence),
    Wake(u64),
    OpenWait(u64, Wait),
}

impl Data {
    /// Audits all runs in one call, without slices.
    pub(super) fn audit(&mut self, now: u64, audit: &Audit) -> Audited {
        let mut audited = Audited { examined: self.runs.len() as u64, ..Audited::default() };
        let runs: Vec<String> = self.runs.keys().cloned().collect();
        for run in runs {
            for (what, mend) in self.missing(&run, now, audit) {
                if audit.repair {
                    self.mend(now, &run, mend, audit);
                    let run = Actor { run: run.clone(), seq: 0, number: 0, step: "-".into(), worker: "-".into() };
                    self.note(now, Kind::Repaired, &run, what.clone());
                }
                audited.breaches.push(Breach { of: run.clone(), what });
            }
        }
        audited
    }

    pub(super) fn missing(&self, id: &str, now: u64, audit: &Audit) -> Vec<(String, Mend)> {
        let mut found = Vec::new();
        let Some(run) = self.runs.get(id) else { return found };
        let Some(steps) = &run.steps else {
            let timer = Timer::expire(id);
            if !self.timers.is_set(&timer) {
                let due = now.saturating_add(millis(audit.retention));
                found.push(("it has ended and would never expire".to_owned(), Mend::SetTimer(due, timer)));
            }
            return found;
        };
        let timer = Timer::timeout(id);
        let due = run.timeout.and_then(|timeout| timeout.due);
        if let Some(due) = due.filter(|_| !self.timers.is_set(&timer)) {
            found.push(("its timeout is not set".to_owned(), Mend::SetTimer(due, timer)));
        }
        let is_open = |execution: &Execution| steps.groups_of(execution.work.group).is_some();
        for (seq, execution) in steps.executions.iter().filter(|(_, execution)| is_open(execution)) {
            match &execution.phase {
                // Claims drop the entries of a paused run, so the queue may lack them.
                Phase::Queued(_) if steps.is_held_back() => {}
                Phase::Queued(_) => {
                    if !self.is_queued(run, &QueueEntry::Step { run: id.to_owned(), seq: *seq }) {
                        let what = format!("step execution {seq} is queued but missing from its queue");
                        found.push((what, Mend::Queue(*seq)));
                    }
                }
                Phase::Held { worker, claim, slot, .. } => {
                    let held = Held { run: id.to_owned(), seq: *seq, attempt: execution.attempt };
                    let fence = held.fence(*slot, *claim);
                    found.extend(self.missing_hold(worker, fence));
                }
                Phase::Waiting { due } => {
                    let timer = Timer::step(id, *seq, execution.attempt);
                    if !self.timers.is_set(&timer) {
                        let what = format!("step execution {seq} waits for a timer that is not set");
                        found.push((what, Mend::SetTimer(*due, timer)));
                    }
                }
                Phase::Suspended { waits } => found.extend(self.missing_waits(id, *seq, waits)),
                Phase::Turn | Phase::Ending => {}
            }
        }
        // Staged branches of closed fan-outs are no breach: they are discarded.
        let has_staged =
            |group: u64| !steps.is_held_back() && steps.staged.get(&group).is_some_and(|staged| !staged.is_empty());
        for group in steps.groups.keys().filter(|group| has_staged(**group) && steps.groups_of(**group).is_some()) {
            if !self.is_queued(run, &QueueEntry::Fan { run: id.to_owned(), group: *group }) {
                let what = format!("the next branches of fan-out {group} are not in their queue");
                found.push((what, Mend::QueueFan(*group)));
            }
        }
        found
    }

    fn missing_waits(&self, id: &str, seq: u64, waits: &[Wait]) -> Vec<(String, Mend)> {
        let mut found = Vec::new();
        let Some(steps) = self.runs.get(id).and_then(|run| run.steps.as_ref()) else { return found };
        for wait in waits {
            let name = &wait.name;
            let is_it = |open: &&PendingWait| (open.seq, open.number) == (seq, wait.number);
            if steps.executions.get(&seq).is_some_and(|execution| execution.journal.contains_key(&wait.number)) {
                let what = format!("step execution {seq} has what it waited for and was not woken");
                return vec![(what, Mend::Wake(seq))];
            }
            let Some(open) = steps.waits.get(name).and_then(|open| open.iter().find(is_it)) else {
                let what = format!("step execution {seq} waits for a signal {name} that would not reach it");
                found.push((what, Mend::OpenWait(seq, wait.clone())));
                continue;
            };
            let timer = Timer::wait(id, name, open);
            if let Some(due) = open.due.filter(|_| !self.timers.is_set(&timer)) {
                let what = format!("step execution {seq} waits for {name}, whose deadline has no timer");
                found.push((what, Mend::SetTimer(due, timer)));
            }
        }
        found
    }

    fn missing_hold(&self, worker: &str, fence: Fence) -> Option<(String, Mend)> {
        let seq = fence.seq;
        let Some(member) = self.workers.get(worker) else {
            let what = format!("step execution {seq} is held by worker {worker}, which is gone");
            return Some((what, Mend::GiveUp(worker.to_owned(), fence)));
        };
        let held =
            member.slots.get(&fence.slot).and_then(|slot| Some(slot.held.as_ref()?.fence(fence.slot, slot.call)));
        if held.as_ref() == Some(&fence) {
            return None;
        }
        let what = format!("step execution {seq} is not among the holds of its worker {worker}");
        Some((what, Mend::NoteHold(worker.to_owned(), fence)))
    }

    pub(super) fn mend(&mut self, now: u64, run: &str, mend: Mend, audit: &Audit) {
        match mend {
            Mend::Queue(seq) => self.queue_again(now, run, seq),
            Mend::QueueFan(group) => self.queue_fan(now, run, group, Lane::New),
            Mend::SetTimer(due, timer) => self.timers.set(due, timer),
            Mend::GiveUp(worker, fence) => {
                self.lose(now, &worker, &fence, audit.max_losses, millis(audit.retention));
            }
            Mend::Wake(seq) => self.wake(now, run, seq),
            Mend::OpenWait(seq, wait) => self.open_wait(now, run, seq, &wait),
            Mend::NoteHold(worker, fence) => {
                let held = Some(Held { run: fence.run, seq: fence.seq, attempt: fence.attempt });
                if let Some(member) = self.workers.get_mut(&worker) {
                    member.slots.insert(fence.slot, Slot { call: fence.claim, is_good: true, held });
                }
            }
        }
    }

    pub(super) fn is_queued(&self, run: &RunData, entry: &QueueEntry) -> bool {
        let Some(queue) = self.queues.get(&run.queue()) else { return false };
        let lanes = [&queue.requeued, &queue.new, &queue.alone];
        lanes.into_iter().any(|lane| lane.entries().any(|queued| queued == entry))
    }
}
