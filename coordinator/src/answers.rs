//! Answers to questions that runs ask: delivered if they fit, and refused with the reason if not.

use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::question::{GivenAnswer, OpenQuestion};
use stepfleet_shared::request::AnswerRequest;
use stepfleet_shared::step::Answered;
use stepfleet_shared::store::{AnswerTo, CoordinatorStore, Origin};
use stepfleet_shared::{Error, Result};

use crate::intake::Steering;

/// How often it looks up which question is meant, if that is closed in between.
const LOOKS: usize = 3;
/// How many open questions a refusal names.
const NAMED: usize = 10;

/// Processes an answer.
pub(crate) async fn answer(
    store: &dyn CoordinatorStore,
    run: &str,
    asked: &AnswerRequest,
    origin: &Origin,
) -> Result<Steering> {
    let value = asked.answer();
    for _ in 0..LOOKS {
        let open = store.questions(Some(run), 0, u64::MAX).await?;
        let fits = match (meant(&open, &asked.question), &value) {
            (None, _) => Err(unknown(run, &asked.question, &open)),
            (Some(_), Err(error)) => Err(error.to_string()),
            (Some(question), Ok(value)) => question.question.objection(value).map_or(Ok((question, value)), |why| {
                Err(format!("the question {} of run {run} does not take this answer: {why}", asked.question))
            }),
        };
        let (question, value) = match fits {
            Ok(fits) => fits,
            Err(reason) => {
                // The answer may have been taken before.
                let none = AnswerTo { question: "", name: "", payload: b"", by: "" };
                let known = settled(store.answer(run, &none, Some(origin)).await?, run);
                return Ok(known.unwrap_or(Steering::Refused(reason)));
            }
        };
        let given = GivenAnswer::new(value.clone(), asked.by.clone(), store.now_ms().await?);
        let given = codec::encode_as("the answer", Content::Json, &given)?;
        let payload = &*codec::input_payload(Content::Json, &given);
        let by = asked.by.as_deref().unwrap_or_default();
        let to = AnswerTo { question: &question.id, name: &question.question.name, payload, by };
        if let Some(became) = settled(store.answer(run, &to, Some(origin)).await?, run) {
            return Ok(became);
        }
    }
    Err(Error::unavailable("the question kept opening and closing while it was being read; send the answer again"))
}

/// None if the question is not open.
fn settled(given: Answered, run: &str) -> Option<Steering> {
    match given {
        Answered::Answered | Answered::Gone | Answered::Repeated => Some(Steering::Done),
        Answered::Unknown => Some(Steering::Unknown),
        Answered::Over => Some(Steering::Refused(format!("run {run} has ended: its questions are closed"))),
        Answered::Closed => None,
    }
}

/// The question with this id, or the oldest one with this name.
fn meant<'a>(open: &'a [OpenQuestion], named: &str) -> Option<&'a OpenQuestion> {
    open.iter().find(|question| question.id == named || question.question.name == named)
}

fn unknown(run: &str, named: &str, open: &[OpenQuestion]) -> String {
    let names: Vec<&str> = open.iter().take(NAMED).map(|question| &*question.question.name).collect();
    let asks =
        if names.is_empty() { "none is open".to_owned() } else { format!("open questions: {}", names.join(", ")) };
    format!("run {run} has no open question {named}; {asks}")
}
