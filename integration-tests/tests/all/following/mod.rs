//! What runs publish, and who follows them: each on the memory store and on a real Redis, with three workers.

mod ends;
mod events;
mod states;

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Stage;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::follow::Follower;
use stepfleet_shared::published::{Position, Published};
use stepfleet_shared::store::Store;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
    /// Which of the concurrent tests it belongs to.
    #[serde(default)]
    test: usize,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Progress {
    at: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

async fn all(store: &dyn Store, run: &str) -> Vec<Published> {
    store.published(run, Position::BEGINNING, 1000).await.unwrap()
}

fn counted(entries: &[Published]) -> Vec<u64> {
    entries.iter().filter_map(|entry| entry.read::<Progress>().unwrap()).map(|progress| progress.at).collect()
}

async fn next(follower: &mut Follower) -> Option<Published> {
    tokio::time::timeout(LIMIT, follower.next()).await.expect("an entry or the end").unwrap()
}

/// All entries that are left to follow.
async fn rest(mut follower: Follower) -> Vec<Published> {
    let mut entries = Vec::new();
    while let Some(entry) = next(&mut follower).await {
        entries.push(entry);
    }
    entries
}

async fn next_event(follower: &mut Follower) -> u64 {
    next(follower).await.unwrap().event::<Progress>().unwrap().unwrap().at
}

async fn start(stage: &Stage, workflow: &str, n: u64) -> RunHandle {
    stage.client.start(workflow, &json!({ "n": n })).id("r").enqueue().await.unwrap()
}

struct Ending;

#[workflow(start = Asked, stop = Answered, retention = "1s")]
impl Ending {
    #[step(retries = 0)]
    async fn end(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        ctx.publish(&Progress { at: ev.n }).await?;
        match ev.n {
            0 => Ok(Answered { answer: json!(null) }),
            1 => Err(Error::terminal("for good")),
            _ => std::future::pending().await,
        }
    }
}
