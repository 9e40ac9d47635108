//! `collect`: one event for a buffer of a step, while it executes. `send`: events from outside for a run under way.

use super::data::{Begins, Data, RUN};
use super::run::{EventSource, Work};
use super::signal::Standing;
use crate::error::Result;
use crate::step::{Collect, Fence, Route, Sent, join_payloads};
use crate::store::journal_is_full;

impl Data {
    /// The one that fills the buffer gets all that is in it. What it came to is in the journal: an attempt that runs again
    /// gets the same answer.
    pub(super) fn collect(&mut self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        let number = collect.number;
        if !self.is_good(worker, fence) {
            return Ok(None);
        }
        if self.is_too_much(fence, 1, &[]) && !self.is_recorded(&fence.run, fence.seq, number) {
            return Err(journal_is_full());
        }
        let Some(steps) = self.steps(&fence.run) else { return Ok(None) };
        let execution = steps.executions.get(&fence.seq);
        if let Some(known) = execution.and_then(|execution| execution.journal.get(&number)) {
            return Ok(Some(known.clone()));
        }
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

    pub(super) fn send(&mut self, now: u64, run: &str, events: &[(Route, Vec<u8>)], entry: Option<&str>) -> Sent {
        if self.is_gone(entry) {
            return Sent::Gone;
        }
        let run = self.led_to(now, run);
        match self.standing(&run) {
            Standing::Live => {}
            Standing::Over => return Sent::Over,
            Standing::Waiting | Standing::Unknown => return Sent::Unknown,
        }
        let Some(steps) = self.steps(&run) else { return Sent::Over };
        if steps.last + events.len() as u64 > super::commit::MAX_EXECUTIONS {
            return Sent::Full;
        }
        if let Some(itself) = steps.groups.get_mut(&RUN) {
            itself.live += events.len() as u64;
        }
        self.leave_inbox(entry);
        let work = |(route, payload): &(Route, Vec<u8>)| Work {
            group: RUN,
            route: route.clone(),
            event: EventSource::Payload(payload.clone()),
        };
        self.create(now, &run, Begins::Now, events.iter().map(work).collect());
        Sent::Delivered
    }
}
