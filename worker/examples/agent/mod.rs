//! The agent, its tools, and its conversation.

mod model;
mod openai;
mod planner;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;

pub(crate) use self::model::{Message, Model, ToolCall};
#[allow(unused_imports, reason = "tests use these")]
pub(crate) use self::openai::OpenAi;
#[allow(unused_imports, reason = "tests use these")]
pub(crate) use self::planner::PLANNER;

/// How often the model may choose a tool before the agent gives up.
const MOST_TURNS: usize = 20;
/// How long a person has for an answer.
const DAY: Duration = Duration::from_secs(86_400);

/// What the agent works with.
pub(crate) struct Desk {
    pub(crate) model: Model,
    /// A file with a line for each refund: what the world outside has seen.
    pub(crate) diary: Option<String>,
}

#[durable(version = 1)]
pub(crate) async fn agent(ctx: &Context, desk: &Desk, task: String) -> Outcome<String> {
    let mut talk = Conversation::of(ctx).await?;
    talk.add(ctx, Message::user(task)).await?;
    for _ in 0..MOST_TURNS {
        let messages = &talk.messages;
        let answer = ctx.step("model", || async {
            let mut out = ctx.stream("answer");
            let answer = desk.model.answer(messages, &tools(), &mut out).await?;
            out.finish().await?;
            Ok(answer)
        });
        let answer: Message = answer.retries(3).timeout(Duration::from_secs(300)).await?;
        talk.add(ctx, answer.clone()).await?;
        if answer.tool_calls.is_empty() {
            return Ok(answer.content.unwrap_or_default());
        }
        for call in &answer.tool_calls {
            let came = desk.uses(ctx, call).await?;
            talk.add(ctx, Message::of_tool(call, came)).await?;
        }
    }
    Err(Error::terminal(format!("the model has not come to an answer after {MOST_TURNS} turns")))
}

/// What was said so far: the field `messages` of the run's state. A run that is started in a session begins with what was said in the
/// runs before it.
struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    async fn of(ctx: &Context) -> Outcome<Self> {
        Ok(Self { messages: ctx.state().get("messages").await?.unwrap_or_default() })
    }

    async fn add(&mut self, ctx: &Context, message: Message) -> Outcome<()> {
        ctx.state().push("messages", &message).await?;
        self.messages.push(message);
        Ok(())
    }
}

/// The tools, as a model is told of them.
fn tools() -> Value {
    let tool = |name: &str, description: &str, parameters: Value| {
        let parameters = json!({ "type": "object", "properties": parameters });
        json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
    };
    json!([
        tool("look_up", "What was ordered, and what it cost", json!({ "order": { "type": "integer" } })),
        tool(
            "refund",
            "Pays an order back. A person is asked first",
            json!({ "order": { "type": "integer" }, "cents": { "type": "integer" } })
        ),
    ])
}

#[derive(Deserialize)]
struct Order {
    order: u64,
    #[serde(default)]
    cents: u64,
}

impl Desk {
    /// What came of a tool that the model has chosen, for the model to read: also where it was refused, or cannot be used so.
    async fn uses(&self, ctx: &Context, call: &ToolCall) -> Outcome<String> {
        let wanted: Order = match serde_json::from_str(&call.function.arguments) {
            Ok(wanted) => wanted,
            Err(mistake) => return Ok(format!("these arguments cannot be read: {mistake}")),
        };
        match call.function.name.as_str() {
            "look_up" => ctx.step("look_up", async || Ok(look_up(&wanted))).retries(3).await,
            "refund" => self.refund(ctx, &wanted).await,
            other => Ok(format!("there is no tool {other}")),
        }
    }

    /// Dangerous: a person is asked first.
    async fn refund(&self, ctx: &Context, Order { order, cents }: &Order) -> Outcome<String> {
        let question = Approval::ask(format!("Refund {cents} cents for order {order}?")).named("refund");
        let answer = ctx.wait_for_user(question).timeout(DAY).default(false).await?;
        match (answer.answer, answer.by) {
            (true, _) => ctx.step("refund", async || self.pay_back(*order, *cents)).retries(3).await,
            (false, Some(by)) => Ok(format!("{by} has refused it")),
            (false, None) => Ok("nobody has approved it".to_owned()),
        }
    }

    fn pay_back(&self, order: u64, cents: u64) -> Outcome<String> {
        let done = format!("refunded {cents} cents for order {order}");
        if let Some(diary) = &self.diary {
            let mut file = OpenOptions::new().create(true).append(true).open(diary)?;
            writeln!(file, "{done}")?;
        }
        Ok(done)
    }
}

/// Here all orders are alike.
fn look_up(wanted: &Order) -> String {
    format!("order {}: 2 lamps, 900 cents", wanted.order)
}
