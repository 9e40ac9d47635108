//! Steps that publish.

use proptest::test_runner::TestCaseError;
use stepfleet::codec::Content;
use stepfleet::published::{Position, Publication, What};
use stepfleet::store::Store;

use super::{Case, Pair, both, failed, plain, same};

impl Pair {
    /// Publishes under a number of its own or, by chance, under the last one; and by chance for an attempt that is over.
    pub(crate) async fn publish(&mut self, held: usize, old: bool, again: bool, repeat: bool) -> Case {
        let holds = if old { &self.old } else { &self.held };
        if holds.is_empty() {
            return Ok("publish nothing");
        }
        let (worker, step) = holds[held % holds.len()].clone();
        self.numbers += u64::from(!again);
        self.traced.insert((step.fence.run.clone(), step.fence.seq));
        let content = if self.numbers.is_multiple_of(3) { Content::MessagePack } else { Content::Json };
        let event = Publication {
            number: self.numbers,
            step: step.step.clone(),
            event: "Progress".into(),
            content,
            data: self.numbers.to_string().into_bytes(),
        };
        let id = self.worker(worker);
        let first = both!(self, store => store.publish(&id, &step.fence, &event));
        let before = self.memory.published(&step.fence.run, Position::BEGINNING, 1000).await.map_err(failed)?;
        if repeat {
            let repeated = both!(self, store => store.publish(&id, &step.fence, &event));
            same("publish", &first, &repeated)?;
            let after = self.memory.published(&step.fence.run, Position::BEGINNING, 1000).await.map_err(failed)?;
            same("publish: what was published", &before, &after)?;
        }
        Ok("publish")
    }
}

/// What the run has published, without the times.
pub(crate) async fn seen(store: &dyn Store, run: &str) -> stepfleet::Result<Vec<(u64, What)>> {
    let entries = store.published(run, Position::BEGINNING, 1000).await?;
    Ok(entries.into_iter().map(|entry| (entry.number, entry.what)).collect())
}
