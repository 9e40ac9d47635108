//! A Redis that comes back without its latest writes, and workers that go on from what is no longer so.

use proptest::test_runner::TestCaseError;
use redis::{Cmd, Value};
use stepfleet_shared::step::{Claimed, Commit, Failure, Next, Refill, Upon};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{RedisStore, Store};

use super::{Case, HOUR, Pair, both, ordered_outcome, plain};

impl Pair {
    /// What was recorded last: by this attempt, by another, or in what was forgotten since. Now and then, by chance.
    pub(crate) fn upon(&self, chance: usize) -> Option<Upon> {
        match chance % 7 {
            0 => Some(Upon::Entry(self.numbers)),
            5 => Some(Upon::Mark(self.numbers)),
            _ => None,
        }
    }

    /// What the step was built upon is gone: its worker lets others have it.
    pub(crate) async fn give_back(&mut self, worker: usize, step: Claimed) -> Case {
        let (id, fences) = (self.worker(worker), [step.fence.clone()]);
        both!(self, store => store.release(&id, &fences));
        self.old.push((worker, step));
        Ok("forgotten: given back")
    }

    /// Someone who held a step execution once commits it again, under another call.
    pub(crate) async fn zombie(&mut self, old: usize, fails: bool, next: Next) -> Case {
        if self.old.is_empty() {
            return Ok("zombie: none");
        }
        let (worker, step) = self.old[old % self.old.len()].clone();
        let call = self.call(worker);
        // A worker asks for nothing in a slot that it knows to be in use. A store that has forgotten what is there would give.
        let is_in_use = self.held.iter().any(|(by, held)| *by == worker && held.fence.slot == step.fence.slot);
        let next = if is_in_use && self.saved.is_some() { Next::Nothing } else { next };
        let refill = Refill { next, after: None };
        let answer = if fails {
            let failure = Failure::Fail { error: "zombie".into(), retention: HOUR, forget: Vec::new(), upon: None };
            both!(self, store => ordered_outcome(store.fail(&call, &step, &failure, &refill)))
        } else {
            let commit = Commit { set: vec![("zombie".into(), vec![1, 1])], retention: HOUR, ..Commit::default() };
            both!(self, store => ordered_outcome(store.complete(&call, &step, &commit, &refill)))
        };
        // Where its slot is free, it may well have something again.
        self.keep(worker, answer.1)?;
        Ok("zombie")
    }
}

/// All keys of a namespace as they were.
pub(crate) struct Snapshot(Vec<(Vec<u8>, Value)>);

impl Snapshot {
    pub(crate) async fn of(store: &RedisStore) -> stepfleet_shared::Result<Self> {
        let mut keys = Vec::new();
        for key in list(store).await? {
            let dump = store.command(redis::cmd("DUMP").arg(&key)).await?;
            keys.push((key, dump));
        }
        Ok(Self(keys))
    }

    /// Restores it.
    pub(crate) async fn restore(&self, store: &RedisStore) -> stepfleet_shared::Result<()> {
        for key in list(store).await? {
            store.command(redis::cmd("DEL").arg(key)).await?;
        }
        for (key, dump) in &self.0 {
            let Value::BulkString(dump) = dump else { continue };
            store.command(redis::cmd("RESTORE").arg(key).arg(0).arg(dump)).await?;
        }
        Ok(())
    }
}

async fn list(store: &RedisStore) -> stepfleet_shared::Result<Vec<Vec<u8>>> {
    let pattern = format!("{}*", store.namespace().prefix());
    let mut keys: Cmd = redis::cmd("KEYS");
    keys.arg(pattern);
    let Value::Array(found) = store.command(&keys).await? else { return Ok(Vec::new()) };
    let bytes = |value| if let Value::BulkString(bytes) = value { Some(bytes) } else { None };
    Ok(found.into_iter().filter_map(bytes).collect())
}
