//! Stop means stop, whatever hangs: each process ends before another one, which starts with the signal and sleeps for the time
//! to drain and a little more than two seconds.

use std::path::Path;

use serde_json::json;
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::signals::wait_for_arrival;

use super::{STEPFLEET, WORKER, until};

/// How many signals it gets, and its time to drain, which a second signal cuts off.
const TOLD: [(u32, &str); 2] = [(1, "1"), (2, "3600")];

/// Sends it this many signals, and waits until it has ended.
async fn stops(process: &mut Process, times: u32) {
    let mut reference = Process::start(Path::new("sleep"), &["30"], &[]);
    process.signal(Signal::TERM);
    if times == 2 {
        // Two signals at once would count as one.
        until(async || process.log().contains("told to stop")).await;
        process.signal(Signal::TERM);
    }
    process.ended_before(&mut reference).await;
}

#[tokio::test]
async fn stop_means_stop_while_redis_hangs() {
    for (times, drain) in TOLD {
        let fleet = Fleet::on(TestRedis::process().await);
        let mut worker = fleet.worker(WORKER, &[("STEPFLEET_DRAIN_SECONDS", drain)]);
        let mut coordinator = fleet.coordinator_process(STEPFLEET);
        fleet.workers_ready(1).await;
        fleet.client.start("gated", &json!({})).id("held").enqueue().await.unwrap();
        wait_for_arrival(&mut fleet.redis.connection().await, "held").await;
        fleet.redis.signal(Signal::STOP);
        stops(&mut worker, times).await;
        stops(&mut coordinator, 1).await;
        fleet.redis.signal(Signal::CONT);
    }
}

/// Steps that block all threads for good cannot be dropped, and Redis hangs besides.
#[tokio::test]
async fn stop_means_stop_while_steps_block_all_threads_and_redis_hangs() {
    for (times, drain) in TOLD {
        let fleet = Fleet::on(TestRedis::process().await);
        let _coordinator = fleet.coordinator();
        let settings = [("STEPFLEET_DRAIN_SECONDS", drain), ("TOKIO_WORKER_THREADS", "2")];
        let mut worker = fleet.worker(WORKER, &settings);
        fleet.workers_ready(1).await;
        let mut runs = Vec::new();
        for _ in 0..2 {
            runs.push(fleet.client.start("blocking", &json!({ "n": 3600 })).enqueue().await.unwrap());
        }
        for run in &runs {
            let status = async || fleet.store.run(run.id()).await.unwrap().map(|run| run.status.to_string());
            until(async || status().await.as_deref() == Some("running")).await;
        }
        fleet.redis.signal(Signal::STOP);
        stops(&mut worker, times).await;
        fleet.redis.signal(Signal::CONT);
    }
}

/// A worker hands back what it can before it ends.
#[tokio::test]
async fn a_worker_with_a_step_that_blocks_hands_back_before_it_ends() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut worker = fleet.worker(WORKER, &[("STEPFLEET_DRAIN_SECONDS", "0"), ("TOKIO_WORKER_THREADS", "4")]);
    fleet.workers_ready(1).await;
    let run = fleet.client.start("blocking", &json!({ "n": 3600 })).enqueue().await.unwrap();
    until(async || fleet.store.run(run.id()).await.unwrap().is_some_and(|run| run.status.as_str() == "running")).await;
    stops(&mut worker, 1).await;
    assert!(fleet.store.workers().await.unwrap().is_empty(), "it has handed back first");
}
