//! A model behind an endpoint that speaks as `OpenAI`'s does: `POST <base>/chat/completions`, answered token by token.

use std::fmt;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use stepfleet::context::Stream;
use stepfleet::prelude::*;

use super::model::{Message, ToolCall};

/// The endpoint, and who is asked there.
pub(crate) struct OpenAi {
    client: Connected,
    url: String,
    key: Option<String>,
    model: String,
}

/// A local model needs no certificates.
enum Connected {
    Plainly(Client<HttpConnector, Full<Bytes>>),
    Safely(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// One part of an answer.
#[derive(Default, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<ToolDelta>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    index: usize,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

impl OpenAi {
    pub(crate) fn new(base: &str, key: Option<String>, model: String) -> std::io::Result<Self> {
        let client = if base.starts_with("https:") {
            let https = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
            Connected::Safely(Client::builder(TokioExecutor::new()).build(https))
        } else {
            Connected::Plainly(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
        };
        Ok(Self { client, url: format!("{}/chat/completions", base.trim_end_matches('/')), key, model })
    }

    pub(crate) async fn answer(&self, messages: &[Message], tools: &Value, out: &mut Stream<'_>) -> Outcome<Message> {
        let mut body = self.ask(messages, tools).await?.into_body();
        let mut message = Message { role: "assistant".to_owned(), ..Message::default() };
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|e| Error::msg(format!("the model has hung up: {e}")))?.into_data() else {
                continue;
            };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                let data = data.trim_ascii();
                if data == b"[DONE]" {
                    return Ok(message);
                }
                let chunk: Chunk = serde_json::from_slice(data)
                    .map_err(|e| Error::msg(format!("the model said something odd: {e}")))?;
                if let Some(error) = chunk.error {
                    return Err(Error::msg(format!("the model failed: {error}")));
                }
                for choice in chunk.choices {
                    add(&mut message, choice.delta, out).await?;
                }
            }
        }
        // It was cut off in the middle: another try may go better.
        Err(Error::msg("the model has hung up before it came to an end"))
    }

    async fn ask(&self, messages: &[Message], tools: &Value) -> Outcome<Response<Incoming>> {
        let asked = json!({ "model": self.model, "messages": messages, "tools": tools, "stream": true });
        let mut request = Request::post(&self.url).header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request =
            request.body(Full::new(Bytes::from(asked.to_string()))).map_err(|e| Error::terminal(e.to_string()))?;
        let answered = match &self.client {
            Connected::Plainly(client) => client.request(request).await,
            Connected::Safely(client) => client.request(request).await,
        };
        let answered = answered.map_err(|e| Error::msg(format!("{} cannot be reached: {e}", self.url)))?;
        let status = answered.status();
        if status.is_success() {
            return Ok(answered);
        }
        let said = answered.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let told = format!("{} answers {status}: {}", self.url, String::from_utf8_lossy(&said));
        // It is in a hurry, or has a moment of trouble; anything else would be the same the next time.
        let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429);
        Err(if may_pass { Error::msg(told) } else { Error::terminal(told) })
    }
}

/// A part of the answer: text goes out as it comes, and a tool's name and arguments are put together.
async fn add(message: &mut Message, delta: Delta, out: &mut Stream<'_>) -> Outcome<()> {
    if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
        out.push(&text).await?;
        message.content.get_or_insert_default().push_str(&text);
    }
    for ToolDelta { index, id, function } in delta.tool_calls {
        while message.tool_calls.len() <= index {
            message.tool_calls.push(ToolCall { kind: "function".to_owned(), ..ToolCall::default() });
        }
        let call = &mut message.tool_calls[index];
        if let Some(id) = id {
            call.id = id;
        }
        if let Some(FunctionDelta { name, arguments }) = function {
            call.function.name.push_str(&name.unwrap_or_default());
            call.function.arguments.push_str(&arguments.unwrap_or_default());
        }
    }
    Ok(())
}

impl fmt::Display for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.model, self.url)
    }
}
