//! Fan-outs and turns. Large fan-outs are written in batches. Branches hand events to joining steps, which begin one
//! level up when the fan-out ends or they have enough events. Turns limit how many executions of a step run at once.

use super::data::{Begins, Data, Held, Lane, RUN, Taker};
use super::run::{Actor, EventSource, Fanout, Head, Phase, Steps, Work};
use super::timers::Timer;
use crate::history::Kind;
use crate::published::StepState;
use crate::step::{CallId, Commit, Fan, Fence, JoinBuffer, Part, Route, Wait};

/// How many step executions a run may have: each takes a few bytes until the run ends.
pub(super) const MAX_EXECUTIONS: u64 = 1_000_000;
/// How many branches begin when a fan-out opens. The rest is staged until slots are free.
const FAN_INLINE: usize = 8;

impl Steps {
    /// The chain of fan-outs around a group, innermost first, starting with the group itself and without the run. None
    /// if one of them is closed, which voids everything in it.
    pub(super) fn groups_of(&self, group: u64) -> Option<Vec<u64>> {
        let (mut chain, mut at) = (Vec::new(), group);
        while let Some(parent) = self.groups.get(&at)?.parent {
            chain.push(at);
            at = parent;
        }
        Some(chain)
    }

    /// Whether the run has nothing left to do once a step execution of this group ends without a successor.
    fn is_last(&self, mut group: u64) -> bool {
        while let Some(fanout) = self.groups.get(&group).filter(|fanout| fanout.live <= 1) {
            let Some(parent) = fanout.parent else { return true };
            if fanout.joins.iter().any(|head| !head.has_begun) {
                return false;
            }
            group = parent;
        }
        false
    }

    /// Whether adding these parts completes a set.
    fn completes_set(&self, group: u64, parts: &[Part]) -> bool {
        let is_there = |step: &str, slot: u32| {
            let waiting = self.parts.get(&(group, step.to_owned(), slot));
            let is_added = |part: &Part| part.route.step == step && part.slot == slot;
            waiting.is_some_and(|waiting| !waiting.is_empty()) || parts.iter().any(is_added)
        };
        parts.iter().any(|part| (1..=part.slots).all(|slot| is_there(&part.route.step, slot)))
    }
}

impl Data {
    /// Stages one chunk of a fan-out that is too large for one call; the commit reveals it. None if the fence is void.
    pub(super) fn stage(
        &mut self,
        worker: &str,
        fence: &Fence,
        offset: u64,
        chunk: &[(Route, Vec<u8>)],
    ) -> Option<u64> {
        if !self.is_held(worker, fence) {
            return None;
        }
        let staged = self.steps(&fence.run)?.staged.entry(fence.seq).or_default();
        if offset == 0 {
            staged.clear();
        }
        if staged.len() as u64 == offset {
            staged.extend(chunk.iter().cloned());
        }
        Some(staged.len() as u64)
    }

    /// Why the run must fail instead of this commit. Checked before anything changes: the step execution stays, and a
    /// retry of the run continues from it.
    pub(super) fn why_not(&self, attempt: &Actor, commit: &Commit) -> Option<String> {
        let steps = self.runs.get(&attempt.run)?.steps.as_ref()?;
        let group = steps.executions.get(&attempt.seq)?.work.group;
        let staged = commit.fan.as_ref().map_or(0, |fan| fan.staged);
        let count = commit.emits.len() as u64 + staged;
        if steps.last + count > MAX_EXECUTIONS {
            return Some(format!(
                "the run has reached its limit of {MAX_EXECUTIONS} step executions; let a long loop end its run and \
                 start the next"
            ));
        }
        let heads = commit.fan.as_ref().map_or(&[][..], |fan| &fan.joins);
        for (step, _) in &commit.joins {
            let joins_here = heads.iter().any(|join| join.route.step == *step);
            if !joins_here && join_group(steps, group, step).is_none() {
                return Some(format!(
                    "an event for the joining step \"{step}\" was emitted outside of any fan-out that it joins"
                ));
            }
        }
        if commit.rests || count > 0 || !commit.joins.is_empty() || !heads.is_empty() {
            return None;
        }
        let inner = if commit.fan.is_some() { attempt.seq } else { group };
        let goes_on = !steps.is_last(group) || steps.completes_set(inner, &commit.parts);
        (!goes_on).then(|| "the run ended without its stop event: it has no step left to execute".to_owned())
    }

    /// Writes emitted events, joins and fan-outs.
    pub(super) fn emit(&mut self, now: u64, attempt: &Actor, group: u64, commit: &Commit) {
        let run = attempt.run.as_str();
        let inner = if let Some(fan) = &commit.fan {
            self.open_fan(attempt, group, fan);
            // What another attempt has staged in vain is no part of it.
            if let Some(steps) = self.steps(run).filter(|_| fan.staged == 0) {
                steps.staged.remove(&attempt.seq);
            }
            attempt.seq
        } else {
            group
        };
        self.push_joins(now, run, inner, &commit.joins);
        // A join with enough events closes its fan-out, and voids whatever else this step execution emits.
        if self.steps(run).is_some_and(|steps| steps.groups_of(inner).is_none()) {
            return;
        }
        let event = |(route, payload): &(Route, Vec<u8>)| (route.clone(), EventSource::Payload(payload.clone()));
        let begun = if commit.fan.is_some() { commit.emits.len().min(FAN_INLINE) } else { commit.emits.len() };
        let (begun, rest) = commit.emits.split_at(begun);
        if let Some(steps) = self.steps(run).filter(|_| !rest.is_empty()) {
            steps.staged.entry(inner).or_default().extend(rest.iter().cloned());
        }
        if let Some(taker) = &mut self.taker {
            taker.branches = Some(inner);
        }
        let mut events: Vec<_> = begun.iter().map(event).collect();
        self.push_parts(run, inner, &commit.parts, &mut events);
        let begun = events.len() as u64;
        let work = |(route, event)| Work { group: inner, route, event };
        self.create(now, run, Begins::Now, events.into_iter().map(work).collect());
        let staged = commit.fan.as_ref().map_or(0, |fan| fan.staged) + rest.len() as u64;
        if staged > 0 {
            self.queue_fan(now, run, inner, Lane::New);
        }
        // An open fan-out counts in place of this step execution until it ends.
        let ended = u64::from(commit.fan.is_none());
        self.settle(now, run, inner, begun + staged, ended);
    }

    /// Takes the next staged branch of a fan-out into a free slot.
    pub(super) fn take_branch(&mut self, now: u64, call: &CallId, run: &str, group: u64) -> Option<Held> {
        let steps = self.steps(run)?;
        if group == RUN || steps.groups_of(group).is_none() {
            return None;
        }
        let staged = steps.staged.get_mut(&group)?;
        staged.front().filter(|(route, _)| route.limit.is_none())?;
        let (route, payload) = staged.pop_front()?;
        if staged.is_empty() {
            steps.staged.remove(&group);
        }
        let taker = Taker { worker: call.worker.clone(), call: call.number, slot: 0, taken: None, branches: None };
        self.taker = Some(taker);
        self.create(now, run, Begins::Now, vec![Work { group, route, event: EventSource::Payload(payload) }]);
        let held = self.taker.take()?.taken?;
        self.tell(now, run, held.seq, StepState::Running, &call.worker);
        Some(held)
    }

    fn open_fan(&mut self, attempt: &Actor, group: u64, fan: &Fan) {
        if let Some(steps) = self.steps(&attempt.run) {
            let head = |join: &crate::step::Join| Head { join: join.clone(), has_begun: false };
            let joins = fan.joins.iter().map(head).collect();
            steps.groups.insert(attempt.seq, Fanout { parent: Some(group), joins, live: 0, entry: None });
        }
    }

    /// Hands events to the fan-outs that join them.
    fn push_joins(&mut self, now: u64, run: &str, group: u64, joins: &[(String, Vec<u8>)]) {
        let Some(steps) = self.steps(run) else { return };
        let places: Vec<_> = joins.iter().map(|(step, _)| join_group(steps, group, step)).collect();
        for (place, (step, payload)) in places.into_iter().zip(joins) {
            if let Some(place) = place {
                self.push_join(now, run, place, step, payload);
            }
        }
    }

    fn push_join(&mut self, now: u64, run: &str, group: u64, step: &str, payload: &[u8]) {
        let Some(steps) = self.steps(run) else { return };
        // An earlier event may have closed it.
        let Some(fanout) = steps.groups.get_mut(&group) else { return };
        let Some(head) = fanout.joins.iter_mut().find(|head| head.join.route.step == step && !head.has_begun) else {
            return;
        };
        let events = steps.joined.entry((group, step.to_owned())).or_default();
        events.push(payload.to_vec());
        if head.join.first.is_none_or(|first| (events.len() as u64) < u64::from(first)) {
            return;
        }
        head.has_begun = true;
        let (route, parent, is_over) = (
            head.join.route.clone(),
            fanout.parent.unwrap_or_default(),
            fanout.joins.iter().all(|head| head.has_begun),
        );
        self.begin_joins(now, run, group, parent, vec![route]);
        if let Some(outer) = self.steps(run).and_then(|steps| steps.groups.get_mut(&parent)) {
            outer.live += 1;
        }
        if is_over {
            self.close_group(now, run, group, parent);
        }
    }

    /// Closes a fan-out whose joins have all begun. Its remaining step executions are void from now on.
    fn close_group(&mut self, now: u64, run: &str, group: u64, parent: u64) {
        let Some(steps) = self.steps(run) else { return };
        steps.groups.remove(&group);
        steps.staged.remove(&group);
        if let Some(outer) = steps.groups.get_mut(&parent) {
            outer.live -= 1;
        }
        self.timers.set(now, Timer::Close { run: run.to_owned(), group });
        self.tell_workers(now, format!("{run} {group}"));
    }

    /// Begins joining steps one level up.
    fn begin_joins(&mut self, now: u64, run: &str, group: u64, parent: u64, routes: Vec<Route>) {
        let Some(steps) = self.steps(run) else { return };
        let mut works = Vec::new();
        for route in routes {
            let count = steps.joined.get(&(group, route.step.clone())).map_or(0, Vec::len) as u64;
            works.push(Work { group: parent, route, event: EventSource::Joined(JoinBuffer { group, count }) });
        }
        self.create(now, run, Begins::Now, works);
    }

    /// Updates the number of live executions of a group. At zero the group ends and its joins begin one level up, and
    /// so on outwards. False if the run has nothing left to do.
    fn settle(&mut self, now: u64, run: &str, mut group: u64, mut begun: u64, mut ended: u64) -> bool {
        loop {
            let Some(steps) = self.steps(run) else { return true };
            let Some(fanout) = steps.groups.get_mut(&group) else { return true };
            fanout.live = (fanout.live + begun).saturating_sub(ended);
            if fanout.live > 0 {
                return true;
            }
            let Some(parent) = fanout.parent else { return false };
            let waiting = fanout.joins.iter().filter(|head| !head.has_begun);
            let routes: Vec<Route> = waiting.map(|head| head.join.route.clone()).collect();
            steps.groups.remove(&group);
            (begun, ended) = (routes.len() as u64, 1);
            self.begin_joins(now, run, group, parent, routes);
            group = parent;
        }
    }

    /// Adds parts to their sets. Appends the step event of each complete set to `events`.
    fn push_parts(&mut self, run: &str, group: u64, parts: &[Part], events: &mut Vec<(Route, EventSource)>) {
        let Some(steps) = self.steps(run) else { return };
        for Part { route, slot, slots, payload } in parts {
            let key = |slot| (group, route.step.clone(), slot);
            steps.parts.entry(key(*slot)).or_default().push_back(payload.clone());
            if (1..=*slots).all(|slot| steps.parts.get(&key(slot)).is_some_and(|waiting| !waiting.is_empty())) {
                let take = |slot| steps.parts.get_mut(&key(slot)).and_then(std::collections::VecDeque::pop_front);
                events.push((route.clone(), EventSource::Set((1..=*slots).filter_map(take).collect())));
            }
        }
    }

    /// Whether a new step execution may begin now. If its step is at its limit, it waits for its turn.
    pub(super) fn take_turn(&mut self, run: &str, seq: u64, route: &Route) -> bool {
        let (Some(limit), Some(steps)) = (route.limit, self.steps(run)) else { return true };
        let taken = steps.turns.entry(route.step.clone()).or_default();
        if *taken < u64::from(limit) {
            *taken += 1;
            return true;
        }
        steps.queues.entry(route.step.clone()).or_default().push_back(seq);
        false
    }

    /// Passes a turn to the next step execution that waits for one.
    pub(super) fn pass_turn(&mut self, now: u64, run: &str, step: &str) {
        loop {
            let Some(steps) = self.steps(run) else { return };
            let Some(taken) = steps.turns.get_mut(step) else { return };
            let Some(seq) = steps.queues.get_mut(step).and_then(std::collections::VecDeque::pop_front) else {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    steps.turns.remove(step);
                }
                return;
            };
            if steps.executions.get(&seq).is_some_and(|execution| execution.phase == Phase::Turn) {
                if !self.is_closed(run, seq) {
                    return self.queue_again(now, run, seq);
                }
                self.discard(now, run, seq);
            }
        }
    }

    /// Whether a fan-out around the step execution is closed.
    pub(super) fn is_closed(&self, run: &str, seq: u64) -> bool {
        let steps = self.runs.get(run).and_then(|run| run.steps.as_ref());
        let is_closed = |steps: &Steps| {
            let group = steps.executions.get(&seq).map(|execution| execution.work.group);
            group.is_some_and(|group| steps.groups_of(group).is_none())
        };
        steps.is_some_and(is_closed)
    }

    /// Ends a step execution of a closed fan-out. A late commit of it is fenced.
    pub(super) fn discard(&mut self, now: u64, run: &str, seq: u64) {
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get(&seq)) else { return };
        if execution.attempt > 0 {
            let holder =
                if let Phase::Held { worker, .. } = &execution.phase { worker.clone() } else { "-".to_owned() };
            self.tell(now, run, seq, StepState::Dropped, &holder);
        }
        let Some(execution) = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq)) else { return };
        let phase = std::mem::replace(&mut execution.phase, Phase::Ending);
        let (number, route) = (execution.attempt, execution.work.route.clone());
        let mut worker = "-".to_owned();
        match &phase {
            Phase::Held { worker: holder, .. } => worker.clone_from(holder),
            Phase::Waiting { .. } => self.timers.remove(&Timer::step(run, seq, number)),
            Phase::Suspended { waits } => self.close_waits(now, run, seq, waits),
            Phase::Queued(_) | Phase::Turn | Phase::Ending => {}
        }
        if number > 0 {
            let attempt = Actor { run: run.to_owned(), seq, number, step: route.step.clone(), worker };
            self.note(now, Kind::Dropped, &attempt, String::new());
            self.let_children_go(now, run, seq);
        }
        if let Some(steps) = self.steps(run) {
            steps.executions.remove(&seq);
        }
        if phase != Phase::Turn && route.limit.is_some() {
            self.pass_turn(now, run, &route.step);
        }
    }

    fn close_waits(&mut self, now: u64, run: &str, seq: u64, waits: &[Wait]) {
        for wait in waits {
            self.keep_waits(now, run, &wait.name, |open, _| (open.seq, open.number) != (seq, wait.number));
        }
    }

    /// Discards what closed fan-outs of a run left behind.
    pub(super) fn discard_closed(&mut self, now: u64, run: &str) {
        let Some(steps) = self.steps(run) else { return };
        let nested: Vec<u64> = steps.groups.keys().copied().filter(|group| steps.groups_of(*group).is_none()).collect();
        for group in nested {
            steps.groups.remove(&group);
            steps.staged.remove(&group);
        }
        let closed = steps.executions.iter().filter(|(_, execution)| steps.groups_of(execution.work.group).is_none());
        let closed: Vec<u64> = closed.map(|(seq, _)| *seq).collect();
        for seq in closed {
            if self.steps(run).is_some_and(|steps| steps.executions.contains_key(&seq)) {
                self.discard(now, run, seq);
            }
        }
    }
}

/// The innermost fan-out, from `group` outwards, that `step` joins.
fn join_group(steps: &Steps, mut group: u64, step: &str) -> Option<u64> {
    loop {
        let fanout = steps.groups.get(&group)?;
        if fanout.joins.iter().any(|head| head.join.route.step == step) {
            return Some(group);
        }
        group = fanout.parent?;
    }
}
