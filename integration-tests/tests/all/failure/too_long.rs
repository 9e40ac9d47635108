//! Runs that take too long, and retries that wait longer than their fleet lives.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::found;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, LIMIT, answer, asked, result};

/// Never ends by itself.
struct Endless;

#[derive(Event, Serialize, Deserialize)]
struct Held {
    branch: u64,
}

#[workflow(start = Asked, stop = Answered, timeout = "3s")]
impl Endless {
    #[step]
    async fn split(&self, ev: Asked) -> Outcome<Vec<Held>> {
        Ok((0..ev.n).map(|branch| Held { branch }).collect())
    }

    #[step(backoff = "1h")]
    async fn hold(&self, ev: Held) -> Outcome<Option<Answered>> {
        if ev.branch == 0 {
            return Err(Error::msg("later"));
        }
        std::future::pending().await
    }

    #[step]
    async fn watch(&self, ev: Asked) -> Outcome<Answered> {
        if ev.how == "at once" { Ok(answer(json!("in time"))) } else { std::future::pending().await }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_names_its_active_steps() {
    Both::new(|worker| worker.serve(Endless))
        .play(async |stage| {
            let run = asked(stage, "endless", json!({ "how": "never", "n": 4 })).await;
            assert_eq!(run.status, Status::Failed);
            let expected = "the run did not end within its timeout of 3s; active steps: hold (3 running, 1 waiting to \
                            retry), watch (1 running)";
            let history = stage.store.history(&run.id, 0, 100).await.unwrap();
            assert_eq!(run.error.as_deref(), Some(expected), "{history:?}");
            // Its steps have stopped: their slots are free for others.
            for _ in 0..12 {
                let run = asked(stage, "endless", json!({ "how": "at once", "n": 0 })).await;
                assert_eq!(result(&run), "in time");
                has_no_timer(stage, &format!("timeout {}", run.id)).await;
            }
        })
        .await;
}

async fn has_no_timer(stage: &Stage, timer: &str) {
    let Some(redis) = &stage.redis else { return };
    let mut connection = redis.connection().await;
    let due: Option<u64> =
        redis::cmd("ZSCORE").arg("sf:{0}:timers").arg(timer).query_async(&mut connection).await.unwrap();
    assert_eq!(due, None, "{timer}");
}

/// Redis, the coordinator and all workers are killed while a retry waits for its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_delay_survives_that_everything_is_killed() {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let mut all: Vec<Process> = (0..3).map(|_| fleet_worker(&fleet)).collect();
    all.push(fleet.coordinator_process(env!("CARGO_BIN_EXE_test-stepfleet")));
    fleet.workers_ready(3).await;
    let run = fleet.client.start("patient", &json!({ "n": 4000 })).id("r").enqueue().await.unwrap();
    let retry = found(async || {
        let history = fleet.store.history("r", 0, 100).await.unwrap();
        history.into_iter().find(|record| record.kind == Kind::Retry)
    })
    .await;
    for process in &all {
        process.signal(Signal::KILL);
    }
    drop(all);
    fleet.redis.kill();
    fleet.redis.start_again().await;
    let mut all: Vec<Process> = (0..3).map(|_| fleet_worker(&fleet)).collect();
    all.push(fleet.coordinator_process(env!("CARGO_BIN_EXE_test-stepfleet")));
    let end: Value = run.result(LIMIT).await.unwrap();
    let history = fleet.store.history("r", 0, 100).await.unwrap();
    let done = history.iter().find(|record| record.kind == Kind::Done).unwrap();
    assert_eq!((done.attempt, history.iter().filter(|record| record.kind == Kind::Retry).count()), (2, 1));
    assert!(done.began_ms().unwrap() >= retry.at_ms + 4000, "{history:?}");
    assert_eq!(end["answer"], "attempt 2 after \"not yet\", 4s later: true");
}

fn fleet_worker(fleet: &Fleet) -> Process {
    fleet.worker(env!("CARGO_BIN_EXE_test-worker"), &[])
}
