//! Steps with a limit on concurrent executions.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;

use super::{Answered, Asked, answer};

/// A step with at most this many concurrent executions, in any workers; and one that keeps its order.
struct Narrow;

#[derive(Event, Serialize, Deserialize)]
struct Item(u64);
#[derive(Event, Serialize, Deserialize)]
struct Through(u64);
#[derive(Event, Serialize, Deserialize)]
struct Ordered(u64);

static AT_ONCE: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);

#[workflow(start = Asked, stop = Answered)]
impl Narrow {
    #[step]
    async fn items(&self, ev: Asked) -> Outcome<Vec<Item>> {
        Ok((0..ev.n).map(Item).collect())
    }

    #[step(concurrency = 3, retries = 5, backoff = "1ms", max_backoff = "2ms")]
    async fn pass(&self, ctx: &Context, ev: Item) -> Outcome<Through> {
        let now = AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        // Others have every chance to come in between.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        AT_ONCE.fetch_sub(1, Ordering::SeqCst);
        if ev.0.is_multiple_of(7) && ctx.attempt() == 1 {
            return Err(Error::msg("once more"));
        }
        Ok(Through(ev.0))
    }

    #[step(concurrency = 1, retries = 5, backoff = "1ms", max_backoff = "2ms")]
    async fn order(&self, ctx: &Context, ev: Item) -> Outcome<Ordered> {
        if ev.0.is_multiple_of(5) && ctx.attempt() == 1 {
            return Err(Error::msg("once more"));
        }
        let mut seen: Vec<u64> = ctx.state().get("order").await?.unwrap_or_default();
        seen.push(ev.0);
        ctx.state().set("order", &seen).await?;
        Ok(Ordered(ev.0))
    }

    #[step]
    async fn all(&self, ctx: &Context, through: Joined<Through>) -> Outcome<()> {
        ctx.state().set("through", &through.len()).await
    }

    #[step]
    async fn end(&self, ctx: &Context, ordered: Joined<Ordered>) -> Outcome<Answered> {
        let order: Vec<u64> = ctx.state().get("order").await?.unwrap_or_default();
        Ok(Answered { answer: json!({ "order": order, "count": ordered.len() }) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Narrow)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_step_has_no_more_at_once_and_one_at_a_time_keeps_its_order() {
    Both::new(serve)
        .concurrency(16)
        .play(async |stage| {
            MOST.store(0, Ordering::SeqCst);
            let answer = answer(stage, "narrow", 60).await;
            assert_eq!(answer["order"], json!((0..60).collect::<Vec<_>>()));
            assert_eq!(answer["count"], 60);
            let most = MOST.load(Ordering::SeqCst);
            assert!((1..=3).contains(&most), "{most} at once");
        })
        .await;
}
