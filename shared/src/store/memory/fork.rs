//! `fork`: creates a run that continues from a point of another. Only the history of the other changes.

use std::collections::BTreeMap;

use super::data::{Begins, Data, RUN};
use super::millis;
use super::run::{Actor, EventSource, Execution, Fanout, RunData, Steps, Timeout, Work};
use super::signal::{Standing, entry_of};
use super::start::{run_itself, shown};
use super::timers::Timer;
use crate::codec::Content;
use crate::history::Kind;
use crate::journal::fork::head_of;
use crate::run::{Run, Status};
use crate::step::Forked;
use crate::store::{Fork, ForkPoint, ForkSource, Origin, RequestFate};

/// How many step executions are searched for the one that a fork begins with.
const FORK_LOOKS: u64 = 2000;
/// How many candidates are named if there are several.
const NAMED: usize = 20;

/// A point of a run.
enum Point {
    Start,
    Step(u64),
    Several(Vec<(u64, String)>),
    Refused(String),
}

impl RunData {
    /// The steps of a run that is live, failed or cancelled.
    fn kept_steps(&self) -> Option<&Steps> {
        self.steps.as_ref().or(self.stopped.as_ref())
    }

    fn point(&self, asked: Option<u64>) -> Point {
        let steps = self.kept_steps();
        let last = steps.map(|steps| steps.last);
        let seq = match (asked, steps) {
            (Some(seq), _) => seq,
            (None, None) => self.forked_at.unwrap_or(1),
            (None, Some(steps)) if steps.last == 1 => self.forked_at.unwrap_or(1),
            (None, Some(Steps { failed: Some(failed), .. })) => *failed,
            (None, Some(steps)) => {
                let live = steps.executions.range(..=FORK_LOOKS).take(NAMED);
                let live: Vec<_> = live.map(|(seq, one)| (*seq, one.work.route.step.clone())).collect();
                match &*live {
                    [(seq, _)] => *seq,
                    _ => return Point::Several(live),
                }
            }
        };
        let execution = steps.and_then(|steps| steps.executions.get(&seq));
        if seq == 1 && self.forked_at.is_none() && (last == Some(1) || execution.is_none()) {
            // A run that was cancelled before a worker served its workflow never got its input.
            if self.shown.workflow.is_empty() {
                return Point::Refused("its input is gone".into());
            }
            return Point::Start;
        }
        match execution {
            Some(execution) if execution.work.group != RUN => Point::Refused(format!(
                "step execution {seq} is a branch of a fan-out, and its join would wait for the other branches for ever"
            )),
            Some(_) => Point::Step(seq),
            None if self.forked_at == Some(seq) => Point::Refused(format!(
                "it began as a fork from step execution {seq}, which has committed: its event is not kept"
            )),
            None => Point::Refused(format!(
                "step execution {seq} has committed or never existed, so its event is not kept; fork from one that has \
                 not ended, from the one that failed, or from the first"
            )),
        }
    }

    fn journal_of(&self, seq: u64) -> &BTreeMap<u64, Vec<u8>> {
        let execution = self.kept_steps().and_then(|steps| steps.executions.get(&seq));
        execution.map_or(&self.kept_journal, |execution| &execution.journal)
    }
}

impl Data {
    pub(super) fn forkable(&self, now: u64, asked: &str, seq: Option<u64>) -> ForkPoint {
        let run = self.led_to(now, asked);
        match self.standing(&run) {
            Standing::Unknown => return ForkPoint::Unknown,
            Standing::Waiting => return ForkPoint::Held,
            Standing::Live | Standing::Over => {}
        }
        let Some(source) = self.runs.get(&run).filter(|run| run.shown.status != Status::Rejected) else {
            return ForkPoint::Refused("its request was rejected".into());
        };
        let (is_start, seq) = match source.point(seq) {
            Point::Start => (true, 1),
            Point::Step(seq) => (false, seq),
            Point::Several(several) => return ForkPoint::Several(several),
            Point::Refused(why) => return ForkPoint::Refused(why),
        };
        let execution = source.kept_steps().and_then(|steps| steps.executions.get(&seq)).filter(|_| !is_start);
        ForkPoint::At(ForkSource {
            is_start,
            seq,
            step: execution.map_or_else(|| "-".into(), |execution| execution.work.route.step.clone()),
            workflow: source.shown.workflow.clone(),
            version: source.shown.version,
            heads: source.journal_of(seq).iter().map(|(number, entry)| (*number, head_of(entry).to_vec())).collect(),
        })
    }

    pub(super) fn fork(&mut self, now: u64, fork: &Fork, origin: Option<&Origin>) -> Forked {
        if self.is_gone(entry_of(origin)) {
            return Forked::Gone;
        }
        if self.is_repeated(now, &fork.asked, origin) {
            return Forked::Repeated;
        }
        let run = self.led_to(now, &fork.asked);
        match self.standing(&run) {
            Standing::Unknown => return Forked::Unknown,
            Standing::Waiting => return Forked::Held,
            Standing::Live | Standing::Over => {}
        }
        let Some(source) = self.runs.get(&run).filter(|run| run.shown.status != Status::Rejected) else {
            return Forked::Refused("its request was rejected".into());
        };
        if self.runs.get(&fork.id).is_some_and(|there| there.forked.as_deref() == Some(&*run)) {
            self.settle_quietly(now, &fork.asked, origin, RequestFate::Taken);
            self.tell_made(now, &fork.id, origin, true);
            return Forked::Known;
        }
        let leads = self.aliases.get(&fork.id).is_some_and(|lead| lead.is_good(now));
        if leads || self.deferred.contains_key(&fork.id) || self.is_taken(&fork.id) {
            return Forked::Taken;
        }
        let point = match source.point(Some(fork.seq)) {
            Point::Start => true,
            Point::Step(_) => false,
            Point::Refused(why) => return Forked::Refused(why),
            Point::Several(_) => return Forked::Changed,
        };
        let has = |number: u64, head: &[u8]| {
            source.journal_of(fork.seq).get(&number).is_some_and(|entry| head_of(entry) == head)
        };
        let is_there = fork.entries.iter().all(|kept| kept.head.is_empty() || has(kept.number, &kept.head));
        if point != fork.is_start || !is_there {
            return Forked::Changed;
        }
        let execution = source.kept_steps().and_then(|steps| steps.executions.get(&fork.seq));
        let work = execution.map(|execution| &execution.work).filter(|_| !fork.is_start);
        if let Some(why) = fork.event.as_deref().and_then(|event| misfit(source.shown.content, event, work)) {
            return Forked::Refused(why);
        }
        self.settle_quietly(now, &fork.asked, origin, RequestFate::Taken);
        self.begin_fork(now, &run, fork);
        self.tell_made(now, &fork.id, origin, false);
        Forked::Made
    }

    fn begin_fork(&mut self, now: u64, run: &str, fork: &Fork) {
        if self.runs.contains_key(&fork.id) {
            // The id of a rejected request is free.
            self.forget_but_signals(&fork.id);
            self.timers.remove(&Timer::expire(&fork.id));
        }
        let Some((state, works)) = self.runs.get(run).and_then(|source| source.forked(now, run, fork)) else { return };
        let about = format!("{} {}", state.shown.workflow, state.shown.version);
        self.runs.insert(fork.id.clone(), state);
        self.created.insert((now, fork.id.clone()));
        self.note(now, Kind::Start, &run_itself(&fork.id), about);
        if let Some(whole) = fork.timeout.map(millis) {
            let due = now.saturating_add(whole);
            self.timers.set(due, Timer::timeout(&fork.id));
            if let Some(state) = self.runs.get_mut(&fork.id) {
                state.timeout = Some(Timeout { whole, due: Some(due) });
            }
        }
        self.create(now, &fork.id, Begins::Now, works);
        self.copy_entries(run, fork);
        let at = fork.call.map(|call| format!(" at call {call}")).unwrap_or_default();
        let execution = self.steps(&fork.id).and_then(|steps| steps.executions.get(&fork.seq));
        let step = execution.map_or_else(|| "-".to_owned(), |execution| execution.work.route.step.clone());
        for (of, told) in [(&*fork.id, format!("from {run}{at}")), (run, format!("to {}{at}", fork.id))] {
            let actor = Actor { run: of.to_owned(), seq: fork.seq, number: 0, step: step.clone(), worker: "-".into() };
            self.note(now, Kind::Forked, &actor, told);
        }
    }

    fn copy_entries(&mut self, run: &str, fork: &Fork) {
        let Some(source) = self.runs.get(run) else { return };
        let from = source.journal_of(fork.seq);
        let copy = |kept: &crate::journal::fork::Kept| {
            let rest = match from.get(&kept.number).filter(|_| !kept.head.is_empty()) {
                Some(entry) => &entry[kept.head.len().min(entry.len())..],
                None => &b"\n"[..],
            };
            (kept.number, [&*kept.becomes, rest].concat())
        };
        let journal: BTreeMap<u64, Vec<u8>> = fork.entries.iter().map(copy).collect();
        let execution = self.steps(&fork.id).and_then(|steps| steps.executions.get_mut(&fork.seq));
        if let Some(execution) = execution.filter(|_| !journal.is_empty()) {
            execution.journal = journal;
            // A first attempt gets no journal: the source's attempt counts as the first.
            execution.attempt = 1;
        }
    }
}

impl RunData {
    /// The initial state of the fork and its first step executions.
    fn forked(&self, now: u64, run: &str, fork: &Fork) -> Option<(Self, Vec<Work>)> {
        let mut input = self.shown.input.clone();
        let event = fork.event.as_deref();
        let context = if fork.is_start { &self.begun } else { &self.context };
        let mut steps = Steps::default();
        let works = if fork.is_start {
            input = event.map_or(input, without_format);
            let work =
                |route: &crate::step::Route| Work { group: RUN, route: route.clone(), event: EventSource::Input };
            fork.routes.iter().map(work).collect()
        } else {
            let from = self.kept_steps()?;
            let Execution { work, .. } = from.executions.get(&fork.seq)?;
            let mut work = work.clone();
            match (&mut work.event, event) {
                (EventSource::Input, Some(event)) => input = without_format(event),
                (EventSource::Payload(own) | EventSource::Outside(own), Some(event)) => *own = event.to_vec(),
                _ => {}
            }
            steps = from.beside(&work);
            steps.last = fork.seq - 1;
            vec![work]
        };
        let itself = Fanout { live: works.len() as u64, ..Fanout::default() };
        steps.groups = [(RUN, itself)].into();
        let status = if fork.is_start { Status::Queued } else { Status::Running };
        let (workflow, version, content) = (self.shown.workflow.clone(), self.shown.version, self.shown.content);
        let durability = self.shown.durability;
        let mut state =
            Self::new(Run { workflow, version, content, input, durability, ..shown(&fork.id, status, now) });
        state.shown.started_ms = (!fork.is_start).then_some(now);
        state.follow_steps = self.follow_steps && self.kept_steps().is_some();
        (state.forked, state.forked_at) = (Some(run.to_owned()), (!fork.is_start).then_some(fork.seq));
        (state.context, state.begun) = (context.clone(), context.clone());
        state.context_version = u64::from(!context.is_empty());
        state.steps = Some(steps);
        Some((state, works))
    }
}

impl Steps {
    /// What a step execution depends on besides its event: joined events, incomplete sets and buffers.
    fn beside(&self, work: &Work) -> Self {
        let mut beside = Self::default();
        if let EventSource::Joined(joined) = &work.event {
            let key = (joined.group, work.route.step.clone());
            beside.joined.extend(self.joined.get(&key).map(|events| (key, events.clone())));
        }
        let of_run = |(key, events): (&(u64, String, u32), &_)| (key.clone(), Clone::clone(events));
        beside.parts = self.parts.iter().filter(|((group, ..), _)| *group == RUN).map(of_run).collect();
        let buffers = self.collected.iter().filter(|((group, ..), _)| *group == RUN);
        beside.collected = buffers.map(|(key, events)| (key.clone(), events.clone())).collect();
        beside
    }
}

fn without_format(payload: &[u8]) -> Vec<u8> {
    payload.get(1..).unwrap_or_default().to_vec()
}

fn misfit(content: Content, event: &[u8], work: Option<&Work>) -> Option<String> {
    let written = if event.first() == Some(&1) { Content::MessagePack } else { Content::Json };
    match work.map_or(&EventSource::Input, |work| &work.event) {
        EventSource::Joined(_) | EventSource::Set(_) => {
            Some("the step execution was given several events, and another event cannot replace them".into())
        }
        EventSource::Input if content != written => {
            Some(format!("it takes the input of the run, which is encoded as {}", content.as_str()))
        }
        _ => None,
    }
}
