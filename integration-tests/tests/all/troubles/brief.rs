//! Brief refusals, one after the other, while much is under way.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use futures_util::future::join_all;
use stepfleet::history::Kind;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::workflows::Loop;
use stepfleet_worker::prelude::*;
use tokio::sync::watch;

use super::{LIMIT, looped, until};

const REFUSALS: u32 = 5;
const RECORDED: u32 = 10;
const RUNS: usize = 15;

/// How many refusals have begun.
static BEGUN: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::Sender::new(0));
/// What was done, which the Redis that refuses cannot count.
static DONE: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// Records something so often in each refusal. Without retries: an attempt that fails would end it.
#[durable(retries = 0)]
async fn recording(ctx: &Context, _input: ()) -> Outcome<u32> {
    let mut done = 0;
    for refusal in 1..=REFUSALS {
        ctx.step("wait", || async {
            BEGUN.subscribe().wait_for(|begun| *begun >= refusal).await?;
            Ok(())
        })
        .await?;
        for n in 0..RECORDED {
            let what = format!("{} {refusal} {n}", ctx.run_id());
            done += ctx
                .step("work", || async {
                    let mut done = DONE.lock().unwrap();
                    let times = done.entry(what.clone()).or_default();
                    *times += 1;
                    Ok(*times)
                })
                .await?;
        }
    }
    Ok(done)
}

/// How many calls the server has refused for want of replicas.
async fn refused(stage: &Stage) -> u64 {
    let mut redis = stage.redis.as_ref().unwrap().connection().await;
    let info: String = redis::cmd("INFO").arg("errorstats").query_async(&mut redis).await.unwrap();
    let count = info.lines().find_map(|line| line.trim_end().strip_prefix("errorstat_NOREPLICAS:count="));
    count.map_or(0, |count| count.parse().unwrap())
}

async fn replicas(stage: &Stage, wanted: &str) {
    let mut redis = stage.redis.as_ref().unwrap().connection().await;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("min-replicas-to-write").arg(wanted);
    let () = set.query_async(&mut redis).await.unwrap();
}

#[tokio::test]
async fn five_refusals_cost_no_attempt_and_no_recorded_work() {
    let both = Both::new(|worker| worker.serve(recording::workflow())?.serve(Loop)).concurrency(16);
    both.play_on_redis(async |stage| {
        let start = async |workflow: &str, input: serde_json::Value, n: usize| {
            stage.client.start(workflow, &input).id(format!("{workflow}-{n}")).enqueue().await.unwrap()
        };
        let recording = join_all((0..RUNS).map(|n| start("recording", serde_json::json!(null), n))).await;
        let looping = join_all((0..RUNS).map(|n| start("loop", serde_json::json!({ "n": 400 }), n))).await;
        for refusal in 1..=REFUSALS {
            let before = refused(stage).await;
            replicas(stage, "1").await;
            BEGUN.send_replace(refusal);
            // More than the coordinator's duties: each run is refused, and some of them again.
            until(async || refused(stage).await >= before + 60).await;
            replicas(stage, "0").await;
        }
        for run in &recording {
            assert_eq!(run.result::<u32>(LIMIT).await.unwrap(), REFUSALS * RECORDED, "{}", run.id());
        }
        for run in &looping {
            looped(run, 400).await;
        }
        for run in recording.iter().chain(&looping) {
            let history = stage.store.history(run.id(), 0, 1000).await.unwrap();
            let blamed = history.iter().find(|r| matches!(r.kind, Kind::Retry | Kind::Lost | Kind::Repaired));
            assert_eq!(blamed, None, "{}", run.id());
        }
        let done = DONE.lock().unwrap();
        assert_eq!(done.len(), RUNS * (REFUSALS * RECORDED) as usize);
        assert!(done.values().all(|times| *times == 1), "recorded work was done again: {done:?}");
    })
    .await;
}
