//! A body that runs again after its wait goes the way that it went, or is told that it does not.

use serde_json::{Value, json};
use stepfleet::run::Status;
use stepfleet_integration_tests::both::Both;
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;

use super::{Answered, Asked, LIMIT, count, counted, id, waiting};

/// Goes on after an error, waits, and is not to be told anything else later.
struct Undeterred;

#[workflow(start = Asked, stop = Answered)]
impl Undeterred {
    #[step(retries = 0)]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let charge = async || match count(ctx.run_id(), "charge") {
            1 => Err(Error::msg("no money")),
            _ => Ok(()),
        };
        let Err(error) = ctx.step("charge", charge).await else { return Err(Terminal("it was tried again"))? };
        let word: String = ctx.wait_for("manual").await?;
        Ok(Answered { answer: json!([error.to_string(), word]) })
    }
}

/// Its code is another each time.
struct Fickle;

#[workflow(start = Asked, stop = Answered)]
impl Fickle {
    #[step]
    async fn change(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let name = if count(ctx.run_id(), "attempt") == 1 { "charge" } else { "refund" };
        ctx.step(name, || async { Ok(()) }).await?;
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { answer: Value::Null })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Undeterred)?.serve(Fickle)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_body_has_gone_on_with_is_the_same_for_ever() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "undeterred");
            let run = stage.client.start("undeterred", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("manual", &"by hand").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "charge")), (json!(["no money", "by hand"]), 1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_has_changed_is_told_so() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "fickle");
            let run = stage.client.start("fickle", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("go", &()).await.unwrap();
            let ended = run.wait(LIMIT).await.unwrap();
            let error = ended.error.unwrap();
            assert_eq!(ended.status, Status::Failed);
            assert!(
                error.contains("the call \"refund\" now") && error.contains("the call \"charge\" there"),
                "{error}"
            );
            assert_eq!(counted(id, "attempt"), 2, "no retry would help");
        })
        .await;
}
