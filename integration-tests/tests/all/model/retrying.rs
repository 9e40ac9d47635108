//! Runs that failed go on.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Retried;
use stepfleet_shared::store::Origin;
use stepfleet_shared::store::prelude::*;

use super::ops::RUNS;
use super::{Case, Pair, failed, same};

impl Pair {
    /// One of the runs in this state, if there is one, since most are not. Now and then any run.
    pub(crate) async fn standing(&self, choice: usize, is_it: fn(Status) -> bool) -> Result<String, TestCaseError> {
        let mut found = Vec::new();
        for run in 0..RUNS {
            let run = self.memory.run(&format!("r{run}")).await.map_err(failed)?;
            found.extend(run.filter(|run| is_it(run.status)).map(|run| run.id));
        }
        let is_any = found.is_empty() || choice == RUNS - 1;
        Ok(if is_any { format!("r{choice}") } else { found[choice % found.len()].clone() })
    }

    /// With `repeat`, the call is made again, as after a lost reply: with the same request id, or the same inbox entry.
    pub(crate) async fn retry(&mut self, run: usize, event: Option<u8>, by_inbox: bool, repeat: bool) -> Case {
        let run = self.standing(run, |status| status == Status::Failed).await?;
        // MessagePack, which these runs do not take, or JSON.
        let event = event.map(|event| match event % 4 {
            0 => vec![1, event % 128],
            _ => format!("\u{2}{event}").into_bytes(),
        });
        self.numbers += 1;
        let request = if by_inbox { String::new() } else { format!("retry-{}", self.numbers) };
        let fields = [(b"op".to_vec(), b"retry".to_vec())];
        let mut origins = [Origin::request(&request), Origin::request(&request)];
        if by_inbox {
            origins[0].entry = self.memory.enqueue(&fields).await.map_err(failed)?;
            origins[1].entry = self.redis.enqueue(&fields).await.map_err(failed)?;
        }
        let mut became = Retried::Unknown;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.retry(&run, event.as_deref(), Some(&origins[0])).await.map_err(failed)?;
            let theirs = self.redis.retry(&run, event.as_deref(), Some(&origins[1])).await.map_err(failed)?;
            same("retry", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        // It would be chance which of several timers of about the same millisecond is first.
        self.fire().await?;
        Ok(match became {
            Retried::GoesOn => "retry: goes on",
            Retried::Refused(_) => "retry: refused",
            _ => "retry: nothing",
        })
    }
}
