//! What a wait costs: no attempt if its signal is there already, or comes during another call of the body.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Approval, Asked, InputRequired, LIMIT, count, counted, id, until, waiting};

/// A call that takes its time beside a wait.
struct Beside;

#[workflow(start = Asked, stop = Answered)]
impl Beside {
    #[step]
    async fn work(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        let slow = ctx.step("slow", || async {
            count(run, "begun");
            while counted(run, "let go") == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(7)
        });
        let (slow, answer) = tokio::try_join!(slow, ctx.wait_for::<u64>("answer"))?;
        Ok(Answered { answer: json!(slow + answer) })
    }
}

/// Waits for signals that are there already, in every way; then for one that is not, no longer than it must.
struct Served;

#[workflow(start = Asked, stop = Answered)]
impl Served {
    #[step]
    async fn gather(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        count(run, "bodies");
        let plain: u64 = ctx.wait_for("number").await?;
        let about: Approval = ctx.wait_for("approval").filter("by", "bob").await?;
        let word: String = ctx.ask("word", InputRequired { prompt: "A word?".into() }).await?;
        let pair = tokio::try_join!(ctx.wait_for::<u64>("number"), ctx.wait_for::<u64>("number"))?;
        let (last, slow) = tokio::join!(
            ctx.wait_for::<u64>("number").timeout(Duration::from_secs(3600)),
            ctx.step("slow", || async { Ok(count(run, "slow")) }),
        );
        let first: Option<Vec<Vote>> = ctx.collect("votes", 1, &Vote { n: ev.n }).await?;
        let late: Outcome<u64> = ctx.wait_for("number").timeout(Duration::ZERO).await;
        assert!(late.unwrap_err().is_overdue());
        let numbers = [plain, pair.0, pair.1, last?, slow?];
        Ok(Answered { answer: json!([numbers, about.by, word, first.unwrap().len()]) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Vote {
    n: u64,
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Beside)?.serve(Served)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_before_its_wait_costs_no_attempt() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "served");
            // They are in the inbox before the run exists.
            stage.client.start("served", &json!({})).id(id).delay(Duration::from_millis(300)).enqueue().await.unwrap();
            let run = stage.client.run(id.as_str());
            for n in [1, 2, 3, 4] {
                run.signal("number", &n).await.unwrap();
            }
            run.signal("approval", &json!({ "by": "ann" })).await.unwrap();
            run.signal("approval", &json!({ "by": "bob" })).await.unwrap();
            run.signal("word", &"otter").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!([[1, 2, 3, 4, 1], "bob", "otter", 1]));
            let history = stage.store.history(id, 0, 1000).await.unwrap();
            let attempts = history.iter().map(|record| record.attempt).max();
            assert_eq!((attempts, counted(id, "bodies"), counted(id, "slow")), (Some(1), 1, 1), "{history:?}");
            let count = |kind| history.iter().filter(|record| record.kind == kind).count();
            assert_eq!((count(Kind::Suspended), count(Kind::Overdue), count(Kind::Done)), (0, 1, 1), "{history:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_while_a_call_is_under_way_costs_no_attempt() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "beside-again");
            let run = stage.client.start("beside", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("answer", &30).await.unwrap();
            until(stage, id, Kind::Signal, 1).await;
            count(id, "let go");
            run.result::<Value>(LIMIT).await.unwrap();
            let history = stage.store.history(id, 0, 1000).await.unwrap();
            assert_eq!(history.iter().map(|record| record.attempt).max(), Some(1), "{history:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beside_a_wait_is_not_cut_off_and_the_wait_can_be_seen_meanwhile() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "beside");
            let run = stage.client.start("beside", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("answer", &30).await.unwrap();
            until(stage, id, Kind::Signal, 1).await;
            assert_eq!(stage.store.run(id).await.unwrap().unwrap().status, Status::Running);
            count(id, "let go");
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "begun")), (json!(37), 1));
        })
        .await;
}
