//! Runs that are forked from others.

use proptest::test_runner::TestCaseError;
use stepfleet_integration_tests::double::route;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::journal::fork::kept_before;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Checkpoint, Forked};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Fork, ForkPoint, ForkSource, Store};

use super::ops::RUNS;
use super::{Case, HOUR, Pair, both, failed, plain, same};

impl Pair {
    /// With `repeat`, the call is made again, as after a lost reply: with the same request id, or the same inbox entry.
    pub(crate) async fn fork(&mut self, run: usize, id: usize, at: u8, by_inbox: bool, repeat: bool) -> Case {
        let (asked, seq) = match self.journalled(id, at).await? {
            Some((asked, seq)) => (asked, Some(seq)),
            None => (self.source(run, at).await?, at.is_multiple_of(5).then_some(1 + u64::from(at % 4))),
        };
        let point = both!(self, store => async { store.forkable(&asked, seq).await.map(timeless) });
        let ForkPoint::At(ForkSource { is_start, seq, heads, .. }) = point else { return Ok("fork: nothing") };
        let call = at.is_multiple_of(2).then_some(8 + u64::from(at));
        // A time, which differs between the stores.
        if heads.values().any(|head| head.ends_with(b" due")) {
            return Ok("fork: a journal of chance");
        }
        let Some(entries) = kept_before(&heads, call, false) else { return Ok("fork: a journal of chance") };
        let routes = if is_start { vec![route("first"), route("second")] } else { vec![] };
        let routes = routes.into_iter().take(if heads.is_empty() { 2 } else { 1 }).collect();
        let event = at.is_multiple_of(7).then(|| format!("\u{2}{at}").into_bytes());
        let timeout = at.is_multiple_of(11).then_some(HOUR);
        let has_journal = !entries.is_empty();
        let fork = Fork { asked, id: format!("r{id}"), is_start, seq, call, routes, timeout, event, entries };
        let origins = self.origins("fork", by_inbox).await?;
        let mut became = Forked::Unknown;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.fork(&fork, Some(&origins[0])).await.map_err(failed)?;
            let theirs = self.redis.fork(&fork, Some(&origins[1])).await.map_err(failed)?;
            same("fork", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        Ok(match became {
            Forked::Made if has_journal => "fork: with a journal",
            Forked::Made if is_start => "fork: from the start",
            Forked::Made => "fork: from a step",
            _ => "fork: refused",
        })
    }

    /// Now and then a held step, which records something first, since few have.
    async fn journalled(&mut self, choice: usize, at: u8) -> Result<Option<(String, u64)>, TestCaseError> {
        if self.held.is_empty() || at.is_multiple_of(3) {
            return Ok(None);
        }
        let (worker, step) = self.held[choice % self.held.len()].clone();
        self.numbers += 1;
        let entry = Entry::Value { name: "call", order: "", payload: &[1] }.write();
        let recorded = Checkpoint { entries: vec![(self.numbers, entry)], ..Checkpoint::default() };
        let worker = self.worker(worker);
        both!(self, store => store.checkpoint(&worker, &step.fence, &recorded));
        Ok(Some((step.fence.run, step.fence.seq)))
    }

    /// Usually a run with a journal, if there is one.
    async fn source(&self, choice: usize, at: u8) -> Result<String, TestCaseError> {
        let is_it: fn(Status) -> bool = match at % 3 {
            0 => |status| status == Status::Completed,
            1 => |status| status == Status::Failed,
            _ => |status| status == Status::Running,
        };
        for run in (0..RUNS).map(|run| format!("r{run}")).filter(|_| !at.is_multiple_of(4)) {
            let point = self.memory.forkable(&run, None).await.map_err(failed)?;
            if matches!(point, ForkPoint::At(source) if !source.heads.is_empty()) {
                return Ok(run);
            }
        }
        self.standing(choice, is_it).await
    }
}

/// Without the times of deadlines, which follow the attributes of a signal.
fn timeless(mut point: ForkPoint) -> ForkPoint {
    if let ForkPoint::At(source) = &mut point {
        for head in source.heads.values_mut().filter(|head| head.first() == Some(&b'w')) {
            if let [name, attributes, _] = head.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
                *head = [name, attributes, b"due"].join(&b' ');
            }
        }
    }
    point
}
