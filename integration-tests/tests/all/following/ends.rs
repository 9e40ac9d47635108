//! How followers learn that a run is over.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::until;
use stepfleet_shared::published::What;
use stepfleet_shared::run::Status;
use tokio::sync::Notify;

use super::{Answered, Asked, Ending, LIMIT, Progress, all, counted, next_event, rest};

/// One of two steps ends the run; then the other goes on and publishes.
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
    worker.serve(Overtaken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_run_has_ended_publishes_nothing_and_is_dropped() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("overtaken", &json!({ "n": 1 })).id("r").enqueue().await.unwrap();
            until(async || !all(&*stage.store, "r").await.is_empty()).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_every_end_and_the_stream_is_removed_with_the_run() {
    Both::new(|worker| worker.serve(Ending))
        .play(async |stage| {
            for (how, status) in [(0, Status::Completed), (1, Status::Failed), (2, Status::Cancelled)] {
                let id = format!("r{how}");
                let run = stage.client.start("ending", &json!({ "n": how })).id(&id).enqueue().await.unwrap();
                let mut follower = run.follow();
                assert_eq!(next_event(&mut follower).await, how);
                if status == Status::Cancelled {
                    run.cancel().await.unwrap();
                }
                let entries = rest(follower).await;
                assert_eq!(entries.iter().map(|entry| &entry.what).collect::<Vec<_>>(), [&What::End { status }]);
            }
            // The retention of a cancelled run is the coordinator's: a week.
            for id in ["r0", "r1"] {
                until(async || stage.store.run(id).await.unwrap().is_none()).await;
                assert_eq!(all(&*stage.store, id).await, []);
            }
            assert_eq!(all(&*stage.store, "r2").await.len(), 2);
        })
        .await;
}
