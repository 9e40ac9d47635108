//! The example `agent` with a model: an endpoint like `OpenAI`'s, which hangs up in mid-answer, and fails now and then.

#[path = "../../../worker/examples/agent/mod.rs"]
mod parts;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::found;
use stepfleet_shared::published::{Position, Published, Streams, What};
use tokio::net::TcpListener;

use self::parts::{Desk, Model, agent};

const LIMIT: Duration = Duration::from_secs(60);

/// The address of the model.
static BASE: OnceLock<String> = OnceLock::new();

/// The requests that it got: whole bodies, and how often each turn of each task came.
#[derive(Default)]
struct Heard {
    asked: Vec<Value>,
    times: BTreeMap<(String, usize), u32>,
}

/// The lines of an answer.
fn lines(deltas: &[Value], is_whole: bool) -> String {
    let line = |delta: &Value| format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta }] }));
    let lines: String = deltas.iter().map(line).collect();
    format!(": a remark\n\n{lines}{}", if is_whole { "data: [DONE]\n\n" } else { "" })
}

/// A tool, in the fragments that models give.
fn tool(name: &str, arguments: [&str; 2]) -> Vec<Value> {
    let call = |call: Value| json!({ "tool_calls": [call] });
    vec![
        json!({ "role": "assistant", "content": null }),
        call(json!({ "index": 0, "id": name, "type": "function", "function": { "name": name, "arguments": "" } })),
        call(json!({ "index": 0, "function": { "arguments": arguments[0] } })),
        call(json!({ "index": 0, "function": { "arguments": arguments[1] } })),
    ]
}

fn says(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| json!({ "content": word })).collect()
}

async fn answer(request: Request<Incoming>, heard: Arc<Mutex<Heard>>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/chat/completions");
    assert_eq!(request.headers()["authorization"], "Bearer secret");
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let asked: Value = serde_json::from_slice(&body).expect("JSON");
    let messages = asked["messages"].as_array().expect("messages").clone();
    let task = messages[0]["content"].as_str().expect("a task").to_owned();
    let times = {
        let mut heard = heard.lock().unwrap();
        heard.asked.push(asked);
        let times = heard.times.entry((task, messages.len())).or_default();
        *times += 1;
        *times
    };
    let (status, text) = match (messages.len(), times) {
        (1, 1) => (StatusCode::TOO_MANY_REQUESTS, "later".to_owned()),
        (1, _) => (StatusCode::OK, lines(&tool("look_up", ["{\"ord", "er\": 7}"]), true)),
        (3, _) => (StatusCode::OK, lines(&tool("refund", ["{\"order\": 7,", " \"cents\": 900}"]), true)),
        (_, 1) => (StatusCode::OK, lines(&says(&["I have ", "just "]), false)),
        _ => (StatusCode::OK, lines(&says(&["All ", "is ", "paid ", "back."]), true)),
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text))).expect("a response"))
}

/// An endpoint on a free port; returns what it gets.
async fn endpoint() -> (String, Arc<Mutex<Heard>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (base, heard) = (format!("http://{}/v1/", listener.local_addr().unwrap()), Arc::<Mutex<Heard>>::default());
    let told = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let heard = told.clone();
            let answer = service_fn(move |request| answer(request, heard.clone()));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (base, heard)
}

fn first_take<'a>(entry: &'a Published, of: &str) -> Option<&'a str> {
    match &entry.what {
        What::Piece { id, take: 1, text, .. } if id == of => Some(text),
        _ => None,
    }
}

fn model() -> Model {
    let base = BASE.get().expect("the endpoint is there");
    Model::OpenAi(Box::new(parts::OpenAi::new(base, Some("secret".into()), "small".into()).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_chooses_tools_asks_first_and_is_read_along() {
    let (base, heard) = endpoint().await;
    BASE.set(base).unwrap();
    Both::new(|worker| worker.serve(agent::with(Desk { model: model(), diary: None })))
        .play(async |stage| {
            let task = format!("Refund order 7, {}", if stage.redis.is_some() { "on Redis" } else { "in memory" });
            let run = stage.client.start("agent", &task).id("a1").enqueue().await.unwrap();
            let question = found(async || run.questions().await.unwrap().pop()).await.question;
            assert_eq!((&*question.name, &*question.text), ("refund", "Refund 900 cents for order 7?"));
            run.answer("refund", &true, Some("ann")).await.unwrap().taken(LIMIT).await.unwrap();
            assert_eq!(run.result::<String>(LIMIT).await.unwrap(), "All is paid back.");

            let entries = stage.store.published("a1", Position::BEGINNING, 1000).await.unwrap();
            let mut streams = Streams::default();
            for entry in &entries {
                streams.add(entry);
            }
            let last = streams.named("answer").unwrap();
            assert_eq!((&*last.text, last.take, last.is_whole), ("All is paid back.", 2, true));
            // From the try that was cut off.
            let first: String = entries.iter().filter_map(|entry| first_take(entry, &last.id)).collect();
            assert_eq!(first, "I have just ");

            let asked: Vec<Value> = heard.lock().unwrap().asked.drain(..).collect();
            let counts: Vec<usize> = asked.iter().map(|asked| asked["messages"].as_array().unwrap().len()).collect();
            assert_eq!(counts, [1, 1, 3, 5, 5], "what was answered is not asked again");
            let tools = asked[0]["tools"].as_array().unwrap();
            assert_eq!((tools.len(), &asked[0]["stream"], &asked[0]["model"]), (2, &json!(true), &json!("small")));
            let messages = &asked[4]["messages"];
            assert_eq!(messages[1]["tool_calls"][0]["function"]["arguments"], "{\"order\": 7}");
            assert_eq!((&messages[2]["tool_call_id"], &messages[2]["role"]), (&json!("look_up"), &json!("tool")));
            assert_eq!(messages[4]["content"], "refunded 900 cents for order 7");
        })
        .await;
}
