//! Who answers: a model that speaks as `OpenAI` does, or the planner.

use std::fmt;

use serde_json::Value;
use stepfleet::context::Stream;
use stepfleet::prelude::*;

use super::openai::OpenAi;
use super::planner;

/// Whoever answers.
pub(crate) enum Model {
    OpenAi(Box<OpenAi>),
    /// Fixed rules, where there is no model.
    Planner,
}

/// One message of a conversation, as `OpenAI` writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Message {
    /// `user`, `assistant` or `tool`.
    pub(crate) role: String,
    pub(crate) content: Option<String>,
    /// The tools that the model has chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Of a tool: what it was chosen with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tool_call_id: Option<String>,
}

/// A tool that the model has chosen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) function: Function,
}

/// Which tool, and with what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// JSON.
    pub(crate) arguments: String,
}

impl Message {
    pub(crate) fn user(text: String) -> Self {
        Self { role: "user".to_owned(), content: Some(text), ..Self::default() }
    }

    pub(crate) fn of_tool(call: &ToolCall, came: String) -> Self {
        Self { role: "tool".to_owned(), content: Some(came), tool_call_id: Some(call.id.clone()), ..Self::default() }
    }
}

impl Model {
    /// As `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` say.
    #[allow(dead_code, reason = "tests make their own")]
    pub(crate) fn from_env() -> std::io::Result<Self> {
        let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(base) = setting("OPENAI_BASE_URL") else { return Ok(Self::Planner) };
        let model = setting("OPENAI_MODEL").unwrap_or_else(|| "gpt-4o-mini".to_owned());
        Ok(Self::OpenAi(Box::new(OpenAi::new(&base, setting("OPENAI_API_KEY"), model)?)))
    }

    /// The next message. Its text goes out as it comes.
    pub(crate) async fn answer(&self, messages: &[Message], tools: &Value, out: &mut Stream<'_>) -> Outcome<Message> {
        match self {
            Self::OpenAi(model) => model.answer(messages, tools, out).await,
            Self::Planner => {
                let message = planner::answer(messages);
                for word in message.content.iter().flat_map(|text| text.split_inclusive(' ')) {
                    out.push(word).await?;
                }
                Ok(message)
            }
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenAi(model) => model.fmt(f),
            Self::Planner => f.write_str("a small planner with fixed rules: set OPENAI_BASE_URL for a model"),
        }
    }
}
