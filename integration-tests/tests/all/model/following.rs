//! Steps that publish.

use proptest::test_runner::TestCaseError;
use stepfleet::codec::Content;
use stepfleet::published::{Position, Publication, What};
use stepfleet::step::{Claimed, CommitStatus};
use stepfleet::store::Store;
use stepfleet::store::prelude::*;

use super::{Case, Pair, both, failed, plain, same};

impl Pair {
    /// Publishes thrice, each time at one of few places, where this or an earlier attempt may have published the same or
    /// something else; and by chance for an attempt that is over.
    pub(crate) async fn publish(&mut self, held: usize, old: bool, places: u8, repeat: bool) -> Case {
        let holds = if old { &self.old } else { &self.held };
        if holds.is_empty() {
            return Ok("publish nothing");
        }
        let (worker, step) = holds[held % holds.len()].clone();
        self.traced.insert((step.fence.run.clone(), step.fence.seq));
        let mut name = "publish";
        for turn in 0..3 {
            if self.publish_at(&self.worker(worker), &step, places.rotate_left(3 * turn), repeat).await? {
                name = "publish: there already";
            }
        }
        Ok(name)
    }

    /// Whether it was there already.
    async fn publish_at(&self, id: &str, step: &Claimed, place: u8, repeat: bool) -> Result<bool, TestCaseError> {
        let event = Publication {
            call: u64::from(place % 2),
            number: u64::from(place / 2 % 2) + 1,
            step: step.step.clone(),
            event: "Progress".into(),
            content: if (place / 8).is_multiple_of(4) { Content::MessagePack } else { Content::Json },
            data: (place / 4 % 2).to_string().into_bytes(),
        };
        let earlier = self.memory.published(&step.fence.run, Position::BEGINNING, 1000).await.map_err(failed)?;
        let first = both!(self, store => store.publish(id, &step.fence, &event));
        let before = self.memory.published(&step.fence.run, Position::BEGINNING, 1000).await.map_err(failed)?;
        if repeat {
            let repeated = both!(self, store => store.publish(id, &step.fence, &event));
            same("publish", &first, &repeated)?;
            let after = self.memory.published(&step.fence.run, Position::BEGINNING, 1000).await.map_err(failed)?;
            same("publish: what was published", &before, &after)?;
        }
        Ok(first == CommitStatus::Committed && earlier.len() == before.len())
    }
}

/// What the run has published, without the times.
pub(crate) async fn seen(store: &dyn Store, run: &str) -> stepfleet::Result<Vec<(u64, What)>> {
    let entries = store.published(run, Position::BEGINNING, 1000).await?;
    Ok(entries.into_iter().map(|entry| (entry.number, entry.what)).collect())
}
