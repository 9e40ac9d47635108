//! A Redis that would lose work: neither workers nor coordinators start on it, unless told to.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

/// One fault, the words of the refusal, and how to override it.
struct Fault {
    settings: &'static [&'static str],
    found: &'static str,
    flag: &'static str,
    setting: &'static str,
}

const EVICTING: Fault = Fault {
    settings: &["--maxmemory-policy", "allkeys-lru"],
    found: "maxmemory-policy is allkeys-lru: when memory runs short, Redis would silently delete runs",
    flag: "--allow-eviction",
    setting: "STEPFLEET_ALLOW_EVICTION",
};

const UNPERSISTED: Fault = Fault {
    settings: &["--appendonly", "no"],
    found: "the append-only file is off: when Redis restarts, runs since its last snapshot are gone",
    flag: "--allow-unpersisted",
    setting: "STEPFLEET_ALLOW_UNPERSISTED",
};

async fn ends_with_refusal(worker: &mut Process, fault: &Fault) {
    assert!(!worker.ended().await.success(), "a worker started: {}", worker.log());
    let log = worker.log();
    let how = format!("set {}=1", fault.setting);
    assert!(log.contains("refusing to start") && log.contains(fault.found) && log.contains(&how), "{log}");
}

async fn is_refused_until_overridden(fault: Fault) {
    let fleet = Fleet::on(TestRedis::start_with(fault.settings).await);
    ends_with_refusal(&mut fleet.worker(WORKER, &[]), &fault).await;
    ends_with_refusal(&mut fleet.worker(WORKER, &[(fault.setting, "0")]), &fault).await;
    let mut mistyped = fleet.worker(WORKER, &[(fault.setting, "maybe")]);
    assert!(!mistyped.ended().await.success());
    assert!(mistyped.log().contains("must be 1 or 0"), "{}", mistyped.log());
    let refused = Command::new(STEPFLEET)
        .arg("coordinator")
        .env("STEPFLEET_REDIS", &fleet.redis.url)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(fault.found) && said.contains(fault.flag), "{said}");
    assert!(fleet.store.workers().await.unwrap().is_empty(), "a refused worker has registered");

    let worker = fleet.worker(WORKER, &[(fault.setting, "1")]);
    let settings = [("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("RUST_LOG", "info")];
    let coordinator = Process::start(STEPFLEET.as_ref(), &["coordinator", fault.flag], &settings);
    goes_through(&fleet).await;
    for process in [&worker, &coordinator] {
        assert!(process.log().contains(fault.found), "it does not warn: {}", process.log());
    }
}

async fn goes_through(fleet: &Fleet) {
    let run = fleet.client.start("squares", &json!({ "count": 3 })).enqueue().await.unwrap();
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["sum"], 14);
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused_until_overridden() {
    is_refused_until_overridden(EVICTING).await;
}

#[tokio::test]
async fn a_redis_that_persists_nothing_is_refused_until_overridden() {
    is_refused_until_overridden(UNPERSISTED).await;
}

#[tokio::test]
async fn a_worker_waits_for_a_redis_that_is_not_there_yet_and_judges_it_then() {
    let mut redis = TestRedis::process_with(EVICTING.settings).await;
    redis.kill();
    let mut fleet = Fleet::on(redis);
    let mut refused = fleet.worker(WORKER, &[]);
    let worker = fleet.worker(WORKER, &[(EVICTING.setting, "1")]);
    for process in [&refused, &worker] {
        until(async || process.log().contains("waiting for Redis")).await;
    }
    fleet.redis.start_again().await;
    ends_with_refusal(&mut refused, &EVICTING).await;
    let _coordinator = fleet.coordinator();
    goes_through(&fleet).await;
}

#[tokio::test]
async fn a_redis_that_begins_to_evict_later_does_not_end_its_workers() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    let mut set = redis::cmd("CONFIG");
    let () = set.arg("SET").arg("maxmemory-policy").arg("allkeys-lru").query_async(&mut redis).await.unwrap();
    // After its lease is taken away, the worker registers again under a new id.
    let before = fleet.store.workers().await.unwrap()[0].id.clone();
    until(async || fleet.store.deregister(&before).await.unwrap()).await;
    until(async || fleet.store.workers().await.unwrap().first().is_some_and(|now| now.id != before)).await;
    goes_through(&fleet).await;
    assert!(worker.log().contains("the lease ran out"), "{}", worker.log());
}

#[tokio::test]
async fn a_redis_that_denies_info_is_not_refused() {
    let fleet = Fleet::new().await;
    let mut redis = fleet.redis.connection().await;
    let mut user = redis::cmd("ACL");
    let () = user
        .arg("SETUSER")
        .arg("quiet")
        .arg(&["on", ">secret", "~*", "&*", "+@all", "-info"])
        .query_async(&mut redis)
        .await
        .unwrap();
    let url = fleet.redis.url.replace("redis://", "redis://quiet:secret@");
    let worker = fleet.worker(WORKER, &[("STEPFLEET_REDIS", &url)]);
    let settings = [("STEPFLEET_REDIS", url.as_str()), ("RUST_LOG", "info")];
    let coordinator = Process::start(STEPFLEET.as_ref(), &["coordinator"], &settings);
    goes_through(&fleet).await;
    for process in [&worker, &coordinator] {
        assert!(process.log().contains("INFO does not say the maxmemory-policy"), "{}", process.log());
    }
    let doctor = Command::new(STEPFLEET).arg("doctor").env("STEPFLEET_REDIS", &url).output().expect("it starts");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && said.contains("INFO does not say"), "{doctor:?}");
}
