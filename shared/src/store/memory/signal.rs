//! `signal`: deliver to the oldest wait of that name, or keep for the next. `cancel`: stop a run where it stands.

use std::collections::VecDeque;

use super::data::Data;
use super::run::{Actor, KeptSignal, PendingWait, RunData, RunEnd};
use super::start::{run_itself, shown};
use super::stream::EntryId;
use super::timers::Timer;
use crate::attributes;
use crate::history::Kind;
use crate::journal;
use crate::names;
use crate::run::Status;
use crate::step::{Cancelled, LetGo, Signalled};
use crate::store::{Origin, RequestFate};

/// At most this many signals wait for a wait, per run and name.
const MAX_SIGNALS: usize = 1000;

/// How many names of signals are told of at the end of a run that has not used them.
const NAMED_SIGNALS: usize = 20;
/// The outcome of a request with an id is known for this long, in ms.
pub(super) const REQUEST_MS: u64 = 24 * 3600 * 1000;

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
    pub(super) fn signal(
        &mut self,
        now: u64,
        asked: &str,
        name: &str,
        payload: &[u8],
        origin: Option<&Origin>,
    ) -> Signalled {
        if self.is_gone(entry_of(origin)) {
            return Signalled::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Signalled::Repeated;
        }
        let run = self.led_to(now, asked);
        let signal = KeptSignal { attributes: attributes::of(payload), payload: payload.to_vec() };
        match self.standing(&run) {
            Standing::Over => return Signalled::Over,
            Standing::Unknown => return Signalled::Unknown,
            Standing::Live if self.end_wait(now, &run, name, &signal) => {
                self.settle_request(now, asked, origin, RequestFate::Taken);
                return Signalled::Delivered;
            }
            Standing::Live | Standing::Waiting => {}
        }
        let kept = self.signals.entry((run, name.to_owned())).or_default();
        if kept.len() >= MAX_SIGNALS {
            return Signalled::Full;
        }
        kept.push_back(signal);
        self.settle_request(now, asked, origin, RequestFate::Kept);
        Signalled::Kept
    }

    pub(super) fn cancel(&mut self, now: u64, asked: &str, origin: Option<&Origin>, retention: u64) -> Cancelled {
        if self.is_repeated(now, asked, origin) {
            return Cancelled::Repeated;
        }
        let run = self.led_to(now, asked);
        let standing = self.standing(&run);
        if standing == Standing::Unknown {
            return if self.is_gone(entry_of(origin)) { Cancelled::Gone } else { Cancelled::Unknown };
        }
        self.settle_request(now, asked, origin, RequestFate::Taken);
        if standing == Standing::Over {
            return Cancelled::Over;
        }
        if standing == Standing::Waiting {
            let parent = self.deferred.get(&run).and_then(|held| held.request.parent.clone());
            self.hold_no_more(now, &run);
            // What was rejected under this id gives way.
            self.created.retain(|(_, other)| *other != run);
            let state = RunData { parent, ..RunData::new(shown(&run, Status::Queued, now)) };
            self.runs.insert(run.clone(), state);
            self.created.insert((now, run.clone()));
        }
        let itself = run_itself(&run);
        self.note(now, Kind::Cancelled, &itself, String::new());
        self.tell_workers(now, run.clone());
        self.finish(now, &itself, RunEnd::Cancelled, retention);
        Cancelled::Stopped
    }

    /// A request that has an id of its own is taken once: a repetition leaves the inbox and does nothing. Whoever repeats it is told
    /// its outcome.
    pub(super) fn is_repeated(&mut self, now: u64, asked: &str, origin: Option<&Origin>) -> bool {
        let Some((_, request)) = request_of(asked, origin) else { return false };
        let fate = match self.request_fate(now, asked, &request) {
            Some(RequestFate::Taken) => "taken",
            Some(RequestFate::Kept) => "kept",
            _ => return false,
        };
        self.push_fate(now, asked, origin, fate);
        self.leave_inbox(entry_of(origin));
        true
    }

    pub(super) fn request_fate(&self, now: u64, run: &str, request: &str) -> Option<RequestFate> {
        let (fate, until) = self.requests.get(&(run.to_owned(), request.to_owned()))?;
        (now <= *until).then(|| fate.clone())
    }

    /// `fate` is that it is taken, or kept for later.
    pub(super) fn settle_request(&mut self, now: u64, asked: &str, origin: Option<&Origin>, fate: RequestFate) {
        self.push_fate(now, asked, origin, if fate == RequestFate::Kept { "kept" } else { "taken" });
        self.settle_quietly(now, asked, origin, fate);
    }

    /// Whoever asked is told otherwise.
    pub(super) fn settle_quietly(&mut self, now: u64, asked: &str, origin: Option<&Origin>, fate: RequestFate) {
        if let Some(request) = request_of(asked, origin) {
            self.requests.insert(request, (fate, now + REQUEST_MS));
        }
        self.leave_inbox(entry_of(origin));
    }

    /// Signals for a request that turned out to repeat a known run are that run's. Those that it cannot take are told there.
    pub(super) fn redirect_signals(&mut self, now: u64, from: &str, to: &str) {
        if self.is_taken(from) {
            return;
        }
        let mut lost = Vec::new();
        for name in self.kept_names(from) {
            let mut count = 0;
            for signal in self.signals.remove(&(from.to_owned(), name.clone())).unwrap_or_default() {
                let became = self.signal(now, to, &name, &signal.payload, None);
                count += usize::from(!matches!(became, Signalled::Delivered | Signalled::Kept));
            }
            lost.push((name, count));
        }
        self.tell_unused(now, to, lost);
    }

    fn kept_names(&self, run: &str) -> Vec<String> {
        let from = (run.to_owned(), String::new());
        self.signals.range(from..).take_while(|((of, _), _)| of == run).map(|((_, name), _)| name.clone()).collect()
    }

    /// Tells in the history which signals are kept for a run and nobody will take.
    pub(super) fn tell_kept(&mut self, now: u64, run: &str) {
        let names = self.kept_names(run);
        let count = |name: String| {
            let count = self.signals.get(&(run.to_owned(), name.clone())).map_or(0, VecDeque::len);
            (name, count)
        };
        let counted = names.into_iter().map(count).collect();
        self.tell_unused(now, run, counted);
    }

    fn tell_unused(&mut self, now: u64, run: &str, counted: Vec<(String, usize)>) {
        let unused: Vec<String> = counted
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let unnamed = unused.len().saturating_sub(NAMED_SIGNALS);
        let mut told: Vec<String> = unused.into_iter().take(NAMED_SIGNALS).collect();
        if unnamed > 0 {
            told.push(format!("{unnamed} more names"));
        }
        if !told.is_empty() {
            self.note(now, Kind::UnusedSignals, &run_itself(run), told.join(", "));
        }
    }

    fn end_wait(&mut self, now: u64, run: &str, name: &str, signal: &KeptSignal) -> bool {
        let Some(wait) = self.next_wait(run, name, &signal.attributes) else { return false };
        let attempt = Actor { run: run.into(), seq: wait.seq, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Signal, &attempt, name.to_owned());
        self.record_signal(run, wait.seq, wait.number, name, signal, wait.due);
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
    pub(super) fn let_go(&mut self, now: u64, run: &str, seq: u64, gone: &[LetGo]) {
        let mut unseen = Vec::new();
        for LetGo { number, name, given } in gone {
            self.keep_waits(now, run, name, |wait, _| (wait.seq, wait.number) != (seq, *number));
            let execution = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq));
            let Some(execution) = execution else { return };
            let entry = journal::Entry::LetGo { name, given: *given }.write();
            let entry = execution.journal.insert(*number, entry).unwrap_or_default();
            // The end of a child run is for nobody else.
            let is_signal = !names::is_child(name) && !names::is_undo(name);
            if let (true, Ok(journal::Entry::Signal { payload, .. })) = (is_signal, journal::Entry::read(&entry)) {
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

pub(super) fn entry_of(origin: Option<&Origin>) -> Option<&str> {
    origin.map(|origin| origin.entry.as_str()).filter(|entry| !entry.is_empty())
}

/// The run that it names, and its id.
fn request_of(asked: &str, origin: Option<&Origin>) -> Option<(String, String)> {
    let request = origin.map(|origin| &origin.request).filter(|request| !request.is_empty())?;
    Some((asked.to_owned(), request.clone()))
}
