//! Input from outside may be anything: it fails no run, and its sender is told.

use std::time::Duration;

use schemars::JsonSchema;
use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::{seen, until};
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Serialize, Deserialize)]
struct Approval {
    by: String,
}

/// Two stages, each of which needs an approval.
struct Stages;

#[workflow(start = Asked, stop = Answered)]
impl Stages {
    #[step]
    async fn approve(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let first: Approval = ctx.wait_for("approval").timeout(LIMIT).await?;
        ctx.step("between", || async { Ok(()) }).await?;
        let (second, other) = tokio::try_join!(ctx.wait_for::<Approval>("approval"), ctx.wait_for::<u64>("number"))?;
        Ok(Answered { answer: json!([first.by, second.by, other]) })
    }
}

/// Its type only gives the names of its fields.
#[derive(Event, Serialize, Deserialize)]
struct Visitor {
    name: String,
}

/// Its schema is known.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
struct Close {
    by: String,
}

/// Rests until it is closed.
struct Desk;

#[workflow(start = Asked, stop = Answered, external = [Visitor, Close])]
impl Desk {
    #[step]
    async fn open(&self, _: Asked) -> Outcome<()> {
        Ok(())
    }

    #[step]
    async fn greet(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        ctx.state().push("greeted", &ev.name).await
    }

    #[step]
    async fn close(&self, ctx: &Context, ev: Close) -> Outcome<Answered> {
        let greeted: Option<Vec<String>> = ctx.state().get("greeted").await?;
        Ok(Answered { answer: json!([greeted, ev.by]) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Stages)?.serve(Desk)
}

async fn told(stage: &Stage, run: &str, count: usize) -> Vec<String> {
    let details = async || {
        let history = stage.store.history(run, 0, 1000).await.unwrap();
        let unreadable = history.into_iter().filter(|record| record.kind == Kind::Unreadable);
        unreadable.map(|record| record.detail).collect::<Vec<_>>()
    };
    seen(details, |details| details.len() >= count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_signal_is_set_aside_and_the_wait_goes_on() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("stages", &Asked {}).enqueue().await.unwrap();
            // Before the wait, and while nothing is held.
            run.signal("approval", &"just text").await.unwrap().taken(LIMIT).await.unwrap();
            let details = told(stage, run.id(), 1).await;
            assert!(details[0].starts_with("approval the signal approval cannot be read"), "{details:?}");
            assert!(details[0].contains("just text"), "{details:?}");
            run.signal("approval", &json!({ "wrong": 1 })).await.unwrap();
            told(stage, run.id(), 2).await;
            run.signal("approval", &json!({ "by": "ann" })).await.unwrap();
            run.signal("number", &"seven").await.unwrap();
            told(stage, run.id(), 3).await;
            run.signal("number", &7).await.unwrap();
            run.signal("approval", &json!({ "by": "bob" })).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!(["ann", "bob", 7]));
            let history = stage.store.history(run.id(), 0, 1000).await.unwrap();
            assert!(history.iter().all(|record| !matches!(record.kind, Kind::Retry | Kind::Failed)), "{history:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_event_is_rejected_by_its_schema_or_set_aside_and_the_run_goes_on() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("desk", &Asked {}).enqueue().await.unwrap();
            until(async || run.status().await.unwrap().is_some_and(|run| run.status == Status::Running)).await;
            let refused = run.send("Close", &json!({ "wrong": 1 })).await.unwrap().taken(LIMIT).await.unwrap_err();
            let text = refused.to_string();
            assert!(refused.is_invalid() && text.contains("\"by\" is a required property"), "{text}");
            assert_eq!(stage.reasons(1).await, [text]);
            run.send("Visitor", &json!({ "wrong": 1 })).await.unwrap().taken(LIMIT).await.unwrap();
            let details = told(stage, run.id(), 1).await;
            assert!(details[0].contains("the event Visitor cannot be read"), "{details:?}");
            run.send("Visitor", &json!({ "name": "eve" })).await.unwrap();
            until(async || !stage.store.context(run.id()).await.unwrap().is_empty()).await;
            run.send("Close", &json!({ "by": "ann" })).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!([["eve"], "ann"]));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_what_became_of_it() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("desk", &Asked {}).enqueue().await.unwrap();
            let reason = async |asked: stepfleet_shared::Result<stepfleet_shared::client::Asked>| {
                let refused = asked.unwrap().taken(LIMIT).await.unwrap_err();
                assert!(refused.is_invalid(), "{refused}");
                refused.to_string()
            };
            assert!(reason(run.send("Nonsense", &json!({})).await).await.contains("takes Nonsense by itself"));
            let other = run.send_to(Some("greet"), "Close", &json!({ "by": "ann" })).await;
            assert!(reason(other).await.contains("step greet of desk version 1 does not take Close"));
            run.send("Close", &json!({ "by": "ann" })).await.unwrap().taken(LIMIT).await.unwrap();
            run.wait(LIMIT).await.unwrap();
            assert!(reason(run.signal("word", &1).await).await.contains("has ended"));
            assert!(reason(run.send("Close", &json!({ "by": "ann" })).await).await.contains("has ended"));
            run.cancel().await.unwrap().taken(LIMIT).await.unwrap();
            let nobody = stage.client.run("nosuch");
            assert!(reason(nobody.signal("word", &1).await).await.contains("there is no run nosuch"));
            let late = nobody.result::<Value>(Duration::from_millis(1)).await.unwrap_err();
            assert!(late.is_timeout() && late.to_string().contains("there is no run nosuch"), "{late}");
        })
        .await;
}
