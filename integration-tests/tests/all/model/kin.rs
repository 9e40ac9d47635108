//! Child runs: the requests for them, and their ends.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::child::{ChildEnd, Parent, asked_for};
use stepfleet_shared::history::Kind;
use stepfleet_shared::names;
use stepfleet_shared::request::{ChildEndedRequest, StartRequest};
use stepfleet_shared::run::{Compensation, Status};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{ChildTold, Store};

use super::ops::RUNS;
use super::{Case, Pair, both, chosen, failed, plain, same};

/// The request of a wait with this number.
pub(crate) fn child(number: u64) -> Vec<u8> {
    asked_for(&format!("c{number}"), number.is_multiple_of(3), &StartRequest::new("w", "{}"))
        .expect("it can be written")
}

/// A step execution of some run that waits for a child with this number.
pub(crate) fn parent(run: usize, number: u64) -> Parent {
    Parent { run: format!("r{run}"), wait: names::child(1, number, "w") }
}

const ENDS: [Status; 3] = [Status::Failed, Status::Completed, Status::Cancelled];

impl Pair {
    /// A child has ended, awaited or not; with `repeat`, the call is made again, as after a lost reply.
    pub(crate) async fn child_ended(&mut self, run: usize, which: u8, by_inbox: bool, repeat: bool) -> Case {
        let open = self.open_children().await?;
        let (run, number) = *chosen(&open, which).unwrap_or(&(run, 1));
        if which.is_multiple_of(5) {
            return self.undone(run, which, repeat).await;
        }
        let (run_of, content) = (format!("c{number}"), "json".to_owned());
        let status = ENDS[usize::from(which) % ENDS.len()];
        let end = ChildEnd { run: run_of, status, content, output: vec![b'7'] };
        let ended = ChildEndedRequest { parent: parent(run, number), end };
        let origins = self.origins("child-ended", by_inbox).await?;
        let mut became = ChildTold::Gone;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.child_ended(&ended, &origins[0].entry).await.map_err(failed)?;
            let theirs = self.redis.child_ended(&ended, &origins[1].entry).await.map_err(failed)?;
            same("child ended", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        Ok(if became == ChildTold::Told { "child ended" } else { "child ended: nobody waits" })
    }

    /// The current compensation of a run has ended.
    async fn undone(&mut self, from: usize, which: u8, repeat: bool) -> Case {
        for run in (0..RUNS).map(|n| (from + n) % RUNS) {
            let status = if which.is_multiple_of(2) { Status::Completed } else { Status::Failed };
            if self.end_undo(run, status, repeat).await? {
                return Ok("undone");
            }
        }
        Ok("undone: nothing")
    }

    /// False if none was requested.
    async fn end_undo(&mut self, run: usize, status: Status, repeat: bool) -> Result<bool, TestCaseError> {
        let id = format!("r{run}");
        let told = self.memory.history(&id, 0, 10_000).await.map_err(failed)?;
        let last = told.iter().rev().find(|record| record.kind == Kind::Child && record.seq == 0);
        let Some((child, wait)) = last.and_then(|record| record.detail.split_once(' ')) else { return Ok(false) };
        let (run, content) = (child.to_owned(), "json".to_owned());
        let end = ChildEnd { run, status, content, output: vec![b'7'] };
        let ended = ChildEndedRequest { parent: Parent { run: id, wait: wait.to_owned() }, end };
        for _ in 0..=usize::from(repeat) {
            both!(self, store => store.child_ended(&ended, ""));
        }
        Ok(true)
    }

    /// Completes all compensations.
    pub(crate) async fn undo_all(&mut self) -> Result<(), TestCaseError> {
        for run in 0..RUNS {
            let id = format!("r{run}");
            let stands = async |pair: &Self| {
                // An alias may lead to another run.
                let own = pair.memory.run(&id).await.map(|run| run.filter(|run| run.id == id));
                own.map(|run| run.and_then(|run| run.compensation))
            };
            for _ in 0..1000 {
                match stands(self).await.map_err(failed)? {
                    None | Some(Compensation::Done) => break,
                    Some(Compensation::Failed) => drop(both!(self, store => store.retry(&id, None, None))),
                    Some(Compensation::Running) => {
                        self.end_undo(run, Status::Completed, false).await?;
                        *self.covered.entry("undone").or_default() += 1;
                    }
                }
            }
            let stands = stands(self).await.map_err(failed)?;
            if !matches!(stands, None | Some(Compensation::Done)) {
                return Err(TestCaseError::fail(format!("the compensations of {id} never end")));
            }
        }
        Ok(())
    }

    /// Ends every awaited child.
    pub(crate) async fn end_children(&mut self) -> Result<(), TestCaseError> {
        for (run, number) in self.open_children().await? {
            let (run_of, content) = (format!("c{number}"), "json".to_owned());
            let end = ChildEnd { run: run_of, status: Status::Completed, content, output: vec![b'7'] };
            let ended = ChildEndedRequest { parent: parent(run, number), end };
            both!(self, store => store.child_ended(&ended, ""));
            *self.covered.entry("child ended").or_default() += 1;
        }
        Ok(())
    }

    /// The awaited children, by run and number.
    async fn open_children(&self) -> Result<Vec<(usize, u64)>, TestCaseError> {
        let mut open = Vec::new();
        for run in 0..RUNS {
            let waits = self.memory.waits(&format!("r{run}")).await.map_err(failed)?;
            let children = waits.into_iter().filter(|wait| wait.name.starts_with("(child"));
            open.extend(children.map(|wait| (run, wait.number)));
        }
        Ok(open)
    }

    /// Asserts that both stores have made the same requests: child runs, their ends, and their cancels.
    pub(crate) async fn compare_inboxes(&self) -> Result<(), TestCaseError> {
        let key = self.redis.namespace().key("inbox");
        let range: redis::streams::StreamRangeReply = self.ask(redis::cmd("XRANGE").arg(key).arg("-").arg("+")).await?;
        let text = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).map_err(|e| e.to_string());
        let entry = |entry: &redis::streams::StreamId| {
            let fields = entry.map.iter().filter(|(name, _)| *name != "request");
            let mut fields: Vec<_> = fields.map(|(name, value)| (name.clone(), text(value))).collect();
            fields.sort();
            fields.into_iter().map(|(name, value)| Ok((name, value?))).collect::<Result<Vec<_>, String>>()
        };
        let theirs: Result<Vec<_>, String> = range.ids.iter().map(entry).collect();
        let ours = self.memory.inbox().into_iter().map(|fields| {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (text(name), value)).collect();
            fields.retain(|(name, _)| name != "request");
            fields.sort();
            fields.into_iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>()
        });
        let (mut ours, mut theirs) = (ours.collect::<Vec<_>>(), theirs.map_err(TestCaseError::fail)?);
        // The requests of a run at its end have no order.
        ours.sort();
        theirs.sort();
        same("the inbox", &ours, &theirs)
    }
}
