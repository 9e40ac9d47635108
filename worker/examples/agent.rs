//! An agent: a model chooses tools until it knows what to answer. Each answer of the model and each use of a tool is recorded, so the
//! worker may be killed at any place; what a tool did is not done twice. A dangerous tool waits until a person approves. What the model
//! says is streamed, token by token.
//!
//! ```text
//! stepfleet dev                                                   # in one terminal
//! cargo run --example agent                                       # in another
//! stepfleet start agent --id a1 --input '"Please refund order 7"' # in a third
//! stepfleet follow a1 --stream answer
//! stepfleet answer a1 refund true --by ann
//! stepfleet show a1
//! stepfleet start agent --session ann --input '"Good morning"'     # a talk that goes on with each run of the session
//! ```
//!
//! The model is any that speaks as `OpenAI` does: `OPENAI_BASE_URL` (such as `https://api.openai.com/v1`, or `http://localhost:11434/v1`),
//! `OPENAI_API_KEY` and `OPENAI_MODEL`. Without `OPENAI_BASE_URL` a small planner takes its place, which follows fixed rules and says so.

#[path = "agent/mod.rs"]
mod parts;

use stepfleet::Worker;

use self::parts::{Desk, Model, agent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let desk = Desk { model: Model::from_env()?, diary: std::env::var("DIARY").ok() };
    eprintln!("{} answers", desk.model);
    Worker::from_env()?.serve(agent::with(desk))?.run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stepfleet::testing::{self, TestRun};

    use super::parts::{Message, PLANNER};
    use super::*;

    fn setup() -> testing::Setup {
        testing::run(agent::with(Desk { model: Model::Planner, diary: None }))
    }

    fn roles(run: &TestRun) -> Vec<String> {
        let messages: Vec<Message> = run.field("messages").unwrap_or_default();
        messages.into_iter().map(|message| message.role).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refund_is_made_once_it_is_approved_wherever_the_worker_dies() {
        let approved = || setup().answer("refund", &true, Some("ann"));
        let run = testing::call_survives_every_crash(approved, "Please refund order 7").await;
        let said: String = run.result();
        assert!(said.starts_with(PLANNER) && said.contains("refunded 900 cents for order 7"), "{said}");
        assert_eq!(run.streamed("answer"), said, "who follows has read the same");
        assert_eq!(roles(&run), ["user", "assistant", "tool", "assistant", "tool", "assistant"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_refunded_that_a_person_has_refused_or_not_been_asked_for() {
        let run = setup().answer("refund", &false, Some("bob")).call("Please refund order 7").await;
        assert!(run.result::<String>().contains("bob has refused it"), "{run}");
        let run = setup().call("Please refund order 7").await;
        assert!(run.result::<String>().contains("nobody has approved it"), "{run}");
        let run = setup().call("The outcome of order 12?").await;
        assert!(run.result::<String>().contains("order 12: 2 lamps, 900 cents"), "{run}");
        let run = setup().call("Good morning").await;
        assert!(run.result::<String>().contains("Tell me the number of an order"), "{run}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_in_a_session_is_known_to_its_next_run() {
        let first = setup().session("ann").call("Good morning").await;
        let said: BTreeMap<String, serde_json::Value> = first.session_state();
        let second = setup().session("ann").session_state(&said).call("The outcome of order 12?").await;
        assert_eq!(roles(&second), ["user", "assistant", "user", "assistant", "tool", "assistant"]);
    }
}
