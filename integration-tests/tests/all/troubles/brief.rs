//! Refusals of a real server during work: brief ones, one after the other, and one in which leases run out.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::workflows::Loop;
use stepfleet_shared::history::Kind;
use tokio::sync::watch;

use super::{LIMIT, looped, until};

const REFUSALS: u32 = 5;
const RECORDED: u32 = 10;
const RUNS: usize = 15;

/// How many refusals have begun.
static BEGUN: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::Sender::new(0));
/// The work that was done, which the refusing Redis cannot count.
static DONE: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// Records something this often in each refusal. Without retries: a failed attempt would end it.
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
        let mut results = Vec::new();
        for run in &recording {
            results.push(run.result::<u32>(LIMIT).await.unwrap());
        }
        for run in &looping {
            looped(run, 400).await;
        }
        for run in recording.iter().chain(&looping) {
            let history = stage.store.history(run.id(), 0, 1000).await.unwrap();
            let blamed = history.iter().find(|r| matches!(r.kind, Kind::Retry | Kind::Lost | Kind::Repaired));
            assert_eq!(blamed, None, "{}", run.id());
        }
        assert_eq!(results, [REFUSALS * RECORDED; RUNS], "recorded work was done again");
        let done = DONE.lock().unwrap();
        assert_eq!(done.len(), RUNS * (REFUSALS * RECORDED) as usize);
        assert!(done.values().all(|times| *times == 1), "recorded work was done again: {done:?}");
    })
    .await;
}

/// Whether the step may end.
static MAY_END: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

#[durable(retries = 0)]
async fn holding(ctx: &Context, _input: ()) -> Outcome<u32> {
    MAY_END.subscribe().wait_for(|may| *may).await?;
    Ok(ctx.attempt())
}

/// Nobody can renew a lease while the server takes no writes: afterwards, live workers must renew before a coordinator reaps them.
#[tokio::test]
async fn leases_that_run_out_while_the_server_refuses_cost_no_attempt() {
    let both = Both::new(|worker| worker.serve(holding::workflow())).workers(0);
    both.play_on_redis(async |stage| {
        stage.add_worker_on(stage.another_store(), Duration::from_secs(2));
        stage.workers_ready(1).await;
        let run = stage.client.start("holding", &serde_json::json!(null)).enqueue().await.unwrap();
        let worker = async || stage.store.workers().await.unwrap().remove(0);
        until(async || worker().await.held == 1).await;
        let id = worker().await.id;
        for _ in 0..5 {
            replicas(stage, "1").await;
            until(async || worker().await.lease_ms < 0).await;
            replicas(stage, "0").await;
            until(async || worker().await.lease_ms > 0).await;
        }
        MAY_END.send_replace(true);
        assert_eq!(run.result::<u32>(LIMIT).await.unwrap(), 1, "it is the first attempt");
        assert_eq!(worker().await.id, id);
    })
    .await;
}
