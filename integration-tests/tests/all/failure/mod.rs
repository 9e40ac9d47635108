//! How runs deal with failures: retries, steps that catch, and timeouts; on both stores, with three workers.

mod caught;
mod retries;
mod too_long;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Stage;
use stepfleet_shared::history::{Kind, Record};

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, Clone)]
struct Asked {
    how: String,
    #[serde(default)]
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

fn answer(answer: Value) -> Answered {
    Answered { answer }
}

#[derive(Debug)]
struct Fetch(std::io::Error);

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot fetch")
    }
}

impl StdError for Fetch {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

const SHORT: Duration = Duration::from_millis(20);

async fn history(stage: &Stage, run: &str) -> Vec<Record> {
    stage.store.history(run, 0, 1000).await.unwrap()
}

async fn of_kind(stage: &Stage, run: &str, kind: Kind) -> Vec<String> {
    let records = history(stage, run).await.into_iter();
    records.filter(|record| record.kind == kind).map(|record| record.detail).collect()
}

async fn asked(stage: &Stage, workflow: &str, input: Value) -> stepfleet_shared::run::Run {
    let run = stage.client.start(workflow, &input).enqueue().await.unwrap();
    run.wait(LIMIT).await.unwrap()
}

fn result(run: &stepfleet_shared::run::Run) -> Value {
    let found = run.result.as_deref().unwrap_or_else(|| panic!("no result: {:?}", run.error));
    serde_json::from_slice::<Value>(found).unwrap()["answer"].clone()
}
