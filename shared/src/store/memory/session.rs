//! Sessions: their runs execute one after another and share a context.

use std::collections::{BTreeMap, VecDeque};

use super::data::Data;
use super::run::RunData;
use super::start::run_itself;
use super::timers::Timer;
use crate::history::Kind;
use crate::store::SessionInfo;

/// How many runs the line of a session holds: the one whose turn it is, and those that wait.
const MAX_LINE: usize = 1000;
/// How long a delayed run that finds the line full waits before it tries again, in ms.
const LINE_MS: u64 = 1000;

#[derive(Clone, Debug, Default)]
pub(super) struct SessionData {
    /// The live runs, starting with the one whose turn it is.
    pub(super) line: VecDeque<String>,
    /// How many runs have completed.
    version: u64,
    shared: BTreeMap<String, Vec<u8>>,
    expires: Option<u64>,
}

impl Data {
    pub(super) fn session(&self, name: &str) -> Option<SessionInfo> {
        let session = self.sessions.get(name)?;
        let mut line = session.line.iter().cloned();
        Some(SessionInfo {
            running: line.next(),
            waiting: line.collect(),
            completed: session.version,
            expires_ms: session.expires,
            context: session.shared.clone().into_iter().collect(),
        })
    }

    pub(super) fn set_session(&mut self, name: &str, fields: &[(String, Vec<u8>)]) {
        self.sessions.entry(name.to_owned()).or_default().shared = fields.iter().cloned().collect();
    }

    pub(super) fn is_line_full(&self, name: &str) -> bool {
        self.sessions.get(name).is_some_and(|session| session.line.len() >= MAX_LINE)
    }

    /// Enters a new or retried run, which is held back, into the line, once its delay is over.
    pub(super) fn join_session(&mut self, now: u64, run: &str, delay: u64) {
        if delay == 0 {
            self.enter_line(now, run);
        } else {
            self.timers.set(now.saturating_add(delay), Timer::line(run));
        }
    }

    pub(super) fn fire_line(&mut self, now: u64, run: &str) {
        let Some(state) = self.runs.get(run).filter(|state| state.is_in_line()) else { return };
        let Some(name) = state.shown.session.clone() else { return };
        if self.sessions.get(&name).is_some_and(|session| session.line.iter().any(|other| other == run)) {
            return;
        }
        if self.is_line_full(&name) {
            self.timers.set(now + LINE_MS, Timer::line(run));
        } else {
            self.enter_line(now, run);
        }
    }

    /// Appends the run to the line. If the line was empty, its turn begins.
    fn enter_line(&mut self, now: u64, run: &str) {
        let Some(name) = self.runs.get(run).and_then(|run| run.shown.session.clone()) else { return };
        let line = &mut self.sessions.entry(name.clone()).or_default().line;
        let before = line.back().cloned();
        line.push_back(run.to_owned());
        match before {
            None => self.begin_turn(now, run, &name),
            Some(before) => self.note(now, Kind::InLine, &run_itself(run), format!("{name} {before}")),
        }
    }

    fn begin_turn(&mut self, now: u64, id: &str, name: &str) {
        self.timers.remove(&Timer::session(name));
        let session = self.sessions.entry(name.to_owned()).or_default();
        session.expires = None;
        let Some(run) = self.runs.get_mut(id) else { return };
        // A run that was retried keeps its context.
        if run.based.is_none() {
            run.based = Some(session.version);
            let given = std::mem::replace(&mut run.context, session.shared.clone());
            run.context.extend(given);
            run.begun = run.context.clone();
            run.context_version = u64::from(!run.context.is_empty());
        }
        if let Some(timeout) = &mut run.timeout {
            let due = now.saturating_add(timeout.whole);
            timeout.due = Some(due);
            self.timers.set(due, Timer::timeout(id));
        }
        let Some(steps) = run.steps.as_mut() else { return };
        steps.in_line = false;
        if !steps.is_paused {
            self.go_on(now, id);
        }
    }

    /// Removes a run that has ended from the line. If it had the turn, the next run gets it.
    pub(super) fn leave_session(&mut self, now: u64, id: &str, has_completed: bool, retention: u64) {
        let Some(run) = self.runs.get(id) else { return };
        let Some(name) = run.shown.session.clone() else { return };
        self.timers.remove(&Timer::line(id));
        let Some(session) = self.sessions.get_mut(&name) else { return };
        let is_first = session.line.front().is_some_and(|first| first == id);
        session.line.retain(|other| other != id);
        if !is_first {
            return;
        }
        if has_completed {
            session.take_over(run);
        }
        if let Some(next) = session.line.front().cloned() {
            self.note(now, Kind::Turn, &run_itself(&next), name.clone());
            self.begin_turn(now, &next, &name);
        } else {
            let expires = now.saturating_add(retention);
            session.expires = Some(expires);
            self.timers.set(expires, Timer::session(&name));
        }
    }

    pub(super) fn expire_session(&mut self, name: &str) {
        if self.sessions.get(name).is_some_and(|session| session.line.is_empty()) {
            self.sessions.remove(name);
        }
    }

    /// Reports a live run whose place in the line does not match its state.
    pub(super) fn check_place(&self, id: &str, run: &RunData, found: &mut Vec<String>) {
        let Some(name) = &run.shown.session else { return };
        let place = self.sessions.get(name).and_then(|session| session.line.iter().position(|other| other == id));
        let is_right = match place {
            Some(0) => !run.is_in_line(),
            Some(_) => run.is_in_line(),
            None => run.is_in_line() && self.timers.is_set(&Timer::line(id)),
        };
        if !is_right {
            found.push(format!("run {id} has place {place:?} in the line of session {name}"));
        }
    }
}

impl RunData {
    /// Whether the run waits for its turn in its session.
    pub(super) fn is_in_line(&self) -> bool {
        self.steps.as_ref().is_some_and(|steps| steps.in_line)
    }
}

impl SessionData {
    /// Takes over the context of a completed run. If others completed since it began (because it was retried), takes
    /// over only its changes.
    fn take_over(&mut self, run: &RunData) {
        if run.based == Some(self.version) {
            self.shared = run.context.clone();
        } else {
            let is_new = |(field, value): &(&String, &Vec<u8>)| run.begun.get(*field) != Some(*value);
            let changed = run.context.iter().filter(is_new);
            self.shared.extend(changed.map(|(field, value)| (field.clone(), value.clone())));
            self.shared.retain(|field, _| !run.begun.contains_key(field) || run.context.contains_key(field));
        }
        self.version += 1;
    }
}
