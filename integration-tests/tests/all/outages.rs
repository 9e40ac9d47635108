//! Redis comes and goes, forgets, refuses and is slow: workers and coordinators recover by themselves, no run is
//! stranded, and the logs say once what happened.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::proxy::Proxy;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(120);

struct Cast {
    fleet: Fleet,
    workers: Vec<Process>,
    coordinators: Vec<Process>,
}

impl Cast {
    async fn on(redis: TestRedis) -> Self {
        let fleet = Fleet::on(redis);
        let workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4")])).collect();
        let coordinators = (0..2).map(|_| fleet.coordinator_process(STEPFLEET)).collect();
        fleet.workers_ready(workers.len()).await;
        Self { fleet, workers, coordinators }
    }

    /// Enough work to last for a while.
    async fn load(&self, runs: usize) -> Vec<RunHandle> {
        let mut handles = Vec::new();
        for n in 0..runs {
            let run = self.fleet.client.start("loop", &json!({ "n": 300 })).id(format!("load-{n}"));
            handles.push(run.enqueue().await.unwrap());
        }
        until(async || self.fleet.store.history("load-0", 0, 30).await.unwrap().len() >= 30).await;
        handles
    }

    async fn history_grows_by(&self, records: u64) {
        let mut redis = self.fleet.redis.connection().await;
        let mut length = redis::cmd("LLEN");
        length.arg("sf:{0}:history:load-0");
        let before: u64 = length.query_async(&mut redis).await.unwrap();
        until(async || length.query_async::<u64>(&mut redis).await.unwrap() >= before + records).await;
    }

    async fn all_end_well(&self, runs: &[RunHandle]) {
        for run in runs {
            let end: Value = run.result(LIMIT).await.unwrap_or_else(|e| panic!("{}: {e}", run.id()));
            assert_eq!(end["answer"], "301", "{}", run.id());
        }
    }

    /// Not a line for each try.
    fn assert_no_flood(&self) {
        for process in self.workers.iter().chain(&self.coordinators) {
            let log = process.log();
            let complaints = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).count();
            assert!(complaints < 30, "{complaints} complaints:\n{log}");
        }
    }
}

#[tokio::test]
async fn redis_is_killed_under_load_and_comes_back_with_its_append_only_file() {
    let mut cast = Cast::on(TestRedis::process().await).await;
    let runs = cast.load(8).await;
    for _ in 0..3 {
        cast.fleet.redis.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        cast.fleet.redis.start_again().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    cast.all_end_well(&runs).await;
    cast.assert_no_flood();
}

/// As after a kill during a slow fsync, or a failover to a replica that was behind: what Redis had acknowledged in its
/// last moments is lost, and the workers, alive and well, do not know.
#[tokio::test]
async fn redis_comes_back_without_its_last_moments() {
    let mut cast = Cast::on(TestRedis::process().await).await;
    let runs = cast.load(8).await;
    for _ in 0..2 {
        let files = cast.fleet.redis.copy_answered_files().await;
        let grown = tokio::time::timeout(LIMIT, cast.history_grows_by(20)).await;
        grown.expect("the run goes on");
        cast.fleet.redis.kill();
        cast.fleet.redis.start_again_from(files).await;
    }
    cast.all_end_well(&runs).await;
    assert!(cast.workers.iter().any(|worker| worker.log().contains("commit was rejected")), "Redis forgot nothing");
    cast.assert_no_flood();
}

#[tokio::test]
async fn redis_refuses_connections_for_longer_than_any_lease() {
    let mut cast = Cast::on(TestRedis::process().await).await;
    let runs = cast.load(4).await;
    cast.fleet.redis.kill();
    tokio::time::sleep(Duration::from_secs(30)).await;
    cast.fleet.redis.start_again().await;
    cast.all_end_well(&runs).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn functions_groups_and_blocked_readers_vanish_under_load() {
    let cast = Cast::on(TestRedis::start().await).await;
    let runs = cast.load(8).await;
    let mut redis = cast.fleet.redis.connection().await;
    for _ in 0..5 {
        let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
        for stream in ["queue:loop:3", "requeued:loop:3", "inbox"] {
            let group = if stream == "inbox" { "coordinators" } else { "workers" };
            let key = format!("sf:{{0}}:{stream}");
            let _: u32 = redis::cmd("XGROUP").arg("DESTROY").arg(key).arg(group).query_async(&mut redis).await.unwrap();
        }
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
        for line in list.lines().filter(|line| line.contains("name=stepfleet-")) {
            let id = line.split(' ').next().unwrap().trim_start_matches("id=");
            let _: u32 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut redis).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    cast.all_end_well(&runs).await;
    // Idle workers read again too.
    let late = cast.fleet.client.start("loop", &json!({ "n": 300 })).id("late").enqueue().await.unwrap();
    cast.all_end_well(&[late]).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn everything_is_flushed_and_new_work_goes_through() {
    let cast = Cast::on(TestRedis::start().await).await;
    cast.load(4).await;
    let mut redis = cast.fleet.redis.connection().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    let after = cast.fleet.client.start("loop", &json!({ "n": 300 })).id("after").enqueue().await.unwrap();
    cast.all_end_well(&[after]).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn redis_is_out_of_memory_for_a_while() {
    let cast = Cast::on(TestRedis::start().await).await;
    let runs = cast.load(8).await;
    let mut redis = cast.fleet.redis.connection().await;
    let () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").query_async(&mut redis).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = cast.fleet.client.start("loop", &json!({ "n": 1 })).enqueue().await.map(|r| r.id().to_owned());
    let error = refused.unwrap_err();
    assert!(error.is_out_of_memory(), "{error:?}");
    let () = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").query_async(&mut redis).await.unwrap();
    cast.all_end_well(&runs).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn a_redis_that_answers_two_seconds_late_is_slow_and_not_dead() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let proxy = Proxy::to(&fleet.redis.url).await;
    // Slow from the beginning: the worker also connects and registers slowly.
    proxy.delay(Duration::from_secs(2));
    let worker = fleet.worker(WORKER, &[("STEPFLEET_REDIS", proxy.url.as_str())]);
    let run = fleet.client.start("chain", &json!({ "n": 1 })).id("slow").enqueue().await.unwrap();
    let ended = run.wait(LIMIT).await.unwrap();
    assert_eq!(ended.status, Status::Completed);
    let history = fleet.store.history("slow", 0, 100).await.unwrap();
    assert_eq!(history.len(), 5, "start, three steps, completed; nothing lost: {history:?}");
    assert!(!worker.log().contains("WARN"), "{}", worker.log());
}
