//! The context of a run, each on the memory store and on a real Redis, with three workers or more.

mod checkpoints;
mod conflicts;
mod crowds;
mod operations;
mod sources;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::Value;
use stepfleet::prelude::*;
use tokio::sync::Barrier;

const LIMIT: Duration = Duration::from_secs(60);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[derive(Event, Serialize, Deserialize)]
struct Done(u64);

/// How often bodies ran, and where they meet, by run.
static MEETINGS: LazyLock<Mutex<HashMap<String, Meeting>>> = LazyLock::new(Mutex::default);

#[derive(Clone, Default)]
struct Meeting {
    barrier: Option<Arc<Barrier>>,
    bodies: usize,
    /// What was done within `ctx.step`.
    calls: usize,
}

fn meeting(run: &str) -> Meeting {
    let mut meetings = MEETINGS.lock().unwrap();
    let meeting = meetings.entry(run.to_owned()).or_default();
    meeting.barrier.get_or_insert_with(|| Arc::new(Barrier::new(2)));
    meeting.bodies += 1;
    meeting.clone()
}
