//! Steps and routing, each on the memory store and on a real Redis, with three workers.

mod dropped;
mod limits;
mod sets;
mod takers;

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Stage;
use stepfleet_integration_tests::seen;
use stepfleet_shared::history::{Kind, Record};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, Clone)]
struct Asked {
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

async fn answer(stage: &Stage, workflow: &str, n: u64) -> Value {
    let run = stage.client.start(workflow, &json!({ "n": n })).enqueue().await.unwrap();
    let end: Value = run.result(LIMIT).await.unwrap();
    end["answer"].clone()
}

async fn history(stage: &Stage, run: &str) -> Vec<Record> {
    stage.store.history(run, 0, 10_000).await.unwrap()
}

/// Waits until the history is as it should be.
async fn history_until(stage: &Stage, run: &str, is_so: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    seen(async || history(stage, run).await, |records| is_so(records)).await
}

fn count(records: &[Record], kind: Kind, step: &str) -> usize {
    records.iter().filter(|record| record.kind == kind && record.step == step).count()
}
