//! One wait at a time: for a signal, for permission, for an answer, and with a deadline.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::published::Position;

use super::{
    Answered, Approval, Asked, InputRequired, LIMIT, count, counted, id, kinds, nothing_is_held, until, waiting,
};

/// Does something once, waits, and does something else once.
struct Approved;

#[workflow(start = Asked, stop = Answered)]
impl Approved {
    #[step(timeout = "20s")]
    async fn order(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        count(run, "outside");
        let reserved = ctx.step("reserve", || async { Ok(count(run, "reserve")) }).await?;
        let approval: Approval = ctx.wait_for("approval").filter("order", ev.n).await?;
        let shipped = ctx.step("ship", || async { Ok(count(run, "ship")) }).await?;
        Ok(Answered { answer: json!([reserved, approval.by, shipped]) })
    }
}

/// Waits for permission before it waits for more.
struct TwoWaits;

#[workflow(start = Asked, stop = Answered)]
impl TwoWaits {
    #[step]
    async fn wait(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        ctx.wait_for::<()>("go").await?;
        let answer = ctx.wait_for("answer").await?;
        Ok(Answered { answer })
    }
}

/// Gives up at its deadline.
struct Impatient;

#[workflow(start = Asked, stop = Answered)]
impl Impatient {
    #[step]
    async fn wait(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let answer: Outcome<String> = ctx.wait_for("answer").timeout(Duration::from_millis(ev.n)).await;
        match answer {
            Err(error) if error.is_overdue() => {
                ctx.step("sorry", || async { Ok(count(ctx.run_id(), "sorry")) }).await?;
                Ok(Answered { answer: json!("overdue") })
            }
            answer => Ok(Answered { answer: json!(answer?) }),
        }
    }
}

/// Asks the followers of the run.
struct Asker;

#[workflow(start = Asked, stop = Answered)]
impl Asker {
    #[step]
    async fn ask(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let question = InputRequired { prompt: "What is your name?".into() };
        let name: String = ctx.ask("name", question).timeout(Duration::from_secs(3600)).await?;
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { answer: json!(name) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Approved)?.serve(TwoWaits)?.serve(Impatient)?.serve(Asker)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_wait_than_there_are_slots_and_what_is_recorded_is_done_once() {
    Both::new(serve)
        .play(async |stage| {
            let ids: Vec<_> = (0..20).map(|n| id(stage, &format!("order-{n}"))).collect();
            let mut runs = Vec::new();
            for (n, id) in ids.iter().enumerate() {
                runs.push(stage.client.start("approved", &json!({ "n": n })).id(id).enqueue().await.unwrap());
            }
            for (n, id) in ids.iter().enumerate() {
                let waits = waiting(&*stage.store, id, 1).await;
                assert_eq!((&*waits[0].name, &*waits[0].step, waits[0].due_ms), ("approval", "order", None));
                assert_eq!(waits[0].filter, [("order".to_owned(), n.to_string())]);
            }
            nothing_is_held(&*stage.store).await;
            assert!(stage.memory.as_ref().is_none_or(|memory| memory.breaches().is_empty()));
            // A wait for another order does not take them.
            for run in &runs {
                run.signal("approval", &json!({ "order": 99, "by": "nobody" })).await.unwrap();
            }
            for (n, run) in runs.iter().enumerate() {
                run.signal("approval", &json!({ "order": n, "by": format!("boss {n}") })).await.unwrap();
            }
            for (n, (run, id)) in runs.iter().zip(&ids).enumerate() {
                let end: Value = run.result(LIMIT).await.unwrap();
                assert_eq!(end["answer"], json!([1, format!("boss {n}"), 1]));
                assert_eq!((counted(id, "reserve"), counted(id, "ship"), counted(id, "outside")), (1, 1, 2));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_its_wait_is_kept() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("two_waits", &json!({})).id("kept").enqueue().await.unwrap();
            waiting(&*stage.store, "kept", 1).await;
            run.signal("answer", &"early").await.unwrap();
            run.signal("go", &()).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "early");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_wait() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "impatient");
            let run = stage.client.start("impatient", &json!({ "n": 30 })).id(id).enqueue().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "sorry")), (json!("overdue"), 1));
            assert_eq!(kinds(stage, id, Kind::Overdue).await, 1);

            let run =
                stage.client.start("impatient", &json!({ "n": 3_600_000 })).id("patient").enqueue().await.unwrap();
            let waits = waiting(&*stage.store, "patient", 1).await;
            let left = waits[0].due_ms.unwrap() - stage.store.now_ms().await.unwrap();
            assert!((3_500_000..=3_600_000).contains(&left), "{left}");
            run.signal("answer", &"in time").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "in time");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_published_once_and_waits_for_its_answer() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("asker", &json!({})).id("asker").enqueue().await.unwrap();
            let waits = waiting(&*stage.store, "asker", 1).await;
            assert!(waits[0].name == "name" && waits[0].due_ms.is_some());
            run.signal("name", &"Ada").await.unwrap();
            until(stage, "asker", Kind::Suspended, 2).await;
            run.signal("go", &()).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "Ada");
            let published = stage.store.published("asker", Position::BEGINNING, 100).await.unwrap();
            let questions = published.iter().filter(|entry| format!("{entry:?}").contains("InputRequired")).count();
            assert_eq!(questions, 1, "{published:?}");
        })
        .await;
}
