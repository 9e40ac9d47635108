//! What runs publish, and who follows them: each on the store in memory and on a real Redis, with three workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::published::{Position, Published, What};
use stepfleet::run::Status;
use stepfleet::store::Store;
use stepfleet_integration_tests::both::Both;
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;
use tokio::sync::Notify;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Progress {
    at: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

/// One step that counts aloud.
struct Counting;

#[workflow(start = Asked, stop = Answered)]
impl Counting {
    #[step(retries = 0)]
    async fn count(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        for at in 1..=ev.n {
            ctx.publish(&Progress { at }).await?;
        }
        Ok(Answered { answer: json!(ev.n) })
    }
}

/// One of two steps ends the run; the other goes on then, and publishes.
struct Overtaken;

static SLOW_HAS_BEGUN: Notify = Notify::const_new();
static ENDED: Notify = Notify::const_new();
static DROPPED: Notify = Notify::const_new();
static RETURNED: AtomicBool = AtomicBool::new(false);

struct TellsOfItsDrop;

impl Drop for TellsOfItsDrop {
    fn drop(&mut self) {
        DROPPED.notify_one();
    }
}

#[workflow(start = Asked, stop = Answered)]
impl Overtaken {
    #[step]
    async fn slow(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        let _told = TellsOfItsDrop;
        ctx.publish(&Progress { at: ev.n }).await?;
        ENDED.notified().await;
        ctx.publish(&Progress { at: 99 }).await?;
        RETURNED.store(true, Ordering::SeqCst);
        Ok(())
    }

    #[step]
    async fn fast(&self, ev: Asked) -> Outcome<Answered> {
        SLOW_HAS_BEGUN.notified().await;
        Ok(Answered { answer: json!(ev.n) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counting)?.serve(Overtaken)
}

async fn all(store: &dyn Store, run: &str) -> Vec<Published> {
    store.published(run, Position::BEGINNING, 1000).await.unwrap()
}

fn counted(entries: &[Published]) -> Vec<u64> {
    entries.iter().filter_map(|entry| entry.read::<Progress>().unwrap()).map(|progress| progress.at).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_publishes_is_kept_in_order_and_ends_with_the_run() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("counting", &json!({ "n": 20 })).id("r").send().await.unwrap();
            run.result::<Value>(LIMIT).await.unwrap();
            let entries = all(&*stage.store, "r").await;
            assert_eq!(counted(&entries), (1..=20).collect::<Vec<_>>());
            assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), (1..=21).collect::<Vec<_>>());
            let What::Event { event, by, .. } = &entries[0].what else { panic!("{:?}", entries[0]) };
            assert_eq!((event.as_str(), by.step.as_str(), by.seq, by.attempt), ("Progress", "count", 1, 1));
            assert!(by.worker.starts_with("worker-"));
            assert_eq!(entries[20].what, What::End { status: Status::Completed });
            assert_eq!(counted(&stage.store.published("r", entries[4].position, 3).await.unwrap()), [6, 7, 8]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_run_has_ended_publishes_nothing_and_is_dropped() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("overtaken", &json!({ "n": 1 })).id("r").send().await.unwrap();
            while all(&*stage.store, "r").await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            SLOW_HAS_BEGUN.notify_one();
            run.result::<Value>(LIMIT).await.unwrap();
            ENDED.notify_one();
            tokio::time::timeout(LIMIT, DROPPED.notified()).await.expect("the step is dropped");
            assert!(!RETURNED.load(Ordering::SeqCst), "its code went on");
            let entries = all(&*stage.store, "r").await;
            assert_eq!(counted(&entries), [1]);
            assert_eq!(entries.last().unwrap().what, What::End { status: Status::Completed });
        })
        .await;
}
