//! Runs that continue only once Redis has confirmed that their progress is safe: on replicas, and on disk.

use std::process::Command;
use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::json;
use stepfleet::Worker;
use stepfleet::prelude::*;
use stepfleet_integration_tests::fleet::{Fleet, InProcess, Process, Signal};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::{found, until};
use stepfleet_shared::durability::Durability;
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

/// A fleet at work whose Redis has a replica, and what its steps do outside.
struct Replicated {
    fleet: Fleet,
    replica: TestRedis,
    levers: TestRedis,
    worker: Process,
    _coordinator: InProcess,
}

impl Replicated {
    async fn new() -> Self {
        let (fleet, replica) = (Fleet::on(TestRedis::process().await), TestRedis::process().await);
        let levers = TestRedis::process().await;
        let (host, port) = fleet.redis.url.trim_start_matches("redis://").split_once(':').expect("host and port");
        let mut follows = redis::cmd("REPLICAOF");
        let () = follows.arg(host).arg(port).query_async(&mut replica.connection().await).await.unwrap();
        let mut redis = fleet.redis.connection().await;
        until(async || info(&mut redis, "replication").await.contains("state=online")).await;
        let settings = [
            ("TEST_LEVERS", levers.url.as_str()),
            ("STEPFLEET_CONCURRENCY", "1"),
            // Work that is not in the journal would be done again.
            ("STEPFLEET_KEEPS", "0"),
        ];
        let (coordinator, worker) = (fleet.coordinator(), fleet.worker(WORKER, &settings));
        fleet.workers_ready(1).await;
        Self { fleet, replica, levers, worker, _coordinator: coordinator }
    }

    /// Connections to the Redis, and to what the steps do outside.
    async fn looks(&self) -> (MultiplexedConnection, MultiplexedConnection) {
        (self.fleet.redis.connection().await, self.levers.connection().await)
    }

    /// A run that waits for the replica, which is stopped.
    async fn held_up(&self, redis: &mut MultiplexedConnection) {
        self.replica.signal(Signal::STOP);
        ask(redis, "steady", "safe", &[("durability", "replicas:1")]).await;
        somebody_waits(redis, "wait").await;
    }
}

async fn info(redis: &mut MultiplexedConnection, section: &str) -> String {
    redis::cmd("INFO").arg(section).query_async(redis).await.unwrap()
}

/// Waits until a client waits for a confirmation.
async fn somebody_waits(redis: &mut MultiplexedConnection, command: &str) {
    let waits = format!("cmd={command} ");
    until(async || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
        clients.lines().any(|client| client.contains("stepfleet-durability") && client.contains(&waits))
    })
    .await;
}

/// The request of any Redis client.
async fn ask(redis: &mut MultiplexedConnection, workflow: &str, id: &str, more: &[(&str, &str)]) {
    let mut fields = vec![("op", "start"), ("workflow", workflow), ("id", id), ("input", "0")];
    fields.extend_from_slice(more);
    let _: String = redis.xadd("sf:{0}:inbox", "*", &fields).await.unwrap();
}

async fn done(levers: &mut MultiplexedConnection, run: &str, what: &str) -> u32 {
    levers.get::<_, Option<u32>>(format!("done:{run}:{what}")).await.unwrap().unwrap_or(0)
}

#[tokio::test]
async fn a_body_begins_only_once_the_replicas_have_confirmed_what_led_to_it() {
    let stage = Replicated::new().await;
    let (mut redis, mut levers) = stage.looks().await;
    stage.held_up(&mut redis).await;
    assert_eq!(done(&mut levers, "safe", "first").await, 0, "its body has begun");
    stage.replica.signal(Signal::CONT);
    wait_for_arrival(&mut levers, "safe").await;
    assert_eq!(done(&mut levers, "safe", "first").await, 1);
    let run = stage.fleet.client.run("safe").status().await.unwrap().unwrap();
    assert_eq!(run.durability, Some(Durability::Replicas(1)));
    let_go(&mut levers, "safe", 16).await;
    let ended = stage.fleet.client.run("safe").wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed);
}

#[tokio::test]
async fn a_run_that_is_cancelled_while_it_waits_for_a_confirmation_frees_its_slot() {
    let stage = Replicated::new().await;
    let (mut redis, mut levers) = stage.looks().await;
    stage.held_up(&mut redis).await;
    stage.fleet.client.run("safe").cancel().await.unwrap();
    ask(&mut redis, "steady", "other", &[]).await;
    wait_for_arrival(&mut levers, "other").await;
    assert_eq!(done(&mut levers, "safe", "first").await, 0);
    stage.replica.signal(Signal::CONT);
    let_go(&mut levers, "other", 16).await;
    let ended = stage.fleet.client.run("other").wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed);
}

#[tokio::test]
async fn a_caller_is_answered_once_its_request_is_safe() {
    let stage = Replicated::new().await;
    let (mut redis, _) = stage.looks().await;
    stage.replica.signal(Signal::STOP);
    let start = stage.fleet.client.start("steady", &0u64).id("safe").durability(Durability::Replicas(1));
    let mut enqueued = tokio::spawn(start.enqueue());
    somebody_waits(&mut redis, "wait").await;
    assert!(futures_util::poll!(&mut enqueued).is_pending(), "it was answered before");
    stage.replica.signal(Signal::CONT);
    assert_eq!(enqueued.await.unwrap().unwrap().id(), "safe");
}

/// A server that has lost the record of a call confirms it: the worker records it again.
#[tokio::test]
async fn what_a_server_has_lost_before_it_was_confirmed_is_recorded_again() {
    let mut stage = Replicated::new().await;
    let (mut redis, mut levers) = stage.looks().await;
    ask(&mut redis, "steady", "safe", &[("durability", "replicas:1")]).await;
    // Its first call is recorded and confirmed.
    wait_for_arrival(&mut levers, "safe").await;
    stage.replica.signal(Signal::STOP);
    let files = stage.fleet.redis.copy_answered_files().await;
    let_go(&mut levers, "safe", 16).await;
    until(async || done(&mut levers, "safe", "second").await == 1).await;
    somebody_waits(&mut redis, "wait").await;
    stage.fleet.redis.kill();
    stage.fleet.redis.start_again_from(files).await;
    stage.replica.signal(Signal::CONT);
    let ended = stage.fleet.client.run("safe").wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed, "{}", stage.worker.log());
    for what in ["first", "second", "last"] {
        assert_eq!(done(&mut levers, "safe", what).await, 1, "{what} was done again");
    }
}

#[tokio::test]
async fn more_replicas_than_there_are_are_refused_with_the_reason() {
    let fleet = Fleet::on(TestRedis::process().await);
    let _coordinator = fleet.coordinator();
    let levers = fleet.redis.url.clone();
    let _worker = fleet.worker(WORKER, &[("TEST_LEVERS", levers.as_str())]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    ask(&mut redis, "steady", "bold", &[("durability", "replicas:2")]).await;
    let run = found(async || fleet.client.run("bold").status().await.unwrap()).await;
    assert_eq!(run.status, Status::Rejected);
    let told = run.error.unwrap();
    assert_eq!(
        told,
        "it asks for durability replicas:2, but the server has 0 connected replicas: see INFO replication"
    );
    ask(&mut redis, "steady", "odd", &[("durability", "replicas(2)")]).await;
    let run = found(async || fleet.client.run("odd").status().await.unwrap()).await;
    assert!(run.error.unwrap().contains("use none, fsync, or replicas:1"));
}

#[durable(durability = "fsync")]
async fn synced(ctx: &Context, (): ()) -> Outcome<u8> {
    ctx.step("one", || async { Ok(1) }).await
}

/// On a server with `WAITAOF` the run waits for the disk; on another one no worker starts.
#[tokio::test]
async fn durability_on_disk_waits_for_the_disk_or_is_refused() {
    let fleet = Fleet::on(TestRedis::process_with(&["--appendfsync", "no"]).await);
    let _coordinator = fleet.coordinator();
    fleet.store.open().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let known: redis::Value = redis::cmd("COMMAND").arg("INFO").arg("WAITAOF").query_async(&mut redis).await.unwrap();
    let knows = !matches!(known, redis::Value::Array(ref commands) if commands[0] == redis::Value::Nil);
    let worker = Worker::connect(&fleet.redis.url).unwrap().serve(synced::workflow()).unwrap();
    let worker = tokio::spawn(worker.run_until(std::future::pending()));
    if !knows {
        let refused = worker.await.unwrap().unwrap_err().to_string();
        assert!(refused.contains("workflow synced") && refused.contains("has no WAITAOF"), "{refused}");
        let levers = fleet.redis.url.clone();
        let _worker = fleet.worker(WORKER, &[("TEST_LEVERS", levers.as_str())]);
        fleet.workers_ready(1).await;
        ask(&mut redis, "steady", "safe", &[("durability", "fsync")]).await;
        let run = found(async || fleet.client.run("safe").status().await.unwrap()).await;
        assert_eq!(run.status, Status::Rejected);
        assert!(run.error.unwrap().contains("use Redis 7.2 or later, or Valkey"));
        return;
    }
    fleet.workers_ready(1).await;
    let run = fleet.client.start("synced", &()).enqueue().await.unwrap();
    somebody_waits(&mut redis, "waitaof").await;
    let () = redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("always").query_async(&mut redis).await.unwrap();
    assert_eq!(run.result::<u8>(LIMIT).await.unwrap(), 1);
    let shown = Command::new(STEPFLEET).args(["show", run.id(), "--redis", &fleet.redis.url]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("fsync"), "{shown:?}");
    worker.abort();
    let asked = Command::new(STEPFLEET)
        .args(["start", "synced", "--input", "null", "--durability", "fsync", "--json", "--redis", &fleet.redis.url])
        .output()
        .unwrap();
    let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_ne!(asked["id"], json!(null));
}
