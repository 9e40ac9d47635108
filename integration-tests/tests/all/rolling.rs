//! A fleet is replaced while runs are active: by another build of Stepfleet, whose functions have other names, and back.

use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::renaming::Renaming;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

/// A coordinator and a worker of one build.
struct Build {
    coordinator: Process,
    worker: Process,
}

impl Build {
    fn at(url: &str, levers: &str) -> Self {
        let settings = [("STEPFLEET_REDIS", url), ("TEST_LEVERS", levers), ("RUST_LOG", "info")];
        let coordinator = Process::start(Path::new(STEPFLEET), &["coordinator"], &settings);
        Self { coordinator, worker: Process::start(Path::new(WORKER), &[], &settings) }
    }

    /// Stops it as a platform does. On the second signal, the worker hands back steps that cannot end.
    async fn stop(&mut self) {
        for process in [&mut self.coordinator, &mut self.worker] {
            process.signal(Signal::TERM);
        }
        stepfleet_integration_tests::until(async || self.worker.log().contains("signal again")).await;
        self.worker.signal(Signal::TERM);
        assert!(self.worker.ended().await.success(), "{}", self.worker.log());
        assert!(self.coordinator.ended().await.success(), "{}", self.coordinator.log());
    }
}

async fn libraries(redis: &mut MultiplexedConnection) -> Vec<String> {
    let listed: Vec<redis::Value> = redis::cmd("FUNCTION").arg("LIST").query_async(redis).await.unwrap();
    let name = |library: redis::Value| {
        let values: Vec<redis::Value> = redis::from_redis_value(library).unwrap();
        redis::from_redis_value::<String>(values[1].clone()).unwrap()
    };
    listed.into_iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_serve_one_namespace_and_either_goes_on_with_what_the_other_began() {
    let fleet = Fleet::new().await;
    let mut redis = fleet.redis.connection().await;
    let (renaming, direct) = (Renaming::to(&fleet.redis.url).await, fleet.redis.url.clone());
    let mut old = Build::at(&renaming.url, &direct);
    fleet.workers_ready(1).await;
    assert_eq!(libraries(&mut redis).await, [Renaming::library()]);
    let early = fleet.client.start("steady", &0u64).id("early").enqueue().await.unwrap();
    wait_for_arrival(&mut redis, "early").await;

    // Both run for a while, and take runs side by side.
    let mut new = Build::at(&direct, &direct);
    fleet.workers_ready(2).await;
    let squares = json!({ "count": 40 });
    let mut beside = Vec::new();
    for _ in 0..20 {
        beside.push(fleet.client.start("squares", &squares).enqueue().await.unwrap());
    }
    for run in &beside {
        let result: Value = run.result(LIMIT).await.unwrap();
        assert_eq!(result["sum"], 22_140);
    }
    let both = libraries(&mut redis).await;
    assert!(both.len() == 2 && both.contains(&Renaming::library()), "{both:?}");

    old.stop().await;
    wait_for_arrival(&mut redis, "early").await;
    let late = fleet.client.start("steady", &0u64).id("late").enqueue().await.unwrap();
    wait_for_arrival(&mut redis, "late").await;
    let_go(&mut redis, "early", 16).await;
    assert_eq!(early.wait(LIMIT).await.unwrap().status, Status::Completed);

    // And back, as after a failed upgrade.
    let _old = Build::at(&renaming.url, &direct);
    fleet.workers_ready(2).await;
    new.stop().await;
    wait_for_arrival(&mut redis, "late").await;
    let_go(&mut redis, "late", 16).await;
    assert_eq!(late.wait(LIMIT).await.unwrap().status, Status::Completed);
    for run in ["early", "late"] {
        for what in ["first", "second", "last"] {
            let done: u32 = redis::cmd("GET").arg(format!("done:{run}:{what}")).query_async(&mut redis).await.unwrap();
            assert_eq!(done, 1, "{run} {what}");
        }
    }
}
