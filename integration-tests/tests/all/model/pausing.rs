//! Runs that are paused, and go on.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Paused, Resumed};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Origin, Store};

use super::ops::RUNS;
use super::{Case, Pair, both, failed, plain, same};

impl Pair {
    /// With `repeat`, the call is made again, as after a lost reply: with the same request id, or the same inbox entry.
    pub(crate) async fn pause(&mut self, run: usize, by_inbox: bool, repeat: bool) -> Case {
        let run = self.standing(run, |status| matches!(status, Status::Queued | Status::Running)).await?;
        let origins = self.origins("pause", by_inbox).await?;
        let mut became = Paused::Unknown;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.pause(&run, Some(&origins[0])).await.map_err(failed)?;
            let theirs = self.redis.pause(&run, Some(&origins[1])).await.map_err(failed)?;
            same("pause", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        Ok(if became == Paused::Paused { "pause" } else { "pause: nothing" })
    }

    pub(crate) async fn resume(&mut self, run: usize, by_inbox: bool, repeat: bool) -> Case {
        let run = self.standing(run, |status| status == Status::Paused).await?;
        let origins = self.origins("resume", by_inbox).await?;
        let mut became = Resumed::Unknown;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.resume(&run, Some(&origins[0])).await.map_err(failed)?;
            let theirs = self.redis.resume(&run, Some(&origins[1])).await.map_err(failed)?;
            same("resume", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        // It would be chance which of several timers of about the same millisecond is first.
        self.fire().await?;
        Ok(if became == Resumed::GoesOn { "resume" } else { "resume: nothing" })
    }

    pub(crate) async fn origins(&mut self, operation: &str, by_inbox: bool) -> Result<[Origin; 2], TestCaseError> {
        self.numbers += 1;
        let request = if by_inbox { String::new() } else { format!("{operation}-{}", self.numbers) };
        let mut origins = [Origin::request(&request), Origin::request(&request)];
        if by_inbox {
            let fields = [(b"op".to_vec(), operation.as_bytes().to_vec())];
            origins[0].entry = self.memory.enqueue(&fields).await.map_err(failed)?;
            origins[1].entry = self.redis.enqueue(&fields).await.map_err(failed)?;
        }
        Ok(origins)
    }

    pub(crate) async fn resume_all(&mut self) -> Result<(), TestCaseError> {
        for run in 0..RUNS {
            let run = format!("r{run}");
            both!(self, store => store.resume(&run, None));
        }
        Ok(())
    }
}
