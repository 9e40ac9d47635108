//! Child runs: the requests for them, and their ends.

use proptest::test_runner::TestCaseError;
use stepfleet::child::{ChildEnd, Parent, asked_for};
use stepfleet::names;
use stepfleet::request::{ChildEndedRequest, StartRequest};
use stepfleet::run::Status;
use stepfleet::store::prelude::*;
use stepfleet::store::{ChildTold, Store};

use super::ops::RUNS;
use super::{Case, Pair, both, chosen, failed, plain, same};

/// What a wait of this number asks for.
pub(crate) fn child(number: u64) -> Vec<u8> {
    asked_for(&format!("c{number}"), &StartRequest::new("w", "{}")).expect("it can be written")
}

/// Whoever waits for a child with this number, of some run.
pub(crate) fn parent(run: usize, number: u64) -> Parent {
    Parent { run: format!("r{run}"), wait: names::child(1, number, "w") }
}

const ENDS: [Status; 3] = [Status::Failed, Status::Completed, Status::Cancelled];

impl Pair {
    /// One that is waited for has ended, or one that is not; the answer is lost where it is repeated.
    pub(crate) async fn child_ended(&mut self, run: usize, which: u8, by_inbox: bool, repeat: bool) -> Case {
        let open = self.open_children().await?;
        let (run, number) = *chosen(&open, which).unwrap_or(&(run, 1));
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

    /// Whatever waits for a child is told of its end.
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

    /// The children that are waited for, by run and number.
    async fn open_children(&self) -> Result<Vec<(usize, u64)>, TestCaseError> {
        let mut open = Vec::new();
        for run in 0..RUNS {
            let waits = self.memory.waits(&format!("r{run}")).await.map_err(failed)?;
            let children = waits.into_iter().filter(|wait| wait.name.starts_with("(child"));
            open.extend(children.map(|wait| (run, wait.number)));
        }
        Ok(open)
    }

    /// What the stores ask for by themselves is the same: child runs, their ends, and that they be cancelled.
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
        // What a run asks for at its end is in no order.
        ours.sort();
        theirs.sort();
        same("the inbox", &ours, &theirs)
    }
}
