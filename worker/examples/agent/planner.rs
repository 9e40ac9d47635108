//! What stands in for a model: fixed rules, which always say the same.

use serde_json::json;

use super::model::{Function, Message, ToolCall};

/// What it says begins with this, so that nobody takes it for a model.
pub(crate) const PLANNER: &str = "[planner, no model] ";

/// The next message: it looks up the order that the user names, refunds it where the user says so, and tells what came of it.
pub(super) fn answer(messages: &[Message]) -> Message {
    let text = |message: &Message| message.content.clone().unwrap_or_default();
    let last = messages.last().map(text).unwrap_or_default();
    let asked = messages.iter().rev().find(|message| message.role == "user").map(text).unwrap_or_default();
    let used =
        messages.iter().rev().take_while(|message| message.role != "user").filter(|message| message.role == "tool");
    let used = used.count();
    let Some(order) = number_in(&asked) else { return says("Tell me the number of an order, please.") };
    match used {
        0 => chooses("look_up", &json!({ "order": order })),
        1 if asked.to_lowercase().contains("refund") => {
            let cents = last.rsplit_once(", ").and_then(|(_, price)| number_in(price)).unwrap_or(0);
            chooses("refund", &json!({ "order": order, "cents": cents }))
        }
        _ => says(&format!("I have looked into it: {last}.")),
    }
}

fn number_in(text: &str) -> Option<u64> {
    text.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok())
}

fn says(text: &str) -> Message {
    Message { role: "assistant".to_owned(), content: Some(format!("{PLANNER}{text}")), ..Message::default() }
}

fn chooses(tool: &str, arguments: &serde_json::Value) -> Message {
    let function = Function { name: tool.to_owned(), arguments: arguments.to_string() };
    let call = ToolCall { id: format!("call-{tool}"), kind: "function".to_owned(), function };
    Message { role: "assistant".to_owned(), tool_calls: vec![call], ..Message::default() }
}
