//! `signal`: deliver to the oldest wait of that name, or keep for the next. `cancel`: stop a run where it stands.

use super::data::Data;
use super::run::{Actor, KeptSignal, PendingWait, RunData, RunEnd};
use super::start::{run_itself, shown};
use super::stream::EntryId;
use super::timers::Timer;
use crate::attributes;
use crate::history::Kind;
use crate::journal;
use crate::run::Status;
use crate::step::{Cancelled, Signalled};

/// At most this many signals wait for a wait, per run and name.
const MAX_SIGNALS: usize = 1000;

/// What can be done about a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Live,
    /// For a worker to serve it.
    Waiting,
    Over,
    Unknown,
}

impl Data {
    pub(super) fn signal(&mut self, now: u64, run: &str, name: &str, payload: &[u8], entry: Option<&str>) -> Signalled {
        if self.is_gone(entry) {
            return Signalled::Gone;
        }
        let run = self.led_to(now, run);
        let signal = KeptSignal { attributes: attributes::of(payload), payload: payload.to_vec() };
        match self.standing(&run) {
            Standing::Over => return Signalled::Over,
            Standing::Unknown => return Signalled::Unknown,
            Standing::Live if self.end_wait(now, &run, name, &signal) => {
                self.leave_inbox(entry);
                return Signalled::Delivered;
            }
            Standing::Live | Standing::Waiting => {}
        }
        let kept = self.signals.entry((run, name.to_owned())).or_default();
        if kept.len() >= MAX_SIGNALS {
            return Signalled::Full;
        }
        kept.push_back(signal);
        self.leave_inbox(entry);
        Signalled::Kept
    }

    pub(super) fn cancel(&mut self, now: u64, run: &str, entry: Option<&str>, retention: u64) -> Cancelled {
        let run = self.led_to(now, run);
        let standing = self.standing(&run);
        if standing == Standing::Unknown {
            return if self.is_gone(entry) { Cancelled::Gone } else { Cancelled::Unknown };
        }
        self.leave_inbox(entry);
        if standing == Standing::Over {
            return Cancelled::Over;
        }
        if standing == Standing::Waiting {
            self.deferred.remove(&run);
            // What was rejected under this id gives way.
            self.created.retain(|(_, other)| *other != run);
            self.runs.insert(run.clone(), RunData::new(shown(&run, Status::Queued, now)));
            self.created.insert((now, run.clone()));
        }
        let itself = run_itself(&run);
        self.note(now, Kind::Cancelled, &itself, String::new());
        self.tell_workers(now, run.clone());
        self.finish(now, &itself, RunEnd::Cancelled, retention);
        Cancelled::Stopped
    }

    /// Signals for a request that turned out to repeat a known run are that run's.
    pub(super) fn redirect_signals(&mut self, now: u64, from: &str, to: &str) {
        if self.runs.contains_key(from) {
            return;
        }
        let is_theirs = |(run, _): &&(String, String)| run == from;
        let keys: Vec<_> = self.signals.keys().filter(is_theirs).cloned().collect();
        for key in keys {
            let kept = self.signals.remove(&key).unwrap_or_default();
            let name = key.1;
            for signal in kept {
                self.signal(now, to, &name, &signal.payload, None);
            }
        }
    }

    fn end_wait(&mut self, now: u64, run: &str, name: &str, signal: &KeptSignal) -> bool {
        let Some(wait) = self.next_wait(run, name, &signal.attributes) else { return false };
        let attempt = Actor { run: run.into(), seq: wait.seq, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Signal, &attempt, name.to_owned());
        self.record_signal(run, wait.seq, wait.number, name, signal);
        self.wake(now, run, wait.seq);
        true
    }

    /// The oldest wait of that name that lets the signal pass and whose step execution has not ended.
    fn next_wait(&mut self, run: &str, name: &str, attributes: &[String]) -> Option<PendingWait> {
        loop {
            let steps = self.steps(run)?;
            let waits = steps.waits.get_mut(name)?;
            let at = waits.iter().position(|wait| attributes::match_filter(attributes, &wait.filter))?;
            let wait = waits.remove(at)?;
            let is_live = steps.is_waiting(wait.seq);
            self.timers.remove(&Timer::wait(run, name, &wait));
            if is_live {
                return Some(wait);
            }
        }
    }

    /// The first one that passes the filter.
    pub(super) fn take_signal(&mut self, run: &str, name: &str, filter: &[(String, String)]) -> Option<KeptSignal> {
        let kept = self.signals.get_mut(&(run.to_owned(), name.to_owned()))?;
        let at = kept.iter().position(|signal| attributes::match_filter(&signal.attributes, filter))?;
        kept.remove(at)
    }

    /// The body has let go of these calls: as waits they take no signal any more, and what has reached them unseen is
    /// there for others, in the order in which it came.
    pub(super) fn let_go(&mut self, now: u64, run: &str, seq: u64, gone: &[(u64, String)]) {
        let mut unseen = Vec::new();
        for (number, name) in gone {
            self.keep_waits(run, name, |wait, _| (wait.seq, wait.number) != (seq, *number));
            let execution = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq));
            let Some(execution) = execution else { return };
            let entry = execution.journal.insert(*number, journal::Entry::LetGo { name }.write()).unwrap_or_default();
            if let Ok(journal::Entry::Signal { payload, .. }) = journal::Entry::read(&entry) {
                unseen.push((name, KeptSignal { attributes: attributes::of(payload), payload: payload.to_vec() }));
            }
        }
        unseen.retain(|(name, signal)| !self.end_wait(now, run, name, signal));
        for (name, signal) in unseen.into_iter().rev() {
            self.signals.entry((run.to_owned(), name.clone())).or_default().push_front(signal);
        }
    }

    /// The run itself, or the one that its request turned out to repeat.
    pub(super) fn led_to(&self, now: u64, run: &str) -> String {
        let is_known = self.runs.contains_key(run);
        let alias = self.aliases.get(run).filter(|lead| !is_known && lead.is_good(now));
        alias.map_or_else(|| run.to_owned(), |lead| lead.run.clone())
    }

    pub(super) fn standing(&self, run: &str) -> Standing {
        let known = self.runs.get(run);
        if known.is_some_and(|run| !run.shown.status.is_over()) {
            return Standing::Live;
        }
        if self.deferred.contains_key(run) {
            return Standing::Waiting;
        }
        if known.is_some() { Standing::Over } else { Standing::Unknown }
    }

    /// An entry that is gone was dealt with by an earlier try.
    pub(super) fn is_gone(&self, entry: Option<&str>) -> bool {
        if let Some(foreign) = entry.filter(|entry| entry.contains('@')) {
            return self.taken.contains(foreign);
        }
        entry.and_then(EntryId::parse).is_some_and(|id| !self.inbox.has(id))
    }
}
