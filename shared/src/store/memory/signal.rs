//! `signal`: delivers a signal to the oldest wait that takes it, or keeps it for a later one. `cancel`: stops a run at
//! once.

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

/// How many signals are kept for later waits, per run and name.
const MAX_SIGNALS: usize = 1000;

/// How many names of unused signals the history lists when a run ends.
const NAMED_SIGNALS: usize = 20;
/// How long the outcome of a request with an id is kept, in ms.
pub(super) const REQUEST_MS: u64 = 24 * 3600 * 1000;

/// The state of a run, as far as requests are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Live,
    /// Its request is deferred until a worker serves its workflow.
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
            // Replaces a request that was rejected under this id.
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

    /// Whether the request repeats one with the same id. A repeated request leaves the inbox without effect, and the
    /// requester gets a receipt with the outcome of the first.
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

    /// Settles a request as taken or kept, with a receipt.
    pub(super) fn settle_request(&mut self, now: u64, asked: &str, origin: Option<&Origin>, fate: RequestFate) {
        self.push_fate(now, asked, origin, if fate == RequestFate::Kept { "kept" } else { "taken" });
        self.settle_quietly(now, asked, origin, fate);
    }

    /// Settles a request without a receipt.
    pub(super) fn settle_quietly(&mut self, now: u64, asked: &str, origin: Option<&Origin>, fate: RequestFate) {
        if let Some(request) = request_of(asked, origin) {
            self.requests.insert(request, (fate, now + REQUEST_MS));
        }
        self.leave_inbox(entry_of(origin));
    }

    /// Moves the signals kept for a repeated start request to the run it repeats. Those that do not fit are noted in
    /// the history of that run.
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

    /// Records in the history which kept signals no wait will take.
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

    /// Removes and returns the oldest wait of that name whose filter passes the signal and whose step execution has not
    /// ended.
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

    /// Takes the oldest kept signal that passes the filter.
    pub(super) fn take_signal(&mut self, run: &str, name: &str, filter: &[(String, String)]) -> Option<KeptSignal> {
        let kept = self.signals.get_mut(&(run.to_owned(), name.to_owned()))?;
        let at = kept.iter().position(|signal| attributes::match_filter(&signal.attributes, filter))?;
        kept.remove(at)
    }

    /// Ends the waits that the body has dropped. Signals that reached them unseen are kept for other waits, in their
    /// original order.
    pub(super) fn let_go(&mut self, now: u64, run: &str, seq: u64, gone: &[LetGo]) {
        let mut unseen = Vec::new();
        for LetGo { number, name, given } in gone {
            self.keep_waits(now, run, name, |wait, _| (wait.seq, wait.number) != (seq, *number));
            let execution = self.steps(run).and_then(|steps| steps.executions.get_mut(&seq));
            let Some(execution) = execution else { return };
            let entry = journal::Entry::LetGo { name, given: *given }.write();
            let entry = execution.journal.insert(*number, entry).unwrap_or_default();
            // No other wait may take the end of a child run.
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

    /// The run itself, or the one that its request repeats.
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

    /// Whether an earlier try has processed the inbox entry.
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

/// The run that the request names, and the request's id.
fn request_of(asked: &str, origin: Option<&Origin>) -> Option<(String, String)> {
    let request = origin.map(|origin| &origin.request).filter(|request| !request.is_empty())?;
    Some((asked.to_owned(), request.clone()))
}
