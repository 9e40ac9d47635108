//! Questions that runs ask, and answers.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::question::{Question, Takes};
use stepfleet_shared::step::Answered;
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{AnswerTo, Store};

use super::{Case, Pair, chosen, failed, same};

/// As it is in Redis.
pub(crate) fn question(name: &str) -> Vec<u8> {
    let (name, text) = (name.to_owned(), "Is it?".to_owned());
    serde_json::to_vec(&Question::new(name, text, Takes::Approval)).expect("it can be written")
}

/// Run, number and name of the open questions, of one run or of all: their times differ.
async fn open(store: &dyn Store, run: Option<&str>) -> stepfleet_shared::Result<Vec<(String, String, String)>> {
    let open = store.questions(run, 0, 1000).await?;
    let mut open: Vec<_> = open.into_iter().map(|one| (one.run, one.id, one.question.name)).collect();
    open.sort();
    Ok(open)
}

impl Pair {
    /// With `repeat`, the call is made again, as after a lost reply: with the same request id, or the same inbox entry.
    pub(crate) async fn answer(&mut self, run: usize, which: u8, by_inbox: bool, repeat: bool) -> Case {
        let asked = self.compare_questions(None).await?;
        let closed = (format!("r{run}"), "1.1".to_owned(), "n".to_owned());
        let (run, question, name) = chosen(&asked, which).unwrap_or(&closed);
        self.compare_questions(Some(run)).await?;
        let to = AnswerTo { question, name, payload: &[2, b'7'], by: "ann" };
        let origins = self.origins("answer", by_inbox).await?;
        let mut became = Answered::Unknown;
        for turn in 0..=usize::from(repeat) {
            let ours = self.memory.answer(run, &to, Some(&origins[0])).await.map_err(failed)?;
            let theirs = self.redis.answer(run, &to, Some(&origins[1])).await.map_err(failed)?;
            same("answer", &ours, &theirs)?;
            if turn == 0 {
                became = theirs;
            }
        }
        Ok(if became == Answered::Answered { "answer" } else { "answer: nothing" })
    }

    pub(crate) async fn compare_questions(
        &self,
        run: Option<&str>,
    ) -> Result<Vec<(String, String, String)>, TestCaseError> {
        let (ours, theirs) =
            (open(&self.memory, run).await.map_err(failed)?, open(&self.redis, run).await.map_err(failed)?);
        same("questions", &ours, &theirs)?;
        Ok(ours)
    }
}
