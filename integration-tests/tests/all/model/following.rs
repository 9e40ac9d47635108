//! Steps that publish.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::codec::Content;
use stepfleet_shared::published::{Piece, Position, Publication, What};
use stepfleet_shared::step::{Claimed, CommitStatus};
use stepfleet_shared::store::Store;
use stepfleet_shared::store::prelude::*;

use super::{Case, Pair, both, failed, plain, same};

impl Pair {
    /// Publishes three times, each time at one of few places, where this or an earlier attempt may have published the same or
    /// something else; sometimes for an attempt that is over.
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

    /// Writes a few pieces of a stream, where this or an earlier attempt may have written other text; sometimes for an attempt that is
    /// over.
    pub(crate) async fn stream(&mut self, held: usize, old: bool, what: u8, repeat: bool) -> Case {
        let holds = if old { &self.old } else { &self.held };
        if holds.is_empty() {
            return Ok("stream nothing");
        }
        let (worker, step) = holds[held % holds.len()].clone();
        self.traced.insert((step.fence.run.clone(), step.fence.seq));
        let id = self.worker(worker);
        let texts = ["abcdef", "abcxyz", "ab"];
        let mut name = "stream";
        // A body that runs again writes at the same place, the same text or another.
        for text in [texts[usize::from(what) % 3], texts[usize::from(what / 3) % 3]] {
            let length = text.len().div_ceil(usize::from(what / 9 % 3) + 1);
            for (turn, part) in text.as_bytes().chunks(length).enumerate() {
                let at = turn * length;
                let piece = Piece {
                    call: u64::from(what / 27 % 2),
                    number: 9,
                    step: step.step.clone(),
                    stream: "answer".into(),
                    at: at as u64,
                    text: String::from_utf8_lossy(part).into_owned(),
                    last: what >= 128 && at + part.len() == text.len(),
                    done: if what % 32 == 31 { vec!["0.9".into()] } else { Vec::new() },
                };
                match self.stream_piece(&id, &step, &piece, repeat).await? {
                    Some(0) if name == "stream" => name = "stream: there already",
                    Some(2) => name = "stream: superseded",
                    _ => {}
                }
            }
        }
        Ok(name)
    }

    /// How many entries it has made; None if it was fenced.
    async fn stream_piece(
        &self,
        id: &str,
        step: &Claimed,
        piece: &Piece,
        repeat: bool,
    ) -> Result<Option<usize>, TestCaseError> {
        let run = &step.fence.run;
        let before = self.memory.published(run, Position::BEGINNING, 1000).await.map_err(failed)?.len();
        let first = both!(self, store => store.stream(id, &step.fence, piece));
        let told = self.memory.published(run, Position::BEGINNING, 1000).await.map_err(failed)?;
        if repeat && piece.done.is_empty() {
            let repeated = both!(self, store => store.stream(id, &step.fence, piece));
            same("stream", &first, &repeated)?;
            let after = self.memory.published(run, Position::BEGINNING, 1000).await.map_err(failed)?;
            same("stream: what was published", &told, &after)?;
        }
        Ok((first == CommitStatus::Committed).then_some(told.len() - before))
    }

    /// Whether it existed already.
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
pub(crate) async fn seen(store: &dyn Store, run: &str) -> stepfleet_shared::Result<Vec<(u64, What)>> {
    let entries = store.published(run, Position::BEGINNING, 1000).await?;
    Ok(entries.into_iter().map(|entry| (entry.number, entry.what)).collect())
}
