//! Workers that are killed between the calls of a durable function, while a call waits to be tried again, and in a sleep.

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use stepfleet_integration_tests::durable::TRIES;
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;

use super::LIMIT;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

async fn done(redis: &mut MultiplexedConnection, run: &str, what: &str) -> u32 {
    redis.get::<_, Option<u32>>(format!("done:{run}:{what}")).await.unwrap().unwrap_or(0)
}

/// Waits until a body waits only for a timer of this kind.
async fn waits_for(run: &RunHandle, what: &str) {
    until(async || run.waits().await.unwrap().iter().any(|wait| wait.name.contains(what))).await;
}

fn three(fleet: &Fleet) -> Vec<Process> {
    (0..3).map(|_| fleet.worker(WORKER, &[])).collect()
}

#[tokio::test]
async fn whoever_is_killed_between_two_calls_in_a_delay_and_in_a_sleep_does_nothing_twice() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers = three(&fleet);
    fleet.workers_ready(3).await;
    let run = fleet.client.start("steady", &1500u64).id("steady").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    // Between the first call and the second.
    let victim = wait_for_arrival(&mut redis, "steady").await;
    let at = workers.iter().position(|worker| worker.id() == victim).expect("one of the workers");
    workers.remove(at).kill();
    assert_ne!(wait_for_arrival(&mut redis, "steady").await, victim);
    let_go(&mut redis, "steady", 1).await;
    for (what, gate) in [("retry", true), ("sleep", true)] {
        waits_for(&run, what).await;
        workers.iter_mut().for_each(Process::kill);
        workers = three(&fleet);
        // Each attempt passes the gate again; their number is not known.
        if gate {
            let_go(&mut redis, "steady", 16).await;
        }
    }
    let (id, error, slept): (String, String, bool) = run.result(LIMIT).await.unwrap();
    assert_eq!((id.len(), error, slept), (36, format!("it failed {TRIES} times"), true));
    for (what, times) in [("first", 1), ("second", 1), ("hopeless", TRIES), ("last", 1)] {
        assert_eq!(done(&mut redis, "steady", what).await, times, "{what}");
    }
}

#[tokio::test]
async fn a_body_that_awaits_what_is_not_recorded_is_warned_of_once() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let worker = fleet.worker(WORKER, &[("RUST_LOG", "warn")]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    // The gate is in the body of the one, and within a recorded call of the other.
    for (workflow, id, input) in
        [("steady", "one", json!(0)), ("steady", "two", json!(0)), ("telling", "three", json!({ "wavers": false }))]
    {
        let run = fleet.client.start(workflow, &input).id(id).enqueue().await.unwrap();
        wait_for_arrival(&mut redis, id).await;
        until(async || workflow == "telling" || worker.log().contains("awaits a future")).await;
        let_go(&mut redis, id, 16).await;
        run.wait(LIMIT).await.unwrap();
    }
    let log = worker.log();
    assert_eq!(log.matches("awaits a future that is not Stepfleet's").count(), 1, "{log}");
    assert!(
        log.contains("step steady of workflow steady version 1 awaits") && log.contains("after call #2, `first`"),
        "{log}"
    );
}
