//! Waits, and calls that are recorded, each on the memory store and on a real Redis, with three workers.

mod attempts;
mod one;
mod replays;
mod restarts;
mod several;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Stage;
use stepfleet_integration_tests::fleet::nothing_is_held;
use stepfleet_integration_tests::seen;
use stepfleet_shared::history::Kind;
use stepfleet_shared::step::OpenWait;
use stepfleet_shared::store::Store;

const LIMIT: Duration = Duration::from_secs(30);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// How often something was done, by run and name.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn count(run: &str, name: &str) -> u64 {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(format!("{run} {name}")).or_default();
    *count += 1;
    *count
}

fn counted(run: &str, name: &str) -> u64 {
    DONE.lock().unwrap().get(&format!("{run} {name}")).copied().unwrap_or(0)
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    #[serde(default)]
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Deserialize, Serialize)]
struct Approval {
    by: String,
}

#[derive(Event, Serialize, Deserialize)]
struct InputRequired {
    prompt: String,
}

/// Waits until the run waits for this many signals.
async fn waiting(store: &dyn Store, run: &str, count: usize) -> Vec<OpenWait> {
    seen(async || store.waits(run).await.unwrap(), |waits| waits.len() == count).await
}

async fn kinds(stage: &Stage, run: &str, kind: Kind) -> usize {
    stage.store.history(run, 0, 1000).await.unwrap().into_iter().filter(|record| record.kind == kind).count()
}

async fn until(stage: &Stage, run: &str, kind: Kind, count: usize) {
    stepfleet_integration_tests::until(async || kinds(stage, run, kind).await >= count).await;
}

/// Ids that no two plays share.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}
