//! Transitions for which only Redis has the subject: its functions and groups, and a number that is set by hand,
//! because the memory store would take a million steps to reach it. All others are in `scenarios`, on both stores.

use std::time::Duration;

use stepfleet_integration_tests::double::{call, claim, emit, join_fleet, refill, start};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_shared::run::Status;

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_library_is_loaded_again_when_redis_has_lost_it() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    assert_eq!(claim(store, "a", 1, 1).await.len(), 1);
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("XGROUP")
        .arg("DESTROY")
        .arg("sf:{0}:queue:w:1")
        .arg("workers")
        .query_async(&mut redis)
        .await
        .unwrap();
    store.start(&start("s")).await.unwrap();
    assert_eq!(claim(store, "a", 2, 1).await.len(), 1, "the group was not made again");
}

#[tokio::test]
async fn a_run_that_loops_for_ever_comes_to_its_limit() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let mut redis = fleet.redis.connection().await;
    let _: u64 = redis::cmd("HSET").arg(&["sf:{0}:steps:r", "last", "999999"]).query_async(&mut redis).await.unwrap();
    let (_, held) = store.complete(&call("a", 2, false), &step, &emit(&["next"]), &refill(1)).await.unwrap();
    assert_eq!(held[0].fence.seq, 1_000_000);
    store.complete(&call("a", 3, false), &held[0], &emit(&["next"]), &refill(1)).await.unwrap();
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!(run.status, Status::Failed);
    assert!(run.error.unwrap().contains("its limit of 1000000 step executions"));
}
