//! Steps that record, wait, get signals and are cancelled; audits; and stores that forget.

use std::time::Duration;

use proptest::test_runner::TestCaseError;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::names;
use stepfleet_shared::step::{
    Body, Checkpoint, Checkpointed, Claimed, CommitStatus, Fence, LetGo, Next, Refill, Signalled, Unreadable, Wait,
};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Audit, Breach, Heartbeat, Origin, Store};

use super::asking::question;
use super::kin::child;
use super::ops::RUNS;
use super::rollback::Snapshot;
use super::{Case, HOUR, KEPT, MAX_LOSSES, Pair, as_at_first, both, failed, ordered_outcome, plain, same};

const NAMES: [&str; 2] = ["approval", "answer"];

/// A signal that says which order it is about, or nothing.
fn signal_about(order: Option<u8>) -> Vec<u8> {
    order.map_or_else(|| vec![1, 9], |order| format!("\x02{{\"order\":{order},\"fine\":true}}").into_bytes())
}

impl Pair {
    /// Records entries and opens waits; the step goes on. Sometimes a number is used twice.
    pub(crate) async fn checkpoint(&mut self, held: usize, entries: u64, waits: usize, set: u8, repeat: bool) -> Case {
        if self.held.is_empty() {
            return Ok("checkpoint nothing");
        }
        let (worker, step) = self.held[held % self.held.len()].clone();
        let mut checkpoint = Checkpoint { waits: self.waits(waits, set), ..Checkpoint::default() };
        checkpoint.upon = self.upon(set.into());
        self.journalled.insert((step.fence.run.clone(), step.fence.seq));
        for _ in 0..entries {
            self.numbers += 1;
            let number = if set.is_multiple_of(7) { u64::from(set % 3) } else { self.numbers };
            checkpoint.entries.push((number, vec![1, set]));
        }
        if entries > 0 {
            checkpoint.set.push((format!("f{}", set % 3), vec![1, set]));
        } else if set.is_multiple_of(2) {
            self.numbers += 1;
            checkpoint.mark = Some(self.numbers);
            self.traced.insert((step.fence.run.clone(), step.fence.seq));
            checkpoint.set.push((format!("f{}", set % 3), vec![1, set]));
        }
        let id = self.worker(worker);
        checkpoint.let_go = self.let_go(&step, set);
        let first = both!(self, store => timeless(store.checkpoint(&id, &step.fence, &checkpoint)));
        if repeat {
            let again = both!(self, store => timeless(store.checkpoint(&id, &step.fence, &checkpoint)));
            same("checkpoint", &first, &again)?;
        }
        let aside = set_aside(&first.answers);
        let is_aside = !aside.unreadable.is_empty();
        // The next signal may be the same again, and is then set aside too.
        for _ in 0..usize::from(is_aside) + usize::from(is_aside && repeat) {
            both!(self, store => timeless(store.checkpoint(&id, &step.fence, &aside)));
        }
        // Fired at once: it would be chance which of two timers of about the same millisecond is first.
        self.fire().await?;
        if is_aside {
            return Ok("checkpoint: a signal is set aside");
        }
        Ok(if first.answers.is_empty() { "checkpoint" } else { "checkpoint: a wait is answered" })
    }

    pub(crate) async fn suspend(&mut self, held: usize, waits: usize, set: u8, next: Next, repeat: bool) -> Case {
        let Some((worker, step)) = self.choose(held) else { return Ok("suspend nothing") };
        let waits = self.waits(waits + 1, set);
        if set.is_multiple_of(3) {
            let checkpoint = Checkpoint { waits: waits.clone(), ..Checkpoint::default() };
            let id = self.worker(worker);
            both!(self, store => timeless(store.checkpoint(&id, &step.fence, &checkpoint)));
        }
        let (mut call, refill) = (self.call(worker), Refill { next, after: None });
        let body = if set.is_multiple_of(2) { Body::Dropped } else { Body::Kept };
        let upon = self.upon(held);
        let first = both!(self, store => ordered_outcome(store.suspend(&call, &step, &waits, body, upon, &refill)));
        if repeat {
            call.again = true;
            let again = both!(self, store => ordered_outcome(store.suspend(&call, &step, &waits, body, upon, &refill)));
            let again = (again.0, as_at_first(&first.1, again.1));
            same("suspend", &first, &again)?;
        }
        if first.0 == CommitStatus::Forgotten {
            return self.give_back(worker, step).await;
        }
        self.old.push((worker, step));
        self.keep(worker, first.1)?;
        self.fire().await?;
        // Usually another worker takes it first.
        if body == Body::Kept && self.claim(worker, 3, repeat).await? == KEPT {
            return Ok(KEPT);
        }
        Ok("suspend")
    }

    fn waits(&mut self, count: usize, set: u8) -> Vec<Wait> {
        let deadlines = [None, Some(Duration::ZERO), Some(HOUR)];
        (0..count)
            .map(|n| {
                self.numbers += 1;
                let name = NAMES[(usize::from(set) + n) % NAMES.len()].to_owned();
                // Two deadlines in the same millisecond would end their waits in a random order.
                let deadline = if n == 0 { deadlines[usize::from(set / 2) % 3] } else { None };
                let order = (usize::from(set) + n) % 5;
                let filter = if order < 2 { vec![("order".to_owned(), order.to_string())] } else { vec![] };
                // Some are waits for an answer, and some for a child run.
                let (name, filter, question) = match order {
                    2 | 4 => (names::question(&name), vec![], question(&name)),
                    3 if set.is_multiple_of(2) => {
                        let always = self.numbers.is_multiple_of(2);
                        (names::undo(1, self.numbers, "w", always), vec![], child(self.numbers))
                    }
                    3 => (names::child(1, self.numbers, "w"), vec![], child(self.numbers)),
                    _ => (name, filter, vec![]),
                };
                let deadline = deadline.filter(|_| order != 3);
                self.opened.push((self.numbers, name.clone()));
                Wait { number: self.numbers, name, deadline, filter, question }
            })
            .collect()
    }

    /// Some waits that any step has opened; if this step has not opened one, it is a call that was never begun.
    pub(crate) fn let_go(&self, step: &Claimed, set: u8) -> Vec<LetGo> {
        let chosen = |(number, _): &&(u64, String)| (number + u64::from(set) + step.fence.seq).is_multiple_of(5);
        let opened = self.opened.iter().rev().take(8).filter(chosen);
        opened.map(|(number, name)| LetGo { number: *number, name: name.clone(), given: number % 4 }).collect()
    }

    pub(crate) async fn signal(&mut self, run: usize, name: bool, order: Option<u8>, by_inbox: bool) -> Case {
        let (run, name, payload) = (format!("r{run}"), NAMES[usize::from(name)], signal_about(order));
        // Sent twice, the second time as another request or as the same.
        let request = if order == Some(2) { "q" } else { "" };
        if !by_inbox {
            both!(self, store => store.signal(&run, name, &payload, Some(&Origin::request(request))));
            return Ok(if request.is_empty() { "signal" } else { "signal: with an id" });
        }
        let fields = [(b"op".to_vec(), b"signal".to_vec())];
        let origin = |entry| Origin { entry, ..Origin::request(request) };
        let ours = origin(self.memory.enqueue(&fields).await.map_err(failed)?);
        let theirs = origin(self.redis.enqueue(&fields).await.map_err(failed)?);
        for _ in 0..2 {
            let ours = self.memory.signal(&run, name, &payload, Some(&ours)).await.map_err(failed)?;
            let theirs = self.redis.signal(&run, name, &payload, Some(&theirs)).await.map_err(failed)?;
            same("signal", &ours, &theirs)?;
        }
        Ok("signal")
    }

    pub(crate) async fn cancel(&mut self, run: usize, repeat: bool) -> Case {
        let run = format!("r{run}");
        let origin = Origin::request(if repeat { "q" } else { "" });
        for _ in 0..=usize::from(repeat) {
            both!(self, store => store.cancel(&run, Some(&origin), HOUR));
        }
        Ok("cancel")
    }

    /// Asserts that nothing is missing unless it was deleted: no operation strands a run, in either store.
    pub(crate) async fn audit(&mut self) -> Case {
        for repair in [false, true] {
            let found = both!(self, store => audit(store, repair));
            if !found.is_empty() {
                return Err(TestCaseError::fail(format!("the audit found {found:?}")));
            }
        }
        Ok("audit")
    }

    pub(crate) async fn save(&mut self) -> Case {
        self.saved = Some((self.memory.save(), Snapshot::of(&self.redis).await.map_err(failed)?));
        Ok("save")
    }

    /// Both stores forget everything after the last save; the workers do not.
    pub(crate) async fn forget(&mut self) -> Case {
        let Some((ours, theirs)) = self.saved.take() else { return Ok("forget nothing") };
        self.memory.restore(&ours);
        theirs.restore(&self.redis).await.map_err(failed)?;
        self.saved = Some((ours, theirs));
        Ok("forget")
    }

    /// A worker hands back holds that the store has and it does not know.
    pub(crate) async fn reconcile(&mut self, worker: usize) -> Case {
        let id = self.worker(worker);
        let held = both!(self, store => async { store.holds(&id).await.map(sorted) });
        let known: Vec<_> = self.held.iter().map(|(_, step)| &step.fence).collect();
        let strays: Vec<_> = held.into_iter().filter(|fence| !known.contains(&fence)).collect();
        // One at a time: they are queued in the order in which they are named.
        for stray in strays {
            both!(self, store => store.release(&id, std::slice::from_ref(&stray)));
        }
        Ok("reconcile")
    }

    /// A worker becomes silent: its last heartbeat was too long ago.
    pub(crate) async fn expire(&mut self, worker: usize) -> Case {
        self.drop_holds(worker);
        let id = self.worker(worker);
        both!(self, store => async {
            let told = store.lease(&id, Duration::ZERO).await?.heartbeat().await?;
            stepfleet_shared::Result::Ok(matches!(told, Heartbeat::Renewed { .. }))
        });
        self.reap(vec![]).await?;
        self.join(worker).await?;
        Ok("expire")
    }

    /// Sends a signal to every wait.
    pub(crate) async fn signal_all(&mut self) -> Result<(), TestCaseError> {
        for run in 0..RUNS {
            let run = format!("r{run}");
            for (name, order) in NAMES.into_iter().flat_map(|name| [None, Some(0), Some(1)].map(|order| (name, order)))
            {
                let payload = signal_about(order);
                while both!(self, store => store.signal(&run, name, &payload, None)) == Signalled::Delivered {}
            }
        }
        Ok(())
    }

    /// Asserts that runs wait for the same in both stores, except for the times of the deadlines.
    pub(crate) async fn compare_waits(&mut self) -> Result<(), TestCaseError> {
        for run in 0..RUNS {
            let run = format!("r{run}");
            both!(self, store => async {
                let mut waits = store.waits(&run).await?;
                for wait in &mut waits {
                    wait.due_ms = wait.due_ms.map(|_| 0);
                }
                stepfleet_shared::Result::Ok(waits)
            });
        }
        Ok(())
    }
}

/// Signals that have ended waits without a deadline are declared unreadable, and their waits opened again.
fn set_aside(answers: &[(u64, Vec<u8>)]) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    for (number, entry) in answers {
        let Ok(Entry::Signal { name, due_ms: None, .. }) = Entry::read(entry) else { continue };
        let (name, digest) = (name.to_owned(), stepfleet_shared::values::digest(entry));
        checkpoint.unreadable.push(Unreadable { number: *number, name: name.clone(), digest, why: "no".into() });
        checkpoint.waits.push(Wait { number: *number, name, ..Wait::default() });
    }
    checkpoint
}

/// Without the times of deadlines.
async fn timeless(
    answer: impl Future<Output = stepfleet_shared::Result<Checkpointed>>,
) -> stepfleet_shared::Result<Checkpointed> {
    answer.await.map(|mut checkpointed| {
        without_dues(&mut checkpointed.answers);
        checkpointed
    })
}

pub(crate) fn without_dues(entries: &mut [(u64, Vec<u8>)]) {
    for (_, entry) in entries {
        if let Ok(Entry::Signal { name, attributes, due_ms: Some(_), payload }) = Entry::read(entry) {
            *entry = Entry::Signal { name, attributes, due_ms: Some(0), payload }.write();
        }
    }
}

pub(crate) fn sorted(mut fences: Vec<Fence>) -> Vec<Fence> {
    fences.sort_by(|a, b| (&a.run, a.seq, a.attempt).cmp(&(&b.run, b.seq, b.attempt)));
    fences
}

async fn audit(store: &dyn Store, repair: bool) -> stepfleet_shared::Result<Vec<Breach>> {
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        let audited = store.audit(&Audit { repair, from: at, max_losses: MAX_LOSSES, retention: HOUR }).await?;
        found.extend(audited.breaches);
        from = audited.next;
    }
    Ok(found)
}
