//! Connections that the server closes while nobody uses them: `CONFIG SET timeout`.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_shared::history::Kind;
use stepfleet_shared::store::CallerStore as _;
use tokio::sync::watch;

use super::{LIMIT, Namespace, RedisStore, STEPFLEET, WORKER, complaints, looped, until};

/// The shortest possible: two seconds at most.
async fn close_idle_connections(redis: &mut MultiplexedConnection) {
    let () = redis::cmd("CONFIG").arg("SET").arg("timeout").arg(1).query_async(redis).await.unwrap();
}

/// The ids of connections whose line has this.
async fn connections(redis: &mut MultiplexedConnection, what: &str) -> Vec<String> {
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(redis).await.unwrap();
    let of = list.lines().filter(|line| line.contains(what) && !line.contains("cmd=client"));
    of.filter_map(|line| Some(line.split(' ').next()?.strip_prefix("id=")?.to_owned())).collect()
}

#[tokio::test]
async fn each_call_of_a_caller_whose_connection_was_closed_goes_through_at_the_first_try() {
    let fleet = Fleet::new().await;
    let mut levers = fleet.redis.connection().await;
    close_idle_connections(&mut levers).await;
    // It makes one try; a client would repeat it.
    let caller = RedisStore::new(&fleet.redis.url, Namespace::default()).unwrap();
    for n in 1..=3 {
        caller.enqueue(&[(b"op".to_vec(), b"start".to_vec())]).await.unwrap();
        let entries: u64 = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut levers).await.unwrap();
        assert_eq!(entries, n);
        assert_eq!(connections(&mut levers, "id=").await.len(), 1);
        until(async || connections(&mut levers, "id=").await.is_empty()).await;
    }
}

/// Whether the step may end.
static MAY_END: std::sync::LazyLock<watch::Sender<bool>> = std::sync::LazyLock::new(|| watch::Sender::new(false));

#[durable(retries = 0)]
async fn waiting(ctx: &Context, _input: ()) -> Outcome<u32> {
    MAY_END.subscribe().wait_for(|may| *may).await?;
    Ok(ctx.attempt())
}

/// Its connection would be idle for ten seconds between two heartbeats, and a worker with a closed connection counts as dead.
#[tokio::test]
async fn a_worker_whose_lease_connection_is_closed_makes_another_and_is_not_given_up() {
    let both = Both::new(|worker| worker.serve(waiting::workflow())).workers(0);
    both.play_on_redis(async |stage| {
        let mut levers = stage.redis.as_ref().unwrap().connection().await;
        close_idle_connections(&mut levers).await;
        stage.add_worker_on(stage.another_store(), Duration::from_secs(30));
        stage.workers_ready(1).await;
        let run = stage.client.start("waiting", &json!(null)).enqueue().await.unwrap();
        let worker = stage.store.workers().await.unwrap().remove(0).id;
        let lease = format!("name=stepfleet-lease-{worker} ");
        // Coordinators know it, so they would see its end.
        let client = async || stage.store.workers().await.unwrap().first().map_or(0, |worker| worker.client);
        until(async || client().await != 0).await;
        let first = client().await.to_string();
        until(async || connections(&mut levers, &lease).await.iter().any(|id| *id != first)).await;
        // It would have been reaped by the time that this one is known.
        until(async || client().await.to_string() != first).await;
        MAY_END.send_replace(true);
        assert_eq!(run.result::<u32>(LIMIT).await.unwrap(), 1, "it is the first attempt");
        let history = stage.store.history(run.id(), 0, 100).await.unwrap();
        assert!(!history.iter().any(|record| record.kind == Kind::Lost), "{history:?}");
        assert_eq!(stage.store.workers().await.unwrap()[0].id, worker);
    })
    .await;
}

/// While it is busy, the connection for its wake-ups is idle.
#[tokio::test]
async fn a_worker_whose_idle_connections_are_closed_logs_nothing_and_goes_on() {
    let fleet = Fleet::new().await;
    let mut levers = fleet.redis.connection().await;
    close_idle_connections(&mut levers).await;
    // Users distinguish the connections.
    let rules = ["on", ">secret", "~*", "&*", "+@all"];
    let () = redis::cmd("ACL").arg("SETUSER").arg("worker").arg(&rules).query_async(&mut levers).await.unwrap();
    let url = fleet.redis.url.replace("redis://", "redis://worker:secret@");
    let settings = [("STEPFLEET_CONCURRENCY", "1"), ("STEPFLEET_REDIS", &url), ("TEST_LEVERS", &fleet.redis.url)];
    let worker = fleet.worker(WORKER, &settings);
    let coordinator = fleet.coordinator_process(STEPFLEET);
    fleet.workers_ready(1).await;
    let wakes = "name=stepfleet-idle-";
    until(async || connections(&mut levers, wakes).await.len() == 1).await;
    let mut held = Vec::new();
    for id in ["first", "second"] {
        held.push(fleet.client.start("gated", &json!({})).id(id).enqueue().await.unwrap());
        wait_for_arrival(&mut fleet.redis.connection().await, id).await;
        // The connection for its commits is closed too: only that of its lease is left.
        until(async || connections(&mut levers, "user=worker ").await.len() == 1).await;
        let_go(&mut levers, id, 1).await;
        let end: Value = held[held.len() - 1].result(LIMIT).await.unwrap();
        assert_eq!(end["answer"], "attempt 1 after None");
        until(async || connections(&mut levers, wakes).await.len() == 1).await;
    }
    looped(&fleet.client.start("loop", &json!({ "n": 3 })).enqueue().await.unwrap(), 3).await;
    for process in [&worker, &coordinator] {
        assert_eq!(complaints(process), Vec::<String>::new());
    }
    let output = std::process::Command::new(STEPFLEET).args(["--redis", &fleet.redis.url, "doctor"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && told.contains("are closed after 1 s") && told.contains("CONFIG SET timeout 0"),
        "{told}"
    );
}
