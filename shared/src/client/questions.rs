//! Questions that runs ask people: the list of those that are open, and answers.

use serde::Serialize;

use super::asked::Asked;
use super::patience::patiently;
use super::{Client, RunHandle, new_id};
use crate::codec::{self, Content};
use crate::error::Result;
use crate::question::OpenQuestion;
use crate::request::AnswerRequest;

impl Client {
    /// Questions that wait for an answer, of all runs, the oldest first: at most `limit`.
    pub async fn questions(&self, limit: usize) -> Result<Vec<OpenQuestion>> {
        let count = u64::try_from(limit).unwrap_or(u64::MAX);
        let mut open = patiently(|| async {
            let mut open = Vec::new();
            for store in self.home.known().await?.all() {
                open.extend(store.questions(None, 0, count).await?);
            }
            Ok(open)
        })
        .await?;
        open.sort_by_key(|question| question.asked_ms);
        open.truncate(limit);
        Ok(open)
    }
}

impl RunHandle {
    /// Questions of the run that wait for an answer, the oldest first.
    pub async fn questions(&self) -> Result<Vec<OpenQuestion>> {
        patiently(|| async {
            self.client.home.known().await?.of(&self.id).questions(Some(&self.id), 0, u64::MAX).await
        })
        .await
    }

    /// Answers a question of the run: the oldest one that is open and has this name, or the one with this
    /// [`OpenQuestion::id`]. `by` says who answers, and is recorded.
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(run: stepfleet::client::RunHandle) -> stepfleet::Result<()> {
    /// run.answer("ship", &true, Some("ann")).await?.taken(std::time::Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Fails only when the answer cannot be sent; [`Asked::taken`] returns its outcome. An answer that does not fit
    /// is refused with the reason, and the question stays open; an answer to a question that is not open (any more)
    /// is refused too.
    pub async fn answer<T: Serialize + ?Sized>(&self, question: &str, answer: &T, by: Option<&str>) -> Result<Asked> {
        let (request, content) = (new_id(), Content::Json);
        let answer = AnswerRequest {
            run: self.id.clone(),
            question: question.to_owned(),
            content,
            input: codec::encode_as("the answer", content, answer)?,
            by: by.map(str::to_owned),
            request: Some(request.clone()),
        };
        answer.check()?;
        self.ask(request, &answer.fields()).await
    }
}
