//! Checks the invariants that hold between any two transitions, for tests.

use std::collections::{BTreeMap, VecDeque};

use super::data::{Data, Held, QueueEntry, RUN};
use super::run::{Execution, Phase, RunData, Steps};
use super::timers::Timer;

impl Data {
    /// Describes each breach in one sentence.
    pub(super) fn breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, run) in &self.runs {
            let is_live = !run.shown.status.is_over();
            if is_live != run.steps.is_some() {
                let has = if is_live { "no steps" } else { "steps under way" };
                found.push(format!("run {id} is {} and has {has}", run.shown.status));
            }
            if !is_live && !self.timers.is_set(&Timer::expire(id)) {
                found.push(format!("run {id} has ended and never expires"));
            }
            if let Some(steps) = &run.steps {
                self.check_steps(id, run, steps, &mut found);
                self.check_place(id, run, &mut found);
            }
        }
        found
    }

    fn check_steps(&self, id: &str, run: &RunData, steps: &Steps, found: &mut Vec<String>) {
        let mut live: BTreeMap<u64, u64> = BTreeMap::new();
        let is_open = |group: u64| steps.groups_of(group).is_some();
        for (seq, execution) in steps.executions.iter().filter(|(_, execution)| is_open(execution.work.group)) {
            *live.entry(execution.work.group).or_default() += 1;
            if !self.is_cared_for(id, run, *seq, execution) {
                found.push(format!("step execution {seq} of run {id} is stranded: {execution:?}"));
            }
        }
        for (group, fanout) in steps.groups.iter().filter(|(group, _)| is_open(**group)) {
            if let Some(parent) = fanout.parent {
                *live.entry(parent).or_default() += 1;
            }
            let staged = steps.staged.get(group).map_or(0, VecDeque::len) as u64;
            *live.entry(*group).or_default() += staged;
            if staged > 0
                && !steps.is_held_back()
                && !self.is_queued(run, &QueueEntry::Fan { run: id.to_owned(), group: *group })
            {
                found.push(format!("the branches of fan-out {group} of run {id} are stranded"));
            }
        }
        for (group, live) in live {
            let counted = steps.groups.get(&group).map(|fanout| fanout.live);
            if counted != Some(live) {
                let name = if group == RUN { "the run itself".to_owned() } else { format!("fan-out {group}") };
                found.push(format!("{name} of run {id} has {live} live parts and counts {counted:?}"));
            }
        }
    }

    /// Whether a claim, a timer, a wake-up or its holder will move the step execution on.
    fn is_cared_for(&self, id: &str, run: &RunData, seq: u64, execution: &Execution) -> bool {
        match &execution.phase {
            Phase::Queued(_) => {
                run.steps.as_ref().is_some_and(Steps::is_held_back)
                    || self.is_queued(run, &QueueEntry::Step { run: id.to_owned(), seq })
            }
            Phase::Held { worker, claim, slot, .. } => {
                let slot = self.workers.get(worker).and_then(|member| member.slots.get(slot));
                let held = Held { run: id.to_owned(), seq, attempt: execution.attempt };
                slot.is_some_and(|slot| slot.held.as_ref() == Some(&held) && slot.call == *claim)
            }
            Phase::Waiting { .. } => self.timers.is_set(&Timer::step(id, seq, execution.attempt)),
            Phase::Suspended { waits } => waits.iter().all(|wait| {
                let open = run.steps.as_ref().and_then(|steps| steps.waits.get(&wait.name));
                open.is_some_and(|open| open.iter().any(|open| (open.seq, open.number) == (seq, wait.number)))
            }),
            Phase::Turn => {
                let step = &execution.work.route.step;
                run.steps.as_ref().is_some_and(|steps| {
                    let is_waiting = steps.queues.get(step).is_some_and(|waiting| waiting.contains(&seq));
                    is_waiting && steps.turns.get(step).is_some_and(|taken| *taken > 0)
                })
            }
            Phase::Ending => false,
        }
    }
}
