//! Long steps that continue from their last checkpoint.

use std::sync::Mutex;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::testing;
use stepfleet_integration_tests::documents::STOPS;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};

use super::{Answered, Asked, LIMIT, WORKER};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_step_goes_on_at_the_document_that_it_had_reached() {
    const DOCUMENTS: u64 = 300;
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(3).await;
    let run = fleet.client.start("documents", &json!({"n": DOCUMENTS})).id("long").enqueue().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    for stop in STOPS {
        let victim = wait_for_arrival(&mut redis, "long").await;
        let snapshot = run.snapshot().await.unwrap().unwrap();
        assert_eq!(snapshot.context["done"], stop - 1, "others see what was committed");
        let at = workers.iter().position(|worker| worker.id() == victim).unwrap();
        workers.remove(at).kill();
        wait_for_arrival(&mut redis, "long").await;
        let_go(&mut redis, "long", 1).await;
    }
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "300 read, attempt 3");
    let read: Vec<u64> = redis::cmd("LRANGE").arg("read:long").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    // Only the document that was being read when its worker died was read twice.
    let mut expected: Vec<u64> = (1..=DOCUMENTS).chain(STOPS).collect();
    expected.sort_unstable();
    assert_eq!(read, expected);
}

/// The same in memory: its worker dies before or after a checkpoint takes effect.
struct Reader;

static READ: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[workflow(start = Asked, stop = Answered)]
impl Reader {
    #[step]
    async fn read(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let from: u64 = ctx.state().get("done").await?.unwrap_or(0);
        for document in from + 1..=ev.n {
            READ.lock().unwrap().push(document);
            ctx.state().incr("done", 1).await?;
            ctx.checkpoint().await?;
        }
        Ok(Answered { answer: json!(ctx.attempt()) })
    }
}

#[tokio::test]
async fn a_long_step_goes_on_at_the_document_that_it_had_reached_in_memory() {
    let setup = testing::run(Reader).crash_before_commit("read", 150).crash_after_commit("read", 220);
    let run = setup.start(&Asked { n: 300 }).await;
    assert_eq!(run.result::<Answered>().answer, 3);
    let mut expected: Vec<u64> = (1..=300).chain([150]).collect();
    expected.sort_unstable();
    assert_eq!(*READ.lock().unwrap(), expected);
}
