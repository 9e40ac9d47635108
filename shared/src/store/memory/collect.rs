//! `collect`: adds one event to a buffer of an executing step. `send`: delivers events from outside to a live run.

use super::data::{Begins, Data, RUN};
use super::run::{EventSource, Execution, Phase, Work};
use super::signal::{Standing, entry_of};
use crate::error::Result;
use crate::request::SendRequest;
use crate::step::{Collect, Fence, Route, SendDeferral, Sent, join_payloads};
use crate::store::{Origin, RequestFate, journal_is_full};

/// How many events are kept for a run whose request is deferred.
const MAX_SENT: usize = 1000;

impl Data {
    /// The call that fills the buffer gets all its events. The journal records the answer, so a later attempt gets the
    /// same.
    pub(super) fn collect(
        &mut self,
        now: u64,
        worker: &str,
        fence: &Fence,
        collect: &Collect,
    ) -> Result<Option<Vec<u8>>> {
        let number = collect.number;
        if !self.is_good(worker, fence) {
            return Ok(None);
        }
        if let Some(known) = self.execution(fence).and_then(|execution| execution.journal.get(&number)) {
            return Ok(Some(known.clone()));
        }
        if self.is_forgotten(fence, collect.upon) {
            return Ok(None);
        }
        if self.is_too_much(now, fence, 1, &[]) {
            return Err(journal_is_full());
        }
        let Some(steps) = self.steps(&fence.run) else { return Ok(None) };
        let buffer = steps.collected.entry((collect.group, collect.step.clone(), collect.buffer.clone())).or_default();
        buffer.push_back(collect.payload.clone());
        let mut entry = vec![b'c'];
        if buffer.len() as u64 >= u64::from(collect.count) {
            let full: Vec<_> = buffer.drain(..(collect.count as usize).min(buffer.len())).collect();
            entry.extend(join_payloads(full.iter()));
        }
        self.record(&fence.run, fence.seq, number, entry.clone());
        Ok(Some(entry))
    }

    /// Delivers events to a live run. If its start delay is not over, they begin together with its first steps.
    pub(super) fn send(&mut self, now: u64, asked: &str, events: &[(Route, Vec<u8>)], origin: Option<&Origin>) -> Sent {
        if self.is_gone(entry_of(origin)) {
            return Sent::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Sent::Repeated;
        }
        let run = self.led_to(now, asked);
        match self.standing(&run) {
            Standing::Live => {}
            Standing::Over => return Sent::Over,
            Standing::Waiting | Standing::Unknown => return Sent::Unknown,
        }
        let Some(steps) = self.steps(&run) else { return Sent::Over };
        if steps.last + events.len() as u64 > super::fan::MAX_EXECUTIONS {
            return Sent::Full;
        }
        if let Some(itself) = steps.groups.get_mut(&RUN) {
            itself.live += events.len() as u64;
        }
        let begins = match steps.executions.get(&1) {
            Some(Execution { phase: Phase::Waiting { due }, attempt: 0, .. }) => Begins::At(*due),
            _ => Begins::Now,
        };
        self.settle_request(now, asked, origin, RequestFate::Taken);
        let work = |(route, payload): &(Route, Vec<u8>)| Work {
            group: RUN,
            route: route.clone(),
            event: EventSource::Outside(payload.clone()),
        };
        self.create(now, &run, begins, events.iter().map(work).collect());
        Sent::Delivered
    }

    /// Keeps an event for a run whose request is deferred: only its version will tell which steps take the event.
    pub(super) fn defer_send(&mut self, now: u64, send: &SendRequest, origin: Option<&Origin>) -> SendDeferral {
        if self.is_gone(entry_of(origin)) {
            return SendDeferral::Gone;
        }
        if self.is_repeated(now, &send.run, origin) {
            return SendDeferral::Repeated;
        }
        let run = self.led_to(now, &send.run);
        match self.standing(&run) {
            Standing::Waiting => {}
            Standing::Live => return SendDeferral::Live,
            Standing::Over => return SendDeferral::Over,
            Standing::Unknown => return SendDeferral::Unknown,
        }
        let kept = self.sent.entry(run.clone()).or_default();
        if kept.len() >= MAX_SENT {
            return SendDeferral::Full;
        }
        // Its request id is checked now, and not a second time when the event is sent.
        kept.push(SendRequest { run, request: None, ..send.clone() });
        self.settle_request(now, &send.run, origin, RequestFate::Kept);
        SendDeferral::Deferred
    }
}
