//! Timers, ordered by due time.

use std::collections::BTreeMap;

use super::run::PendingWait;
use crate::attributes;

/// What a timer does when it is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The run's retention is over.
    Expire { run: String },
    /// The run's delay is over: it enters the line of its session.
    Line { run: String },
    /// The session's retention is over.
    Session { name: String },
    /// The run has taken too long.
    Timeout { run: String },
    /// Queue the step execution, if it still waits after this attempt.
    Step { run: String, seq: u64, attempt: u32 },
    /// Discard what closed fan-outs left behind.
    Close { run: String, group: u64 },
    /// The wait's deadline has passed: end it without a signal.
    Wait { run: String, name: String, wait: PendingWait },
}

impl Timer {
    pub(super) fn expire(run: &str) -> Self {
        Self::Expire { run: run.to_owned() }
    }

    pub(super) fn line(run: &str) -> Self {
        Self::Line { run: run.to_owned() }
    }

    pub(super) fn session(name: &str) -> Self {
        Self::Session { name: name.to_owned() }
    }

    pub(super) fn timeout(run: &str) -> Self {
        Self::Timeout { run: run.to_owned() }
    }

    pub(super) fn step(run: &str, seq: u64, attempt: u32) -> Self {
        Self::Step { run: run.to_owned(), seq, attempt }
    }

    pub(super) fn wait(run: &str, name: &str, wait: &PendingWait) -> Self {
        Self::Wait { run: run.to_owned(), name: name.to_owned(), wait: wait.clone() }
    }

    fn text(&self) -> String {
        match self {
            Self::Expire { run } => format!("expire {run}"),
            Self::Line { run } => format!("line {run}"),
            Self::Session { name } => format!("session {name}"),
            Self::Timeout { run } => format!("timeout {run}"),
            Self::Step { run, seq, attempt } => format!("step {run} {seq} {attempt}"),
            Self::Close { run, group } => format!("close {run} {group} 0"),
            Self::Wait { run, name, wait: PendingWait { seq, number, due, filter } } => {
                let filter =
                    if filter.is_empty() { String::new() } else { format!("~{}", attributes::written(filter)) };
                format!("wait {run} {name} {seq}.{number}@{}{filter}", due.unwrap_or(0))
            }
        }
    }
}

/// Timers by due time; those of the same ms in the order of their text, as Redis sorts them.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    by_due: BTreeMap<(u64, String), Timer>,
    due: BTreeMap<Timer, u64>,
}

impl Timers {
    /// Sets a timer, or moves it if it is already set.
    pub(super) fn set(&mut self, due: u64, timer: Timer) {
        self.remove(&timer);
        self.by_due.insert((due, timer.text()), timer.clone());
        self.due.insert(timer, due);
    }

    pub(super) fn remove(&mut self, timer: &Timer) {
        if let Some(due) = self.due.remove(timer) {
            self.by_due.remove(&(due, timer.text()));
        }
    }

    /// Removes and returns up to `most` due timers.
    pub(super) fn take_due(&mut self, now: u64, most: usize) -> Vec<Timer> {
        let due: Vec<Timer> = self
            .by_due
            .iter()
            .take_while(|((due, _), _)| *due <= now)
            .map(|(_, timer)| timer.clone())
            .take(most)
            .collect();
        for timer in &due {
            self.remove(timer);
        }
        due
    }

    /// When the next timer is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.by_due.keys().next().map(|(due, _)| *due)
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.due.contains_key(timer)
    }
}
