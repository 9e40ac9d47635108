//! Recorded calls and waits outlive workers, the coordinator and Redis.

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_shared::Client;

use super::{LIMIT, STEPFLEET, WORKER, nothing_is_held, waiting};

fn three_workers(fleet: &Fleet) -> Vec<Process> {
    (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "1")])).collect()
}

async fn answer(fleet: &Fleet, run: &str) -> String {
    let end: Value = fleet.client.run(run).result(LIMIT).await.unwrap();
    end["answer"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_was_recorded_outlives_a_worker_that_is_killed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers = three_workers(&fleet);
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    let run = fleet.client.start("gated_wait", &json!({ "n": 3_600_000 })).id("killed").enqueue().await.unwrap();
    let pid = wait_for_arrival(&mut redis, "killed").await;
    workers.iter_mut().find(|worker| worker.id() == pid).unwrap().kill();
    let other = wait_for_arrival(&mut redis, "killed").await;
    assert_ne!(other, pid);
    // One each for the current attempt and for the one after the signal.
    let_go(&mut redis, "killed", 2).await;
    waiting(&*fleet.store, "killed", 1).await;
    // The worker whose run has begun to wait may be killed too: nobody holds the run.
    nothing_is_held(&*fleet.store).await;
    workers.iter_mut().find(|worker| worker.id() == other).unwrap().kill();
    run.signal("approval", &"fine").await.unwrap();
    assert_eq!(answer(&fleet, "killed").await, "reserved 1 times, fine");
}

#[tokio::test]
async fn waits_and_their_deadlines_outlive_a_restart_of_everything() {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let mut coordinator = fleet.coordinator_process(STEPFLEET);
    let mut workers = three_workers(&fleet);
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    for (id, limit) in [("late", 10_000), ("answered", 3_600_000)] {
        fleet.client.start("gated_wait", &json!({ "n": limit })).id(id).enqueue().await.unwrap();
        let_go(&mut redis, id, 2).await;
    }
    let mut before = Vec::new();
    for id in ["late", "answered"] {
        before.extend(waiting(&*fleet.store, id, 1).await);
    }
    nothing_is_held(&*fleet.store).await;
    workers.iter_mut().for_each(Process::kill);
    coordinator.kill();
    fleet.redis.kill();
    fleet.redis.start_again().await;
    fleet.store = fleet.another_store();
    fleet.client = Client::with_store(fleet.store.clone());
    let mut after = Vec::new();
    for id in ["late", "answered"] {
        after.extend(fleet.store.waits(id).await.unwrap());
    }
    assert_eq!(after, before);
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let _workers = three_workers(&fleet);
    assert_eq!(answer(&fleet, "late").await, "reserved 1 times, overdue");
    let ended = fleet.client.run("late").status().await.unwrap().unwrap();
    assert!(ended.finished_ms >= before[0].due_ms, "{ended:?}");

    let mut show =
        Process::start(std::path::Path::new(STEPFLEET), &["--redis", &fleet.redis.url, "show", "answered"], &[]);
    assert!(
        show.ended().await.success() && show.log().contains("the signal approval, in step order"),
        "{}",
        show.log()
    );
    fleet.client.run("answered").signal("approval", &"fine").await.unwrap();
    assert_eq!(answer(&fleet, "answered").await, "reserved 1 times, fine");
}
