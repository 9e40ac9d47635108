//! Idle workers are woken one by one, on both stores; and whatever happens to a woken worker, the step that it was woken for
//! is not stranded.

use std::time::Duration;

use stepfleet_integration_tests::double::{call, claim, complete, join_fleet, reap, refill, route, start, stop};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::step::{Claimed, Commit, Fan};
use stepfleet_shared::store::Store;

const HOUR: Duration = Duration::from_secs(3600);

async fn is_woken(store: &dyn Store, worker: &str) -> bool {
    store.wake_reader(worker).await.unwrap().next().await.unwrap()
}

/// Claims nothing, and is idle from then on.
async fn goes_idle(store: &dyn Store, worker: &str, number: u64) {
    assert!(claim(store, worker, number, 1).await.is_empty());
}

fn of(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|step| step.fence.run.as_str()).collect()
}

/// How many wake-ups each of these workers has not taken yet.
async fn unheard(fleet: &Fleet, workers: &[&str]) -> Vec<u64> {
    let mut redis = fleet.redis.connection().await;
    let mut unheard = Vec::new();
    for worker in workers {
        unheard.push(redis::cmd("LLEN").arg(format!("sf:{{0}}:wake:{worker}")).query_async(&mut redis).await.unwrap());
    }
    unheard
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_what_is_new_and_by_what_is_queued_again() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", HOUR).await;
        join_fleet(store, "b", HOUR).await;
        goes_idle(store, "a", 1).await;
        store.start(&start("r")).await.unwrap();
        assert!(is_woken(store, "a").await);
        assert_eq!(of(&claim(store, "a", 2, 1).await), ["r"]);

        goes_idle(store, "b", 1).await;
        assert!(store.deregister("a").await.unwrap());
        assert!(is_woken(store, "b").await, "what was handed back");
        assert_eq!(of(&claim(store, "b", 2, 1).await), ["r"]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_woken_and_dies_before_it_claims_strands_nothing() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    for worker in ["a", "b"] {
        join_fleet(store, worker, HOUR).await;
        goes_idle(store, worker, 1).await;
    }
    store.start(&start("r")).await.unwrap();
    let woken = unheard(&fleet, &["a", "b"]).await;
    assert_eq!(woken.iter().sum::<u64>(), 1, "one of them is enough: {woken:?}");
    let (dead, heir) = if woken[0] == 1 { ("a", "b") } else { ("b", "a") };
    assert!(is_woken(store, dead).await);
    // It claims nothing any more. The coordinator wakes another, whether it has noticed the death or not.
    store.reap(&reap(&[dead])).await.unwrap();
    assert!(is_woken(store, heir).await);
    assert_eq!(of(&claim(store, heir, 2, 1).await), ["r"]);
    let late = call(dead, 2, false);
    assert!(store.claim(&late, &stepfleet_shared::step::Claim::default()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_wake_up_that_nobody_heard_is_repeated() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", HOUR).await;
    goes_idle(store, "a", 1).await;
    let mut redis = fleet.redis.connection().await;
    store.start(&start("r")).await.unwrap();
    let deleted: u64 = redis::cmd("DEL").arg("sf:{0}:wake:a").query_async(&mut redis).await.unwrap();
    assert_eq!(deleted, 1);
    // A worker looks by itself after its wait, and is idle again if it gets nothing: here it was too early.
    let _: u64 = redis::cmd("SREM").arg("sf:{0}:ready").arg("w:1").query_async(&mut redis).await.unwrap();
    goes_idle(store, "a", 2).await;
    let _: u64 = redis::cmd("SADD").arg("sf:{0}:ready").arg("w:1").query_async(&mut redis).await.unwrap();
    store.reap(&reap(&[])).await.unwrap();
    assert!(is_woken(store, "a").await);
    assert_eq!(of(&claim(store, "a", 3, 1).await), ["r"]);
}

#[tokio::test]
async fn a_claim_that_leaves_some_wakes_the_next_and_so_on_until_all_is_claimed() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    let workers = ["a", "b", "c", "d"];
    for worker in workers {
        join_fleet(store, worker, HOUR).await;
        goes_idle(store, worker, 1).await;
    }
    join_fleet(store, "first", HOUR).await;
    // Many at once are one wake-up: the woken worker passes it on.
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "first", 1, 1).await.remove(0);
    // More workers may be woken than there is work for; they look, and are idle again.
    while let Some(at) = unheard(&fleet, &workers).await.iter().position(|unheard| *unheard > 0) {
        assert!(is_woken(store, workers[at]).await);
        goes_idle(store, workers[at], 2).await;
    }
    let fan = Some(Fan { joins: vec![], staged: 0 });
    let emits = (0..3u8).map(|n| (route("branch"), vec![1, n])).collect();
    let commit = Commit { emits, fan, retention: HOUR, ..Commit::default() };
    complete(store, &call("first", 2, false), &first, &commit, 0).await;
    assert_eq!(unheard(&fleet, &workers).await.iter().sum::<u64>(), 1);
    let mut claimed = 0;
    for number in 3..10 {
        let woken = unheard(&fleet, &workers).await;
        let Some(at) = woken.iter().position(|unheard| *unheard > 0) else { break };
        assert!(is_woken(store, workers[at]).await);
        claimed += claim(store, workers[at], number, 1).await.len();
    }
    assert_eq!(claimed, 3, "somebody went on sleeping");
}

#[tokio::test]
async fn a_worker_with_a_full_house_is_not_idle() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", HOUR).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    store.start(&start("s")).await.unwrap();
    assert_eq!(unheard(&fleet, &["a"]).await, [0], "it was woken and has no slot");
    let (_, next) = store.complete(&call("a", 2, false), &step, &stop(), &refill(1)).await.unwrap();
    assert_eq!(of(&next), ["s"]);
}
