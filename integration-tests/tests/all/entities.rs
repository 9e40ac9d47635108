//! Entities on whole fleets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use stepfleet::prelude::*;
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::durable::{Counter, count};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;
use stepfleet_shared::Partitions;
use stepfleet_shared::client::Client;
use stepfleet_shared::entity::Address;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::store::{MemoryStore, Store, Topology};
use tokio_util::task::AbortOnDropHandle;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(120);
const RUNS: usize = 50;
/// Of each run.
const CALLS: u64 = 4;

/// Starts all of them, on the counter of this key.
async fn start(client: &Client, key: &str) -> Vec<stepfleet_shared::client::RunHandle> {
    let runs = (0..RUNS).map(|n| client.start("count", key).id(format!("{key}-{n}")).enqueue());
    join_all(runs).await.into_iter().map(Result::unwrap).collect()
}

/// Asserts that all have ended, and that each has counted as often as it should.
async fn check(client: &Client, key: &str, runs: &[stepfleet_shared::client::RunHandle]) {
    let ends = join_all(runs.iter().map(|run| run.result::<u64>(LIMIT))).await;
    let highest = ends.into_iter().map(Result::unwrap).max();
    let counter = client.entity::<Counter>(key).get().await.unwrap().unwrap();
    assert_eq!((counter.count, highest), (RUNS as u64 * CALLS, Some(RUNS as u64 * CALLS)));
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for run in counter.by {
        *by.entry(run).or_default() += 1;
    }
    assert_eq!(by.len(), RUNS);
    assert!(by.values().all(|times| *times == CALLS), "{by:?}");
}

#[tokio::test]
async fn many_runs_change_one_entity_at_once_and_lose_nothing() {
    Both::new(|worker| worker.serve(count::workflow()))
        .concurrency(16)
        .play(async |stage| {
            let runs = start(&stage.client, "c").await;
            check(&stage.client, "c", &runs).await;
        })
        .await;
}

#[tokio::test]
async fn many_runs_change_one_entity_while_their_workers_are_killed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let start_worker = || fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "16")]);
    let mut workers: Vec<Process> = (0..3).map(|_| start_worker()).collect();
    fleet.workers_ready(3).await;
    let runs = start(&fleet.client, "k").await;
    let counter = fleet.client.entity::<Counter>("k");
    for at_least in [20, 60, 110] {
        let is_there = async || counter.get().await.unwrap().is_some_and(|counter| counter.count >= at_least);
        until(is_there).await;
        workers.remove(0).kill();
        workers.push(start_worker());
    }
    check(&fleet.client, "k", &runs).await;
}

#[tokio::test]
async fn entities_are_in_the_partition_of_their_key_whoever_calls() {
    let redis = TestRedis::start().await;
    let store = |partition| Arc::new(MemoryStore::new(Namespace::new("sf", partition).unwrap())) as Arc<dyn Store>;
    let in_memory = Partitions::of_stores((0..4).map(store).collect());
    let on_redis = Partitions::open(&Topology::new(&redis.url).unwrap(), "sf", Some(4)).await.unwrap();
    for partitions in [in_memory, on_redis] {
        let coordinator = Coordinator::new(partitions.clone(), Config::default());
        let _coordinator = AbortOnDropHandle::new(tokio::spawn(async move {
            coordinator.run(std::future::pending()).await;
        }));
        let worker = Worker::new(partitions.clone(), stepfleet::runtime::Config::default());
        let worker = worker.serve(count::workflow()).unwrap();
        let _worker = AbortOnDropHandle::new(tokio::spawn(async move { worker.run().await.unwrap() }));
        let client = Client::with_store(partitions.clone());
        let runs: Vec<_> = (0..12).map(|n| client.start("count", "far").id(format!("r{n}")).enqueue()).collect();
        for run in join_all(runs).await {
            run.unwrap().result::<u64>(LIMIT).await.unwrap();
        }
        let home = partition_of("Counter:far", 4);
        for (n, store) in partitions.all().iter().enumerate() {
            let found = store.entity("Counter", "far").await.unwrap();
            assert_eq!(found.version, if n == usize::from(home) { 48 } else { 0 });
        }
        assert_eq!(client.entity::<Counter>("far").get().await.unwrap().unwrap().count, 48);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_runs_again_if_somebody_was_faster_and_has_one_effect() {
    Both::new(|worker| worker.serve(count::workflow()))
        .play(async |stage| {
            let counter = stage.client.entity::<Counter>("c");
            let tries = AtomicU64::new(0);
            let other = Address::of::<Counter>("c");
            // The other call comes in between, once.
            let now = tokio::runtime::Handle::current();
            let store = stage.another_store();
            let result = counter
                .call(|counter| {
                    if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                        let (store, other, now) = (store.clone(), other.clone(), now.clone());
                        let between = move || {
                            now.block_on(async {
                                let add = |counter: &mut Counter| counter.count += 10;
                                other
                                    .call(&*store as &dyn stepfleet_shared::store::EntityStore, "other", &add)
                                    .await
                                    .unwrap()
                            })
                        };
                        std::thread::spawn(between).join().unwrap();
                    }
                    counter.count += 1;
                    counter.count
                })
                .await;
            assert_eq!((result.unwrap(), tries.into_inner()), (11, 2));
            counter.clear().await.unwrap();
            assert!(counter.get().await.unwrap().is_none());
            assert_eq!(counter.call(|counter| counter.count).await.unwrap(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_run_of_an_id_that_was_used_before_makes_its_own_changes() {
    Both::new(|worker| worker.serve(count::workflow()))
        .play(async |stage| {
            for times in 1..=2 {
                // An id is free again once its run has expired.
                stage
                    .client
                    .start("count", "c")
                    .id("same")
                    .enqueue()
                    .await
                    .unwrap()
                    .result::<u64>(LIMIT)
                    .await
                    .unwrap();
                assert_eq!(stage.client.entity::<Counter>("c").get().await.unwrap().unwrap().count, times * CALLS);
                match (&stage.redis, &stage.memory) {
                    (Some(redis), _) => {
                        let mut connection = redis.connection().await;
                        for kind in ["run", "history", "input", "extra", "journal"] {
                            let key = format!("sf:{{0}}:{kind}:same");
                            let () = redis::cmd("DEL").arg(key).query_async(&mut connection).await.unwrap();
                        }
                    }
                    (None, Some(_)) => return,
                    (None, None) => unreachable!("one of them"),
                }
            }
        })
        .await;
}

#[tokio::test]
async fn the_command_line_shows_an_entity_as_json() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let counter = fleet.client.entity::<Counter>("user-7");
    counter.call(|counter| (counter.count, counter.by) = (7, vec!["ann".into()])).await.unwrap();
    let show = |key: &str| {
        let mut command = std::process::Command::new(STEPFLEET);
        command.args(["entity", "Counter", key]).env("STEPFLEET_REDIS", &fleet.redis.url).output().expect("it starts")
    };
    let shown: serde_json::Value = serde_json::from_slice(&show("user-7").stdout).unwrap();
    assert_eq!(shown, serde_json::json!({"count": 7, "by": ["ann"]}));
    let nothing = show("nobody");
    assert!(!nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no entity Counter nobody"), "{nothing:?}");
}
